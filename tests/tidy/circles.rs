//! Files that use each other, directly or by way of others, cannot be read one after the other:
//! there are none. A file uses what its paths name by `crate`, `super` and `self`, and by the
//! modules that it declares; what stands in tests does not count.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{TokenStream, TokenTree};

use super::assert_none;
use super::source::{File, repository, tokens};

/// The crates, by the folders of their sources.
const CRATES: &[&str] = &["src/", "providers/src/"];

type Graph = BTreeMap<String, BTreeSet<String>>;

/// One line for each circle, with the files that it goes through.
fn circles(files: &[File]) -> Vec<String> {
    let mut findings = Vec::new();
    for folder in CRATES {
        let graph = uses(files, folder);
        let reached: BTreeMap<&String, BTreeSet<&String>> = graph
            .keys()
            .map(|from| (from, reachable(&graph, from)))
            .collect();
        let mut seen = BTreeSet::new();
        for (from, to) in &reached {
            let both = to
                .iter()
                .filter(|other| reached.get(*other).is_some_and(|back| back.contains(from)));
            let circle: Vec<&str> = both.map(|file| file.as_str()).collect();
            if !circle.is_empty() && seen.insert(circle.clone()) {
                findings.push(format!("{}: in a circle: {}", circle[0], circle.join(", ")));
            }
        }
    }

    findings
}

fn reachable<'a>(graph: &'a Graph, from: &str) -> BTreeSet<&'a String> {
    let mut reached = BTreeSet::new();
    let mut open: Vec<&String> = graph.get(from).into_iter().flatten().collect();
    while let Some(file) = open.pop() {
        if reached.insert(file) {
            open.extend(graph.get(file).into_iter().flatten());
        }
    }
    reached
}

/// Which file uses which, of one crate. Its root, which lists the others, is no part of it.
fn uses(files: &[File], folder: &str) -> Graph {
    let modules: BTreeMap<Vec<String>, (&File, Named)> = files
        .iter()
        .filter(|file| file.is_rust() && file.is_in(&[folder]))
        .filter_map(|file| {
            let path = module(file.path.strip_prefix(folder)?)?;
            let named = names(tokens(&file.text), &path);
            Some((path, (file, named)))
        })
        .collect();
    let mut graph = Graph::new();

    for (file, named) in modules.values() {
        let used = named
            .used
            .iter()
            .filter_map(|used| home(used.clone(), &modules));
        graph.insert(
            file.path.clone(),
            used.filter(|home| *home != file.path).collect(),
        );
    }

    graph
}

/// The file in which a path ends, whoever passes it on.
fn home(mut path: Vec<String>, modules: &BTreeMap<Vec<String>, (&File, Named)>) -> Option<String> {
    // Nobody passes anything on so often.
    for _ in 0..8 {
        let length = (1..=path.len())
            .rev()
            .find(|length| modules.contains_key(&path[..*length]))?;
        let (file, named) = &modules[&path[..length]];
        let passed_on = named
            .passed_on
            .iter()
            .find(|passed| passed.last() == path.get(length));
        match passed_on {
            Some(passed) if path.len() > length => {
                path = [passed.as_slice(), &path[length + 1..]].concat()
            }
            _ => return Some(file.path.clone()),
        }
    }

    None
}

/// `payments/pay.rs` is `payments`, `pay`; the root is nothing.
fn module(path: &str) -> Option<Vec<String>> {
    let mut names: Vec<String> = path
        .strip_suffix(".rs")?
        .split('/')
        .map(str::to_owned)
        .collect();
    if names.last().is_some_and(|last| last == "mod") {
        names.pop();
    }
    (names != ["lib"] && names != ["main"]).then_some(names)
}

/// The paths that a module names, from the root of its crate.
#[derive(Debug, Default)]
struct Named {
    used: Vec<Vec<String>>,
    /// By `pub use`: what others find here, and this module itself has no use for.
    passed_on: Vec<Vec<String>>,
}

fn names(code: TokenStream, module: &[String]) -> Named {
    let mut tokens: Vec<TokenTree> = without_tests(code);
    let mut children = BTreeSet::new();
    declared(&tokens, &mut children);

    let mut found = Named::default();
    while let Some(begin) = (0..tokens.len()).find(|at| passes_on(&tokens[*at..])) {
        let end = (begin..tokens.len())
            .find(|at| is_punct(&tokens[*at], ';'))
            .unwrap_or(tokens.len() - 1);
        let statement: Vec<TokenTree> = tokens.drain(begin..=end).collect();
        named(&statement, module, &children, &mut found.passed_on);
    }
    named(&tokens, module, &children, &mut found.used);
    found
}

/// `pub use`, for everybody or for some.
fn passes_on(tokens: &[TokenTree]) -> bool {
    let is = |token: Option<&TokenTree>, word: &str| match token {
        Some(TokenTree::Ident(ident)) => ident == word,
        Some(TokenTree::Group(_) | TokenTree::Punct(_) | TokenTree::Literal(_)) | None => false,
    };
    is(tokens.first(), "pub")
        && (is(tokens.get(1), "use")
            || (matches!(tokens.get(1), Some(TokenTree::Group(_))) && is(tokens.get(2), "use")))
}

