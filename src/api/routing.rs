//! `/v1/routing`: which account is asked first for which payment, every version of it, and the way
//! back. A change takes effect on the next payment here, and within a second on every other
//! gateway.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use providers::order::Flow;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::auth::{Caller, Scope};
use super::body::RawBody;
use super::error::Problem;
use super::list::{List, ListQuery};
use super::request::Id;
use crate::app::App;
use crate::domain::Timestamp;
use crate::routing::coverage;
use crate::routing::rule::{ProviderWindow, Routing, Rule};
use crate::routing::validate::validate;
use crate::store::RoutingRow;

/// What `PUT /v1/routing` takes: all of it is replaced.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeRouting {
    /// The first rule that matches decides. A payment that none matches goes to all accounts,
    /// oldest first.
    rules: Vec<Rule>,
    /// When all accounts at a provider take no new payments. Windows of one provider must not
    /// overlap.
    #[serde(default)]
    maintenance: Vec<ProviderWindow>,
    /// The version that you have seen; a change made meanwhile by somebody else is refused with
    /// 409. Without it, the newest is replaced.
    #[serde(default)]
    version: i32,
    /// Go through with it even if a flow, or a part of its payments, is left without any account.
    #[serde(default)]
    force: bool,
}

/// What `POST /v1/routing/rollback` takes.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RollBackRouting)]
pub struct Rollback {
    /// Whose rules and windows are taken up again, as a new version.
    version: i32,
    /// Go through with it even if a flow, or a part of its payments, is left without any account.
    #[serde(default)]
    force: bool,
}

/// A version of a routing.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct RoutingVersion {
    /// Always `routing_version`.
    pub object: &'static str,
    /// From 1, one more with every change.
    pub version: i32,
    /// Its rules.
    pub rules: Vec<Rule>,
    /// When providers are in maintenance.
    pub maintenance: Vec<ProviderWindow>,
    /// Who made it: the name of the key.
    pub changed_by: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub changed_at: Timestamp,
    /// The version that a rollback took up again.
    pub restored_from: Option<i32>,
}

fn shown(row: RoutingRow) -> Result<RoutingVersion, Problem> {
    let routing = stored(row.rules)?;
    Ok(RoutingVersion {
        object: "routing_version",
        version: row.version,
        rules: routing.rules,
        maintenance: routing.maintenance,
        changed_by: row.changed_by,
        changed_at: row.changed_at,
        restored_from: row.restored_from,
    })
}

fn stored(rules: serde_json::Value) -> Result<Routing, Problem> {
    serde_json::from_value(rules).map_err(|error| {
        tracing::error!(%error, "stored routing cannot be read");
        Problem::unavailable()
    })
}

/// Your routing as it is now.
#[utoipa::path(get, path = "/v1/routing", tag = "Routing", operation_id = "get_routing",
    responses((status = 200, body = Routing)))]
pub async fn read(app: web::Data<App>, caller: Caller) -> Result<HttpResponse, Problem> {
    caller.may_any(&[Scope::Admin, Scope::Pay, Scope::Finance])?;
    Ok(HttpResponse::Ok().json(&*app.directory.routing_of(&caller.owner)))
}

/// Sets your routing, as a new version. One that leaves a flow without a route is refused, unless
/// forced.
#[utoipa::path(put, path = "/v1/routing", tag = "Routing", operation_id = "set_routing",
    request_body = ChangeRouting,
    responses((status = 200, body = Routing),
        (status = 409, body = Problem, content_type = "application/problem+json",
            description = "version_conflict"),
        (status = 422, body = Problem, content_type = "application/problem+json",
            description = "invalid_parameter, flow_without_route")))]
pub async fn write(
    app: web::Data<App>,
    caller: Caller,
    body: RawBody,
) -> Result<HttpResponse, Problem> {
    caller.may(Scope::Admin)?;
    let wanted = body.json::<ChangeRouting>()?;
    if wanted.version < 0 {
        return Err(Problem::invalid("version", "A version is not negative."));
    }
    let next = Routing {
        rules: wanted.rules,
        maintenance: wanted.maintenance,
        version: wanted.version,
    };
    let written = replace(&app, &caller, next, wanted.force, None).await?;
    Ok(HttpResponse::Ok().json(written))
}

/// Every version of your routing, newest first, with who made it and when. `starting_after` is a
/// version.
#[utoipa::path(get, path = "/v1/routing/versions", tag = "Routing",
    operation_id = "list_routing_versions",
    params(("limit" = Option<u64>, Query, minimum = 1, maximum = 100,
        description = "So many entries; 20 if not given"),
        ("starting_after" = Option<i32>, Query, description = "Only versions before this one")),
    responses((status = 200, body = List<RoutingVersion>)))]
