//! How attempts and payments end: what nobody can pay any more, what went back, what is given up
//! because its worker is gone, and what a payment comes to when nothing of it lives. "Failed",
//! "canceled" and "expired" are said only when nothing shown can be paid any more.

use providers::outcome::{Failure, FailureKind};

use super::super::Error;
use super::{reversal, schedule};
use crate::domain::attempt::{CallOutcome, Disposition, Event as AttemptEvent, State};
use crate::domain::id::AttemptId;
use crate::domain::operation::ReviewKind;
use crate::domain::payment::Event;
use crate::domain::{Aggregate, Timestamp};
use crate::store::change::ReviewItem;

/// After this long without certainty a person is told.
const UNRESOLVED_AFTER_S: i64 = 24 * 3_600;

/// What an open payment without a live attempt comes to, if it is to end at all: canceled, failed
/// or expired once nothing shown can be paid any more, and `processing` until then. A payment that
/// is to go on is left alone.
///
/// # Errors
/// [`Error::Illegal`].
pub fn conclude(aggregate: &mut Aggregate, now: Timestamp) -> Result<(), Error> {
    if !aggregate.payment.status.is_open() || aggregate.live().is_some() {
        return Ok(());
    }
    let payment = &aggregate.payment;
    let ending = if payment.cancel_requested_at.is_some() {
        Event::Cancel
    } else if payment.failure.is_some() {
        Event::Fail
    } else if now >= payment.expires_at {
        Event::Expire
    } else {
        return Ok(());
    };

    aggregate.payment.resume_at = None;
    let held = aggregate
        .attempts
        .iter()
        .any(|a| a.disposition == Some(Disposition::Held) && !a.returning);

    if held || aggregate.may_still_be_paid() {
        aggregate.payment.apply(Event::Doubt)?;
    } else {
        aggregate.payment.apply(ending)?;
    }

    Ok(())
}

/// Begins to end what is live: an offer is not shown any more and is closed, a charge is reversed,
/// by the resolver or whoever asks first.
///
/// # Errors
/// [`Error::Illegal`].
pub fn begin(aggregate: &mut Aggregate, now: Timestamp) -> Result<(), Error> {
    let live = aggregate
        .live()
        .map(|a| (a.id.clone(), a.status, a.flow.is_charge()));
    let id = match live {
        Some((id, State::AwaitingPayer | State::Unknown, true)) => {
            return reversal::begin(aggregate, &id, now);
        }
        Some((id, State::AwaitingPayer, false)) => id,
        Some(_) | None => return conclude(aggregate, now),
    };

    if let Some(attempt) = aggregate.attempt_mut(&id) {
        attempt.apply(AttemptEvent::Close)?;
        attempt.next_check_at = Some(now);
    }
    aggregate.payment.apply(Event::Doubt)?;
    aggregate.payment.resume_at = None;

    Ok(())
}

/// Nobody can pay it, now or later.
pub fn died(after: &mut Aggregate, attempt_id: &AttemptId, now: Timestamp) -> Result<(), Error> {
    let was_live = after
        .attempt(attempt_id)
        .is_some_and(|a| a.status.is_live());
    let Some(attempt) = after.attempt_mut(attempt_id) else {
        return Ok(());
    };
    attempt.apply(AttemptEvent::Die)?;
    (attempt.next_check_at, attempt.told_paid) = (None, false);
    lost(after, was_live, now)
}

/// Money came in and went back at the provider: both are written down, and there is nothing to
/// keep.
pub fn reversed(
    after: &mut Aggregate,
    attempt_id: &AttemptId,
    now: Timestamp,
) -> Result<(), Error> {
    let was_live = after
        .attempt(attempt_id)
        .is_some_and(|a| a.status.is_live());
    let Some(attempt) = after.attempt_mut(attempt_id) else {
        return Ok(());
    };
    if attempt.status.on(AttemptEvent::Reversed).is_err() {
        attempt.apply(AttemptEvent::Capture)?;
    }
    attempt.apply(AttemptEvent::Reversed)?;
    (attempt.next_check_at, attempt.told_paid) = (None, false);
    lost(after, was_live, now)
}

