//! Payments that wait for a route: their place, an honest estimate, and going on by themselves,
//! oldest first, when one returns. Nobody waits here in memory: since when a payment waits is in
//! its row.

use std::collections::HashMap;
use std::sync::Arc;

use super::plan::{self, RoutingRequest};
use super::view::{self, PaymentView, QueueView};
use super::{Error, resolve};
use crate::app::App;
use crate::domain::id::PaymentId;
use crate::domain::payment::{State, WaitQueue};
use crate::domain::{Aggregate, Timestamp};
use crate::routing::choose::{self, Candidate, Criteria, RoutingDecision, SkipReason};
use crate::routing::health::RouteId;
use crate::routing::queue::Wait;
use crate::routing::rule::Routing;
use crate::store;

/// A payment as merchants see it, with its place if it waits for a route.
///
/// # Errors
/// The database's.
pub async fn view(app: &App, aggregate: &Aggregate) -> Result<PaymentView, store::Error> {
    let mut view = view::payment(aggregate);
    if view.queue.is_some() {
        let now = app.clock.now();
        let position = places(app, &aggregate.line(), &[since(aggregate, now)])
            .await?
            .pop();
        view.queue = position.map(|position| queue(app, aggregate, position, now));
    }
    Ok(view)
}

/// The same for a page of them. Those of a line are counted together: were each counted by itself,
/// a page in an outage would look through the line as often as it has payments.
///
/// # Errors
/// The database's.
pub async fn views(app: &App, aggregates: &[Aggregate]) -> Result<Vec<PaymentView>, store::Error> {
    let now = app.clock.now();
    let mut views: Vec<PaymentView> = aggregates.iter().map(view::payment).collect();
    let mut lines: HashMap<WaitQueue, Vec<(&Aggregate, &mut PaymentView)>> = HashMap::new();

    for (aggregate, view) in aggregates
        .iter()
        .zip(&mut views)
        .filter(|(_, view)| view.queue.is_some())
    {
        lines
            .entry(aggregate.line())
            .or_default()
            .push((aggregate, view));
    }

    for (line, waiting) in lines {
        let times: Vec<Timestamp> = waiting
            .iter()
            .map(|(aggregate, _)| since(aggregate, now))
            .collect();
        let positions = places(app, &line, &times).await?;
        for ((aggregate, view), position) in waiting.into_iter().zip(positions) {
            view.queue = Some(queue(app, aggregate, position, now));
        }
    }

    Ok(views)
}

fn since(aggregate: &Aggregate, now: Timestamp) -> Timestamp {
    aggregate.payment.parked_at.unwrap_or(now)
}

/// The places of those who have stood in a line since these times.
async fn places(
    app: &App,
    line: &WaitQueue,
    times: &[Timestamp],
) -> Result<Vec<u64>, store::Error> {
    let (Some(first), Some(last)) = (times.iter().min(), times.iter().max()) else {
        return Ok(Vec::new());
    };
    let before = app
        .store
        .parked_before(&line.owner, line.flow, *first)
        .await?;
    let among = match first < last {
        true => {
            app.store
                .parked_among(&line.owner, line.flow, *first, *last)
                .await?
        }
        false => Vec::new(),
    };

    let place = |since: &Timestamp| {
        let earlier = among.partition_point(|parked_at| parked_at < since);
        before
            .saturating_add(u64::try_from(earlier).unwrap_or(u64::MAX))
            .saturating_add(1)
    };

    Ok(times.iter().map(place).collect())
}

fn queue(app: &App, aggregate: &Aggregate, position: u64, now: Timestamp) -> QueueView {
    let payment = &aggregate.payment;
    let routing = app.directory.routing_of(&payment.owner);
    let line = aggregate.line();
    let route = choose(app, aggregate, now)
        .ok()
        .and_then(|choice| returns_in_s(app, &choice, &line, &routing, now));
    // How long a person takes, nobody knows.
    let route = route.filter(|_| !app.hold.covers(&payment.owner));
    let estimate =
        route.map(|seconds| seconds.saturating_add(app.queue.drained_in_s(&line, position)));
    QueueView {
        position: Some(position),
        estimated_wait_seconds: estimate,
    }
}

/// The choice that a payment would get in a round of its own. Takes no turn and no trial.
fn choose(app: &App, aggregate: &Aggregate, now: Timestamp) -> Result<RoutingDecision, Error> {
    let payment = &aggregate.payment;
    let mut refused = choose::tried(aggregate);
    refused.retain(|tried| tried.has_refused);
    let asked = RoutingRequest {
        owner: &payment.owner,
        wanted: Criteria {
            flow: payment.flow,
            amount: payment.amount,
            providers: &payment.providers,
            metadata: &payment.metadata,
        },
        tried: &refused,
        now,
    };

    let look = |route: &RouteId| app.health.snapshot(route);
    let turn = |rule| app.directory.turns().peek(&payment.owner, rule);

    Ok(plan::rank_routes(
        app,
        asked,
        &look,
        &turn,
        &mut plan::chance()?,
    ))
}

