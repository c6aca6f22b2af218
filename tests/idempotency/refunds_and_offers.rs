//! The same rules for the other requests that move money or make codes: refunds and offers.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use super::{at_once, is_replayed, one_was_first, sixty_four};
use crate::helpers::facts::{Facts, Watch, in_book, taken_fen};
use crate::helpers::{PATIENCE, TestApp, attempts, fresh, live, order};

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_identical_refunds_at_once_are_one_refund_at_the_provider() {
    for provider in ["alipay", "wechatpay"] {
        let app = TestApp::start().await;
        let account = if provider == "alipay" {
            &app.alipay
        } else {
            &app.wechatpay
        };
        app.client.route(&[account]).await.expect(200);
        let paid = app.paid().await;
        let slow =
            json!({"provider": provider, "call": "refund", "kind": "slow", "latency_ms": 700});
        app.control.fault(slow).await;
        let path = format!("/v1/payments/{}/refunds", paid["id"].as_str().unwrap());
        let body = json!({"amount": 888, "merchant_refund_no": fresh("rf")});
        let answers = sixty_four(&app.client, &path, &body).await;
        let (refund, _, waiting) = one_was_first(&answers);
        assert!(waiting > 0, "some came while the provider was being asked");
        assert_eq!(
            (refund["object"].as_str(), refund["amount"].as_i64()),
            (Some("refund"), Some(888))
        );
        app.control.mend().await;
        app.advance(10).await;
        app.client
            .until(paid["id"].as_str().unwrap(), |p| {
                p["amount_refunded"] == 888
            })
            .await;
        let facts = Facts::of(&app).await;
        assert_eq!(facts.count("refunds").await, 1);
        let order_no = paid["attempts"][0]["provider_order_no"].as_str().unwrap();
        let in_book = in_book(&app, order_no, "refunds").await;
        assert_eq!(in_book.as_array().unwrap().len(), 1, "{in_book}");
        assert_eq!(in_book[0]["refund_no"], refund["provider_refund_no"]);
        assert_eq!(taken_fen(&app).await, 8000);
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_refund_number_under_many_keys_at_once_is_one_refund() {
    let app = TestApp::start().await;
    let paid = app.paid().await;
    let path = format!("/v1/payments/{}/refunds", paid["id"].as_str().unwrap());
    let body = json!({"amount": 888, "merchant_refund_no": fresh("rf")});
    let requests = (0..16)
        .map(|_| (path.clone(), fresh("key"), body.clone()))
        .collect();
    let answers = at_once(&app.client, requests).await;
    assert_eq!(answers.iter().filter(|a| a.status == 201).count(), 1);
    for answer in answers.iter().filter(|a| a.status != 201) {
        answer.problem(409, "merchant_refund_no_in_use", Some("merchant_refund_no"));
    }
    assert_eq!(Facts::of(&app).await.count("refunds").await, 1);
    assert_eq!(taken_fen(&app).await, 8000);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_refund_gets_the_same_answer_and_another_body_is_refused() {
    let app = TestApp::start().await;
    let paid = app.paid().await;
    let path = format!("/v1/payments/{}/refunds", paid["id"].as_str().unwrap());
    let (key, body) = (
        fresh("key"),
        json!({"amount": 888, "merchant_refund_no": fresh("rf")}),
    );
    let first = app.client.post(&path, &key, &body).await;

    assert_eq!(
        first.expect(201)["status"],
        "succeeded",
        "Alipay says so in the call itself"
    );

    let again = app.client.post(&path, &key, &body).await;
    again.expect(201);
    assert!(is_replayed(&again.headers) && !is_replayed(&first.headers));
    assert_eq!(again.bytes, first.bytes);

    let mut other = body.clone();
    other["amount"] = 889.into();
    app.client.post(&path, &key, &other).await.problem(
        422,
        "idempotency_key_reused",
        Some("Idempotency-Key"),
    );

    assert_eq!(taken_fen(&app).await, 8000);
    app.stop().await;
}

fn offers(payment: &Value) -> String {
    format!("/v1/payments/{}/offers", payment["id"].as_str().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_offer_supersedes_the_old_one_and_makes_the_first_key_answer_with_the_present() {
    for [first, second] in [["alipay", "wechatpay"], ["wechatpay", "alipay"]] {
        let app = TestApp::start().await;
        let watch = Watch::start(&app).await;
        let (key, mut body) = (fresh("key"), order());
        body["providers"] = json!([first]);
        let payment = app
            .client
            .post("/v1/payments", &key, &body)
            .await
            .expect(201);
        let other_way = json!({"flow": "qr", "providers": [second]});
        let offer_key = fresh("key");
        let offered = app
            .client
            .post(&offers(&payment), &offer_key, &other_way)
            .await;
        let shown = offered.expect(201);
        assert_eq!(
            (shown["id"].clone(), shown["provider"].as_str()),
            (payment["id"].clone(), Some(second))
        );
        assert_eq!(live(&shown), 1);
        assert_ne!(shown["next_action"]["qr"], payment["next_action"]["qr"]);
        assert_ne!(attempts(&shown)[0].1, "awaiting_payer");

        let again = app
            .client
            .post(&offers(&payment), &offer_key, &other_way)
            .await;
        assert!(is_replayed(&again.headers));
        assert_eq!(again.bytes, offered.bytes);
        let another = json!({"flow": "qr"});
        let reused = app
            .client
            .post(&offers(&payment), &offer_key, &another)
            .await;
        reused.problem(422, "idempotency_key_reused", Some("Idempotency-Key"));
        let first_key = app.client.post("/v1/payments", &key, &body).await;
        assert_eq!(
            first_key.expect(200)["next_action"]["qr"],
            shown["next_action"]["qr"]
        );
        assert!(!is_replayed(&first_key.headers));
        assert_eq!(app.control.orders().await.len(), 2);
        watch.stop().await;
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn identical_offers_at_once_make_one_code() {
    let app = TestApp::start().await;
    let payment = app.client.pay(&order()).await.expect(201);
    let slow =
        json!({"provider": "wechatpay", "call": "create", "kind": "slow", "latency_ms": 700});
    app.control.fault(slow).await;
    let watch = Watch::start(&app).await;
    let body = json!({"flow": "qr", "providers": ["wechatpay"]});
    let answers = sixty_four(&app.client, &offers(&payment), &body).await;
    let (shown, _, waiting) = one_was_first(&answers);

    assert!(waiting > 0);
    assert_eq!(
        (shown["attempts"].as_array().unwrap().len(), live(&shown)),
        (2, 1)
    );
    assert_eq!(app.control.orders().await.len(), 2);

    watch.stop().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn late_money_on_a_superseded_code_is_recognised() {
    for paid_before in [false, true] {
        let app = TestApp::start().await;
        let watch = Watch::start(&app).await;
        let payment = app.client.pay(&order()).await.expect(201);
        assert_eq!(
            payment["provider"], "alipay",
            "its unscanned code cannot be closed"
        );
        let id = payment["id"].as_str().unwrap();
        let body = json!({"flow": "qr", "providers": ["wechatpay"]});
        let shown = app
            .client
            .post(&offers(&payment), &fresh("key"), &body)
            .await
            .expect(201);
        if paid_before {
            app.control.pay(&shown).await;
            app.client.until_status(id, "succeeded").await;
        }
        app.control.pay(&payment).await;
        let facts = Facts::of(&app).await;
        let late = app
            .client
            .until(id, |p| p["attempts"][0]["status"] == "captured")
            .await;
        assert_eq!(
            (late["status"].as_str(), late["amount_captured"].as_i64()),
            (Some("succeeded"), Some(8888))
        );
        let told = facts.told(id).await;
        if paid_before {
            assert!(
                ["refund_due", "refunded"]
                    .contains(&late["attempts"][0]["disposition"].as_str().unwrap())
            );
            assert_eq!(late["attempts"][1]["disposition"], "kept");
            assert_eq!(
                told.iter()
                    .filter(|t| *t == "payment.late_captured")
                    .count(),
                1,
                "{told:?}"
            );
            app.client
                .until(id, |p| p["attempts"][0]["disposition"] == "refunded")
                .await;
        } else {
            assert_eq!(late["attempts"][0]["disposition"], "kept");
            let ended = app
                .client
                .until(id, |p| p["attempts"][1]["status"] == "dead")
                .await;
            let code = ended["attempts"][1]["provider_order_no"].as_str().unwrap();
            assert_eq!(
                app.control.pay_order(code).await.0,
                409,
                "the other code is closed"
            );
            assert_eq!(taken_fen(&app).await, 8888);
        }
        assert_eq!(
            told.iter().filter(|t| *t == "payment.succeeded").count(),
            1,
            "{told:?}"
        );
        watch.stop().await;
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_that_has_ended_or_is_being_ended_takes_no_offer() {
    let app = TestApp::start().await;
    app.client.route(&[&app.alipay]).await.expect(200);
    let offer = json!({"flow": "qr"});
    let [canceling, expired] = [
        app.client.pay(&order()).await.expect(201),
        app.client.pay(&order()).await.expect(201),
    ];
    let cancel = format!("/v1/payments/{}/cancel", canceling["id"].as_str().unwrap());

    app.client
        .post(&cancel, "unused", &json!({}))
        .await
        .expect(202);
    let refuses = async |payment: &Value, status: &str| {
        let problem = app
            .client
            .post(&offers(payment), &fresh("key"), &offer)
            .await
            .problem(409, "payment_not_open", None);
        assert_eq!(
            (&problem["resource"], problem["resource_status"].as_str()),
            (&payment["id"], Some(status))
        );
    };

    refuses(&canceling, "processing").await;
    let paid = app.paid().await;
    refuses(&paid, "succeeded").await;
    app.advance(1_025).await;
    app.client
        .until_status(canceling["id"].as_str().unwrap(), "canceled")
        .await;
    app.client
        .until_status(expired["id"].as_str().unwrap(), "expired")
        .await;
    refuses(&canceling, "canceled").await;
    refuses(&expired, "expired").await;

    let unknown = app
        .client
        .post(
            "/v1/payments/pay_0000000000000000000000/offers",
            &fresh("key"),
            &offer,
        )
        .await;

    unknown.problem(404, "not_found", None);
    assert_eq!(app.control.orders().await.len(), 3);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_that_is_answered_before_its_call_has_ended_is_answered_the_same_again() {
    let app = TestApp::with(&[("payments.answer_within_ms", "1000")]).await;
    app.client
        .route(&[&app.account("wechatpay")])
        .await
        .expect(200);
    let payment = app.paid().await;
    let no_funds = json!({"provider": "wechatpay", "result": "no_funds", "count": 1});

    assert_eq!(
        app.control
            .call(Method::PUT, "/refunds", Some(no_funds))
            .await
            .0,
        200
    );

    let slow =
        json!({"provider": "wechatpay", "call": "refund", "kind": "slow", "latency_ms": 3000});
    app.control.fault(slow).await;
    let path = format!("/v1/payments/{}/refunds", payment["id"].as_str().unwrap());
    let (key, body) = (
        fresh("key"),
        json!({"amount": 5000, "merchant_refund_no": fresh("rf")}),
    );
    let first = app.client.post(&path, &key, &body).await;

    assert_eq!(
        (first.status.as_u16(), &first.json()["needs_funds"]),
        (201, &json!(false))
    );

    let facts = Facts::of(&app).await;
    let began = Instant::now();

    while facts.count("refunds WHERE needs_funds").await == 0 {
        assert!(began.elapsed() < PATIENCE, "its call does not end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    // The call has ended otherwise than it was thought; what was told stays what was told.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let again = app.client.post(&path, &key, &body).await;
    assert!(again.headers.contains_key("idempotency-replayed"));
    assert_eq!(
        (again.status, String::from_utf8(again.bytes)),
        (first.status, String::from_utf8(first.bytes))
    );

    app.stop().await;
}
