//! What is drilled.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use super::scenario::{Plan, Scenario};

/// What is drilled.
#[derive(Debug, Clone)]
pub struct Options {
    /// What goes wrong.
    pub scenario: Scenario,
    /// One run for each.
    pub seeds: RangeInclusive<u64>,
    /// Payments in each run.
    pub payments: usize,
    /// A PostgreSQL whose user may make databases: then there are two gateways. None: the embedded
    /// database, and one.
    pub postgres: Option<String>,
    /// A Redis.
    pub redis: Option<String>,
    /// Whether payments may go to another provider.
    pub switchover: bool,
    /// Runs at the same time.
    pub jobs: usize,
    /// Nothing more is begun once something was violated.
    pub first: bool,
    /// End with one line of JSON.
    pub json: bool,
    /// More settings of the gateways.
    pub env: Vec<(String, String)>,
    /// Where the folders of runs with violations are kept.
    pub keep: Option<PathBuf>,
}

impl Options {
    /// On PostgreSQL a second one shares the first one's work.
    pub(super) const fn gateways(&self) -> usize {
        if self.postgres.is_some() { 2 } else { 1 }
    }

    pub(super) fn plan(&self, seed: u64) -> Plan {
        self.scenario
            .plan(seed, self.payments, self.gateways(), self.switchover)
    }
}
