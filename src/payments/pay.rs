//! Making offers and charges: plan an attempt, call its provider, write down what the call meant,
//! and go on to the next route when that is allowed.
//!
//! Durable before the first byte: an attempt's row is committed before its provider hears of it. If
//! the process dies after that commit, the resolver finds a `sending` row, and treats its call as
//! one without an answer.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use providers::ProviderName;
use providers::money::Money;
use providers::order::{Flow, Shop};
use providers::outcome::{Answer, CreateOutcome, Failure, FailureKind};
use tracing::Instrument as _;

use super::call::{self, RequestContext};
use super::commit::{self, Beside};
use super::settle::{Brought, NextStep, settle};
pub use super::settle::{RunResult, answer};
use super::transition::create;
use super::{Error, plan, unwritten};
use crate::app::App;
use crate::domain::attempt::{CallOutcome, State};
use crate::domain::id::PaymentId;
use crate::domain::payment::State as PaymentState;
use crate::domain::{Aggregate, Attempt, Owner, Payment};
use crate::kill_point;
use crate::store::CommitError;
use crate::store::change::{Key, KeyScope, KeyWrite};
use crate::traces::Span;
use crate::{mutate, mutated};

/// A payment as it was asked for, checked.
#[derive(Debug, Clone)]
pub struct NewPayment {
    /// Whose.
    pub owner: Owner,
    /// The merchant's own number.
    pub order_id: String,
    /// How much.
    pub amount: Money,
    /// Shown to the payer.
    pub description: String,
    /// How the payer pays.
    pub flow: Flow,
    /// Only these providers; empty means any.
    pub providers: Vec<ProviderName>,
    /// Where the checkout wants the payer back.
    pub return_url: Option<String>,
    /// Where this payment's webhooks go.
    pub notify_url: Option<String>,
    /// The payer's address.
    pub client_ip: Option<String>,
    /// Where it is paid.
    pub store: Option<Shop>,
    /// The merchant's own members.
    pub metadata: serde_json::Value,
    /// For how long it can be paid, in seconds.
    pub expires_in_s: i64,
}

/// Why a payment was not made. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// None of the merchant's accounts serves this flow, amount and choice of providers, now or
    /// later.
    #[error("no account serves this payment")]
    NotServed,
    /// No route is able, and so many wait for one already that this one would hardly get its turn.
    #[error("too many payments wait for a route")]
    QueueFull {
        /// When it may be worth asking again, in seconds.
        retry_after_s: u64,
    },
    /// Anything else.
    #[error(transparent)]
    Other(#[from] Error),
}

/// Makes a payment and plans its first attempt, in one commit with its idempotency key.
///
/// # Errors
/// [`OpenError`]; `Commit(KeyTaken)` and `Commit(OrderTaken)` tell who was first.
pub async fn open(
    app: &App,
    new: NewPayment,
    scope: KeyScope,
    fingerprint: String,
) -> Result<(Aggregate, Key), OpenError> {
    let now = app.clock.now();
    let payment = Payment {
        id: PaymentId::new().map_err(Error::from)?,
        owner: new.owner,
        order_id: new.order_id,
        amount: new.amount,
        description: new.description,
        flow: new.flow,
        providers: new.providers,
        status: PaymentState::Created,
        failure: None,
        return_url: new.return_url,
        notify_url: new.notify_url,
        client_ip: new.client_ip,
        store: new.store,
        metadata: new.metadata,
        round: 0,
        version: 0,
        resume_at: None,
        parked_at: None,
        lease_until: None,
        cancel_requested_at: None,
        paid_at: None,
        created_at: now,
        expires_at: now.plus_s(new.expires_in_s),
        ledger: None,
    };

    let mut aggregate = Aggregate {
        payment,
        attempts: Vec::new(),
        refunds: Vec::new(),
    };

    if !plan::next(app, &mut aggregate, now)?.served {
        return Err(OpenError::NotServed);
    }
    let line = aggregate.line();
    if aggregate.payment.parked_at.is_some()
        && app.queue.length(&line) >= app.config.payments.max_parked
    {
        return Err(OpenError::QueueFull {
            retry_after_s: app.queue.drained_in_s(&line, app.queue.length(&line)),
        });
    }

    let key = Key {
        scope,
        fingerprint,
        resource_id: aggregate.payment.id.to_string(),
        created_at: now,
    };

    // A charge for which no account is able has failed at once.
    let ended = !aggregate.payment.status.is_open();
    if ended && let Some(taken) = held_by(app, &aggregate.payment, &key).await? {
        return Err(Error::from(taken).into());
    }
    let claim = Some(KeyWrite::Claim(key.clone()));
    let claim = claim.filter(|_| !mutated!(KeyAfterCall));
    let change = commit::change(None, aggregate, now, Beside::key(claim))?;
    let made = change.after().clone();
    kill_point!("pay_before_first_commit");

    mutate!(SendBeforeCommit => {
        super::mutations::put_off(&change);
        return Ok((made, key));
    });
    app.store.commit(change).await.map_err(Error::from)?;
    kill_point!("pay_after_first_commit");
    let payment = &made.payment;

    tracing::info!(
        payment_id = %payment.id,
        order_id = payment.order_id,
        amount = payment.amount.minor(),
        "payment made"
    );

    Ok((made, key))
}

