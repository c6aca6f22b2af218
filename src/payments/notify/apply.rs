//! Brings a matched notification to its payment: inbox row, state change and event in one commit.

use std::sync::Arc;

use providers::money::Money;

use super::matching::{MISMATCH, Matched, Mismatch};
use crate::app::App;
use crate::domain::id::RefundId;
use crate::domain::{Aggregate, Timestamp};
use crate::kill_point;
use crate::payments::commit::{Beside, commit};
use crate::payments::transition::capture::money_seen;
use crate::payments::transition::notified::{ask_about_refund, ask_now, went_back};
use crate::payments::transition::{console_refund, refund_outcome};
use crate::payments::{Error, conditions};
use crate::store::change::{Inbox, ReviewItem};

pub(super) async fn apply(
    app: &Arc<App>,
    before: &Aggregate,
    matched: &Matched,
    inbox: Inbox,
) -> Result<(), Error> {
    let now = app.clock.now();
    let mut after = before.clone();
    let conditions = conditions::of(app, before, matched.attempt(before));
    let operations = match matched {
        Matched::Money {
            attempt_id,
            capture,
        } => money_seen(&mut after, attempt_id, capture, now)?,
        Matched::Refund { refund_id, outcome } => refund_outcome::apply_refund_notification(
            conditions, &mut after, refund_id, outcome, now,
        )?,
        Matched::OldNews => Vec::new(),
        Matched::Refunded { attempt_id, total } => {
            went_back(conditions, &mut after, attempt_id, *total, now)?
        }
        Matched::ConsoleRefund(found) => {
            console_refund::book(&mut after, found, now)?;
            Vec::new()
        }
        Matched::OtherRefundAmount { refund_id, told } => {
            ask_about_refund(conditions, &mut after, refund_id, true, now);
            vec![other_refund_amount(before, refund_id, *told, &inbox, now)?]
        }
        Matched::Ask {
            attempt_id,
            refund_id,
            says_done,
        } => {
            ask_now(
                conditions,
                &mut after,
                attempt_id,
                refund_id.as_ref(),
                *says_done,
                now,
            );
            Vec::new()
        }
    };

    kill_point!("notify_before_commit");
    commit(
        app,
        before,
        after,
        now,
        Beside {
            inbox: Some(inbox),
            operations,
            ..Beside::default()
        },
    )
    .await?;

    kill_point!("notify_after_commit");
    Ok(())
}

fn other_refund_amount(
    aggregate: &Aggregate,
    refund_id: &RefundId,
    told: Money,
    inbox: &Inbox,
    now: Timestamp,
) -> Result<ReviewItem, Error> {
    let name: &'static str = Mismatch::OtherAmount.into();
    let detail = format!(
        "{name}: notification {} says that {refund_id} has given back {} fen",
        inbox.notification_id,
        told.minor()
    );
    Ok(ReviewItem::new(
        &aggregate.payment.owner,
        MISMATCH,
        &inbox.notification_id,
        detail,
        now,
    )?)
}
