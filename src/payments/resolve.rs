//! Finishing what is unfinished: whatever state a payment is found in, after a crash or in the
//! normal course of things, this goes on from its rows alone. Nothing is ever sent again blindly; a
//! payment never fails because asking failed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use providers::outcome::{CloseOutcome, Failure, FailureKind, QueryOutcome};
use providers::provider::Ending;

use super::call::RequestContext;
use super::commit::{reload, update};
use super::transition::query::{Findings, apply_query};
use super::transition::{ending, schedule};
use super::{Error, auto_refund, call, pay, plan, refund, reverse};
use crate::app::App;
use crate::domain::attempt::{Disposition, State};
use crate::domain::id::{AttemptId, PaymentId, RefundId};
use crate::domain::operation::ReviewKind;
use crate::domain::{Aggregate, Attempt, Timestamp, id};
use crate::kill_point;
use crate::routing::account::Account;
use crate::routing::health::BreakerState;
use crate::store::CommitError;
use crate::store::change::ReviewItem;

/// The most steps that one worker does for one payment in one go.
const STEPS: usize = 16;

/// What a payment needs now, read off its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    /// The call of this attempt is over without anybody having written down its outcome.
    Judge(AttemptId),
    /// The provider is to be asked about this attempt.
    Ask(AttemptId),
    /// The money of this attempt has to go back.
    GiveBack(AttemptId),
    /// This refund is to be sent, or asked about.
    Refund(RefundId),
    /// The payment itself goes on: another round of routes, or its expiry.
    Resume,
    /// Nothing is due.
    Rest,
}

/// Does everything that is due for a payment. Returns it as it was last read or written.
///
/// # Errors
/// [`Error`]; what was not done stays due.
pub async fn advance(app: &Arc<App>, payment_id: &PaymentId) -> Result<Aggregate, Error> {
    let trace = app.traces.span(payment_id, "resolve");
    let done = trace.around(steps(app, payment_id)).await;
    match &done {
        Ok(aggregate) => trace.set("payment.status", aggregate.payment.status.to_string()),
        Err(_) => trace.failed("trouble"),
    }
    done
}

async fn steps(app: &Arc<App>, payment_id: &PaymentId) -> Result<Aggregate, Error> {
    let mut aggregate = reload(app, payment_id).await?;
    kill_point!("resolve_after_claim");
    for _ in 0..STEPS {
        let step = next_step(&aggregate, app.clock.now());
        if let Some(until_ms) = provider_is_out(app, &aggregate, &step) {
            aggregate = wait_for_provider(app, aggregate, &step, until_ms).await?;
            continue;
        }
        aggregate = match step {
            Step::Judge(attempt_id) => mark_worker_lost(app, aggregate, &attempt_id).await?,
            Step::Ask(attempt_id) => ask(app, aggregate, &attempt_id).await?,
            Step::GiveBack(attempt_id) => auto_refund::begin(app, aggregate, &attempt_id).await?,
            Step::Refund(refund_id) => refund::step(app, aggregate, &refund_id).await?,
            Step::Resume => resume(app, aggregate).await?,
            Step::Rest => break,
        };
    }

    release(app, aggregate).await
}

fn next_step(aggregate: &Aggregate, now: Timestamp) -> Step {
    let is_due = |at: Option<Timestamp>| at.is_some_and(|at| at <= now);
    if let Some(attempt) = aggregate.attempts.iter().find(|a| is_due(a.next_check_at)) {
        return match attempt.status {
            State::Sending => Step::Judge(attempt.id.clone()),
            State::Captured if attempt.disposition == Some(Disposition::RefundDue) => {
                Step::GiveBack(attempt.id.clone())
            }
            State::AwaitingPayer
            | State::Unknown
            | State::Abandoned
            | State::Closing
            | State::Superseded
            | State::Reversing
            | State::Captured
            | State::Dead
            | State::Reversed => Step::Ask(attempt.id.clone()),
        };
    }

    if let Some(refund) = aggregate.refunds.iter().find(|r| is_due(r.next_check_at)) {
        return Step::Refund(refund.id.clone());
    }
    if is_due(aggregate.payment.resume_at) {
        return Step::Resume;
    }

    Step::Rest
}

/// Whether a step would ask a provider whose breaker is open: only a probe does that; and how long
/// that is put off, without counting as a question. A charge in doubt is asked about and reversed
/// at its own times all the same: somebody stands at a till, there are few of them, and the first
/// call that gets through ends it.
fn provider_is_out(app: &App, aggregate: &Aggregate, step: &Step) -> Option<i64> {
    let attempt = match step {
        Step::Ask(attempt_id) => aggregate.attempt(attempt_id)?,
        Step::Refund(refund_id) => {
            let refund = aggregate.refunds.iter().find(|r| r.id == *refund_id)?;
            aggregate.attempt(&refund.attempt_id)?
        }
        Step::Judge(_) | Step::GiveBack(_) | Step::Resume | Step::Rest => return None,
    };
    let is_in_doubt =
        matches!(step, Step::Ask(_)) && attempt.flow.is_charge() && attempt.status.is_live();
    if is_in_doubt || !app.config.health.breakers {
        return None;
    }

    let vital = app.health.board().peek_provider(
        attempt.provider,
        attempt.flow,
        aggregate.payment.owner.mode,
    )?;
    let out_for_ms = app
        .health
        .now_ms()
        .saturating_sub(vital.breaker().since_ms());
    let draw = id::random::<4>().map_or(0, u32::from_be_bytes);

    (vital.gate() == BreakerState::Open).then(|| schedule::put_off_ms(out_for_ms, draw))
}

