//! The one place that reads the wall clock, and that only to compare. `now` is the database's time:
//! what it said last and the time that has gone by since on a clock that nobody sets (the kernel's
//! time since boot, which goes on while the machine is suspended). Deadlines, due times, leases and
//! ladders are written from it. A sandbox inside the gateway takes it along when its time is moved,
//! forward only; under the `testing` feature it can be jumped. How long something waits or takes is
//! measured on clocks that nobody sets: never by `now`.
//!
//! When this machine's clock is set, `now` goes on as if nothing had happened, until the database
//! was asked again (at once: see `jobs::housekeeping`): with PostgreSQL it then says the same as
//! before. The embedded database's clock is this machine's. There a step is a step of all time, for
//! deadlines are times of day that providers know, too: `now` follows within a second. What was to
//! be waited for then lies in rows, too far ahead by the step when that led back:
//! [`Clock::steps_back`] says so, and whoever has such rows brings them back (see
//! `payments::resolve::bring_back`). Network timeouts and group commit stay on real time.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::domain::Timestamp;

/// Below this, and below what asking took, a difference to the database says nothing.
const NOISE_MS: i64 = 100;
/// Such a difference is corrected by so much at a time: clocks drift.
const CORRECTION_MS: i64 = 10;
/// A step beyond this is that of a clock that was set; one back leaves waits in rows that are to be
/// brought back.
const STEP_MS: i64 = 1_000;
/// Two readings of different clocks belong together when no more than this went by between them.
const AT_ONCE_MS: i64 = 5;

/// A clock, shared by cloning.
#[derive(Debug, Clone)]
pub struct Clock(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// The database's time when the machine was booted.
    base_ms: AtomicI64,
    /// How far the database's clock is ahead of this machine's.
    skew_ms: AtomicI64,
    /// How far the providers' clocks are ahead of `now`.
    providers_ahead_ms: AtomicI64,
    /// What this machine's clock showed, less the time since boot, when they were compared last.
    booted_ms: AtomicI64,
    /// How often all time was set back, and by how much together.
    steps_back: AtomicU64,
    set_back_ms: AtomicI64,
    /// How far it went along with the sandbox inside.
    with_sandbox_ms: AtomicI64,
    /// A drill's jumps and mistakes and the way with the sandbox, and all ways forward alone.
    offset_ms: AtomicI64,
    leapt_ms: AtomicI64,
    jumps: watch::Sender<u64>,
    /// When it was set last, in milliseconds since `began`.
    set_at_ms: AtomicU64,
    began: Instant,
}

impl Clock {
    /// The machine's time, until the database was asked; in a drill as many seconds later as
    /// `INTERLOCK_CLOCK_AHEAD_S` says, for a process that is to come after a long pause.
    #[must_use]
    pub fn new() -> Self {
        let booted_ms = AtomicI64::new(booted_at().0);
        let clock = Self(Arc::new(Inner {
            base_ms: AtomicI64::new(booted_ms.load(Ordering::Relaxed)),
            skew_ms: AtomicI64::default(),
            providers_ahead_ms: AtomicI64::default(),
            booted_ms,
            steps_back: AtomicU64::default(),
            set_back_ms: AtomicI64::default(),
            with_sandbox_ms: AtomicI64::default(),
            offset_ms: AtomicI64::default(),
            leapt_ms: AtomicI64::default(),
            jumps: watch::channel(0).0,
            set_at_ms: AtomicU64::default(),
            began: Instant::now(),
        }));

        #[cfg(feature = "testing")]
        if let Some(ahead) = std::env::var("INTERLOCK_CLOCK_AHEAD_S")
            .ok()
            .and_then(|s| s.parse().ok())
        {
            clock.jump(Duration::from_secs(ahead));
        }

        clock
    }

