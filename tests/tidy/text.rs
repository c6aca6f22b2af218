//! Rules that look at lines: how a file opens, how long it is, and what must not be written in it.
//! They read text and resolve no names; where the compiler or clippy can hold a rule, it is not
//! here alone.

use super::assert_none;
use super::source::{self, File, repository, words};

/// Rust of our own.
const CODE: &[&str] = &["src/", "providers/", "migrations/", "tests/"];

const MAX_LINES: usize = 700;
/// Longer files, how long they may get, and why they stay whole.
const LONGER: &[(&str, usize, &str)] = &[(
    "providers/src/sandbox/book.rs",
    750,
    "the truth about money at the sandbox: one state, whose rules are read together",
)];

/// Reading the wall clock, and the only two places that may.
const WALL_CLOCK: &[&str] = &["SystemTime::now", "Utc::now", "Local::now"];
const CLOCKS: &[&str] = &["src/clock.rs", "providers/src/sandbox/clock.rs"];

/// Where amounts are counted.
const MONEY: &[&str] = &[
    "src/domain/",
    "src/payments/",
    "src/reconciliation/",
    "providers/src/money.rs",
    "providers/src/order.rs",
    "providers/src/outcome.rs",
    "providers/src/notification.rs",
    "providers/src/statement.rs",
];
const FLOATS: &[&str] = &["f32", "f64"];

// The lists below are written in halves, so that they do not find themselves.

/// Work that was put off.
const PUT_OFF: &[&str] = &[
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("to", "do!"),
    concat!("unimple", "mented!"),
];
/// The repository speaks of payments, never of how it was written.
const MAKING: &[&str] = &[
    concat!("assis", "tant"),
    concat!("chat", "bot"),
    concat!("language ", "model"),
    concat!("ll", "m"),
    concat!("co-authored", "-by"),
    concat!("generated ", "with"),
    concat!("work", "tree"),
    concat!("this ", "session"),
    concat!("previous ", "session"),
    concat!("next ", "session"),
];
/// Folders of one machine.
const MACHINE: &[&str] = &[
    concat!("/wo", "rk"),
    concat!("/ro", "ot"),
    concat!("/ho", "me"),
];

fn files_without_a_purpose(files: &[File]) -> Vec<String> {
    let silent = code_of_ours(files).filter(|file| !file.text.starts_with("//! "));
    silent
        .map(|file| {
            format!(
                "{}: does not open with `//!` and what it is for",
                file.at(0)
            )
        })
        .collect()
}

fn files_too_long(files: &[File]) -> Vec<String> {
    let mut findings = Vec::new();
    for file in code_of_ours(files) {
        let lines = file.text.lines().count();
        let exception = LONGER
            .iter()
            .find(|(path, _, _)| *path == file.path)
            .map(|(_, lines, _)| *lines);
        match exception {
            Some(_) if lines <= MAX_LINES => {
                findings.push(format!(
                    "{}:{lines}: is short enough now, take it out of LONGER",
                    file.path
                ));
            }
            Some(limit) if lines <= limit => {}
            None if lines <= MAX_LINES => {}
            Some(_) | None => findings.push(format!(
                "{}:{lines}: is too long, split it by noun",
                file.path
            )),
        }
    }

    findings
}

fn readings_of_the_wall_clock(files: &[File]) -> Vec<String> {
    let elsewhere = code_of_ours(files).filter(|file| !file.is_in(CLOCKS));
    elsewhere
        .flat_map(|file| occurrences(file, &source::code(&file.text), WALL_CLOCK))
        .collect()
}

fn floats_near_money(files: &[File]) -> Vec<String> {
    let near = code_of_ours(files).filter(|file| file.is_in(MONEY));
    near.flat_map(|file| occurrences(file, &source::code(&file.text), FLOATS))
        .collect()
}

fn work_put_off(files: &[File]) -> Vec<String> {
    files
        .iter()
        .flat_map(|file| occurrences(file, &file.text, PUT_OFF))
        .collect()
}

fn talk_of_how_it_was_made(files: &[File]) -> Vec<String> {
    files
        .iter()
        .flat_map(|file| occurrences(file, &file.text.to_ascii_lowercase(), MAKING))
        .collect()
}

/// A path begins where no name, address or other path goes before it.
fn paths_of_one_machine(files: &[File]) -> Vec<String> {
    let mut findings = Vec::new();
    for file in files {
        for folder in MACHINE {
            let goes_on = |c: char| c.is_alphanumeric() || "._-~}/$".contains(c);
            let mut places = words(&file.text, folder);
            places.retain(|at| {
                !file
                    .text
                    .get(..*at)
                    .is_some_and(|before| before.ends_with(goes_on))
            });
            findings.extend(
                places
                    .into_iter()
                    .map(|at| format!("{}: {folder} is a path of one machine", file.at(at))),
            );
        }
    }

    findings
}

fn code_of_ours(files: &[File]) -> impl Iterator<Item = &File> {
    files
        .iter()
        .filter(|file| file.is_rust() && file.is_in(CODE))
}

