//! Money that comes when nobody waits for it.

use rand::RngExt as _;
use rand::rngs::Xoshiro256PlusPlus as Rng;

use super::plan::{Habits, Plan, fault, names};

pub(super) fn draw(plan: &mut Plan, rng: &mut Rng) {
    plan.habits = Habits {
        twice: 300,
        cancel: 300,
        refund: 200,
        by_hand: 200,
        barcode: 200,
        other_offer: 500,
        both: 700,
        late: 600,
        ..Habits::default()
    };

    plan.leaks = 500;
    plan.too_late = 500;
    plan.hurry_s = 30;
    for provider in names() {
        plan.faults.push(fault(
            provider,
            "timeout_after",
            200,
            rng.random_range(0..1_000_000),
        ));
        for kind in ["drop", "delay", "duplicate", "reorder"] {
            plan.faults.push(fault(
                provider,
                kind,
                rng.random_range(100..300),
                rng.random_range(0..1_000_000),
            ));
        }
        for kind in ["behind", "says_closed", "paid_meanwhile"] {
            plan.faults.push(fault(
                provider,
                kind,
                rng.random_range(50..300),
                rng.random_range(0..1_000_000),
            ));
        }
    }
}