    /// The time now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let base = Timestamp(self.0.base_ms.load(Ordering::Relaxed));
        base.plus_ms(since_boot_ms())
            .plus_ms(self.0.offset_ms.load(Ordering::Relaxed))
    }

    /// How long this gateway runs, on a clock that nobody sets; in a drill it leaps ahead with the
    /// others, and never back. What paces work goes by it.
    #[must_use]
    pub fn steady(&self) -> Duration {
        let leapt = u64::try_from(self.0.leapt_ms.load(Ordering::Relaxed)).unwrap_or(0);
        self.0
            .began
            .elapsed()
            .saturating_add(Duration::from_millis(leapt))
    }

    /// The same as milliseconds, for what counts in them.
    #[must_use]
    pub fn steady_ms(&self) -> Timestamp {
        Timestamp(i64::try_from(self.steady().as_millis()).unwrap_or(i64::MAX))
    }

    /// Tells whenever it was moved.
    #[must_use]
    pub fn jumps(&self) -> watch::Receiver<u64> {
        self.0.jumps.subscribe()
    }

    /// When, on the machine's own clock, something began that has taken so long until now. For
    /// traces alone: nothing is decided by it.
    #[must_use]
    pub fn began(&self, took: Duration) -> SystemTime {
        let ms = u64::try_from(machine_time().0).unwrap_or(0);
        UNIX_EPOCH + Duration::from_millis(ms).saturating_sub(took)
    }

    /// Whether this machine's clock was set since it was compared with the database's.
    #[must_use]
    pub fn was_set(&self) -> bool {
        booted_at()
            .since(Timestamp(self.0.booted_ms.load(Ordering::Relaxed)))
            .abs()
            > NOISE_MS
    }

    /// Takes over the database's time: `database` was its clock between `round_trip` ago and now.
    /// Returns the skew between the two machines in milliseconds.
    pub fn follow(&self, database: Timestamp, round_trip: Duration) -> i64 {
        let round_trip_ms = i64::try_from(round_trip.as_millis()).unwrap_or(i64::MAX);
        let database = database.plus_ms(round_trip_ms / 2);
        let since_boot_ms = since_boot_ms();
        let base = Timestamp(self.0.base_ms.load(Ordering::Relaxed));
        let behind_ms = database.since(base.plus_ms(since_boot_ms));
        let noise_ms = NOISE_MS.max(round_trip_ms);
        let step_ms = if behind_ms.abs() > noise_ms {
            behind_ms
        } else {
            behind_ms.clamp(-CORRECTION_MS, CORRECTION_MS)
        };
        self.0
            .base_ms
            .store(base.plus_ms(step_ms).0, Ordering::Relaxed);
        self.note(step_ms);

        let booted = booted_at();
        self.0.booted_ms.store(booted.0, Ordering::Relaxed);
        let skew_ms = database.since(booted.plus_ms(since_boot_ms));
        let kept = if skew_ms.abs() < noise_ms { 0 } else { skew_ms };
        self.0.skew_ms.store(kept, Ordering::Relaxed);
        skew_ms
    }

    /// The last skew between this machine and the database, in milliseconds.
    #[must_use]
    pub fn skew_ms(&self) -> i64 {
        self.0.skew_ms.load(Ordering::Relaxed)
    }

    /// Every provider's clock is so far ahead of `now`, or further.
    pub fn note_providers(&self, ahead_ms: i64) {
        self.0.providers_ahead_ms.store(ahead_ms, Ordering::Relaxed);
    }

    /// How far every provider's clock is ahead of `now` at the least, in milliseconds; 0 while none
    /// has told.
    #[must_use]
    pub fn providers_ahead_ms(&self) -> i64 {
        self.0.providers_ahead_ms.load(Ordering::Relaxed)
    }

    /// How often all time has been set back. What waits in rows since before may lie too far ahead.
    #[must_use]
    pub fn steps_back(&self) -> u64 {
        self.0.steps_back.load(Ordering::Relaxed)
    }

    /// By how much all time has been set back, all steps together, in milliseconds.
    #[must_use]
    pub fn set_back_ms(&self) -> i64 {
        self.0.set_back_ms.load(Ordering::Relaxed)
    }

    /// When it was set last. What was compared with it before says nothing of what it shows now.
    #[must_use]
    pub fn set_at(&self) -> std::time::Instant {
        (self.0.began + Duration::from_millis(self.0.set_at_ms.load(Ordering::Relaxed))).into_std()
    }

    fn note(&self, step_ms: i64) {
        if step_ms.abs() > STEP_MS {
            let since_ms = u64::try_from(self.0.began.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.0.set_at_ms.store(since_ms, Ordering::Relaxed);
        }
        if step_ms < -STEP_MS {
            self.0
                .set_back_ms
                .fetch_add(step_ms.saturating_neg(), Ordering::Relaxed);
            self.0.steps_back.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Goes along with the sandbox inside, whose time is so far ahead of this machine's: forward,
    /// or not at all.
    pub fn go_with_sandbox(&self, ahead: Duration) {
        let ahead_ms = i64::try_from(ahead.as_millis()).unwrap_or(i64::MAX);
        let before_ms = self
            .0
            .with_sandbox_ms
            .fetch_max(ahead_ms, Ordering::Relaxed);
        if ahead_ms > before_ms {
            self.move_by(ahead_ms.saturating_sub(before_ms));
        }
    }

    /// Whether a sandbox has taken it along: it does not tell the real time then.
    #[must_use]
    pub fn is_with_sandbox(&self) -> bool {
        self.0.with_sandbox_ms.load(Ordering::Relaxed) > 0
    }

    /// Moves the time and wakes whoever waits for it.
    #[cfg(feature = "testing")]
    pub fn jump(&self, by: Duration) {
        self.shift(i64::try_from(by.as_millis()).unwrap_or(i64::MAX));
    }

    /// The same, back as well: a clock that was set.
    #[cfg(feature = "testing")]
    pub fn shift(&self, by_ms: i64) {
        self.move_by(by_ms);
    }

    fn move_by(&self, by_ms: i64) {
        self.0.offset_ms.fetch_add(by_ms, Ordering::Relaxed);
        self.0.leapt_ms.fetch_add(by_ms.max(0), Ordering::Relaxed);
        self.note(by_ms);
        self.0.jumps.send_modify(|n| *n = n.wrapping_add(1));
    }

    /// What this machine's clock shows: for the rule that sleeps by it.
    #[cfg(feature = "testing")]
    #[must_use]
    pub fn wall(&self) -> Timestamp {
        machine_time()
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

/// What this machine's clock shows, less the time since boot: the same as long as nobody sets it.
fn booted_at() -> Timestamp {
    let mut before = since_boot_ms();
    // A thread that was held up between two readings reads again, and believes the third.
    for _ in 0..2 {
        let (machine, after) = (machine_time(), since_boot_ms());
        if after.saturating_sub(before) <= AT_ONCE_MS {
            return machine.plus_ms(after.saturating_neg());
        }
        before = after;
    }
    machine_time().plus_ms(since_boot_ms().saturating_neg())
}

/// Goes on while the machine is suspended; elsewhere the one that comes nearest.
#[cfg(target_os = "linux")]
const SINCE_BOOT: ClockId = ClockId::Boottime;
#[cfg(not(target_os = "linux"))]
const SINCE_BOOT: ClockId = ClockId::Monotonic;

fn since_boot_ms() -> i64 {
    let since = clock_gettime(SINCE_BOOT);
    since
        .tv_sec
        .saturating_mul(1_000)
        .saturating_add(since.tv_nsec / 1_000_000)
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place that reads the wall clock"
)]
fn machine_time() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(2);

    #[test]
    fn now_is_what_the_database_said_last_and_the_time_since() {
        let clock = Clock::new();
        let before = clock.now();
        assert_eq!(clock.follow(before.plus_s(3_600), SOON) / 1_000, 3_600);
        let ahead = clock.now().since(before);
        assert!((3_600_000..3_601_000).contains(&ahead), "{ahead}");
        assert_eq!((clock.skew_ms() / 1_000, clock.steps_back()), (3_600, 0));
        clock.follow(before, SOON);
        assert!(clock.now().since(before) < 1_000);
        assert_eq!(clock.steps_back(), 1, "all time was set back");
    }

    #[test]
    fn it_goes_along_with_a_sandbox_once_and_never_back() {
        let clock = Clock::new();
        let (before, steady) = (clock.now(), clock.steady());
        assert!(!clock.is_with_sandbox());
        for ahead_s in [900, 900, 60] {
            clock.go_with_sandbox(Duration::from_secs(ahead_s));
            let ahead = clock.now().since(before);
            assert!((900_000..901_000).contains(&ahead), "{ahead}");
        }
        assert!(clock.is_with_sandbox() && clock.steady() >= steady + Duration::from_secs(900));
        clock.follow(before, SOON);
        assert!(
            clock.now().since(before) >= 899_000,
            "what the database says is before it was moved"
        );
        assert_eq!(clock.steps_back(), 0);
    }

    #[test]
    fn what_asking_took_is_no_step_of_time() {
        let clock = Clock::new();
        let before = clock.now();
        clock.follow(before.plus_ms(-700), Duration::from_millis(1_500));
        assert!(
            clock.now() >= before.plus_ms(-CORRECTION_MS),
            "it may as well have been a slow answer"
        );
        clock.follow(before.plus_ms(-700), SOON);
        assert!(clock.now() < before.plus_ms(-600));
    }

    #[test]
    fn a_clock_that_nobody_sets_is_not_taken_for_one_that_was_set() {
        let clock = Clock::new();
        assert!(!clock.was_set());
        // As if it had shown another time when they were compared.
        clock.0.booted_ms.fetch_add(150, Ordering::Relaxed);
        assert!(clock.was_set());
        clock.follow(clock.now(), SOON);
        assert!(!clock.was_set());
    }
}