/// All but what `#[cfg(test)]` stands before.
fn without_tests(code: TokenStream) -> Vec<TokenTree> {
    let (mut kept, mut skipping) = (Vec::new(), false);
    let mut tokens = code.into_iter().peekable();

    while let Some(token) = tokens.next() {
        let is_attribute = is_punct(&token, '#');
        let text = tokens.peek().map(ToString::to_string).unwrap_or_default();
        skipping |= is_attribute && text.split_whitespace().collect::<String>() == "[cfg(test)]";
        if !skipping {
            kept.push(token);
        } else if is_attribute {
            tokens.next();
        } else {
            // The item ends with its braces, or without any.
            let is_braced =
                |group: &proc_macro2::Group| group.delimiter() == proc_macro2::Delimiter::Brace;
            skipping = !(is_punct(&token, ';')
                || matches!(&token, TokenTree::Group(group) if is_braced(group)));
        }
    }

    kept
}

/// The modules that lie in files of their own below this one.
fn declared(tokens: &[TokenTree], children: &mut BTreeSet<String>) {
    for three in tokens.windows(3) {
        if let [TokenTree::Ident(word), TokenTree::Ident(name), end] = three
            && word == "mod"
            && is_punct(end, ';')
        {
            children.insert(name.to_string());
        }
    }
}

fn named(
    tokens: &[TokenTree],
    module: &[String],
    children: &BTreeSet<String>,
    found: &mut Vec<Vec<String>>,
) {
    for at in 0..tokens.len() {
        match &tokens[at] {
            // Who may see it is no use of anything: `pub(in crate::payments)`.
            TokenTree::Group(group) if group.stream().to_string().starts_with("in ") => {}
            TokenTree::Group(group) => {
                named(&Vec::from_iter(group.stream()), module, children, found)
            }
            TokenTree::Ident(first) if is_path(&tokens[at + 1..]) && !goes_on(tokens, at) => {
                let first = first.to_string();
                let start = match first.as_str() {
                    "crate" => Some(Vec::new()),
                    "self" => Some(module.to_vec()),
                    "super" => Some(module[..module.len().saturating_sub(1)].to_vec()),
                    child if children.contains(child) => {
                        Some([module, std::slice::from_ref(&first)].concat())
                    }
                    _ => None,
                };
                if let Some(start) = start {
                    follow(&tokens[at + 1..], start, found);
                }
            }
            TokenTree::Ident(_) | TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
}

/// What comes behind `::`, a name or a group of paths.
fn follow(tokens: &[TokenTree], mut path: Vec<String>, found: &mut Vec<Vec<String>>) {
    if !is_path(tokens) {
        found.push(path);
        return;
    }

    match &tokens[2] {
        TokenTree::Ident(name) if name == "super" => {
            path.pop();
            follow(&tokens[3..], path, found);
        }
        TokenTree::Ident(name) => {
            path.push(name.to_string());
            follow(&tokens[3..], path, found);
        }
        TokenTree::Group(group) => {
            let inside = Vec::from_iter(group.stream());
            for part in inside.split(|token| is_punct(token, ',')) {
                match part.first() {
                    Some(TokenTree::Ident(name)) if name == "self" => found.push(path.clone()),
                    Some(TokenTree::Ident(name)) => {
                        follow(
                            &part[1..],
                            [path.clone(), vec![name.to_string()]].concat(),
                            found,
                        );
                    }
                    _ => {}
                }
            }
        }
        TokenTree::Punct(_) | TokenTree::Literal(_) => found.push(path),
    }
}

/// Whether `::` comes next, and something behind it.
fn is_path(tokens: &[TokenTree]) -> bool {
    matches!(tokens, [a, b, _, ..] if is_punct(a, ':') && is_punct(b, ':'))
}

/// Whether this name belongs to what stands before it.
fn goes_on(tokens: &[TokenTree], at: usize) -> bool {
    at.checked_sub(1)
        .is_some_and(|before| is_punct(&tokens[before], ':') || is_punct(&tokens[before], '.'))
        && at
            .checked_sub(2)
            .is_none_or(|before| !is_punct(&tokens[before], '.'))
        && (is_punct(&tokens[at - 1], '.')
            || at
                .checked_sub(2)
                .is_some_and(|two| is_punct(&tokens[two], ':')))
}

fn is_punct(token: &TokenTree, c: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == c)
}

#[test]
fn no_file_uses_one_that_uses_it() {
    assert_none(&circles(&repository().unwrap()));
}

#[test]
fn a_circle_is_found_however_it_is_written() {
    let files = [
        File::new("src/lib.rs", "pub mod a;\npub use a::A;\n"),
        File::new(
            "src/a/mod.rs",
            "mod b;\nmod c;\npub fn a() { b::call(1) }\n",
        ),
        File::new(
            "src/a/b.rs",
            "use crate::{\n    d,\n    a::{c::{self, C}, e},\n};\n",
        ),
        File::new(
            "src/a/c.rs",
            "//! See crate::d.\nfn f() -> u8 { log!(\"{}\", super::A) }\n",
        ),
        File::new(
            "src/d.rs",
            "use crate::a;\n#[cfg(test)]\n#[path = \"x.rs\"]\nmod f;\nfn g(x: crate::a::b::B) {}\n",
        ),
        File::new(
            "src/e.rs",
            "use crate::d::D;\n#[cfg(test)]\nmod tests {\n    use crate::g;\n}\n",
        ),
        File::new("src/g.rs", "use super::e;\n"),
    ];

    assert_eq!(
        circles(&files),
        ["src/a/b.rs: in a circle: src/a/b.rs, src/a/c.rs, src/a/mod.rs, src/d.rs"]
    );
}
