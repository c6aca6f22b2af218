//! What one gateway has learned of one subject since it last told the others. Two deltas, one after
//! the other, make one that says the same: "four failures in a row" is not lost when the row was
//! cut in two.

use serde::{Deserialize, Serialize};

use super::latency::Latencies;

/// A merchant, as a number that fits into a delta: see [`super::accounts::merchant`].
pub type MerchantHash = u32;

/// A few merchants, and how often each of them: whether it is one or several, and whether most of
/// it is one's own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Few(Vec<(MerchantHash, u32)>);

/// So many are told apart.
const FEW: usize = 3;

impl Few {
    fn add(&mut self, merchant: MerchantHash, times: u32) {
        if let Some((_, count)) = self.0.iter_mut().find(|(known, _)| *known == merchant) {
            *count = count.saturating_add(times);
        } else if self.0.len() < FEW {
            self.0.push((merchant, times));
        }
    }

    fn join(&mut self, other: &Self) {
        other
            .0
            .iter()
            .for_each(|(merchant, times)| self.add(*merchant, *times));
    }

    /// How many: 3 means 3 or more.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.0.len()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = MerchantHash> + '_ {
        self.0.iter().map(|(merchant, _)| *merchant)
    }

    /// How often this one.
    #[must_use]
    pub fn times(&self, merchant: MerchantHash) -> u32 {
        self.0
            .iter()
            .find(|(known, _)| *known == merchant)
            .map_or(0, |(_, times)| *times)
    }

    /// Who did it most often, and how often.
    #[must_use]
    pub fn most(&self) -> Option<(MerchantHash, u32)> {
        self.0.iter().copied().max_by_key(|(_, times)| *times)
    }

    /// Whether it is what our own code could have written.
    pub(super) fn is_sane(&self) -> bool {
        self.0.len() <= FEW && self.0.iter().all(|(_, times)| *times <= MOST_CALLS)
    }
}

/// No gateway has seen more calls of one kind than this between two looks at them.
pub(super) const MOST_CALLS: u32 = 10_000_000;

/// Failures in a row.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// How many.
    pub length: u32,
    /// Whose.
    pub merchants: Few,
}

impl Run {
    /// This row and the one right after it.
    #[must_use]
    pub fn then(mut self, next: &Self) -> Self {
        self.length = self.length.saturating_add(next.length);
        self.merchants.join(&next.merchants);
        self
    }

    fn add(&mut self, merchant: MerchantHash) {
        self.length = self.length.saturating_add(1);
        self.merchants.add(merchant, 1);
    }

    /// How many they are for somebody who believes no merchant more than all others together: a
    /// hundred failures of one and a single one of another are two.
    #[must_use]
    pub fn agreed(&self) -> u32 {
        let most = self.merchants.most().map_or(0, |(_, times)| times);
        self.length
            .min(self.length.saturating_sub(most).saturating_mul(2))
    }

    /// Whether it is what our own code could have written.
    pub(super) fn is_sane(&self) -> bool {
        self.length <= MOST_CALLS && self.merchants.is_sane()
    }
}

/// What was learned.
#[derive(Debug, Clone, Default, PartialEq)]
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
    /// Merchants whose accounts were used.
    pub used: Few,
    /// Those of them that were answered, by a call or by a probe.
    pub answered: Few,
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
    pub fn good(&mut self, merchant: MerchantHash, suspected: bool) {
        if self.good > 0 && self.trail.length > self.inner.length {
            self.inner = std::mem::take(&mut self.trail);
        }
        self.good = self.good.saturating_add(1);
        self.retracted = self.retracted.saturating_add(u32::from(suspected));
        self.trail = Run::default();
        self.used.add(merchant, 1);
        self.answered.add(merchant, 1);
    }

    /// A call failed, or seems to.
    pub fn failed(&mut self, merchant: MerchantHash) {
        self.failed = self.failed.saturating_add(1);
        self.trail.add(merchant);
        if self.good == 0 {
            self.lead.add(merchant);
        }
        self.used.add(merchant, 1);
    }

    /// Somebody was answered over one of a merchant's accounts who was not sent there for its sake.
    pub fn answers(&mut self, merchant: MerchantHash) {
        self.answered.add(merchant, 1);
    }

    /// A probe over one of a merchant's accounts came back.
    pub fn probed(&mut self, merchant: MerchantHash, good: bool) {
        if good {
            self.probes_good = self.probes_good.saturating_add(1);
            self.answered.add(merchant, 1);
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
        self.answered.join(&next.answered);
        self.latencies.merge(&next.latencies);
        self.probes_good =
            if next.probes_bad { 0 } else { self.probes_good }.saturating_add(next.probes_good);
        self.probes_bad |= next.probes_bad;
        self.silent |= next.silent;
        self.claim |= next.claim;

        self
    }
}
