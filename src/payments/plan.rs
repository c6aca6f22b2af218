//! Planning an attempt: which route is next, under which number, and until when its call may be on
//! its way. Pure but for the random numbers: what is planned here counts once its commit is
//! durable.

use std::time::Duration;

use providers::Capabilities;
use providers::order::Flow;
use providers::outcome::{Failure, FailureKind};
use rand::SeedableRng as _;
use rand::rngs::Xoshiro256PlusPlus as Rng;

use super::Error;
use super::transition::{ending, schedule};
use crate::app::App;
use crate::domain::attempt::{CallOutcome, State};
use crate::domain::id::{self, AttemptId};
use crate::domain::payment::{Event, NO_ROUTE};
use crate::domain::{Aggregate, Attempt, Owner, Payment, Timestamp};
use crate::routing::account::Account;
use crate::routing::choose::{
    self, Candidate, Criteria, RoutingDecision, RoutingInput, TriedRoute,
};
use crate::routing::health::{BreakerState, RouteId, RouteView};

/// Making an offer may take half as long again as 99 of 100 calls do, but not less and not more
/// than this.
const SHORTEST_OFFER_CALL: Duration = Duration::from_millis(1_500);
const LONGEST_OFFER_CALL: Duration = Duration::from_secs(8);

/// What planning found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Planned {
    /// Whether any account takes such payments, and has not refused this one.
    pub served: bool,
}

/// Plans the next attempt of a payment that has no live one, or parks the payment when no route is
/// able.
///
/// # Errors
/// [`Error::Random`].
pub fn next(app: &App, aggregate: &mut Aggregate, now: Timestamp) -> Result<Planned, Error> {
    let payment = &aggregate.payment;
    let tried = choose::tried(aggregate);
    let asked = RoutingRequest {
        owner: &payment.owner,
        wanted: Criteria {
            flow: payment.flow,
            amount: payment.amount,
            providers: &payment.providers,
            metadata: &payment.metadata,
        },
        tried: &tried,
        now,
    };

    let this_round = aggregate
        .attempts
        .iter()
        .filter(|a| a.round == payment.round)
        .count();
    let may_go_on = this_round < app.config.payments.max_routes && !app.hold.covers(&payment.owner);
    let choice = choose_with_room(app, asked, may_go_on)?;
    let planned = Planned {
        served: choice.served,
    };

    // A route that has not proved itself yet is a retry's luck, and that is rationed; one that
    // works is not.
    let is_retry = !tried.is_empty() || payment.round > 0;
    let is_costly =
        |c: &&Candidate| is_retry && c.view.is_some_and(|view| view.gate != BreakerState::Closed);
    let now_ms = app.health.now_ms();
    let may_retry =
        |c: &&Candidate| !is_costly(c) || app.budget.allows_retry(&payment.owner, now_ms);
    let first = choice.able.first().filter(|_| may_go_on).filter(may_retry);

    let Some(candidate) = first else {
        no_route(aggregate, &choice, now)?;
        return Ok(planned);
    };
    if is_costly(&candidate) {
        app.budget.retried(&payment.owner, now_ms);
    }

    begin(app, aggregate, candidate, choice.reason(), now)?;
    Ok(planned)
}

/// The choice, with a place taken in what its account may do in a day.
fn choose_with_room(
    app: &App,
    asked: RoutingRequest<'_>,
    may_go_on: bool,
) -> Result<RoutingDecision, Error> {
    let mut rng = chance()?;
    let look = |route: &RouteId| app.health.admit(route);
    let turn = |rule| app.directory.turns().take(asked.owner, rule);

    loop {
        let choice = rank_routes(app, asked, &look, &turn, &mut rng);
        let account = choice.account().filter(|_| may_go_on);
        // Somebody else may have taken the last place of the account's day meanwhile.
        if account.is_none_or(|account| {
            app.directory
                .usage()
                .reserve(account, asked.wanted.amount.minor(), asked.now)
        }) {
            return Ok(choice);
        }
    }
}

/// Adds the attempt over this route, about to be sent, with the times until when its call may be on
/// its way and its offer be paid.
fn begin(
    app: &App,
    aggregate: &mut Aggregate,
    Candidate { account, view, .. }: &Candidate,
    reason: serde_json::Value,
    now: Timestamp,
) -> Result<(), Error> {
    let capabilities = account.provider.capabilities();
    let timeout = call_timeout(
        app,
        capabilities,
        aggregate.payment.flow,
        view.and_then(|view| view.p99_ms),
    );
    let call_deadline = now.plus(timeout).plus(app.config.payments.call_grace);

    let mut attempt = sending(app, aggregate, account, now)?;
    attempt.call_deadline = call_deadline;
    attempt.offer_deadline = offer_deadline(&aggregate.payment, capabilities, now);
    attempt.reason = reason;
    attempt.next_check_at = schedule::next_check(&attempt, capabilities, now);

    if aggregate.payment.flow.is_charge() {
        // From its first byte on nobody can say that it was not paid.
        aggregate.payment.apply(Event::Doubt)?;
    }
    aggregate.payment.lease_until = Some(call_deadline);
    aggregate.payment.resume_at = Some(payment_expiry(aggregate, now));
    aggregate.attempts.push(attempt);

    Ok(())
}

fn offer_deadline(payment: &Payment, capabilities: &Capabilities, now: Timestamp) -> Timestamp {
    let shortest = now.plus_s(i64::from(capabilities.shortest_offer_s));
    let charging = capabilities.charge.as_ref();
    match charging.filter(|_| payment.flow.is_charge()) {
        // What a charge leaves behind must not outlive its reversal by much.
        Some(charging) => now
            .plus_s(i64::from(charging.reverse_after_s) + 60)
            .max(shortest),
        None => payment.expires_at.max(shortest),
    }
}

