//! Ten times the load, and nobody tells of what is paid.

use rand::RngExt as _;
use rand::rngs::Xoshiro256PlusPlus as Rng;
use serde_json::json;

use super::plan::{Plan, Scenario, Storm, fault, names};

/// It and what it is about.
pub(super) const SCENARIO: Scenario = Scenario {
    name: "storm",
    about: "Codes that nobody has paid expire all at once, at a provider that answers no question. \
            Then payments come as fast as they can be made and are paid at once, all notifications \
            are lost, and of charges among them all answers, too. All are known 45 seconds after \
            the last payer has paid; the charges are asked about at their own times, whatever else \
            is due. Then notifications come again.",
    payments: 1_000,
    needs_redis: false,
    draw,
};

/// Of so many payments one is a charge whose answer is lost.
const CHARGES: usize = 25;

/// The load comes as fast as it can be made, on clocks that do not hurry: how long things take is
/// what it is about.
fn draw(plan: &mut Plan, rng: &mut Rng) {
    plan.hurry_s = 0;
    // A small one is one for a machine that has other things to do.
    plan.at_once = (plan.payments / 5).clamp(8, 64);
    plan.storm = Some(Storm {
        charges: (plan.payments / CHARGES).clamp(4, 40),
        expired: (plan.payments / 4).min(2_000),
    });
    plan.faults
        .extend(names().map(|name| fault(name, "drop", 1_000, rng.random_range(0..1_000_000))));

    // Charges are taken, and their answers are lost.
    for call in ["query", "close"] {
        plan.faults.push(
            json!({"provider": "alipay", "call": call, "kind": "timeout_before", "probability": 1}),
        );
    }

    plan.faults.push(
        json!({"provider": "unionpay", "call": "create", "kind": "timeout_after",
        "probability": 1}),
    );
}
