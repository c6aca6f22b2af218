//! Connections that fall silent for ever, at every kind of statement: nothing is closed, nothing is
//! refused, and new ones work. Payments come back within seconds, every loop goes on, and a gateway
//! that is told to stop does.

use rand::RngExt as _;
use rand::rngs::Xoshiro256PlusPlus as Rng;

use super::plan::{Blow, Habits, Plan, names};
use crate::drill::proxy::LinkState;

/// Words that are in one kind of statement each; between them they are in all that a gateway says
/// again and again.
const STATEMENTS: &[&str] = &[
    "BEGIN",
    "COMMIT",
    "INSERT INTO \"payments\"",
    "INSERT INTO \"attempts\"",
    "INSERT INTO \"idempotency_keys\"",
    "INSERT INTO \"events\"",
    "INSERT INTO \"ledger_entries\"",
    "INSERT INTO \"ledger_blocks\"",
    "INSERT INTO \"deliveries\"",
    "INSERT INTO \"notifications\"",
    "UPDATE \"payments\"",
    "UPDATE \"events\"",
    "UPDATE \"deliveries\"",
    "FROM \"payments\"",
    "FROM \"attempts\"",
    "FROM \"events\"",
    "FROM \"installation\"",
    "WITH RECURSIVE lanes",
    "clock_timestamp",
];

pub(super) fn draw(plan: &mut Plan, rng: &mut Rng) {
    plan.probes = true;
    plan.silent_stop = true;
    plan.lasts_s = 55;
    plan.hurry_s = 1;
    plan.habits = Habits {
        twice: 300,
        cancel: 100,
        refund: 300,
        barcode: 300,
        ..Habits::default()
    };

    plan.spread_ms = 30_000;
    // Four kinds a seed, and everything at once at the end.
    let first = usize::try_from(plan.seed).unwrap_or(0).wrapping_mul(4);

    for n in 0..4_usize {
        let words = STATEMENTS
            .get(first.wrapping_add(n) % STATEMENTS.len())
            .copied()
            .unwrap_or("COMMIT");
        let mood = if rng.random_bool(0.5) {
            LinkState::SilentBefore(words)
        } else {
            LinkState::SilentAfter(words)
        };
        let at = 500 + u64::try_from(n).unwrap_or(0) * 7_000 + rng.random_range(0..1_000);
        plan.blows.push((at, Blow::Database(mood, 400)));
    }

    plan.blows
        .push((29_000, Blow::Database(LinkState::Silent, 20)));
    plan.blows.push((
        rng.random_range(500..28_000),
        Blow::Redis(LinkState::Silent, 20),
    ));
    for provider in names() {
        plan.blows.push((
            rng.random_range(500..28_000),
            Blow::Provider(provider, LinkState::Silent, 20),
        ));
    }

    plan.blows.push((
        rng.random_range(500..28_000),
        Blow::Callbacks(LinkState::Silent, 20),
    ));
}