/// An attempt over this account that is about to be sent, with numbers of its own.
fn sending(
    app: &App,
    aggregate: &Aggregate,
    account: &Account,
    now: Timestamp,
) -> Result<Attempt, Error> {
    let payment = &aggregate.payment;

    Ok(Attempt {
        id: AttemptId::new()?,
        payment_id: payment.id.clone(),
        seq: i32::try_from(aggregate.attempts.len())
            .unwrap_or(i32::MAX)
            .saturating_add(1),
        round: payment.round,
        account_id: account.id.clone(),
        provider: account.provider.name(),
        flow: payment.flow,
        status: State::Sending,
        disposition: None,
        provider_order_no: id::order_no(&app.hold.prefix())?,
        provider_transaction_id: None,
        provider_request_id: None,
        amount: payment.amount,
        captured: None,
        payer_amount: None,
        payer: None,
        paid_at: None,
        outcome: None,
        failure: None,
        next_action: None,
        reason: serde_json::Value::Null,
        started_at: now,
        call_deadline: now,
        offer_deadline: now,
        latency_ms: None,
        next_check_at: None,
        query_count: 0,
        reversal: None,
        reversal_in_doubt: false,
        not_found_since: None,
        returning: false,
        told_paid: false,
    })
}

/// A payment, as far as routes are chosen for it.
#[derive(Debug, Clone, Copy)]
pub struct RoutingRequest<'a> {
    /// Whose.
    pub owner: &'a Owner,
    /// What is looked for.
    pub wanted: Criteria<'a>,
    /// What its round has tried.
    pub tried: &'a [TriedRoute],
    /// When.
    pub now: Timestamp,
}

/// The order in which accounts would be asked, and why: the one way from an installation as it is
/// to a choice. Changes nothing; whether a turn of `round_robin` is taken is up to `turn`, and
/// whether a trial is up to `admit`.
pub fn rank_routes(
    app: &App,
    asked: RoutingRequest<'_>,
    look: &dyn Fn(&RouteId) -> RouteView,
    turn: &dyn Fn(usize) -> u64,
    rng: &mut Rng,
) -> RoutingDecision {
    let accounts = app.directory.accounts_of(asked.owner);
    let input = RoutingInput {
        accounts: &accounts,
        routing: &app.directory.routing_of(asked.owner),
        tried: asked.tried,
        now: asked.now,
        look,
        full: &|account: &Account, route: &RouteId| {
            app.limiters
                .full(route, per_second(account), app.health.now_ms())
        },
        used: &|account: &Account| app.directory.usage().used(&account.id, asked.now),
        turn,
    };
    choose::choose(&input, asked.wanted, rng)
}

/// How many calls a second an account's owner allows.
pub(super) fn per_second(account: &Account) -> Option<u32> {
    account.terms.limits.second.map(|second| second.count)
}

/// What draws by chance, seeded by the system.
///
/// # Errors
/// [`id::NoRandomness`].
pub fn chance() -> Result<Rng, id::NoRandomness> {
    Ok(Rng::seed_from_u64(u64::from_le_bytes(id::random()?)))
}

/// No route is able: a payment that needs an offer waits for one; a charge cannot, since its
/// payer's code gets old. There is nothing to wait for where every account that takes such payments
/// has refused this one.
fn no_route(
    aggregate: &mut Aggregate,
    choice: &RoutingDecision,
    now: Timestamp,
) -> Result<(), Error> {
    aggregate.payment.lease_until = None;
    let refused = aggregate
        .attempts
        .iter()
        .rfind(|a| a.outcome == Some(CallOutcome::RefusedRoute));

    if let Some(refused) = refused.filter(|_| !choice.served) {
        let said_nothing = || {
            Some(Failure::new(
                FailureKind::Request,
                <&str>::from(CallOutcome::RefusedRoute),
                "refused without a word",
            ))
        };
        aggregate.payment.failure = refused.failure.clone().or_else(said_nothing);
        return ending::conclude(aggregate, now);
    }

    if aggregate.payment.flow.is_charge() {
        let last = aggregate.attempts.last().and_then(|a| a.failure.clone());
        let none = || Failure::new(FailureKind::Network, NO_ROUTE, choice.why_none());
        aggregate.payment.failure = Some(last.unwrap_or_else(none));
        return ending::conclude(aggregate, now);
    }

    aggregate.payment.parked_at.get_or_insert(now);
    aggregate.payment.resume_at = Some(schedule::next_round(aggregate, now));
    Ok(())
}

/// How long making an order may take: an offer must not keep the next route waiting much longer
/// than its own calls take; a charge is given its provider's own time, since it cannot go to
/// another one anyway.
fn call_timeout(
    app: &App,
    capabilities: &Capabilities,
    flow: Flow,
    p99_ms: Option<u32>,
) -> Duration {
    let config = &app.config.payments;
    let Some(charging) = capabilities.charge.as_ref().filter(|_| flow.is_charge()) else {
        return p99_ms.map_or(config.offer_timeout, |p99| {
            let usual = Duration::from_millis(u64::from(p99)) * 3 / 2;
            usual.clamp(SHORTEST_OFFER_CALL, LONGEST_OFFER_CALL)
        });
    };

    if config.charge_timeout.is_zero() {
        Duration::from_millis(u64::from(charging.timeout_ms))
    } else {
        config.charge_timeout
    }
}

/// When a payment with a live offer has to be looked at for its own sake.
fn payment_expiry(aggregate: &Aggregate, now: Timestamp) -> Timestamp {
    aggregate.payment.expires_at.max(now)
}
