//! All that the gateways of a cluster know together of one subject. It is stored as one value, and
//! replaced by compare-and-set; all that is ever done to it is done here, so that there is one
//! implementation. Pure: the time is handed in, and a clock that leaps can neither open a breaker
//! nor close one.

use serde::{Deserialize, Serialize};

use super::BreakerState;
use super::breaker::{At, Breaker, BreakerConfig};
use super::delta::{Delta, MOST_CALLS, MerchantHash, Run};
use super::latency::Latencies;
use super::score::{Score, trip_after, wilson_upper};
use crate::{mutate, mutated};

/// The shape and the meaning of a stored [`HealthRecord`], the pace of its probes included: part of
/// the key that it lies under, so that two versions of the program that differ in it do not read
/// each other's.
pub const FORMAT: u32 = 2;

/// A step of the breaker's own clock is at most this long. Whoever looks after a subject does so
/// more often.
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
/// A merchant takes part when it has called within this time.
const IN_USE_MS: i64 = 60_000;
/// A route is silent for so long after the last payment that took it without a call.
const SILENT_MS: i64 = 60_000;
/// A route that may be in trouble is asked when it was not heard of for so long.
const UNHEARD_MS: i64 = 500;
/// So many gateways' flushes are told apart.
const GATEWAYS: usize = 16;
/// So many merchants are remembered as taking part or failing.
const MERCHANTS: usize = 4;

/// A second of the window.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Second {
    at: i64,
    good: u32,
    failed: u32,
}

/// The health of one subject.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HealthRecord {
    /// The caller's clock when it was last looked at.
    seen_ms: i64,
    /// Its own clock: the sum of steps that a leap does not lengthen.
    own: i64,
    manner: BreakerConfig,
    score: Score,
    latencies: Latencies,
    window: Vec<Second>,
    run: Run,
    /// Merchants, and when one of their accounts was last used, on its own clock.
    in_use: Vec<(MerchantHash, i64)>,
    /// The same for their last failures.
    failing: Vec<(MerchantHash, i64)>,
    breaker: Breaker,
    /// When a call last ended.
    heard_at: i64,
    /// When somebody was last answered, by a call or by a probe.
    worked_at: Option<i64>,
    /// When a probe last came back.
    probed_at: Option<i64>,
    /// When a payment last took the route without a call.
    silent_at: Option<i64>,
    /// What of which gateway is in it: gateway, number of its last flush.
    flushes: Vec<(u32, u32)>,
}

impl HealthRecord {
    /// A subject that nothing is known of.
    #[must_use]
    pub fn new(manner: BreakerConfig, now_ms: i64) -> Self {
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
            worked_at: None,
            probed_at: None,
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
        self.score
            .decay(u32::try_from(gone.min(LONGEST_MS)).unwrap_or(0));
        if gone > WINDOW_S * 1_000 {
            self.window.clear();
        }
        self.breaker.tick(self.manner, self.at());
    }

    /// Takes in what a gateway has learned.
    pub fn apply(&mut self, delta: &Delta, now_ms: i64) {
        self.tick(now_ms);
        self.note_merchants(delta);
        if delta.good > 0 || delta.failed > 0 {
            self.heard_at = self.own;
        }
        if delta.silent {
            self.silent_at = Some(self.own);
        }
        self.latencies.merge(&delta.latencies);
        if delta.answered.count() > 0 {
            self.worked_at = Some(self.own);
        }
        if delta.probes_good > 0 || delta.probes_bad {
            self.probed_at = Some(self.own);
        }

        if self
            .breaker
            .of()
            .is_some_and(|of| self.is_out() && delta.answered.iter().any(|other| other != of))
        {
            self.breaker.exonerate(self.at());
        }
        match self.gate() {
            BreakerState::Open => self.spread(delta),
            BreakerState::Trial => self.on_trial(delta),
            BreakerState::Closed | BreakerState::Ramping => self.count(delta),
        }

        if delta.retracted > 0 {
            self.score.retract(delta.retracted);
            self.breaker.retract(delta.retracted, self.at());
        }
        if delta.claim {
            self.claim_probe(now_ms);
        }

        if delta.probes_good > 0 || delta.probes_bad {
            self.breaker
                .probed(delta.probes_good, delta.probes_bad, self.manner, self.at());
        }
    }

