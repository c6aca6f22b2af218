//! What merchants share, and how much of it each may take: whatever is free, and when nothing is,
//! its equal part, even if others have taken more than theirs. So nobody waits for a neighbour to
//! let go, and nothing lies idle while only one is busy. The price: until those who have too much
//! have let go of it, more than there is is in use; with two of them at the most half as much
//! again, with a hundred about five times as much (1 + 1/2 + 1/3 + …), and only if each of them
//! came when all before it had taken what they could.

use std::collections::HashMap;
use std::hash::Hash;

/// Whether somebody who has `own` of `used` may have `more`, where there is so much for `active` of
/// them, itself included.
#[must_use]
pub fn may_have(capacity: u64, used: u64, active: u64, own: u64, more: u64) -> bool {
    let fits_in = |have: u64, room: u64| have.saturating_add(more) <= room;
    fits_in(used, capacity) || fits_in(own, equal_part(capacity, active))
}

/// What each of so many is never refused.
fn equal_part(capacity: u64, active: u64) -> u64 {
    // One of a thousand that share ten places has a place all the same.
    (capacity / active.max(1)).max(1)
}

/// Places that are taken and given back, and who has them. Whoever has one is active.
#[derive(Debug)]
pub struct Shares<K> {
    capacity: u64,
    used: u64,
    by: HashMap<K, u64>,
}

impl<K: Hash + Eq + Clone> Shares<K> {
    /// So many places.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity: u64::try_from(capacity).unwrap_or(u64::MAX),
            used: 0,
            by: HashMap::new(),
        }
    }

    /// How many places somebody has.
    #[must_use]
    pub fn held(&self, who: &K) -> u64 {
        self.by.get(who).copied().unwrap_or(0)
    }

    /// How many are taken, by everybody.
    #[must_use]
    pub const fn used(&self) -> u64 {
        self.used
    }

    /// Counts so many places that somebody has already, whether they are its part or not.
    pub fn hold(&mut self, who: &K, places: u64) {
        if places > 0 {
            self.used = self.used.saturating_add(places);
            let own = self.held(who).saturating_add(places);
            self.by.insert(who.clone(), own);
        }
    }

    /// Takes a place. False: there is none for this one now.
    pub fn take(&mut self, who: &K) -> bool {
        let own = self.held(who);
        let others = self.by.len() - usize::from(own > 0);
        let active = u64::try_from(others).unwrap_or(u64::MAX).saturating_add(1);
        let may = may_have(self.capacity, self.used, active, own, 1);
        if may {
            self.hold(who, 1);
        }
        may
    }

    /// Gives one back.
    pub fn give_back(&mut self, who: &K) {
        let Some(own) = self.by.get_mut(who) else {
            return;
        };
        *own = own.saturating_sub(1);
        self.used = self.used.saturating_sub(1);
        if *own == 0 {
            self.by.remove(who);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many places somebody gets who wants this many.
    fn taken(shares: &mut Shares<&'static str>, who: &'static str, wanted: usize) -> usize {
        (0..wanted).filter(|_| shares.take(&who)).count()
    }

    #[test]
    fn one_alone_may_take_all_and_no_more() {
        let mut shares = Shares::new(8);
        assert_eq!(taken(&mut shares, "one", 20), 8);
        assert_eq!((shares.held(&"one"), shares.used()), (8, 8));
    }

    #[test]
    fn who_comes_when_all_is_taken_gets_its_equal_part_at_once() {
        let mut shares = Shares::new(8);
        taken(&mut shares, "greedy", 20);
        assert_eq!(taken(&mut shares, "late", 20), 4, "half of it");
        assert_eq!(taken(&mut shares, "later", 20), 2, "a third");
        assert_eq!(taken(&mut shares, "greedy", 20), 0);
    }

    #[test]
    fn who_has_too_much_gets_nothing_until_it_has_let_go_of_what_is_the_others() {
        let mut shares = Shares::new(8);
        taken(&mut shares, "greedy", 20);
        taken(&mut shares, "late", 20);
        // Each place that the greedy one lets go of is lost to it, down to its half.
        for left in (4..8).rev() {
            shares.give_back(&"greedy");
            assert_eq!(taken(&mut shares, "greedy", 9), 0, "with {left}");
        }
        shares.give_back(&"greedy");
        assert_eq!(taken(&mut shares, "greedy", 9), 1);
        assert_eq!(
            (shares.held(&"greedy"), shares.held(&"late"), shares.used()),
            (4, 4, 8)
        );
    }

    #[test]
    fn everybody_has_something_and_what_is_in_use_has_a_bound() {
        let names: Vec<String> = (0..100).map(|n| format!("mer_{n}")).collect();
        let mut shares = Shares::new(10);

        for name in &names {
            let got = (0..50).filter(|_| shares.take(name)).count();
            assert!(got >= 1, "{name}");
        }
        let mut many = Shares::new(1_000);
        for name in &names {
            let _ = (0..2_000).filter(|_| many.take(name)).count();
        }

        assert!(
            (5_000..=5_200).contains(&many.used()),
            "as the harmonic series says: {}",
            many.used()
        );

        // Once they have let go, it is as much as there is: whoever has less than its part is let
        // in, others are not.
        for name in &names {
            while many.held(name) > 10 {
                many.give_back(name);
            }
        }

        assert_eq!(names.iter().filter(|name| many.take(name)).count(), 0);
        assert_eq!(many.used(), 1_000);
    }

    #[test]
    fn what_is_given_back_is_free_again_and_who_has_nothing_is_forgotten() {
        let mut shares = Shares::new(2);
        taken(&mut shares, "one", 2);
        shares.give_back(&"one");
        shares.give_back(&"one");
        shares.give_back(&"one");
        shares.give_back(&"nobody");
        assert_eq!((shares.used(), shares.held(&"one")), (0, 0));
        assert_eq!(
            taken(&mut shares, "other", 5),
            2,
            "nobody else is active any more"
        );
    }
}