async fn wait_for_provider(
    app: &Arc<App>,
    before: Aggregate,
    step: &Step,
    pause_ms: i64,
) -> Result<Aggregate, Error> {
    update(app, before, |after, now| {
        let at = match step {
            Step::Ask(attempt_id) => after.attempt_mut(attempt_id).map(|a| &mut a.next_check_at),
            Step::Refund(refund_id) => after.refund_mut(refund_id).map(|r| &mut r.next_check_at),
            Step::Judge(_) | Step::GiveBack(_) | Step::Resume | Step::Rest => None,
        };
        match at.filter(|at| at.is_some_and(|at| at <= now)) {
            Some(at) => *at = Some(now.plus_ms(pause_ms)),
            None => return Ok(None),
        }
        Ok(Some(Vec::new()))
    })
    .await
}

/// What is to be waited for was written before all time was set back: it is brought back, so that
/// each wait is as long as it was to be.
///
/// # Errors
/// [`Error`]; it is tried again.
pub async fn bring_back(
    app: &Arc<App>,
    payment_id: &PaymentId,
    ahead_ms: i64,
) -> Result<(), Error> {
    let before = reload(app, payment_id).await?;
    update(app, before, |after, now| {
        schedule::bring_back(after, ahead_ms, now);
        Ok(Some(Vec::new()))
    })
    .await?;
    Ok(())
}

/// A claim that led to nothing must not keep the payment from the next worker.
async fn release(app: &Arc<App>, aggregate: Aggregate) -> Result<Aggregate, Error> {
    if aggregate.payment.lease_until.is_none()
        || aggregate.live().is_some_and(|a| a.status == State::Sending)
    {
        return Ok(aggregate);
    }
    update(app, aggregate, |after, _| {
        if after.live().is_some_and(|a| a.status == State::Sending) {
            return Ok(None);
        }
        after.payment.lease_until = None;
        Ok(Some(Vec::new()))
    })
    .await
}

/// The worker of a call died, or was held up beyond its deadline.
async fn mark_worker_lost(
    app: &Arc<App>,
    before: Aggregate,
    attempt_id: &AttemptId,
) -> Result<Aggregate, Error> {
    update(app, before, |after, now| {
        let started_at = after.attempt(attempt_id).map(|attempt| attempt.started_at);
        let was_before_restore = started_at.is_some_and(|at| app.hold.is_from_before(at));
        ending::worker_lost(after, attempt_id, was_before_restore, now)
    })
    .await
}

/// The payment itself goes on: its live offer is ended when its time is over; without a live one,
/// the routes are gone through once more.
async fn resume(app: &Arc<App>, before: Aggregate) -> Result<Aggregate, Error> {
    let planned_at = Instant::now();
    let mut is_ours = false;
    let written = update(app, before, |after, now| {
        is_ours = false;
        if !after.payment.status.is_open() {
            after.payment.resume_at = None;
            return Ok(Some(Vec::new()));
        }
        if after.live().is_some() {
            if now >= after.payment.expires_at {
                ending::begin(after, now)?;
            }
            // From then on what is live decides when it is looked at next; a call on the way is
            // judged by its own deadline. (Before then only a clock that was set back leads here.)
            after.payment.resume_at = Some(after.payment.expires_at).filter(|at| *at > now);
            return Ok(Some(Vec::new()));
        }
        if after.payment.flow.is_charge() && after.payment.failure.is_none() {
            // Nobody has its payer's code any more.
            let gone = Failure::new(
                FailureKind::Timeout,
                "code_gone",
                "the payer's code has to be scanned again",
            );
            after.payment.failure = Some(gone);
        }
        ending::conclude(after, now)?;
        let goes_on = after.payment.status == crate::domain::payment::State::Created
            && after.payment.cancel_requested_at.is_none()
            && now < after.payment.expires_at;
        if goes_on {
            after.payment.round = after.payment.round.saturating_add(1);
            plan::next(app, after, now)?;
            is_ours = after.live().is_some();
        } else if after.payment.status.is_open() {
            // It waits for a person (money is held) or for an old offer; at its expiry it is
            // concluded.
            after.payment.resume_at = Some(after.payment.expires_at).filter(|at| *at > now);
        }
        Ok(Some(Vec::new()))
    })
    .await?;

    if !is_ours {
        // An attempt that somebody else has planned meanwhile is somebody else's to call.
        return Ok(written);
    }

    // Nobody waits for this answer; the call has its own time.
    let answer_by = Instant::now() + Duration::from_secs(60);
    Ok(pay::run(
        app,
        written,
        RequestContext {
            key: None,
            planned_at,
            answer_by,
            auth_code: None,
        },
    )
    .await?
    .aggregate)
}