    fn count(&mut self, delta: &Delta) {
        self.score.add(delta.good, delta.failed, delta.trail.length);
        self.breaker.real(delta.good, delta.failed, None, self.at());
        let rows = if delta.good == 0 {
            [
                Some(std::mem::take(&mut self.run).then(&delta.trail)),
                None,
                None,
            ]
        } else {
            let lead = std::mem::take(&mut self.run).then(&delta.lead);
            [
                Some(lead),
                Some(delta.inner.clone()),
                Some(delta.trail.clone()),
            ]
        };

        let (needed, alone) = (self.trip_after(), !self.is_shared());
        for row in rows.into_iter().flatten() {
            if believed(&row, alone) >= needed {
                self.trip(row.length, needed, one_of(&row, needed));
                return;
            }
            self.run = row;
        }

        self.fill_window(delta.good, delta.failed, delta.retracted);
        let (good, failed) = self.window_sums();
        let enough = good.saturating_add(failed) >= WINDOW_CALLS;

        // Where several merchants call and one of them is answered, it is not the provider that is
        // out: routes have breakers of their own for that.
        if alone && enough && wilson_upper(good, failed) < WINDOW_RATE && self.failing_lately() > 0
        {
            let of = self.failing.last().map(|(merchant, _)| *merchant);
            let of = of.filter(|_| !mutated!(OneMerchantTrips));
            self.trip(failed, failed, of);
        }
    }

    /// It is taken out already, and what still comes in from before says nothing new; but for an
    /// outage that only one merchant has seen, until others have seen it as well.
    fn spread(&mut self, delta: &Delta) {
        let Some(of) = self.breaker.of() else { return };
        let before = std::mem::take(&mut self.run);
        self.run = if delta.good == 0 {
            before.then(&delta.trail)
        } else {
            delta.trail.clone()
        };
        let others = self.run.length.saturating_sub(self.run.merchants.times(of));
        if others.saturating_mul(2) >= self.trip_after() {
            self.breaker.is_everybodys();
        }
    }

    /// A trial that fails says something of its merchant alone where others call as well, until one
    /// of theirs fails, too.
    fn on_trial(&mut self, delta: &Delta) {
        self.score.add(delta.good, delta.failed, delta.trail.length);
        let before = std::mem::take(&mut self.run);

        self.run = if delta.good == 0 {
            before.then(&delta.trail)
        } else {
            delta.trail.clone()
        };

        let enough = !self.is_shared() || self.run.merchants.count() > 1 || self.run.length == 0;
        let failed = if enough {
            delta.failed.saturating_sub(delta.retracted)
        } else {
            0
        };

        let of = self
            .run
            .merchants
            .iter()
            .next()
            .filter(|_| self.run.merchants.count() == 1);

        self.breaker.real(delta.good, failed, of, self.at());
        if self.gate() == BreakerState::Open {
            self.run = Run::default();
        }
    }

    fn trip(&mut self, evidence: u32, needed: u32, of: Option<MerchantHash>) {
        self.score.forgive(evidence);
        self.window.clear();
        self.run = Run::default();
        self.breaker.trip(evidence, needed, of, self.at());
    }

    fn note_merchants(&mut self, delta: &Delta) {
        note(&mut self.in_use, delta.used.iter(), self.own);
        for row in [&delta.lead, &delta.inner, &delta.trail] {
            note(&mut self.failing, row.merchants.iter(), self.own);
        }
    }

