//! Whose turn it is: one refund of an attempt is on its way at a time, with the provider's distance
//! between two; the others wait.

use providers::money::Money;

use super::Conditions;
use crate::domain::id::{self, AttemptId, RefundId};
use crate::domain::refund::State;
use crate::domain::{Aggregate, Attempt, Owner, Refund, Timestamp};

/// A refund of this attempt that nobody has asked for yet: its reason is the caller's.
pub fn blank(
    id: RefundId,
    attempt: &Attempt,
    owner: &Owner,
    merchant_refund_no: String,
    amount: Money,
    now: Timestamp,
) -> Refund {
    Refund {
        id,
        payment_id: attempt.payment_id.clone(),
        attempt_id: attempt.id.clone(),
        owner: owner.clone(),
        provider_refund_no: id::refund_no(&attempt.provider_order_no, &merchant_refund_no, 0),
        merchant_refund_no,
        earlier_nos: Vec::new(),
        amount,
        status: State::Pending,
        reason: None,
        automatic: false,
        failure: None,
        needs_funds: false,
        created_at: now,
        completed_at: None,
        txn_time: None,
        sent_at: None,
        in_doubt: false,
        next_check_at: Some(now),
        query_count: 0,
        told_done: false,
    }
}

/// When a refund may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// At once.
    Now,
    /// From then on.
    At(Timestamp),
    /// Another one is on its way; it wakes the next when it ends.
    AfterAnother,
}

/// When a refund may be sent, given what others of its attempt do.
#[must_use]
pub fn turn(
    aggregate: &Aggregate,
    attempt_id: &AttemptId,
    refund_id: &RefundId,
    spacing_ms: i64,
    now: Timestamp,
) -> Turn {
    let others = || {
        aggregate
            .refunds
            .iter()
            .filter(|r| r.attempt_id == *attempt_id && r.id != *refund_id)
    };

    if others().any(|r| r.status == State::Pending && r.sent_at.is_some()) {
        return Turn::AfterAnother;
    }
    // One that was sent in the future was sent before all time was set back, nobody knows when: a
    // provider to which it comes too early says so.
    match others()
        .filter_map(|r| r.sent_at)
        .filter(|sent_at| *sent_at <= now)
        .max()
        .map(|last| last.plus_ms(spacing_ms))
    {
        Some(free_at) if free_at > now => Turn::At(free_at),
        Some(_) | None => Turn::Now,
    }
}

/// From this commit on the refund counts as sent. If the worker dies, it is asked about once the
/// call is over.
pub fn mark_sent(conditions: Conditions<'_>, refund: &mut Refund, now: Timestamp) {
    refund.sent_at = Some(now);
    refund.txn_time.get_or_insert(now);
    // What an earlier sending was told says nothing about this one.
    refund.needs_funds = false;
    refund.failure = None;
    refund.next_check_at = Some(now.plus(conditions.refund_over()));
}

/// The next refund of the attempt that waits for its turn gets it.
pub fn wake_next(
    conditions: Conditions<'_>,
    after: &mut Aggregate,
    attempt_id: &AttemptId,
    now: Timestamp,
) {
    let waits = |r: &&Refund| {
        r.attempt_id == *attempt_id
            && r.status == State::Pending
            && r.sent_at.is_none()
            && r.next_check_at.is_none()
    };
    let Some(next) = after.refunds.iter().find(waits).cloned() else {
        return;
    };

    let at = match turn(
        after,
        attempt_id,
        &next.id,
        conditions.refund_spacing_ms(),
        now,
    ) {
        Turn::Now => Some(now),
        Turn::At(at) => Some(at),
        Turn::AfterAnother => None,
    };

    if let Some(next) = after.refund_mut(&next.id) {
        next.next_check_at = at;
    }
}
