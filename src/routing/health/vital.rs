//! All that the gateways of a cluster know together of one subject. It is stored as one value, and replaced by
//! compare-and-set; all that is ever done to it is done here, so that there is one implementation. Pure: the time is
//! handed in, and a clock that leaps can neither open a breaker nor close one.

use serde::{Deserialize, Serialize};

use super::Gate;
use super::breaker::{At, Breaker, Manner};
use super::delta::{AccountHash, Delta, Run};
use super::latency::Latencies;
use super::score::{Score, trip_after, wilson_upper};

/// The shape of a stored [`Vital`]: part of its key, so that two versions of the program that differ in it do not
/// read each other's.
pub const FORMAT: u32 = 1;

/// A step of the breaker's own clock is at most this long. Whoever looks after a subject does so more often.
const STEP_MS: i64 = 2_000;
/// A clock that is this far behind was set back; by less, it is another gateway's.
const SKEW_MS: i64 = 5_000;
/// What is forgotten in one step is forgotten as if an hour had gone by at most.
const LONGEST_MS: i64 = 3_600_000;
/// The window that a high rate of failures is looked for in, in seconds.
const WINDOW_S: i64 = 10;
/// With fewer calls in it a window says nothing.
const WINDOW_CALLS: u32 = 10;
/// A success rate that is certainly below this is an outage too.
const WINDOW_RATE: f64 = 0.60;
/// An account is in use when it was used within this time.
const IN_USE_MS: i64 = 600_000;
/// A route is silent for so long after the last payment that took it without a call.
const SILENT_MS: i64 = 60_000;
/// A route that may be in trouble is asked when it was not heard of for so long.
const UNHEARD_MS: i64 = 500;
/// So many gateways' flushes are told apart.
const GATEWAYS: usize = 16;
/// So many accounts are remembered as used or failing.
const ACCOUNTS: usize = 4;

/// A second of the window.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Second {
    at: i64,
    good: u32,
    failed: u32,
}

/// The health of one subject.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Vital {
    /// The caller's clock when it was last looked at.
    seen_ms: i64,
    /// Its own clock: the sum of steps that a leap does not lengthen.
    own: i64,
    manner: Manner,
    score: Score,
    latencies: Latencies,
    window: Vec<Second>,
    run: Run,
    /// Accounts, and when they were last used, on its own clock.
    in_use: Vec<(AccountHash, i64)>,
    /// The same for their last failures.
    failing: Vec<(AccountHash, i64)>,
    breaker: Breaker,
    /// When a call last ended.
    heard_at: i64,
    /// When a payment last took the route without a call.
    silent_at: Option<i64>,
    /// What of which gateway is in it: gateway, number of its last flush.
    flushes: Vec<(u32, u32)>,
}

impl Vital {
    /// A subject that nothing is known of.
    #[must_use]
    pub fn new(manner: Manner, now_ms: i64) -> Self {
        Self {
            seen_ms: now_ms,
            own: 0,
            manner,
            score: Score::default(),
            latencies: Latencies::default(),
            window: Vec::new(),
            run: Run::default(),
            in_use: Vec::new(),
            failing: Vec::new(),
            breaker: Breaker::default(),
            heard_at: 0,
            silent_at: None,
            flushes: Vec::new(),
        }
    }

    /// Lets time go by: forgetting, and what the breaker waits for.
    pub fn tick(&mut self, now_ms: i64) {
        let gone = now_ms.saturating_sub(self.seen_ms);
        if gone <= 0 {
            if gone < -SKEW_MS {
                self.seen_ms = now_ms;
            }
            return;
        }
        self.seen_ms = now_ms;
        self.own = self.own.saturating_add(gone.min(STEP_MS));
        self.score.decay(u32::try_from(gone.min(LONGEST_MS)).unwrap_or(0));
        if gone > WINDOW_S * 1_000 {
            self.window.clear();
        }
        self.breaker.tick(self.manner, self.at());
    }

