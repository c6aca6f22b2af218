//! What providers tell us. Only a [`Verified`] notification becomes a [`Matched`] one, and only a `Matched` one
//! reaches a payment. Inbox row, state change and event are one commit; the provider gets its acknowledgement
//! after it. Forged input changes no row.

use std::sync::Arc;

use providers::notification::{
    Acknowledgement, AcknowledgementBody, Notice, Notification, RawNotification, Rejection, Verified,
};
use providers::outcome::{Capture, RefundQueried};

use super::{DECISIONS, Trouble, events, refund, resolve};
use crate::app::App;
use crate::directory::Account;
use crate::domain::id::{self, Kind};
use crate::domain::{Aggregate, Timestamp};
use crate::kill_point;
use crate::store::CommitError;
use crate::store::change::{Change, Inbox, Operation};

/// A verified notification that agrees with one of our attempts in account, number, amount, currency and payment.
#[derive(Debug)]
enum Matched {
    Money { attempt_id: String, capture: Capture },
    Refund { refund_id: String, outcome: RefundQueried },
}

/// Why a verified notification is not matched. It is kept, and somebody is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
enum Mismatch {
    UnknownOrder,
    OtherAccount,
    OtherAmount,
    OtherPayment,
    UnknownRefund,
}

/// What was made of a notification; its name is what metrics count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
enum Verdict {
    Accepted,
    Duplicate,
    NothingToBook,
    NotStored,
}

/// Takes a notification and answers it in the provider's own way.
pub async fn receive(app: &Arc<App>, account: &Account, raw: RawNotification) -> AcknowledgementBody {
    let provider = &account.provider;
    let now = app.clock.now();
    let verified = match provider.notification(&raw, now.utc()) {
        Ok(verified) => verified,
        Err(rejection) => return refuse(app, account, &rejection).await,
    };
    let (verdict, acknowledgement) = match take(app, account, &verified, &raw, now).await {
        Ok(Ok(verdict)) => (verdict.into(), Acknowledgement::Stop),
        // Sending it again would not make it match: it is on the work list.
        Ok(Err(mismatch)) => (mismatch.into(), Acknowledgement::Stop),
        Err(error) => {
            tracing::error!(account_id = account.id, %error, "notification not stored; the provider will send it again");
            (Verdict::NotStored.into(), Acknowledgement::SendAgain)
        }
    };
    count(provider.name().as_str(), verdict);
    provider.acknowledge(acknowledgement)
}

/// Counts a notification, believed or not, under what was made of it.
pub fn count(provider: &'static str, verdict: &'static str) {
    metrics::counter!("interlock_notifications_total", "provider" => provider, "verdict" => verdict).increment(1);
}

async fn refuse(app: &App, account: &Account, rejection: &Rejection) -> AcknowledgementBody {
    let name: &'static str = rejection.into();
    count(account.provider.name().as_str(), name);
    tracing::warn!(account_id = account.id, verdict = name, %rejection, "notification refused");
    if let Rejection::OtherAccount(detail) = rejection {
        // Genuinely signed, so somebody has set up an address wrongly; a person can mend that.
        let raised = raise(app, account, "notification_other_account", &account.id, detail.clone()).await;
        if let Err(error) = raised {
            tracing::error!(%error, "work list not written");
        }
    }
    account.provider.acknowledge(Acknowledgement::Refuse)
}

async fn raise(
    app: &App,
    account: &Account,
    kind: &'static str,
    subject_id: &str,
    detail: String,
) -> Result<(), Trouble> {
    let entry = Operation {
        id: id::new(Kind::Operation)?,
        merchant_id: account.merchant_id.clone(),
        kind,
        subject_id: subject_id.to_owned(),
        detail,
        created_at: app.clock.now(),
    };
    Ok(app.store.raise(&entry).await?)
}

