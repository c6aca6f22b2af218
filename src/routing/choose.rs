//! The choice of a route: from a merchant's accounts, its rules, what was tried already, and how
//! the routes are, to an order of accounts and a reason that can be shown. Pure: whatever changes
//! by itself comes in from outside, chance too.

use std::sync::Arc;

use providers::money::Money;
use providers::order::Flow;
use providers::provider::ProviderName;
use rand::RngExt as _;
use rand::rngs::Xoshiro256PlusPlus as Rng;
use serde_json::{Value, json};

use super::account_limits::Used;
use super::health::adaptive::{self, BreakerRank, Weights};
use super::health::{BreakerState, RouteId, RouteView};
use super::limiter::Throttled;
use super::rule::{Facts, Routing, Rule, Strategy};
use super::score;
use crate::domain::attempt::CallOutcome;
use crate::domain::id::AccountId;
use crate::domain::{Aggregate, Attempt, Timestamp};
use crate::routing::account::Account;

/// What is looked for.
#[derive(Debug, Clone, Copy)]
pub struct Criteria<'a> {
    /// How the payer pays.
    pub flow: Flow,
    /// How much.
    pub amount: Money,
    /// Only these providers; empty means any.
    pub providers: &'a [ProviderName],
    /// The merchant's own members.
    pub metadata: &'a Value,
}

/// What there is to choose from, as it is at this moment.
#[derive(Clone, Copy)]
pub struct RoutingInput<'a> {
    /// The merchant's accounts, oldest first.
    pub accounts: &'a [Arc<Account>],
    /// Its rules.
    pub routing: &'a Routing,
    /// What the payment has tried: see [`tried`].
    pub tried: &'a [TriedRoute],
    /// When.
    pub now: Timestamp,
    /// How a route is. Each is looked at once, and only if nothing else keeps the payment off it.
    pub look: &'a dyn Fn(&RouteId) -> RouteView,
    /// What keeps another call back from an account's route at this moment, if anything does.
    pub full: &'a dyn Fn(&Account, &RouteId) -> Option<Throttled>,
    /// How much of its day an account has used.
    pub used: &'a dyn Fn(&Account) -> Used,
    /// Whose turn it is in the rule at this place. Asked for at most once, and only for
    /// `round_robin`.
    pub turn: &'a dyn Fn(usize) -> u64,
}

/// An account that the rule names.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// It.
    pub account: Arc<Account>,
    /// Its weight in the rule.
    pub weight: Option<i64>,
    /// How its route is, if it was looked at.
    pub view: Option<RouteView>,
    /// The number that orders it, or would: the utility in `adaptive`, the chance of success
    /// elsewhere.
    pub score: Option<f64>,
    /// Why it is passed over, if it is.
    pub why: Option<SkipReason>,
}

/// What was found.
#[derive(Debug, Clone)]
pub struct RoutingDecision {
    /// Whether any account could ever serve this, were it able: it takes such payments, and has not
    /// refused this one.
    pub served: bool,
    /// Which version of the routing decided.
    pub version: i32,
    /// The place of the rule that decided; `None` when none matched.
    pub rule: Option<usize>,
    /// How the accounts are ordered: the rule's strategy, or `oldest_first`.
    pub strategy: &'static str,
    /// Accounts that are able, the first one to be asked first.
    pub able: Vec<Candidate>,
    /// Accounts that are passed over.
    pub skipped: Vec<Candidate>,
}

impl RoutingDecision {
    /// The account to take, if any is able.
    #[must_use]
    pub fn account(&self) -> Option<&Arc<Account>> {
        self.able.first().map(|candidate| &candidate.account)
    }

    /// What is stored with the attempt. Candidates and scores go by the same order.
    #[must_use]
    pub fn reason(&self) -> Value {
        let skip = |c: &Candidate| json!({ "account": c.account.id, "why": c.why.map(SkipReason::as_str) });
        json!({
            "strategy": self.strategy,
            "routing_version": self.version,
            "rule": self.rule,
            "candidates": self.able.iter().map(|c| c.account.id.as_str()).collect::<Vec<_>>(),
            "scores": self.able.iter().map(|c| c.score.map(score::shown)).collect::<Vec<_>>(),
            "skipped": self.skipped.iter().map(skip).collect::<Vec<_>>(),
        })
    }

