//! Group commit. One task writes all changes of payments: it takes what queued up while its last
//! commit ran (never waiting for more, its owners in turn where it is more than goes into one),
//! writes it with one statement per table in one transaction, commits once, and then answers
//! everybody.
//!
//! The payment's version decides each change: the statement that sets it is the compare-and-set,
//! and only the changes that won it write anything else. So changes in one batch cannot disturb
//! each other, and a batch that fails as a whole (an index refuses one row) is run again one by
//! one.

mod job;
mod tables;
mod vitals;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sea_orm::sea_query::OnConflict;
use sea_orm::{ActiveModelTrait as _, DbErr, EntityTrait as _, IntoActiveModel as _, SqlErr};
use tokio::sync::{mpsc, oneshot};

use self::job::{Job, Verdict};
pub(super) use self::tables::event_rows;
use self::tables::{OVERTAKEN, try_write};
use self::vitals::{Vitals, Waits};
use super::change::{Change, CommitError};
use super::connection::{Db, is_about_values, is_no_answer};
use crate::domain::turns::Turns;
use crate::domain::{Owner, id};
use crate::store::installation;

/// The most changes in one transaction.
const BATCH: usize = 64;
/// So many are looked at beside them at the most.
const PUT_BACK: usize = 4 * BATCH;
/// The most changes that come in while a commit runs; more callers wait until it is over.
const QUEUE: usize = 4096;
/// How often a change is tried again when the database asks for it (deadlock, serialisation, busy).
const RETRIES: usize = 5;
/// While nothing can be written, somebody tries once in so long.
const REHEARSED_EVERY: Duration = Duration::from_secs(1);
/// The fact about the installation that is written for it.
const REHEARSAL: &str = "rehearsal";

/// The way to the writing task, shared by cloning.
#[derive(Debug, Clone)]
pub(super) struct Writer {
    queue: mpsc::Sender<Job>,
    vitals: Arc<Vitals>,
}

impl Writer {
    /// Starts the task. It ends when the last `Writer` is dropped and the queue is empty.
    pub(super) fn start(db: Db) -> Self {
        let (queue, jobs) = mpsc::channel(QUEUE);
        let vitals = Arc::<Vitals>::default();
        tokio::spawn(run(db, jobs, Arc::clone(&vitals)));
        Self { queue, vitals }
    }

    /// For how long nothing could be written; `None` while all is well.
    pub(super) fn failing(&self) -> Option<Duration> {
        self.vitals.failing.lock().map(|since| since.elapsed())
    }

