//! What money that came in means. The one place that books a capture, whoever brought the news.

use providers::outcome::Capture;

use super::super::Error;
use super::{ending, reversal, schedule};
use crate::domain::attempt::{Disposition, Event as AttemptEvent, State};
use crate::domain::id::{AttemptId, PaymentId};
use crate::domain::operation::ReviewKind;
use crate::domain::payment::Event;
use crate::domain::{Aggregate, Timestamp};
use crate::mutate;
use crate::store::change::ReviewItem;

/// Books a capture that a verified answer proves, once: for an attempt whose money is booked
/// already nothing changes. Returns what has to go on the work list.
///
/// * The payment is open: the money is kept, whichever attempt it came on, and every other attempt
///   is ended.
/// * It has been paid, or has ended: the money has to go back.
/// * The provider says that it will give the money back by itself: it is held until a statement
///   shows that.
/// * Amount, account or payment do not agree with what we asked for: it is held for a person.
///
/// # Errors
/// [`Error`] when a state does not allow it; nothing may be written then.
pub fn book(
    aggregate: &mut Aggregate,
    attempt_id: &AttemptId,
    capture: &Capture,
    now: Timestamp,
) -> Result<Vec<ReviewItem>, Error> {
    let payment_id = aggregate.payment.id.clone();
    let is_open = aggregate.payment.status.is_open();
    let gone = || Error::Missing(format!("attempt {attempt_id}"));
    let attempt = aggregate.attempt_mut(attempt_id).ok_or_else(gone)?;

    if matches!(attempt.status, State::Captured | State::Reversed) {
        attempt.next_check_at = None;
        return Ok(Vec::new());
    }
    let mismatch = mismatch(capture, attempt.amount, &payment_id);
    let was_live = attempt.status.is_live();
    attempt.apply(AttemptEvent::Capture)?;
    attempt.captured = Some(capture.amount);
    attempt.provider_transaction_id = Some(capture.transaction_id.clone());
    attempt.payer_amount = capture.payer_amount;
    attempt.payer = capture.payer.clone();
    attempt.paid_at = Some(capture.paid_at.map_or(now, Timestamp::from));
    attempt.returning = capture.returns_by_itself;
    attempt.told_paid = false;

    let (disposition, next_check_at) = match (&mismatch, is_open) {
        (Some(_), _) => (Disposition::Held, None),
        (None, _) if attempt.returning => (Disposition::Held, None),
        (None, true) => (Disposition::Kept, None),
        // Due at once: whoever looks at the payment next gives it back.
        (None, false) => (Disposition::RefundDue, Some(now)),
    };

    (attempt.disposition, attempt.next_check_at) = (Some(disposition), next_check_at);
    let paid_at = attempt.paid_at;

    if attempt.returning && mismatch.is_none() {
        let detail =
            "the provider took it after its deadline and gives it back by itself; do not refund it";
        let held = ReviewItem::new(
            &aggregate.payment.owner,
            ReviewKind::CaptureReturning,
            attempt_id,
            detail,
            now,
        )?;
        ending::lost(aggregate, was_live, now)?;
        return Ok(vec![held]);
    }

    if let Some(detail) = mismatch {
        if is_open {
            aggregate.payment.apply(Event::Doubt)?;
        }
        return Ok(vec![ReviewItem::new(
            &aggregate.payment.owner,
            ReviewKind::CaptureMismatch,
            attempt_id,
            detail,
            now,
        )?]);
    }

    if is_open {
        aggregate.payment.apply(Event::Captured)?;
        aggregate.payment.paid_at = paid_at;
        aggregate.payment.failure = None;
        aggregate.payment.resume_at = None;
        aggregate.payment.lease_until = None;
        end_the_others(aggregate, attempt_id, now)?;
    }

    Ok(Vec::new())
}

/// Money on an attempt: booked at once on the live one, asked about first on one that was given up.
/// On one whose money is in the books already it is old news: asking about that again would never
/// end.
///
/// # Errors
/// [`Error`].
pub fn money_seen(
    after: &mut Aggregate,
    attempt_id: &AttemptId,
    money: &Capture,
    now: Timestamp,
) -> Result<Vec<ReviewItem>, Error> {
    let Some(attempt) = after.attempt_mut(attempt_id) else {
        return Ok(Vec::new());
    };

    match attempt.status {
        State::Sending | State::AwaitingPayer | State::Closing | State::Unknown => {
            book(after, attempt_id, money, now)
        }
        State::Abandoned | State::Superseded | State::Dead => {
            attempt.tell_paid();
            attempt.next_check_at = Some(now);
            Ok(Vec::new())
        }
        // A reversal that is on its way ends first.
        State::Reversing => {
            attempt.tell_paid();
            attempt.next_check_at = Some(attempt.call_deadline.max(now));
            Ok(Vec::new())
        }
        State::Captured | State::Reversed => Ok(Vec::new()),
    }
}

/// What does not agree, in words for the work list.
fn mismatch(
    capture: &Capture,
    asked: providers::money::Money,
    payment_id: &PaymentId,
) -> Option<String> {
    mutate!(NoAmountCheck => return None);
    if capture.amount != asked {
        return Some(format!(
            "asked for {asked}, the provider took {}",
            capture.amount
        ));
    }

    if let Some(foreign) = &capture.foreign_account {
        return Some(format!("the money is on another account: {foreign}"));
    }
    capture
        .payment_id
        .as_ref()
        .filter(|returned| *returned != payment_id)
        .map(|returned| format!("the provider returned the id of another payment: {returned}"))
}

/// The payment has its money: whatever else is alive is ended, and watched until it provably is.
pub fn end_the_others(aggregate: &mut Aggregate, kept: &str, now: Timestamp) -> Result<(), Error> {
    for other in aggregate.attempts.iter_mut().filter(|a| a.id != kept) {
        if other.flow.is_charge() {
            // It is asked about and reversed like any other charge; money on it goes back.
            if matches!(other.status, State::AwaitingPayer | State::Unknown) {
                reversal::start_reversal(other, now)?;
            }
            continue;
        }
        match other.status {
            State::Sending => {
                other.apply(AttemptEvent::Abandon)?;
                other.next_check_at = Some(schedule::watched_from(other, now));
            }
            State::AwaitingPayer | State::Closing => {
                other.apply(AttemptEvent::Supersede)?;
                other.next_check_at = Some(now);
            }
            State::Superseded => other.next_check_at = Some(now),
            State::Unknown
            | State::Reversing
            | State::Abandoned
            | State::Captured
            | State::Dead
            | State::Reversed => {}
        }
    }

    Ok(())
}
