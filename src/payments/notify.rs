//! What providers tell us. Only a [`Verified`] notification becomes a [`Matched`] one, and only a
//! `Matched` one reaches a payment. Inbox row, state change and event are one commit; the provider
//! gets its acknowledgement after it. Forged input changes no row.

mod apply;
mod matching;
mod unmatched;

use std::sync::Arc;
use std::time::Instant;

use providers::notification::{
    Acknowledgement, AcknowledgementBody, Notice, Notification, RawNotification, Rejection,
    Verified,
};
use providers::outcome::QueryOutcome;
use strum::{IntoEnumIterator as _, VariantNames as _};

use self::apply::apply;
use self::matching::{Matched, Mismatch, matched};
use self::unmatched::{raise, unmatched};
use super::commit::{decided, update};
use super::console_refund::{Confirmed, confirmed};
use super::transition::notified::ask_now;
use super::{Error, call, conditions};
use crate::app::App;
use crate::domain::attempt::State;
use crate::domain::operation::ReviewKind;
use crate::domain::{Aggregate, AllOwners, Mode, Timestamp};
use crate::lines;
use crate::mutate;
use crate::routing::account::Account;
use crate::store::CommitError;
use crate::store::change::Inbox;

/// What was made of a notification; its name is what metrics count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr, strum::VariantNames)]
#[strum(serialize_all = "snake_case")]
enum Verdict {
    Accepted,
    Duplicate,
    NothingToBook,
    NotStored,
}

/// Takes a notification and answers it in the provider's own way.
///
/// Also returns whether it was believed.
pub async fn receive(
    app: &Arc<App>,
    account: &Account,
    raw: RawNotification,
) -> (AcknowledgementBody, bool) {
    let provider = &account.provider;
    let (now, came_at) = (app.clock.now(), Instant::now());
    let verified = match provider.notification(&raw, now.utc()) {
        Ok(verified) => verified,
        Err(rejection) => return (refuse(app, account, &rejection).await, false),
    };

    mutate!(AcknowledgeBeforeCommit => {
        let (app, account) = (Arc::clone(app), account.clone());
        let later = Arc::clone(&app);
        later.spawn(async move {
            take(&app, &account, &verified, &raw, (now, came_at))
                .await
                .map(|_| ())
        });
        return (provider.acknowledge(Acknowledgement::Stop), true);
    });

    let (verdict, acknowledgement) = match take(app, account, &verified, &raw, (now, came_at)).await
    {
        Ok(Ok(verdict)) => (verdict.into(), Acknowledgement::Stop),
        // Sending it again would not make it match: it is on the work list.
        Ok(Err(mismatch)) => (mismatch.into(), Acknowledgement::Stop),
        Err(error) => {
            if lines::may_write(Some(&account.id)) {
                tracing::error!(account_id = %account.id, %error,
                    "notification not stored; the provider will send it again");
            }
            (Verdict::NotStored.into(), Acknowledgement::SendAgain)
        }
    };

    count(Some(account), verdict);
    (provider.acknowledge(acknowledgement), true)
}

/// Counts a notification, believed or not, under what was made of it.
pub fn count(account: Option<&Account>, verdict: &'static str) {
    let mode = account.map_or("none", |account| account.owner.mode.as_str());
    let provider = account.map_or("none", |account| account.provider.name().as_str());
    metrics::counter!("interlock_notifications_total", "mode" => mode, "provider" => provider,
        "verdict" => verdict)
    .increment(1);
}

/// Makes the series of everything that can become of a notification.
pub fn register() {
    for (mode, protocol) in
        Mode::iter().flat_map(|mode| providers::PROTOCOLS.iter().map(move |each| (mode, each)))
    {
        let (mode, provider) = (mode.as_str(), protocol.name.as_str());
        for verdict in [Verdict::VARIANTS, Mismatch::VARIANTS, Rejection::VARIANTS].concat() {
            metrics::counter!(
                "interlock_notifications_total", "mode" => mode, "provider" => provider,
                "verdict" => verdict
            )
            .increment(0);
        }
    }
}

async fn refuse(app: &App, account: &Account, rejection: &Rejection) -> AcknowledgementBody {
    let name: &'static str = rejection.into();
    count(Some(account), name);
    if *rejection == Rejection::Probe {
        // The provider wants to see it refused: nothing is wrong with anything.
        tracing::debug!(account_id = %account.id, "a probe was refused");
    } else if lines::may_write(Some(&account.id)) {
        tracing::warn!(account_id = %account.id, verdict = name, %rejection, "notification refused");
    }

    if let Rejection::OtherAccount(detail) = rejection {
        // Genuinely signed, so somebody has set up an address wrongly; a person can mend that.
        let raised = raise(
            app,
            account,
            ReviewKind::NotificationOtherAccount,
            &account.id,
            detail.clone(),
        )
        .await;
        if let Err(error) = raised {
            tracing::error!(%error, "work list not written");
        }
    }

    account.provider.acknowledge(Acknowledgement::Refuse)
}

