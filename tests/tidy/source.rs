//! The repository as text: its files, and Rust code with comments and strings blanked out, so that
//! a rule about code does not stumble over a sentence that speaks of it. Line numbers stay what
//! they were. Judges nothing.

use std::ops::Range;
use std::path::Path;
use std::{fs, io};

use proc_macro2::{TokenStream, TokenTree};

/// What does not belong to the repository. (In a second checkout `.git` is a file.)
const NOT_OURS: &[&str] = &[".git", "target", "data"];
/// Cargo writes it into every folder for its output, whatever the folder is called.
const CARGO_OUTPUT: &str = "CACHEDIR.TAG";

/// A text file.
#[derive(Debug)]
pub(super) struct File {
    /// From the root of the repository: `src/payments/pay.rs`.
    pub(super) path: String,
    pub(super) text: String,
}

impl File {
    pub(super) fn new(path: &str, text: &str) -> Self {
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
        }
    }

    pub(super) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Whether it is this file, or lies in this folder (which ends with a slash).
    pub(super) fn is_in(&self, places: &[&str]) -> bool {
        places.iter().any(|place| {
            if place.ends_with('/') {
                self.path.starts_with(place)
            } else {
                self.path == *place
            }
        })
    }

    /// Where the text is, for people: `src/payments/pay.rs:17`.
    pub(super) fn at(&self, offset: usize) -> String {
        let before = self
            .text
            .bytes()
            .take(offset)
            .filter(|byte| *byte == b'\n')
            .count();
        format!("{}:{}", self.path, before + 1)
    }
}

/// Every text file of the repository, in the order of their paths.
pub(super) fn repository() -> io::Result<Vec<File>> {
    let mut files = Vec::new();
    collect(Path::new(env!("CARGO_MANIFEST_DIR")), "", &mut files)?;
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

fn collect(folder: &Path, prefix: &str, files: &mut Vec<File>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{prefix}{name}");
        if NOT_OURS.contains(&path.as_str()) {
            continue;
        }
        if entry.file_type()?.is_file() {
            if let Ok(text) = String::from_utf8(fs::read(entry.path())?) {
                files.push(File { path, text });
            }
        } else if !entry.path().join(CARGO_OUTPUT).exists() {
            collect(&entry.path(), &format!("{path}/"), files)?;
        }
    }

    Ok(())
}

/// Where this name stands in the text, as a word of its own.
pub(super) fn words(text: &str, word: &str) -> Vec<usize> {
    let part_of_a_name = |c: char| c.is_alphanumeric() || c == '_';
    let alone = |at: &usize| {
        let (before, from) = text.split_at(*at);
        let after = from.strip_prefix(word).unwrap_or_default();
        !before.ends_with(part_of_a_name) && !after.starts_with(part_of_a_name)
    };
    text.match_indices(word)
        .map(|(at, _)| at)
        .filter(alone)
        .collect()
}

/// The code without its comments, byte for byte where it was.
pub(super) fn without_comments(text: &str) -> String {
    kept(text, |_| true)
}

/// The code without its comments and without what is in quotes, byte for byte where it was.
pub(super) fn code(text: &str) -> String {
    kept(text, |token| !is_quoted(token))
}

/// What Rust reads in this text. Nothing in what is none.
pub(super) fn tokens(text: &str) -> TokenStream {
    text.parse().unwrap_or_default()
}

/// The tokens that are wanted where they stand, and blanks for everything else.
fn kept(text: &str, wanted: impl Fn(&str) -> bool) -> String {
    let mut out: Vec<u8> = text
        .bytes()
        .map(|byte| if byte == b'\n' { b'\n' } else { b' ' })
        .collect();
    for place in places(tokens(text)) {
        let Some(token) = text.get(place.clone()) else {
            continue;
        };
        // A comment that documents something is an attribute to Rust.
        if !token.starts_with("//") && !token.starts_with("/*") && wanted(token) {
            out[place].copy_from_slice(token.as_bytes());
        }
    }
    String::from_utf8(out).unwrap_or_default()
}

fn places(tokens: TokenStream) -> Vec<Range<usize>> {
    let mut places = Vec::new();
    for token in tokens {
        match token {
            TokenTree::Group(group) => {
                places.push(group.span_open().byte_range());
                places.extend(self::places(group.stream()));
                places.push(group.span_close().byte_range());
            }
            token @ (TokenTree::Ident(_) | TokenTree::Punct(_) | TokenTree::Literal(_)) => {
                places.push(token.span().byte_range());
            }
        }
    }
    places
}

/// `"…"`, `r#"…"#`, `b'x'` and their like; not a lifetime.
fn is_quoted(token: &str) -> bool {
    let opening = token.trim_start_matches(['b', 'c', 'r', '#']);
    opening.starts_with('"')
        || (opening.starts_with('\'') && opening.len() > 1 && opening.ends_with('\''))
}

#[test]
fn the_whole_repository_is_read_and_nothing_but_it() {
    let files = repository().unwrap();
    for path in [
        "Cargo.toml",
        "tests/run",
        "src/lib.rs",
        "providers/src/lib.rs",
        "migrations/src/lib.rs",
    ] {
        assert!(
            files.iter().any(|file| file.path == path),
            "{path} was not read"
        );
    }
    assert!(files.iter().all(|file| !file.is_in(&["target/", ".git/"])));
}

#[test]
fn comments_and_quotes_are_blanked_and_all_else_stays_in_its_place() {
    let text = r###"let a = 'x'; // says "no
/* one /* in */ another */ let b = "// \" no"; let c: &'static str = r#"x " // y"#; or('"', '\'', "é"); d"###;
    let blanked = code(text);
    assert_eq!(blanked.len(), text.len());
    assert_eq!(
        blanked.split_whitespace().collect::<Vec<_>>().join(" "),
        "let a = ; let b = ; let c: &'static str = ; or( , , ); d"
    );
    assert_eq!(blanked.find("let b"), text.find("let b"));
    assert!(without_comments(text).contains(r#"let b = "// \" no";"#));
}

#[test]
fn a_word_inside_another_word_is_not_that_word() {
    assert_eq!(words("f64 of64 f640 (f64)", "f64"), [0, 15]);
}
