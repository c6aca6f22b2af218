//! Who may use whom inside the gateway: `ROWS`, of which `src/ARCHITECTURE.md` shows the arrow,
//! held against every `crate::` and `super::` in `src`, those of its tests too; and in which rooms
//! a crate may be named. Never turns an arrow round to let some code compile.

use super::assert_none;
use super::source::{self, File, repository, words};

/// A module may use itself and what stands below it. Code at the root of the crate may use
/// everything.
const ROWS: &[&[&str]] = &[
    &["doctor", "drill"],
    &["server"],
    &["bench", "cli"],
    &["api", "console", "jobs"],
    &["reconciliation"],
    &["payments"],
    &["app"],
    &["incidents", "installation"],
    &["directory", "restored", "webhooks"],
    &["routing"],
    &[
        "store",
        "clock",
        "config",
        "progress",
        "telemetry",
        "traces",
        "vault",
    ],
    &["testing", "embedded", "guard", "lines", "redact"],
    &["domain"],
];

/// Macros stand at the root of the crate wherever they are written.
const MACROS: &[(&str, &str)] = &[
    ("kill_point", "testing"),
    ("mutate", "testing"),
    ("mutated", "testing"),
];

/// What pure values have no use for: databases, the network, files, other tasks, waiting.
const NOT_PURE: &[&str] = &[
    "actix_web",
    "async",
    "await",
    "redis",
    "reqwest",
    "sea_orm",
    "sqlx",
    "std::env",
    "std::fs",
    "std::net",
    "std::process",
    "std::thread",
    "tokio",
];

/// What protocols have no use for: the gateway and its database.
const NOT_A_PROTOCOL: &[&str] = &[
    "interlock",
    "migrations",
    "sea_orm",
    "sea_orm_migration",
    "sqlx",
];

/// Crates that are named in their rooms alone: which library does a thing is known to those who do
/// it. Tests name what they like.
const ROOMS: &[(&str, &[&str])] = &[
    ("sea_orm", &["src/store/", "migrations/"]),
    ("sqlx", &["src/store/"]),
    (
        "actix_web",
        &[
            "src/api/",
            "src/console/",
            "src/cashier/",
            "src/server.rs",
            "src/server/",
            "src/drill/",
        ],
    ),
    (
        "reqwest",
        &[
            "providers/src/",
            "src/bench/",
            "src/cli/",
            "src/drill/",
            "src/guard.rs",
            "src/incidents/",
            "src/traces.rs",
            "src/traces/",
            "src/webhooks/",
        ],
    ),
];

const NOT_BELOW: &str = "ROWS does not have it below";
const NO_ROW: &str = "one of them has no row yet, ROWS must say where it stands";

fn uses_against_the_direction(files: &[File]) -> Vec<String> {
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        let Some(path) = module_path(&file.path) else {
            continue;
        };
        let Some(user) = path.first() else { continue };
        for (at, used) in modules_used(&source::code(&file.text), path.len()) {
            if let Some(why) = objection(user, &used) {
                findings.push(format!("{}: {user} uses {used}, {why}", file.at(at)));
            }
        }
    }
    findings
}

fn objection(user: &str, used: &str) -> Option<&'static str> {
    let row = |module| ROWS.iter().position(|row| row.contains(&module));
    match (row(user), row(used)) {
        (Some(_), Some(_)) if user == used => None,
        (Some(above), Some(below)) if above < below => None,
        (Some(_), Some(_)) => Some(NOT_BELOW),
        (None, _) | (_, None) => Some(NO_ROW),
    }
}

/// `src/payments/pay.rs` is `payments`, `pay`; the root of the crate is empty; other crates are
/// nothing.
fn module_path(file: &str) -> Option<Vec<&str>> {
    let inside = file.strip_prefix("src/")?.strip_suffix(".rs")?;
    let mut path: Vec<&str> = inside.split('/').collect();
    if path.last() == Some(&"mod") || path == ["lib"] || path == ["main"] {
        path.pop();
    }
    Some(path)
}

/// The top modules that code names, and where: by `crate::`, and by as many `super::` as lead to
/// the root.
fn modules_used(code: &str, depth: usize) -> Vec<(usize, String)> {
    let from_root = words(code, "crate")
        .into_iter()
        .filter_map(|at| Some((at, after(code, at, "crate::")?)));
    let climbing = words(code, "super").into_iter().filter_map(|at| {
        let (before, mut rest) = code.split_at(at);
        let mut levels = 0;
        while let Some(above) = rest.strip_prefix("super::") {
            (levels, rest) = (levels + 1, above);
        }
        let starts_here = !before.ends_with("super::");
        (starts_here && levels == depth + inner_modules(before)).then_some((at, rest))
    });

    let mut used: Vec<(usize, String)> = from_root
        .chain(climbing)
        .flat_map(|(at, rest)| heads(rest).into_iter().map(move |head| (at, head)))
        .collect();
    used.sort();

    used
}

fn after<'a>(code: &'a str, at: usize, prefix: &str) -> Option<&'a str> {
    code.get(at..)?.strip_prefix(prefix)
}

/// The first names of a path, or of each path of a group: `a::b` is `a`; `{a::{b, c}, d}` is `a`,
/// `d`.
fn heads(path: &str) -> Vec<String> {
    let Some(group) = path.strip_prefix('{') else {
        return head(path).into_iter().collect();
    };
    let mut depth = 0;
    let mut paths = vec![String::new()];

    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => paths.push(String::new()),
            _ if depth == 0 => paths.last_mut().into_iter().for_each(|path| path.push(c)),
            _ => {}
        }
    }

    paths.iter().filter_map(|path| head(path)).collect()
}