    /// Why no account is able, for whoever waits at a till.
    #[must_use]
    pub fn why_none(&self) -> &'static str {
        let any =
            |wanted: fn(SkipReason) -> bool| self.skipped.iter().filter_map(|c| c.why).any(wanted);
        if any(SkipReason::is_health) {
            return "the providers that could charge are out of order for the moment";
        }
        if any(|why| matches!(why, SkipReason::InMaintenance | SkipReason::DayLimitReached)) {
            return "the accounts that could charge are in maintenance, or have reached their limit \
                    of the day";
        }
        if any(|why| matches!(why, SkipReason::Crowded | SkipReason::RateLimited)) {
            return "the accounts that could charge have as much to do as they can; scan the code \
                    again";
        }
        "none of the accounts is able to charge now"
    }
}

/// Orders the accounts that are able by the rule that decides about the payment.
pub fn choose(input: &RoutingInput<'_>, wanted: Criteria<'_>, rng: &mut Rng) -> RoutingDecision {
    let facts = Facts {
        flow: wanted.flow,
        amount_fen: wanted.amount.minor(),
        metadata: wanted.metadata,
        now: input.now,
    };
    let rule = input.routing.rule(facts);
    let strategy = rule.map(|(_, rule)| rule.strategy);
    let (mut able, mut skipped, mut served) = (Vec::new(), Vec::new(), false);

    for (account, weight) in named(input, rule.map(|(_, rule)| rule)) {
        served |= serves(account, wanted) && !has_refused(input, account);
        let mut candidate = Candidate {
            account: Arc::clone(account),
            weight,
            view: None,
            score: None,
            why: None,
        };
        let route = RouteId {
            account_id: account.id.clone(),
            provider: account.provider.name(),
            flow: wanted.flow,
        };
        let full = || (input.full)(account, &route).map(SkipReason::from);
        candidate.why = why_not(account, wanted, input).or_else(full);
        if candidate.why.is_none() {
            let view = (input.look)(&route);
            candidate.view = Some(view);
            candidate.score = Some(match strategy {
                Some(Strategy::Adaptive) => {
                    adaptive::utility(&view, ppm(account.fee_bps), Weights::default())
                }
                Some(
                    Strategy::Priority
                    | Strategy::Weighted
                    | Strategy::RoundRobin
                    | Strategy::LeastInFlight
                    | Strategy::LowestFee,
                )
                | None => view.success,
            });
            candidate.why = shut(&view);
        }
        if candidate.why.is_none() {
            able.push(candidate)
        } else {
            skipped.push(candidate)
        }
    }

    if let Some((place, rule)) = rule {
        able = ordered(able, rule.strategy, &|| (input.turn)(place), rng);
    }

    // Whatever the strategy is: who is on trial comes first, since an offer that fails there goes
    // elsewhere in the same request; who has more than its part of the traffic while it comes back
    // is there if nobody else is.
    able.sort_by_key(|candidate| candidate.view.as_ref().map(adaptive::place));
    let strategy = strategy.map_or("oldest_first", Into::into);
    let rule = rule.map(|(place, _)| place);

    RoutingDecision {
        served,
        version: input.routing.version,
        rule,
        strategy,
        able,
        skipped,
    }
}

/// The accounts that the rule names, or all of them when there is none.
fn named<'a>(
    input: &RoutingInput<'a>,
    rule: Option<&Rule>,
) -> Vec<(&'a Arc<Account>, Option<i64>)> {
    let Some(rule) = rule else {
        return input
            .accounts
            .iter()
            .map(|account| (account, None))
            .collect();
    };
    let find = |id: &str| input.accounts.iter().find(|account| account.id == id);
    rule.accounts
        .iter()
        .filter_map(|named| find(&named.id).map(|account| (account, named.weight)))
        .collect()
}

