//! Kill points: the list in `src/testing/kill.rs` and the points in the code are the same, so that
//! a drill that goes through the list goes through the code. Says nothing about where a point
//! belongs.

use super::assert_none;
use super::source::{File, repository, without_comments};

const LIST: &str = "src/testing/kill.rs";

fn unmatched_kill_points(files: &[File]) -> Vec<String> {
    let Some(list) = files.iter().find(|file| file.path == LIST) else {
        return vec![format!("{LIST}:1: is missing")];
    };
    let Some(listed) = quoted(list, "POINTS: &[&str] = &[", "];") else {
        return vec![format!("{LIST}:1: has no list of POINTS that can be read")];
    };
    let code = files
        .iter()
        .filter(|file| file.is_rust() && file.is_in(&["src/"]) && file.path != LIST);
    let used: Vec<(String, String)> = code.flat_map(points).collect();

    let mut findings = Vec::new();
    for (place, name) in &listed {
        match used.iter().filter(|(_, used)| used == name).count() {
            1 => {}
            times => findings.push(format!(
                "{place}: {name} must be in the code once, and is there {times} times"
            )),
        }
    }
    for (place, name) in &used {
        if !listed.iter().any(|(_, listed)| listed == name) {
            findings.push(format!("{place}: {name} is not in {LIST}"));
        }
    }
    findings
}

/// The points in this code, with their places.
fn points(file: &File) -> Vec<(String, String)> {
    let code = without_comments(&file.text);
    let uses = code.match_indices("kill_point!(");
    uses.map(|(at, _)| {
        let name = code
            .get(at..)
            .and_then(|rest| rest.split('"').nth(1))
            .unwrap_or_default();
        (file.at(at), name.to_owned())
    })
    .collect()
}

/// What is in quotes between these two, with its places.
fn quoted(file: &File, from: &str, to: &str) -> Option<Vec<(String, String)>> {
    let code = without_comments(&file.text);
    let start = code.find(from)? + from.len();
    let end = start + code.get(start..)?.find(to)?;
    let mut at = start;
    let mut names = Vec::new();
    for (index, part) in code.get(start..end)?.split('"').enumerate() {
        if index % 2 == 1 {
            names.push((file.at(at), part.to_owned()));
        }
        at += part.len() + 1;
    }
    Some(names)
}

#[test]
fn every_kill_point_is_listed_and_is_in_the_code_exactly_once() {
    assert_none(&unmatched_kill_points(&repository().unwrap()));
}

#[test]
fn a_kill_point_that_is_unlisted_or_unused_or_used_twice_is_found() {
    let files = [
        File::new(
            "src/testing/kill.rs",
            "pub const POINTS: &[&str] = &[\n    \"good\",\n    \"twice\",\n    \"nowhere\", \
            // \"no\"\n];\n",
        ),
        File::new(
            "src/payments/pay.rs",
            "kill_point!(\"twice\");\nkill_point!(\n    \"good\"\n);\n// \
            kill_point!(\"nowhere\");\nkill_point!(\"unlisted\");\n",
        ),
        File::new("src/payments/refund.rs", "\nkill_point!(\"twice\");\n"),
    ];

    assert_eq!(
        unmatched_kill_points(&files),
        [
            "src/testing/kill.rs:3: twice must be in the code once, and is there 2 times",
            "src/testing/kill.rs:4: nowhere must be in the code once, and is there 0 times",
            "src/payments/pay.rs:6: unlisted is not in src/testing/kill.rs",
        ]
    );
}

#[test]
fn a_list_of_kill_points_that_cannot_be_read_is_found() {
    assert_eq!(unmatched_kill_points(&[]).len(), 1);
    assert_eq!(
        unmatched_kill_points(&[File::new(
            "src/testing/kill.rs",
            "pub const NAMES: &[&str] = &[];"
        )])
        .len(),
        1
    );
}
