//! The retry budget: what all gateways together may spend on tries that are likely to fail, so that
//! a storm of retries cannot feed itself. Successes fill it, timeouts and retries empty it; a
//! switch onto a route that works costs nothing. Merchants share it as they share everything: when
//! others have spent it, each has its equal part all the same, by what it has spent itself at this
//! gateway. Pure: who exchanges it with the other gateways does so elsewhere, and no payment waits
//! for that.

use std::collections::HashMap;

use parking_lot::{Mutex, MutexGuard};
use serde::{Deserialize, Serialize};

use super::share::may_have;

use crate::domain::Owner;

/// Full.
const CAPACITY: i64 = 500;
/// A call onto a route that has not proved itself.
const RETRY: i64 = 5;
/// A call that ended without an answer in its time.
const TIMEOUT: i64 = 10;
/// A call that was answered.
const SUCCESS: i64 = 1;

/// The name of the stored value, beside those of health.
pub const SUBJECT: &str = "retry_budget";

/// What a merchant has spent is forgotten when it has spent nothing for so long.
const FORGOTTEN_MS: i64 = 60_000;
/// So many merchants' spendings are remembered.
const MERCHANTS: usize = 10_000;
/// So many gateways' writes are told apart.
const GATEWAYS: usize = 16;
/// With more writes whose fate is not known, the last two are looked at as one.
const SENT: usize = 4;

/// As it is stored for all gateways.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    tokens: i64,
    /// What of which gateway is in it: gateway, number of its last write.
    writes: Vec<(u32, u32)>,
}

#[derive(Debug)]
struct State {
    /// What all gateways last agreed on, and its version in the store. 0: nothing is stored.
    base: Stored,
    version: u64,
    /// What this gateway has earned and spent since.
    pending: i64,
    /// What its last writes would make of that; whether they were stored is told by the next
    /// reading.
    sent: Vec<(u32, i64)>,
    writes: u32,
    /// What is stored cannot be, and is to be written over.
    unwritten: bool,
    /// What each owner has spent here and not earned again, 0 to 500, and when it last spent
    /// something.
    by: HashMap<Owner, (i64, i64)>,
}

impl State {
    fn tokens(&self) -> i64 {
        let sent: i64 = self.sent.iter().map(|(_, delta)| delta).sum();
        (self.base.tokens + sent + self.pending).clamp(0, CAPACITY)
    }

    /// Adds, and keeps within what there can be: what overflows is lost, what is missing is not
    /// owed.
    fn add(&mut self, delta: i64) {
        let before = self.tokens();
        self.pending += (before + delta).clamp(0, CAPACITY) - before;
    }

    /// The same, on a merchant's account.
    fn charge(&mut self, owner: &Owner, delta: i64, now_ms: i64) {
        self.add(delta);
        let known = self.by.get(owner).copied();
        if known.is_none() && delta >= 0 {
            return;
        }
        if known.is_none() && self.by.len() >= MERCHANTS {
            self.by.clear();
        }
        let (owed, last) = known.unwrap_or((0, now_ms));
        let owed = (owed - delta).clamp(0, CAPACITY);

        match owed {
            0 => drop(self.by.remove(owner)),
            _ => drop(
                self.by
                    .insert(owner.clone(), (owed, if delta < 0 { now_ms } else { last })),
            ),
        }
    }
}

/// A gateway's view of the budget.
#[derive(Debug)]
pub struct Budget {
    gateway: u32,
    state: Mutex<State>,
}

