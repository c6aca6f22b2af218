//! `bad-neighbour`: two hostile merchants beside the one that is looked at. Nothing is wrong with
//! any provider, and each seed is also run without the neighbour: whatever the good merchant lacks
//! more than there, the neighbour has taken.

use rand::rngs::Xoshiro256PlusPlus as Rng;

use super::plan::{Habits, Plan};

/// So many at least: a percentage point is then a payment.
const PAYMENTS: usize = 100;

pub(super) fn draw(plan: &mut Plan, _: &mut Rng) {
    plan.payments = plan.payments.max(PAYMENTS);
    plan.habits = Habits {
        refund: 100,
        ..Habits::default()
    };
    plan.at_once = 4;
    plan.spread_ms = 6_000;
    // A route that is out stays so for its seconds, and payers do not wait for them.
    plan.hurry_s = 0;
    // A slow machine takes longer.
    plan.lasts_s = 120;
    // One provider alone: a payment that moves to another one would hide that the first was taken
    // away.
    plan.switchover = false;
    plan.neighbour = true;
}
