//! Compares a verified notification with what is ours: it matches an attempt or a refund in all
//! that it says, or it is said why not. Writes nothing.

use providers::money::Money;
use providers::notification::{Notice, Notification, Verified};
use providers::outcome::{Capture, RefundQueryOutcome};

use crate::app::App;
use crate::domain::id::{AttemptId, RefundId};
use crate::domain::operation::ReviewKind;
use crate::domain::{Aggregate, Attempt, Refund};
use crate::mutated;
use crate::payments::Error;
use crate::payments::transition::console_refund::{self, ConsoleRefund};
use crate::routing::account::Account;

/// What is put on the work list about a notification that does not match.
pub(super) const MISMATCH: ReviewKind = ReviewKind::NotificationMismatch;

/// A verified notification that agrees with one of our attempts in account, number, amount,
/// currency and payment.
#[derive(Debug)]
pub(super) enum Matched {
    /// About a number that a refund no longer has.
    OldNews,
    Money {
        attempt_id: AttemptId,
        capture: Capture,
    },
    Refund {
        refund_id: RefundId,
        outcome: RefundQueryOutcome,
    },
    /// A refund that is none of ours.
    ConsoleRefund(Box<ConsoleRefund>),
    /// Of an attempt's money this much has gone back, or some of it.
    Refunded {
        attempt_id: AttemptId,
        total: Option<Money>,
    },
    /// A refund of ours was carried out, and by another amount than it is: it is asked about, and a
    /// person looks.
    OtherRefundAmount { refund_id: RefundId, told: Money },
    /// Something happened to an attempt, or to one of its refunds: it has to be asked about.
    Ask {
        attempt_id: AttemptId,
        refund_id: Option<RefundId>,
        /// Whether it tells that money moved.
        says_done: bool,
    },
}

impl Matched {
    /// The attempt that it speaks of.
    pub(super) fn attempt<'a>(&self, aggregate: &'a Aggregate) -> Option<&'a Attempt> {
        match self {
            Self::OldNews => None,
            Self::Money { attempt_id, .. }
            | Self::Refunded { attempt_id, .. }
            | Self::Ask { attempt_id, .. } => aggregate.attempt(attempt_id),
            Self::ConsoleRefund(found) => aggregate.attempt(found.attempt_id()),
            Self::Refund { refund_id, .. } | Self::OtherRefundAmount { refund_id, .. } => {
                let refund = aggregate
                    .refunds
                    .iter()
                    .find(|refund| refund.id == *refund_id)?;
                aggregate.attempt(&refund.attempt_id)
            }
        }
    }
}

/// Why a verified notification is not matched. It is kept, and somebody is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr, strum::VariantNames)]
#[strum(serialize_all = "snake_case")]
pub(super) enum Mismatch {
    UnknownOrder,
    OtherAccount,
    OtherAmount,
    OtherPayment,
    UnknownRefund,
}

/// Compares a verified notification with the attempt that has its order number.
///
/// # Errors
/// [`Error`]: no ids. The [`Mismatch`] inside is kept, and somebody is told.
pub(super) fn matched<'a>(
    app: &App,
    found: Option<&'a (Aggregate, AttemptId)>,
    account: &Account,
    verified: &Verified<Notification>,
) -> Result<Result<(&'a Aggregate, Matched), Mismatch>, Error> {
    let notice = &verified.get().notice;
    let of_refund = as_of_refund(notice);
    if let (Some(Notice::Refund { refund_no, .. }), Some((aggregate, attempt_id))) =
        (&of_refund, found)
        && is_unknown(aggregate, refund_no)
        && aggregate
            .attempt(attempt_id)
            .is_some_and(|attempt| attempt.account_id == account.id)
        && let Some(notice) = &of_refund
        && let Some(by_hand) =
            console_refund::parse_console_refund(aggregate, attempt_id, notice, app.clock.now())?
    {
        return Ok(Ok((aggregate, Matched::ConsoleRefund(Box::new(by_hand)))));
    }
    Ok(ours(found, account, notice))
}

/// What speaks of a refund. One that says two things about it says at least that there is one.
fn as_of_refund(notice: &Notice) -> Option<Notice> {
    match notice {
        Notice::Refund { .. } => Some(notice.clone()),
        Notice::Ask {
            order_no,
            refund_no: Some(refund_no),
            says_done: true,
            amount: Some(amount),
        } => Some(Notice::Refund {
            order_no: order_no.clone(),
            refund_no: refund_no.clone(),
            outcome: RefundQueryOutcome::Accepted,
            amount: Some(*amount),
            total: None,
        }),
        Notice::Ask { .. }
        | Notice::Paid { .. }
        | Notice::Refunded { .. }
        | Notice::Nothing { .. } => None,
    }
}

