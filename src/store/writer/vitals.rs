//! How the writing task is: whose changes wait since when, and whether anything can be written.

use std::collections::HashMap;
use std::time::Instant;

use parking_lot::Mutex;

use super::job::Job;
use crate::domain::Owner;
use crate::domain::turns::Turns;

/// Since when whose changes wait.
#[derive(Debug, Default)]
pub(super) struct Waits {
    /// The oldest of each owner, those that are being committed among them.
    pub(super) oldest: HashMap<Owner, Instant>,
    /// Of those owners whose changes are being committed, the oldest of the one who has waited
    /// least.
    pub(super) least: Option<Instant>,
}

impl Waits {
    pub(super) fn of(batch: &[Job], waiting: &Turns<Owner, Job>) -> Self {
        let mut waits = Self::default();
        batch.iter().for_each(|job| waits.note(job));
        waits.least = waits.oldest.values().max().copied();
        waiting.first_of_each().for_each(|(_, job)| waits.note(job));
        waits
    }

    fn note(&mut self, job: &Job) {
        match self.oldest.get_mut(job.owner()) {
            Some(known) => *known = job.since.min(*known),
            None => drop(self.oldest.insert(job.owner().clone(), job.since)),
        }
    }
}

/// How the writing task is, for those who ask whether anything can be written.
#[derive(Debug, Default)]
pub(super) struct Vitals {
    /// Who waits while a commit runs.
    pub(super) waits: Mutex<Waits>,
    /// Since when nothing could be written.
    pub(super) failing: Mutex<Option<Instant>>,
}

impl Vitals {
    pub(super) fn waits(&self, waits: Waits) {
        *self.waits.lock() = waits;
    }

    pub(super) fn writes(&self, does: bool) {
        let mut failing = self.failing.lock();
        match (does, *failing) {
            (true, Some(since)) => {
                let ms = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
                tracing::info!(ms, "the database takes commits again");
                *failing = None;
            }
            (false, None) => {
                tracing::error!("the database takes no commits: no new payments until it does");
                *failing = Some(Instant::now());
            }
            (true, None) | (false, Some(_)) => {}
        }
        metrics::gauge!("interlock_commits_failing").set(if does { 0.0 } else { 1.0 });
    }
}