    /// Whether several merchants have called within the last minute: then one of them alone may be
    /// its own trouble.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        mutate!(OneMerchantTrips => return false);
        since(&self.in_use, self.own - IN_USE_MS) > 1
    }

    fn failing_lately(&self) -> usize {
        since(&self.failing, self.own - WINDOW_S * 1_000)
    }

    fn is_out(&self) -> bool {
        match self.gate() {
            BreakerState::Closed => false,
            BreakerState::Ramping | BreakerState::Trial | BreakerState::Open => true,
        }
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
            (
                second.good.saturating_add(good),
                second.failed.saturating_add(failed),
            )
        })
    }

    /// Takes the right to ask the provider whether it is back: true for one asker at a time. Where
    /// the state is shared, the right is had once this state was written.
    pub fn claim_probe(&mut self, now_ms: i64) -> bool {
        self.tick(now_ms);
        let due = self.probe_due();
        if due {
            self.breaker.claim_probe(self.own, self.manner);
        }
        due
    }

    /// Whether a probe is due at the time of the last look.
    #[must_use]
    pub fn probe_due(&self) -> bool {
        self.breaker.probe_due(self.own, self.is_unheard())
    }

    /// For how long nobody has been answered, in milliseconds; `None` if nobody ever was.
    #[must_use]
    pub fn worked_ago_ms(&self) -> Option<i64> {
        self.worked_at.map(|at| self.own.saturating_sub(at))
    }

    /// When a probe last came back, on its own clock: another number after each.
    #[must_use]
    pub const fn probed_at(&self) -> Option<i64> {
        self.probed_at
    }

    /// Whether somebody has to ask from time to time.
    #[must_use]
    pub fn wants_probes(&self) -> bool {
        self.gate() == BreakerState::Open || self.is_unheard()
    }

    /// How it is to be treated.
    #[must_use]
    pub const fn manner(&self) -> BreakerConfig {
        self.manner
    }

    /// Whether payments take this route without a call that would show how it is.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.silent_at.is_some_and(|at| self.own - at <= SILENT_MS)
    }

    /// Whether probes stand for calls: there are none, or none any more because the last ones went
    /// wrong.
    #[must_use]
    pub fn is_unheard(&self) -> bool {
        self.is_silent()
            || (self.score.is_doubtful() && self.own.saturating_sub(self.heard_at) >= UNHEARD_MS)
    }

    /// The breaker's word.
    #[must_use]
    pub const fn gate(&self) -> BreakerState {
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
        self.flushes
            .iter()
            .any(|(g, last)| *g == gateway && *last >= flush)
    }

    /// The last flush of that gateway's that is in it.
    pub(super) fn flush_of(&self, gateway: u32) -> Option<u32> {
        self.flushes
            .iter()
            .find(|(g, _)| *g == gateway)
            .map(|(_, last)| *last)
    }

    pub(super) fn flushed(&mut self, gateway: u32, flush: u32) {
        self.flushes.retain(|(g, _)| *g != gateway);
        if self.flushes.len() >= GATEWAYS {
            self.flushes.remove(0);
        }
        self.flushes.push((gateway, flush));
    }

    /// Whether it is what our own code could have written by `now_ms` of a subject that is treated
    /// like this: what is stored elsewhere may be anything. Nothing that passes can keep payments
    /// away for longer than what has happened would: no time lies ahead but that of the next probe,
    /// and that one no further than a probe's pause.
    #[must_use]
    pub fn is_sane(&self, manner: BreakerConfig, now_ms: i64) -> bool {
        let past = 0..=self.own;
        let merchants = |list: &[(MerchantHash, i64)]| {
            list.len() <= MERCHANTS && list.iter().all(|(_, at)| past.contains(at))
        };
        let second = |s: &Second| {
            (0..=self.own / 1_000).contains(&s.at) && s.good.max(s.failed) <= MOST_CALLS
        };

        (0..=i64::MAX / 4).contains(&self.own)
            && (0..=now_ms.saturating_add(super::AHEAD_MS)).contains(&self.seen_ms)
            && self.manner == manner
            && self.score.is_sane()
            && self.latencies.is_sane()
            && self.breaker.is_sane(self.own, manner, now_ms)
            && self.run.is_sane()
            && self.window.len() <= 16
            && self.window.iter().all(second)
            && self.flushes.len() <= GATEWAYS
            && merchants(&self.in_use)
            && merchants(&self.failing)
            && past.contains(&self.heard_at)
            && [self.worked_at, self.probed_at, self.silent_at]
                .iter()
                .flatten()
                .all(|at| past.contains(at))
    }

    const fn at(&self) -> At {
        At {
            own: self.own,
            now_ms: self.seen_ms,
        }
    }
}

fn note(
    list: &mut Vec<(MerchantHash, i64)>,
    merchants: impl Iterator<Item = MerchantHash>,
    own: i64,
) {
    for merchant in merchants {
        list.retain(|(m, _)| *m != merchant);
        if list.len() >= MERCHANTS {
            list.remove(0);
        }
        list.push((merchant, own));
    }
}

fn since(list: &[(MerchantHash, i64)], own: i64) -> usize {
    list.iter().filter(|(_, at)| *at >= own).count()
}

/// How many failures this row is, for one merchant alone or among several.
fn believed(row: &Run, alone: bool) -> u32 {
    if alone { row.length } else { row.agreed() }
}

/// Whose row it is, unless others have had their part in it.
fn one_of(row: &Run, needed: u32) -> Option<MerchantHash> {
    mutate!(OneMerchantTrips => return None);
    row.merchants
        .most()
        .filter(|_| row.agreed() < needed)
        .map(|(merchant, _)| merchant)
}
