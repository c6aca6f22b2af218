//! What a run leaves behind, and what of it must be nowhere.

use std::path::{Path, PathBuf};

use providers::sandbox::keys::Keys;
use serde_json::Value;

use super::audit::Violation;
use super::options::Options;
use super::outcome::Outcome;

/// Keeps what a run with violations has left behind.
pub(super) fn keep(wanted: &Options, folder: &Path, seed: u64, outcome: &mut Outcome) {
    let Some(place) = &wanted.keep else { return };
    let to = place.join(format!("{}-{seed}", wanted.scenario.name));
    let _ = std::fs::remove_dir_all(&to);
    if let Err(error) = copy_folder(folder, &to) {
        outcome.violations.push(Violation {
            rule: "kept_for_you",
            subject: "run".to_owned(),
            found: error.to_string(),
        });
    }
}

fn copy_folder(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target: PathBuf = to.join(entry.file_name());
        match entry.file_type()? {
            kind if kind.is_dir() => copy_folder(&entry.path(), &target)?,
            kind if kind.is_file() => drop(std::fs::copy(entry.path(), target)?),
            _ => {}
        }
    }
    Ok(())
}

/// The words that differ between two texts, the first ones.
pub(super) fn difference(one: &str, other: &str) -> String {
    let words = one
        .split(", ")
        .zip(other.split(", "))
        .filter(|(a, b)| a != b);
    let changed: Vec<String> = words
        .take(8)
        .map(|(a, b)| format!("{a} is now {b}"))
        .collect();
    changed.join("; ")
}

/// Every secret that the providers gave the merchant: texts of keys, line by line.
pub(super) fn planted(keys: &Keys) -> Vec<String> {
    let mut secrets = Vec::new();
    for protocol in providers::PROTOCOLS {
        for (name, value) in keys
            .of(protocol.name.as_str())
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            let is_secret = ["private", "apiv", "secure", "pfx", "key"]
                .iter()
                .any(|part| name.contains(part));
            if let Some(text) = value
                .as_str()
                .filter(|_| is_secret && !name.contains("public"))
            {
                let lines = text
                    .lines()
                    .filter(|line| !line.starts_with("-----") && line.len() >= 24);
                secrets.extend(lines.take(3).map(str::to_owned));
            }
        }
    }

    secrets
}
