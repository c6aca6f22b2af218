//! How likely a call over a route succeeds: what was seen lately (discounted), on top of what is
//! known from long ago (the prior). Draws for Thompson sampling come from it. Never counts what a
//! breaker has dealt with: an outage says nothing about the time after it.
#![expect(clippy::float_arithmetic, reason = "statistics; nothing here is money")]

use rand::Rng;
use rand_distr::{Beta, Distribution as _};
use serde::{Deserialize, Serialize};

/// Calls a second from which on memory is short, since it fills quickly.
const BUSY: f64 = 10.0;
/// How long an outcome is remembered, in seconds.
const MEMORY_S: f64 = 900.0;
/// The same for a busy route.
const MEMORY_BUSY_S: f64 = 300.0;
/// So many outcomes weigh at most.
const MOST: f64 = 500.0;
/// How much the long-run rate weighs, in outcomes.
const PRIOR: f64 = 150.0;
/// What is believed of a route that nothing is known of.
const UNKNOWN: f64 = 0.99;
/// As if so many outcomes had told that.
const UNKNOWN_WEIGHT: f64 = 100.0;
/// The long-run rate is that of about so many outcomes …
const LONG_RUN: f64 = 2_000.0;
/// … or, on a busy route, of so many seconds: 2,000 outcomes at 100/s would be the last 20 seconds.
const LONG_RUN_S: f64 = 1_800.0;
/// Over how many seconds the arrival rate is measured.
const RATE_S: f64 = 30.0;
/// What is left of the successes in a brown-out.
const BROWN_OUT: f64 = 0.7;
/// What is left of them in an outage: late answers of calls that began before it.
const OUTAGE: f64 = 0.02;
/// How likely trouble is when nothing speaks for it.
const TROUBLE_LEAST: f64 = 5e-4;
/// How likely it can seem, as odds: it has to be possible to believe the contrary again.
const TROUBLE_MOST: f64 = 200.0;
/// How fast trouble is believed to be over when nobody looks.
const TROUBLE_S: f64 = 60.0;
/// So many outcomes are weighed one by one.
const AT_ONCE: u32 = 1_000;
/// No route is busier, in outcomes a second.
const BUSIEST: f64 = 10_000.0;
/// From here on it is worth asking whether there is trouble.
const DOUBTFUL: f64 = 0.01;

/// What is believed of a success rate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Score {
    /// Successes, discounted.
    good: f64,
    /// Failures, discounted.
    failed: f64,
    /// The long-run success rate.
    long_run: f64,
    /// Of how many outcomes that is.
    known: f64,
    /// Failures since the last success: not in the long-run rate yet, since a breaker may yet take
    /// them.
    held: f64,
    /// Outcomes of the last `RATE_S` seconds, discounted.
    recent: f64,
    trouble: Unusual,
}

/// How likely it is that the route is in a brown-out or an outage right now, as odds against all
/// being well. One failure makes either a little likely already, and another route costs next to
/// nothing for as long as it takes to find out; what fails in trouble is put down to the trouble,
/// not to the route.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Unusual {
    brown_out: f64,
    outage: f64,
}

impl Default for Unusual {
    fn default() -> Self {
        Self {
            brown_out: TROUBLE_LEAST,
            outage: TROUBLE_LEAST,
        }
    }
}

impl Unusual {
    fn decay(&mut self, seconds: f64) {
        let left = (-seconds / TROUBLE_S).exp();
        self.brown_out *= left;
        self.outage *= left;
        self.limit();
    }

    fn good(&mut self, usual: f64) {
        self.brown_out *= BROWN_OUT / usual;
        self.outage *= OUTAGE / usual;
        self.limit();
    }

    fn failed(&mut self, usual: f64) {
        self.brown_out *= (1.0 - BROWN_OUT) / (1.0 - usual);
        self.outage *= (1.0 - OUTAGE) / (1.0 - usual);
        self.limit();
    }

    const fn limit(&mut self) {
        self.brown_out = self.brown_out.clamp(TROUBLE_LEAST, TROUBLE_MOST);
        self.outage = self.outage.clamp(TROUBLE_LEAST, TROUBLE_MOST);
    }

    /// How likely it is that all is well.
    fn none(&self) -> f64 {
        1.0 / (1.0 + self.brown_out + self.outage)
    }

    /// What is left of the successes, as far as is known.
    fn factor(&self) -> f64 {
        (1.0 + self.brown_out * BROWN_OUT) * self.none()
    }
}

impl Default for Score {
    fn default() -> Self {
        Self {
            good: 0.0,
            failed: 0.0,
            long_run: UNKNOWN,
            known: UNKNOWN_WEIGHT,
            held: 0.0,
            recent: 0.0,
            trouble: Unusual::default(),
        }
    }
}

impl Score {
    /// Time goes by.
    pub(super) fn decay(&mut self, elapsed_ms: u32) {
        let seconds = f64::from(elapsed_ms) / 1_000.0;
        let memory = if self.rate() > BUSY {
            MEMORY_BUSY_S
        } else {
            MEMORY_S
        };
        let discount = (-seconds / memory).exp();
        self.good *= discount;
        self.failed *= discount;
        self.recent *= (-seconds / RATE_S).exp();
        self.trouble.decay(seconds);
    }

    /// Outcomes; the last `trailing` of the failures came after the last success.
    pub(super) fn add(&mut self, good: u32, failed: u32, trailing: u32) {
        self.recent += f64::from(good) + f64::from(failed);
        let trailing = if good == 0 { 0 } else { trailing.min(failed) };
        let (earlier_failed, earlier_good) = self.outcomes(good, failed - trailing);
        let (trailing_failed, _) = self.outcomes(0, trailing);
        if good > 0 {
            self.learn(earlier_good, self.held + earlier_failed);
            self.held = trailing_failed;
        } else {
            self.held += earlier_failed;
        }
        let scale = MOST / (self.good + self.failed).max(MOST);
        self.good *= scale;
        self.failed *= scale;
    }

