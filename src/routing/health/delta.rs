//! What one gateway has learned of one subject since it last told the others. Two deltas, one after the other, make
//! one that says the same: "four failures in a row" is not lost when the row was cut in two.

use serde::{Deserialize, Serialize};

use super::latency::Latencies;

/// An account, as a number that fits into a delta.
pub type AccountHash = u32;

/// A few accounts: whether one or several failed is all that anybody asks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Few(Vec<AccountHash>);

/// So many are told apart.
const FEW: usize = 3;

impl Few {
    fn add(&mut self, account: AccountHash) {
        if self.0.len() < FEW && !self.0.contains(&account) {
            self.0.push(account);
        }
    }

    fn join(&mut self, other: &Self) {
        other.0.iter().for_each(|account| self.add(*account));
    }

    /// How many: 3 means 3 or more.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.0.len()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = AccountHash> + '_ {
        self.0.iter().copied()
    }
}

/// Failures in a row.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// How many.
    pub length: u32,
    /// Whose.
    pub accounts: Few,
}

impl Run {
    /// This row and the one right after it.
    #[must_use]
    pub fn then(mut self, next: &Self) -> Self {
        self.length = self.length.saturating_add(next.length);
        self.accounts.join(&next.accounts);
        self
    }

    fn add(&mut self, account: AccountHash) {
        self.length = self.length.saturating_add(1);
        self.accounts.add(account);
    }
}

/// What was learned.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Delta {
    /// Calls that were answered.
    pub good: u32,
    /// Calls that failed, or that seem to.
    pub failed: u32,
    /// Of these, such as were answered after all. The answer is among the good ones too.
    pub retracted: u32,
    /// Failures before the first good call; all of them when there was none.
    pub lead: Run,
    /// The longest row between the first and the last good call.
    pub inner: Run,
    /// Failures after the last good call; all of them when there was none.
    pub trail: Run,
    /// Accounts that were used.
    pub used: Few,
    /// How long answered calls took.
    pub latencies: Latencies,
    /// Good probes since the last bad one.
    pub probes_good: u32,
    /// Whether there was a bad one.
    pub probes_bad: bool,
    /// Payments took the route without a call.
    pub silent: bool,
    /// Somebody wants to ask whether it is back.
    pub claim: bool,
}

impl Delta {
    /// Whether nothing was learned.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// A call was answered. `suspected`: it was counted as a failure before.
    pub fn good(&mut self, account: AccountHash, suspected: bool) {
        if self.good > 0 && self.trail.length > self.inner.length {
            self.inner = std::mem::take(&mut self.trail);
        }
        self.good = self.good.saturating_add(1);
        self.retracted = self.retracted.saturating_add(u32::from(suspected));
        self.trail = Run::default();
        self.used.add(account);
    }

    /// A call failed, or seems to.
    pub fn failed(&mut self, account: AccountHash) {
        self.failed = self.failed.saturating_add(1);
        self.trail.add(account);
        if self.good == 0 {
            self.lead.add(account);
        }
        self.used.add(account);
    }

    /// A probe came back.
    pub const fn probed(&mut self, good: bool) {
        if good {
            self.probes_good = self.probes_good.saturating_add(1);
        } else {
            self.probes_good = 0;
            self.probes_bad = true;
        }
    }

    /// This delta and the one that came after it.
    #[must_use]
    pub fn then(mut self, next: &Self) -> Self {
        if next.good == 0 {
            // Nothing interrupts the row that this one ends with.
            if self.good == 0 {
                self.lead = self.lead.then(&next.lead);
            }
            self.trail = self.trail.then(&next.trail);
        } else {
            let joined = std::mem::take(&mut self.trail).then(&next.lead);
            if self.good == 0 {
                self.lead = joined;
            } else if joined.length > self.inner.length {
                self.inner = joined;
            }
            if next.inner.length > self.inner.length {
                self.inner = next.inner.clone();
            }
            self.trail = next.trail.clone();
        }
        self.good = self.good.saturating_add(next.good);
        self.failed = self.failed.saturating_add(next.failed);
        self.retracted = self.retracted.saturating_add(next.retracted);
        self.used.join(&next.used);
        self.latencies.merge(&next.latencies);
        self.probes_good = if next.probes_bad { 0 } else { self.probes_good }.saturating_add(next.probes_good);
        self.probes_bad |= next.probes_bad;
        self.silent |= next.silent;
        self.claim |= next.claim;
        self
    }
}
