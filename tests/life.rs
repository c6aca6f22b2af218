//! The life of a payment over real sockets: offered, paid, refunded, canceled, expired.

use interlock::domain::id::AccountId;
use serde_json::{Value, json};

use crate::helpers::{TestApp, attempts, live, order};

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_is_offered_paid_by_a_signed_notification_and_refunded_in_two_parts() {
    for first in ["alipay", "wechatpay"] {
        let app = TestApp::start().await;
        let accounts = if first == "alipay" {
            [&app.alipay, &app.wechatpay]
        } else {
            [&app.wechatpay, &app.alipay]
        };
        app.client
            .route(&accounts.map(AccountId::as_str))
            .await
            .expect(200);
        let payment = app.client.pay(&order()).await.expect(201);
        assert_eq!(payment["status"], "requires_action");
        assert_eq!(payment["provider"], first);
        assert_eq!(payment["next_action"]["type"], "display_qr");
        app.control.pay(&payment).await;
        let id = payment["id"].as_str().unwrap();
        let paid = app.client.until_status(id, "succeeded").await;
        assert_eq!(paid["amount_captured"], 8888);
        assert_eq!(attempts(&paid), [(first.to_owned(), "captured".to_owned())]);
        assert_eq!(paid["attempts"][0]["disposition"], "kept");
        assert_eq!(paid["next_action"]["type"], "none");
        assert!(
            paid["provider_transaction_id"].is_string() && paid["paid_at"].is_string(),
            "{paid}"
        );
        let sent = app.control.told(1).await;
        assert_eq!(
            sent.len(),
            1,
            "one notification, acknowledged at once: {sent:?}"
        );

        let partial = app.client.refund(id, 888).await.expect(201);
        assert_eq!(partial["amount"], 888);
        app.client.until(id, |p| p["amount_refunded"] == 888).await;
        app.client.refund(id, 8000).await.expect(201);
        app.advance(5).await;
        let refunded = app.client.until(id, |p| p["amount_refunded"] == 8888).await;
        assert_eq!(refunded["status"], "succeeded");
        assert!(
            refunded["refunds"]
                .as_array()
                .unwrap()
                .iter()
                .all(|r| r["status"] == "succeeded"),
            "{refunded}"
        );
        let orders = app.control.orders().await;
        assert_eq!(
            (orders[0]["captured"].clone(), orders[0]["refunded"].clone()),
            (json!(8888), json!(8888))
        );
        app.stop().await;
    }
}

