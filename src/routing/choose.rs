//! The choice of a route: from a merchant's accounts, its rule and what was tried already, to an order of accounts
//! and a reason that can be shown. Pure: no health yet, no I/O.

use std::sync::Arc;

use providers::money::Money;
use providers::order::Flow;
use providers::provider::ProviderName;
use serde_json::{Value, json};

use super::rule::Routing;
use crate::directory::Account;
use crate::domain::{Aggregate, Timestamp};

/// What is looked for.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// How the payer pays.
    pub flow: Flow,
    /// How much.
    pub amount: Money,
    /// Only these providers; empty means any.
    pub providers: &'a [ProviderName],
}

/// What was found.
#[derive(Debug, Clone)]
pub struct Choice {
    /// The account to take, if any is able.
    pub account: Option<Arc<Account>>,
    /// Whether any account could ever serve this, were it able.
    pub served: bool,
    /// Candidates, and what was skipped and why.
    pub reason: Value,
}

/// Takes the first account that is able, in the order of the merchant's rule.
#[must_use]
pub fn choose(
    accounts: &[Arc<Account>],
    routing: &Routing,
    wanted: Wanted<'_>,
    tried: &[Tried],
    now: Timestamp,
) -> Choice {
    let ordered = in_order(accounts, routing, wanted.flow);
    let mut skipped: Vec<Value> = Vec::new();
    let mut able = Vec::new();
    let mut served = false;
    for account in ordered {
        match why_not(account, wanted, tried, now) {
            None => able.push(account),
            Some(why) => skipped.push(json!({ "account": account.id, "why": why.as_str() })),
        }
        served |= serves(account, wanted);
    }
    let strategy = if routing.rule(wanted.flow).is_some() { "priority" } else { "oldest_first" };
    Choice {
        account: able.first().map(|a| Arc::clone(a)),
        served,
        reason: json!({
            "strategy": strategy,
            "routing_version": routing.version,
            "candidates": able.iter().map(|a| a.id.as_str()).collect::<Vec<_>>(),
            "skipped": skipped,
        }),
    }
}

/// An attempt that this round has made already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    /// Over which account.
    pub account_id: String,
    /// Its provider, when the provider refused the account: then none of its accounts is tried again, since a
    /// second merchant number of somebody who was just frozen looks like an evasion.
    pub refusing_provider: Option<ProviderName>,
}

/// What the current round of a payment has tried.
#[must_use]
pub fn tried_in_round(aggregate: &Aggregate) -> Vec<Tried> {
    aggregate
        .attempts
        .iter()
        .filter(|a| a.round == aggregate.payment.round)
        .map(|a| Tried {
            account_id: a.account_id.clone(),
            refusing_provider: (a.outcome.as_deref() == Some("refused_account")).then_some(a.provider),
        })
        .collect()
}

fn in_order<'a>(accounts: &'a [Arc<Account>], routing: &Routing, flow: Flow) -> Vec<&'a Arc<Account>> {
    match routing.rule(flow) {
        Some(rule) => rule.accounts.iter().filter_map(|r| accounts.iter().find(|a| a.id == r.id)).collect(),
        None => accounts.iter().collect(),
    }
}

fn serves(account: &Account, wanted: Wanted<'_>) -> bool {
    account.provider.capabilities().flow(wanted.flow).is_some()
        && account.provider.capabilities().takes(wanted.amount)
        && (wanted.providers.is_empty() || wanted.providers.contains(&account.provider.name()))
        && !account.disabled
}

/// Why an account is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
enum Why {
    NotAskedFor,
    Disabled,
    FlowNotServed,
    AmountOutOfLimits,
    SetAside,
    TriedAlready,
    ProviderRefusedAccount,
}

impl Why {
    fn as_str(self) -> &'static str {
        self.into()
    }
}

fn why_not(account: &Account, wanted: Wanted<'_>, tried: &[Tried], now: Timestamp) -> Option<Why> {
    let name = account.provider.name();
    if !wanted.providers.is_empty() && !wanted.providers.contains(&name) {
        return Some(Why::NotAskedFor);
    }
    if account.disabled {
        return Some(Why::Disabled);
    }
    if account.provider.capabilities().flow(wanted.flow).is_none() {
        return Some(Why::FlowNotServed);
    }
    if !account.provider.capabilities().takes(wanted.amount) {
        return Some(Why::AmountOutOfLimits);
    }
    if account.set_aside_until.is_some_and(|until| until > now) {
        return Some(Why::SetAside);
    }
    if tried.iter().any(|t| t.account_id == account.id) {
        return Some(Why::TriedAlready);
    }
    if tried.iter().any(|t| t.refusing_provider == Some(name)) {
        return Some(Why::ProviderRefusedAccount);
    }
    None
}
