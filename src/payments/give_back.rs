//! Giving back by itself what must not be kept: money that came twice, or after its payment had ended. One refund for
//! each attempt, and the database sees to that too; when it fails, a person goes on.

use std::sync::Arc;

use providers::money::Money;

use super::Trouble;
use super::refund::blank;
use super::refund_outcome::operation;
use super::resolve::write;
use crate::app::App;
use crate::domain::attempt::{Disposition, DispositionEvent};
use crate::domain::id::{self, Kind};
use crate::domain::refund::State;
use crate::domain::{Aggregate, Refund, Timestamp};
use crate::kill_point;
use crate::store::change::Operation;

/// Money that is not to be kept goes back by itself, once: the refund becomes durable here and is sent like any other.
///
/// # Errors
/// [`Trouble`].
pub(super) async fn begin(app: &Arc<App>, before: Aggregate, attempt_id: &str) -> Result<Aggregate, Trouble> {
    let written = write(app, before, |after, now| {
        let owner = after.payment.owner.clone();
        let is_duplicate = after.kept().is_some();
        let is_under_way = after.refunds.iter().any(|r| r.attempt_id == attempt_id && r.automatic);
        let left = left(after, attempt_id);
        let Some(attempt) = after.attempt_mut(attempt_id) else { return Ok(None) };
        attempt.next_check_at = None;
        let Some(left) = left.filter(|_| attempt.disposition == Some(Disposition::RefundDue)) else {
            return Ok(Some(Vec::new()));
        };
        if left.minor() == 0 {
            // Somebody has given all of it back in the provider's console.
            attempt.disposition = attempt.disposition.map(|d| d.on(DispositionEvent::Refunded)).transpose()?;
        } else if !is_under_way {
            // Shown to the payer: "paid twice", or "paid after the order was closed".
            let reason = if is_duplicate { "重复支付退款" } else { "订单已关闭退款" };
            let refund = Refund {
                id: id::new(Kind::Refund)?,
                reason: Some(reason.to_owned()),
                automatic: true,
                ..blank(attempt, &owner, format!("auto-{attempt_id}"), left, now)
            };
            after.refunds.push(refund);
        }
        Ok(Some(Vec::new()))
    })
    .await?;
    kill_point!("give_back_after_commit");
    Ok(written)
}

/// What is left of an attempt's money after all refunds that were carried out, somebody's in the console among them.
pub(super) fn left(aggregate: &Aggregate, attempt_id: &str) -> Option<Money> {
    let captured = aggregate.attempt(attempt_id)?.captured?.minor();
    let done = aggregate.refunds.iter().filter(|r| r.attempt_id == attempt_id && r.status == State::Succeeded);
    Money::fen(captured - done.map(|r| r.amount.minor()).sum::<i64>()).ok()
}

/// Where a refund stands.
pub(super) fn status(aggregate: &Aggregate, refund_id: &str) -> Option<State> {
    aggregate.refunds.iter().find(|r| r.id == refund_id).map(|r| r.status)
}

/// What the end of a refund means for the money that it was to give back by itself. `was` is where it stood before.
///
/// # Errors
/// [`Trouble`].
pub(super) fn aftermath(
    after: &mut Aggregate,
    refund_id: &str,
    was: Option<State>,
    now: Timestamp,
) -> Result<Vec<Operation>, Trouble> {
    let Some(refund) = after.refunds.iter().find(|r| r.id == refund_id && r.automatic).cloned() else {
        return Ok(Vec::new());
    };
    if was == Some(refund.status) {
        return Ok(Vec::new());
    }
    let Some(attempt) = after.attempt_mut(&refund.attempt_id) else { return Ok(Vec::new()) };
    match refund.status {
        State::Succeeded if attempt.disposition == Some(Disposition::RefundDue) => {
            attempt.disposition = attempt.disposition.map(|d| d.on(DispositionEvent::Refunded)).transpose()?;
            Ok(Vec::new())
        }
        // Somebody has given it back by hand meanwhile.
        State::Failed if attempt.disposition == Some(Disposition::Refunded) => Ok(Vec::new()),
        State::Failed => {
            let detail = "money that must not be kept could not be given back; refund it in the provider's console";
            Ok(vec![operation(&refund, "automatic_refund_failed", detail.to_owned(), now)?])
        }
        State::Pending | State::Abnormal | State::Succeeded => Ok(Vec::new()),
    }
}
