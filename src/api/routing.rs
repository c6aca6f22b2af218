//! `/v1/routing`: which provider comes first. A change takes effect on the next payment.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};

use super::auth::{Caller, Scope};
use super::body::RawBody;
use super::error::Problem;
use crate::app::App;
use crate::routing::rule::Routing;
use crate::store::RoutingRow;

const MAX_RULES: usize = 50;

/// Your routing as it is now.
#[utoipa::path(get, path = "/v1/routing", tag = "Routing", responses((status = 200, body = Routing)))]
pub async fn read(app: web::Data<App>, caller: Caller) -> Result<HttpResponse, Problem> {
    caller.may_any(&[Scope::Admin, Scope::Pay, Scope::Finance])?;
    Ok(HttpResponse::Ok().json(&*app.directory.routing_of(&caller.merchant_id)))
}

/// Sets your routing. `version` is the one you have seen; without it, the newest is replaced.
#[utoipa::path(put, path = "/v1/routing", tag = "Routing", request_body = Routing,
    responses((status = 200, body = Routing), (status = 409, body = Problem, content_type = "application/problem+json", description = "version_conflict")))]
pub async fn write(app: web::Data<App>, caller: Caller, body: RawBody) -> Result<HttpResponse, Problem> {
    caller.may(Scope::Admin)?;
    let wanted = body.json::<Routing>()?;
    check(&app, &caller, &wanted)?;
    // What another gateway set since the last look counts, too.
    app.directory.refresh().await?;
    let current = app.directory.routing_of(&caller.merchant_id);
    let conflict = || {
        let detail = "Somebody else has changed the routing since; read it again.";
        Problem::new(StatusCode::CONFLICT, "version_conflict", detail).about("version")
    };
    if wanted.version != 0 && wanted.version != current.version {
        return Err(conflict());
    }
    let next = Routing { version: current.version.saturating_add(1), ..wanted };
    let row = RoutingRow {
        version: next.version,
        rules: serde_json::to_value(&next).map_err(|_| Problem::unavailable())?,
        changed_by: caller.key_name.clone(),
        changed_at: app.clock.now(),
    };
    if !app.store.add_routing(&caller.merchant_id, &row).await? {
        return Err(conflict());
    }
    app.directory.changed().await?;
    Ok(HttpResponse::Ok().json(next))
}

fn check(app: &App, caller: &Caller, wanted: &Routing) -> Result<(), Problem> {
    if wanted.rules.len() > MAX_RULES {
        return Err(Problem::invalid("rules", format!("At most {MAX_RULES} rules.")));
    }
    if wanted.version < 0 {
        return Err(Problem::invalid("version", "A version is not negative."));
    }
    let own = app.directory.accounts_of(&caller.merchant_id);
    for (r, rule) in wanted.rules.iter().enumerate() {
        if rule.accounts.is_empty() {
            return Err(Problem::invalid(format!("rules[{r}].accounts"), "A rule names at least one account."));
        }
        for (a, account) in rule.accounts.iter().enumerate() {
            let param = format!("rules[{r}].accounts[{a}].id");
            if !own.iter().any(|known| known.id == account.id) {
                return Err(Problem::invalid(param, "You have no such account."));
            }
            if rule.accounts.iter().take(a).any(|earlier| earlier.id == account.id) {
                return Err(Problem::invalid(param, "An account is named once in a rule."));
            }
        }
    }
    Ok(())
}
