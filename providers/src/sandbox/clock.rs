//! The sandbox's time: the machine's plus an offset that only grows. Whoever sleeps on it wakes up
//! when it jumps. Network latency is real time and never comes from here.

use std::time::Duration;

use chrono::{DateTime, Datelike as _, TimeDelta, Utc};
use tokio::sync::watch;

/// A clock that can be moved forward.
#[derive(Debug, Clone)]
pub struct Clock {
    ahead: watch::Sender<TimeDelta>,
}

/// The clock is only ever moved forward, and not past the year 9999.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the clock moves forward only, and not past the year 9999")]
pub struct BadJump;

impl Clock {
    /// A clock that is `ahead` of the machine's.
    #[must_use]
    pub fn new(ahead: TimeDelta) -> Self {
        Self {
            ahead: watch::Sender::new(ahead),
        }
    }

    /// How far it is ahead of the machine's.
    #[must_use]
    pub fn ahead(&self) -> TimeDelta {
        *self.ahead.borrow()
    }

    /// The sandbox's time.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        machine_time() + self.ahead()
    }

    /// How far ahead it would be, moved forward by `by`.
    ///
    /// # Errors
    /// [`BadJump`].
    pub fn after(&self, by: TimeDelta) -> Result<TimeDelta, BadJump> {
        further(self.ahead(), by).ok_or(BadJump)
    }

    /// Moves it forward by `by` and wakes all sleepers.
    ///
    /// # Errors
    /// [`BadJump`].
    pub fn advance(&self, by: TimeDelta) -> Result<(), BadJump> {
        self.ahead
            .send_if_modified(|ahead| {
                further(*ahead, by)
                    .map(|further| *ahead = further)
                    .is_some()
            })
            .then_some(())
            .ok_or(BadJump)
    }

    /// Moves it forward to `to` and wakes all sleepers.
    ///
    /// # Errors
    /// [`BadJump`].
    pub fn set(&self, to: DateTime<Utc>) -> Result<(), BadJump> {
        self.advance(to - self.now())
    }

    /// Returns once the sandbox's time is `due`.
    pub async fn sleep_until(&self, due: DateTime<Utc>) {
        let mut jumps = self.ahead.subscribe();
        loop {
            let wait = (due - self.now()).to_std().unwrap_or(Duration::ZERO);
            if wait.is_zero() {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                // The sender lives in `self`, so this only ever says that the clock jumped.
                _ = jumps.changed() => {}
            }
        }
    }
}

fn further(ahead: TimeDelta, by: TimeDelta) -> Option<TimeDelta> {
    let further = ahead.checked_add(&by).filter(|_| by >= TimeDelta::zero())?;
    machine_time()
        .checked_add_signed(further)
        .is_some_and(|time| time.year() <= 9999)
        .then_some(further)
}

#[expect(clippy::disallowed_methods, reason = "this is the sandbox's clock")]
fn machine_time() -> DateTime<Utc> {
    Utc::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_sleeper_wakes_when_the_clock_jumps_past_its_time() {
        let clock = Clock::new(TimeDelta::zero());
        let due = clock.now() + TimeDelta::hours(24);
        let sleeper = tokio::spawn({
            let clock = clock.clone();
            async move { clock.sleep_until(due).await }
        });
        tokio::task::yield_now().await;
        clock.advance(TimeDelta::hours(23)).unwrap();
        tokio::task::yield_now().await;
        assert!(!sleeper.is_finished());
        clock.set(due).unwrap();
        sleeper.await.unwrap();
    }

    #[test]
    fn the_clock_never_goes_back() {
        let clock = Clock::new(TimeDelta::zero());
        assert_eq!(clock.advance(TimeDelta::seconds(-1)), Err(BadJump));
        assert_eq!(clock.set(clock.now() - TimeDelta::days(1)), Err(BadJump));
        assert_eq!(clock.advance(TimeDelta::MAX), Err(BadJump));
    }
}
