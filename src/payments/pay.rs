//! Making offers and charges: plan an attempt, call its provider, write down what the call meant, and go on to the
//! next route when that is allowed.
//!
//! Durable before the first byte: an attempt's row is committed before its provider hears of it. If the process
//! dies after that commit, the resolver finds a `sending` row, and treats its call as one without an answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use providers::ProviderName;
use providers::money::Money;
use providers::order::{Call, Flow, Order, Store};
use providers::outcome::{Answer, Created, Failure, FailureKind};
use tracing::Instrument as _;

use super::aside::set_aside;
use super::unwritten::{self, Brought};
use super::{DECISIONS, Trouble, attempt_outcome, events, judge, plan, queue, resolve, view};
use crate::app::App;
#[cfg(feature = "testing")]
use crate::broken::{Rule, breaks};
use crate::directory::Account;
use crate::domain::attempt::State;
use crate::domain::id::{self, Kind};
use crate::domain::payment::State as PaymentState;
use crate::domain::{Aggregate, AllOwners, Attempt, Owner, Payment};
use crate::kill_point;
use crate::routing::health::{RouteId, Verdict, watch};
use crate::routing::pace::Ended;
use crate::store::CommitError;
use crate::store::change::{Change, Key, KeyScope, KeyWrite, StoredAnswer};

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
    pub store: Option<Store>,
    /// The merchant's own members.
    pub metadata: serde_json::Value,
    /// For how long it can be paid, in seconds.
    pub expires_in_s: i64,
}

/// Why a payment was not made. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// None of the merchant's accounts serves this flow, amount and choice of providers, now or later.
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
    Trouble(#[from] Trouble),
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
        id: id::new(Kind::Payment).map_err(Trouble::from)?,
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
    let mut aggregate = Aggregate { payment, attempts: Vec::new(), refunds: Vec::new() };
    if !plan::next(app, &mut aggregate, now)?.served {
        return Err(OpenError::NotServed);
    }
    let line = queue::line(&aggregate);
    if aggregate.payment.parked_at.is_some() && app.queue.length(&line) >= app.config.payments.max_parked {
        return Err(OpenError::QueueFull { retry_after_s: app.queue.drained_in_s(&line, app.queue.length(&line)) });
    }
    let key = Key { scope, fingerprint, resource_id: aggregate.payment.id.clone(), created_at: now };
    // A charge for which no account is able has failed at once.
    let ended = !aggregate.payment.status.is_open();
    if ended && let Some(taken) = held_by(app, &aggregate.payment, &key).await? {
        return Err(Trouble::from(taken).into());
    }
    let events = if ended { events::between(None, &aggregate, now).map_err(Trouble::from)? } else { Vec::new() };
    let claim = Some(KeyWrite::Claim(key.clone()));
    #[cfg(feature = "testing")]
    let claim = claim.filter(|_| !breaks(Rule::KeyAfterCall));
    let change = Change::create(aggregate).with_key(claim).with_events(events);
    let made = change.after().clone();
    kill_point!("pay_before_first_commit");
    #[cfg(feature = "testing")]
    if super::broken::puts_off(&change) {
        return Ok((made, key));
    }
    app.store.commit(change).await.map_err(Trouble::from)?;
    kill_point!("pay_after_first_commit");
    let payment = &made.payment;
    tracing::info!(
        payment_id = payment.id,
        order_id = payment.order_id,
        amount = payment.amount.minor(),
        "payment made"
    );
    Ok((made, key))
}

/// Whether this order has a payment already, or this key one. The database minds neither where a payment has failed before
/// it began; whoever asks for it does: told "failed", a till would take the money once more.
async fn held_by(app: &App, payment: &Payment, key: &Key) -> Result<Option<CommitError>, Trouble> {
    if app.store.payment_holding_order(&payment.owner, &payment.order_id).await?.is_none() {
        return Ok(None);
    }
    Ok(Some(match app.store.key(&key.scope).await? {
        Some(_) => CommitError::KeyTaken,
        None => CommitError::OrderTaken,
    }))
}

