//! What came of a run, and parts of it in percent.

use std::collections::BTreeMap;

use super::audit::{Figures, Violation};

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    pub violations: Vec<Violation>,
    pub figures: Figures,
    /// How long checkouts waited for their first answer, in milliseconds.
    pub waits_ms: Vec<u64>,
    /// How long it took until all had come to rest, in seconds of the gateways' time.
    pub rested_after_s: u64,
    /// Gateways that were killed.
    pub kills: u32,
    /// How many requests for payments were answered with which status, and one that was refused as
    /// wrong.
    pub answers: BTreeMap<u16, u64>,
    pub refused: Option<String>,
    /// A trace of the first payment that something is wrong with.
    pub trace: Option<String>,
    /// The point at which a gateway was to die, and whether it did.
    pub point: Option<(String, bool)>,
    /// What waits for a person, by kind.
    pub for_a_person: BTreeMap<String, u64>,
}

/// In hundredths of a percent: `99.95 %`.
pub fn percent(part: u64, all: u64) -> String {
    let Some(hundredths) = (part * 10_000).checked_div(all) else {
        return "none".to_owned();
    };
    format!("{}.{:02} %", hundredths / 100, hundredths % 100)
}
