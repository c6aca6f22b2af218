//! A world: three providers, how well they do at every moment, and when they break. All of it, and
//! every single call's luck, follows from a seed, and is the same whoever plays.
#![expect(clippy::float_arithmetic, reason = "statistics; no money moves here")]

use rand::rngs::Xoshiro256PlusPlus;
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use rand_distr::{Distribution as _, StandardNormal};

/// So many providers.
pub const ROUTES: usize = 3;
/// Names of the providers, in the order that `priority` has them, and their fees in parts per
/// million.
pub const PROVIDERS: [(&str, u32); ROUTES] =
    [("alipay", 6_000), ("wechatpay", 6_000), ("unionpay", 3_800)];
/// A call without an answer ends after this.
pub const TIMEOUT_MS: i64 = 3_000;
/// Nothing is counted before this, and nothing breaks.
pub const WARM_MS: i64 = 300_000;
/// A connection that is refused says so by then.
const REFUSED_MS: i64 = 20;
/// Success rates drift in steps of this.
const STEP_MS: i64 = 10_000;
/// Part of all payers who have no money or do not want to pay.
const DECLINES: f64 = 0.05;
/// Part of ordinary failures that are a missing answer; the others are answers such as "busy".
const SILENT: f64 = 0.2;
/// How calls' times spread around their median.
const SPREAD: f64 = 0.4;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// Every connection is refused.
    Refuses,
    /// No call is answered.
    Hangs,
    /// Some calls are answered, and slowly.
    BrownOut {
        /// Which part of them.
        success: f64,
        /// How much slower.
        slower: f64,
    },
}

/// A time in which something is wrong.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trouble {
    pub route: usize,
    pub from_ms: i64,
    pub until_ms: i64,
    pub kind: Kind,
}

impl Trouble {
    /// Whether it lets no call through.
    pub const fn is_outage(&self) -> bool {
        match self.kind {
            Kind::Refuses | Kind::Hangs => true,
            Kind::BrownOut { .. } => false,
        }
    }
}

#[derive(Debug, Clone)]
struct Nature {
    /// Part of calls that fail, step by step.
    failures: Vec<f64>,
    median_ms: f64,
}

/// How a call ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fate {
    pub after_ms: i64,
    /// Whether it was answered. A payer who declines was given an answer: the provider works.
    pub answered: bool,
    /// Whether it was the payer who said no.
    pub declined: bool,
}

/// A world.
#[derive(Debug, Clone)]
pub struct World {
    pub seed: u64,
    pub length_ms: i64,
    pub troubles: Vec<Trouble>,
    natures: Vec<Nature>,
}

impl World {
    /// Drifting success, an outage and a brown-out of each provider, one after the other at random
    /// times.
    pub fn troubled(seed: u64, number: u32, minutes: u32) -> Self {
        let mut rng = rng(seed, u64::from(number), 1);
        let length_ms = i64::from(minutes) * 60_000;
        let mut failures = [0.008, 0.014, 0.022];
        let mut medians = [120.0, 160.0, 220.0];
        failures.shuffle(&mut rng);
        medians.shuffle(&mut rng);
        let natures = failures
            .iter()
            .zip(medians)
            .map(|(f, m)| drifting(*f, m, length_ms, &mut rng))
            .collect();

        let mut slots: Vec<usize> = (0..2 * ROUTES).collect();
        slots.shuffle(&mut rng);
        // Short worlds, which tests play, warm up for a shorter time.
        let warm_ms = warm_ms(length_ms);
        let slot_ms = (length_ms - warm_ms) / 6;
        let mut troubles = Vec::new();

        for (slot, what) in slots.into_iter().enumerate() {
            let kind = match (what / ROUTES, rng.random_bool(0.5)) {
                (0, true) => Kind::Refuses,
                (0, false) => Kind::Hangs,
                _ => Kind::BrownOut {
                    success: rng.random_range(0.5..0.9),
                    slower: rng.random_range(1.0..4.0),
                },
            };
            let lasts_ms = rng.random_range(60_000..240_000).min(slot_ms / 3);
            let from_ms = warm_ms
                + slot_ms * i64::try_from(slot).unwrap_or(0)
                + rng.random_range(0..slot_ms / 3);
            troubles.push(Trouble {
                route: what % ROUTES,
                from_ms,
                until_ms: from_ms + lasts_ms,
                kind,
            });
        }

        Self {
            seed: rng.random(),
            length_ms,
            troubles,
            natures,
        }
    }

    /// The best provider is there for 3 s and away for 3 s, for 5 minutes; then all is well for a
    /// while.
    pub fn flapping(seed: u64, number: u32) -> Self {
        let mut rng = rng(seed, u64::from(number), 2);
        let kind = if rng.random_bool(0.5) {
            Kind::Refuses
        } else {
            Kind::Hangs
        };

        let begins = |flap: i64| 120_000 + flap * 6_000;
        let flaps = (0..50).map(begins);
        let troubles = flaps
            .map(|from_ms| Trouble {
                route: 0,
                from_ms,
                until_ms: from_ms + 3_000,
                kind,
            })
            .collect();

        let natures = [(0.005, 120.0), (0.03, 160.0), (0.04, 220.0)]
            .map(|(f, m)| steady(f, m))
            .to_vec();
        Self {
            seed: rng.random(),
            length_ms: 540_000,
            troubles,
            natures,
        }
    }

    /// All is well: one call in two hundred fails, as some always do.
    pub fn healthy(seed: u64, number: u32, minutes: u32) -> Self {
        let mut rng = rng(seed, u64::from(number), 3);
        let natures = [120.0, 160.0, 220.0]
            .map(|median| steady(0.005, median))
            .to_vec();
        Self {
            seed: rng.random(),
            length_ms: i64::from(minutes) * 60_000,
            troubles: Vec::new(),
            natures,
        }
    }