    /// Failures, and after them successes. Returns how many of them are the route's own, no
    /// trouble's.
    fn outcomes(&mut self, good: u32, failed: u32) -> (f64, f64) {
        let usual = self.long_run.clamp(0.9, 0.998);
        let (mut own_failed, mut own_good) = (0.0, 0.0);

        for _ in 0..failed.min(AT_ONCE) {
            self.trouble.failed(usual);
            own_failed += self.trouble.none();
        }
        for _ in 0..good.min(AT_ONCE) {
            self.trouble.good(usual);
            own_good += self.trouble.none();
        }

        // What goes beyond is as what came before.
        own_failed *= f64::from(failed) / f64::from(failed.clamp(1, AT_ONCE));
        own_good *= f64::from(good) / f64::from(good.clamp(1, AT_ONCE));
        self.failed += own_failed;
        self.good += own_good;

        (own_failed, own_good)
    }

    fn learn(&mut self, good: f64, failed: f64) {
        let new = good + failed;
        if new <= 0.0 {
            return;
        }
        let most = LONG_RUN.max(self.rate() * LONG_RUN_S);
        self.known = (self.known + new).min(most);
        let part = (new / self.known).min(1.0);
        self.long_run += (good / new - self.long_run) * part;
    }

    /// Suspected failures were none.
    pub(super) fn retract(&mut self, count: u32) {
        self.failed = (self.failed - f64::from(count)).max(0.0);
        self.held = (self.held - f64::from(count)).max(0.0);
    }

    /// A breaker has dealt with these failures.
    pub(super) fn forgive(&mut self, failed: u32) {
        self.failed = (self.failed - f64::from(failed)).max(0.0);
        self.held = 0.0;
        self.trouble = Unusual::default();
    }

    /// Outcomes a second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.recent / RATE_S
    }

    /// The long-run part of calls that fail for technical reasons.
    #[must_use]
    pub fn failure_rate(&self) -> f64 {
        1.0 - self.long_run
    }

    /// The believed success rate.
    #[must_use]
    pub fn mean(&self) -> f64 {
        let (a, b) = self.shape();
        a / (a + b) * self.trouble.factor()
    }

    /// Whether it may be in trouble.
    #[must_use]
    pub fn is_doubtful(&self) -> bool {
        self.trouble.none() < 1.0 - DOUBTFUL
    }

    /// Of a thousand calls so many are believed to fail now for technical reasons, 0 to 1,000.
    #[must_use]
    pub fn failing_permille(&self) -> i64 {
        permille(1.0 - self.mean())
    }

    /// The same in the long run.
    #[must_use]
    pub fn usually_failing_permille(&self) -> i64 {
        permille(self.failure_rate())
    }

    /// A draw from what is believed.
    pub fn draw(&self, rng: &mut impl Rng) -> f64 {
        let (a, b) = self.shape();
        Beta::new(a, b).map_or_else(
            |_| self.mean(),
            |beta| beta.sample(rng) * self.trouble.factor(),
        )
    }

    fn shape(&self) -> (f64, f64) {
        // Not below a little: a route that never failed may yet fail, and Beta needs both.
        let (a, b) = (
            PRIOR * self.long_run + self.good,
            PRIOR * (1.0 - self.long_run) + self.failed,
        );
        (a.max(0.05), b.max(0.05))
    }

    /// Whether it is what our own code could have written.
    pub(super) fn is_sane(&self) -> bool {
        // A little more than there can be: sums of floating numbers are not exact.
        let (seen, busiest) = (0.0..=MOST * 1.01, 0.0..=BUSIEST * RATE_S);
        let known = 0.0..=LONG_RUN.max(BUSIEST * LONG_RUN_S);
        [self.good, self.failed, self.good + self.failed]
            .iter()
            .all(|n| seen.contains(n))
            && [self.held, self.recent].iter().all(|n| busiest.contains(n))
            && known.contains(&self.known)
            && (0.0..=1.0).contains(&self.long_run)
            && [self.trouble.brown_out, self.trouble.outage]
                .iter()
                .all(|n| (TROUBLE_LEAST * 0.99..=TROUBLE_MOST * 1.01).contains(n))
    }
}

#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    reason = "0 to 1,000 by then"
)]
fn permille(part: f64) -> i64 {
    (part.clamp(0.0, 1.0) * 1_000.0).round() as i64
}

/// The highest success rate that still fits these outcomes (Wilson's bound, z = 2.576: one in 200
/// is above).
#[must_use]
pub fn wilson_upper(good: u32, failed: u32) -> f64 {
    const Z: f64 = 2.576;
    let n = f64::from(good) + f64::from(failed);
    if n == 0.0 {
        return 1.0;
    }
    let (p, z2) = (f64::from(good) / n, Z * Z);
    (p + z2 / (2.0 * n) + Z * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt()) / (1.0 + z2 / n)
}

/// After how many consecutive failures a route is taken out: as many as a healthy one shows once a
/// day.
#[must_use]
pub fn trip_after(rate: f64, failure_rate: f64) -> u32 {
    const FEWEST: u32 = 4;
    const MOST_RUN: u32 = 8;
    let calls_a_day = (86_400.0 * rate).max(1.0);
    let q = failure_rate.clamp(1e-4, 0.5);
    let k = (calls_a_day.ln() / (1.0 / q).ln()).ceil();
    (FEWEST..MOST_RUN)
        .find(|n| f64::from(*n) >= k)
        .unwrap_or(MOST_RUN)
}
