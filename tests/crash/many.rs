//! A gateway that is killed with its hands full, and one that is held up instead of killed.

use futures_util::future::join_all;
use serde_json::Value;

use super::audit::audit;
use super::stage::{ALL_LEASES_ARE_OVER_S, Run, Stage};
use crate::helpers::{attempts, fresh, live, order};

const MANY: usize = 20;

/// So many different requests, each with its key.
fn requests() -> Vec<(String, Value)> {
    (0..MANY).map(|_| (fresh("key"), order())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_payments_in_flight_at_the_kill_are_finished_once_each() {
    for (point, nth) in [("pay_after_call", 1), ("pay_after_outcome_commit", 7)] {
        let stage = Stage::new().await;
        let mut doomed = stage
            .doomed(Run {
                point,
                nth,
                first: "wechatpay",
                client_returns: true,
            })
            .await;
        let requests = requests();
        let answers = join_all(
            requests
                .iter()
                .map(|(key, body)| doomed.client.try_post("/v1/payments", key, body)),
        )
        .await;
        doomed.died().await;
        assert!(answers.iter().any(Result::is_err), "some were in flight");

        let app = stage.restart().await;
        // Every other client asks again, all at once; the others have gone.
        let returning = join_all(
            requests
                .iter()
                .step_by(2)
                .map(|(key, body)| app.repeat("/v1/payments", key, body)),
        )
        .await;
        app.advance(ALL_LEASES_ARE_OVER_S).await;
        let made = app.payments().await;
        for answer in &returning {
            assert!(made.iter().any(|id| answer["id"] == *id), "{answer:#}");
        }
        for answer in answers.into_iter().flatten() {
            assert!(
                made.iter().any(|id| answer.expect(201)["id"] == *id),
                "a payment that was answered is gone"
            );
        }
        for id in &made {
            let offered = app.client.until_status(id, "requires_action").await;
            assert_eq!(live(&offered), 1);
            app.control.pay(&offered).await;
        }
        for id in &made {
            app.client.until_status(id, "succeeded").await;
        }
        app.pay_everything().await;
        audit(&app, false).await;
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_killed_in_a_storm_of_notifications_loses_none() {
    for (point, nth) in [("notify_before_commit", 5), ("notify_after_commit", 10)] {
        let stage = Stage::new().await;
        let mut doomed = stage
            .doomed(Run {
                point,
                nth,
                first: "alipay",
                client_returns: true,
            })
            .await;
        let requests = requests();
        let offered = join_all(requests.iter().enumerate().map(|(n, (key, body))| {
            let mut body = body.clone();
            body["providers"] =
                serde_json::json!([if n % 2 == 0 { "alipay" } else { "wechatpay" }]);
            let client = doomed.client.clone();
            async move { client.post("/v1/payments", key, &body).await.expect(201) }
        }))
        .await;
        join_all(offered.iter().map(|payment| stage.control.pay(payment))).await;
        doomed.died().await;

        let app = stage.restart().await;
        app.advance(ALL_LEASES_ARE_OVER_S).await;
        for payment in &offered {
            app.client
                .until_status(payment["id"].as_str().unwrap(), "succeeded")
                .await;
        }
        audit(&app, true).await;
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_held_up_beyond_its_lease_sends_nothing() {
    let stage = Stage::new().await;
    // Its lease is 1.2 s, and a second later the resolver judges; the worker wakes up after 3 s.
    let env = [
        (
            "INTERLOCK_HOLD_POINT",
            "pay_after_first_commit:3000".to_owned(),
        ),
        ("INTERLOCK__PAYMENTS__OFFER_TIMEOUT_MS", "1000".to_owned()),
        ("INTERLOCK__PAYMENTS__CALL_GRACE_MS", "200".to_owned()),
    ];

    let gateway = stage.gateway(&env).await;
    let (key, body) = (fresh("key"), order());
    let payment = gateway.client.post("/v1/payments", &key, &body).await;
    assert!([201, 202].contains(&payment.status.as_u16()), "{payment:?}");

    let id = payment.json()["id"].as_str().unwrap().to_owned();
    let offered = gateway.client.until_status(&id, "requires_action").await;
    assert!(attempts(&offered).len() > 1, "{offered:#}");

    let held_up = &offered["attempts"][0]["provider_order_no"];
    let orders = stage.control.orders().await;

    assert!(
        !orders.is_empty() && orders.iter().all(|order| order["order_no"] != *held_up),
        "{orders:#?}"
    );

    gateway.terminate().await;
    let app = stage.restart().await;
    app.control.pay(&offered).await;
    app.client.until_status(&id, "succeeded").await;
    assert_eq!(app.repeat("/v1/payments", &key, &body).await["id"], id);

    audit(&app, true).await;
    app.stop().await;
}
