//! What money that came in means. The one place that books a capture, whoever brought the news.

use providers::outcome::Capture;

use super::schedule;
use crate::domain::attempt::{Disposition, Event as AttemptEvent, State};
use crate::domain::id::{self, Kind};
use crate::domain::payment::Event;
use crate::domain::{Aggregate, Timestamp};
use crate::payments::Trouble;
use crate::store::change::Operation;

/// Books a capture that a verified answer proves, once: for an attempt whose money is booked already nothing
/// changes. Returns what has to go on the work list.
///
/// * The payment is open: the money is kept, whichever attempt it came on, and every other attempt is ended.
/// * It has been paid, or has ended: the money has to go back.
/// * Amount, account or payment do not agree with what we asked for: it is held for a person.
///
/// # Errors
/// [`Trouble`] when a state does not allow it; nothing may be written then.
pub fn book(
    aggregate: &mut Aggregate,
    attempt_id: &str,
    capture: &Capture,
    now: Timestamp,
) -> Result<Vec<Operation>, Trouble> {
    let payment_id = aggregate.payment.id.clone();
    let is_open = aggregate.payment.status.is_open();
    let gone = || Trouble::Gone(format!("attempt {attempt_id}"));
    let attempt = aggregate.attempt_mut(attempt_id).ok_or_else(gone)?;
    if matches!(attempt.status, State::Captured | State::Reversed) {
        attempt.next_check_at = None;
        return Ok(Vec::new());
    }
    let mismatch = mismatch(capture, attempt.amount, &payment_id);
    attempt.apply(AttemptEvent::Capture)?;
    attempt.captured = Some(capture.amount);
    attempt.provider_transaction_id = Some(capture.transaction_id.clone());
    attempt.payer_amount = capture.payer_amount;
    attempt.payer = capture.payer.clone();
    attempt.paid_at = Some(capture.paid_at.map_or(now, Timestamp::from));
    attempt.next_check_at = None;
    attempt.disposition = Some(match (&mismatch, is_open) {
        (Some(_), _) => Disposition::Held,
        (None, true) => Disposition::Kept,
        (None, false) => Disposition::RefundDue,
    });
    let paid_at = attempt.paid_at;
    if let Some(detail) = mismatch {
        if is_open {
            aggregate.payment.apply(Event::Doubt)?;
        }
        return Ok(vec![Operation {
            id: id::new(Kind::Operation)?,
            merchant_id: aggregate.payment.merchant_id.clone(),
            kind: "capture_mismatch",
            subject_id: attempt_id.to_owned(),
            detail,
            created_at: now,
        }]);
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

/// What does not agree, in words for the work list.
fn mismatch(capture: &Capture, asked: providers::money::Money, payment_id: &str) -> Option<String> {
    if capture.amount != asked {
        return Some(format!("asked for {asked}, the provider took {}", capture.amount));
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
fn end_the_others(aggregate: &mut Aggregate, kept: &str, now: Timestamp) -> Result<(), Trouble> {
    for other in aggregate.attempts.iter_mut().filter(|a| a.id != kept) {
        match other.status {
            State::Sending => {
                other.apply(AttemptEvent::Abandon)?;
                other.next_check_at = Some(schedule::dead_from(other));
            }
            State::AwaitingPayer | State::Closing => {
                other.apply(AttemptEvent::Supersede)?;
                other.next_check_at = Some(now);
            }
            State::Superseded => other.next_check_at = Some(now),
            // A charge in doubt goes on being asked about and reversed; money on it will be refunded.
            State::Unknown | State::Reversing => {}
            State::Abandoned | State::Captured | State::Dead | State::Reversed => {}
        }
    }
    Ok(())
}
