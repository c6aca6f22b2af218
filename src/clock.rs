//! The one place that reads the wall clock. `now` is the database's time as well as this machine can tell; due
//! times, leases and ladders are written from it, and under the `drill` feature it can be jumped.
//! Network timeouts and group commit stay on real time.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

use crate::domain::Timestamp;

/// A clock, shared by cloning.
#[derive(Debug, Clone)]
pub struct Clock {
    /// What has to be added to the machine's time, in milliseconds: the database's skew and a drill's jumps.
    offset_ms: Arc<AtomicI64>,
    skew_ms: Arc<AtomicI64>,
    jumps: watch::Sender<u64>,
}

impl Clock {
    /// The machine's time; in a drill as many seconds later as `INTERLOCK_CLOCK_AHEAD_S` says, for a process that is
    /// to come after a long pause.
    #[must_use]
    pub fn new() -> Self {
        let clock = Self { offset_ms: Arc::default(), skew_ms: Arc::default(), jumps: watch::channel(0).0 };
        #[cfg(feature = "drill")]
        if let Some(ahead) = std::env::var("INTERLOCK_CLOCK_AHEAD_S").ok().and_then(|s| s.parse().ok()) {
            clock.jump(Duration::from_secs(ahead));
        }
        clock
    }

    /// The time now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        machine_time().plus_ms(self.offset_ms.load(Ordering::Relaxed)).plus_ms(self.skew_ms.load(Ordering::Relaxed))
    }

    /// When, on the machine's own clock, something began that has taken so long until now. For traces alone: nothing is
    /// decided by it.
    #[must_use]
    pub fn began(&self, took: Duration) -> SystemTime {
        let ms = u64::try_from(machine_time().0).unwrap_or(0);
        UNIX_EPOCH + Duration::from_millis(ms).saturating_sub(took)
    }

    /// Returns at `then`, or when a jump takes the clock past it.
    pub async fn sleep_until(&self, then: Timestamp) {
        let mut jumps = self.jumps.subscribe();
        loop {
            let left = then.since(self.now());
            let Ok(left) = u64::try_from(left) else { return };
            if left == 0 {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(left)) => {}
                _ = jumps.changed() => {}
            }
        }
    }

    /// Takes over the database's time: `database` was its clock between `asked` ago and now. Returns the skew between
    /// the two machines in milliseconds.
    pub fn follow(&self, database: Timestamp, round_trip: Duration) -> i64 {
        let half = i64::try_from(round_trip.as_millis() / 2).unwrap_or(0);
        let skew = database.plus_ms(half).since(machine_time());
        // Below what a round trip can tell, the machine's own clock is the better one.
        let kept = if skew.abs() < 100 { 0 } else { skew };
        self.skew_ms.store(kept, Ordering::Relaxed);
        skew
    }

    /// The last skew between this machine and the database, in milliseconds.
    #[must_use]
    pub fn skew_ms(&self) -> i64 {
        self.skew_ms.load(Ordering::Relaxed)
    }

    /// Moves the time and wakes whoever sleeps on it.
    #[cfg(feature = "drill")]
    pub fn jump(&self, by: Duration) {
        self.shift(i64::try_from(by.as_millis()).unwrap_or(i64::MAX));
    }

    /// The same, back as well: a clock that was set.
    #[cfg(feature = "drill")]
    pub fn shift(&self, by_ms: i64) {
        self.offset_ms.fetch_add(by_ms, Ordering::Relaxed);
        self.jumps.send_modify(|n| *n = n.wrapping_add(1));
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the wall clock")]
fn machine_time() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
