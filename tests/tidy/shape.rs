//! Rules about how code looks on a page. The formatter holds the width wherever it can break a
//! line; here is what it cannot.

use std::ops::Range;

use super::assert_none;
use super::source::{self, File, repository};

const WIDTH: usize = 100;
/// A body of more lines and of several steps is parted by empty ones.
const WALL: usize = 25;
const STEPS: usize = 4;

/// Migrations that have landed stay as they are, to the letter.
fn shaped(files: &[File]) -> impl Iterator<Item = &File> {
    files
        .iter()
        .filter(|file| file.is_rust() && !file.is_in(&["migrations/src/"]))
}

/// What is quoted may be longer: a text that people see, or bytes as they are on the wire. So may
/// the name of a test, which is a sentence.
fn lines_too_wide(files: &[File]) -> Vec<String> {
    let mut findings = Vec::new();
    for file in shaped(files) {
        let code = source::code(&file.text);
        for (number, (line, code)) in file.text.lines().zip(code.lines()).enumerate() {
            let width = line.chars().count();
            let is_name = line.trim_start().starts_with("async fn ") && line.ends_with("()");
            if width <= WIDTH || is_name || width - quoted(line, code) <= WIDTH {
                continue;
            }
            findings.push(format!("{}:{}: is {width} wide", file.path, number + 1));
        }
    }
    findings
}

/// How many characters of this line of Rust are inside quotes. Comments are not.
fn quoted(line: &str, code: &str) -> usize {
    let ends = code.trim_end().len();
    let rest = line.get(ends..).unwrap_or_default();
    let until = match rest.trim_start().starts_with("//") {
        true => ends,
        false => line.len(),
    };
    let is_blanked = |(at, c): &(usize, char)| {
        *at < until && *c != ' ' && code.as_bytes().get(*at) == Some(&b' ')
    };
    line.char_indices().filter(is_blanked).count()
}

/// Functions of several steps with nothing between them: reading, deciding, writing and answering
/// stand apart.
fn walls_of_text(files: &[File]) -> Vec<String> {
    let mut findings = Vec::new();
    for file in shaped(files) {
        let code = source::code(&file.text);
        let code: Vec<&str> = code.lines().collect();
        let text: Vec<&str> = file.text.lines().collect();
        for (at, line) in code.iter().enumerate() {
            let Some((indent, body)) = body_of(&code, at, line) else {
                continue;
            };
            let is_step = |line: &&&str| {
                let goes_on = ["}", ")", "]", ".", "#", "else", "where"];
                line.strip_prefix(indent)
                    .and_then(|rest| rest.strip_prefix("    "))
                    .is_some_and(|rest| {
                        !rest.starts_with(' ')
                            && !rest.is_empty()
                            && !goes_on.iter().any(|start| rest.starts_with(start))
                    })
            };
            let lines = body.len();
            let is_parted = text[body.clone()].iter().any(|line| line.trim().is_empty());
            let steps = code[body].iter().filter(is_step).count();
            if lines > WALL && steps >= STEPS && !is_parted {
                let place = format!("{}:{}", file.path, at + 1);
                findings.push(format!("{place}: {lines} lines without an empty one"));
            }
        }
    }
    findings
}

/// How far a function is indented that begins in this line, and the lines between its braces.
fn body_of<'a>(code: &[&str], at: usize, line: &'a str) -> Option<(&'a str, Range<usize>)> {
    let header = line.trim_start();
    let is_function = header.starts_with("fn ")
        || header
            .split_once(" fn ")
            .is_some_and(|(before, _)| before.split(' ').all(is_modifier));
    let indent = &line[..line.len() - header.len()];
    let opens = at
        + code[at..]
            .iter()
            .position(|l| l.trim_end().ends_with(['{', ';', '}']))?;
    if !is_function || !code[opens].trim_end().ends_with('{') {
        return None;
    }

    let closing = format!("{indent}}}");
    let lines = code[opens + 1..]
        .iter()
        .position(|l| l.trim_end() == closing)?;
    Some((indent, opens + 1..opens + 1 + lines))
}

fn is_modifier(word: &str) -> bool {
    ["async", "const", "default", "in"].contains(&word)
        || word.starts_with("pub")
        || word.ends_with(')')
}

#[test]
fn no_function_is_a_wall_of_text() {
    assert_none(&walls_of_text(&repository().unwrap()));
}

#[test]
fn a_long_function_without_an_empty_line_is_found_unless_it_is_one_expression() {
    let steps = |n: usize| "    step();\n".repeat(n);
    let function =
        |body: &str| format!("pub(crate) async fn f(\n    a: u8,\n) -> u8 {{\n{body}}}\n");
    let wall = function(&steps(WALL + 1));
    assert_eq!(
        walls_of_text(&[File::new("src/a.rs", &wall)]),
        ["src/a.rs:1: 26 lines without an empty one"]
    );

    let arms = "        1 => 2,\n".repeat(40);
    let fine = [
        function(&steps(WALL)),
        function(&format!("{}\n{}", steps(13), steps(13))),
        function(&format!("    match a {{\n{arms}    }}\n")),
        format!("trait T {{\n    fn f();\n}}\n{}", steps(40)),
    ];
    for text in &fine {
        assert_none(&walls_of_text(&[File::new("src/a.rs", text)]));
    }
}

#[test]
fn no_line_is_wider_than_a_page() {
    assert_none(&lines_too_wide(&repository().unwrap()));
}

#[test]
fn a_line_that_is_too_wide_is_found_unless_what_makes_it_so_is_quoted() {
    let long = "x".repeat(101);
    let wide = [
        format!("// {long}\n"),
        format!("    let a = {long};\n"),
        format!("    let a = \"x\"; let b = {long};\n"),
        format!("    let a = \"x\"; // {long}\n"),
    ];
    for text in &wide {
        let found = lines_too_wide(&[File::new("src/a.rs", text)]);
        assert_eq!(found.len(), 1, "{text}");
    }

    let fine = [
        format!("    let a = \"{long}\";\n"),
        format!("    let a = {};\n", "x".repeat(87)),
        format!("async fn {long}()\n{{}}\n"),
    ];
    for text in &fine {
        assert_none(&lines_too_wide(&[File::new("src/a.rs", text)]));
    }
    assert_none(&lines_too_wide(&[File::new("README.md", &long)]));
    assert_none(&lines_too_wide(&[File::new("migrations/src/m1.rs", &long)]));
}
