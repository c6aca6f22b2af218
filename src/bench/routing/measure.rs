//! What the figures mean, and how they are taken from what was played.
#![expect(clippy::float_arithmetic, reason = "statistics; no money moves here")]

use super::mean::mean;
use super::play::{Paid, Played};
use super::world::{Trouble, World};

/// A strategy is said to use a route from this part of its payments on.
const IN_USE: f64 = 0.5;
/// How far back its share is looked at, before an outage.
const BEFORE_MS: i64 = 60_000;

/// A strategy at a rate, over all worlds.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) strategy: &'static str,
    pub(super) rate: u32,
    pub(super) measured: Measured,
}

/// The figures.
#[derive(Debug, Clone, Copy, Default)]
pub struct Measured {
    /// Part of the payments whose first call was answered, in percent.
    pub success: f64,
    /// Part of the payments that were answered by any of their calls, in percent.
    pub served: f64,
    /// By how much the first route's true success rate was below the best one's, in percentage
    /// points.
    pub gap_pp: f64,
    pub wasted: Option<f64>,
    pub wasted_bound: f64,
    pub shift_s: Option<f64>,
    pub shift_worst_s: f64,
    pub return_s: Option<f64>,
    pub return_worst_s: f64,
    /// Outages that hit the route in use, and those of them after which it was the best one again.
    pub outages: usize,
    pub returns: usize,
}

/// Adds up.
#[derive(Debug, Default)]
pub struct Sums {
    payments: f64,
    answered: f64,
    served: f64,
    gap: f64,
    wasted: Vec<f64>,
    bounds: Vec<f64>,
    shifts: Vec<f64>,
    returns: Vec<f64>,
}

impl Sums {
    /// One more world.
    pub fn add(&mut self, world: &World, rate: u32, played: &Played, bound: f64) {
        for paid in played
            .payments
            .iter()
            .filter(|paid| paid.at_ms >= world.counted_from_ms())
        {
            let best = world.best(paid.at_ms).1;
            let chosen = paid
                .first
                .map_or(0.0, |route| world.success(route, paid.at_ms));
            self.payments += 1.0;
            self.gap += best - chosen;
            self.answered += f64::from(u8::from(paid.answered));
            self.served += f64::from(u8::from(paid.served));
        }

        self.bounds.push(bound);
        for (trouble, calls) in world
            .troubles
            .iter()
            .zip(&played.calls)
            .filter(|(t, _)| t.is_outage())
        {
            self.outage(world, trouble, *calls, rate, &played.payments);
        }
    }

    fn outage(
        &mut self,
        world: &World,
        trouble: &Trouble,
        calls: u32,
        rate: u32,
        payments: &[Paid],
    ) {
        let between = |from_ms: i64, until_ms: i64| {
            let from = payments.partition_point(|paid| paid.at_ms < from_ms);
            let until = payments.partition_point(|paid| paid.at_ms < until_ms);
            payments.get(from..until).unwrap_or_default()
        };
        let before = share(
            between(trouble.from_ms - BEFORE_MS, trouble.from_ms),
            trouble.route,
        );
        if before < IN_USE {
            return;
        }
        self.wasted.push(f64::from(calls));

        // Few, so that those that did go there do not get lost among many; many, so that luck does
        // not look like it.
        let (shifted, returned) = (20, usize::try_from((5 * rate).max(20)).unwrap_or(20));
        let next_trouble = world
            .troubles
            .iter()
            .map(|t| t.from_ms)
            .filter(|from| *from >= trouble.until_ms)
            .min();

        let calm_until = next_trouble.unwrap_or(world.length_ms);
        let first = |from_ms: i64, until_ms: i64, sample: usize, is_it: &dyn Fn(f64) -> bool| {
            let payments = between(from_ms, until_ms);
            let found = payments
                .windows(sample)
                .find(|window| is_it(share(window, trouble.route)));
            // One that never comes takes at least until then.
            let at_ms = found
                .and_then(|window| window.first())
                .map_or(until_ms, |paid| paid.at_ms);
            i32::try_from(at_ms - from_ms).map_or(0.0, f64::from) / 1_000.0
        };

        self.shifts.push(first(
            trouble.from_ms,
            trouble.until_ms,
            shifted,
            &|share| share < 0.1,
        ));

        // Somebody who has found a better route meanwhile has no reason to come back.
        let is_best = |at_ms| world.best(at_ms).0 == trouble.route;
        let best_before = world.best(trouble.from_ms - 1).0 == trouble.route;
        let best_after = (0..6).all(|step| is_best(trouble.until_ms + step * 10_000));

        if best_before && best_after {
            self.returns
                .push(first(trouble.until_ms, calm_until, returned, &|share| {
                    share >= before / 2.0
                }));
        }
    }

    /// The figures.
    pub fn measured(&self) -> Measured {
        let part = |sum: f64| 100.0 * sum / self.payments.max(1.0);
        let worst = |values: &[f64]| values.iter().copied().fold(0.0, f64::max);
        Measured {
            success: part(self.answered),
            served: part(self.served),
            gap_pp: part(self.gap),
            wasted: mean(&self.wasted),
            wasted_bound: mean(&self.bounds).unwrap_or(0.0),
            shift_s: mean(&self.shifts),
            shift_worst_s: worst(&self.shifts),
            return_s: mean(&self.returns),
            return_worst_s: worst(&self.returns),
            outages: self.wasted.len(),
            returns: self.returns.len(),
        }
    }
}

fn share(payments: &[Paid], route: usize) -> f64 {
    let there: Vec<f64> = payments
        .iter()
        .map(|paid| f64::from(u8::from(paid.first == Some(route))))
        .collect();
    mean(&there).unwrap_or(0.0)
}
