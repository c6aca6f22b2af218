//! How the gateway's own jobs get on: when a step of each ended last, and when one succeeded. Kept
//! in memory, on a clock that nobody sets; metrics, readiness and alerts read it. Decides nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

#[derive(Debug, Clone, Copy)]
struct Beat {
    every: Duration,
    ended: Instant,
    succeeded: Instant,
}

/// How long ago a job did something. One that has just begun counts as if it had done it then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Age {
    /// Which job.
    pub job: String,
    /// The pause that it makes between two steps.
    pub every: Duration,
    /// Since its last step ended, however it did.
    pub since_ended: Duration,
    /// Since a step succeeded.
    pub since_succeeded: Duration,
}

impl Age {
    /// For how long it should have ended a step and has not.
    #[must_use]
    pub fn overdue(&self) -> Duration {
        self.since_ended.saturating_sub(self.every)
    }
}

/// All jobs that run.
#[derive(Debug, Default)]
pub struct Progress(Mutex<BTreeMap<String, Beat>>);

impl Progress {
    fn beats(&self) -> MutexGuard<'_, BTreeMap<String, Beat>> {
        self.0.lock()
    }

    /// A job begins, which makes such pauses between its steps.
    pub fn begin(&self, job: &str, every: Duration) {
        let now = Instant::now();
        self.beats().insert(
            job.to_owned(),
            Beat {
                every,
                ended: now,
                succeeded: now,
            },
        );
    }

    /// A step of a job has ended.
    pub fn ended(&self, job: &str, well: bool) {
        let now = Instant::now();
        if let Some(beat) = self.beats().get_mut(job) {
            beat.ended = now;
            if well {
                beat.succeeded = now;
            }
        }
    }

    /// How all jobs get on.
    #[must_use]
    pub fn ages(&self) -> Vec<Age> {
        let age = |(job, beat): (&String, &Beat)| Age {
            job: job.clone(),
            every: beat.every,
            since_ended: beat.ended.elapsed(),
            since_succeeded: beat.succeeded.elapsed(),
        };
        self.beats().iter().map(age).collect()
    }

    /// Sets the metrics of all jobs: whenever somebody reads them, so that they are right although
    /// a job stands still.
    pub fn publish(&self) {
        for Age {
            job,
            since_ended,
            since_succeeded,
            ..
        } in self.ages()
        {
            metrics::gauge!("interlock_job_last_end_age_seconds", "name" => job.clone())
                .set(since_ended.as_secs_f64());
            metrics::gauge!("interlock_job_last_success_age_seconds", "name" => job)
                .set(since_succeeded.as_secs_f64());
        }
    }
}

/// How many outcomes of calls are known and could not be written down: while there is one, nobody
/// is charged.
#[derive(Debug, Clone, Default)]
pub struct Unwritten(Arc<AtomicUsize>);

impl Unwritten {
    /// Whether there is any.
    #[must_use]
    pub fn any(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }

    /// Counts one as long as what is returned is kept.
    #[must_use]
    pub fn one_more(&self) -> Kept {
        self.0.fetch_add(1, Ordering::Relaxed);
        Kept(Arc::clone(&self.0))
    }
}

/// One of them, as long as it is kept.
#[derive(Debug)]
pub struct Kept(Arc<AtomicUsize>);

impl Drop for Kept {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_that_fails_ends_and_does_not_succeed() {
        let board = Progress::default();
        board.begin("one", Duration::from_millis(5));
        board.begin("other", Duration::ZERO);
        std::thread::sleep(Duration::from_millis(20));
        board.ended("one", false);
        board.ended("nobody", true);
        let ages = board.ages();
        let names: Vec<&str> = ages.iter().map(|age| age.job.as_str()).collect();

        assert_eq!(names, ["one", "other"]);
        assert!(ages[0].since_ended < ages[0].since_succeeded, "{ages:?}");
        assert!(ages[1].since_ended >= Duration::from_millis(20), "{ages:?}");
        assert!(
            ages[0].overdue() < ages[0].since_ended && ages[1].overdue() == ages[1].since_ended,
            "{ages:?}"
        );

        board.ended("one", true);
        assert!(board.ages()[0].since_succeeded < Duration::from_millis(20));
    }
}