    /// Takes in what a gateway has learned.
    pub fn apply(&mut self, delta: &Delta, now_ms: i64) {
        self.tick(now_ms);
        self.note_accounts(delta);
        if delta.good > 0 || delta.failed > 0 {
            self.heard_at = self.own;
        }
        if delta.silent {
            self.silent_at = Some(self.own);
        }
        self.latencies.merge(&delta.latencies);
        match self.gate() {
            // It is taken out already: what still comes in from before says nothing new.
            Gate::Open => {}
            Gate::Trial => {
                self.score.add(delta.good, delta.failed, delta.trail.length);
                self.breaker.real(delta.good, delta.failed.saturating_sub(delta.retracted), self.at());
            }
            Gate::Closed | Gate::Ramping => self.count(delta),
        }
        if delta.retracted > 0 {
            self.score.retract(delta.retracted);
            self.breaker.retract(delta.retracted, self.at());
        }
        if delta.claim {
            self.claim_probe(now_ms);
        }
        if delta.probes_good > 0 || delta.probes_bad {
            self.breaker.probed(delta.probes_good, delta.probes_bad, self.manner, self.at());
        }
    }

    fn count(&mut self, delta: &Delta) {
        self.score.add(delta.good, delta.failed, delta.trail.length);
        self.breaker.real(delta.good, delta.failed, self.at());
        let rows = if delta.good == 0 {
            [Some(std::mem::take(&mut self.run).then(&delta.trail)), None, None]
        } else {
            let lead = std::mem::take(&mut self.run).then(&delta.lead);
            [Some(lead), Some(delta.inner.clone()), Some(delta.trail.clone())]
        };
        let needed = self.trip_after();
        for row in rows.into_iter().flatten() {
            if row.length >= needed && row.accounts.count() >= self.accounts_needed() {
                self.trip(row.length, needed);
                return;
            }
            self.run = row;
        }
        self.fill_window(delta.good, delta.failed, delta.retracted);
        let (good, failed) = self.window_sums();
        let enough = good.saturating_add(failed) >= WINDOW_CALLS;
        if enough && wilson_upper(good, failed) < WINDOW_RATE && self.failing_lately() >= self.accounts_needed() {
            self.trip(failed, failed);
        }
    }

    fn trip(&mut self, evidence: u32, needed: u32) {
        self.score.forgive(evidence);
        self.window.clear();
        self.run = Run::default();
        self.breaker.trip(evidence, needed, self.at());
    }

    fn note_accounts(&mut self, delta: &Delta) {
        note(&mut self.in_use, delta.used.iter(), self.own);
        for row in [&delta.lead, &delta.inner, &delta.trail] {
            note(&mut self.failing, row.accounts.iter(), self.own);
        }
    }

    /// A breaker over several accounts opens for failures of two of them, since one alone may be its own fault.
    fn accounts_needed(&self) -> usize {
        since(&self.in_use, self.own - IN_USE_MS).min(2)
    }

    fn failing_lately(&self) -> usize {
        since(&self.failing, self.own - WINDOW_S * 1_000)
    }

    fn fill_window(&mut self, good: u32, failed: u32, retracted: u32) {
        let at = self.own / 1_000;
        self.window.retain(|second| second.at > at - WINDOW_S);
        match self.window.last_mut() {
            Some(second) if second.at == at => {
                second.good = second.good.saturating_add(good);
                second.failed = second.failed.saturating_add(failed);
            }
            _ => self.window.push(Second { at, good, failed }),
        }
        // The suspicion was a moment ago, mostly in a second before this one.
        let mut left = retracted;
        for second in self.window.iter_mut().rev() {
            let taken = left.min(second.failed);
            second.failed -= taken;
            left -= taken;
        }
    }

    fn window_sums(&self) -> (u32, u32) {
        self.window.iter().fold((0, 0), |(good, failed), second| {
            (second.good.saturating_add(good), second.failed.saturating_add(failed))
        })
    }