/// Who waits for the answer, and until when.
#[derive(Clone)]
pub struct Asker {
    /// The key whose answer is stored together with the outcome.
    pub key: Option<Key>,
    /// Taken before the attempt was planned: its lease is counted from here on the monotonic clock, so that a worker
    /// that was held up right after its commit notices it even if the wall clock was set back.
    pub planned_at: Instant,
    /// No offer is asked for, or waited for, beyond this moment. A charge takes its own time.
    pub answer_by: Instant,
    /// What was read off the payer's phone. It is never stored: whoever goes on after a crash can only ask what became
    /// of its charge, and reverse it.
    pub auth_code: Option<String>,
}

impl std::fmt::Debug for Asker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The payer's code stays out of logs.
        f.debug_struct("Asker").field("answer_by", &self.answer_by).finish_non_exhaustive()
    }
}

/// How far a worker has brought a payment.
#[derive(Debug)]
pub struct Ran {
    /// The payment as it was committed last.
    pub aggregate: Aggregate,
    /// What stands under the asker's key, if this worker knows it.
    pub answer: Option<StoredAnswer>,
}

impl Ran {
    /// Nothing is known of the key.
    #[must_use]
    pub const fn unanswered(aggregate: Aggregate) -> Self {
        Self { aggregate, answer: None }
    }
}

/// Calls the provider of the planned attempt, and of the next ones, until the payment waits for somebody: its
/// payer, a route, or the resolver.
///
/// The attempt must have been planned by the caller's own commit. One that somebody else planned is that worker's to
/// call: two would send the same order twice.
///
/// # Errors
/// [`Trouble`]; the rows tell the resolver how to go on.
pub async fn run(app: &Arc<App>, mut aggregate: Aggregate, asker: Asker) -> Result<Ran, Trouble> {
    let mut planned_at = asker.planned_at;
    loop {
        let Some(attempt) = aggregate.attempts.iter().find(|a| a.status == State::Sending).cloned() else {
            return Ok(Ran::unanswered(aggregate));
        };
        let span = tracing::info_span!(
            "attempt",
            payment_id = aggregate.payment.id,
            attempt_id = attempt.id,
            account_id = attempt.account_id,
            provider = attempt.provider.as_str()
        );
        let trace = app.traces.span(&aggregate.payment.id, "attempt");
        trace.set("attempt.id", attempt.id.clone());
        trace.set("account.id", attempt.account_id.clone());
        trace.set("provider", attempt.provider.as_str());
        trace.set("flow", attempt.flow.to_string());
        let settled = async {
            let account = app.directory.account(&attempt.account_id);
            let began = Instant::now();
            let answer = match &account {
                Some(account) => call(app, account, &aggregate.payment, &attempt, planned_at, &asker).await,
                None => Answer::new(Created::NotSent(Failure::new(
                    FailureKind::Account,
                    "account_unavailable",
                    "the account cannot be opened",
                ))),
            };
            #[cfg(feature = "testing")]
            let answer = super::broken::repeated(app, &mut aggregate, &attempt.id, answer, planned_at, &asker).await?;
            kill_point!("pay_after_call");
            #[cfg(feature = "testing")]
            super::broken::catch_up(app, &aggregate.payment.id).await?;
            let latency_ms = i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX);
            let failure = judge::failure(&answer.outcome);
            tracing::info!(
                outcome = judge::name(&answer.outcome),
                code = failure.map(|f| f.code.as_str()),
                message = failure.map(|f| f.message.as_str()),
                latency_ms,
                provider_request_id = answer.request_id.as_deref(),
                "the provider was asked for an offer or a charge"
            );
            trace.set("outcome", judge::name(&answer.outcome));
            if let Some(failure) = failure {
                trace.failed(&failure.code);
            }
            planned_at = Instant::now();
            let brought = Brought { attempt_id: attempt.id.clone(), answer, latency_ms };
            let settled = settle(app, aggregate.clone(), &brought, asker.key.as_ref()).await;
            if let Err(trouble) = &settled
                && unwritten::may_be_written_later(trouble)
            {
                unwritten::keep(app, aggregate, brought, Asker { planned_at, ..asker.clone() });
            }
            settled
        };
        let settled = trace.around(settled.instrument(span)).await?;
        match settled {
            Settled::Switching(planned) => aggregate = planned,
            Settled::Over(last) => return Ok(last),
        }
    }
}

