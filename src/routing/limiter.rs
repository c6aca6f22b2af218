//! How much this gateway asks of a route at once, and how fast: a limit of calls on their way that
//! follows how long they take, and a rate that follows the provider's word that it is asked too
//! often. Kept by each gateway for itself and in memory; nothing is agreed on, since each feels the
//! same provider.

mod gradient;
mod rate;

use std::collections::HashMap;

use parking_lot::{Mutex, MutexGuard};

use self::gradient::Gradient;
use self::rate::Rate;
use super::health::RouteId;

/// What keeps a call back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Throttled {
    /// As many calls are on their way as the route answers without getting slower.
    Crowded,
    /// The provider was asked as often as it lets itself be asked.
    RateLimited,
}

/// How a call ended, as far as pace goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It was answered.
    Answered,
    /// The provider said that it is asked too often.
    RateLimited,
    /// It was given up.
    GivenUp,
    /// Nothing was learned.
    Nothing,
}

#[derive(Debug, Default)]
struct Pace {
    in_flight: u32,
    gradient: Gradient,
    rate: Rate,
}

impl Pace {
    fn full(&mut self, per_second: Option<u32>, now_ms: i64) -> Option<Throttled> {
        if self.in_flight >= self.gradient.limit() {
            return Some(Throttled::Crowded);
        }
        (!self.rate.has_room(per_second, now_ms)).then_some(Throttled::RateLimited)
    }
}

/// A call that may be made. Given back by [`Limiters::leave`], however it ends.
#[derive(Debug)]
#[must_use]
pub struct Permit {
    route: RouteId,
    began_ms: i64,
}

/// A route's pace, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shown {
    /// Calls on their way.
    pub in_flight: u32,
    /// So many at the most.
    pub limit: u32,
    /// So many new ones a second at the most, since the provider has complained.
    pub per_second: Option<u32>,
}

/// The pace of all routes. Times are milliseconds on a clock that is not set.
#[derive(Debug, Default)]
pub struct Limiters {
    paces: Mutex<HashMap<RouteId, Pace>>,
}

impl Limiters {
    fn paces(&self) -> MutexGuard<'_, HashMap<RouteId, Pace>> {
        self.paces.lock()
    }

    /// What would keep a call back now. `per_second`: the most calls that the account's owner
    /// allows.
    #[must_use]
    pub fn full(&self, route: &RouteId, per_second: Option<u32>, now_ms: i64) -> Option<Throttled> {
        let mut paces = self.paces();
        match paces.get_mut(route) {
            Some(pace) => pace.full(per_second, now_ms),
            None => Pace::default().full(per_second, now_ms),
        }
    }

    /// Takes the place of a call.
    ///
    /// # Errors
    /// What keeps it back.
    pub fn enter(
        &self,
        route: &RouteId,
        per_second: Option<u32>,
        now_ms: i64,
    ) -> Result<Permit, Throttled> {
        let mut paces = self.paces();
        let pace = paces.entry(route.clone()).or_default();
        if let Some(full) = pace.full(per_second, now_ms) {
            return Err(full);
        }
        pace.in_flight = pace.in_flight.saturating_add(1);
        pace.rate.take(now_ms);
        Ok(Permit {
            route: route.clone(),
            began_ms: now_ms,
        })
    }

    /// A call is over.
    #[expect(clippy::needless_pass_by_value, reason = "a call ends once")]
    pub fn leave(&self, slot: Permit, ended: Ended, now_ms: i64) {
        let mut paces = self.paces();
        let Some(pace) = paces.get_mut(&slot.route) else {
            return;
        };
        let took_ms = u32::try_from(now_ms.saturating_sub(slot.began_ms)).unwrap_or(0);
        match ended {
            Ended::Answered => pace.gradient.answered(took_ms, pace.in_flight),
            Ended::GivenUp => pace.gradient.given_up(),
            Ended::RateLimited => pace.rate.refused(now_ms),
            Ended::Nothing => {}
        }
        pace.in_flight = pace.in_flight.saturating_sub(1);
    }

    /// A route's pace as it is now, if it was ever used.
    #[must_use]
    pub fn shown(&self, route: &RouteId, now_ms: i64) -> Option<Shown> {
        self.paces().get_mut(route).map(|pace| Shown {
            in_flight: pace.in_flight,
            limit: pace.gradient.limit(),
            per_second: pace.rate.learned(now_ms),
        })
    }

    /// How many calls are under way over all routes.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.paces().values().map(|pace| pace.in_flight).sum()
    }
}