    /// How long even that owner has waited for the commit that runs who has waited least: the flood
    /// of another makes no difference.
    pub(super) fn waited(&self) -> Duration {
        let waits = self.vitals.waits.lock();
        waits.least.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// How long this owner's oldest change has waited. One who has none would have to wait as long
    /// as those who wait least.
    pub(super) fn waited_by(&self, owner: &Owner) -> Duration {
        let waits = self.vitals.waits.lock();
        waits
            .oldest
            .get(owner)
            .copied()
            .or(waits.least)
            .map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Writes a change, durably, or tells why not.
    pub(super) async fn write(&self, change: Change) -> Verdict {
        let (done, verdict) = oneshot::channel();
        let stopped = || CommitError::Unavailable("the writer has stopped".to_owned());
        self.queue
            .send(Job {
                change,
                since: Instant::now(),
                done,
            })
            .await
            .map_err(|_| stopped())?;
        verdict.await.map_err(|_| stopped())?
    }
}

async fn run(db: Db, mut jobs: mpsc::Receiver<Job>, vitals: Arc<Vitals>) {
    let mut waiting: Turns<Owner, Job> = Turns::new();
    loop {
        if waiting.is_empty() {
            let is_failing = vitals.failing.lock().is_some();
            tokio::select! {
                job = jobs.recv() => match job {
                    Some(job) => waiting.push(&job.owner().clone(), job),
                    None => return,
                },
                // New payments are refused until somebody has seen that it writes again.
                () = tokio::time::sleep(REHEARSED_EVERY), if is_failing => {
                    vitals.writes(rehearse(&db).await.is_ok());
                    continue;
                }
            }
        }
        // All of them: whoever stood in the way they come in would not have a turn.
        while let Ok(job) = jobs.try_recv() {
            waiting.push(&job.owner().clone(), job);
        }

        let batch = one_per_payment(&mut waiting);
        vitals.waits(Waits::of(&batch, &waiting));
        vitals.writes(write_batch(&db, batch).await);
        vitals.waits(Waits::default());
    }
}

/// A commit of nothing that anybody reads, to see whether it is possible.
async fn rehearse(db: &Db) -> Result<(), DbErr> {
    let tx = db.write().await?;
    let row = installation::Model {
        name: REHEARSAL.to_owned(),
        value: fresh(),
    };
    installation::Entity::insert(row.into_active_model().reset_all())
        .on_conflict(
            OnConflict::column(installation::Column::Name)
                .update_column(installation::Column::Value)
                .to_owned(),
        )
        .exec_without_returning(&tx)
        .await?;
    tx.commit().await
}

/// Another value each time: what is as it was before may need no room.
fn fresh() -> String {
    id::token().unwrap_or_default()
}

/// The next batch. Two changes of one payment cannot be told apart in one statement: the second
/// waits for the next one.
fn one_per_payment(waiting: &mut Turns<Owner, Job>) -> Vec<Job> {
    let mut seen = HashSet::new();
    let (mut batch, mut later) = (Vec::new(), Vec::new());
    while batch.len() < BATCH && later.len() < PUT_BACK {
        let Some((owner, job)) = waiting.take() else {
            break;
        };
        if seen.insert(job.change.after.payment.id.clone()) {
            batch.push(job);
        } else {
            later.push((owner, job));
        }
    }
    for (owner, job) in later.into_iter().rev() {
        waiting.put_back(&owner, job);
    }

    // Everybody locks rows in the same order: shuffled batches of two gateways deadlock on
    // PostgreSQL.
    batch.sort_by(|a, b| a.change.after.payment.id.cmp(&b.change.after.payment.id));
    batch
}

/// Returns whether the database took any of it, or said of any of it why not.
async fn write_batch(db: &Db, batch: Vec<Job>) -> bool {
    let changes: Vec<&Change> = batch.iter().map(|job| &job.change).collect();
    metrics::histogram!("interlock_group_commit_changes")
        .record(u32::try_from(changes.len()).unwrap_or(u32::MAX));
    let began = Instant::now();
    let verdicts = match try_write(db, &changes).await {
        Ok(verdicts) => verdicts,
        Err(error) => one_by_one(db, &changes, error).await,
    };
    metrics::histogram!("interlock_group_commit_seconds").record(began.elapsed());
    let is_answered = verdicts
        .iter()
        .any(|verdict| !matches!(verdict, Err(CommitError::Unavailable(_))));

    for (job, verdict) in batch.into_iter().zip(verdicts) {
        if matches!(verdict, Err(CommitError::Unavailable(_))) {
            metrics::counter!("interlock_commits_unknown_total").increment(1);
        }
        // A caller that has gone away does not mind; the row is written.
        let _ = job.done.send(verdict);
    }

    is_answered
}

/// Each change by itself, after all of them together have failed. Where the database was waited for
/// in vain, nobody waits again: what became of them is unknown.
async fn one_by_one(db: &Db, changes: &[&Change], mut error: DbErr) -> Vec<Verdict> {
    let mut verdicts = Vec::with_capacity(changes.len());
    for change in changes {
        if is_no_answer(&error) {
            verdicts.push(Err(CommitError::Unavailable(error.to_string())));
            continue;
        }
        verdicts.push(match write_one(db, change).await {
            Ok(verdict) => verdict,
            Err(failed) => {
                let unknown = Err(CommitError::Unavailable(failed.to_string()));
                error = failed;
                unknown
            }
        });
    }

    verdicts
}

async fn write_one(db: &Db, change: &Change) -> Result<Verdict, DbErr> {
    let mut tries = 0;

    loop {
        tries += 1;
        match try_write(db, &[change]).await {
            Ok(verdicts) => {
                return Ok(verdicts
                    .into_iter()
                    .next()
                    .unwrap_or(Err(CommitError::VersionConflict)));
            }
            Err(e) if tries <= RETRIES && asks_for_another_try(&e) => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Err(e) => {
                return match (e.sql_err(), &e) {
                    (Some(SqlErr::UniqueConstraintViolation(message)), _) => {
                        Ok(Err(CommitError::Refused(message)))
                    }
                    (_, DbErr::Custom(said)) if said == OVERTAKEN => {
                        Ok(Err(CommitError::ReviewItemChanged))
                    }
                    _ if is_about_values(&e) => Ok(Err(CommitError::Refused(e.to_string()))),
                    _ => Err(e),
                };
            }
        }
    }
}

/// Deadlock (40P01), serialisation failure (40001), and SQLite's busy.
fn asks_for_another_try(error: &DbErr) -> bool {
    let text = error.to_string();
    [
        "40P01",
        "40001",
        "deadlock detected",
        "could not serialize",
        "database is locked",
    ]
    .iter()
    .any(|sign| text.contains(sign))
}