async fn take(
    app: &Arc<App>,
    account: &Account,
    verified: &Verified<Notification>,
    raw: &RawNotification,
    now: Timestamp,
) -> Result<Result<Verdict, Mismatch>, Trouble> {
    let notification = verified.get();
    if app.store.has_notification(&account.id, &notification.id).await? {
        return Ok(Ok(Verdict::Duplicate));
    }
    let inbox = |verdict: &'static str| Inbox {
        account_id: account.id.clone(),
        notification_id: notification.id.clone(),
        verdict,
        body: raw.body.to_vec(),
        received_at: now,
    };
    let order_no = match &notification.notice {
        Notice::Paid { order_no, .. } | Notice::Refund { order_no, .. } => order_no,
        Notice::Nothing { .. } => {
            app.store.keep_notification(&inbox(Verdict::NothingToBook.into())).await?;
            return Ok(Ok(Verdict::NothingToBook));
        }
    };
    for _ in 0..DECISIONS {
        let found = app.store.payment_of_order_no(order_no).await?;
        match matched(found.as_ref(), account, verified) {
            Err(mismatch) => {
                let name: &'static str = mismatch.into();
                let detail = format!("{name}: notification {} for order {order_no}", notification.id);
                tracing::error!(
                    account_id = account.id,
                    order_no,
                    verdict = name,
                    "a genuine notification does not match"
                );
                // In this order: dying in between, it is raised once more, and not never.
                raise(app, account, "notification_mismatch", &notification.id, detail).await?;
                app.store.keep_notification(&inbox(name)).await?;
                return Ok(Err(mismatch));
            }
            Ok((before, matched)) => match apply(app, before, &matched, inbox(Verdict::Accepted.into())).await {
                Ok(()) => return Ok(Ok(Verdict::Accepted)),
                Err(Trouble::Commit(CommitError::NotificationStored)) => return Ok(Ok(Verdict::Duplicate)),
                Err(Trouble::Commit(CommitError::Moved)) => {}
                Err(error) => return Err(error),
            },
        }
    }
    Err(CommitError::Moved.into())
}

/// Compares a verified notification with the attempt that has its order number.
fn matched<'a>(
    found: Option<&'a (Aggregate, String)>,
    account: &Account,
    verified: &Verified<Notification>,
) -> Result<(&'a Aggregate, Matched), Mismatch> {
    let (aggregate, attempt_id) = found.ok_or(Mismatch::UnknownOrder)?;
    let attempt = aggregate.attempt(attempt_id).ok_or(Mismatch::UnknownOrder)?;
    if attempt.account_id != account.id {
        return Err(Mismatch::OtherAccount);
    }
    match &verified.get().notice {
        Notice::Paid { capture, .. } => {
            if capture.foreign_account.is_some() {
                return Err(Mismatch::OtherAccount);
            }
            // Money knows its currency: another one is another amount.
            if capture.amount != attempt.amount {
                return Err(Mismatch::OtherAmount);
            }
            if capture.payment_id.as_ref().is_some_and(|id| *id != aggregate.payment.id) {
                return Err(Mismatch::OtherPayment);
            }
            Ok((aggregate, Matched::Money { attempt_id: attempt_id.clone(), capture: capture.clone() }))
        }
        Notice::Refund { refund_no, outcome, .. } => {
            let refund = aggregate
                .refunds
                .iter()
                .find(|r| r.provider_refund_no == *refund_no && r.attempt_id == *attempt_id)
                .ok_or(Mismatch::UnknownRefund)?;
            Ok((aggregate, Matched::Refund { refund_id: refund.id.clone(), outcome: outcome.clone() }))
        }
        Notice::Nothing { .. } => Err(Mismatch::UnknownOrder),
    }
}

async fn apply(app: &Arc<App>, before: &Aggregate, matched: &Matched, inbox: Inbox) -> Result<(), Trouble> {
    let now = app.clock.now();
    let mut after = before.clone();
    let operations = match matched {
        Matched::Money { attempt_id, capture } => resolve::money_seen(&mut after, attempt_id, capture, now)?,
        Matched::Refund { refund_id, outcome } => refund::told(app, &mut after, refund_id, outcome, now)?,
    };
    let change = Change::update(before, after.clone())
        .with_events(events::between(Some(before), &after, now)?)
        .with_inbox(Some(inbox))
        .with_operations(operations);
    kill_point!("notify_before_commit");
    app.store.commit(change).await?;
    kill_point!("notify_after_commit");
    Ok(())
}
