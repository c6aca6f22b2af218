//! The machine's clock is set, again and again, under gateways that work.

use rand::RngExt as _;
use rand::rngs::Xoshiro256PlusPlus as Rng;

use super::plan::{Plan, Scenario, Set};

/// It and what it is about.
pub(super) const SCENARIO: Scenario = Scenario {
    name: "clock-set",
    about: "The machine's clock itself is set (by libfaketime), an hour ahead, an hour back, right \
            again, in steps and by slewing, on one gateway and on all. Every job goes on within \
            two seconds: a paid payment of UnionPay is recognised as fast as otherwise, its \
            webhook goes out, what it moved is sealed.",
    payments: 12,
    needs_redis: false,
    draw,
};

/// An hour.
const WRONG_BY_S: i64 = 3_600;

/// The order of the first four is the same for every seed: a step ahead and one back for all, a
/// slew back and one ahead for one. After those the seed draws.
fn draw(plan: &mut Plan, rng: &mut Rng) {
    plan.hurry_s = 0;
    plan.at_once = 2;
    let all = plan.gateways;
    let first = [
        Set {
            gateways: all,
            to_s: WRONG_BY_S,
            slewed: false,
        },
        Set {
            gateways: all,
            to_s: 0,
            slewed: false,
        },
        Set {
            gateways: 1,
            to_s: -WRONG_BY_S,
            slewed: true,
        },
        Set {
            gateways: 1,
            to_s: 0,
            slewed: true,
        },
    ];

    let drawn = (first.len()..plan.payments).map(|n| Set {
        gateways: if rng.random_bool(0.5) { all } else { 1 },
        // Every other time it is put right.
        to_s: if n % 2 == 1 {
            0
        } else if rng.random_bool(0.5) {
            WRONG_BY_S
        } else {
            -WRONG_BY_S
        },
        slewed: rng.random_bool(0.5),
    });

    plan.sets = first.into_iter().chain(drawn).take(plan.payments).collect();
    // Whoever was left wrong when one alone was put right is put right, too.
    let mut wrong = false;

    for set in &mut plan.sets {
        if set.to_s == 0 && wrong {
            set.gateways = all;
        }
        wrong = set.to_s != 0;
    }
}
