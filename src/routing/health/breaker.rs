//! The breaker of one subject: closed, open, on trial, ramping, and how it gets from one to the
//! other. Time alone never opens one and never ends an outage: failures open it, and only answers
//! that came back lead out of it.
#![expect(
    clippy::float_arithmetic,
    reason = "the part of the traffic that a ramp lets through"
)]

use serde::{Deserialize, Serialize};

use super::BreakerState;
use super::delta::{MOST_CALLS, MerchantHash};

/// Open for at least so long.
pub const OPEN_MS: i64 = 5_000;
/// From the first share to all traffic.
pub const RAMP_MS: i64 = 20_000;
/// Real successes that end a trial.
pub const TRIAL_SUCCESSES: u32 = 3;
/// Good probes in a row that end the first outage; each trip after it asks for twice as many …
const PROBES: u32 = 3;
/// … up to this.
const PROBES_MOST: u32 = 24;
/// A trip is forgotten after so long without another, if there were real successes.
const FORGIVEN_MS: i64 = 60_000;
/// So many trips are remembered: more than that makes no difference but to how long they are.
const TRIPS: u32 = 16;
/// What a ramp begins with.
const FIRST_SHARE: f64 = 0.1;

/// A moment: on the subject's own clock, which no leap of the caller's moves far, and as the caller
/// has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct At {
    /// Own time in milliseconds.
    pub own: i64,
    /// The caller's.
    pub now_ms: i64,
}

/// What there is of a charge and an offer alike; how the subject is to be treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BreakerConfig {
    /// How often a provider may be asked whether it is back.
    pub probe_every_ms: u32,
    /// Its calls take the money, and cannot be tried elsewhere after: no payer is a trial, and it
    /// comes back last.
    pub charges: bool,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self {
            probe_every_ms: 1_000,
            charges: false,
        }
    }
}

/// The breaker of one subject.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Breaker {
    gate: BreakerState,
    /// Since when, on the caller's clock.
    since_ms: i64,
    /// The same on its own.
    since: i64,
    /// Trips that are not forgotten.
    trips: u32,
    /// The merchant whose failures alone it stands on: to all others it says nothing.
    of: Option<MerchantHash>,
    /// Open: good probes in a row. On trial: real successes.
    progress: u32,
    /// When to ask next, on its own clock.
    next_probe: i64,
    /// Open: the failures that it stands on, and how many it took.
    evidence: u32,
    needed: u32,
    /// Open: what it was before, should the evidence be taken back.
    before: BreakerState,
    /// Closed: since when it earns forgiveness, and whether there was a real success meanwhile.
    earning_since: i64,
    earned: bool,
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            gate: BreakerState::Closed,
            since_ms: 0,
            since: 0,
            trips: 0,
            of: None,
            progress: 0,
            next_probe: 0,
            evidence: 0,
            needed: 0,
            before: BreakerState::Closed,
            earning_since: 0,
            earned: false,
        }
    }
}

impl Breaker {
    /// Whether it lets payments through.
    #[must_use]
    pub const fn gate(&self) -> BreakerState {
        self.gate
    }

    /// The same for somebody's payments: an outage that only another merchant has seen is none of
    /// theirs.
    #[must_use]
    pub fn gate_for(&self, merchant: MerchantHash) -> BreakerState {
        if self.of.is_some_and(|of| of != merchant) {
            BreakerState::Closed
        } else {
            self.gate
        }
    }

    /// The merchant whose failures alone it stands on, if it stands on one's.
    #[must_use]
    pub const fn of(&self) -> Option<MerchantHash> {
        self.of
    }

    /// Since when, on the caller's clock.
    #[must_use]
    pub const fn since_ms(&self) -> i64 {
        self.since_ms
    }

    /// How often it has opened lately.
    #[must_use]
    pub const fn trips(&self) -> u32 {
        self.trips
    }

    /// Open: good probes in a row so far. On trial: real successes.
    #[must_use]
    pub const fn progress(&self) -> u32 {
        self.progress
    }

    /// Good probes in a row that lead out of this outage.
    #[must_use]
    pub const fn probes_needed(&self) -> u32 {
        let doublings = if self.trips > 4 {
            3
        } else {
            self.trips.saturating_sub(1)
        };
        let needed = PROBES << doublings;
        if needed > PROBES_MOST {
            PROBES_MOST
        } else {
            needed
        }
    }

    /// The part of the traffic that may pass, 0 to 1. A trial is no part of it.
    #[must_use]
    pub fn share(&self, own: i64, manner: BreakerConfig) -> f64 {
        match self.gate {
            BreakerState::Closed => 1.0,
            BreakerState::Trial | BreakerState::Open => 0.0,
            BreakerState::Ramping => {
                let gone = u32::try_from((own - self.since).clamp(0, RAMP_MS)).unwrap_or(0);
                let share = FIRST_SHARE + (1.0 - FIRST_SHARE) * f64::from(gone) / 20_000.0;
                if manner.charges {
                    (2.0 * share - 1.0).max(0.0)
                } else {
                    share
                }
            }
        }
    }

    fn to(&mut self, gate: BreakerState, at: At) {
        self.gate = gate;
        self.since = at.own;
        self.since_ms = at.now_ms;
        self.progress = 0;
    }

