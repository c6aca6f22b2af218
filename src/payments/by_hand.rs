//! Refunds that somebody made by hand, in the provider's own console: a genuine notification tells of a number that none
//! of ours has. The provider is asked about that number and its amount before anything is booked; then the refund gets a
//! row like any other, which has succeeded already and is never sent. UnionPay tells of such refunds in its files alone.

use providers::money::Money;
use providers::notification::Notice;
use providers::outcome::RefundQueried;

use super::refund::{blank, order};
use super::{Trouble, refund_outcome};
use crate::app::App;
use crate::domain::attempt::{Disposition, DispositionEvent};
use crate::domain::id::{self, Kind};
use crate::domain::refund::State;
use crate::domain::{Aggregate, Attempt, Refund, Timestamp};

/// A refund that is not ours, as it will be booked.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ByHand(Refund);

/// Reads one out of a notification, if it can be one: money of the attempt's own that nobody has given back yet.
///
/// # Errors
/// [`Trouble`]: no ids.
pub(super) fn told(
    app: &App,
    aggregate: &Aggregate,
    attempt_id: &str,
    notice: &Notice,
    now: Timestamp,
) -> Result<Option<ByHand>, Trouble> {
    let Notice::Refund { refund_no, outcome: RefundQueried::Done | RefundQueried::Accepted, amount, total, .. } =
        notice
    else {
        return Ok(None);
    };
    let Some(attempt) = aggregate.attempt(attempt_id) else { return Ok(None) };
    let given_back = given_back(aggregate, attempt_id);
    let left = attempt.captured.map_or(0, Money::minor) - given_back;
    let fen = amount.map(Money::minor).or(total.map(|total| total.minor() - given_back)).unwrap_or(0);
    let Some(amount) = Money::fen(fen).ok().filter(|_| (1..=left).contains(&fen)) else { return Ok(None) };
    Ok(Some(ByHand(Refund {
        id: id::new(Kind::Refund)?,
        merchant_refund_no: format!("provider-{refund_no}"),
        provider_refund_no: refund_no.clone(),
        // Part of the refund where the provider keys by it; none of those tells of refunds like this one.
        txn_time: Some(now),
        next_check_at: None,
        ..blank(app, attempt, &aggregate.payment.merchant_id, amount, now)?
    })))
}

/// Asks the provider about it. True: this number has given back this much.
///
/// # Errors
/// [`Trouble::Unanswered`]: nobody knows; the notification has to come again.
pub(super) async fn is_confirmed(app: &App, aggregate: &Aggregate, found: &ByHand) -> Result<bool, Trouble> {
    let Some((account, order, call)) = order(app, aggregate, &found.0) else { return Ok(false) };
    match account.provider.query_refund(&order, &call).await.outcome {
        RefundQueried::Done => Ok(true),
        RefundQueried::Unknown(failure) => Err(Trouble::Unanswered(failure.message)),
        RefundQueried::NotFound
        | RefundQueried::Accepted
        | RefundQueried::TerminalNo(_)
        | RefundQueried::Abnormal(_) => Ok(false),
    }
}

/// Books it. Money that was to go back by itself, and now has, is refunded; what was on its way for it meets a "no".
///
/// # Errors
/// [`Trouble`].
pub(super) fn book(after: &mut Aggregate, ByHand(refund): &ByHand, now: Timestamp) -> Result<(), Trouble> {
    let mut refund = Refund { created_at: now, ..refund.clone() };
    refund_outcome::done(&mut refund, now)?;
    let attempt_id = refund.attempt_id.clone();
    tracing::warn!(
        payment_id = after.payment.id,
        refund_id = refund.id,
        amount = refund.amount.minor(),
        "somebody has given money back in the provider's console"
    );
    after.refunds.push(refund);
    let given_back = given_back(after, &attempt_id);
    if let Some(attempt) = after.attempt_mut(&attempt_id)
        && is_due(attempt)
        && attempt.captured.is_some_and(|captured| captured.minor() <= given_back)
    {
        attempt.disposition = attempt.disposition.map(|d| d.on(DispositionEvent::Refunded)).transpose()?;
    }
    Ok(())
}

fn is_due(attempt: &Attempt) -> bool {
    attempt.disposition == Some(Disposition::RefundDue)
}

fn given_back(aggregate: &Aggregate, attempt_id: &str) -> i64 {
    let of_it = |r: &&Refund| r.attempt_id == attempt_id && r.status == State::Succeeded;
    aggregate.refunds.iter().filter(of_it).map(|r| r.amount.minor()).sum()
}