/// Whether this order has a payment already, or this key one. The database minds neither where a
/// payment has failed before it began; whoever asks for it does: told "failed", a till would take
/// the money once more.
async fn held_by(app: &App, payment: &Payment, key: &Key) -> Result<Option<CommitError>, Error> {
    if app
        .store
        .payment_holding_order(&payment.owner, &payment.order_id)
        .await?
        .is_none()
    {
        return Ok(None);
    }
    Ok(Some(match app.store.key(&key.scope).await? {
        Some(_) => CommitError::KeyTaken,
        None => CommitError::OrderTaken,
    }))
}

/// Calls the provider of the planned attempt, and of the next ones, until the payment waits for
/// somebody: its payer, a route, or the resolver.
///
/// The attempt must have been planned by the caller's own commit. One that somebody else planned is
/// that worker's to call: two would send the same order twice.
///
/// # Errors
/// [`Error`]; the rows tell the resolver how to go on.
pub async fn run(
    app: &Arc<App>,
    mut aggregate: Aggregate,
    context: RequestContext,
) -> Result<RunResult, Error> {
    let mut planned_at = context.planned_at;

    loop {
        let Some(attempt) = aggregate
            .attempts
            .iter()
            .find(|a| a.status == State::Sending)
            .cloned()
        else {
            return Ok(RunResult::unanswered(aggregate));
        };
        let span = tracing::info_span!(
            "attempt",
            payment_id = %aggregate.payment.id,
            attempt_id = %attempt.id,
            account_id = %attempt.account_id,
            provider = attempt.provider.as_str()
        );
        let trace = trace_of(app, &aggregate, &attempt);
        let settled = async {
            let brought =
                ask_provider(app, &mut aggregate, &attempt, planned_at, &context, &trace).await?;
            planned_at = Instant::now();

            let settled = settle(app, aggregate.clone(), &brought, context.key.as_ref()).await;
            if let Err(trouble) = &settled
                && unwritten::may_be_written_later(trouble)
            {
                keep_unwritten(app, aggregate, brought, planned_at, &context);
            }
            settled
        };

        let settled = trace.around(settled.instrument(span)).await?;
        match settled {
            NextStep::Switching(planned) => aggregate = planned,
            NextStep::Over(last) => return Ok(last),
        }
    }
}

fn trace_of(app: &App, aggregate: &Aggregate, attempt: &Attempt) -> Span {
    let trace = app.traces.span(&aggregate.payment.id, "attempt");
    trace.set("attempt.id", attempt.id.to_string());
    trace.set("account.id", attempt.account_id.to_string());
    trace.set("provider", attempt.provider.as_str());
    trace.set("flow", attempt.flow.to_string());
    trace
}

/// Asks the provider for the offer or charge of an attempt whose row is committed.
async fn ask_provider(
    app: &Arc<App>,
    aggregate: &mut Aggregate,
    attempt: &Attempt,
    planned_at: Instant,
    context: &RequestContext,
    trace: &Span,
) -> Result<Brought, Error> {
    let account = app.directory.account(&attempt.account_id);
    let began = Instant::now();
    let answer = match &account {
        Some(account) => {
            call::create(
                app,
                account,
                &aggregate.payment,
                attempt,
                planned_at,
                context,
            )
            .await
        }
        None => Answer::new(CreateOutcome::NotSent(Failure::new(
            FailureKind::Account,
            "account_unavailable",
            "the account cannot be opened",
        ))),
    };
    mutate!(let answer = super::mutations::repeated(
        app, aggregate, &attempt.id, answer, planned_at, context,
    ).await?);
    kill_point!("pay_after_call");
    mutate!(super::mutations::catch_up(app, &aggregate.payment.id).await?);

    let latency_ms = i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX);
    let failure = create::failure(&answer.outcome);
    tracing::info!(
        outcome = <&str>::from(CallOutcome::from(&answer.outcome)),
        code = failure.map(|f| f.code.as_str()),
        message = failure.map(|f| f.message.as_str()),
        latency_ms,
        provider_request_id = answer.request_id.as_deref(),
        "the provider was asked for an offer or a charge"
    );
    trace.set("outcome", <&str>::from(CallOutcome::from(&answer.outcome)));
    if let Some(failure) = failure {
        trace.failed(&failure.code);
    }

    Ok(Brought {
        attempt_id: attempt.id.clone(),
        answer,
        latency_ms,
    })
}

/// What a call brought could not be written down: somebody goes on trying, and then with the
/// payment.
fn keep_unwritten(
    app: &Arc<App>,
    aggregate: Aggregate,
    brought: Brought,
    planned_at: Instant,
    context: &RequestContext,
) {
    let worker = Arc::clone(app);
    let (key, context) = (
        context.key.clone(),
        RequestContext {
            planned_at,
            ..context.clone()
        },
    );
    let go_on = Box::new(move |planned| go_on(worker, planned, context));
    unwritten::keep(app, aggregate, brought, key, go_on);
}

/// Goes on with a payment whose last outcome was written down late.
fn go_on(
    app: Arc<App>,
    planned: Aggregate,
    context: RequestContext,
) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move {
        let payment_id = planned.payment.id.clone();
        if let Err(error) = run(&app, planned, context).await {
            tracing::warn!(%payment_id, %error, "the resolver goes on with this payment");
        }
    })
}