    /// Opens it, for so many failures where so many were needed; `of` names their merchant where it
    /// was one alone.
    pub(super) fn trip(&mut self, evidence: u32, needed: u32, of: Option<MerchantHash>, at: At) {
        match self.gate {
            BreakerState::Open => {}
            BreakerState::Closed | BreakerState::Ramping | BreakerState::Trial => {
                self.before = self.gate;
                self.trips = self.trips.saturating_add(1).min(TRIPS);
                self.of = of;
                self.evidence = evidence;
                self.needed = needed;
                self.next_probe = at.own;
                self.to(BreakerState::Open, at);
            }
        }
    }

    /// Others have seen it fail, too.
    pub(super) const fn is_everybodys(&mut self) {
        self.of = None;
    }

    /// Somebody else was answered: what it stands on is the trouble of the one merchant who had it.
    pub(super) fn exonerate(&mut self, at: At) {
        self.of = None;
        self.evidence = 0;
        self.trips = self.trips.saturating_sub(1);
        self.to(BreakerState::Closed, at);
    }

    /// Suspected failures ended well. When most of what it opened for is gone, it never opened.
    pub(super) fn retract(&mut self, count: u32, at: At) {
        match self.gate {
            BreakerState::Open if self.evidence > 0 && count > 0 => {
                self.evidence = self.evidence.saturating_sub(count);
                if self.evidence.saturating_mul(2) < self.needed {
                    self.evidence = 0;
                    self.trips = self.trips.saturating_sub(1);
                    self.to(self.before, at);
                }
            }
            BreakerState::Open
            | BreakerState::Closed
            | BreakerState::Ramping
            | BreakerState::Trial => {}
        }
    }

    /// Whether somebody should ask now. `unheard` routes are asked while closed too.
    #[must_use]
    pub const fn probe_due(&self, own: i64, unheard: bool) -> bool {
        let wanted = match self.gate {
            BreakerState::Open => true,
            BreakerState::Closed | BreakerState::Ramping | BreakerState::Trial => unheard,
        };
        wanted && own >= self.next_probe
    }

    /// Somebody asks; the next may do so later.
    pub(super) fn claim_probe(&mut self, own: i64, manner: BreakerConfig) {
        self.next_probe = own.saturating_add(i64::from(manner.probe_every_ms));
    }

    /// A probe's answer while open. A bad one begins the count anew.
    pub(super) fn probed(&mut self, good: u32, bad: bool, manner: BreakerConfig, at: At) {
        match self.gate {
            BreakerState::Open => {
                if bad {
                    self.progress = 0;
                    // It is as dead as it was thought to be: nothing is taken back any more.
                    self.evidence = 0;
                }
                self.progress = self.progress.saturating_add(good);
                self.tick(manner, at);
            }
            BreakerState::Closed | BreakerState::Ramping | BreakerState::Trial => {}
        }
    }

    /// Real outcomes on trial or closed. A trial that fails opens it again.
    /// `of`: the merchant who had the failures, if it was one alone.
    pub(super) fn real(&mut self, good: u32, failed: u32, of: Option<MerchantHash>, at: At) {
        match self.gate {
            BreakerState::Trial if failed > 0 => self.trip(0, 0, of, at),
            BreakerState::Trial => {
                self.progress = self.progress.saturating_add(good);
                if self.progress >= TRIAL_SUCCESSES {
                    self.to(BreakerState::Ramping, at);
                }
            }
            BreakerState::Closed => self.earned |= good > 0,
            BreakerState::Open | BreakerState::Ramping => {}
        }
    }

    /// What time brings: the end of an outage whose probes were good, the end of a ramp,
    /// forgiveness.
    pub(super) fn tick(&mut self, manner: BreakerConfig, at: At) {
        let gone = at.own.saturating_sub(self.since);

        match self.gate {
            BreakerState::Open if gone >= OPEN_MS && self.progress >= self.probes_needed() => {
                self.to(
                    if manner.charges {
                        BreakerState::Ramping
                    } else {
                        BreakerState::Trial
                    },
                    at,
                );
            }
            BreakerState::Ramping if gone >= RAMP_MS => {
                self.to(BreakerState::Closed, at);
                self.of = None;
                self.earning_since = at.own;
                self.earned = false;
            }
            BreakerState::Closed if self.trips > 0 && self.earned => {
                if at.own.saturating_sub(self.earning_since) >= FORGIVEN_MS {
                    self.trips -= 1;
                    self.earning_since = at.own;
                    self.earned = false;
                }
            }
            BreakerState::Open
            | BreakerState::Ramping
            | BreakerState::Closed
            | BreakerState::Trial => {}
        }
    }

    /// Whether it is what our own code could have written of a subject that is treated like this
    /// and whose clock shows `own`, as of `now_ms`: nothing in it may keep payments away for longer
    /// than what has happened.
    pub(super) fn is_sane(&self, own: i64, manner: BreakerConfig, now_ms: i64) -> bool {
        let next_at_most = own.saturating_add(i64::from(manner.probe_every_ms));
        (0..=own).contains(&self.since)
            && (0..=own).contains(&self.earning_since)
            && (0..=next_at_most).contains(&self.next_probe)
            && (0..=now_ms.saturating_add(super::AHEAD_MS)).contains(&self.since_ms)
            && self.trips <= TRIPS
            && [self.progress, self.evidence, self.needed]
                .iter()
                .all(|count| *count <= MOST_CALLS)
            && match self.before {
                BreakerState::Closed | BreakerState::Ramping | BreakerState::Trial => true,
                // What was open cannot have opened.
                BreakerState::Open => false,
            }
    }
}
