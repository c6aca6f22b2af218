//! The order of routes by how well they do, what they cost and how fast they are; and which routes
//! a payment may take at all, whatever its rule's strategy is.
#![expect(
    clippy::float_arithmetic,
    reason = "statistics; fees are only compared here, never charged"
)]

use std::cmp::Ordering;

use super::{BreakerState, RouteView};

/// What a route's success is weighed against.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weights {
    /// How much success a fee is worth: with 0.1, a fee lower by 1 % of the amount makes up for 0.1
    /// % of success.
    pub fee: f64,
    /// How much success it is worth to be as fast as is wanted rather than twice as slow.
    pub latency: f64,
    /// How fast is wanted: 95 of 100 calls within so many milliseconds.
    pub slo_ms: u32,
}

impl Default for Weights {
    fn default() -> Self {
        Self {
            fee: 0.1,
            latency: 0.005,
            slo_ms: 1_000,
        }
    }
}

/// A route that a payment may take.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// How it is.
    pub view: RouteView,
    /// Its fee, in parts per million of the amount: 6,000 is 0.6 %.
    pub fee_ppm: u32,
}

/// Where the breaker puts a route, whatever the strategy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum BreakerRank {
    /// As the strategy says.
    Able,
    /// Behind all that are able: it has just come back, and only takes a part of what it could.
    LastResort,
    /// It takes nothing now.
    Out,
}

/// Where the breaker puts this route for this payment.
#[must_use]
pub const fn standing(view: &RouteView) -> BreakerRank {
    match (view.is_admitted, view.gate) {
        (true, _) => BreakerRank::Able,
        (false, BreakerState::Ramping | BreakerState::Closed) => BreakerRank::LastResort,
        (false, BreakerState::Trial | BreakerState::Open) => BreakerRank::Out,
    }
}

/// In which order routes stand by their breakers, the first one first: those on trial, those that
/// are able, those that are a last resort.
#[must_use]
pub const fn place(view: &RouteView) -> (BreakerRank, bool) {
    (standing(view), !matches!(view.gate, BreakerState::Trial))
}

/// How good it is to take this route: its chance, less what its fee (in parts per million of the
/// amount) and its slowness weigh.
#[must_use]
pub fn utility(view: &RouteView, fee_ppm: u32, weights: Weights) -> f64 {
    let slo = f64::from(weights.slo_ms.max(1));
    let too_slow = view
        .p95_ms
        .map_or(0.0, |p95| (f64::from(p95) - slo).max(0.0) / slo);
    view.sampled_success - weights.fee * f64::from(fee_ppm) / 1e6 - weights.latency * too_slow
}

/// The candidates in the order in which a payment should try them, as positions in the list; what
/// is out is left out.
#[must_use]
pub fn order(candidates: &[Candidate], weights: Weights) -> Vec<usize> {
    let mut able: Vec<((BreakerRank, bool), f64, usize)> = candidates
        .iter()
        .enumerate()
        .map(|(at, c)| (place(&c.view), utility(&c.view, c.fee_ppm, weights), at))
        .filter(|((standing, _), ..)| *standing != BreakerRank::Out)
        .collect();
    able.sort_by(|a, b| {
        let by_utility = b.1.partial_cmp(&a.1).unwrap_or(Ordering::Equal);
        a.0.cmp(&b.0).then(by_utility).then(a.2.cmp(&b.2))
    });
    able.into_iter().map(|(.., at)| at).collect()
}
