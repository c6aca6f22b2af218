//! `/v1/routes`: how healthy your routes are, and which of them take payments now.

use actix_web::{HttpResponse, web};
use providers::order::Flow;
use serde::Serialize;
use utoipa::ToSchema;

use super::auth::{Caller, Scope};
use super::error::Problem;
use super::list::List;
use crate::app::App;
use crate::domain::Timestamp;
use crate::routing::health::{BreakerState, RouteId};

/// A route: an account, and how the payer pays over it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Route)]
pub struct RouteShown {
    /// `route`
    #[schema(example = "route")]
    object: &'static str,
    /// `acct_…`
    account: String,
    /// Its provider.
    provider: &'static str,
    /// How the payer pays.
    #[schema(value_type = String)]
    flow: Flow,
    /// Whether the account takes new payments at all: it is neither disabled nor set aside.
    enabled: bool,
    /// `closed`: takes payments. `open`: taken out, and probed. `trial`: one payment at a time.
    /// `ramping`: a growing share of payments.
    #[schema(value_type = String)]
    breaker: BreakerState,
    /// Since when; absent where nothing has ever happened.
    #[schema(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
    /// The part of calls that is believed to be answered, 0 to 1. What payers are refused for does
    /// not count.
    score: f64,
    /// 95 of 100 calls are answered within so many milliseconds; absent until there is history.
    p95_ms: Option<u32>,
    /// 99 of 100.
    p99_ms: Option<u32>,
    /// Calls on their way from the gateway that you asked.
    in_flight: u32,
    /// So many at the most: follows how fast they are answered. Absent until there was a call.
    max_in_flight: Option<u32>,
    /// So many calls a second at the most, since the provider has said that it is asked too often;
    /// absent otherwise.
    max_per_second: Option<u32>,
}

/// Your routes, by account and flow.
#[utoipa::path(get, path = "/v1/routes", tag = "Routing", operation_id = "list_routes",
    responses((status = 200, body = List<RouteShown>)))]
pub async fn list(app: web::Data<App>, caller: Caller) -> Result<HttpResponse, Problem> {
    caller.may_any(&[Scope::Admin, Scope::Pay, Scope::Finance])?;
    let now = app.clock.now();
    let accounts = app.directory.accounts_of(&caller.owner);
    let routes = accounts.iter().flat_map(|account| {
        let flows = account
            .provider
            .capabilities()
            .flows
            .iter()
            .map(|capability| capability.flow);
        flows.map(|flow| {
            let provider = account.provider.name();
            let route = RouteId {
                account_id: account.id.clone(),
                provider,
                flow,
            };
            let view = app.health.snapshot(&route);
            let pace = app.limiters.shown(&route, app.health.now_ms());
            RouteShown {
                object: "route",
                account: account.id.to_string(),
                provider: provider.as_str(),
                flow,
                enabled: !account.disabled
                    && account.set_aside_until.is_none_or(|until| until <= now),
                breaker: view.gate,
                since: Some(Timestamp(view.since_ms)).filter(|at| at.0 > 0),
                score: view.success,
                p95_ms: view.p95_ms,
                p99_ms: view.p99_ms,
                in_flight: view.in_flight,
                max_in_flight: pace.map(|pace| pace.limit),
                max_per_second: pace.and_then(|pace| pace.per_second),
            }
        })
    });

    Ok(HttpResponse::Ok().json(List {
        object: "list",
        data: routes.collect(),
        has_more: false,
    }))
}
