//! Giving money back: making refunds, sending them, asking about them. A refund belongs to one
//! captured attempt; its number is committed before it is sent, and the same number is sent again
//! as often as needed: at every provider that is the same refund.
//!
//! One refund of an attempt is on its way at a time; the others wait for their turn.

use std::sync::Arc;
use std::time::Instant;

use providers::money::Money;
use providers::outcome::{Answer, RefundOutcome, RefundQueryOutcome};

use super::commit::{Beside, commit, decided, reload, update};
use super::transition::refund_turn::{Turn, blank, mark_sent, turn, wake_next};
use super::transition::{auto_refund, refund_outcome, refund_retry};
use super::{Error, call, conditions, view};
use crate::app::App;
use crate::domain::id::{PaymentId, RefundId};
use crate::domain::operation::ReviewKind;
use crate::domain::refund::State;
use crate::domain::{Aggregate, Owner, Refund, Timestamp};
use crate::kill_point;
use crate::store::CommitError;
use crate::store::change::{Key, KeyScope, KeyWrite, ReviewItem, StoredAnswer};
use crate::traces::Span;

/// After a restore it is looked so often whether a refund may be sent.
const HELD_S: i64 = 10;

/// A refund as it was asked for, checked.
#[derive(Debug, Clone)]
pub struct NewRefund {
    /// The merchant's own number; unique for ever.
    pub merchant_refund_no: String,
    /// How much, in fen; more than 0.
    pub amount_fen: i64,
    /// Shown to the payer.
    pub reason: Option<String>,
}

/// Why a refund was not made. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum RefundError {
    /// The merchant has no such payment.
    #[error("no such payment")]
    NoPayment,
    /// No money of this payment is kept.
    #[error("nothing was captured")]
    NotCaptured,
    /// More than what is left.
    #[error("only {left_fen} fen are left to refund")]
    TooMuch {
        /// Fen that are not promised to a refund yet.
        left_fen: i64,
    },
    /// The merchant has used this refund number.
    #[error("the refund number was used for {0}")]
    NumberTaken(RefundId),
    /// Anything else.
    #[error(transparent)]
    Other(#[from] Error),
}

impl From<CommitError> for RefundError {
    fn from(e: CommitError) -> Self {
        Self::Other(e.into())
    }
}

/// Makes a refund, in one commit with its idempotency key. The sum is guarded by the payment's
/// version: of two that come at once, the second is decided with the first one counted.
///
/// # Errors
/// [`RefundError`]; `Commit(KeyTaken)` tells that another request has this key.
pub async fn open(
    app: &App,
    owner: &Owner,
    payment_id: &PaymentId,
    new: &NewRefund,
    scope: KeyScope,
    fingerprint: String,
) -> Result<(Aggregate, RefundId, Key), RefundError> {
    let refund_id = RefundId::new().map_err(Error::from)?;
    let key = Key {
        scope,
        fingerprint,
        resource_id: refund_id.to_string(),
        created_at: app.clock.now(),
    };
    let _turn = app.refund_turns.of(payment_id).await;
    let made = decided!({
        let Some(before) = app.store.payment_of(owner, payment_id).await? else {
            return Ok(Err(RefundError::NoPayment));
        };
        if let Some(taken) = app
            .store
            .refund_by_merchant_no(owner, &new.merchant_refund_no)
            .await?
        {
            // A repeated request finds its own refund: its key, not its number, says that it is the
            // same request.
            return Ok(Err(match app.store.key(&key.scope).await? {
                Some(_) => CommitError::KeyTaken.into(),
                None => RefundError::NumberTaken(taken.id),
            }));
        }

        let now = app.clock.now();
        let mut after = before.clone();
        if let Err(error) = add(app, &mut after, new, &refund_id, now) {
            return Ok(Err(error));
        }

        kill_point!("refund_before_first_commit");
        match commit(
            app,
            &before,
            after,
            now,
            Beside::key(Some(KeyWrite::Claim(key.clone()))),
        )
        .await
        {
            // Another refund, or the same number: the next reading tells.
            Err(Error::Commit(CommitError::Refused(_))) => Err(CommitError::VersionConflict.into()),
            done => done.map(Ok),
        }
    })??;
    kill_point!("refund_after_first_commit");
    Ok((made, refund_id, key))
}

fn add(
    app: &App,
    after: &mut Aggregate,
    new: &NewRefund,
    refund_id: &RefundId,
    now: Timestamp,
) -> Result<(), RefundError> {
    let kept = after.kept().cloned().ok_or(RefundError::NotCaptured)?;
    let captured = kept.captured.map_or(0, Money::minor);
    let left_fen = captured.saturating_sub(after.claimed_by_refunds_fen(&kept.id));
    if new.amount_fen > left_fen {
        return Err(RefundError::TooMuch { left_fen });
    }
    let amount = Money::fen(new.amount_fen).map_err(|_| RefundError::TooMuch { left_fen })?;
    let mut refund = Refund {
        reason: new.reason.clone(),
        ..blank(
            refund_id.clone(),
            &kept,
            &after.payment.owner,
            new.merchant_refund_no.clone(),
            amount,
            now,
        )
    };

    let conditions = conditions::of(app, after, Some(&kept));
    match turn(
        after,
        &kept.id,
        &refund.id,
        conditions.refund_spacing_ms(),
        now,
    ) {
        Turn::Now => mark_sent(conditions, &mut refund, now),
        Turn::At(at) => refund.next_check_at = Some(at),
        Turn::AfterAnother => refund.next_check_at = None,
    }

    after.refunds.push(refund);
    Ok(())
}

