//! The HTTP side: every path in one list.

pub mod accounts;
pub mod admission;
pub mod auth;
pub mod body;
pub mod connections;
pub mod describe;
mod docs;
pub mod error;
pub mod events;
mod fields;
mod fingerprint;
pub mod idempotency;
pub mod incidents;
pub mod keys;
pub mod ledger;
pub mod list;
mod metadata;
pub mod new_payment;
pub mod notifications;
mod objects;
pub mod operations;
pub mod payments;
pub mod place;
pub mod preview;
pub mod readiness;
mod reading;
pub mod refunds;
mod repeated;
pub mod request;
pub mod routes;
pub mod routing;
pub mod status;
pub mod strangers;
pub mod system;
pub mod webhooks;

use actix_web::web::{self, ServiceConfig};

use place::Place;
pub use place::Side;

/// All routes of an address. What stands behind `admin()` needs that scope; where administration
/// has an address of its own it answers there alone, beside everything else, and is not found on
/// the public one.
pub fn routes(side: Side) -> impl FnOnce(&mut ServiceConfig) {
    let at = move |path| Place::new(side, path);

    move |config| {
        config
            .service(
                at("/v1/payments")
                    .get(payments::list)
                    .post(payments::create),
            )
            .service(at("/v1/payments/{id}").get(payments::read))
            .service(at("/v1/payments/{id}/offers").post(payments::offer))
            .service(at("/v1/payments/{id}/cancel").post(payments::cancel))
            .service(at("/v1/payments/{id}/refunds").post(refunds::create))
            .service(at("/v1/refunds").get(refunds::list))
            .service(at("/v1/refunds/{id}").get(refunds::read))
            .service(
                at("/v1/accounts")
                    .get(accounts::list)
                    .admin()
                    .post(accounts::create),
            )
            .service(at("/v1/accounts/{id}").admin().patch(accounts::change))
            .service(at("/v1/routes").get(routes::list))
            .service(
                at("/v1/routing")
                    .get(routing::read)
                    .admin()
                    .put(routing::write),
            )
            .service(at("/v1/routing/versions").get(routing::versions))
            .service(at("/v1/routing/versions/{id}").get(routing::version))
            .service(at("/v1/routing/rollback").admin().post(routing::rollback))
            .service(at("/v1/routing/preview").post(preview::preview))
            .service(
                at("/v1/webhook_endpoints")
                    .admin()
                    .get(webhooks::list)
                    .post(webhooks::create),
            )
            .service(
                at("/v1/webhook_endpoints/{id}")
                    .admin()
                    .get(webhooks::read)
                    .patch(webhooks::change)
                    .delete(webhooks::remove),
            )
            .service(
                at("/v1/webhook_endpoints/{id}/rotate_secret")
                    .admin()
                    .post(webhooks::rotate),
            )
            .service(
                at("/v1/webhook_endpoints/{id}/test")
                    .admin()
                    .post(webhooks::test),
            )
            .service(
                at("/v1/webhook_endpoints/{id}/replay")
                    .admin()
                    .post(events::replay_all),
            )
            .service(at("/v1/notify_secret").admin().get(webhooks::notify_secret))
            .service(
                at("/v1/notify_secret/rotate")
                    .admin()
                    .post(webhooks::rotate_notify_secret),
            )
            .service(at("/v1/keys").admin().get(keys::list).post(keys::create))
            .service(at("/v1/keys/{id}").admin().delete(keys::revoke))
            .service(at("/v1/events").get(events::list))
            .service(at("/v1/events/{id}").get(events::read))
            .service(at("/v1/events/{id}/replay").post(events::replay))
            .service(at("/v1/ledger").get(ledger::list))
            .service(at("/v1/ledger/balances").get(ledger::balances))
            .service(at("/v1/operations").get(operations::list))
            .service(at("/v1/operations/{id}").get(operations::read))
            .service(at("/v1/operations/{id}/resolve").post(operations::resolve))
            .service(at("/v1/deliveries").get(events::deliveries))
            .service(at("/v1/incidents").get(incidents::list))
            .service(at("/v1/incidents/{id}").get(incidents::read))
            .service(
                web::resource([
                    "/notifications/{account_id}",
                    "/notifications/{account_id}/refund",
                ])
                .post(notifications::receive)
                .default_service(web::to(notifications::wrong_method)),
            )
            .service(at("/healthz").get(system::healthz).head(system::healthz))
            .service(at("/readyz").get(system::readyz).head(system::readyz))
            .service(at("/status").get(status::page).head(status::page))
            .service(at("/status.json").get(status::json).head(status::json))
            .service(at("/metrics").admin().get(system::metrics))
            .configure(docs::routes)
            .default_service(web::to(system::nothing_here));
    }
}
