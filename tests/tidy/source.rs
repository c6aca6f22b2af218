//! The repository as text: its files, and Rust code with comments and strings blanked out, so that a rule about
//! code does not stumble over a sentence that speaks of it. Line numbers stay what they were. Judges nothing.

use std::path::Path;
use std::{fs, io};

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
        Self { path: path.to_owned(), text: text.to_owned() }
    }

    pub(super) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Whether it is this file, or lies in this folder (which ends with a slash).
    pub(super) fn is_in(&self, places: &[&str]) -> bool {
        places.iter().any(|place| if place.ends_with('/') { self.path.starts_with(place) } else { self.path == *place })
    }

    /// Where the text is, for people: `src/payments/pay.rs:17`.
    pub(super) fn at(&self, offset: usize) -> String {
        let before = self.text.bytes().take(offset).filter(|byte| *byte == b'\n').count();
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
    text.match_indices(word).map(|(at, _)| at).filter(alone).collect()
}

/// The code without its comments, byte for byte where it was.
pub(super) fn without_comments(text: &str) -> String {
    blank(text, &[Piece::Comment])
}

/// The code without its comments and without what is in quotes, byte for byte where it was.
pub(super) fn code(text: &str) -> String {
    blank(text, &[Piece::Comment, Piece::Quoted])
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece {
    Code,
    Comment,
    Quoted,
}

fn blank(text: &str, blanked: &[Piece]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let (piece, length) = next(rest);
        let (this, after) = rest.split_at(length);
        if blanked.contains(&piece) {
            out.extend(this.bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }));
        } else {
            out.push_str(this);
        }
        rest = after;
    }
    out
}

/// What comes next, and its length in bytes, which is never 0 and never cuts a character.
fn next(rest: &str) -> (Piece, usize) {
    if rest.starts_with("//") {
        return (Piece::Comment, rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return (Piece::Comment, block_comment(rest));
    }
    if let Some(length) = raw_string(rest) {
        return (Piece::Quoted, length);
    }
    if rest.starts_with('"') {
        return (Piece::Quoted, closed(rest, '"'));
    }
    if let Some(quoted) = rest.strip_prefix('\'') {
        let mut chars = quoted.chars();
        let is_char = chars.next() == Some('\\') || chars.next() == Some('\'');
        return if is_char { (Piece::Quoted, closed(rest, '\'')) } else { (Piece::Code, 1) };
    }
    // A whole name at once: the `r` at the end of `or` does not begin a raw string.
    let name = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    (Piece::Code, name.max(rest.chars().next().map_or(1, char::len_utf8)))
}

/// The length of what begins and ends with this quote; a backslash takes the next character with it.
fn closed(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// `r"…"`, `br##"…"##` and their like.
fn raw_string(rest: &str) -> Option<usize> {
    let opening = rest.trim_start_matches(['b', 'c']).strip_prefix('r')?;
    let content = opening.trim_start_matches('#');
    let hashes = opening.len() - content.len();
    let content = content.strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let length = content.find(&end).map_or(content.len(), |at| at + end.len());
    Some(rest.len() - content.len() + length)
}

fn block_comment(rest: &str) -> usize {
    let mut depth = 0_usize;
    for (at, pair) in rest.as_bytes().windows(2).enumerate() {
        match pair {
            b"/*" => depth += 1,
            b"*/" if depth == 1 => return at + 2,
            b"*/" => depth -= 1,
            _ => {}
        }
    }
    rest.len()
}

#[test]
fn the_whole_repository_is_read_and_nothing_but_it() {
    let files = repository().unwrap();
    for path in ["Cargo.toml", "tests/run", "src/lib.rs", "providers/src/lib.rs", "migrations/src/lib.rs"] {
        assert!(files.iter().any(|file| file.path == path), "{path} was not read");
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
