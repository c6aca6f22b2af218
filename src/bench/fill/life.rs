//! One payment's life, from its request to its end, as the changes that a gateway would have
//! committed.

mod acts;
mod beside;
mod fate;
mod story;

use self::fate::fate;
use self::story::Story;
pub use self::story::order_id;
use super::error::FillError;
use super::world::{World, draws};
use crate::store::Life;

/// The life of payment `n`.
///
/// # Errors
/// None but of a mistake here: states that do not follow each other.
pub fn life(world: &World, n: u64) -> Result<Life, FillError> {
    let mut rng = draws(world.plan.seed, n);
    let shop = world.shop_of(&mut rng).ok_or(FillError::Nobody)?;
    let made_at = world.made_at(n, &mut rng);
    let fate = fate(world, n, &mut rng);

    let mut story = Story::begin(world, shop, rng, made_at, n, fate)?;
    story.commit(None, |_, _| Ok(()))?;
    story.tell(fate)?;
    story.look_at(n);
    story.deliver();
    Ok(story.life)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::world::Plan;
    use super::*;
    use crate::domain::Timestamp;
    use crate::domain::ledger::check::deviations;
    use crate::payments::view::events;
    use crate::store::Change;

    fn world(seed: u64) -> World {
        World::new(Plan {
            seed,
            payments: 3_000,
            until_ms: 1_800_000_000_000,
        })
    }

    #[test]
    fn a_life_follows_from_its_seed_and_its_number() {
        let told = |seed, n| format!("{:?}", life(&world(seed), n).unwrap());
        assert_eq!(told(7, 41), told(7, 41));
        assert_ne!(told(7, 41), told(8, 41));
        assert_ne!(told(7, 41), told(7, 42));
    }

    #[test]
    fn every_life_balances_and_they_end_in_every_way() {
        let world = world(1);
        let (mut states, mut kinds, mut last) = (BTreeSet::new(), BTreeSet::new(), Timestamp(0));

        for n in 0..3_000 {
            let life = life(&world, n).unwrap();
            let end = life.changes.last().unwrap().after();
            let entries: Vec<_> = life
                .changes
                .iter()
                .flat_map(Change::entries)
                .cloned()
                .collect();
            assert_eq!(
                deviations(end, &entries),
                Vec::<String>::new(),
                "payment {n}"
            );
            assert!(end.payment.created_at >= last, "in the order of time");
            assert!(
                end.payment.status.is_open() == end.due(end.payment.created_at).is_some(),
                "payment {n} rests"
            );
            last = end.payment.created_at;
            states.insert(end.payment.status.to_string());
            kinds.extend(
                life.changes
                    .iter()
                    .flat_map(|change| change.events())
                    .map(|event| event.kind),
            );
        }

        assert_eq!(states.len(), 7, "{states:?}");
        // Offers that change and refunds that end otherwise are left.
        assert_eq!(kinds.len(), events::KINDS.len() - 1, "{kinds:?}");
    }
}