/// Sends a refund that was just made, if it is its turn, and writes down what the call meant;
/// stores the answer of its key, if it has none. Returns the refund as it was written last, and the
/// answer that stands. `marked_at` was taken before it was made.
///
/// # Errors
/// [`Error`]; the rows tell the resolver how to go on.
pub async fn run(
    app: &Arc<App>,
    aggregate: Aggregate,
    refund_id: &RefundId,
    key: &Key,
    marked_at: Instant,
) -> Result<(Refund, StoredAnswer), Error> {
    let refund = aggregate.refunds.iter().find(|r| r.id == *refund_id);
    let its_turn = refund.is_some_and(|r| r.sent_at.is_some() && r.status == State::Pending);
    let done = if its_turn {
        send(app, aggregate, refund_id, marked_at).await?
    } else {
        aggregate
    };
    let refund = done.refunds.into_iter().find(|r| r.id == *refund_id);
    let refund = refund.ok_or_else(|| Error::Missing(format!("refund {refund_id}")))?;
    // A refund's answer is its row; what happens to it later is told by events.
    let stands = app.store.answer_key(&key.scope, answer(&refund)).await?;
    kill_point!("refund_after_answer");
    Ok((refund, stands))
}

/// How a request for this refund is answered.
#[must_use]
pub fn answer(refund: &Refund) -> StoredAnswer {
    StoredAnswer {
        status: 201,
        body: serde_json::to_vec(&view::refund(refund)).unwrap_or_default(),
        state: refund.status.to_string(),
        attempt_id: None,
    }
}

/// Does what is due for a refund: sends it when its turn has come, or asks about it.
///
/// # Errors
/// [`Error`].
pub async fn step(
    app: &Arc<App>,
    aggregate: Aggregate,
    refund_id: &RefundId,
) -> Result<Aggregate, Error> {
    let Some(refund) = aggregate
        .refunds
        .iter()
        .find(|r| r.id == *refund_id)
        .cloned()
    else {
        return Ok(aggregate);
    };
    if refund.status != State::Pending {
        return ask(app, aggregate, &refund).await;
    }
    if refund.sent_at.is_none() || refund.needs_funds {
        return send_in_turn(app, aggregate, refund_id).await;
    }
    ask(app, aggregate, &refund).await
}

async fn send_in_turn(
    app: &Arc<App>,
    aggregate: Aggregate,
    refund_id: &RefundId,
) -> Result<Aggregate, Error> {
    let marked_at = Instant::now();
    let mut is_ours = false;
    let conditions = conditions::of_refund(app, &aggregate, refund_id);
    let marked = update(app, aggregate, |after, now| {
        is_ours = false;
        let Some(refund) = after.refunds.iter().find(|r| r.id == *refund_id).cloned() else {
            return Ok(None);
        };
        if refund.status != State::Pending || refund.next_check_at.is_none_or(|at| at > now) {
            // Somebody else was first.
            return Ok(None);
        }
        let turn = turn(
            after,
            &refund.attempt_id,
            &refund.id,
            conditions.refund_spacing_ms(),
            now,
        );
        let may_be_second = app.hold.is_from_before(refund.created_at)
            && refund.txn_time.is_none()
            && conditions
                .capabilities
                .is_some_and(|capabilities| capabilities.refund_keyed_by_time);
        let Some(refund) = after.refund_mut(refund_id) else {
            return Ok(None);
        };
        if conditions.is_held {
            refund.next_check_at = Some(now.plus_s(HELD_S));
            return Ok(Some(Vec::new()));
        }
        if may_be_second {
            refund.next_check_at = None;
            let detail = "it was made before the restore, and whether it was sent since the backup \
                          is not known: look into the provider's console";
            return Ok(Some(vec![ReviewItem::new(
                &refund.owner,
                ReviewKind::RefundUnresolved,
                &refund.id,
                detail,
                now,
            )?]));
        }
        match turn {
            Turn::Now => {
                mark_sent(conditions, refund, now);
                is_ours = true;
            }
            Turn::At(at) => refund.next_check_at = Some(at),
            Turn::AfterAnother => refund.next_check_at = None,
        }
        Ok(Some(Vec::new()))
    })
    .await?;

    if is_ours {
        send(app, marked, refund_id, marked_at).await
    } else {
        Ok(marked)
    }
}

