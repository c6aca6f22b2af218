//! Cargo.toml: every dependency says what it is for, and members take its version from the
//! workspace. Does not judge whether the reason is a good one.

use super::assert_none;
use super::source::{File, repository};

fn dependencies_without_a_reason(files: &[File]) -> Vec<String> {
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| file.path == "Cargo.toml") {
        for (line, text) in section(file, |name| name == "workspace.dependencies") {
            if comment(text).trim().is_empty() {
                findings.push(format!(
                    "Cargo.toml:{line}: say behind {} what it is for",
                    key(text)
                ));
            }
        }
    }
    findings
}

fn versions_of_their_own(files: &[File]) -> Vec<String> {
    let mut findings = Vec::new();
    for file in files
        .iter()
        .filter(|file| file.path.ends_with("Cargo.toml"))
    {
        for (line, text) in section(file, |name| {
            name.ends_with("dependencies") && name != "workspace.dependencies"
        }) {
            let definition: String = text
                .split('#')
                .next()
                .unwrap_or_default()
                .split_whitespace()
                .collect();
            if !definition.contains("workspace=true") && !definition.contains("path=") {
                findings.push(format!(
                    "{}:{line}: {} must come from the workspace",
                    file.path,
                    key(text)
                ));
            }
        }
    }

    findings
}

/// The entries of the sections that are wanted, a line each, with their numbers.
fn section(file: &File, wanted: impl Fn(&str) -> bool) -> Vec<(usize, &str)> {
    let mut inside = false;
    let mut entries = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        if let Some(name) = line.strip_prefix('[') {
            inside = name.split(']').next().is_some_and(&wanted);
        } else if inside && !line.trim().is_empty() && !line.starts_with('#') {
            entries.push((index + 1, line));
        }
    }
    entries
}

fn key(entry: &str) -> &str {
    entry.split(['=', '.', ' ']).next().unwrap_or_default()
}

/// What stands behind the `#` that is not in quotes.
fn comment(line: &str) -> &str {
    let mut quoted = false;
    for (at, c) in line.char_indices() {
        match c {
            '"' => quoted = !quoted,
            '#' if !quoted => return line.get(at + 1..).unwrap_or_default(),
            _ => {}
        }
    }
    ""
}

#[test]
fn every_dependency_says_what_it_is_for() {
    assert_none(&dependencies_without_a_reason(&repository().unwrap()));
}

#[test]
fn a_dependency_that_does_not_say_what_it_is_for_is_found() {
    let manifest = "[workspace.dependencies]\n\
                    bytes = \"1\" # raw bodies\n\
                    http = \"1#no reason at all\"\n\
                    strum = { version = \"0.28\" } #\n\
                    [dependencies]\nhttp.workspace = true\n";
    let found = dependencies_without_a_reason(&[File::new("Cargo.toml", manifest)]);
    assert_eq!(
        found,
        [
            "Cargo.toml:3: say behind http what it is for",
            "Cargo.toml:4: say behind strum what it is for"
        ]
    );
}

#[test]
fn every_member_takes_its_versions_from_the_workspace() {
    assert_none(&versions_of_their_own(&repository().unwrap()));
}

#[test]
fn a_member_with_a_version_of_its_own_is_found() {
    let manifest = "[dependencies]\n\
                    providers = { path = \"../providers\" }\n\
                    reqwest = { workspace = true, features = [\"json\"] }\n\
                    bytes.workspace = true\n\
                    [dev-dependencies]\n\
                    rand = \"0.9\" # workspace = true\n";
    let found = versions_of_their_own(&[File::new("providers/Cargo.toml", manifest)]);
    assert_eq!(
        found,
        ["providers/Cargo.toml:6: rand must come from the workspace"]
    );
}
