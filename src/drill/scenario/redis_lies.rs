//! `redis-lies`: a provider dies and is mended, while Redis says whatever can be said of it that is
//! not so.

use rand::RngExt as _;
use rand::rngs::Xoshiro256PlusPlus as Rng;
use rand::seq::SliceRandom as _;

use super::plan::{Blow, Habits, Plan, down};
use crate::drill::lies::Lie;

/// What may come in any order. Each key is lost, and each is of another type.
const LIES: &[Lie] = &[
    Lie::Lost("state"),
    Lie::Lost("versions"),
    Lie::Lost("values"),
    Lie::KeysSwapped,
    Lie::ValuesSwapped,
    Lie::AnotherType("state"),
    Lie::AnotherType("versions"),
    Lie::AnotherType("values"),
    Lie::Sequence,
    Lie::Counters,
    Lie::Foreign,
    Lie::ToCome,
];

pub(super) fn draw(plan: &mut Plan, rng: &mut Rng) {
    plan.habits = Habits {
        barcode: 100,
        refund: 100,
        ..Habits::default()
    };

    plan.spread_ms = 4_000;
    plan.blows.push(down("alipay", 200, 3_000));
    // A copy of the time when it was out, which is put back once it is mended.
    plan.blows.push((1_200, Blow::Lie(Lie::Remember)));
    let mut lies = LIES.to_vec();
    lies.shuffle(rng);
    plan.blows.extend(
        (0_u64..)
            .zip(lies)
            .map(|(n, lie)| (1_300 + n * 180 + rng.random_range(0..100), Blow::Lie(lie))),
    );

    plan.blows.push((3_600, Blow::Lie(Lie::PutBack)));
    plan.blows.push((3_700, Blow::Lie(Lie::Frozen(800))));
    // The last word that anybody hears before all is mended but Redis.
    plan.blows.push((4_800, Blow::Lie(Lie::Far)));

    plan.returns = Some("alipay");
}