fn occurrences(file: &File, text: &str, forbidden: &[&str]) -> Vec<String> {
    let found = |word: &&str| {
        words(text, word)
            .into_iter()
            .map(|at| format!("{}: {word}", file.at(at)))
            .collect()
    };
    forbidden
        .iter()
        .flat_map(|word| -> Vec<String> { found(word) })
        .collect()
}

#[test]
fn every_file_opens_with_what_it_is_for() {
    assert_none(&files_without_a_purpose(&repository().unwrap()));
}

#[test]
fn a_file_that_does_not_open_with_what_it_is_for_is_found() {
    let files = [
        File::new("src/a.rs", "//! What it is for.\n"),
        File::new("src/b.rs", "use std::fmt;\n//! Too late.\n"),
        File::new("tests/c.rs", ""),
        File::new("config/default.toml", "# not Rust\n"),
    ];
    let found = files_without_a_purpose(&files);
    assert_eq!(found.len(), 2);
    assert!(
        found[0].starts_with("src/b.rs:1: ") && found[1].starts_with("tests/c.rs:1: "),
        "{found:?}"
    );
}

#[test]
fn no_file_is_too_long_to_be_read_at_once() {
    assert_none(&files_too_long(&repository().unwrap()));
}

#[test]
fn a_file_that_is_too_long_and_an_exception_that_is_needless_are_found() {
    let (exception, limit, _) = LONGER[0];
    let file = |path, lines| File::new(path, &"\n".repeat(lines));
    let fine = [
        file("src/a.rs", MAX_LINES),
        file(exception, limit),
        file("data.json", 9_999),
    ];
    assert_none(&files_too_long(&fine));
    assert_eq!(
        files_too_long(&[file("src/a.rs", 701)]),
        ["src/a.rs:701: is too long, split it by noun"]
    );
    assert_eq!(files_too_long(&[file(exception, limit + 1)]).len(), 1);
    assert_eq!(files_too_long(&[file(exception, MAX_LINES)]).len(), 1);
}

#[test]
fn only_the_two_clocks_read_the_wall_clock() {
    assert_none(&readings_of_the_wall_clock(&repository().unwrap()));
}

#[test]
fn a_reading_of_the_wall_clock_is_found() {
    let reading = "// Utc::now()\nlet t = Instant::now();\nlet at = chrono::Utc::now();\nlet s \
                   = \"SystemTime::now\";\n";
    let files = [
        File::new("src/clock.rs", reading),
        File::new("src/payments/pay.rs", reading),
    ];
    assert_eq!(
        readings_of_the_wall_clock(&files),
        ["src/payments/pay.rs:3: Utc::now"]
    );
}

#[test]
fn no_float_comes_near_money() {
    assert_none(&floats_near_money(&repository().unwrap()));
}

#[test]
fn a_float_near_money_is_found() {
    let code = "//! No f64 here.\nlet yuan = fen as f64;\nfn f(x: f32) {}\n";
    let files = [
        File::new("src/domain/payment.rs", code),
        File::new("src/routing/health.rs", code),
    ];
    assert_eq!(
        floats_near_money(&files),
        [
            "src/domain/payment.rs:3: f32",
            "src/domain/payment.rs:2: f64"
        ]
    );
}

#[test]
fn nothing_is_put_off() {
    assert_none(&work_put_off(&repository().unwrap()));
}

#[test]
fn work_that_was_put_off_is_found_in_any_text() {
    for (line, mark) in PUT_OFF.iter().enumerate() {
        let text = format!("{}// {mark}: later\n", "\n".repeat(line));
        let found = work_put_off(&[File::new("README.md", &text)]);
        assert_eq!(found, [format!("README.md:{}: {mark}", line + 1)]);
    }
    assert_none(&work_put_off(&[File::new(
        "Cargo.toml",
        "todo = \"deny\"\nunimplemented = \"deny\"\n",
    )]));
}

#[test]
fn nothing_speaks_of_how_it_was_made() {
    assert_none(&talk_of_how_it_was_made(&repository().unwrap()));
}

#[test]
fn talk_of_how_it_was_made_is_found_in_any_text() {
    for word in MAKING {
        let found = talk_of_how_it_was_made(&[File::new(
            "README.md",
            &format!("# A page\n{}\n", word.to_uppercase()),
        )]);
        assert_eq!(found, [format!("README.md:2: {word}")]);
    }
    assert_none(&talk_of_how_it_was_made(&[File::new(
        "src/console/login.rs",
        "//! A session ends after 12 hours.\n",
    )]));
}

#[test]
fn no_path_of_one_machine_is_written_down() {
    assert_none(&paths_of_one_machine(&repository().unwrap()));
}

#[test]
fn a_path_of_one_machine_is_found_in_any_text() {
    for folder in MACHINE {
        let found = paths_of_one_machine(&[File::new(
            "docs/run.md",
            &format!("\ncd {folder}/interlock\n"),
        )]);
        assert_eq!(
            found,
            [format!("docs/run.md:2: {folder} is a path of one machine")]
        );
        let address = format!("https://example.com{folder}/x ./{folder} {folder}shop\n");
        assert_none(&paths_of_one_machine(&[File::new("docs/run.md", &address)]));
    }
}
