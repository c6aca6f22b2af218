//! When no provider is able, a payment is parked: it goes on by itself, or expires and says so.

use reqwest::Method;
use serde_json::{Value, json};

use super::{ORDERS, Order, PAST_DEADLINES_S, id, order_no};
use crate::helpers::facts::{Facts, Watch, taken_fen};
use crate::helpers::{TestApp, attempts, live, order};

/// Breaks both providers; returns the faults' ids in the order of the names.
async fn break_both(app: &TestApp, names: [&str; 2], kind: &str) -> [u64; 2] {
    let mut ids = [0; 2];
    for (id, provider) in ids.iter_mut().zip(names) {
        *id = app
            .control
            .fault(json!({"provider": provider, "kind": kind}))
            .await["id"]
            .as_u64()
            .unwrap();
    }
    ids
}

async fn park(app: &TestApp) -> Value {
    let mut body = order();
    body["providers"] = json!(["alipay", "wechatpay"]);
    let parked = app.client.pay(&body).await.expect(202);
    assert_eq!(parked["status"], "created");
    assert!(parked["queue"].is_object(), "{parked}");
    assert_eq!(
        (parked["next_action"]["type"].as_str(), live(&parked)),
        (Some("none"), 0)
    );
    assert_eq!(
        parked["attempts"].as_array().unwrap().len(),
        2,
        "both were tried: {parked}"
    );
    parked
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_that_nobody_takes_is_parked_and_goes_on_by_itself_when_a_provider_returns() {
    for names in ORDERS {
        for (kind, status) in [("refuse", "dead"), ("http_500", "abandoned")] {
            let app = TestApp::start().await;
            let [first, _] = Order::set(&app, names).await.names;
            let [fault, _] = break_both(&app, names, kind).await;
            let watch = Watch::start(&app).await;
            let parked = park(&app).await;
            assert!(
                attempts(&parked).iter().all(|(_, s)| s == status),
                "{parked}"
            );
            // Nobody asks, and nobody has to: it is tried again, over all routes.
            app.advance(3).await;
            let again =
                |p: &Value| p["attempts"].as_array().unwrap().len() >= 4 && p["queue"].is_object();
            app.client.until(id(&parked), again).await;
            let (mended, _) = app
                .control
                .call(Method::DELETE, &format!("/faults?id={fault}"), None)
                .await;
            assert_eq!(mended, 200);
            app.advance(10).await;
            let offered = app
                .client
                .until_status(id(&parked), "requires_action")
                .await;
            assert_eq!(
                (offered["provider"].clone(), live(&offered)),
                (json!(first), 1)
            );
            assert_eq!(offered["queue"], Value::Null);
            app.control.pay(&offered).await;
            app.client.until_status(id(&parked), "succeeded").await;
            assert_eq!(taken_fen(&app).await, 8888);
            let told = Facts::of(&app).await.told(id(&parked)).await;
            assert_eq!(told, ["payment.requires_action", "payment.succeeded"]);
            watch.stop().await;
            app.stop().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parked_payment_expires_when_no_provider_returns_and_says_so_once() {
    for kind in ["refuse", "rate_limited", "http_500"] {
        let app = TestApp::start().await;
        app.client
            .route(&[&app.alipay, &app.wechatpay])
            .await
            .expect(200);
        break_both(&app, ORDERS[0], kind).await;
        let parked = park(&app).await;
        app.advance(899 - 60).await;
        let waiting = app
            .client
            .until(id(&parked), |p| p["attempts"].as_array().unwrap().len() > 2)
            .await;
        assert_eq!(
            waiting["status"], "created",
            "its time is not over: {waiting}"
        );
        app.advance(70).await;
        let expired = app.client.until_status(id(&parked), "expired").await;
        assert_eq!(
            (expired["next_action"]["type"].as_str(), live(&expired)),
            (Some("none"), 0)
        );
        assert_eq!(expired["queue"], Value::Null);
        app.control.mend().await;
        app.advance(PAST_DEADLINES_S).await;
        // What was in doubt is asked about to its end, and nothing new is begun.
        let all_dead = |p: &Value| attempts(p).iter().all(|(_, status)| status == "dead");
        let over = app.client.until(id(&parked), all_dead).await;
        assert_eq!(
            over["attempts"].as_array().unwrap().len(),
            expired["attempts"].as_array().unwrap().len()
        );
        assert_eq!(
            Facts::of(&app).await.told(id(&parked)).await,
            ["payment.expired"]
        );
        assert_eq!(taken_fen(&app).await, 0);
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn money_on_an_abandoned_order_of_a_parked_payment_is_its_money() {
    for names in ORDERS {
        let app = TestApp::start().await;
        Order::set(&app, names).await;
        for provider in names {
            app.control
                .fault(json!({"provider": provider, "call": "create", "kind": "garbled"}))
                .await;
        }
        let watch = Watch::start(&app).await;
        let parked = park(&app).await;
        assert_eq!(app.control.pay_order(order_no(&parked, 0)).await.0, 200);
        let paid = app.client.until_status(id(&parked), "succeeded").await;
        assert_eq!(
            (
                paid["provider"].as_str(),
                &paid["attempts"][0]["disposition"]
            ),
            (Some(names[0]), &json!("kept"))
        );
        let tried = paid["attempts"].as_array().unwrap().len();
        app.control.mend().await;
        app.advance(PAST_DEADLINES_S).await;
        let ended = |p: &Value| {
            attempts(p)
                .iter()
                .skip(1)
                .all(|(_, status)| status == "dead")
        };
        let over = app.client.until(id(&parked), ended).await;
        assert_eq!(
            over["attempts"].as_array().unwrap().len(),
            tried,
            "a paid payment tries no more routes"
        );
        assert_eq!(
            Facts::of(&app).await.told(id(&parked)).await,
            ["payment.succeeded"]
        );
        assert_eq!(taken_fen(&app).await, 8888);
        watch.stop().await;
        app.stop().await;
    }
}