/// The same for what speaks of an order or refund of ours.
fn ours<'a>(
    found: Option<&'a (Aggregate, AttemptId)>,
    account: &Account,
    notice: &Notice,
) -> Result<(&'a Aggregate, Matched), Mismatch> {
    let (aggregate, attempt_id) = found.ok_or(Mismatch::UnknownOrder)?;
    let attempt = aggregate
        .attempt(attempt_id)
        .ok_or(Mismatch::UnknownOrder)?;
    if attempt.account_id != account.id {
        return Err(Mismatch::OtherAccount);
    }

    match notice {
        Notice::Paid { capture, .. } if mutated!(NoAmountCheck) => Ok((
            aggregate,
            Matched::Money {
                attempt_id: attempt_id.clone(),
                capture: capture.clone(),
            },
        )),
        Notice::Paid { capture, .. } => {
            if capture.foreign_account.is_some() {
                return Err(Mismatch::OtherAccount);
            }
            // Money knows its currency: another one is another amount.
            if capture.amount != attempt.amount {
                return Err(Mismatch::OtherAmount);
            }
            if capture
                .payment_id
                .as_ref()
                .is_some_and(|id| *id != aggregate.payment.id)
            {
                return Err(Mismatch::OtherPayment);
            }
            Ok((
                aggregate,
                Matched::Money {
                    attempt_id: attempt_id.clone(),
                    capture: capture.clone(),
                },
            ))
        }
        Notice::Refund {
            refund_no, outcome, ..
        } if is_old_news(aggregate, refund_no, outcome) => Ok((aggregate, Matched::OldNews)),
        Notice::Refund {
            refund_no,
            outcome,
            amount,
            ..
        } => {
            let refund = refund_of(aggregate, attempt_id, refund_no)?;
            let refund_id = refund.id.clone();
            if let Some(told) =
                amount.filter(|told| *outcome == RefundQueryOutcome::Done && *told != refund.amount)
            {
                return Ok((aggregate, Matched::OtherRefundAmount { refund_id, told }));
            }
            Ok((
                aggregate,
                Matched::Refund {
                    refund_id,
                    outcome: outcome.clone(),
                },
            ))
        }
        Notice::Ask {
            refund_no: Some(no),
            says_done: false,
            ..
        } if is_earlier_no(aggregate, no) => Ok((aggregate, Matched::OldNews)),
        Notice::Ask {
            refund_no,
            says_done,
            ..
        } => {
            let refund = refund_no
                .as_ref()
                .map(|no| refund_of(aggregate, attempt_id, no))
                .transpose()?;
            let refund_id = refund.map(|refund| refund.id.clone());
            Ok((
                aggregate,
                Matched::Ask {
                    attempt_id: attempt_id.clone(),
                    refund_id,
                    says_done: *says_done,
                },
            ))
        }
        Notice::Refunded { total, .. } => Ok((
            aggregate,
            Matched::Refunded {
                attempt_id: attempt_id.clone(),
                total: *total,
            },
        )),
        Notice::Nothing { .. } => Err(Mismatch::UnknownOrder),
    }
}

/// Whether a refund's earlier number is told once more to have moved no money. That it did move
/// some would be news.
fn is_old_news(aggregate: &Aggregate, refund_no: &str, outcome: &RefundQueryOutcome) -> bool {
    is_earlier_no(aggregate, refund_no) && *outcome != RefundQueryOutcome::Done
}

fn is_unknown(aggregate: &Aggregate, refund_no: &str) -> bool {
    aggregate
        .refunds
        .iter()
        .all(|r| r.provider_refund_no != refund_no)
        && !is_earlier_no(aggregate, refund_no)
}

fn is_earlier_no(aggregate: &Aggregate, refund_no: &str) -> bool {
    aggregate
        .refunds
        .iter()
        .any(|r| r.earlier_nos.iter().any(|no| no == refund_no))
}

/// The refund that has this number at the provider.
fn refund_of<'a>(
    aggregate: &'a Aggregate,
    attempt_id: &AttemptId,
    refund_no: &str,
) -> Result<&'a Refund, Mismatch> {
    let is_it = |r: &&Refund| r.provider_refund_no == refund_no && r.attempt_id == *attempt_id;
    aggregate
        .refunds
        .iter()
        .find(is_it)
        .ok_or(Mismatch::UnknownRefund)
}
