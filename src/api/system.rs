//! Health, metrics and documentation.

use actix_web::{HttpResponse, web};
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::json;
use utoipa::OpenApi;

use super::error::Problem;
use crate::app::App;

/// Beyond this skew between this machine and the database nothing may be decided by time.
const MAX_SKEW_MS: i64 = 120_000;

/// The process lives.
#[utoipa::path(get, path = "/healthz", tag = "System", responses((status = 200)))]
pub async fn healthz() -> HttpResponse {
    HttpResponse::Ok().json(json!({ "status": "ok" }))
}

/// The gateway can take payments: its database answers, its clock is right, and it is not stopping.
#[utoipa::path(get, path = "/readyz", tag = "System", responses((status = 200), (status = 503)))]
pub async fn readyz(app: web::Data<App>) -> HttpResponse {
    let database = app.store.time().await;
    let skew_ms = app.clock.skew_ms();
    let draining = app.leaving.is_cancelled() || app.draining.is_cancelled();
    let ready = database.is_ok() && skew_ms.abs() <= MAX_SKEW_MS && !draining;
    let body = json!({
        "status": if ready { "ready" } else { "not_ready" },
        "database": if database.is_ok() { "ok" } else { "down" },
        "clock_skew_ms": skew_ms,
        "draining": draining,
    });
    if ready { HttpResponse::Ok().json(body) } else { HttpResponse::ServiceUnavailable().json(body) }
}

/// Prometheus metrics.
#[utoipa::path(get, path = "/metrics", tag = "System", responses((status = 200, content_type = "text/plain")))]
pub async fn metrics(handle: web::Data<PrometheusHandle>) -> HttpResponse {
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
    Err(Problem::not_found("page"))
}
