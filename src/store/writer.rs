//! Group commit. One task writes all changes of payments: it takes what queued up while its last commit ran (never
//! waiting for more, its owners in turn where it is more than goes into one), writes it with one statement per table in
//! one transaction, commits once, and then answers everybody.
//!
//! The payment's version decides each change: the statement that sets it is the compare-and-set, and only the
//! changes that won it write anything else. So changes in one batch cannot disturb each other, and a batch that
//! fails as a whole (an index refuses one row) is run again one by one.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sea_orm::sea_query::{Expr, ExprTrait as _, IntoColumnRef as _, OnConflict, SimpleExpr};
use sea_orm::{
    ActiveModelTrait, ColumnTrait as _, DbErr, EntityTrait, IntoActiveModel as _, Iterable, PrimaryKeyToColumn as _,
    QueryFilter as _, SqlErr,
};
use tokio::sync::{mpsc, oneshot};

use super::change::{Change, CommitError, KeyWrite};
use super::connection::{Db, Tx, is_about_values, is_no_answer};
use super::entity::{event, idempotency_key, installation, notification, operation, payment};
use super::{beside, rows};
use crate::domain::turns::Turns;
use crate::domain::{Owner, id};

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

/// Says inside that an entry of the work list has changed meanwhile.
const OVERTAKEN: &str = "operation overtaken";

type Verdict = Result<(), CommitError>;

struct Job {
    change: Change,
    since: Instant,
    done: oneshot::Sender<Verdict>,
}

impl Job {
    const fn owner(&self) -> &Owner {
        &self.change.after.payment.owner
    }
}

/// Since when whose changes wait.
#[derive(Debug, Default)]
struct Waits {
    /// The oldest of each owner, those that are being committed among them.
    oldest: HashMap<Owner, Instant>,
    /// Of those owners whose changes are being committed, the oldest of the one who has waited least.
    least: Option<Instant>,
}