/// Asks the provider about an attempt; ends it there when it is to be ended and can be; writes down
/// what it means.
async fn ask(
    app: &Arc<App>,
    before: Aggregate,
    attempt_id: &AttemptId,
) -> Result<Aggregate, Error> {
    let Some(attempt) = before.attempt(attempt_id).cloned() else {
        return Ok(before);
    };
    if attempt.flow.is_charge() && attempt.status.is_live() {
        return reverse::step(app, before, &attempt).await;
    }
    let Some(account) = app.directory.account(&attempt.account_id) else {
        return update(app, before, |after, now| {
            ending::put_off(after, attempt_id, now)
        })
        .await;
    };

    let findings = find_out(app, &account, &attempt).await;
    if let QueryOutcome::Unknown(failure) = &findings.queried {
        tracing::warn!(
            %attempt_id,
            code = failure.code,
            message = failure.message,
            "asking brought no certainty"
        );
    }

    let capabilities = account.provider.capabilities();
    let may_have_been_shown =
        attempt.status == State::Abandoned && app.hold.is_from_before(attempt.started_at);

    update(app, before, |after, now| {
        let recorded = apply_query(after, &attempt, &findings, capabilities, now)?;
        let something_new_may_come =
            after.payment.resume_at.is_some() && now < after.payment.expires_at;
        if may_have_been_shown
            && something_new_may_come
            && matches!(findings.queried, QueryOutcome::Unknown(_))
        {
            schedule::ask_first(after, attempt_id, now.plus_s(schedule::ASKED_AGAIN_S), now);
        }
        Ok(recorded)
    })
    .await
}

/// When a question was asked that began then: by our own clock, or by its provider's where that
/// shows less. A deadline has passed when it has by both: our clock may be hours ahead, and its
/// payer still pays.
fn asked_at(app: &App, account: &Account, began: Instant) -> Timestamp {
    let now = app.clock.now();
    let ours = now.plus_ms(
        i64::try_from(began.elapsed().as_millis())
            .unwrap_or(i64::MAX)
            .saturating_neg(),
    );
    let told = account
        .provider
        .time_told()
        .filter(|told| told.heard >= began);
    told.map_or(ours, |told| {
        ours.min(Timestamp(told.date.timestamp_millis()))
    })
}

async fn find_out(app: &App, account: &Account, attempt: &Attempt) -> Findings {
    let began = Instant::now();
    let first = call::query(app, account, attempt).await;
    let asked_at = asked_at(app, account, began);
    kill_point!("resolve_after_query");
    let is_ending = matches!(
        attempt.status,
        State::Closing | State::Superseded | State::Abandoned
    );

    let closable = match account
        .provider
        .capabilities()
        .flow(attempt.flow)
        .map(|f| f.ending)
    {
        Some(Ending::Close | Ending::CloseOnceTradeExists) => true,
        Some(Ending::Reverse | Ending::Expire) | None => false,
    };
    if !(is_ending && closable && first.outcome == QueryOutcome::Payable) {
        return Findings {
            queried: first.outcome,
            request_id: first.request_id,
            asked_at,
        };
    }

    let closed = call::close(app, account, attempt).await;
    kill_point!("resolve_after_close");
    match closed.outcome {
        // A close alone proves nothing; the query after it does.
        CloseOutcome::Closed
        | CloseOutcome::Reversed
        | CloseOutcome::AlreadyPaid
        | CloseOutcome::NotFound
        | CloseOutcome::Impossible(_)
        | CloseOutcome::Unknown(_) => {
            let began = Instant::now();
            let second = call::query(app, account, attempt).await;
            let asked_at = self::asked_at(app, account, began);
            Findings {
                queried: second.outcome,
                request_id: second.request_id,
                asked_at,
            }
        }
        CloseOutcome::Retry(failure) => {
            tracing::info!(
                attempt_id = %attempt.id,
                code = failure.code,
                "not closed yet"
            );
            Findings {
                queried: QueryOutcome::Payable,
                request_id: closed.request_id,
                asked_at,
            }
        }
    }
}

/// A payment that no worker can get on with, since what it finds does not fit: a person has to look
/// at it, and the defect behind it.
///
/// # Errors
/// [`Error`]: the work list could not be written.
pub async fn stuck(app: &App, payment_id: &PaymentId, trouble: &Error) -> Result<(), Error> {
    let does_not_fit = matches!(
        trouble,
        Error::Illegal(_) | Error::Commit(CommitError::Refused(_) | CommitError::Broken(_))
    );
    if !does_not_fit {
        // Its lease ends by itself, and then it is claimed again.
        return Ok(());
    }
    let owner = reload(app, payment_id).await?.payment.owner;

    let operation = ReviewItem::new(
        &owner,
        ReviewKind::PaymentStuck,
        payment_id,
        trouble.to_string(),
        app.clock.now(),
    )?;

    Ok(app.store.raise(&operation).await?)
}
