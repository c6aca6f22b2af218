//! The disk of the database is full for a moment, again and again: what was answered before,
//! meanwhile and after has its rows.

use rand::RngExt as _;
use rand::rngs::Xoshiro256PlusPlus as Rng;

use super::plan::{Blow, Habits, Plan};

pub(super) fn draw(plan: &mut Plan, rng: &mut Rng) {
    plan.small_disk = true;
    plan.habits = Habits {
        twice: 200,
        cancel: 100,
        refund: 400,
        barcode: 300,
        other_offer: 200,
        ..Habits::default()
    };

    plan.spread_ms = 4_000;
    let mut at = rng.random_range(100..500);

    while at < 4_500 {
        // A little room is worse than none: then a transaction begins, and cannot end.
        let left = if rng.random_bool(0.5) {
            rng.random_range(0..256 << 10)
        } else {
            0
        };
        let ms = rng.random_range(50..500);
        plan.blows.push((at, Blow::DiskFull(left, ms)));
        at += ms + rng.random_range(100..600);
    }
}
