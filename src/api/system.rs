//! Health, metrics and documentation.

use actix_web::{HttpResponse, web};
use metrics_exporter_prometheus::PrometheusHandle;
use serde::Serialize;
use utoipa::ToSchema;

use super::error::Problem;
use super::readiness::{Readiness, Reason};
use crate::app::App;

/// That the process lives.
#[derive(Debug, Serialize, ToSchema)]
pub struct Health {
    /// Always `ok`.
    status: &'static str,
}

/// Whether a gateway can take payments.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Readiness)]
pub struct ReadinessView {
    /// `ready` or `not_ready`.
    status: &'static str,
    /// Why it cannot.
    reasons: Vec<Reason>,
    /// `ok` or `down`.
    database: &'static str,
    /// How far this machine's clock is ahead of the database's.
    clock_skew_ms: i64,
    /// How far every provider's clock is ahead of this gateway's at the least; 0 while none has
    /// told.
    providers_ahead_ms: i64,
    /// Whether it is stopping.
    draining: bool,
}

/// The process lives.
#[utoipa::path(get, path = "/healthz", tag = "System", operation_id = "get_health", security(()),
    responses((status = 200, body = Health)))]
pub async fn healthz() -> HttpResponse {
    HttpResponse::Ok().json(Health { status: "ok" })
}

/// The gateway can take payments: its database answers and takes commits, its clock is right, and
/// it is not stopping.
#[utoipa::path(get, path = "/readyz", tag = "System", operation_id = "get_readiness", security(()),
    responses((status = 200, body = ReadinessView), (status = 503, body = ReadinessView)))]
pub async fn readyz(app: web::Data<App>, readiness: web::Data<Readiness>) -> HttpResponse {
    let reasons = readiness.reasons(&app).await;
    let is_ready = reasons.is_empty();
    let body = ReadinessView {
        status: if is_ready { "ready" } else { "not_ready" },
        database: if reasons.contains(&Reason::DatabaseDown) {
            "down"
        } else {
            "ok"
        },
        clock_skew_ms: app.clock.skew_ms(),
        providers_ahead_ms: app.clock.providers_ahead_ms(),
        draining: reasons.contains(&Reason::Draining),
        reasons,
    };

    if is_ready {
        HttpResponse::Ok().json(body)
    } else {
        HttpResponse::ServiceUnavailable().json(body)
    }
}

/// Prometheus metrics.
#[utoipa::path(get, path = "/metrics", tag = "System", operation_id = "get_metrics", security(()),
    responses((status = 200, body = String, content_type = "text/plain")))]
pub async fn metrics(app: web::Data<App>, handle: web::Data<PrometheusHandle>) -> HttpResponse {
    app.jobs.publish();
    handle.run_upkeep();
    HttpResponse::Ok()
        .content_type("text/plain; version=0.0.4; charset=utf-8")
        .body(handle.render())
}

/// Whatever has no route.
pub async fn nothing_here() -> Result<HttpResponse, Problem> {
    Err(super::place::nothing_here())
}