pub async fn versions(
    app: web::Data<App>,
    caller: Caller,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    caller.may_any(&[Scope::Admin, Scope::Finance])?;
    let query = ListQuery::read(&request, &["limit", "starting_after"])?;
    let limit = query.limit()?;
    let not_one = |_| Problem::invalid("starting_after", "The number of a version is needed.");
    let before = query
        .starting_after
        .as_deref()
        .map(str::parse)
        .transpose()
        .map_err(not_one)?;

    let rows = app
        .store
        .routing_versions(&caller.owner, before, limit.saturating_add(1))
        .await?;
    let versions = rows.into_iter().map(shown).collect::<Result<Vec<_>, _>>()?;

    Ok(HttpResponse::Ok().json(List::page(versions, limit)))
}

/// One version of your routing.
#[utoipa::path(get, path = "/v1/routing/versions/{id}", tag = "Routing",
    operation_id = "get_routing_version",
    params(("id" = i32, Path, description = "Its number")),
    responses((status = 200, body = RoutingVersion)))]
pub async fn version(app: web::Data<App>, caller: Caller, id: Id) -> Result<HttpResponse, Problem> {
    caller.may_any(&[Scope::Admin, Scope::Finance])?;
    let none = || Problem::not_found("version");
    let version = id.parse().map_err(|_| none())?;
    let row = app
        .store
        .routing_version(&caller.owner, version)
        .await?
        .ok_or_else(none)?;
    Ok(HttpResponse::Ok().json(shown(row)?))
}

/// Takes the rules and windows of an earlier version up again, as a new version.
#[utoipa::path(post, path = "/v1/routing/rollback", tag = "Routing",
    operation_id = "roll_back_routing", request_body = Rollback,
    responses((status = 200, body = Routing),
        (status = 409, body = Problem, content_type = "application/problem+json",
            description = "version_conflict"),
        (status = 422, body = Problem, content_type = "application/problem+json",
            description = "invalid_parameter, flow_without_route")))]
pub async fn rollback(
    app: web::Data<App>,
    caller: Caller,
    body: RawBody,
) -> Result<HttpResponse, Problem> {
    caller.may(Scope::Admin)?;
    let wanted = body.json::<Rollback>()?;
    let row = app
        .store
        .routing_version(&caller.owner, wanted.version)
        .await?;
    let row = row.ok_or_else(|| Problem::invalid("version", "There is no such version."))?;
    let next = Routing {
        version: 0,
        ..stored(row.rules)?
    };
    let written = replace(&app, &caller, next, wanted.force, Some(row.version)).await?;
    Ok(HttpResponse::Ok().json(written))
}

/// Makes `next` the newest version, if it is in order. Its `version` is the one that the caller has
/// seen, or 0.
async fn replace(
    app: &App,
    caller: &Caller,
    next: Routing,
    force: bool,
    restored_from: Option<i32>,
) -> Result<Routing, Problem> {
    let _turn = app.settings_turns.of(&caller.owner.to_string()).await;
    // What another gateway set since the last look counts, too.
    app.directory.refresh().await?;
    let accounts = app.directory.accounts_of(&caller.owner);
    let own: Vec<&str> = accounts.iter().map(|account| account.id.as_str()).collect();
    validate(&next, &own)?;
    let current = app.directory.routing_of(&caller.owner);
    let conflict = || {
        let detail = "Somebody else has changed the routing since; read it again.";
        Problem::new(StatusCode::CONFLICT, "version_conflict", detail).about("version")
    };
    if next.version != 0 && next.version != current.version {
        return Err(conflict());
    }
    let gaps = |routing| coverage::gaps(&accounts, routing, &|account| !account.disabled);

    if let Some(flow) = coverage::newly_open(&gaps(&current), &gaps(&next)).filter(|_| !force) {
        let param = if restored_from.is_some() {
            "version"
        } else {
            "rules"
        };
        return Err(without_route(flow, param));
    }

    let next = Routing {
        version: current.version.saturating_add(1),
        ..next
    };
    let row = RoutingRow {
        version: next.version,
        rules: serde_json::to_value(&next).map_err(|_| Problem::unavailable())?,
        changed_by: caller.key_name.clone(),
        changed_at: app.clock.now(),
        restored_from,
    };

    if !app.store.add_routing(&caller.owner, &row).await? {
        return Err(conflict());
    }
    app.directory.changed().await?;
    tracing::info!(owner = %caller.owner, version = next.version, by = caller.key_name,
        "routing changed");

    Ok(next)
}

/// A change that would cut payments off.
pub(super) fn without_route(flow: Flow, param: &str) -> Problem {
    let detail = format!(
        "After this, some or all payments of the flow {:?} would have no account; give force: true \
        if that is what you want.",
        flow.as_ref()
    );
    Problem::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        "flow_without_route",
        detail,
    )
    .about(param)
}