/// The refund was marked as sent by this worker's commit, begun at `marked_at`: send it. A worker
/// that was held up sends nothing: somebody else may have found by then that nothing was sent, and
/// have told the merchant so.
async fn send(
    app: &Arc<App>,
    aggregate: Aggregate,
    refund_id: &RefundId,
    marked_at: Instant,
) -> Result<Aggregate, Error> {
    let Some(refund) = aggregate
        .refunds
        .iter()
        .find(|r| r.id == *refund_id)
        .cloned()
    else {
        return Ok(aggregate);
    };
    let grace = app.config.payments.call_grace;

    if marked_at.elapsed() > grace
        || refund
            .sent_at
            .is_none_or(|sent| app.clock.now() > sent.plus(grace))
    {
        tracing::warn!(
            %refund_id,
            "the worker was held up; the refund is asked about before it is sent"
        );
        return Ok(aggregate);
    }

    let Some((account, order, call)) = call::refund_order(app, &aggregate, &refund) else {
        return Ok(aggregate);
    };
    let trace = span(app, &refund);
    let answer: Answer<RefundOutcome> = trace.around(call::refund(&account, &order, &call)).await;
    kill_point!("refund_after_call");
    if let RefundOutcome::Unknown(failure)
    | RefundOutcome::Rejected(failure)
    | RefundOutcome::RetryWithNewNumber(failure)
    | RefundOutcome::RetryLater(failure) = &answer.outcome
    {
        tracing::warn!(
            %refund_id,
            code = failure.code,
            message = failure.message,
            "refund not done"
        );
    }

    let conditions = conditions::of_refund(app, &aggregate, &refund.id);
    let written = update(app, aggregate, |after, now| {
        let sent_since = after
            .refunds
            .iter()
            .any(|r| r.id == refund.id && r.sent_at != refund.sent_at);
        if !refund_retry::is_still(after, &refund)
            || (sent_since && answer.outcome != RefundOutcome::Done)
        {
            // Somebody has gone on with it since; that answer is the one that counts.
            return Ok(None);
        }
        let was = auto_refund::status(after, refund_id);
        let mut operations =
            refund_outcome::sent(conditions, after, refund_id, &answer.outcome, now)?;
        operations.extend(auto_refund::aftermath(after, refund_id, was, now)?);
        wake_next(conditions, after, &refund.attempt_id, now);
        Ok(Some(operations))
    })
    .await?;

    kill_point!("refund_after_outcome_commit");
    Ok(written)
}

fn span(app: &App, refund: &Refund) -> Span {
    let trace = app.traces.span(&refund.payment_id, "refund");
    trace.set("refund.id", refund.id.to_string());
    trace.set("attempt.id", refund.attempt_id.to_string());
    trace.set("refund.automatic", refund.automatic);
    trace
}

/// Asks what became of a refund, and sends the same number again when nothing did.
async fn ask(app: &Arc<App>, aggregate: Aggregate, refund: &Refund) -> Result<Aggregate, Error> {
    let Some((account, order, call)) = call::refund_order(app, &aggregate, refund) else {
        return update(app, aggregate, |after, now| {
            let refund = after
                .refund_mut(&refund.id)
                .filter(|r| r.status != State::Succeeded);
            let Some(refund) = refund else {
                return Ok(None);
            };
            refund.next_check_at = Some(now.plus_s(refund_retry::LATER_S));
            let detail = "the account of this refund cannot be opened; nobody can ask its provider";
            Ok(Some(vec![ReviewItem::new(
                &refund.owner,
                ReviewKind::AccountUnavailable,
                &refund.id,
                detail,
                now,
            )?]))
        })
        .await;
    };
    let trace = span(app, refund);
    let answer = trace
        .around(call::query_refund(&account, &order, &call))
        .await;
    kill_point!("refund_after_query");
    let conditions = conditions::of_refund(app, &aggregate, &refund.id);
    let marked_at = Instant::now();
    let mut send_again = false;

    let written = update(app, aggregate, |after, now| {
        send_again = false;
        if !refund_retry::is_still(after, refund) {
            return Ok(None);
        }
        let sent_since = after
            .refunds
            .iter()
            .any(|r| r.id == refund.id && r.sent_at != refund.sent_at);
        if sent_since && answer.outcome == RefundQueryOutcome::NotFound {
            // That was before somebody else sent it.
            return Ok(None);
        }
        let was = auto_refund::status(after, &refund.id);
        let mut operations = refund_outcome::apply_refund_query(
            conditions,
            after,
            &refund.id,
            &answer.outcome,
            now,
            &mut send_again,
        )?;
        operations.extend(auto_refund::aftermath(after, &refund.id, was, now)?);
        wake_next(conditions, after, &refund.attempt_id, now);
        Ok(Some(operations))
    })
    .await?;

    if send_again {
        send(app, written, &refund.id, marked_at).await
    } else {
        Ok(written)
    }
}

/// The refund as it is stored now.
///
/// # Errors
/// [`Error`].
pub async fn current(
    app: &App,
    payment_id: &PaymentId,
    refund_id: &RefundId,
) -> Result<Option<Refund>, Error> {
    Ok(reload(app, payment_id)
        .await?
        .refunds
        .into_iter()
        .find(|r| r.id == *refund_id))
}