impl Waits {
    fn of(batch: &[Job], waiting: &Turns<Owner, Job>) -> Self {
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
struct Vitals {
    /// Who waits while a commit runs.
    waits: Mutex<Waits>,
    /// Since when nothing could be written.
    failing: Mutex<Option<Instant>>,
}

impl Vitals {
    fn waits(&self, waits: Waits) {
        *self.waits.lock().unwrap_or_else(PoisonError::into_inner) = waits;
    }

    fn writes(&self, does: bool) {
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
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
        self.vitals.failing.lock().unwrap_or_else(PoisonError::into_inner).map(|since| since.elapsed())
    }

    /// How long even that owner has waited for the commit that runs who has waited least: the flood of another makes no
    /// difference.
    pub(super) fn waited(&self) -> Duration {
        let waits = self.vitals.waits.lock().unwrap_or_else(PoisonError::into_inner);
        waits.least.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// How long this owner's oldest change has waited. One who has none would have to wait as long as those who wait least.
    pub(super) fn waited_by(&self, owner: &Owner) -> Duration {
        let waits = self.vitals.waits.lock().unwrap_or_else(PoisonError::into_inner);
        waits.oldest.get(owner).copied().or(waits.least).map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Writes a change, durably, or tells why not.
    pub(super) async fn write(&self, change: Change) -> Verdict {
        let (done, verdict) = oneshot::channel();
        let stopped = || CommitError::Unavailable("the writer has stopped".to_owned());
        self.queue.send(Job { change, since: Instant::now(), done }).await.map_err(|_| stopped())?;
        verdict.await.map_err(|_| stopped())?
    }
}

async fn run(db: Db, mut jobs: mpsc::Receiver<Job>, vitals: Arc<Vitals>) {
    let mut waiting: Turns<Owner, Job> = Turns::new();
    loop {
        if waiting.is_empty() {
            let is_failing = vitals.failing.lock().unwrap_or_else(PoisonError::into_inner).is_some();
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
    let row = installation::Model { name: REHEARSAL.to_owned(), value: fresh() };
    installation::Entity::insert(row.into_active_model().reset_all())
        .on_conflict(
            OnConflict::column(installation::Column::Name).update_column(installation::Column::Value).to_owned(),
        )
        .exec_without_returning(&tx)
        .await?;
    tx.commit().await
}

/// Another value each time: what is as it was before may need no room.
fn fresh() -> String {
    id::token().unwrap_or_default()
}

/// The next batch. Two changes of one payment cannot be told apart in one statement: the second waits for the next one.
fn one_per_payment(waiting: &mut Turns<Owner, Job>) -> Vec<Job> {
    let mut seen = HashSet::new();
    let (mut batch, mut later) = (Vec::new(), Vec::new());
    while batch.len() < BATCH && later.len() < PUT_BACK {
        let Some((owner, job)) = waiting.take() else { break };
        if seen.insert(job.change.after.payment.id.clone()) {
            batch.push(job);
        } else {
            later.push((owner, job));
        }
    }
    for (owner, job) in later.into_iter().rev() {
        waiting.put_back(&owner, job);
    }

    // Everybody locks rows in the same order: shuffled batches of two gateways deadlock on PostgreSQL.
    batch.sort_by(|a, b| a.change.after.payment.id.cmp(&b.change.after.payment.id));
    batch
}

/// Returns whether the database took any of it, or said of any of it why not.
async fn write_batch(db: &Db, batch: Vec<Job>) -> bool {
    let changes: Vec<&Change> = batch.iter().map(|job| &job.change).collect();
    metrics::histogram!("interlock_group_commit_changes").record(u32::try_from(changes.len()).unwrap_or(u32::MAX));
    let began = Instant::now();
    let verdicts = match try_write(db, &changes).await {
        Ok(verdicts) => verdicts,
        Err(error) => one_by_one(db, &changes, error).await,
    };
    metrics::histogram!("interlock_group_commit_seconds").record(began.elapsed());
    let is_answered = verdicts.iter().any(|verdict| !matches!(verdict, Err(CommitError::Unavailable(_))));
    for (job, verdict) in batch.into_iter().zip(verdicts) {
        if matches!(verdict, Err(CommitError::Unavailable(_))) {
            metrics::counter!("interlock_commits_unknown_total").increment(1);
        }
        // A caller that has gone away does not mind; the row is written.
        let _ = job.done.send(verdict);
    }
    is_answered
}

/// Each change by itself, after all of them together have failed. Where the database was waited for in vain, nobody waits
/// again: what became of them is unknown.
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
            Ok(verdicts) => return Ok(verdicts.into_iter().next().unwrap_or(Err(CommitError::Moved))),
            Err(e) if tries <= RETRIES && asks_for_another_try(&e) => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Err(e) => {
                return match (e.sql_err(), &e) {
                    (Some(SqlErr::UniqueConstraintViolation(message)), _) => Ok(Err(CommitError::Refused(message))),
                    (_, DbErr::Custom(said)) if said == OVERTAKEN => Ok(Err(CommitError::Overtaken)),
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
    ["40P01", "40001", "deadlock detected", "could not serialize", "database is locked"]
        .iter()
        .any(|sign| text.contains(sign))
}

async fn try_write(db: &Db, changes: &[&Change]) -> Result<Vec<Verdict>, DbErr> {
    let tx = db.write().await?;
    let mut verdicts: Vec<Verdict> = vec![Ok(()); changes.len()];
    claim_keys(&tx, changes, &mut verdicts).await?;
    claim_inbox(&tx, changes, &mut verdicts).await?;
    insert_payments(&tx, changes, &mut verdicts).await?;
    update_payments(&tx, changes, &mut verdicts).await?;
    give_back_claims(&tx, changes, &verdicts).await?;
    let won: Vec<&Change> = changes.iter().zip(&verdicts).filter(|(_, v)| v.is_ok()).map(|(c, _)| *c).collect();
    write_children(&tx, &won).await?;
    end_operations(&tx, &won).await?;
    tx.commit().await?;
    Ok(verdicts)
}

/// Marks every candidate that `won` does not name as lost.
fn judge<'a, K: PartialEq>(
    verdicts: &mut [Verdict],
    candidates: impl Iterator<Item = (usize, K)> + 'a,
    won: &[K],
    lost: &CommitError,
) {
    for (index, key) in candidates {
        if !won.contains(&key)
            && let Some(verdict) = verdicts.get_mut(index)
        {
            *verdict = Err(lost.clone());
        }
    }
}

async fn claim_keys(tx: &Tx, changes: &[&Change], verdicts: &mut [Verdict]) -> Result<(), DbErr> {
    let mut rows = Vec::new();
    let mut claims = Vec::new();
    for (index, change) in changes.iter().enumerate() {
        if let Some(KeyWrite::Claim(key)) = &change.key {
            claims.push((index, key.resource_id.clone()));
            rows.push(beside::key_row(key, &change.after.payment.id, None));
        }
    }
    if rows.is_empty() {
        return Ok(());
    }
    let won: Vec<String> = idempotency_key::Entity::insert_many(rows)
        .on_conflict(OnConflict::new().do_nothing().to_owned())
        .exec_with_returning(tx)
        .await?
        .into_iter()
        .map(|row| row.resource_id)
        .collect();
    judge(verdicts, claims.into_iter(), &won, &CommitError::KeyTaken);
    Ok(())
}

async fn claim_inbox(tx: &Tx, changes: &[&Change], verdicts: &mut [Verdict]) -> Result<(), DbErr> {
    let mut rows = Vec::new();
    let mut claims = Vec::new();
    for (index, (change, verdict)) in changes.iter().zip(verdicts.iter()).enumerate() {
        if let Some(inbox) = change.inbox.as_ref().filter(|_| verdict.is_ok()) {
            claims.push((index, change.after.payment.id.clone()));
            rows.push(beside::notification_row(inbox, Some(&change.after.payment.id)));
        }
    }
    if rows.is_empty() {
        return Ok(());
    }
    let won: Vec<String> = notification::Entity::insert_many(rows)
        .on_conflict(OnConflict::new().do_nothing().to_owned())
        .exec_with_returning(tx)
        .await?
        .into_iter()
        .filter_map(|row| row.payment_id)
        .collect();
    judge(verdicts, claims.into_iter(), &won, &CommitError::NotificationStored);
    Ok(())
}

/// Those changes that have not lost yet, new ones or not.
fn still_in<'a>(changes: &[&'a Change], verdicts: &[Verdict], new: bool) -> Vec<(usize, &'a Change)> {
    changes
        .iter()
        .enumerate()
        .zip(verdicts)
        .filter(|((_, change), verdict)| verdict.is_ok() && change.is_new == new)
        .map(|((index, change), _)| (index, *change))
        .collect()
}

async fn insert_payments(tx: &Tx, changes: &[&Change], verdicts: &mut [Verdict]) -> Result<(), DbErr> {
    let candidates = still_in(changes, verdicts, true);
    if candidates.is_empty() {
        return Ok(());
    }
    let won: Vec<String> =
        payment::Entity::insert_many(candidates.iter().map(|(_, change)| rows::payment_row(&change.after, change.at)))
            .on_conflict(OnConflict::new().do_nothing().to_owned())
            .exec_with_returning(tx)
            .await?
            .into_iter()
            .map(|row| row.id)
            .collect();
    let ids = candidates.into_iter().map(|(index, change)| (index, change.after.payment.id.clone()));
    judge(verdicts, ids, &won, &CommitError::OrderTaken);
    Ok(())
}

/// The compare-and-set of the whole batch: a row is set only where the stored version is the one that was read.
async fn update_payments(tx: &Tx, changes: &[&Change], verdicts: &mut [Verdict]) -> Result<(), DbErr> {
    let candidates = still_in(changes, verdicts, false);
    if candidates.is_empty() {
        return Ok(());
    }
    let stored: SimpleExpr = Expr::col((payment::Entity, payment::Column::Version).into_column_ref());
    let written: SimpleExpr = Expr::col(("excluded", payment::Column::Version).into_column_ref());
    let won: Vec<String> =
        payment::Entity::insert_many(candidates.iter().map(|(_, change)| rows::payment_row(&change.after, change.at)))
            .on_conflict(
                OnConflict::column(payment::Column::Id)
                    .update_columns(payment::Column::iter().filter(|c| !matches!(c, payment::Column::Id)))
                    .action_and_where(stored.eq(written.sub(1)))
                    .to_owned(),
            )
            .exec_with_returning(tx)
            .await?
            .into_iter()
            .map(|row| row.id)
            .collect();
    let ids = candidates.into_iter().map(|(index, change)| (index, change.after.payment.id.clone()));
    judge(verdicts, ids, &won, &CommitError::Moved);
    Ok(())
}

/// A change that lost keeps neither its key nor its place in the inbox: it will be tried again. What it did not get
/// belongs to somebody else, and stays.
async fn give_back_claims(tx: &Tx, changes: &[&Change], verdicts: &[Verdict]) -> Result<(), DbErr> {
    for (change, verdict) in changes.iter().zip(verdicts) {
        let has_inbox = match verdict {
            Err(CommitError::Moved | CommitError::OrderTaken) => true,
            Err(CommitError::NotificationStored) => false,
            // Without its key a change claims nothing else.
            Ok(())
            | Err(
                CommitError::KeyTaken | CommitError::Refused(_) | CommitError::Overtaken | CommitError::Unavailable(_),
            ) => continue,
        };
        if let Some(KeyWrite::Claim(key)) = &change.key {
            idempotency_key::Entity::delete_many()
                .filter(beside::key_is(&key.scope))
                .filter(idempotency_key::Column::ResourceId.eq(&key.resource_id))
                .exec(tx)
                .await?;
        }
        if let Some(inbox) = change.inbox.as_ref().filter(|_| has_inbox) {
            notification::Entity::delete_by_id((inbox.account_id.clone(), inbox.notification_id.clone()))
                .exec(tx)
                .await?;
        }
    }
    Ok(())
}

/// Rows below the payment. Nobody else can write them: their payment's version was just won.
async fn write_children(tx: &Tx, won: &[&Change]) -> Result<(), DbErr> {
    // Older attempts first: the one that dies must have left its place before the new one takes it.
    let mut attempts: Vec<_> = won.iter().flat_map(|change| &change.attempts).collect();
    attempts.sort_by(|a, b| (&a.payment_id, a.seq).cmp(&(&b.payment_id, b.seq)));
    upsert(tx, attempts.into_iter().map(rows::attempt_row).collect()).await?;
    let refunds = won.iter().flat_map(|change| &change.refunds).map(rows::refund_row).collect();
    upsert(tx, refunds).await?;
    beside::insert_entries(tx, won).await?;
    insert_events(tx, won).await?;
    insert_operations(tx, won).await?;
    answer_keys(tx, won).await
}

/// Inserts rows, or overwrites the ones that are there.
async fn upsert<A>(tx: &Tx, rows: Vec<A>) -> Result<(), DbErr>
where
    A: ActiveModelTrait + Send,
    <A::Entity as EntityTrait>::Column: Iterable,
{
    if rows.is_empty() {
        return Ok(());
    }
    type Column<A> = <<A as ActiveModelTrait>::Entity as EntityTrait>::Column;
    let keys: Vec<Column<A>> =
        <<A::Entity as EntityTrait>::PrimaryKey as Iterable>::iter().map(|k| k.into_column()).collect();
    let names: Vec<String> = keys.iter().map(|k| format!("{k:?}")).collect();
    let others = Column::<A>::iter().filter(|c| !names.contains(&format!("{c:?}")));
    A::Entity::insert_many(rows)
        .on_conflict(OnConflict::columns(keys).update_columns(others).to_owned())
        .exec_without_returning(tx)
        .await?;
    Ok(())
}

/// The events that a change tells of, as they are stored.
pub(super) fn event_rows(change: &Change) -> impl Iterator<Item = event::Model> + '_ {
    let payment = &change.after.payment;
    change.events.iter().map(|e| event::Model {
        id: e.id.clone(),
        merchant_id: payment.owner.merchant.clone(),
        payment_id: payment.id.clone(),
        version: payment.version,
        r#type: e.kind.to_owned(),
        data: e.data.clone(),
        created_at: e.created_at.0,
        livemode: payment.owner.is_live(),
        // Whom it is told to is found out later: a payment's commit reads no endpoints.
        fan_out_at: Some(e.created_at.0),
    })
}

async fn insert_events(tx: &Tx, won: &[&Change]) -> Result<(), DbErr> {
    let rows = won.iter().flat_map(|change| event_rows(change)).map(|row| row.into_active_model().reset_all());
    let rows: Vec<_> = rows.collect();
    if rows.is_empty() {
        return Ok(());
    }
    event::Entity::insert_many(rows).exec_without_returning(tx).await?;
    Ok(())
}

async fn insert_operations(tx: &Tx, won: &[&Change]) -> Result<(), DbErr> {
    let rows: Vec<_> = won.iter().flat_map(|change| &change.operations).map(beside::operation_row).collect();
    if rows.is_empty() {
        return Ok(());
    }
    operation::Entity::insert_many(rows)
        .on_conflict(OnConflict::new().do_nothing().to_owned())
        .exec_without_returning(tx)
        .await?;
    Ok(())
}

/// Entries of the work list that end with a change. One that has changed meanwhile takes the change back with it, and
/// with that the whole transaction; its neighbours are then written without it.
async fn end_operations(tx: &Tx, won: &[&Change]) -> Result<(), DbErr> {
    for resolution in won.iter().filter_map(|change| change.resolution.as_ref()) {
        if !beside::end_operation(tx, resolution).await? {
            return Err(DbErr::Custom(OVERTAKEN.to_owned()));
        }
    }
    Ok(())
}

async fn answer_keys(tx: &Tx, won: &[&Change]) -> Result<(), DbErr> {
    use idempotency_key::Column as C;
    let rows: Vec<_> = won
        .iter()
        .filter_map(|change| match &change.key {
            Some(KeyWrite::Answer(key, answer)) => Some(beside::key_row(key, &change.after.payment.id, Some(answer))),
            Some(KeyWrite::Claim(_)) | None => None,
        })
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    let unanswered = Expr::col((idempotency_key::Entity, C::AnswerStatus)).is_null();
    idempotency_key::Entity::insert_many(rows)
        .on_conflict(
            OnConflict::columns([C::MerchantId, C::Operation, C::Key])
                .update_columns([C::AnswerStatus, C::AnswerBody, C::AnsweredState, C::AnsweredAttempt])
                .action_and_where(unanswered)
                .to_owned(),
        )
        .exec_without_returning(tx)
        .await?;
    Ok(())
}
