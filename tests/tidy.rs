//! The style as a test: what reviewers should not have to look for. Each rule is a function over
//! files, is held against the whole repository by one test, and is shown by the next one to find
//! what it forbids.

mod circles;
mod kill_points;
mod layers;
mod manifest;
mod shape;
mod source;
mod text;
mod words;

/// Fails with one line for each finding; every one of them begins with its file and line.
fn assert_none(findings: &[String]) {
    assert!(
        findings.is_empty(),
        "{} found:\n{}\n",
        findings.len(),
        findings.join("\n")
    );
}

/// The code in a folder, by its file, without comments and what is in quotes.
pub fn sources(folder: &str) -> Vec<(String, String)> {
    let files = source::repository()
        .unwrap()
        .into_iter()
        .filter(|file| file.is_rust() && file.is_in(&[folder]));
    files
        .map(|file| (file.path.clone(), source::code(&file.text)))
        .collect()
}
