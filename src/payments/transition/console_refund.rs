//! Refunds that somebody made by hand, in the provider's own console: a genuine notification tells
//! of a number that none of ours has. The provider is asked about that number and its amount before
//! anything is booked; then the refund gets a row like any other, which has succeeded already and
//! is never sent. UnionPay tells of such refunds in its files alone.

use providers::money::Money;
use providers::notification::Notice;
use providers::outcome::RefundQueryOutcome;

use super::super::Error;
use super::refund_outcome;
use super::refund_turn::blank;
use crate::domain::attempt::{Disposition, DispositionEvent};
use crate::domain::id::{AttemptId, RefundId};
use crate::domain::refund::State;
use crate::domain::{Aggregate, Attempt, Refund, Timestamp};

/// How the numbers of these refunds begin for merchants.
pub const NUMBERS: &str = "provider-";

/// A refund that is not ours, as it will be booked: of one of these amounts.
#[derive(Debug, Clone, PartialEq)]
pub struct ConsoleRefund {
    /// The refund, with the first of them.
    pub refund: Refund,
    /// The amounts.
    pub amounts: Vec<Money>,
}

impl ConsoleRefund {
    /// Which attempt's money it gives back.
    #[must_use]
    pub fn attempt_id(&self) -> &AttemptId {
        &self.refund.attempt_id
    }
}

/// Reads one out of a notification, if it can be one: money of the attempt's own that nobody has
/// given back yet.
///
/// # Errors
/// [`Error`]: no ids.
pub fn parse_console_refund(
    aggregate: &Aggregate,
    attempt_id: &AttemptId,
    notice: &Notice,
    now: Timestamp,
) -> Result<Option<ConsoleRefund>, Error> {
    let Notice::Refund {
        refund_no,
        outcome: RefundQueryOutcome::Done | RefundQueryOutcome::Accepted,
        amount,
        total,
        ..
    } = notice
    else {
        return Ok(None);
    };
    let (Some(attempt), Ok(provider_refund_no)) =
        (aggregate.attempt(attempt_id), refund_no.parse())
    else {
        return Ok(None);
    };
    let left = attempt.captured.map_or(0, Money::minor) - given_back(aggregate, attempt_id);
    let told: Option<Vec<i64>> = amount
        .map(|amount| vec![amount.minor()])
        .or(total.map(|total| parts(aggregate, attempt_id, total)));

    let possible = told
        .unwrap_or_default()
        .into_iter()
        .filter(|fen| (1..=left).contains(fen));
    let amounts: Vec<Money> = possible.filter_map(|fen| Money::fen(fen).ok()).collect();

    // Money that nobody here knows of yet has gone back in part: its payment comes first.
    let first = match (amounts.first(), attempt.captured) {
        (Some(first), _) => *first,
        (None, None) => attempt.amount,
        (None, Some(_)) => return Ok(None),
    };

    // Numbers that were made in a console are unique in one trade only.
    let number = format!("{NUMBERS}{attempt_id}-{refund_no}");
    let refund = Refund {
        provider_refund_no,
        // Part of the refund where the provider keys by it; none of those tells of refunds like
        // this one.
        txn_time: Some(now),
        next_check_at: None,
        ..blank(
            RefundId::new()?,
            attempt,
            &aggregate.payment.owner,
            number,
            first,
            now,
        )
    };

    Ok(Some(ConsoleRefund { refund, amounts }))
}

/// How much this refund can be of what all refunds had given back when it was told: the rest after
/// those of ours that had been carried out by then, which may be fewer than have been by now.
fn parts(aggregate: &Aggregate, attempt_id: &AttemptId, total: Money) -> Vec<i64> {
    let mut ours: Vec<&Refund> = carried_out(aggregate, attempt_id).collect();
    ours.sort_by_key(|refund| refund.completed_at);
    let mut left = total.minor();
    let mut parts = vec![left];
    for refund in ours {
        left -= refund.amount.minor();
        parts.push(left);
    }
    // Mostly it is the last one.
    parts.reverse();
    parts
}

/// Books it. Money that was to go back by itself, and now has, is refunded; what was on its way for
/// it meets a "no".
///
/// # Errors
/// [`Error`].
pub fn book(after: &mut Aggregate, found: &ConsoleRefund, now: Timestamp) -> Result<(), Error> {
    let mut refund = Refund {
        created_at: now,
        ..found.refund.clone()
    };
    refund_outcome::done(&mut refund, now)?;
    let attempt_id = refund.attempt_id.clone();

    tracing::warn!(
        payment_id = %after.payment.id,
        refund_id = %refund.id,
        amount = refund.amount.minor(),
        "somebody has given money back in the provider's console"
    );

    after.refunds.push(refund);
    let given_back = given_back(after, &attempt_id);

    if let Some(attempt) = after.attempt_mut(&attempt_id)
        && is_due(attempt)
        && attempt
            .captured
            .is_some_and(|captured| captured.minor() <= given_back)
    {
        attempt.disposition = attempt
            .disposition
            .map(|d| d.on(DispositionEvent::Refunded))
            .transpose()?;
    }

    Ok(())
}

fn is_due(attempt: &Attempt) -> bool {
    attempt.disposition == Some(Disposition::RefundDue)
}

fn carried_out<'a>(
    aggregate: &'a Aggregate,
    attempt_id: &'a AttemptId,
) -> impl Iterator<Item = &'a Refund> {
    aggregate
        .refunds
        .iter()
        .filter(move |r| r.attempt_id == *attempt_id && r.status == State::Succeeded)
}

fn given_back(aggregate: &Aggregate, attempt_id: &AttemptId) -> i64 {
    carried_out(aggregate, attempt_id)
        .map(|r| r.amount.minor())
        .sum()
}
