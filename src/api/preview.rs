//! `POST /v1/routing/preview`: which order of accounts a payment would get at this moment, and why,
//! by the very code that decides. Changes nothing: no turn is taken, no place of a day's limit.

use actix_web::{HttpResponse, web};
use providers::money::Money;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::auth::{Caller, Scope};
use super::body::RawBody;
use super::error::Problem;
use super::fields::{flow, providers_of};
use super::list;
use super::metadata::Metadata;
use crate::app::App;
use crate::domain::Timestamp;
use crate::payments;
use crate::payments::plan::{self, RoutingRequest};
use crate::routing::choose::{Candidate, Criteria};
use crate::routing::health::RouteId;
use crate::routing::score;

/// What `POST /v1/routing/preview` takes: the members of a payment that routing looks at.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PreviewRouting {
    /// Fen, from 1.
    amount: i64,
    /// How the payer would pay.
    flow: String,
    /// Only these providers.
    #[serde(default)]
    providers: Vec<String>,
    /// The merchant's own members.
    #[serde(default)]
    #[schema(value_type = Object)]
    metadata: Metadata,
    /// Another moment than now, for rules with hours and for maintenance windows, RFC 3339. Health
    /// and limits are those of now all the same, but for what was taken on another day.
    #[serde(default)]
    #[schema(format = DateTime)]
    at: Option<String>,
}

/// Which way a payment would go.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct RoutingPreview {
    /// Always `routing_preview`.
    pub object: &'static str,
    /// At which moment.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Which version of your routing decides.
    pub version: i32,
    /// The place of the rule that matches, from 0; null when none does.
    pub rule: Option<usize>,
    /// The rule's strategy, or `oldest_first`. With `weighted` the order is drawn anew for each
    /// payment and each preview.
    pub strategy: &'static str,
    /// `routed`; `not_able`: an offer would be parked, a charge would fail; `not_served`: the
    /// payment would be refused.
    pub result: &'static str,
    /// Your accounts: first those that would be asked, in this order, then those that would not.
    pub accounts: Vec<PreviewAccount>,
}

/// An account, as the payment would meet it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct PreviewAccount {
    /// `acct_…`
    pub account: String,
    /// At which provider.
    pub provider: &'static str,
    /// From 1; null when it would not be asked.
    pub position: Option<usize>,
    /// Why it would not be asked: `not_in_rule`, `not_asked_for`, `disabled`, `flow_not_served`,
    /// `amount_out_of_limits`, `set_aside`, `in_maintenance`, `day_limit_reached`, `crowded`,
    /// `rate_limited`, `breaker_open` or `on_trial`.
    pub skipped: Option<&'static str>,
    /// What orders it in `adaptive`, and breaks ties in `least_in_flight` and `lowest_fee`. Null
    /// when its health was not looked at.
    pub score: Option<f64>,
    /// `closed` (it takes payments), `ramping`, `trial` or `open` (it takes none). Null as above.
    pub gate: Option<&'static str>,
    /// Calls on their way from this gateway. Null as above.
    pub in_flight: Option<u32>,
    /// Its weight in the rule.
    pub weight: Option<i64>,
    /// Basis points.
    pub fee_bps: i32,
}

fn shown(candidate: &Candidate, position: Option<usize>) -> PreviewAccount {
    PreviewAccount {
        account: candidate.account.id.to_string(),
        provider: candidate.account.provider.name().as_str(),
        position,
        skipped: candidate
            .why
            .map(crate::routing::choose::SkipReason::as_str),
        score: candidate.score.map(score::shown),
        gate: candidate.view.map(|view| view.gate.into()),
        in_flight: candidate.view.map(|view| view.in_flight),
        weight: candidate.weight,
        fee_bps: candidate.account.fee_bps,
    }
}

/// The order of accounts that a payment would get, and why.
#[utoipa::path(post, path = "/v1/routing/preview", tag = "Routing",
    operation_id = "preview_routing", request_body = PreviewRouting,
    responses((status = 200, body = RoutingPreview)))]
pub async fn preview(
    app: web::Data<App>,
    caller: Caller,
    body: RawBody,
) -> Result<HttpResponse, Problem> {
    caller.may_any(&[Scope::Admin, Scope::Pay, Scope::Finance])?;
    let wanted = body.json::<PreviewRouting>()?;
    let max = app.config.payments.max_amount_fen;
    let amount = Money::fen(wanted.amount)
        .ok()
        .filter(|amount| (1..=max).contains(&amount.minor()));
    let range = || {
        Problem::invalid(
            "amount",
            format!("An amount is a whole number of fen from 1 to {max}."),
        )
    };

    let amount = amount.ok_or_else(range)?;
    let flow = flow(&wanted.flow)?;
    let providers = providers_of(&wanted.providers)?;
    let metadata = wanted.metadata.check()?;
    let at = wanted
        .at
        .as_deref()
        .map(|text| list::time("at", text))
        .transpose()?;

    let now = at.unwrap_or_else(|| app.clock.now());
    let asked = RoutingRequest {
        owner: &caller.owner,
        wanted: Criteria {
            flow,
            amount,
            providers: &providers,
            metadata: &metadata,
        },
        tried: &[],
        now,
    };

    let turn = |rule| app.directory.turns().peek(&caller.owner, rule);
    let look = |route: &RouteId| app.health.snapshot(route);
    let choice = plan::rank_routes(
        &app,
        asked,
        &look,
        &turn,
        &mut plan::chance().map_err(payments::Error::from)?,
    );

    let mut accounts: Vec<PreviewAccount> = choice
        .able
        .iter()
        .zip(1..)
        .map(|(candidate, position)| shown(candidate, Some(position)))
        .collect();

    accounts.extend(
        choice
            .skipped
            .iter()
            .map(|candidate| shown(candidate, None)),
    );

    for account in app.directory.accounts_of(&caller.owner).iter() {
        if !accounts.iter().any(|named| named.account == account.id) {
            let left_out = Candidate {
                account: account.clone(),
                weight: None,
                view: None,
                score: None,
                why: None,
            };
            accounts.push(PreviewAccount {
                skipped: Some("not_in_rule"),
                ..shown(&left_out, None)
            });
        }
    }

    Ok(HttpResponse::Ok().json(RoutingPreview {
        object: "routing_preview",
        at: now,
        version: choice.version,
        rule: choice.rule,
        strategy: choice.strategy,
        result: match (choice.account().is_some(), choice.served) {
            (true, _) => "routed",
            (false, true) => "not_able",
            (false, false) => "not_served",
        },
        accounts,
    }))
}