/// Whether some route might take this payment now. One on trial may.
///
/// # Errors
/// [`Error::Random`].
pub fn has_route(app: &App, aggregate: &Aggregate, now: Timestamp) -> Result<bool, Error> {
    if app.hold.covers(&aggregate.payment.owner) {
        return Ok(false);
    }
    Ok(is_able(&choose(app, aggregate, now)?))
}

fn is_able(choice: &RoutingDecision) -> bool {
    !choice.able.is_empty()
        || choice
            .skipped
            .iter()
            .any(|candidate| candidate.why == Some(SkipReason::OnTrial))
}

/// What a payment waits for that no clock ends, and since when on the clock of health: what is over
/// soonest.
///
/// # Errors
/// [`Error::Random`].
pub fn waits_for(
    app: &App,
    aggregate: &Aggregate,
    now: Timestamp,
) -> Result<Option<(Wait, i64)>, Error> {
    if app.hold.covers(&aggregate.payment.owner) {
        return Ok(None);
    }
    let choice = choose(app, aggregate, now)?;
    let waits = choice
        .skipped
        .iter()
        .filter_map(|candidate| match candidate.why? {
            SkipReason::Crowded | SkipReason::RateLimited => {
                Some((Wait::Crowd, app.health.now_ms()))
            }
            SkipReason::BreakerOpen => {
                Some((Wait::Outage, candidate.view.map_or(0, |view| view.since_ms)))
            }
            SkipReason::OnTrial
            | SkipReason::SetAside
            | SkipReason::InMaintenance
            | SkipReason::DayLimitReached
            | SkipReason::NotAskedFor
            | SkipReason::Disabled
            | SkipReason::FlowNotServed
            | SkipReason::AmountOutOfLimits
            | SkipReason::PaymentRefused
            | SkipReason::TriedAlready
            | SkipReason::ProviderRefusedAccount => None,
        });

    // The younger of two outages is the likelier to end.
    Ok(waits.max_by_key(|(wait, since_ms)| (*wait == Wait::Crowd, *since_ms)))
}

/// In how many seconds the first of a payment's routes is likely to be able, if anything is known
/// about that.
fn returns_in_s(
    app: &App,
    choice: &RoutingDecision,
    line: &WaitQueue,
    routing: &Routing,
    now: Timestamp,
) -> Option<u64> {
    if !choice.able.is_empty() {
        return Some(0);
    }
    let soonest = choice
        .skipped
        .iter()
        .filter_map(|candidate| able_in_s(app, candidate, line, routing, now))
        .min()?;
    Some(u64::try_from(soonest).unwrap_or(0))
}

/// The same for one account; `None` where only a person can make it able.
fn able_in_s(
    app: &App,
    candidate: &Candidate,
    line: &WaitQueue,
    routing: &Routing,
    now: Timestamp,
) -> Option<i64> {
    let account = &candidate.account;
    let now_ms = app.health.now_ms();
    let learned_s =
        |wait, lasted_ms| (app.queue.left_ms(wait, lasted_ms).saturating_add(999) / 1_000).max(1);

    match candidate.why? {
        SkipReason::BreakerOpen => {
            let since_ms = candidate.view.map_or(now_ms, |view| view.since_ms);
            Some(learned_s(Wait::Outage, now_ms.saturating_sub(since_ms)))
        }
        SkipReason::OnTrial => Some(learned_s(
            Wait::Trial,
            app.queue.waited_ms(line, Wait::Trial, now_ms),
        )),
        SkipReason::Crowded | SkipReason::RateLimited => Some(learned_s(
            Wait::Crowd,
            app.queue.waited_ms(line, Wait::Crowd, now_ms),
        )),
        SkipReason::SetAside => account
            .set_aside_until
            .map(|until| (until.since(now) / 1_000).max(1)),
        SkipReason::InMaintenance => account
            .terms
            .maintained_for_s(now)
            .max(routing.maintained_for_s(account.provider.name(), now)),
        SkipReason::DayLimitReached => {
            Some((now.day_start().plus_s(86_400).since(now) / 1_000).max(1))
        }
        SkipReason::NotAskedFor
        | SkipReason::Disabled
        | SkipReason::FlowNotServed
        | SkipReason::AmountOutOfLimits
        | SkipReason::PaymentRefused
        | SkipReason::TriedAlready
        | SkipReason::ProviderRefusedAccount => None,
    }
}

/// Lets a payment that this worker has claimed go on. Returns whether it waits for a route no more.
///
/// # Errors
/// [`Error`].
pub async fn go_on(app: &Arc<App>, payment_id: &PaymentId) -> Result<bool, Error> {
    let aggregate = resolve::advance(app, payment_id).await?;
    Ok(aggregate.payment.status != State::Created)
}
