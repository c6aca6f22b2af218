//! Writing what was decided: by compare-and-set of the payment's version, decided again when
//! somebody else was first, and told to merchants by the difference that it makes.

use super::Error;
use super::view::events;
use crate::app::App;
use crate::domain::id::PaymentId;
use crate::domain::{Aggregate, AllOwners, Timestamp};
use crate::kill_point;
use crate::store::change::{Change, Inbox, KeyWrite, Resolution, ReviewItem};

/// How often a decision is taken again when somebody else changed the payment first. Each time
/// somebody has got on; so many at once on one payment are refunds of its many parts.
pub(super) const MAX_CAS_RETRIES: usize = 64;

/// What is written together with a payment.
#[derive(Debug, Clone, Default)]
pub struct Beside {
    /// What happens to the key of the request.
    pub key: Option<KeyWrite>,
    /// The notification that it is about.
    pub inbox: Option<Inbox>,
    /// What a person has to hear of.
    pub operations: Vec<ReviewItem>,
    /// What two persons have decided.
    pub resolution: Option<Resolution>,
}

impl Beside {
    /// Nothing but entries of the work list.
    #[must_use]
    pub fn operations(operations: Vec<ReviewItem>) -> Self {
        Self {
            operations,
            ..Self::default()
        }
    }

    /// Nothing but a key.
    #[must_use]
    pub fn key(key: Option<KeyWrite>) -> Self {
        Self {
            key,
            ..Self::default()
        }
    }
}

/// The change from `before`, `None` for a new payment, with what merchants are told of it.
///
/// # Errors
/// [`Error::Random`].
pub fn change(
    before: Option<&Aggregate>,
    after: Aggregate,
    now: Timestamp,
    beside: Beside,
) -> Result<Change, Error> {
    let told = events::between(before, &after, now)?;
    let change = match before {
        Some(before) => Change::update(before, after, now),
        None => Change::create(after),
    };
    let Beside {
        key,
        inbox,
        operations,
        resolution,
    } = beside;

    Ok(change
        .with_events(told)
        .with_key(key)
        .with_inbox(inbox)
        .with_operations(operations)
        .with_resolution(resolution))
}

/// Writes a payment as it was decided. Returns it as it will be read.
///
/// # Errors
/// [`Error`]; `Commit(VersionConflict)` and `Commit(ReviewItemChanged)` when somebody else was
/// first.
pub async fn commit(
    app: &App,
    before: &Aggregate,
    after: Aggregate,
    now: Timestamp,
    beside: Beside,
) -> Result<Aggregate, Error> {
    let change = change(Some(before), after, now, beside)?;
    let written = change.after().clone();
    app.store.commit(change).await?;
    Ok(written)
}

/// The one loop of compare-and-set: what reads, decides and writes is done once more each time that
/// somebody else was first. (It is a macro because a closure that lends what it has captured is not
/// known to be `Send`.)
macro_rules! decided {
    ($once:block) => {{
        let mut left = $crate::payments::commit::MAX_CAS_RETRIES;
        loop {
            left -= 1;
            let done: Result<_, $crate::payments::Error> = async { $once }.await;
            match done {
                Err($crate::payments::Error::Commit(
                    $crate::store::CommitError::VersionConflict
                    | $crate::store::CommitError::ReviewItemChanged,
                )) if left > 0 => {}
                done => break done,
            }
        }
    }};
}
pub(super) use decided;

/// Takes a decision about a payment and writes it. A decision of `None` means that there is nothing
/// to do any more.
///
/// # Errors
/// [`Error`].
pub(super) async fn update(
    app: &App,
    before: Aggregate,
    mut decide: impl FnMut(&mut Aggregate, Timestamp) -> Result<Option<Vec<ReviewItem>>, Error>,
) -> Result<Aggregate, Error> {
    let id = before.payment.id.clone();
    let mut known = Some(before);
    decided!({
        let before = read(app, &mut known, &id).await?;
        let now = app.clock.now();
        let mut after = before.clone();
        let Some(operations) = decide(&mut after, now)? else {
            return Ok(before);
        };
        if after == before && operations.is_empty() {
            // Somebody else was first, and has done all of it.
            return Ok(before);
        }

        let written = commit(app, &before, after, now, Beside::operations(operations)).await?;
        kill_point!("resolve_after_commit");
        Ok(written)
    })
}

/// The payment as it is known, the first time; as it is stored, every other time.
///
/// # Errors
/// [`Error`].
pub(super) async fn read(
    app: &App,
    known: &mut Option<Aggregate>,
    payment_id: &PaymentId,
) -> Result<Aggregate, Error> {
    match known.take() {
        Some(known) => Ok(known),
        None => reload(app, payment_id).await,
    }
}

/// The payment as it is stored now.
///
/// # Errors
/// [`Error`].
pub async fn reload(app: &App, payment_id: &PaymentId) -> Result<Aggregate, Error> {
    app.store
        .payment(AllOwners, payment_id)
        .await?
        .ok_or_else(|| Error::Missing(format!("payment {payment_id}")))
}