#[cfg(test)]
mod tests {
    use providers::order::Flow;

    use super::*;

    fn route() -> RouteId {
        RouteId {
            account_id: "acct_1".parse().unwrap(),
            provider: "alipay".parse().unwrap(),
            flow: Flow::Qr,
        }
    }

    #[test]
    fn a_provider_that_hangs_holds_a_bounded_number_of_calls() {
        let (paces, route) = (Limiters::default(), route());
        let mut slots = Vec::new();
        let full = loop {
            match paces.enter(&route, None, 0) {
                Ok(slot) => slots.push(slot),
                Err(full) => break full,
            }
        };

        assert_eq!(full, Throttled::Crowded);
        assert_eq!(
            paces.shown(&route, 0).unwrap().in_flight,
            u32::try_from(slots.len()).unwrap()
        );

        // All of them are given up; then fewer are let in than before.
        let before = slots.len();
        slots
            .drain(..)
            .for_each(|slot| paces.leave(slot, Ended::GivenUp, 3_000));
        while let Ok(slot) = paces.enter(&route, None, 3_000) {
            slots.push(slot);
        }
        assert!(slots.len() < before, "{} of {before}", slots.len());

        assert!(!slots.is_empty(), "never none: nothing would be learned");
    }

    #[test]
    fn who_is_told_to_ask_less_often_does_and_dares_more_again_later() {
        let (paces, route) = (Limiters::default(), route());
        // A provider that takes 20 calls a second; 100 a second are wanted.
        let mut refused = Vec::new();
        let mut served = Vec::new();

        for second in 0..60_i64 {
            let (mut taken, mut told) = (0, 0);
            for call in 0..100_i64 {
                let now_ms = second * 1_000 + call * 10;
                let Ok(slot) = paces.enter(&route, None, now_ms) else {
                    continue;
                };
                taken += 1;
                let ended = if taken > 20 {
                    Ended::RateLimited
                } else {
                    Ended::Answered
                };
                told += u32::from(ended == Ended::RateLimited);
                paces.leave(slot, ended, now_ms + 5);
            }
            refused.push(told);
            served.push(taken);
        }

        let (early, late): (u32, u32) = (refused[..5].iter().sum(), refused[55..].iter().sum());
        assert!(late <= 15 && late < early, "{refused:?}");
        assert!(
            served[55..].iter().all(|taken| (10..=26).contains(taken)),
            "{served:?}"
        );

        // Nobody complains any more: in some minutes everything is let through again.
        let mut most = 0;
        for second in 60..400_i64 {
            let mut taken = 0;
            for call in 0..100_i64 {
                let now_ms = second * 1_000 + call * 10;
                let Ok(slot) = paces.enter(&route, None, now_ms) else {
                    continue;
                };
                taken += 1;
                paces.leave(slot, Ended::Answered, now_ms + 5);
            }
            most = taken;
        }

        assert_eq!(most, 100);
    }

    #[test]
    fn an_owners_limit_holds_from_the_first_call() {
        let (paces, route) = (Limiters::default(), route());
        let mut taken = 0;
        for call in 0..1_000_i64 {
            if let Ok(slot) = paces.enter(&route, Some(7), call * 10) {
                taken += 1;
                paces.leave(slot, Ended::Answered, call * 10);
            }
        }
        assert!((70..=77).contains(&taken), "{taken} in ten seconds");
    }
}
