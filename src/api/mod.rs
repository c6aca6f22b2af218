//! The HTTP side: every route on one screen.

pub mod accounts;
pub mod admission;
pub mod auth;
pub mod body;
pub mod error;
pub mod events;
pub mod idempotency;
pub mod incidents;
pub mod ledger;
pub mod list;
pub mod new_payment;
pub mod notifications;
pub mod operations;
pub mod payments;
pub mod preview;
pub mod refunds;
pub mod request;
pub mod routes;
pub mod routing;
pub mod status;
pub mod system;
pub mod webhooks;

use actix_web::Resource;
use actix_web::web::{self, ServiceConfig};
use utoipa::OpenApi as _;
use utoipa_swagger_ui::SwaggerUi;

use error::Problem;

/// All routes.
pub fn routes(config: &mut ServiceConfig) {
    config
        .service(at("/v1/payments", "GET, POST").get(payments::list).post(payments::create))
        .service(at("/v1/payments/{id}", "GET").get(payments::read))
        .service(at("/v1/payments/{id}/offers", "POST").post(payments::offer))
        .service(at("/v1/payments/{id}/cancel", "POST").post(payments::cancel))
        .service(at("/v1/payments/{id}/refunds", "POST").post(refunds::create))
        .service(at("/v1/refunds", "GET").get(refunds::list))
        .service(at("/v1/refunds/{id}", "GET").get(refunds::read))
        .service(at("/v1/accounts", "GET, POST").get(accounts::list).post(accounts::create))
        .service(at("/v1/accounts/{id}", "PATCH").patch(accounts::change))
        .service(at("/v1/routes", "GET").get(routes::list))
        .service(at("/v1/routing", "GET, PUT").get(routing::read).put(routing::write))
        .service(at("/v1/routing/versions", "GET").get(routing::versions))
        .service(at("/v1/routing/versions/{id}", "GET").get(routing::version))
        .service(at("/v1/routing/rollback", "POST").post(routing::rollback))
        .service(at("/v1/routing/preview", "POST").post(preview::preview))
        .service(at("/v1/webhook_endpoints", "GET, POST").get(webhooks::list).post(webhooks::create))
        .service(
            at("/v1/webhook_endpoints/{id}", "GET, PATCH, DELETE")
                .get(webhooks::read)
                .patch(webhooks::change)
                .delete(webhooks::remove),
        )
        .service(at("/v1/webhook_endpoints/{id}/rotate_secret", "POST").post(webhooks::rotate))
        .service(at("/v1/webhook_endpoints/{id}/test", "POST").post(webhooks::test))
        .service(at("/v1/webhook_endpoints/{id}/replay", "POST").post(events::replay_all))
        .service(at("/v1/notify_secret", "GET").get(webhooks::notify_secret))
        .service(at("/v1/notify_secret/rotate", "POST").post(webhooks::rotate_notify_secret))
        .service(at("/v1/events", "GET").get(events::list))
        .service(at("/v1/events/{id}", "GET").get(events::read))
        .service(at("/v1/events/{id}/replay", "POST").post(events::replay))
        .service(at("/v1/ledger", "GET").get(ledger::list))
        .service(at("/v1/ledger/balances", "GET").get(ledger::balances))
        .service(at("/v1/operations", "GET").get(operations::list))
        .service(at("/v1/operations/{id}", "GET").get(operations::read))
        .service(at("/v1/operations/{id}/resolve", "POST").post(operations::resolve))
        .service(at("/v1/deliveries", "GET").get(events::deliveries))
        .service(at("/v1/incidents", "GET").get(incidents::list))
        .service(at("/v1/incidents/{id}", "GET").get(incidents::read))
        .service(
            web::resource(["/notifications/{account_id}", "/notifications/{account_id}/refund"])
                .post(notifications::receive)
                .default_service(web::to(notifications::wrong_method)),
        )
        .service(at("/healthz", "GET, HEAD").get(system::healthz).head(system::healthz))
        .service(at("/readyz", "GET, HEAD").get(system::readyz).head(system::readyz))
        .service(at("/status", "GET, HEAD").get(status::page).head(status::page))
        .service(at("/status.json", "GET, HEAD").get(status::json).head(status::json))
        .service(at("/metrics", "GET").get(system::metrics))
        .service(web::redirect("/docs", "/docs/"))
        .service(SwaggerUi::new("/docs/{_:.*}").url("/openapi.json", system::ApiDoc::openapi()))
        .default_service(web::to(system::nothing_here));
}

/// A path that answers with 405 to all methods but those that are `allow`ed.
fn at(path: &str, allow: &'static str) -> Resource {
    web::resource(path).default_service(web::to(move || async move { Err::<&str, _>(Problem::wrong_method(allow)) }))
}