fn head(path: &str) -> Option<String> {
    let name: String = path
        .trim_start()
        .chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect();
    let module = MACROS
        .iter()
        .find(|(macro_name, _)| *macro_name == name)
        .map(|(_, module)| (*module).to_owned());
    module.or(Some(name)).filter(|name| !name.is_empty())
}

/// How many `mod name {` are open at the end of this code.
fn inner_modules(before: &str) -> usize {
    let mut open = Vec::new();
    for (at, c) in before.char_indices() {
        match c {
            '{' => open.push(before.get(..at).is_some_and(opens_a_module)),
            '}' => drop(open.pop()),
            _ => {}
        }
    }
    open.iter().filter(|is_module| **is_module).count()
}

fn opens_a_module(before: &str) -> bool {
    before.split_whitespace().rev().nth(1) == Some("mod")
}

fn crates_outside_their_rooms(files: &[File]) -> Vec<String> {
    let mut findings = Vec::new();
    for file in files
        .iter()
        .filter(|file| file.is_rust() && file.is_in(&["src/", "providers/src/", "migrations/"]))
    {
        let code = source::code(&file.text);
        for (name, _) in ROOMS.iter().filter(|(_, rooms)| !file.is_in(rooms)) {
            findings.extend(
                words(&code, name)
                    .into_iter()
                    .map(|at| format!("{}: {name} is named here", file.at(at))),
            );
        }
    }
    findings
}

fn words_where_they_do_not_belong(files: &[File], place: &str, forbidden: &[&str]) -> Vec<String> {
    let mut findings = Vec::new();
    for file in files
        .iter()
        .filter(|file| file.is_rust() && file.is_in(&[place]))
    {
        let code = source::code(&file.text);
        for word in forbidden {
            findings.extend(
                words(&code, word)
                    .into_iter()
                    .map(|at| format!("{}: {word} in {place}", file.at(at))),
            );
        }
    }
    findings
}

#[test]
fn no_module_uses_one_that_stands_above_it() {
    assert_none(&uses_against_the_direction(&repository().unwrap()));
}

#[test]
fn a_use_against_the_direction_is_found_however_it_is_written() {
    let file = File::new(
        "src/store/rows.rs",
        "//! `crate::api` in a comment is no use of it.\nuse crate::domain::Payment;\nuse \
        crate::payments::pay;\nuse \
        crate::{\n    domain::{self, api},\n    routing::{rule, choose},\n};\nuse \
        super::super::clock;\nuse super::writer;\n#[cfg(test)]\nmod tests \
        {\n    use super::super::api;\n    use super::super::super::app::App;\n}\nfn f() \
        { crate::kill_point!(\"crate::jobs\"); crate::shop::open() }\n",
    );
    let found = uses_against_the_direction(&[file]);

    let expected = [(3, "payments"), (4, "routing"), (8, "clock"), (13, "app")]
        .map(|(line, used)| format!("src/store/rows.rs:{line}: store uses {used}, {NOT_BELOW}"));

    assert_eq!(
        found.split_last(),
        Some((
            &format!("src/store/rows.rs:15: store uses shop, {NO_ROW}"),
            &expected[..]
        ))
    );
}

#[test]
fn a_module_may_use_what_stands_below_it() {
    let fine = [
        File::new("src/lib.rs", "pub use crate::anything;"),
        File::new(
            "src/payments/mod.rs",
            "use crate::{domain::Payment, kill_point, store};\nuse super::routing;",
        ),
        File::new(
            "src/directory.rs",
            "use crate::routing::rule::Routing;\nmod tests { use super::*; }",
        ),
    ];
    assert_none(&uses_against_the_direction(&fine));
}

#[test]
fn each_crate_is_named_in_its_rooms_alone() {
    assert_none(&crates_outside_their_rooms(&repository().unwrap()));
}

#[test]
fn a_crate_that_is_named_outside_of_its_rooms_is_found() {
    for (name, rooms) in ROOMS {
        let text = format!("//! No {name} here.\nuse {name}::A;\nlet s = \"{name}\";\n");
        let room = format!("{}a.rs", rooms[0]);
        let found = crates_outside_their_rooms(&[
            File::new("src/payments/pay.rs", &text),
            File::new(&room, &text),
            File::new("tests/a.rs", &text),
        ]);
        assert_eq!(
            found,
            [format!("src/payments/pay.rs:2: {name} is named here")]
        );
    }
}

#[test]
fn the_domain_does_no_input_and_no_output() {
    assert_none(&words_where_they_do_not_belong(
        &repository().unwrap(),
        "src/domain/",
        NOT_PURE,
    ));
}

#[test]
fn input_or_output_in_the_domain_is_found() {
    let file = File::new(
        "src/domain/refund.rs",
        "//! No async here.\nuse sea_orm::DbErr;\nasync fn f() {}\n",
    );
    let found = words_where_they_do_not_belong(&[file], "src/domain/", NOT_PURE);
    assert_eq!(
        found,
        [
            "src/domain/refund.rs:3: async in src/domain/",
            "src/domain/refund.rs:2: sea_orm in src/domain/"
        ]
    );
}

#[test]
fn the_protocols_know_neither_the_gateway_nor_a_database() {
    assert_none(&words_where_they_do_not_belong(
        &repository().unwrap(),
        "providers/src/",
        NOT_A_PROTOCOL,
    ));
}

#[test]
fn a_protocol_that_knows_a_database_is_found() {
    let file = File::new(
        "providers/src/memory.rs",
        "use http::Uri;\nuse sqlx::Row;\n",
    );
    let found = words_where_they_do_not_belong(&[file], "providers/src/", NOT_A_PROTOCOL);
    assert_eq!(found, ["providers/src/memory.rs:2: sqlx in providers/src/"]);
}
