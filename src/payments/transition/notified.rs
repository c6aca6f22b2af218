//! What a notification makes due: it may say that something happened and not what, and then its
//! provider is asked. Calls nobody.

use providers::money::Money;

use super::super::Error;
use super::Conditions;
use crate::domain::attempt::{Disposition, State};
use crate::domain::id::{AttemptId, RefundId};
use crate::domain::operation::ReviewKind;
use crate::domain::refund::State as RefundState;
use crate::domain::{Aggregate, Refund, Timestamp};
use crate::store::change::ReviewItem;

/// The resolver asks next, and what it is told decides. Nothing is asked about a call on its way,
/// which has its own deadline, nor about money that is in the books.
pub fn ask_now(
    conditions: Conditions<'_>,
    after: &mut Aggregate,
    attempt_id: &AttemptId,
    refund_id: Option<&RefundId>,
    says_done: bool,
    now: Timestamp,
) {
    if let Some(refund_id) = refund_id {
        ask_about_refund(conditions, after, refund_id, says_done, now);
        return;
    }
    let Some(attempt) = after.attempt_mut(attempt_id) else {
        return;
    };
    if says_done && !matches!(attempt.status, State::Captured | State::Reversed) {
        attempt.tell_paid();
    }

    match attempt.status {
        State::Unknown
        | State::AwaitingPayer
        | State::Abandoned
        | State::Closing
        | State::Superseded => attempt.next_check_at = Some(now),
        State::Dead => {
            // It was asked about for another reason.
            attempt.query_count = if attempt.told_paid {
                attempt.query_count
            } else {
                0
            };
            attempt.next_check_at = Some(now);
        }
        // A reversal that is on its way ends first.
        State::Reversing => attempt.next_check_at = Some(attempt.call_deadline.max(now)),
        State::Sending | State::Captured | State::Reversed => {}
    }
}

/// Something was told of a refund: it is asked about, unless that is no news.
pub fn ask_about_refund(
    conditions: Conditions<'_>,
    after: &mut Aggregate,
    refund_id: &RefundId,
    says_done: bool,
    now: Timestamp,
) {
    let Some(refund) = after.refund_mut(refund_id) else {
        return;
    };
    if says_done && refund.status != RefundState::Succeeded {
        if !refund.told_done || refund.next_check_at.is_none() {
            refund.query_count = 0;
        }
        refund.told_done = true;
    }
    // That it failed is no news of one that has failed.
    if says_done || refund.status != RefundState::Failed {
        ask_soon(conditions, after, refund_id, now);
    }
}

/// Something happened to a refund: it is asked about, once no call of it is on its way.
pub fn ask_soon(
    conditions: Conditions<'_>,
    after: &mut Aggregate,
    refund_id: &RefundId,
    now: Timestamp,
) {
    let over = conditions.refund_over();
    let Some(refund) = after.refund_mut(refund_id) else {
        return;
    };
    // One that counts as failed may have been carried out after all.
    let may_end = refund.status != RefundState::Succeeded;
    if let Some(sent_at) = refund.sent_at.filter(|_| may_end) {
        let answered = refund.next_check_at != Some(sent_at.plus(over));
        refund.next_check_at = Some(if answered {
            now
        } else {
            sent_at.plus(over).max(now)
        });
    }
}

/// Money has gone back under a number that is not told. What is on its way may be it, and is asked
/// about; what cannot be explained by that is for a person.
pub fn went_back(
    conditions: Conditions<'_>,
    after: &mut Aggregate,
    attempt_id: &AttemptId,
    total: Option<Money>,
    now: Timestamp,
) -> Result<Vec<ReviewItem>, Error> {
    // What goes back has come in.
    ask_now(conditions, after, attempt_id, None, true, now);
    let Some(attempt) = after.attempt(attempt_id) else {
        return Ok(Vec::new());
    };
    let went_otherwise = attempt.status == State::Reversed
        || attempt.reversal.is_some()
        || attempt.returning
        || attempt.disposition == Some(Disposition::ReturnedByProvider);
    if went_otherwise {
        return Ok(Vec::new());
    }

    let fen = |states: &[RefundState]| -> i64 {
        let of_attempt = after
            .refunds
            .iter()
            .filter(|r| r.attempt_id == *attempt_id && states.contains(&r.status));
        of_attempt.map(|refund| refund.amount.minor()).sum()
    };
    let booked = fen(&[RefundState::Succeeded]);
    let open = fen(&[RefundState::Pending, RefundState::Abnormal]);
    let told = total.map(Money::minor);
    if told.is_some_and(|told| told <= booked) {
        return Ok(Vec::new());
    }
    // Then each that is on its way has arrived, or one that counted as failed has.
    let is_all = told == Some(booked + open);
    let is_failed =
        |r: &Refund| r.status == RefundState::Failed && told == Some(booked + r.amount.minor());
    let may_be_it = |r: &&Refund| match r.status {
        RefundState::Pending | RefundState::Abnormal => true,
        RefundState::Failed => is_failed(r),
        RefundState::Succeeded => false,
    };
    let of_attempt = after
        .refunds
        .iter()
        .filter(|r| r.attempt_id == *attempt_id && r.sent_at.is_some());
    let asked: Vec<(RefundId, bool)> = of_attempt
        .filter(may_be_it)
        .map(|r| (r.id.clone(), is_all || is_failed(r)))
        .collect();
    let is_explained = asked.iter().any(|(_, says_done)| *says_done);
    for (refund_id, says_done) in asked {
        ask_about_refund(conditions, after, &refund_id, says_done, now);
    }
    if is_explained {
        return Ok(Vec::new());
    }

    let told = total.map_or_else(|| "money".to_owned(), |total| total.to_string());
    let detail = format!(
        "the provider tells that {told} of this order has gone back, of which {booked} fen is \
        known here, and names no refund: look into its console"
    );
    Ok(vec![ReviewItem::new(
        &after.payment.owner,
        ReviewKind::ConsoleRefundUnconfirmed,
        attempt_id,
        detail,
        now,
    )?])
}
