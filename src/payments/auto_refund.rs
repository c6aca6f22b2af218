//! Giving back by itself what must not be kept: money that came twice, or after its payment had
//! ended. One refund for each attempt, and the database sees to that too; when it fails, a person
//! goes on.

use std::sync::Arc;

use super::Error;
use super::commit::update;
use super::transition::auto_refund::refundable_amount;
use super::transition::refund_turn::blank;
use crate::app::App;
use crate::domain::attempt::{Disposition, DispositionEvent};
use crate::domain::id::{AttemptId, RefundId};
use crate::domain::{Aggregate, Refund};
use crate::kill_point;

/// Money that is not to be kept goes back by itself, once: the refund becomes durable here and is
/// sent like any other.
///
/// # Errors
/// [`Error`].
pub(super) async fn begin(
    app: &Arc<App>,
    before: Aggregate,
    attempt_id: &AttemptId,
) -> Result<Aggregate, Error> {
    let written = update(app, before, |after, now| {
        let owner = after.payment.owner.clone();
        let is_duplicate = after.kept().is_some();
        let is_under_way = after
            .refunds
            .iter()
            .any(|r| r.attempt_id == *attempt_id && r.automatic);
        let left = refundable_amount(after, attempt_id);
        let Some(attempt) = after.attempt_mut(attempt_id) else {
            return Ok(None);
        };
        attempt.next_check_at = None;
        let Some(left) = left.filter(|_| attempt.disposition == Some(Disposition::RefundDue))
        else {
            return Ok(Some(Vec::new()));
        };
        if left.minor() == 0 {
            // Somebody has given all of it back in the provider's console.
            attempt.disposition = attempt
                .disposition
                .map(|d| d.on(DispositionEvent::Refunded))
                .transpose()?;
        } else if !is_under_way {
            // Shown to the payer: "paid twice", or "paid after the order was closed".
            let reason = if is_duplicate {
                "重复支付退款"
            } else {
                "订单已关闭退款"
            };
            let refund = Refund {
                reason: Some(reason.to_owned()),
                automatic: true,
                ..blank(
                    RefundId::new()?,
                    attempt,
                    &owner,
                    format!("auto-{attempt_id}"),
                    left,
                    now,
                )
            };
            after.refunds.push(refund);
        }
        Ok(Some(Vec::new()))
    })
    .await?;

    kill_point!("give_back_after_commit");
    Ok(written)
}