/// One call. A worker that was stopped longer than its lease sends nothing: somebody else may have judged the
/// attempt by then.
pub(super) async fn call(
    app: &App,
    account: &Account,
    payment: &Payment,
    attempt: &Attempt,
    planned_at: Instant,
    asker: &Asker,
) -> Answer<Created> {
    let now = app.clock.now();
    let limit_ms = attempt.call_deadline.since(attempt.started_at) - app.config.payments.call_grace_ms;
    let limit = Duration::from_millis(u64::try_from(limit_ms).unwrap_or(0));
    let timeout = if attempt.flow.takes_money() {
        limit
    } else {
        limit.min(asker.answer_by.saturating_duration_since(Instant::now()))
    };
    let lease = Duration::from_millis(u64::try_from(attempt.call_deadline.since(attempt.started_at)).unwrap_or(0));
    if timeout.is_zero() || planned_at.elapsed() + timeout > lease || now.plus_ms(ms(timeout)) > attempt.call_deadline {
        let message = "the worker was held up until its time was over; nothing was sent";
        return Answer::new(Created::NotSent(Failure::new(FailureKind::Timeout, "held_up", message)));
    }
    let order = Order {
        order_no: attempt.provider_order_no.clone(),
        payment_id: payment.id.clone(),
        flow: attempt.flow,
        amount: attempt.amount,
        description: payment.description.clone(),
        txn_time: attempt.started_at.utc(),
        expires_at: attempt.offer_deadline.utc(),
        notify_url: app.notify_url(&account.id),
        client_ip: payment.client_ip.clone(),
        auth_code: asker.auth_code.clone(),
        store: payment.store.clone(),
    };
    let route = RouteId { account_id: account.id.clone(), provider: account.provider.name(), flow: attempt.flow };
    let Ok(slot) = app.paces.enter(&route, plan::per_second(account), app.health.now_ms()) else {
        // It was chosen while there was still a place, and another payment took it.
        let message = "the route has as many calls as it can take; nothing was sent";
        return Answer::new(Created::NotSent(Failure::new(FailureKind::RateLimited, "own_limit", message)));
    };
    let ticket = app.health.begin(&route);
    let answer = account.provider.create(&order, &Call { now: now.utc(), timeout }).await;
    app.paces.leave(slot, paced(&answer.outcome), app.health.now_ms());
    spend(app, &payment.owner, &answer.outcome);
    // A call that was cut short for the checkout's sake says nothing when it had no answer.
    let cut_short = timeout < limit / 2 && matches!(answer.outcome, Created::Unknown(_));
    app.health.end(ticket, if cut_short { Verdict::Nothing } else { watch::verdict(&answer.outcome) });
    answer
}

/// What the end of a call says about how much its route can take.
fn paced(outcome: &Created) -> Ended {
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
        Created::Accepted(_) | Created::Captured(_) | Created::Waiting | Created::Declined(_) => Ended::Answered,
        Created::NotSent(failure) | Created::Refused(_, failure) | Created::Unknown(failure) => failed(failure),
    }
}

/// What the end of a call does to the budget of retries.
fn spend(app: &App, owner: &Owner, outcome: &Created) {
    let now_ms = app.health.now_ms();
    match paced(outcome) {
        Ended::Answered => app.budget.answered(owner, now_ms),
        Ended::GivenUp => app.budget.timed_out(owner, now_ms),
        Ended::RateLimited | Ended::Nothing => {}
    }
}

fn ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// How a payment goes on after a call.
pub(super) enum Settled {
    /// This worker's commit planned another attempt: it calls that one too.
    Switching(Aggregate),
    /// Nothing is left to do for this worker.
    Over(Ran),
}

