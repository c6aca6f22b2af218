//! How much of its day each account with a daily limit has used, kept in memory: a payment asks the
//! database nothing.
//!
//! What counts on a business day (Beijing): money that came on the account's attempts that day,
//! whatever was given back later, and the amounts of its attempts that are alive, since they may
//! still take it: being sent, in doubt, waiting for their payer, being closed or reversed. An offer
//! that was replaced or has expired does not count.
//!
//! Each gateway reads the sums about once a second (a sum that takes long is read less often: a
//! twentieth of the time at most is spent on it) and adds what it plans itself at once, so what one
//! gateway does alone is exact. With several, each may let through what the others have planned
//! since it read last: a limit can be exceeded by about a second of the other gateways' payments.
//! In turn, a plan that came to nothing counts for up to three seconds. Also beyond a limit may go
//! money that comes late, on an offer that was replaced.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

use super::account::Account;
use super::account_limits::Used;
use crate::domain::id::AccountId;
use crate::domain::{Owner, Timestamp};
use crate::store::UsageRow;

/// A plan is committed within so many seconds; until then it is not looked for in the database.
const COMMIT_S: i64 = 2;
/// The sums are read at most so often.
const PAUSE: Duration = Duration::from_millis(900);
/// After reading, so many times as long as it took until the next time.
const PAUSE_FACTOR: u32 = 19;

#[derive(Debug, Default)]
struct Tally {
    /// The business day whose sums these are; 0 until they are read.
    day: i64,
    /// Taken on that day by older attempts.
    captured: Used,
    /// Older attempts that are alive.
    alive: Used,
    /// Attempts that were so new when the sums were read that some of ours may not have been
    /// committed: those of the other gateways.
    new_elsewhere: Used,
    /// What this gateway has planned lately, by the second in which it did.
    ours: BTreeMap<i64, Used>,
}

impl Tally {
    fn used(&self, now: Timestamp) -> Used {
        let captured = if self.day == now.in_beijing().day {
            self.captured
        } else {
            Used::default()
        };
        captured
            .plus(self.alive)
            .plus(self.new_elsewhere)
            .plus(self.planned_here())
    }

    fn planned_here(&self) -> Used {
        self.ours
            .values()
            .fold(Used::default(), |sum, used| sum.plus(*used))
    }
}

/// A reading of the sums that is under way.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    now: Timestamp,
    began: Instant,
}

impl Reading {
    /// When the business day began.
    #[must_use]
    pub fn day_start(&self) -> Timestamp {
        self.now.day_start()
    }

    /// Attempts from then on are so new that some may not have been committed.
    #[must_use]
    pub fn new_since(&self) -> Timestamp {
        Timestamp(self.oldest_new_s() * 1000)
    }

    fn oldest_new_s(&self) -> i64 {
        self.now.0.div_euclid(1000) - COMMIT_S
    }
}

/// The tallies of all accounts that have a daily limit.
#[derive(Debug, Default)]
pub struct Usage {
    tallies: Mutex<HashMap<AccountId, Tally>>,
    not_before: Mutex<Option<Instant>>,
}

impl Usage {
    /// How much of today an account has used; nothing for one without a daily limit.
    #[must_use]
    pub fn used(&self, account_id: &AccountId, now: Timestamp) -> Used {
        self.tallies()
            .get(account_id)
            .map_or_else(Used::default, |tally| tally.used(now))
    }

    /// Takes the place of a payment of so many fen in the account's day, if it has one left.
    #[must_use]
    pub fn reserve(&self, account: &Account, fen: i64, now: Timestamp) -> bool {
        let Some(limit) = account.terms.limits.day else {
            return true;
        };
        let mut tallies = self.tallies();
        let tally = tallies.entry(account.id.clone()).or_default();
        if !limit.leaves_room(tally.used(now), fen) {
            return false;
        }
        let second = tally.ours.entry(now.0.div_euclid(1000)).or_default();
        *second = second.plus(Used {
            amount: fen,
            count: 1,
        });
        true
    }

    /// What to read now of these accounts, all that have a daily limit; `None`: they were read just
    /// now.
    #[must_use]
    pub fn to_read(&self, limited: &[AccountId], now: Timestamp) -> Option<Reading> {
        (!limited.is_empty() && self.is_due(limited)).then(|| Reading {
            now,
            began: Instant::now(),
        })
    }

    /// Takes the sums that were read. Until others come, what is planned here is added to them.
    pub fn take(&self, reading: &Reading, limited: &[AccountId], sums: &[UsageRow]) {
        let oldest_new = reading.oldest_new_s();
        let newest = oldest_new + COMMIT_S + 1;
        let day = reading.now.in_beijing().day;
        let mut tallies = self.tallies();
        tallies.retain(|id, _| limited.contains(id));
        for id in limited {
            let tally = tallies.entry(id.clone()).or_default();
            let sum = |wanted: &dyn Fn(bool, bool) -> bool| {
                let of = sums
                    .iter()
                    .filter(|r| r.account_id == *id && wanted(r.is_new, r.is_captured));
                of.fold(Used::default(), |sum, r| {
                    sum.plus(Used {
                        amount: r.amount,
                        count: r.count,
                    })
                })
            };
            // What lies ahead was planned before all time was set back; it is in the database by
            // now.
            tally
                .ours
                .retain(|second, _| (oldest_new..=newest).contains(second));
            tally.day = day;
            tally.captured = sum(&|is_new, is_captured| is_captured && !is_new);
            tally.alive = sum(&|is_new, is_captured| !is_captured && !is_new);
            tally.new_elsewhere = sum(&|is_new, _| is_new).beyond(tally.planned_here());
        }

        drop(tallies);
        let pause = PAUSE.max(reading.began.elapsed().saturating_mul(PAUSE_FACTOR));

        *self.not_before.lock() = Instant::now().checked_add(pause);
    }

    /// An account that got its limit just now is not kept waiting.
    fn is_due(&self, limited: &[AccountId]) -> bool {
        let not_before = *self.not_before.lock();
        not_before.is_none_or(|at| at <= Instant::now()) || {
            let tallies = self.tallies();
            limited
                .iter()
                .any(|id| tallies.get(id).is_none_or(|tally| tally.day == 0))
        }
    }

    fn tallies(&self) -> MutexGuard<'_, HashMap<AccountId, Tally>> {
        self.tallies.lock()
    }
}

/// Whose turn it is in rules with the strategy `round_robin`: a counter for each rule of each
/// owner. Each gateway counts for itself, and from the beginning after a start; nothing is written.
#[derive(Debug, Default)]
pub struct Turns(Mutex<HashMap<(Owner, usize), u64>>);

impl Turns {
    /// Takes a turn in an owner's rule.
    pub fn take(&self, owner: &Owner, rule: usize) -> u64 {
        let mut turns = self.0.lock();
        let next = turns.entry((owner.clone(), rule)).or_default();
        let taken = *next;
        *next = next.wrapping_add(1);
        taken
    }

    /// Which turn would be taken next.
    #[must_use]
    pub fn peek(&self, owner: &Owner, rule: usize) -> u64 {
        let turns = self.0.lock();
        turns
            .get(&(owner.clone(), rule))
            .copied()
            .unwrap_or_default()
    }
}