/// One that is served by `provider` only.
fn only(provider: &str) -> Value {
    let mut body = order();
    body["providers"] = json!([provider]);
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canceled_payment_says_so_only_when_its_code_is_provably_dead() {
    let app = TestApp::start().await;
    // WeChat Pay closes an unscanned code at once.
    let payment = app.client.pay(&only("wechatpay")).await.expect(201);
    let path = format!("/v1/payments/{}/cancel", payment["id"].as_str().unwrap());
    let canceled = app
        .client
        .post(&path, "unused", &json!({}))
        .await
        .expect(200);
    assert_eq!(
        (canceled["status"].as_str(), live(&canceled)),
        (Some("canceled"), 0)
    );
    let (status, _) = app
        .control
        .pay_order(
            payment["attempts"][0]["provider_order_no"]
                .as_str()
                .unwrap(),
        )
        .await;
    assert_eq!(status, 409, "the provider takes no money for it any more");
    app.client
        .post(&path, "unused", &json!({}))
        .await
        .expect(200);

    // Alipay knows no trade before the code is scanned, so it can only be waited for.
    let payment = app.client.pay(&only("alipay")).await.expect(201);
    let id = payment["id"].as_str().unwrap();
    let path = format!("/v1/payments/{id}/cancel");
    let pending = app
        .client
        .post(&path, "unused", &json!({}))
        .await
        .expect(202);
    assert_eq!(pending["status"], "processing");
    assert_eq!(pending["next_action"]["type"], "none");
    assert!(pending["cancel_requested_at"].is_string());
    app.advance(900 + 60).await;
    assert_eq!(
        app.client.payment(id).await["status"],
        "processing",
        "a payer may still be in the last dialog"
    );
    app.advance(70).await;
    app.client.until_status(id, "canceled").await;
    app.client
        .post(&path, "unused", &json!({}))
        .await
        .expect(200);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payer_who_is_faster_than_the_cancel_has_paid() {
    let app = TestApp::start().await;
    let payment = app.client.pay(&only("alipay")).await.expect(201);
    let id = payment["id"].as_str().unwrap();

    app.client
        .post(&format!("/v1/payments/{id}/cancel"), "unused", &json!({}))
        .await
        .expect(202);
    app.control.pay(&payment).await;
    let paid = app.client.until_status(id, "succeeded").await;

    assert_eq!(paid["amount_captured"], 8888);
    let problem = app
        .client
        .post(&format!("/v1/payments/{id}/cancel"), "unused", &json!({}))
        .await;
    let problem = problem.problem(409, "payment_not_open", None);

    assert_eq!(problem["resource_status"], "succeeded");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_expires_at_its_deadline_by_what_each_provider_can_prove() {
    let app = TestApp::start().await;
    for provider in ["alipay", "wechatpay"] {
        let mut body = only(provider);
        body["expires_in"] = json!(300);
        let payment = app.client.pay(&body).await.expect(201);
        let id = payment["id"].as_str().unwrap();
        app.advance(290).await;
        assert_eq!(app.client.payment(id).await["status"], "requires_action");
        app.advance(15).await;
        if provider == "alipay" {
            app.client.until_status(id, "processing").await;
            app.advance(125).await;
        }
        let expired = app.client.until_status(id, "expired").await;
        assert_eq!(
            attempts(&expired),
            [(provider.to_owned(), "dead".to_owned())]
        );
        let mut again = order();
        again["order_id"] = payment["order_id"].clone();
        app.client.pay(&again).await.expect(201);
    }

    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notification_that_never_comes_is_replaced_by_a_question() {
    let app = TestApp::start().await;
    for provider in ["alipay", "wechatpay"] {
        app.control
            .fault(json!({"provider": provider, "call": "notification", "kind": "drop"}))
            .await;
        let payment = app.client.pay(&only(provider)).await.expect(201);
        app.control.pay(&payment).await;
        app.advance(40).await;
        app.client
            .until_status(payment["id"].as_str().unwrap(), "succeeded")
            .await;
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_of_a_refund_is_one_refund() {
    for provider in ["alipay", "wechatpay"] {
        for kind in [
            "timeout_after",
            "timeout_before",
            "garbled",
            "http_500",
            "reset",
            "rate_limited",
            "bad_signature",
        ] {
            let app = TestApp::with(&[("payments.refund_timeout_ms", "500")]).await;
            let payment = app.client.pay(&only(provider)).await.expect(201);
            app.control.pay(&payment).await;
            let id = payment["id"].as_str().unwrap();
            app.client.until_status(id, "succeeded").await;
            app.control
                .fault(json!({"provider": provider, "call": "refund", "kind": kind}))
                .await;
            let refund = app.client.refund(id, 5000).await.expect(201);
            assert_eq!(refund["status"], "pending", "{provider} {kind}");
            app.control.mend().await;
            for _ in 0..4 {
                app.advance(70).await;
            }
            let done = app
                .client
                .until(id, |p| p["refunds"][0]["status"] == "succeeded")
                .await;
            assert_eq!(done["amount_refunded"], 5000);
            let orders = app.control.orders().await;
            assert_eq!(orders[0]["refunded"], 5000, "{provider} {kind}");
            app.stop().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documentation_is_served_without_a_network_and_describes_every_call() {
    let app = TestApp::start().await;
    let spec = app.client.get("/openapi.json").await.expect(200);

    assert!(
        spec["openapi"].as_str().unwrap().starts_with("3.1"),
        "{}",
        spec["openapi"]
    );

    for path in [
        "/v1/payments",
        "/v1/payments/{id}/refunds",
        "/v1/routing",
        "/v1/accounts",
    ] {
        assert!(spec["paths"][path].is_object(), "{path}");
    }

    let page = app.client.get("/docs/").await;
    assert_eq!(page.status, 200);
    let html = String::from_utf8(page.bytes).unwrap();

    assert!(
        html.contains("swagger-ui") && !html.contains("https://"),
        "nothing is loaded from elsewhere"
    );

    app.stop().await;
}
