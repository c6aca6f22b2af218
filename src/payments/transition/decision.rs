//! What two persons decide about a payment, an attempt or a refund, as a change of it. Everything
//! goes through the same state machines as what gateways decide by themselves: what those do not
//! allow, nobody can decide.

use super::super::Error;
use super::refund_turn::{blank, wake_next};
use super::{Conditions, auto_refund, capture, ending, notified};
use crate::domain::attempt::{Disposition, DispositionEvent, State};
use crate::domain::id::{AttemptId, RefundId};
use crate::domain::operation::Action;
use crate::domain::payment::{BrokenInvariant, Event, State as PaymentState};
use crate::domain::refund::{Event as RefundEvent, State as RefundState};
use crate::domain::{Aggregate, Illegal, Refund, Timestamp};
use crate::store::change::ReviewItem;

/// Why something cannot be decided.
#[derive(Debug, thiserror::Error)]
pub enum Undecided {
    /// The rows do not allow it; in words for whoever asked.
    #[error("{0}")]
    NotPossible(String),
    /// Nothing is known yet.
    #[error(transparent)]
    Other(#[from] Error),
}

impl From<Illegal> for Undecided {
    fn from(illegal: Illegal) -> Self {
        Self::NotPossible(format!("{illegal}."))
    }
}

fn no(why: &str) -> Undecided {
    Undecided::NotPossible(why.to_owned())
}

/// Decides about `subject_id`, which is the payment itself, one of its attempts, or one of its
/// refunds. Returns what the decision puts on the work list.
///
/// # Errors
/// [`Undecided`]; `after` must not be written then.
pub fn decide(
    conditions: Conditions<'_>,
    after: &mut Aggregate,
    subject_id: &str,
    action: Action,
    now: Timestamp,
) -> Result<Vec<ReviewItem>, Undecided> {
    let refund = after.refunds.iter().find(|r| r.id == subject_id).cloned();
    let attempt_id = after.attempt_of(subject_id).map(|a| a.id.clone());
    let attempt_id = attempt_id
        .as_ref()
        .ok_or_else(|| no("There is no such attempt."));

    match (action, &refund) {
        (Action::Keep, _) => keep(after, attempt_id?, now)?,
        (Action::Refund, _) => {
            dispose(after, attempt_id?, DispositionEvent::OweRefund, Some(now))?;
            go_on(after, now)?;
        }
        (Action::Returned, _) => {
            dispose(after, attempt_id?, DispositionEvent::Returned, None)?;
            go_on(after, now)?;
        }
        (Action::Retry, _) => retry(after, attempt_id?, now)?,
        (Action::Refunded, Some(refund)) if refund.status != RefundState::Failed => {
            return end_refund(conditions, after, &refund.id, RefundEvent::Done, now);
        }
        (Action::Refunded, _) => {
            let attempt_id = attempt_id?;
            nothing_under_way(after, attempt_id)?;
            dispose(after, attempt_id, DispositionEvent::Refunded, None)?;
        }
        (Action::NotRefunded, Some(refund)) => {
            return end_refund(conditions, after, &refund.id, RefundEvent::Refuse, now);
        }
        (Action::NotRefunded, None) => return Err(no("It is about no refund.")),
        (Action::AskAgain, _) => ask_again(conditions, after, subject_id, now)?,
        (Action::AccountOk | Action::Acknowledge, _) => return Err(no("It changes no payment.")),
    }

    after.payment.lease_until = None;
    Ok(Vec::new())
}

/// The money is the payment's, whatever it has come to.
fn keep(after: &mut Aggregate, attempt_id: &AttemptId, now: Timestamp) -> Result<(), Undecided> {
    if after.kept().is_some() {
        return Err(no(
            "The payment has its money already; this would be kept twice.",
        ));
    }

    nothing_under_way(after, attempt_id)?;
    dispose(after, attempt_id, DispositionEvent::Approve, None)?;
    let paid_at = after
        .attempt(attempt_id)
        .and_then(|attempt| attempt.paid_at);

    match after.payment.status {
        PaymentState::Created | PaymentState::RequiresAction | PaymentState::Processing => {
            after.payment.apply(Event::Captured)?;
        }
        PaymentState::Failed | PaymentState::Canceled | PaymentState::Expired => {
            after.payment.apply(Event::Adopt)?
        }
        // Its first money went back at the provider.
        PaymentState::Succeeded => {}
    }

    after.payment.paid_at = paid_at;
    after.payment.failure = None;
    after.payment.resume_at = None;
    Ok(capture::end_the_others(after, attempt_id, now)?)
}

/// Money that a refund of ours may be giving back must not be decided about in another way.
fn nothing_under_way(after: &Aggregate, attempt_id: &AttemptId) -> Result<(), Undecided> {
    let may_be_carried_out = |r: &Refund| {
        r.attempt_id == *attempt_id
            && (matches!(r.status, RefundState::Pending | RefundState::Abnormal) || r.told_done)
    };
    match after.refunds.iter().any(may_be_carried_out) {
        true => Err(no("A refund of this money is under way.")),
        false => Ok(()),
    }
}

fn dispose(
    after: &mut Aggregate,
    attempt_id: &AttemptId,
    event: DispositionEvent,
    next_check_at: Option<Timestamp>,
) -> Result<(), Undecided> {
    let attempt = after
        .attempt_mut(attempt_id)
        .ok_or_else(|| no("There is no such attempt."))?;
    let captured = attempt
        .disposition
        .filter(|_| attempt.status == State::Captured);
    let disposition =
        captured.ok_or_else(|| no("No money of this attempt is there to decide about."))?;

    if attempt.returning && event == DispositionEvent::OweRefund {
        return Err(no(
            "The provider gives it back by itself: a refund would give it back twice.",
        ));
    }

    attempt.disposition = Some(disposition.on(event)?);
    attempt.returning = false;
    attempt.next_check_at = next_check_at;
    Ok(())
}

/// A payment that waited for the decision comes to its end, or goes on to its expiry.
fn go_on(after: &mut Aggregate, now: Timestamp) -> Result<(), Undecided> {
    ending::conclude(after, now)?;
    if after.payment.status.is_open() && after.live().is_none() && now < after.payment.expires_at {
        after.payment.resume_at = Some(after.payment.expires_at);
    }
    Ok(())
}

/// One more automatic refund of the whole amount.
fn retry(after: &mut Aggregate, attempt_id: &AttemptId, now: Timestamp) -> Result<(), Undecided> {
    nothing_under_way(after, attempt_id)?;
    let owner = after.payment.owner.clone();
    let earlier = after
        .refunds
        .iter()
        .filter(|r| r.attempt_id == *attempt_id && r.automatic);
    let reason = earlier.clone().next_back().and_then(|r| r.reason.clone());
    let number = format!("auto-{attempt_id}-{}", earlier.count().saturating_add(1));
    let left = auto_refund::refundable_amount(after, attempt_id);
    let attempt = after
        .attempt(attempt_id)
        .ok_or_else(|| no("There is no such attempt."))?;
    let due =
        left.filter(|left| left.minor() > 0 && attempt.disposition == Some(Disposition::RefundDue));
    let left = due.ok_or_else(|| no("This money does not have to go back."))?;

    let id = RefundId::new().map_err(Error::from)?;
    let refund = Refund {
        reason,
        automatic: true,
        ..blank(id, attempt, &owner, number, left, now)
    };

    after.refunds.push(refund);
    Ok(())
}

/// A refund is over, as its provider's console shows.
fn end_refund(
    conditions: Conditions<'_>,
    after: &mut Aggregate,
    refund_id: &RefundId,
    event: RefundEvent,
    now: Timestamp,
) -> Result<Vec<ReviewItem>, Undecided> {
    let was = auto_refund::status(after, refund_id);
    let refund = after
        .refund_mut(refund_id)
        .ok_or_else(|| no("There is no such refund."))?;
    refund.apply(event)?;
    (refund.completed_at, refund.next_check_at) = (Some(now), None);
    (refund.needs_funds, refund.told_done) = (false, false);
    let attempt_id = refund.attempt_id.clone();
    if event == RefundEvent::Done && after.broken() == Some(BrokenInvariant::RefundsOverCapture) {
        return Err(no(
            "More would have gone back than came in: another refund of this money is booked.",
        ));
    }

    let operations = auto_refund::aftermath(after, refund_id, was, now)?;
    wake_next(conditions, after, &attempt_id, now);
    after.payment.lease_until = None;
    Ok(operations)
}

/// The questions begin again.
fn ask_again(
    conditions: Conditions<'_>,
    after: &mut Aggregate,
    subject_id: &str,
    now: Timestamp,
) -> Result<(), Undecided> {
    if let Some(refund) = after.refunds.iter_mut().find(|r| r.id == subject_id) {
        if !matches!(refund.status, RefundState::Pending | RefundState::Abnormal) {
            return Err(no("This refund is over; there is nothing to ask."));
        }
        refund.query_count = 0;
        match (refund.sent_at, refund.needs_funds) {
            (None, _) | (_, true) => refund.next_check_at = Some(now),
            (Some(_), false) => {
                let refund_id = refund.id.clone();
                notified::ask_soon(conditions, after, &refund_id, now);
            }
        }
        return Ok(());
    }

    let is_payment = after.payment.id == subject_id;
    for attempt in after
        .attempts
        .iter_mut()
        .filter(|a| is_payment || a.id == subject_id)
    {
        let may_be_asked = match attempt.status {
            State::Unknown
            | State::AwaitingPayer
            | State::Abandoned
            | State::Closing
            | State::Superseded => true,
            State::Reversing => true,
            // Proved dead once; asked again only by name.
            State::Dead => !is_payment,
            State::Sending | State::Captured | State::Reversed => false,
        };
        if may_be_asked {
            // A reversal that is on its way ends first.
            let from = if attempt.status == State::Reversing {
                attempt.call_deadline.max(now)
            } else {
                now
            };
            (attempt.query_count, attempt.next_check_at) = (0, Some(from));
        } else if !is_payment {
            return Err(no(
                "What became of this attempt is known, or its call is still on its way.",
            ));
        }
    }

    Ok(())
}
