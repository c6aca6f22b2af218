//! Money that has to go back by itself: what is left of it, and what the end of a refund means for
//! it.

use providers::money::Money;

use super::super::Error;
use crate::domain::attempt::{Disposition, DispositionEvent};
use crate::domain::id::{AttemptId, RefundId};
use crate::domain::operation::ReviewKind;
use crate::domain::refund::State;
use crate::domain::{Aggregate, Timestamp};
use crate::store::change::ReviewItem;

/// What is left of an attempt's money after all refunds that were carried out, somebody's in the
/// console among them.
pub fn refundable_amount(aggregate: &Aggregate, attempt_id: &AttemptId) -> Option<Money> {
    let captured = aggregate.attempt(attempt_id)?.captured?.minor();
    let done = aggregate
        .refunds
        .iter()
        .filter(|r| r.attempt_id == *attempt_id && r.status == State::Succeeded);
    Money::fen(captured - done.map(|r| r.amount.minor()).sum::<i64>()).ok()
}

/// Where a refund stands.
pub fn status(aggregate: &Aggregate, refund_id: &RefundId) -> Option<State> {
    aggregate
        .refunds
        .iter()
        .find(|r| r.id == *refund_id)
        .map(|r| r.status)
}

/// What the end of a refund means for the money that it was to give back by itself. `was` is where
/// it stood before.
///
/// # Errors
/// [`Error`].
pub fn aftermath(
    after: &mut Aggregate,
    refund_id: &RefundId,
    was: Option<State>,
    now: Timestamp,
) -> Result<Vec<ReviewItem>, Error> {
    let Some(refund) = after
        .refunds
        .iter()
        .find(|r| r.id == *refund_id && r.automatic)
        .cloned()
    else {
        return Ok(Vec::new());
    };

    if was == Some(refund.status) {
        return Ok(Vec::new());
    }
    let Some(attempt) = after.attempt_mut(&refund.attempt_id) else {
        return Ok(Vec::new());
    };

    match refund.status {
        State::Succeeded if attempt.disposition == Some(Disposition::RefundDue) => {
            attempt.disposition = attempt
                .disposition
                .map(|d| d.on(DispositionEvent::Refunded))
                .transpose()?;
            Ok(Vec::new())
        }
        // Somebody has given it back by hand meanwhile.
        State::Failed if attempt.disposition == Some(Disposition::Refunded) => Ok(Vec::new()),
        State::Failed => {
            let detail = "money that must not be kept could not be given back; refund it in the \
                          provider's console";
            Ok(vec![ReviewItem::new(
                &refund.owner,
                ReviewKind::AutomaticRefundFailed,
                &refund.id,
                detail,
                now,
            )?])
        }
        State::Pending | State::Abnormal | State::Succeeded => Ok(Vec::new()),
    }
}