async fn take(
    app: &Arc<App>,
    account: &Account,
    verified: &Verified<Notification>,
    raw: &RawNotification,
    (now, came_at): (Timestamp, Instant),
) -> Result<Result<Verdict, Mismatch>, Error> {
    let notification = verified.get();
    if app
        .store
        .has_notification(&account.id, &notification.id)
        .await?
    {
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
        Notice::Paid { order_no, .. }
        | Notice::Refund { order_no, .. }
        | Notice::Refunded { order_no, .. }
        | Notice::Ask { order_no, .. } => order_no,
        Notice::Nothing { .. } => {
            app.store
                .keep_notification(&inbox(Verdict::NothingToBook.into()))
                .await?;
            return Ok(Ok(Verdict::NothingToBook));
        }
    };
    decided!({
        let found = app.store.payment_of_order_no(AllOwners, order_no).await?;
        let (before, matched) = match matched(app, found.as_ref(), account, verified)? {
            Ok(agrees) => agrees,
            Err(mismatch) => {
                let kept = unmatched(
                    app,
                    account,
                    mismatch,
                    order_no,
                    found,
                    inbox(mismatch.into()),
                )
                .await;
                return stored_before(kept.map(|()| Err(mismatch)), Err(mismatch));
            }
        };

        let began = app.clock.began(came_at.elapsed());
        let trace = app
            .traces
            .incoming(&before.payment.id, "notification", began, None);
        trace.set("provider", account.provider.name().as_str());
        let taking = async {
            let Some(told) = confirm_before_apply(app, account, before, matched).await? else {
                return Ok(false);
            };
            apply(app, before, &told, inbox(Verdict::Accepted.into()))
                .await
                .map(|()| true)
        };
        let taken = match trace.around(taking).await {
            Ok(true) => Ok(Ok(Verdict::Accepted)),
            Ok(false) => {
                let mismatch = Mismatch::UnknownRefund;
                unmatched(
                    app,
                    account,
                    mismatch,
                    order_no,
                    None,
                    inbox(mismatch.into()),
                )
                .await?;
                Ok(Err(mismatch))
            }
            Err(error) => Err(error),
        };
        stored_before(taken, Ok(Verdict::Duplicate))
    })
}

/// What it is where another one of the same notification was faster.
fn stored_before<T>(taken: Result<T, Error>, is: T) -> Result<T, Error> {
    match taken {
        Err(Error::Commit(CommitError::NotificationStored)) => Ok(is),
        taken => taken,
    }
}

/// While an order's own call is on its way, nobody will ask about it soon: that is done here, so
/// that its money is not found minutes later. A refund of somebody else's is asked about here, too:
/// no row would remember to; `None` when its provider knows of another one.
async fn confirm_before_apply(
    app: &Arc<App>,
    account: &Account,
    before: &Aggregate,
    matched: Matched,
) -> Result<Option<Matched>, Error> {
    if let Matched::ConsoleRefund(found) = &matched {
        return match confirmed(app, before, found).await? {
            Confirmed::Yes(found) => Ok(Some(Matched::ConsoleRefund(found))),
            Confirmed::No => Ok(None),
            Confirmed::NotYet => {
                // It is sent again; a person hears of it now, since its provider gives up some day.
                let detail = "a refund was made in the provider's console, and the provider does \
                              not confirm it yet";
                raise(
                    app,
                    account,
                    ReviewKind::ConsoleRefundUnconfirmed,
                    found.attempt_id(),
                    detail.to_owned(),
                )
                .await?;
                let attempt_id = found.attempt_id().clone();
                if before
                    .attempt(&attempt_id)
                    .is_some_and(|a| a.captured.is_none())
                {
                    // What goes back has come in: the order is asked about, whatever was thought of
                    // it.
                    let conditions = conditions::of(app, before, before.attempt(&attempt_id));
                    update(app, before.clone(), |after, now| {
                        ask_now(conditions, after, &attempt_id, None, true, now);
                        Ok(Some(Vec::new()))
                    })
                    .await?;
                }
                Err(Error::ProviderUnclear(detail.to_owned()))
            }
        };
    }

    let Matched::Ask {
        attempt_id,
        refund_id: None,
        ..
    } = &matched
    else {
        return Ok(Some(matched));
    };
    let sending = before
        .attempt(attempt_id)
        .filter(|a| a.status == State::Sending);
    let Some(attempt) = sending else {
        return Ok(Some(matched));
    };

    Ok(Some(
        match call::query(app, account, attempt).await.outcome {
            QueryOutcome::Paid(capture) if capture.amount == attempt.amount => Matched::Money {
                attempt_id: attempt.id.clone(),
                capture,
            },
            QueryOutcome::Paid(_)
            | QueryOutcome::NotFound
            | QueryOutcome::Payable
            | QueryOutcome::Closed
            | QueryOutcome::Reversed
            | QueryOutcome::Unknown(_) => matched,
        },
    ))
}
