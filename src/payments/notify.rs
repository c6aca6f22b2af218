//! What providers tell us. Only a [`Verified`] notification becomes a [`Matched`] one, and only a `Matched` one
//! reaches a payment. Inbox row, state change and event are one commit; the provider gets its acknowledgement
//! after it. Forged input changes no row.

use std::sync::Arc;
use std::time::Instant;

use providers::money::Money;
use providers::notification::{
    Acknowledgement, AcknowledgementBody, Notice, Notification, RawNotification, Rejection, Verified,
};
use providers::outcome::{Capture, Queried, RefundQueried};
use strum::{IntoEnumIterator as _, VariantNames as _};

use super::commit::{Beside, commit, decided, update};
use super::console_refund::{Confirmed, confirmed};
use super::transition::capture::money_seen;
use super::transition::console_refund::{self, ByHand};
use super::transition::notified::{ask_about_refund, ask_now, went_back};
use super::transition::refund_outcome;
use super::{Trouble, call, conditions};
use crate::app::App;
#[cfg(feature = "testing")]
use crate::broken::{Rule, breaks};
use crate::domain::attempt::State;
use crate::domain::{Aggregate, AllOwners, Attempt, Mode, Refund, Timestamp};
use crate::kill_point;
use crate::lines;
use crate::routing::account::Account;
use crate::store::change::{Inbox, Operation};
use crate::store::{CommitError, OperationFilter};

/// What is put on the work list about a notification that does not match.
const MISMATCH: &str = "notification_mismatch";
/// So many of an owner's wait for a person at the most.
const MOST_OPEN: u64 = 100;

/// A verified notification that agrees with one of our attempts in account, number, amount, currency and payment.
#[derive(Debug)]
enum Matched {
    /// About a number that a refund no longer has.
    OldNews,
    Money {
        attempt_id: String,
        capture: Capture,
    },
    Refund {
        refund_id: String,
        outcome: RefundQueried,
    },
    /// A refund that is none of ours.
    ByHand(Box<ByHand>),
    /// Of an attempt's money this much has gone back, or some of it.
    Refunded {
        attempt_id: String,
        total: Option<Money>,
    },
    /// A refund of ours was carried out, and by another amount than it is: it is asked about, and a person looks.
    OtherRefundAmount {
        refund_id: String,
        told: Money,
    },
    /// Something happened to an attempt, or to one of its refunds: it has to be asked about.
    Ask {
        attempt_id: String,
        refund_id: Option<String>,
        /// Whether it tells that money moved.
        says_done: bool,
    },
}

impl Matched {
    /// The attempt that it speaks of.
    fn attempt<'a>(&self, aggregate: &'a Aggregate) -> Option<&'a Attempt> {
        match self {
            Self::OldNews => None,
            Self::Money { attempt_id, .. } | Self::Refunded { attempt_id, .. } | Self::Ask { attempt_id, .. } => {
                aggregate.attempt(attempt_id)
            }
            Self::ByHand(found) => aggregate.attempt(found.attempt_id()),
            Self::Refund { refund_id, .. } | Self::OtherRefundAmount { refund_id, .. } => {
                let refund = aggregate.refunds.iter().find(|refund| refund.id == *refund_id)?;
                aggregate.attempt(&refund.attempt_id)
            }
        }
    }
}