/// The accounts as the strategy orders them. Sorting is stable: those that are equal in everything
/// stay as listed.
fn ordered(
    mut able: Vec<Candidate>,
    strategy: Strategy,
    turn: &dyn Fn() -> u64,
    rng: &mut Rng,
) -> Vec<Candidate> {
    let score = |c: &Candidate| c.score.unwrap_or_default();
    let better = |a: &Candidate, b: &Candidate| {
        score::percent(score(b)).total_cmp(&score::percent(score(a)))
    };
    let in_flight = |c: &Candidate| c.view.map_or(0, |view| view.in_flight);

    match strategy {
        Strategy::Priority => {}
        Strategy::Weighted => able = drawn(able, rng),
        Strategy::RoundRobin => {
            // By those that are able: over the listed ones, the one behind a broken account would
            // get its share, too.
            let places = u64::try_from(able.len()).unwrap_or(1).max(1);
            able.rotate_left(usize::try_from(turn() % places).unwrap_or(0));
        }
        Strategy::LeastInFlight => {
            able.sort_by(|a, b| in_flight(a).cmp(&in_flight(b)).then_with(|| better(a, b)));
        }
        Strategy::LowestFee => {
            let fee = |c: &Candidate| c.account.fee_bps;
            able.sort_by(|a, b| fee(a).cmp(&fee(b)).then_with(|| better(a, b)));
        }
        Strategy::Adaptive => able.sort_by(|a, b| score(b).total_cmp(&score(a))),
    }

    able
}

/// Draws one after the other by their weights.
fn drawn(mut left: Vec<Candidate>, rng: &mut Rng) -> Vec<Candidate> {
    let weight = |c: &Candidate| c.weight.and_then(|w| u64::try_from(w).ok()).unwrap_or(1);
    let mut order = Vec::with_capacity(left.len());

    while !left.is_empty() {
        let sum: u64 = left.iter().map(weight).sum();
        let mut at = rng.random_range(0..sum.max(1));
        let place = left
            .iter()
            .position(|candidate| match at.checked_sub(weight(candidate)) {
                Some(rest) => {
                    at = rest;
                    false
                }
                None => true,
            });
        order.push(left.remove(place.unwrap_or(0)));
    }

    order
}

/// An attempt that keeps its payment from going over the same account again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TriedRoute {
    /// Over which account.
    pub account_id: AccountId,
    /// Its provider, when the provider refused the account: then none of its accounts is tried
    /// again, since a second merchant number of somebody who was just frozen looks like an evasion.
    pub refusing_provider: Option<ProviderName>,
    /// Whether the route has refused this very payment, which it would do again.
    pub has_refused: bool,
}

/// What the current round of a payment has tried, and the routes that have refused it in any round.
#[must_use]
pub fn tried(aggregate: &Aggregate) -> Vec<TriedRoute> {
    let ended = |a: &Attempt, outcome: CallOutcome| a.outcome == Some(outcome);
    aggregate
        .attempts
        .iter()
        .filter(|a| a.round == aggregate.payment.round || ended(a, CallOutcome::RefusedRoute))
        .map(|a| TriedRoute {
            account_id: a.account_id.clone(),
            refusing_provider: ended(a, CallOutcome::RefusedAccount).then_some(a.provider),
            has_refused: ended(a, CallOutcome::RefusedRoute),
        })
        .collect()
}

fn serves(account: &Account, wanted: Criteria<'_>) -> bool {
    account.provider.capabilities().flow(wanted.flow).is_some()
        && account.provider.capabilities().takes(wanted.amount)
        && account.terms.limits.allow(wanted.amount.minor())
        && (wanted.providers.is_empty() || wanted.providers.contains(&account.provider.name()))
        && !account.disabled
}