impl Budget {
    /// A full one. `gateway` is another number for each.
    #[must_use]
    pub fn new(gateway: u32) -> Self {
        let base = Stored {
            tokens: CAPACITY,
            writes: Vec::new(),
        };
        let state = State {
            base,
            version: 0,
            pending: 0,
            sent: Vec::new(),
            writes: 0,
            unwritten: false,
            by: HashMap::new(),
        };

        Self {
            gateway,
            state: Mutex::new(state),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// What is left, 0 to 500.
    #[must_use]
    pub fn left(&self) -> i64 {
        self.state().tokens()
    }

    /// Whether a merchant may make another retry: out of what is left, or out of its part.
    #[must_use]
    pub fn allows_retry(&self, owner: &Owner, now_ms: i64) -> bool {
        let mut state = self.state();
        state
            .by
            .retain(|_, (_, last)| now_ms.saturating_sub(*last) < FORGOTTEN_MS);
        let own = state.by.get(owner).map_or(0, |(owed, _)| *owed);
        let others = state.by.len() - usize::from(own > 0);
        let number = |n: i64| u64::try_from(n).unwrap_or(0);
        let active = u64::try_from(others).unwrap_or(u64::MAX).saturating_add(1);
        may_have(
            number(CAPACITY),
            number(CAPACITY - state.tokens()),
            active,
            number(own),
            number(RETRY),
        )
    }

    /// A merchant makes a retry.
    pub fn retried(&self, owner: &Owner, now_ms: i64) {
        self.state().charge(owner, -RETRY, now_ms);
    }

    /// One of a merchant's calls was answered.
    pub fn answered(&self, owner: &Owner, now_ms: i64) {
        self.state().charge(owner, SUCCESS, now_ms);
    }

    /// One of a merchant's calls had no answer in its time.
    pub fn timed_out(&self, owner: &Owner, now_ms: i64) {
        self.state().charge(owner, -TIMEOUT, now_ms);
    }

    /// What is to be written for the others, and over which version; `None` when there is nothing
    /// new.
    #[must_use]
    pub fn take_write(&self) -> Option<(u64, String)> {
        let mut state = self.state();
        // What was sent and is not found in the store was lost on its way, or lost against another
        // write.
        if state.pending == 0 && state.sent.is_empty() && state.version != 0 && !state.unwritten {
            return None;
        }

        state.unwritten = false;
        let mut delta = std::mem::take(&mut state.pending);
        if state.sent.len() >= SENT
            && let Some((_, last)) = state.sent.pop()
        {
            delta += last;
        }
        state.writes = state.writes.wrapping_add(1);
        let write = state.writes;
        state.sent.push((write, delta));

        let mut value = Stored {
            tokens: state.tokens(),
            writes: state.base.writes.clone(),
        };
        value.writes.retain(|(gateway, _)| *gateway != self.gateway);
        if value.writes.len() >= GATEWAYS {
            value.writes.remove(0);
        }
        value.writes.push((self.gateway, write));

        serde_json::to_string(&value)
            .ok()
            .map(|value| (state.version, value))
    }

    /// Takes over what is stored. False, and nothing is done, if no gateway can have written it.
    pub fn adopt(&self, version: u64, value: &str) -> bool {
        let Ok(stored) = serde_json::from_str::<Stored>(value) else {
            return false;
        };
        if !(0..=CAPACITY).contains(&stored.tokens) || stored.writes.len() > GATEWAYS {
            return false;
        }
        let mut state = self.state();
        let included = stored
            .writes
            .iter()
            .find(|(gateway, _)| *gateway == self.gateway)
            .map_or(0, |(_, write)| *write);

        if included > state.writes {
            // A write of ours that we never made.
            return false;
        }
        state.sent.retain(|(write, _)| *write > included);
        (state.base, state.version) = (stored, version);

        true
    }

    /// What is stored under this version cannot be: this view is written over it.
    pub fn write_over(&self, version: u64) {
        let mut state = self.state();
        (state.version, state.unwritten) = (version, true);
    }

    /// The store has forgotten everything, or is another one: this view is written, unless somebody
    /// else's is there.
    pub fn reseed(&self) {
        self.state().version = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merchant(name: &str) -> Owner {
        Owner::of(format!("mer_{name}").parse().unwrap(), false)
    }

    #[test]
    fn who_has_spent_it_all_leaves_the_others_their_part() {
        let budget = Budget::new(1);
        (0..200).for_each(|_| budget.timed_out(&merchant("hostile"), 1_000));
        assert_eq!(budget.left(), 0);
        assert!(!budget.allows_retry(&merchant("hostile"), 1_000));

        let may = |who: &str| {
            let mut count = 0;
            while count < 200 && budget.allows_retry(&merchant(who), 1_000) {
                budget.retried(&merchant(who), 1_000);
                count += 1;
            }
            count
        };

        assert_eq!(may("good"), 50, "half of what there is");
        assert_eq!(may("late"), 33, "a third");
        // What was spent long ago is nobody's fault any more, and what is earned is there for
        // everybody.
        (0..500).for_each(|_| budget.answered(&merchant("good"), 2_000));

        assert!(budget.allows_retry(&merchant("hostile"), 2_000));
    }

    #[test]
    fn a_storm_empties_it_and_answers_fill_it_again() {
        let budget = Budget::new(1);
        for _ in 0..100 {
            assert!(budget.allows_retry(&merchant("one"), 0));
            budget.retried(&merchant("one"), 0);
        }
        assert!(
            !budget.allows_retry(&merchant("one"), 0),
            "{}",
            budget.left()
        );

        budget.timed_out(&merchant("one"), 0);
        assert_eq!(budget.left(), 0, "nothing is owed");
        (0..5).for_each(|_| budget.answered(&merchant("one"), 0));
        assert!(budget.allows_retry(&merchant("one"), 0));

        (0..1_000).for_each(|_| budget.answered(&merchant("one"), 0));
        assert_eq!(budget.left(), 500, "what is too much is lost");
    }

    /// The store: compare-and-set on a version, as in Redis.
    #[derive(Default)]
    struct Store(u64, String);

    impl Store {
        fn exchange(&mut self, budget: &Budget) {
            if let Some((expected, value)) = budget.take_write()
                && expected == self.0
            {
                (self.0, self.1) = (self.0 + 1, value);
            }
            assert!(budget.adopt(self.0, &self.1));
        }
    }

    #[test]
    fn what_one_gateway_spends_is_missing_on_all() {
        let (one, other, mut store) = (Budget::new(1), Budget::new(2), Store::default());
        store.exchange(&one);
        store.exchange(&other);
        (0..20).for_each(|_| one.timed_out(&merchant("one"), 0));
        (0..40).for_each(|_| other.retried(&merchant("one"), 0));
        for budget in [&one, &other, &other, &one] {
            store.exchange(budget);
        }
        assert_eq!((one.left(), other.left()), (100, 100), "200 and 200 of 500");
    }

    #[test]
    fn a_write_whose_fate_is_not_known_counts_once() {
        let (budget, mut store) = (Budget::new(1), Store::default());
        store.exchange(&budget);
        budget.timed_out(&merchant("one"), 0);

        // It was stored, and the answer is lost.
        let (expected, value) = budget.take_write().unwrap();
        assert_eq!(expected, store.0);

        (store.0, store.1) = (store.0 + 1, value);
        assert_eq!(budget.left(), 490);
        assert!(budget.adopt(store.0, &store.1));
        assert_eq!(budget.left(), 490);

        // This one never came there.
        budget.timed_out(&merchant("one"), 0);
        let _ = budget.take_write().unwrap();
        store.exchange(&budget);
        assert_eq!(budget.left(), 480);

        // This one comes there late, and somebody else writes over it before it is heard of.
        budget.timed_out(&merchant("one"), 0);
        let (_, late) = budget.take_write().unwrap();
        let other = Budget::new(2);
        (store.0, store.1) = (store.0 + 1, late);
        store.exchange(&other);
        other.timed_out(&merchant("one"), 0);
        store.exchange(&other);
        store.exchange(&budget);
        assert_eq!((budget.left(), other.left()), (460, 460));

        budget.reseed();
        assert_eq!(budget.left(), 460);
        // It was emptied, and the other one was first to write anew: what this one has spent since
        // is not lost.
        budget.timed_out(&merchant("one"), 0);
        let mut store = Store::default();
        other.reseed();
        store.exchange(&other);
        store.exchange(&budget);
        store.exchange(&budget);
        store.exchange(&other);
        assert_eq!((budget.left(), other.left()), (450, 450));

        let lies = [
            "",
            "{}",
            "[1]",
            r#"{"tokens":501,"writes":[]}"#,
            r#"{"tokens":-1,"writes":[]}"#,
            r#"{"tokens":0,"writes":[[1,4000000000]]}"#,
            r#"{"tokens":0,"writes":[],"since":1}"#,
        ];

        for lie in lies {
            assert!(!budget.adopt(9, lie), "{lie}");
        }

        // It is written over what cannot be.
        budget.write_over(9);
        assert!(
            budget
                .take_write()
                .is_some_and(|(expected, value)| expected == 9 && value.contains("450"))
        );
    }
}
