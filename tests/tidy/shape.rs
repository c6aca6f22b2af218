//! Rules about how code looks on a page. The formatter holds the width wherever it can break a line;
//! here is what it cannot.

use super::assert_none;
use super::source::{self, File, repository};

const WIDTH: usize = 100;

/// What is quoted may be longer: a text that people see, or bytes as they are on the wire. So may
/// the name of a test, which is a sentence.
fn lines_too_wide(files: &[File]) -> Vec<String> {
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| file.is_rust()) {
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
}