/// Why a verified notification is not matched. It is kept, and somebody is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr, strum::VariantNames)]
#[strum(serialize_all = "snake_case")]
enum Mismatch {
    UnknownOrder,
    OtherAccount,
    OtherAmount,
    OtherPayment,
    UnknownRefund,
}

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
pub async fn receive(app: &Arc<App>, account: &Account, raw: RawNotification) -> (AcknowledgementBody, bool) {
    let provider = &account.provider;
    let (now, came_at) = (app.clock.now(), Instant::now());
    let verified = match provider.notification(&raw, now.utc()) {
        Ok(verified) => verified,
        Err(rejection) => return (refuse(app, account, &rejection).await, false),
    };
    #[cfg(feature = "testing")]
    if breaks(Rule::AcknowledgeBeforeCommit) {
        let (app, account) = (Arc::clone(app), account.clone());
        let later = Arc::clone(&app);
        later.spawn(async move { take(&app, &account, &verified, &raw, (now, came_at)).await.map(|_| ()) });
        return (provider.acknowledge(Acknowledgement::Stop), true);
    }
    let (verdict, acknowledgement) = match take(app, account, &verified, &raw, (now, came_at)).await {
        Ok(Ok(verdict)) => (verdict.into(), Acknowledgement::Stop),
        // Sending it again would not make it match: it is on the work list.
        Ok(Err(mismatch)) => (mismatch.into(), Acknowledgement::Stop),
        Err(error) => {
            if lines::may_write(Some(&account.id)) {
                tracing::error!(account_id = account.id, %error, "notification not stored; the provider will send it again");
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
    metrics::counter!("interlock_notifications_total", "mode" => mode, "provider" => provider, "verdict" => verdict)
        .increment(1);
}

/// Makes the series of everything that can become of a notification.
pub fn register() {
    for (mode, protocol) in Mode::iter().flat_map(|mode| providers::PROTOCOLS.iter().map(move |each| (mode, each))) {
        let (mode, provider) = (mode.as_str(), protocol.name.as_str());
        for verdict in [Verdict::VARIANTS, Mismatch::VARIANTS, Rejection::VARIANTS].concat() {
            metrics::counter!(
                "interlock_notifications_total", "mode" => mode, "provider" => provider, "verdict" => verdict
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
        tracing::debug!(account_id = account.id, "a probe was refused");
    } else if lines::may_write(Some(&account.id)) {
        tracing::warn!(account_id = account.id, verdict = name, %rejection, "notification refused");
    }
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
    let entry = Operation::new(&account.owner, kind, subject_id, detail, app.clock.now())?;
    Ok(app.store.raise(&entry).await?)
}

async fn take(
    app: &Arc<App>,
    account: &Account,
    verified: &Verified<Notification>,
    raw: &RawNotification,
    (now, came_at): (Timestamp, Instant),
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
        Notice::Paid { order_no, .. }
        | Notice::Refund { order_no, .. }
        | Notice::Refunded { order_no, .. }
        | Notice::Ask { order_no, .. } => order_no,
        Notice::Nothing { .. } => {
            app.store.keep_notification(&inbox(Verdict::NothingToBook.into())).await?;
            return Ok(Ok(Verdict::NothingToBook));
        }
    };
    decided!({
        let found = app.store.payment_of_order_no(AllOwners, order_no).await?;
        let (before, matched) = match matched(app, found.as_ref(), account, verified)? {
            Ok(agrees) => agrees,
            Err(mismatch) => {
                let kept = unmatched(app, account, mismatch, order_no, found, inbox(mismatch.into())).await;
                return stored_before(kept.map(|()| Err(mismatch)), Err(mismatch));
            }
        };

        let began = app.clock.began(came_at.elapsed());
        let trace = app.traces.incoming(&before.payment.id, "notification", began, None);
        trace.set("provider", account.provider.name().as_str());
        let taking = async {
            let Some(told) = told(app, account, before, matched).await? else { return Ok(false) };
            apply(app, before, &told, inbox(Verdict::Accepted.into())).await.map(|()| true)
        };
        let taken = match trace.around(taking).await {
            Ok(true) => Ok(Ok(Verdict::Accepted)),
            Ok(false) => {
                let mismatch = Mismatch::UnknownRefund;
                unmatched(app, account, mismatch, order_no, None, inbox(mismatch.into())).await?;
                Ok(Err(mismatch))
            }
            Err(error) => Err(error),
        };
        stored_before(taken, Ok(Verdict::Duplicate))
    })
}

/// What it is where another one of the same notification was faster.
fn stored_before<T>(taken: Result<T, Trouble>, is: T) -> Result<T, Trouble> {
    match taken {
        Err(Trouble::Commit(CommitError::NotificationStored)) => Ok(is),
        taken => taken,
    }
}

/// A genuine notification that agrees with nothing of ours: it is kept, and a person looks at it. Where so many wait for one
/// already, its provider keeps it: whoever has an account can sign as many as it likes. If it speaks of an order of
/// ours that nobody would ask about any more, that is done: something happened to it, whatever that was.
async fn unmatched(
    app: &Arc<App>,
    account: &Account,
    mismatch: Mismatch,
    order_no: &str,
    found: Option<(Aggregate, String)>,
    inbox: Inbox,
) -> Result<(), Trouble> {
    let name: &'static str = mismatch.into();
    if lines::may_write(Some(&account.id)) {
        tracing::error!(account_id = account.id, order_no, verdict = name, "a genuine notification does not match");
    }
    // Whether somebody else has such an order is nobody's business.
    let is_anothers = found.as_ref().is_some_and(|(payment, _)| payment.payment.owner != account.owner);
    let told = if is_anothers { Mismatch::UnknownOrder.into() } else { name };
    let detail = format!("{told}: notification {} for order {order_no}", inbox.notification_id);

    let kind = Some(MISMATCH.to_owned());
    let open = OperationFilter { kind, resolved: Some(false), limit: MOST_OPEN, starting_after: None };
    let is_full = u64::try_from(app.store.operations(&account.owner, &open).await?.len()).unwrap_or(0) >= MOST_OPEN;
    // In this order: dying in between, it is raised once more, and not never.
    if is_full {
        let detail =
            format!("{MOST_OPEN} and more notifications wait for a person; further ones are sent again until then");
        raise(app, account, MISMATCH, &account.id, detail).await?;
    } else {
        raise(app, account, MISMATCH, &inbox.notification_id, detail).await?;
    }

    let is_left_alone = |(payment, attempt_id): &(Aggregate, String)| {
        let attempt = payment.attempt(attempt_id).filter(|attempt| attempt.account_id == account.id);
        attempt.is_some_and(|attempt| attempt.captured.is_none() && attempt.next_check_at.is_none())
    };
    match found.filter(is_left_alone) {
        Some((before, attempt_id)) => {
            let ask = Matched::Ask { attempt_id, refund_id: None, says_done: true };
            apply(app, &before, &ask, inbox).await
        }
        None if is_full => Err(Trouble::Unanswered("too many wait for a person already".to_owned())),
        None => Ok(app.store.keep_notification(&inbox).await?),
    }
}

/// While an order's own call is on its way, nobody will ask about it soon: that is done here, so that its money is not
/// found minutes later. A refund of somebody else's is asked about here, too: no row would remember to; `None` when its provider
/// knows of another one.
async fn told(
    app: &Arc<App>,
    account: &Account,
    before: &Aggregate,
    matched: Matched,
) -> Result<Option<Matched>, Trouble> {
    if let Matched::ByHand(found) = &matched {
        return match confirmed(app, before, found).await? {
            Confirmed::Yes(found) => Ok(Some(Matched::ByHand(found))),
            Confirmed::No => Ok(None),
            Confirmed::NotYet => {
                // It is sent again; a person hears of it now, since its provider gives up some day.
                let detail = "a refund was made in the provider's console, and the provider does not confirm it yet";
                raise(app, account, "console_refund_unconfirmed", found.attempt_id(), detail.to_owned()).await?;
                let attempt_id = found.attempt_id().to_owned();
                if before.attempt(&attempt_id).is_some_and(|a| a.captured.is_none()) {
                    // What goes back has come in: the order is asked about, whatever was thought of it.
                    let conditions = conditions::of(app, before, before.attempt(&attempt_id));
                    update(app, before.clone(), |after, now| {
                        ask_now(conditions, after, &attempt_id, None, true, now);
                        Ok(Some(Vec::new()))
                    })
                    .await?;
                }
                Err(Trouble::Unanswered(detail.to_owned()))
            }
        };
    }
    let Matched::Ask { attempt_id, refund_id: None, .. } = &matched else { return Ok(Some(matched)) };
    let sending = before.attempt(attempt_id).filter(|a| a.status == State::Sending);
    let Some(attempt) = sending else { return Ok(Some(matched)) };
    Ok(Some(match call::query(app, account, attempt).await.outcome {
        Queried::Paid(capture) if capture.amount == attempt.amount => {
            Matched::Money { attempt_id: attempt.id.clone(), capture }
        }
        Queried::Paid(_)
        | Queried::NotFound
        | Queried::Payable
        | Queried::Closed
        | Queried::Reversed
        | Queried::Unknown(_) => matched,
    }))
}

/// Compares a verified notification with the attempt that has its order number.
///
/// # Errors
/// [`Trouble`]: no ids. The [`Mismatch`] inside is kept, and somebody is told.
fn matched<'a>(
    app: &App,
    found: Option<&'a (Aggregate, String)>,
    account: &Account,
    verified: &Verified<Notification>,
) -> Result<Result<(&'a Aggregate, Matched), Mismatch>, Trouble> {
    let notice = &verified.get().notice;
    let of_refund = as_of_refund(notice);
    if let (Some(Notice::Refund { refund_no, .. }), Some((aggregate, attempt_id))) = (&of_refund, found)
        && is_unknown(aggregate, refund_no)
        && aggregate.attempt(attempt_id).is_some_and(|attempt| attempt.account_id == account.id)
        && let Some(notice) = &of_refund
        && let Some(by_hand) = console_refund::told(aggregate, attempt_id, notice, app.clock.now())?
    {
        return Ok(Ok((aggregate, Matched::ByHand(Box::new(by_hand)))));
    }
    Ok(ours(found, account, notice))
}

/// What speaks of a refund. One that says two things about it says at least that there is one.
fn as_of_refund(notice: &Notice) -> Option<Notice> {
    match notice {
        Notice::Refund { .. } => Some(notice.clone()),
        Notice::Ask { order_no, refund_no: Some(refund_no), says_done: true, amount: Some(amount) } => {
            Some(Notice::Refund {
                order_no: order_no.clone(),
                refund_no: refund_no.clone(),
                outcome: RefundQueried::Accepted,
                amount: Some(*amount),
                total: None,
            })
        }
        Notice::Ask { .. } | Notice::Paid { .. } | Notice::Refunded { .. } | Notice::Nothing { .. } => None,
    }
}

/// The same for what speaks of an order or refund of ours.
fn ours<'a>(
    found: Option<&'a (Aggregate, String)>,
    account: &Account,
    notice: &Notice,
) -> Result<(&'a Aggregate, Matched), Mismatch> {
    let (aggregate, attempt_id) = found.ok_or(Mismatch::UnknownOrder)?;
    let attempt = aggregate.attempt(attempt_id).ok_or(Mismatch::UnknownOrder)?;
    if attempt.account_id != account.id {
        return Err(Mismatch::OtherAccount);
    }
    match notice {
        #[cfg(feature = "testing")]
        Notice::Paid { capture, .. } if breaks(Rule::NoAmountCheck) => {
            Ok((aggregate, Matched::Money { attempt_id: attempt_id.clone(), capture: capture.clone() }))
        }
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
        Notice::Refund { refund_no, outcome, .. } if is_old_news(aggregate, refund_no, outcome) => {
            Ok((aggregate, Matched::OldNews))
        }
        Notice::Refund { refund_no, outcome, amount, .. } => {
            let refund = refund_of(aggregate, attempt_id, refund_no)?;
            let refund_id = refund.id.clone();
            if let Some(told) = amount.filter(|told| *outcome == RefundQueried::Done && *told != refund.amount) {
                return Ok((aggregate, Matched::OtherRefundAmount { refund_id, told }));
            }
            Ok((aggregate, Matched::Refund { refund_id, outcome: outcome.clone() }))
        }
        Notice::Ask { refund_no: Some(no), says_done: false, .. } if is_earlier_no(aggregate, no) => {
            Ok((aggregate, Matched::OldNews))
        }
        Notice::Ask { refund_no, says_done, .. } => {
            let refund = refund_no.as_ref().map(|no| refund_of(aggregate, attempt_id, no)).transpose()?;
            let refund_id = refund.map(|refund| refund.id.clone());
            Ok((aggregate, Matched::Ask { attempt_id: attempt_id.clone(), refund_id, says_done: *says_done }))
        }
        Notice::Refunded { total, .. } => {
            Ok((aggregate, Matched::Refunded { attempt_id: attempt_id.clone(), total: *total }))
        }
        Notice::Nothing { .. } => Err(Mismatch::UnknownOrder),
    }
}

/// Whether a refund's earlier number is told once more to have moved no money. That it did move some would be news.
fn is_old_news(aggregate: &Aggregate, refund_no: &str, outcome: &RefundQueried) -> bool {
    is_earlier_no(aggregate, refund_no) && *outcome != RefundQueried::Done
}

fn is_unknown(aggregate: &Aggregate, refund_no: &str) -> bool {
    aggregate.refunds.iter().all(|r| r.provider_refund_no != refund_no) && !is_earlier_no(aggregate, refund_no)
}

fn is_earlier_no(aggregate: &Aggregate, refund_no: &str) -> bool {
    aggregate.refunds.iter().any(|r| r.earlier_nos.iter().any(|no| no == refund_no))
}

fn other_refund_amount(
    aggregate: &Aggregate,
    refund_id: &str,
    told: Money,
    inbox: &Inbox,
    now: Timestamp,
) -> Result<Operation, Trouble> {
    let name: &'static str = Mismatch::OtherAmount.into();
    let detail = format!(
        "{name}: notification {} says that {refund_id} has given back {} fen",
        inbox.notification_id,
        told.minor()
    );
    Ok(Operation::new(&aggregate.payment.owner, MISMATCH, &inbox.notification_id, detail, now)?)
}

/// The refund that has this number at the provider.
fn refund_of<'a>(aggregate: &'a Aggregate, attempt_id: &str, refund_no: &str) -> Result<&'a Refund, Mismatch> {
    let is_it = |r: &&Refund| r.provider_refund_no == refund_no && r.attempt_id == attempt_id;
    aggregate.refunds.iter().find(is_it).ok_or(Mismatch::UnknownRefund)
}