fn has_refused(input: &RoutingInput<'_>, account: &Account) -> bool {
    input
        .tried
        .iter()
        .any(|t| t.has_refused && t.account_id == account.id)
}

/// Why an account is passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum SkipReason {
    /// The request wants other providers.
    NotAskedFor,
    /// The merchant has switched it off.
    Disabled,
    /// Its provider has no such flow here.
    FlowNotServed,
    /// Too much or too little for one payment, by its provider or its own limits.
    AmountOutOfLimits,
    /// The account, or its provider, is in maintenance.
    InMaintenance,
    /// Its day has no place for this amount any more.
    DayLimitReached,
    /// Its provider refuses it for the moment.
    SetAside,
    /// It has refused this very payment.
    PaymentRefused,
    /// This round of the payment was there already.
    TriedAlready,
    /// Another account was refused by this provider for the same payment.
    ProviderRefusedAccount,
    /// It has as many calls on their way as it answers without getting slower.
    Crowded,
    /// It is asked as often as its provider, or its owner, allows.
    RateLimited,
    /// It is out of order.
    BreakerOpen,
    /// It is tried with another payment.
    OnTrial,
}

impl From<Throttled> for SkipReason {
    fn from(full: Throttled) -> Self {
        match full {
            Throttled::Crowded => Self::Crowded,
            Throttled::RateLimited => Self::RateLimited,
        }
    }
}

impl SkipReason {
    /// As in reasons and answers: `day_limit_reached`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    fn is_health(self) -> bool {
        matches!(self, Self::BreakerOpen | Self::OnTrial)
    }
}

/// What keeps a payment off an account, whatever its health.
fn why_not(
    account: &Account,
    wanted: Criteria<'_>,
    input: &RoutingInput<'_>,
) -> Option<SkipReason> {
    let name = account.provider.name();
    let fen = wanted.amount.minor();
    let limits = &account.terms.limits;
    if !wanted.providers.is_empty() && !wanted.providers.contains(&name) {
        return Some(SkipReason::NotAskedFor);
    }
    if account.disabled {
        return Some(SkipReason::Disabled);
    }
    if account.provider.capabilities().flow(wanted.flow).is_none() {
        return Some(SkipReason::FlowNotServed);
    }
    if !account.provider.capabilities().takes(wanted.amount)
        || limits.payment.is_some_and(|range| !range.holds(fen))
    {
        return Some(SkipReason::AmountOutOfLimits);
    }
    if has_refused(input, account) {
        return Some(SkipReason::PaymentRefused);
    }
    if account
        .set_aside_until
        .is_some_and(|until| until > input.now)
    {
        return Some(SkipReason::SetAside);
    }
    if account.terms.in_maintenance(input.now) || input.routing.in_maintenance(name, input.now) {
        return Some(SkipReason::InMaintenance);
    }
    if input.tried.iter().any(|t| t.account_id == account.id) {
        return Some(SkipReason::TriedAlready);
    }

    if input
        .tried
        .iter()
        .any(|t| t.refusing_provider == Some(name))
    {
        return Some(SkipReason::ProviderRefusedAccount);
    }
    if limits
        .day
        .is_some_and(|day| !day.leaves_room((input.used)(account), fen))
    {
        return Some(SkipReason::DayLimitReached);
    }

    None
}

/// What its health has against this payment.
const fn shut(view: &RouteView) -> Option<SkipReason> {
    match (adaptive::standing(view), view.gate) {
        (BreakerRank::Able | BreakerRank::LastResort, _) => None,
        (BreakerRank::Out, BreakerState::Trial) => Some(SkipReason::OnTrial),
        (BreakerRank::Out, BreakerState::Open | BreakerState::Closed | BreakerState::Ramping) => {
            Some(SkipReason::BreakerOpen)
        }
    }
}

/// Parts per million from basis points.
fn ppm(fee_bps: i32) -> u32 {
    u32::try_from(fee_bps).unwrap_or(0).saturating_mul(100)
}

#[cfg(test)]
#[path = "choose_tests.rs"]
mod tests;
