//! Ending payments: canceling, expiring, and saying so only when nothing shown can be paid any more.

use std::sync::Arc;

use super::{DECISIONS, Trouble, events, plan, reverse};
use crate::app::App;
#[cfg(feature = "testing")]
use crate::broken::{Rule, breaks};
use crate::domain::attempt::{Disposition, Event as AttemptEvent, State};
use crate::domain::payment::Event;
use crate::domain::{Aggregate, Owner, Timestamp};
use crate::kill_point;
use crate::store::CommitError;
use crate::store::change::Change;

/// What an open payment without a live attempt comes to, if it is to end at all: canceled, failed or expired once
/// nothing shown can be paid any more, and `processing` until then. A payment that is to go on is left alone.
///
/// # Errors
/// [`Trouble::Illegal`].
pub fn conclude(aggregate: &mut Aggregate, now: Timestamp) -> Result<(), Trouble> {
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
    let held = aggregate.attempts.iter().any(|a| a.disposition == Some(Disposition::Held) && !a.returning);
    if held || aggregate.may_still_be_paid() {
        aggregate.payment.apply(Event::Doubt)?;
    } else {
        aggregate.payment.apply(ending)?;
    }
    Ok(())
}

/// Begins to end what is live: an offer is not shown any more and is closed, a charge is reversed, by the resolver or
/// whoever asks first.
///
/// # Errors
/// [`Trouble::Illegal`].
pub fn begin(aggregate: &mut Aggregate, now: Timestamp) -> Result<(), Trouble> {
    let live = aggregate.live().map(|a| (a.id.clone(), a.status, a.flow.takes_money()));
    let id = match live {
        Some((id, State::AwaitingPayer | State::Unknown, true)) => return reverse::begin(aggregate, &id, now),
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

/// Notes that the merchant wants a payment canceled, and begins to end its offer. Asking again changes nothing.
/// `None` when the merchant has no such payment.
///
/// # Errors
/// [`Trouble`].
pub async fn cancel(app: &Arc<App>, owner: &Owner, payment_id: &str) -> Result<Option<Aggregate>, Trouble> {
    for _ in 0..DECISIONS {
        let Some(before) = app.store.payment_of(owner, payment_id).await? else { return Ok(None) };
        if !before.payment.status.is_open() || before.payment.cancel_requested_at.is_some() {
            return Ok(Some(before));
        }
        let now = app.clock.now();
        let mut after = before.clone();
        after.payment.cancel_requested_at = Some(now);
        begin(&mut after, now)?;
        let change =
            Change::update(&before, after.clone(), now).with_events(events::between(Some(&before), &after, now)?);
        let written = change.after().clone();
        match app.store.commit(change).await {
            Ok(()) => {
                kill_point!("cancel_after_commit");
                return Ok(Some(written));
            }
            Err(CommitError::Moved) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(CommitError::Moved.into())
}

/// The payer wants to pay another way: the shown offer is superseded (it is closed in the background, and money on
/// it is still recognised) and a new attempt is planned. `Ok(None)` when the payment cannot get another offer now.
///
/// # Errors
/// [`Trouble`].
pub fn replace_offer(app: &App, before: &Aggregate, now: Timestamp) -> Result<Option<(Aggregate, bool)>, Trouble> {
    let mut after = before.clone();
    let payment = &after.payment;
    if !payment.status.is_open() || payment.cancel_requested_at.is_some() || now >= payment.expires_at {
        return Ok(None);
    }
    match after.live().filter(|a| !a.flow.takes_money()).map(|a| (a.id.clone(), a.status)) {
        None if after.live().is_some() => return Ok(None),
        #[cfg(feature = "testing")]
        Some((_, State::AwaitingPayer)) if breaks(Rule::NoUniqueLiveAttempt) => {
            after.payment.apply(Event::OfferGone)?;
        }
        Some((id, State::AwaitingPayer)) => {
            if let Some(attempt) = after.attempt_mut(&id) {
                attempt.apply(AttemptEvent::Supersede)?;
                attempt.next_check_at = Some(now);
            }
            after.payment.apply(Event::OfferGone)?;
        }
        None => {}
        // Something is under way that has to end first.
        Some((
            _,
            State::Sending
            | State::Unknown
            | State::Abandoned
            | State::Closing
            | State::Superseded
            | State::Reversing
            | State::Captured
            | State::Dead
            | State::Reversed,
        )) => return Ok(None),
    }
    after.payment.round = after.payment.round.saturating_add(1);
    after.payment.failure = None;
    let planned = plan::next(app, &mut after, now)?;
    Ok(Some((after, planned.served)))
}