async fn apply(app: &Arc<App>, before: &Aggregate, matched: &Matched, inbox: Inbox) -> Result<(), Trouble> {
    let now = app.clock.now();
    let mut after = before.clone();
    let conditions = conditions::of(app, before, matched.attempt(before));
    let operations = match matched {
        Matched::Money { attempt_id, capture } => money_seen(&mut after, attempt_id, capture, now)?,
        Matched::Refund { refund_id, outcome } => {
            refund_outcome::told(conditions, &mut after, refund_id, outcome, now)?
        }
        Matched::OldNews => Vec::new(),
        Matched::Refunded { attempt_id, total } => went_back(conditions, &mut after, attempt_id, *total, now)?,
        Matched::ByHand(found) => {
            console_refund::book(&mut after, found, now)?;
            Vec::new()
        }
        Matched::OtherRefundAmount { refund_id, told } => {
            ask_about_refund(conditions, &mut after, refund_id, true, now);
            vec![other_refund_amount(before, refund_id, *told, &inbox, now)?]
        }
        Matched::Ask { attempt_id, refund_id, says_done } => {
            ask_now(conditions, &mut after, attempt_id, refund_id.as_deref(), *says_done, now);
            Vec::new()
        }
    };
    kill_point!("notify_before_commit");
    commit(app, before, after, now, Beside { inbox: Some(inbox), operations, ..Beside::default() }).await?;
    kill_point!("notify_after_commit");
    Ok(())
}
