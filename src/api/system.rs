//! Health, metrics and documentation.

use actix_web::{HttpResponse, web};
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::json;
use utoipa::OpenApi;

use super::error::Problem;
use super::readiness::{Readiness, Reason};
use crate::app::App;

/// The process lives.
#[utoipa::path(get, path = "/healthz", tag = "System", operation_id = "get_health", responses((status = 200)))]
pub async fn healthz() -> HttpResponse {
    HttpResponse::Ok().json(json!({ "status": "ok" }))
}

/// The gateway can take payments: its database answers and takes commits, its clock is right, and it is not stopping.
#[utoipa::path(get, path = "/readyz", tag = "System", operation_id = "get_readiness", responses((status = 200), (status = 503)))]
pub async fn readyz(app: web::Data<App>, readiness: web::Data<Readiness>) -> HttpResponse {
    let reasons = readiness.reasons(&app).await;
    let body = json!({
        "status": if reasons.is_empty() { "ready" } else { "not_ready" },
        "reasons": reasons,
        "database": if reasons.contains(&Reason::DatabaseDown) { "down" } else { "ok" },
        "clock_skew_ms": app.clock.skew_ms(),
        "providers_ahead_ms": app.clock.providers_ahead_ms(),
        "draining": reasons.contains(&Reason::Draining),
    });
    if reasons.is_empty() { HttpResponse::Ok().json(body) } else { HttpResponse::ServiceUnavailable().json(body) }
}

/// Prometheus metrics.
#[utoipa::path(get, path = "/metrics", tag = "System", operation_id = "get_metrics", responses((status = 200, content_type = "text/plain")))]
pub async fn metrics(app: web::Data<App>, handle: web::Data<PrometheusHandle>) -> HttpResponse {
    app.jobs.publish();
    handle.run_upkeep();
    HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(handle.render())
}

/// The API, described by its own code.
#[derive(Debug, OpenApi)]
#[openapi(
    info(title = "Interlock", description = "One payment API over Alipay, WeChat Pay and UnionPay."),
    paths(
        super::payments::create,
        super::payments::read,
        super::payments::list,
        super::payments::offer,
        super::payments::cancel,
        super::refunds::create,
        super::refunds::read,
        super::refunds::list,
        super::accounts::list,
        super::accounts::create,
        super::accounts::change,
        super::routes::list,
        super::routing::read,
        super::routing::write,
        super::routing::versions,
        super::routing::version,
        super::routing::rollback,
        super::preview::preview,
        super::webhooks::list,
        super::webhooks::create,
        super::webhooks::read,
        super::webhooks::change,
        super::webhooks::remove,
        super::webhooks::rotate,
        super::webhooks::test,
        super::webhooks::notify_secret,
        super::webhooks::rotate_notify_secret,
        super::events::list,
        super::events::read,
        super::events::replay,
        super::events::replay_all,
        super::events::deliveries,
        super::keys::list,
        super::keys::create,
        super::keys::revoke,
        super::incidents::list,
        super::incidents::read,
        super::status::page,
        super::status::json,
        super::ledger::list,
        super::ledger::balances,
        super::operations::list,
        super::operations::read,
        super::operations::resolve,
        healthz,
        readyz,
        metrics,
    ),
    modifiers(&Security)
)]
pub struct ApiDoc;

/// Every call but the system's needs a key.
struct Security;

impl utoipa::Modify for Security {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        openapi.components.get_or_insert_with(Default::default).add_security_scheme("api_key", scheme);
        openapi.security = Some(vec![SecurityRequirement::new::<_, [&str; 0], &str>("api_key", [])]);
    }
}

/// Whatever has no route.
pub async fn nothing_here() -> Result<HttpResponse, Problem> {
    Err(super::place::nothing_here())
}