/// An attempt is over without money: its payment ends, if it was waiting for that, or goes on over
/// other routes.
pub fn lost(after: &mut Aggregate, was_live: bool, now: Timestamp) -> Result<(), Error> {
    conclude(after, now)?;
    let payment = &after.payment;
    let is_ending = payment.cancel_requested_at.is_some()
        || payment.failure.is_some()
        || now >= payment.expires_at;
    if was_live && payment.status.is_open() && !is_ending {
        after.payment.apply(Event::OfferGone)?;
        after.payment.resume_at = Some(now);
    }
    Ok(())
}

/// Whether a person has to look at it: the questions are used up, or a day has passed without
/// certainty.
pub fn unresolved(
    after: &mut Aggregate,
    attempt_id: &AttemptId,
    now: Timestamp,
) -> Result<Option<Vec<ReviewItem>>, Error> {
    let Some(attempt) = after.attempt(attempt_id) else {
        return Ok(None);
    };
    let in_doubt = match attempt.status {
        State::Sending | State::Captured | State::Dead | State::Reversed => false,
        State::AwaitingPayer
        | State::Unknown
        | State::Abandoned
        | State::Closing
        | State::Superseded
        | State::Reversing => true,
    };

    if !in_doubt
        || !(schedule::exhausted(attempt)
            || now.since(attempt.offer_deadline) > UNRESOLVED_AFTER_S * 1_000)
    {
        return Ok(Some(Vec::new()));
    }

    Ok(Some(vec![to_be_resolved(
        ReviewKind::Unresolved,
        after,
        attempt_id,
        now,
    )?]))
}

/// An entry of the work list: somebody has to look an order up.
///
/// # Errors
/// [`Error`].
pub fn to_be_resolved(
    kind: ReviewKind,
    aggregate: &Aggregate,
    attempt_id: &AttemptId,
    now: Timestamp,
) -> Result<ReviewItem, Error> {
    let gone = || Error::Missing(format!("attempt {attempt_id}"));
    let attempt = aggregate.attempt(attempt_id).ok_or_else(gone)?;
    let detail = format!(
        "order {} at {} is {} after {} questions; look it up in the provider's console",
        attempt.provider_order_no, attempt.provider, attempt.status, attempt.query_count
    );
    Ok(ReviewItem::new(
        &aggregate.payment.owner,
        kind,
        attempt_id,
        detail,
        now,
    )?)
}

/// The account cannot be opened (its key is wrong, its provider is not in this version): a person
/// has to mend it.
pub fn put_off(
    after: &mut Aggregate,
    attempt_id: &AttemptId,
    now: Timestamp,
) -> Result<Option<Vec<ReviewItem>>, Error> {
    let owner = after.payment.owner.clone();
    let Some(attempt) = after.attempt_mut(attempt_id) else {
        return Ok(None);
    };
    attempt.next_check_at = Some(now.plus_s(60));
    after.payment.lease_until = None;
    let detail = "the account of this attempt cannot be opened; nobody can ask its provider";
    Ok(Some(vec![ReviewItem::new(
        &owner,
        ReviewKind::AccountUnavailable,
        attempt_id,
        detail,
        now,
    )?]))
}

/// The worker of a call died, or was held up beyond its deadline: the call ended without an answer.
/// `was_before_restore`: it may have ended well after the backup, and its payer may have paid, so
/// nothing new is offered before its provider was asked.
///
/// # Errors
/// [`Error::Illegal`].
pub fn worker_lost(
    after: &mut Aggregate,
    attempt_id: &AttemptId,
    was_before_restore: bool,
    now: Timestamp,
) -> Result<Option<Vec<ReviewItem>>, Error> {
    let Some(attempt) = after.attempt_mut(attempt_id) else {
        return Ok(None);
    };
    if attempt.status != State::Sending {
        return Ok(None);
    }
    let message = "the worker that made the call is gone";
    attempt.outcome = Some(CallOutcome::Unknown);
    attempt.failure = Some(Failure::new(FailureKind::Timeout, "worker_lost", message));

    if attempt.flow.is_charge() {
        attempt.apply(AttemptEvent::Doubt)?;
        attempt.next_check_at = Some(now);
        reversal::await_outcome(after, attempt_id, now)?;
    } else if was_before_restore {
        attempt.apply(AttemptEvent::Abandon)?;
        after.payment.resume_at = Some(now);
        schedule::ask_first(after, attempt_id, now, now);
    } else {
        attempt.apply(AttemptEvent::Abandon)?;
        attempt.next_check_at = Some(schedule::watched_from(attempt, now));
        after.payment.resume_at = Some(now);
    }
    after.payment.lease_until = None;
    Ok(Some(Vec::new()))
}
