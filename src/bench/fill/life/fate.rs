//! How lives go, and which of them are how frequent.

use rand::RngExt as _;
use rand::rngs::Xoshiro256PlusPlus as Rng;

use crate::bench::fill::world::World;

/// How a life goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Paid,
    PaidElsewhere,
    Charged,
    Declined,
    Refunded,
    RefundFailed,
    RefundAbnormal,
    Expired,
    Canceled,
    Failed,
    PaidLate,
    /// These three are not over.
    Parked,
    Shown,
    InDoubt,
}

/// Of a thousand payments that are over.
const FATES: [(Fate, u32); 11] = [
    (Fate::Paid, 612),
    (Fate::PaidElsewhere, 60),
    (Fate::Charged, 60),
    (Fate::Declined, 20),
    (Fate::Refunded, 80),
    (Fate::RefundFailed, 8),
    (Fate::RefundAbnormal, 2),
    (Fate::Expired, 95),
    (Fate::Canceled, 40),
    (Fate::Failed, 18),
    (Fate::PaidLate, 5),
];
const NOT_OVER: [Fate; 3] = [Fate::Parked, Fate::Shown, Fate::InDoubt];

pub(super) fn fate(world: &World, n: u64, rng: &mut Rng) -> Fate {
    if world.is_open(n) {
        return usize::try_from(n % 3)
            .ok()
            .and_then(|at| NOT_OVER.get(at))
            .copied()
            .unwrap_or(Fate::Parked);
    }
    let mut draw = rng.random_range(0..1_000);
    let found = FATES.iter().find(|(_, share)| {
        let is_it = draw < *share;
        draw = draw.saturating_sub(*share);
        is_it
    });
    found.map_or(Fate::Paid, |(fate, _)| *fate)
}