    /// What the providers take, in parts per million.
    pub fn fees(&self) -> [u32; ROUTES] {
        PROVIDERS.map(|(_, fee)| fee)
    }

    /// From when on is counted.
    pub const fn counted_from_ms(&self) -> i64 {
        warm_ms(self.length_ms)
    }

    /// How likely a call succeeds that begins now: what nobody inside the world knows.
    pub fn success(&self, route: usize, at_ms: i64) -> f64 {
        let usual = 1.0
            - self
                .natures
                .get(route)
                .map_or(0.0, |nature| nature.failure(at_ms));
        match self.trouble(route, at_ms).map(|trouble| trouble.kind) {
            None => usual,
            Some(Kind::Refuses | Kind::Hangs) => 0.0,
            Some(Kind::BrownOut { success, .. }) => usual * success,
        }
    }

    /// The route that is most likely to succeed now.
    pub fn best(&self, at_ms: i64) -> (usize, f64) {
        let routes = (0..ROUTES).map(|route| (route, self.success(route, at_ms)));
        routes.fold(
            (0, 0.0),
            |best, route| if route.1 > best.1 { route } else { best },
        )
    }

    pub fn trouble(&self, route: usize, at_ms: i64) -> Option<&Trouble> {
        self.troubles
            .iter()
            .find(|t| t.route == route && (t.from_ms..t.until_ms).contains(&at_ms))
    }

    /// How the call of this payment over this route ends, the same in every play.
    pub fn fate(&self, payment: u64, route: usize, at_ms: i64) -> Fate {
        let mut rng = rng(self.seed, payment, 16 + u64::try_from(route).unwrap_or(0));
        let normal: f64 = StandardNormal.sample(&mut rng);
        let (luck, silence, payer) = (
            rng.random::<f64>(),
            rng.random::<f64>(),
            rng.random::<f64>(),
        );

        let kind = self.trouble(route, at_ms).map(|trouble| trouble.kind);
        let (slower, silent) = match kind {
            None => (1.0, SILENT),
            Some(Kind::Refuses) => {
                return Fate {
                    after_ms: REFUSED_MS,
                    answered: false,
                    declined: false,
                };
            }
            Some(Kind::Hangs) => {
                return Fate {
                    after_ms: TIMEOUT_MS,
                    answered: false,
                    declined: false,
                };
            }
            Some(Kind::BrownOut { slower, .. }) => (slower, 0.5),
        };

        let median = self
            .natures
            .get(route)
            .map_or(0.0, |nature| nature.median_ms);
        let took = whole_ms(median * slower * (SPREAD * normal).exp()).min(TIMEOUT_MS);
        let answered = luck < self.success(route, at_ms) && took < TIMEOUT_MS;
        let after_ms = if !answered && silence < silent {
            TIMEOUT_MS
        } else {
            took
        };

        Fate {
            after_ms,
            answered,
            declined: answered && payer < DECLINES,
        }
    }

    /// When payments come in.
    pub fn arrivals(&self, rate: u32) -> impl Iterator<Item = i64> + use<> {
        let mut rng = rng(self.seed, u64::from(rate), 4);
        let (mut at, length_ms) = (0.0, self.length_ms);
        std::iter::from_fn(move || {
            let pause: f64 = -(1.0 - rng.random::<f64>()).ln();
            at += pause * 1_000.0 / f64::from(rate);
            Some(whole_ms(at)).filter(|at| *at < length_ms)
        })
    }
}

impl Nature {
    fn failure(&self, at_ms: i64) -> f64 {
        let step = usize::try_from(at_ms / STEP_MS).unwrap_or(0);
        self.failures
            .get(step)
            .or(self.failures.last())
            .copied()
            .unwrap_or(0.0)
    }
}

fn steady(failure: f64, median_ms: f64) -> Nature {
    Nature {
        failures: vec![failure],
        median_ms,
    }
}

/// A failure rate that wanders about its usual value: by a factor of 1.5 either way mostly, within
/// a quarter of an hour.
fn drifting(failure: f64, median_ms: f64, length_ms: i64, rng: &mut Xoshiro256PlusPlus) -> Nature {
    const DEVIATION: f64 = 0.4;
    const BACK: f64 = 10.0 / 900.0;
    let mut away: f64 = StandardNormal.sample(rng);
    away *= DEVIATION;
    let mut failures = Vec::new();
    for _ in 0..=length_ms / STEP_MS {
        failures.push((failure * away.exp()).min(0.2));
        let push: f64 = StandardNormal.sample(rng);
        away += -BACK * away + DEVIATION * (2.0 * BACK).sqrt() * push;
    }
    Nature {
        failures,
        median_ms,
    }
}

const fn warm_ms(length_ms: i64) -> i64 {
    if length_ms / 4 < WARM_MS {
        length_ms / 4
    } else {
        WARM_MS
    }
}

/// A generator for one purpose: numbers for one thing do not depend on how many another one took.
pub fn rng(seed: u64, number: u64, purpose: u64) -> Xoshiro256PlusPlus {
    let mixed = seed
        .wrapping_mul(0x9E37_79B9_7F4A_7C15)
        .wrapping_add(number)
        .wrapping_mul(0xBF58_476D_1CE4_E5B9)
        .wrapping_add(purpose);
    Xoshiro256PlusPlus::seed_from_u64(mixed)
}

#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    reason = "some hours at most"
)]
const fn whole_ms(ms: f64) -> i64 {
    ms as i64
}
