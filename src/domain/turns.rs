//! A line in which everybody takes turns: who has brought thousands waits for a turn after each as
//! those do who have brought one. Pure.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// What waits, by who brought it. Of each the first that came is the first that goes.
#[derive(Debug)]
pub struct Turns<K, T> {
    waiting: HashMap<K, VecDeque<T>>,
    /// Those who have something in it, each once.
    order: VecDeque<K>,
    len: usize,
}

impl<K: Hash + Eq + Clone, T> Default for Turns<K, T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Hash + Eq + Clone, T> Turns<K, T> {
    /// Nobody waits.
    #[must_use]
    pub fn new() -> Self {
        Self {
            waiting: HashMap::new(),
            order: VecDeque::new(),
            len: 0,
        }
    }

    /// How much waits.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Nothing waits.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// At the end of what this one has brought.
    pub fn push(&mut self, who: &K, what: T) {
        self.of(who, VecDeque::push_back).push_back(what);
    }

    /// Where it was taken from: before what this one has brought, and this one's turn is the next.
    pub fn put_back(&mut self, who: &K, what: T) {
        self.of(who, VecDeque::push_front).push_front(what);
    }

    /// The next, of whoever's turn it is.
    pub fn take(&mut self) -> Option<(K, T)> {
        let who = self.order.pop_front()?;
        let theirs = self.waiting.get_mut(&who)?;
        let what = theirs.pop_front()?;
        self.len = self.len.saturating_sub(1);
        if theirs.is_empty() {
            self.waiting.remove(&who);
        } else {
            self.order.push_back(who.clone());
        }
        Some((who, what))
    }

    /// Of each who waits, what has waited longest.
    pub fn first_of_each(&self) -> impl Iterator<Item = (&K, &T)> {
        self.waiting
            .iter()
            .filter_map(|(who, theirs)| Some((who, theirs.front()?)))
    }

    fn of(&mut self, who: &K, line_up: fn(&mut VecDeque<K>, K)) -> &mut VecDeque<T> {
        self.len = self.len.saturating_add(1);
        if !self.waiting.contains_key(who) {
            line_up(&mut self.order, who.clone());
        }
        self.waiting.entry(who.clone()).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(turns: &mut Turns<&'static str, u32>) -> String {
        std::iter::from_fn(|| turns.take())
            .map(|(who, what)| format!("{who}{what} "))
            .collect()
    }

    #[test]
    fn everybody_takes_turns_and_keeps_an_order() {
        let mut turns = Turns::new();
        (1..=5).for_each(|n| turns.push(&"a", n));
        turns.push(&"b", 1);
        (1..=2).for_each(|n| turns.push(&"c", n));
        assert_eq!(turns.len(), 8);
        assert_eq!(all(&mut turns), "a1 b1 c1 a2 c2 a3 a4 a5 ");
        assert_eq!(turns.len(), 0);
    }

    #[test]
    fn what_is_put_back_comes_before_what_came_later() {
        let mut turns = Turns::new();
        (1..=3).for_each(|n| turns.push(&"a", n));
        turns.push(&"b", 1);
        let taken = [turns.take(), turns.take(), turns.take()].map(Option::unwrap);
        assert_eq!(taken, [("a", 1), ("b", 1), ("a", 2)]);

        for (who, what) in taken.into_iter().rev() {
            turns.put_back(&who, what);
        }
        let mut oldest: Vec<_> = turns
            .first_of_each()
            .map(|(who, what)| (*who, *what))
            .collect();
        oldest.sort_unstable();
        assert_eq!((turns.len(), oldest), (4, vec![("a", 1), ("b", 1)]));

        let order = all(&mut turns);
        assert!(
            order
                .split(' ')
                .filter(|one| one.starts_with('a'))
                .eq(["a1", "a2", "a3"]),
            "{order}"
        );
    }
}
