//! Every call of a provider on the path of money. Each says what it was given to do and how long it
//! may take; what its answer means is decided in [`super::transition`].

use std::sync::Arc;
use std::time::Instant;

use providers::order::{Call, Order, OrderRef, RefundOrder};
use providers::outcome::{
    Answer, CloseOutcome, CreateOutcome, Failure, FailureKind, QueryOutcome, RefundOutcome,
    RefundQueryOutcome,
};

use super::plan;
use crate::app::App;
use crate::domain::{Aggregate, Attempt, Owner, Payment, Refund, Timestamp};
use crate::kill_point;
use crate::routing::account::Account;
use crate::routing::health::{RouteId, Verdict, monitor};
use crate::routing::limiter::Ended;
use crate::store::change::Key;

/// Who waits for the answer, and until when.
#[derive(Clone)]
pub struct RequestContext {
    /// The key whose answer is stored together with the outcome.
    pub key: Option<Key>,
    /// Taken before the attempt was planned: its lease is counted from here on the monotonic clock,
    /// so that a worker that was held up right after its commit notices it even if the wall clock
    /// was set back.
    pub planned_at: Instant,
    /// No offer is asked for, or waited for, beyond this moment. A charge takes its own time.
    pub answer_by: Instant,
    /// What was read off the payer's phone. It is never stored: whoever goes on after a crash can
    /// only ask what became of its charge, and reverse it.
    pub auth_code: Option<String>,
}

impl std::fmt::Debug for RequestContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The payer's code stays out of logs.
        f.debug_struct("RequestContext")
            .field("answer_by", &self.answer_by)
            .finish_non_exhaustive()
    }
}

/// Makes the offer or the charge of an attempt at its provider. A worker that was stopped longer
/// than its lease sends nothing: somebody else may have judged the attempt by then.
pub(super) async fn create(
    app: &App,
    account: &Account,
    payment: &Payment,
    attempt: &Attempt,
    planned_at: Instant,
    context: &RequestContext,
) -> Answer<CreateOutcome> {
    let now = app.clock.now();
    let lease = attempt.call_deadline.after(attempt.started_at);
    let limit = lease.saturating_sub(app.config.payments.call_grace);
    let timeout = if attempt.flow.is_charge() {
        limit
    } else {
        limit.min(context.answer_by.saturating_duration_since(Instant::now()))
    };

    if timeout.is_zero()
        || planned_at.elapsed() + timeout > lease
        || now.plus(timeout) > attempt.call_deadline
    {
        let message = "the worker was held up until its time was over; nothing was sent";
        return Answer::new(CreateOutcome::NotSent(Failure::new(
            FailureKind::Timeout,
            "held_up",
            message,
        )));
    }

    let order = Order {
        order_no: attempt.provider_order_no.to_string(),
        payment_id: payment.id.to_string(),
        flow: attempt.flow,
        amount: attempt.amount,
        description: payment.description.clone(),
        txn_time: attempt.started_at.utc(),
        expires_at: attempt.offer_deadline.utc(),
        notify_url: app.notify_url(&account.id),
        client_ip: payment.client_ip.clone(),
        auth_code: context.auth_code.clone(),
        store: payment.store.clone(),
    };

    let route = RouteId {
        account_id: account.id.clone(),
        provider: account.provider.name(),
        flow: attempt.flow,
    };
    let Ok(slot) = app
        .limiters
        .enter(&route, plan::per_second(account), app.health.now_ms())
    else {
        // It was chosen while there was still a place, and another payment took it.
        let message = "the route has as many calls as it can take; nothing was sent";
        return Answer::new(CreateOutcome::NotSent(Failure::new(
            FailureKind::RateLimited,
            "own_limit",
            message,
        )));
    };

    let ticket = app.health.begin(&route);
    let answer = account
        .provider
        .create(
            &order,
            &Call {
                now: now.utc(),
                timeout,
            },
        )
        .await;

    app.limiters
        .leave(slot, paced(&answer.outcome), app.health.now_ms());
    spend(app, &payment.owner, &answer.outcome);

    // A call that was cut short for the checkout's sake says nothing when it had no answer.
    let cut_short = timeout < limit / 2 && matches!(answer.outcome, CreateOutcome::Unknown(_));
    app.health.end(
        ticket,
        if cut_short {
            Verdict::Nothing
        } else {
            monitor::verdict(&answer.outcome)
        },
    );

    answer
}

