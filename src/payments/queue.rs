//! Payments that wait for a route: their place, an honest estimate, and going on by themselves, oldest first, when one
//! returns. Nobody waits here in memory: since when a payment waits is in its row.

use std::sync::Arc;

use sea_orm::DbErr;

use super::plan::{self, Asked};
use super::view::{self, PaymentView, QueueView};
use super::{Trouble, resolve};
use crate::app::App;
use crate::domain::payment::{Line, State};
use crate::domain::{Aggregate, Timestamp};
use crate::routing::choose::{self, Candidate, Choice, Wanted, Why};
use crate::routing::health::RouteId;
use crate::routing::rule::Routing;

/// A route that is out is believed to need so much longer at least, in seconds: it has to prove itself first.
const LEAST_OUTAGE_S: i64 = 5;
/// One on trial takes the next payment about then.
const TRIAL_S: i64 = 2;

/// The line that a payment stands in.
#[must_use]
pub fn line(aggregate: &Aggregate) -> Line {
    Line { owner: aggregate.payment.owner.clone(), flow: aggregate.payment.flow }
}

/// A payment as merchants see it, with its place if it waits for a route.
///
/// # Errors
/// The database's.
pub async fn view(app: &App, aggregate: &Aggregate) -> Result<PaymentView, DbErr> {
    let mut view = view::payment(aggregate);
    if view.queue.is_some() {
        view.queue = Some(place(app, aggregate).await?);
    }
    Ok(view)
}

async fn place(app: &App, aggregate: &Aggregate) -> Result<QueueView, DbErr> {
    let payment = &aggregate.payment;
    let now = app.clock.now();
    let since = payment.parked_at.unwrap_or(now);
    let position = app.store.parked_before(&payment.owner, payment.flow, since).await?.saturating_add(1);
    let routing = app.directory.routing_of(&payment.owner);
    let route = choose(app, aggregate, now).ok().and_then(|choice| returns_in_s(app, &choice, &routing, now));
    // How long a person takes, nobody knows.
    let route = route.filter(|_| !app.hold.covers(&payment.owner));
    let estimate = route.map(|seconds| seconds.saturating_add(app.queue.drained_in_s(&line(aggregate), position)));
    Ok(QueueView { position: Some(position), estimated_wait_seconds: estimate })
}

/// The choice that a payment would get in a round of its own. Takes no turn and no trial.
fn choose(app: &App, aggregate: &Aggregate, now: Timestamp) -> Result<Choice, Trouble> {
    let payment = &aggregate.payment;
    let mut refused = choose::tried(aggregate);
    refused.retain(|tried| tried.has_refused);
    let asked = Asked {
        owner: &payment.owner,
        wanted: Wanted {
            flow: payment.flow,
            amount: payment.amount,
            providers: &payment.providers,
            metadata: &payment.metadata,
        },
        tried: &refused,
        now,
    };
    let look = |route: &RouteId| app.health.peek(route);
    let turn = |rule| app.directory.turns().peek(&payment.owner, rule);
    Ok(plan::consider(app, asked, &look, &turn, &mut plan::chance()?))
}

/// Whether some route might take this payment now. One on trial may.
///
/// # Errors
/// [`Trouble::Random`].
pub fn has_route(app: &App, aggregate: &Aggregate, now: Timestamp) -> Result<bool, Trouble> {
    if app.hold.covers(&aggregate.payment.owner) {
        return Ok(false);
    }
    let choice = choose(app, aggregate, now)?;
    Ok(!choice.able.is_empty() || choice.skipped.iter().any(|c| c.why == Some(Why::OnTrial)))
}

/// In how many seconds the first of a payment's routes is likely to be able, if anything is known about that.
fn returns_in_s(app: &App, choice: &Choice, routing: &Routing, now: Timestamp) -> Option<u64> {
    if !choice.able.is_empty() {
        return Some(0);
    }
    let soonest = choice.skipped.iter().filter_map(|candidate| able_in_s(app, candidate, routing, now)).min()?;
    Some(u64::try_from(soonest).unwrap_or(0))
}

/// The same for one account; `None` where only a person can make it able.
fn able_in_s(app: &App, candidate: &Candidate, routing: &Routing, now: Timestamp) -> Option<i64> {
    let account = &candidate.account;
    match candidate.why? {
        // An outage that has lasted for so long is as likely as not to last as long again: short ones are over soon,
        // and long ones are of another kind.
        Why::BreakerOpen => {
            let since_ms = candidate.view.map_or(0, |view| view.since_ms);
            let lasted_s = app.health.now_ms().saturating_sub(since_ms) / 1_000;
            Some(lasted_s.max(LEAST_OUTAGE_S))
        }
        Why::OnTrial => Some(TRIAL_S),
        Why::Crowded | Why::RateLimited => Some(1),
        Why::SetAside => account.set_aside_until.map(|until| (until.since(now) / 1_000).max(1)),
        Why::InMaintenance => {
            account.terms.maintained_for_s(now).max(routing.maintained_for_s(account.provider.name(), now))
        }
        Why::DayLimitReached => Some((now.day_start().plus_s(86_400).since(now) / 1_000).max(1)),
        Why::NotAskedFor
        | Why::Disabled
        | Why::FlowNotServed
        | Why::AmountOutOfLimits
        | Why::PaymentRefused
        | Why::TriedAlready
        | Why::ProviderRefusedAccount => None,
    }
}

/// Lets a payment that this worker has claimed go on. Returns whether it waits for a route no more.
///
/// # Errors
/// [`Trouble`].
pub async fn go_on(app: &Arc<App>, payment_id: &str) -> Result<bool, Trouble> {
    let aggregate = resolve::advance(app, payment_id).await?;
    Ok(aggregate.payment.status != State::Created)
}