    /// Takes the right to ask the provider whether it is back: true for one asker at a time. Where the state is
    /// shared, the right is had once this state was written.
    pub fn claim_probe(&mut self, now_ms: i64) -> bool {
        self.tick(now_ms);
        let due = self.probe_due();
        if due {
            self.breaker.claim_probe(self.own, self.manner);
        }
        due
    }

    /// A probe came back. Says something only while it is open.
    pub fn probed(&mut self, good: bool, now_ms: i64) {
        let mut delta = Delta::default();
        delta.probed(good);
        self.apply(&delta, now_ms);
    }

    /// Whether a probe is due at the time of the last look.
    #[must_use]
    pub fn probe_due(&self) -> bool {
        self.breaker.probe_due(self.own, self.is_unheard())
    }

    /// Whether payments take this route without a call that would show how it is.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.silent_at.is_some_and(|at| self.own - at <= SILENT_MS)
    }

    /// Whether probes stand for calls: there are none, or none any more because the last ones went wrong.
    #[must_use]
    pub fn is_unheard(&self) -> bool {
        self.is_silent() || (self.score.is_doubtful() && self.own.saturating_sub(self.heard_at) >= UNHEARD_MS)
    }

    /// The breaker's word.
    #[must_use]
    pub const fn gate(&self) -> Gate {
        self.breaker.gate()
    }

    /// The breaker.
    #[must_use]
    pub const fn breaker(&self) -> &Breaker {
        &self.breaker
    }

    /// What is believed of its success rate.
    #[must_use]
    pub const fn score(&self) -> &Score {
        &self.score
    }

    /// How long its calls take.
    #[must_use]
    pub const fn latencies(&self) -> &Latencies {
        &self.latencies
    }

    /// The part of the traffic that may pass, 0 to 1.
    #[must_use]
    pub fn share(&self) -> f64 {
        self.breaker.share(self.own, self.manner)
    }

    /// How many consecutive failures take it out now.
    #[must_use]
    pub fn trip_after(&self) -> u32 {
        trip_after(self.score.rate(), self.score.failure_rate())
    }

    /// How many consecutive failures it has.
    #[must_use]
    pub const fn run(&self) -> u32 {
        self.run.length
    }

    /// Whether this flush of that gateway's is in it.
    #[must_use]
    pub fn includes(&self, gateway: u32, flush: u32) -> bool {
        self.flushes.iter().any(|(g, last)| *g == gateway && *last >= flush)
    }

    pub(super) fn flushed(&mut self, gateway: u32, flush: u32) {
        self.flushes.retain(|(g, _)| *g != gateway);
        if self.flushes.len() >= GATEWAYS {
            self.flushes.remove(0);
        }
        self.flushes.push((gateway, flush));
    }

    /// Whether it is what our own code could have written: what is stored elsewhere may be anything.
    #[must_use]
    pub fn is_sane(&self) -> bool {
        self.score.is_sane()
            && self.latencies.is_sane()
            && (0..=i64::MAX / 4).contains(&self.own)
            && (i64::MIN / 4..=i64::MAX / 4).contains(&self.seen_ms)
            && self.window.len() <= 16
            && self.flushes.len() <= GATEWAYS
            && self.in_use.len() <= ACCOUNTS
            && self.failing.len() <= ACCOUNTS
    }

    const fn at(&self) -> At {
        At { own: self.own, now_ms: self.seen_ms }
    }
}

fn note(list: &mut Vec<(AccountHash, i64)>, accounts: impl Iterator<Item = AccountHash>, own: i64) {
    for account in accounts {
        list.retain(|(a, _)| *a != account);
        if list.len() >= ACCOUNTS {
            list.remove(0);
        }
        list.push((account, own));
    }
}

fn since(list: &[(AccountHash, i64)], own: i64) -> usize {
    list.iter().filter(|(_, at)| *at >= own).count()
}