/// What the end of a call says about how much its route can take.
fn paced(outcome: &CreateOutcome) -> Ended {
    let failed = |failure: &Failure| match failure.kind {
        FailureKind::RateLimited => Ended::RateLimited,
        FailureKind::Timeout => Ended::GivenUp,
        FailureKind::Network
        | FailureKind::ServerError
        | FailureKind::Incompatible
        | FailureKind::Account
        | FailureKind::Request
        | FailureKind::Declined => Ended::Nothing,
    };

    match outcome {
        CreateOutcome::Accepted(_)
        | CreateOutcome::Captured(_)
        | CreateOutcome::Waiting
        | CreateOutcome::Declined(_) => Ended::Answered,
        CreateOutcome::NotSent(failure)
        | CreateOutcome::Refused(_, failure)
        | CreateOutcome::Unknown(failure) => failed(failure),
    }
}

/// What the end of a call does to the budget of retries.
fn spend(app: &App, owner: &Owner, outcome: &CreateOutcome) {
    let now_ms = app.health.now_ms();
    match paced(outcome) {
        Ended::Answered => app.budget.answered(owner, now_ms),
        Ended::GivenUp => app.budget.timed_out(owner, now_ms),
        Ended::RateLimited | Ended::Nothing => {}
    }
}

/// Makes the planned call. A worker that was held up makes none: somebody else may have told the
/// checkout by then that the money is kept.
pub(super) async fn reverse(
    app: &App,
    account: &Account,
    attempt: &Attempt,
    planned_at: Instant,
    call_deadline: Timestamp,
) -> Option<CloseOutcome> {
    let config = &app.config.payments;
    let now = app.clock.now();
    let is_late = planned_at.elapsed() > config.call_grace
        || now.plus(config.reverse_timeout) > call_deadline;

    if is_late {
        tracing::warn!(
            attempt_id = %attempt.id,
            "the worker was held up; nothing was reversed"
        );
        return None;
    }

    let call = Call {
        now: now.utc(),
        timeout: config.reverse_timeout,
    };
    let ended = account
        .provider
        .reverse(&reference(attempt), &call)
        .await
        .outcome;

    kill_point!("reverse_after_call");
    tracing::info!(attempt_id = %attempt.id, outcome = ?ended, "the charge was to be reversed");
    Some(ended)
}

/// The attempt as its provider knows it.
pub(crate) fn reference(attempt: &Attempt) -> OrderRef {
    OrderRef {
        order_no: attempt.provider_order_no.to_string(),
        txn_time: attempt.started_at.utc(),
        expires_at: attempt.offer_deadline.utc(),
    }
}

fn question(app: &App) -> Call {
    Call {
        now: app.clock.now().utc(),
        timeout: app.config.payments.query_timeout,
    }
}

/// Asks the attempt's provider what became of it.
pub(super) async fn query(app: &App, account: &Account, attempt: &Attempt) -> Answer<QueryOutcome> {
    account
        .provider
        .query(&reference(attempt), &question(app))
        .await
}

/// Ends an unpaid order at its provider.
pub(super) async fn close(app: &App, account: &Account, attempt: &Attempt) -> Answer<CloseOutcome> {
    account
        .provider
        .close(&reference(attempt), &question(app))
        .await
}

/// The parts of a call about a refund, or `None` when its account cannot be opened.
pub(super) fn refund_order(
    app: &App,
    aggregate: &Aggregate,
    refund: &Refund,
) -> Option<(Arc<Account>, RefundOrder, Call)> {
    let attempt: &Attempt = aggregate.attempt(&refund.attempt_id)?;
    let account = app.directory.account(&attempt.account_id)?;
    let order = RefundOrder {
        order: reference(attempt),
        transaction_id: attempt.provider_transaction_id.clone(),
        refund_no: refund.provider_refund_no.to_string(),
        txn_time: refund.txn_time.unwrap_or(refund.created_at).utc(),
        renumbered: !refund.earlier_nos.is_empty(),
        amount: refund.amount,
        total: attempt.captured?,
        reason: refund.reason.clone(),
        notify_url: app.refund_notify_url(&account.id),
    };

    let call = Call {
        now: app.clock.now().utc(),
        timeout: app.config.payments.refund_timeout,
    };

    Some((account, order, call))
}

/// Gives money back.
pub(super) async fn refund(
    account: &Account,
    order: &RefundOrder,
    call: &Call,
) -> Answer<RefundOutcome> {
    account.provider.refund(order, call).await
}

/// Asks what became of a refund.
pub(super) async fn query_refund(
    account: &Account,
    order: &RefundOrder,
    call: &Call,
) -> Answer<RefundQueryOutcome> {
    account.provider.query_refund(order, call).await
}