/// Writes down what a creating call meant, and plans the next attempt in the same commit when there is to be one.
pub(super) async fn settle(
    app: &Arc<App>,
    mut before: Aggregate,
    brought: &Brought,
    key: Option<&Key>,
) -> Result<Settled, Trouble> {
    let Brought { attempt_id, answer, latency_ms } = brought;
    for _ in 0..DECISIONS {
        if before.attempt(attempt_id).is_none_or(|a| a.status != State::Sending) {
            // A notification or the resolver was first; what they wrote stands, and what comes next is theirs to do.
            return too_late(app, before, attempt_id, &answer.outcome, key).await.map(Settled::Over);
        }
        let now = app.clock.now();
        let mut after = before.clone();
        if let Some(attempt) = after.attempt_mut(attempt_id) {
            attempt.latency_ms = Some(*latency_ms);
            attempt.provider_request_id.clone_from(&answer.request_id);
        }
        let judged = judge::judge(app, &mut after, attempt_id, &answer.outcome, now)?;
        if judged.try_next && after.payment.status == PaymentState::Created && after.live().is_none() {
            plan::next(app, &mut after, now)?;
        }
        let switching = after.live().is_some_and(|a| a.status == State::Sending);
        let answered = key.filter(|_| !switching).and_then(|key| Some((key, self::answer(&after)?)));
        // A payment that had ended by then may have been told of under this key already.
        let told = answered.as_ref().filter(|_| before.payment.status.is_open()).map(|(_, answer)| answer.clone());
        let change = Change::update(&before, after.clone(), now)
            .with_events(events::between(Some(&before), &after, now)?)
            .with_operations(judged.operations)
            .with_key(answered.map(|(key, answer)| KeyWrite::Answer(key.clone(), answer)));
        let written = change.after().clone();
        match app.store.commit(change).await {
            Ok(()) => {
                if switching {
                    kill_point!("pay_after_switch_commit");
                }
                if !switching {
                    kill_point!("pay_after_outcome_commit");
                }
                if let Some(failure) = judged.set_aside {
                    let attempt = written.attempt(attempt_id);
                    if let Some(account) = attempt.and_then(|a| app.directory.account(&a.account_id)) {
                        set_aside(app, &account, &failure).await;
                    }
                }
                let over = Ran { aggregate: written, answer: told };
                return Ok(if switching { Settled::Switching(over.aggregate) } else { Settled::Over(over) });
            }
            Err(CommitError::Moved) => before = reload(app, &before.payment.id).await?,
            Err(error) => return Err(error.into()),
        }
    }
    Err(CommitError::Moved.into())
}

/// An answer that came after its attempt was judged changes nothing, unless it tells of money: that is never dropped.
/// The client gets what the others have made of its payment; its key keeps that.
async fn too_late(
    app: &Arc<App>,
    stored: Aggregate,
    attempt_id: &str,
    outcome: &Created,
    key: Option<&Key>,
) -> Result<Ran, Trouble> {
    let aggregate = match outcome {
        Created::Captured(money) => {
            resolve::write(app, stored, |after, now| {
                attempt_outcome::money_seen(after, attempt_id, money, now).map(Some)
            })
            .await?
        }
        Created::Accepted(_)
        | Created::Waiting
        | Created::NotSent(_)
        | Created::Refused(..)
        | Created::Declined(_)
        | Created::Unknown(_) => stored,
    };
    if let (Some(key), Some(answer)) = (key, answer(&aggregate)) {
        app.store.answer_key(&key.scope, answer).await?;
    }
    Ok(Ran::unanswered(aggregate))
}

/// The payment as it is stored now.
///
/// # Errors
/// [`Trouble`].
pub async fn reload(app: &App, payment_id: &str) -> Result<Aggregate, Trouble> {
    app.store.payment(AllOwners, payment_id).await?.ok_or_else(|| Trouble::Gone(format!("payment {payment_id}")))
}

/// How a request for this payment is answered: 201 once the payer can act or the payment has ended. A payment that
/// is still being worked on has no final answer, and none is stored for it.
#[must_use]
pub fn answer(aggregate: &Aggregate) -> Option<StoredAnswer> {
    match aggregate.payment.status {
        PaymentState::Created | PaymentState::Processing => None,
        PaymentState::RequiresAction
        | PaymentState::Succeeded
        | PaymentState::Failed
        | PaymentState::Canceled
        | PaymentState::Expired => Some(StoredAnswer {
            status: 201,
            body: serde_json::to_vec(&view::payment(aggregate)).unwrap_or_default(),
            state: aggregate.payment.status.to_string(),
            attempt_id: aggregate.live().map(|a| a.id.clone()),
        }),
    }
}
