//! Asking twice is asking once: by key, by order number, by refund number, and at the same moment.

mod orders;
mod refunds_and_offers;
mod rewritten;

use std::collections::HashSet;
use std::sync::Arc;

use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::helpers::facts::{Facts, Watch};
use crate::helpers::{Answer, Client, TestApp, fresh, order};

/// Sends requests at the same moment: `(path, key, body)` each.
async fn at_once(client: &Client, requests: Vec<(String, String, Value)>) -> Vec<Answer> {
    let together = Arc::new(Barrier::new(requests.len()));
    let mut sending = JoinSet::new();
    for (path, key, body) in requests {
        let (client, together) = (client.clone(), Arc::clone(&together));
        sending.spawn(async move {
            together.wait().await;
            client.post(&path, &key, &body).await
        });
    }
    sending.join_all().await
}

/// 64 times the same request, at the same moment.
async fn sixty_four(client: &Client, path: &str, body: &Value) -> Vec<Answer> {
    let key = fresh("key");
    at_once(client, vec![(path.to_owned(), key, body.clone()); 64]).await
}

fn is_replayed(headers: &HeaderMap) -> bool {
    headers
        .get("idempotency-replayed")
        .is_some_and(|v| v == "true")
}

/// Of requests that came together, one made the thing, and every other one says the same bytes or
/// that the first one is still being worked on. Returns what was made, and how many said which.
#[track_caller]
fn one_was_first(answers: &[Answer]) -> (Value, usize, usize) {
    let (made, waiting): (Vec<_>, Vec<_>) = answers.iter().partition(|a| a.status == 201);
    let bytes: HashSet<&[u8]> = made.iter().map(|a| a.bytes.as_slice()).collect();

    assert_eq!(
        bytes.len(),
        1,
        "the same bytes for all: {:?}",
        made.iter().map(|a| a.json()).collect::<Vec<_>>()
    );

    assert!(
        made.iter().any(|a| !is_replayed(&a.headers)),
        "somebody was first"
    );

    let thing = made[0].json();
    for answer in &waiting {
        let problem = answer.problem(409, "request_in_progress", None);
        assert_eq!(
            (&problem["resource"], &problem["retryable"]),
            (&thing["id"], &json!(true))
        );
        assert_eq!(answer.headers["retry-after"], "1");
    }

    (thing, made.len(), waiting.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_identical_requests_at_once_make_one_attempt() {
    for provider in ["alipay", "wechatpay"] {
        for latency_ms in [0, 700] {
            let app = TestApp::start().await;
            let account = if provider == "alipay" {
                &app.alipay
            } else {
                &app.wechatpay
            };
            app.client.route(&[account]).await.expect(200);
            let slow = json!({"provider": provider, "call": "create", "kind": "slow",
                "latency_ms": latency_ms});
            app.control.fault(slow).await;
            let watch = Watch::start(&app).await;
            let answers = sixty_four(&app.client, "/v1/payments", &order()).await;
            let (payment, made, waiting) = one_was_first(&answers);
            assert_eq!(made + waiting, 64);
            assert!(
                latency_ms == 0 || waiting > 0,
                "some came while the provider was being asked"
            );
            let facts = Facts::of(&app).await;
            assert_eq!(
                (facts.count("payments").await, facts.count("attempts").await),
                (1, 1)
            );
            assert_eq!(facts.count("idempotency_keys").await, 1);
            let orders = app.control.orders().await;
            assert_eq!(orders.len(), 1, "{orders:?}");
            assert_eq!(
                orders[0]["order_no"],
                payment["attempts"][0]["provider_order_no"]
            );
            watch.stop().await;
            app.stop().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_key_with_another_body_is_refused_and_changes_nothing() {
    let app = TestApp::start().await;
    let (key, body) = (fresh("key"), order());
    let first = app.client.post("/v1/payments", &key, &body).await;
    first.expect(201);
    let mut others = vec![order(), body.clone(), body.clone()];
    others[1]["amount"] = 8889.into();
    others[2]["metadata"] = json!({"cart": 1});
    for other in others {
        let refused = app.client.post("/v1/payments", &key, &other).await;
        refused.problem(422, "idempotency_key_reused", Some("Idempotency-Key"));
        assert!(!is_replayed(&refused.headers));
    }

    let facts = Facts::of(&app).await;
    assert_eq!(
        (
            facts.count("payments").await,
            app.control.orders().await.len()
        ),
        (1, 1)
    );

    assert_eq!(
        app.client.post("/v1/payments", &key, &body).await.bytes,
        first.bytes
    );

    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_replayed_byte_for_byte_while_its_offer_is_the_live_one() {
    let app = TestApp::start().await;
    let (key, body) = (fresh("key"), order());
    let first = app.client.post("/v1/payments", &key, &body).await;
    first.expect(201);
    assert!(!is_replayed(&first.headers));

    let quoted = format!("\"{key}\"");
    for key in [&key, &quoted, &key] {
        let again = app.client.post("/v1/payments", key, &body).await;
        again.expect(201);
        assert!(is_replayed(&again.headers));
        assert_eq!(again.bytes, first.bytes);
        assert_eq!(again.headers["content-type"], first.headers["content-type"]);
    }

    // A replay asks nobody: neither the provider nor, after a failure of it, another one.
    app.control
        .fault(json!({"provider": "alipay", "kind": "refuse"}))
        .await;
    assert_eq!(
        app.client.post("/v1/payments", &key, &body).await.bytes,
        first.bytes
    );
    assert_eq!(app.control.orders().await.len(), 1);

    app.stop().await;
}

/// The same key again, once the answer it had is out of date: the payment as it is now, and no code
/// to scan.
async fn answers_with_the_present(app: &TestApp, key: &str, body: &Value, status: &str) -> Value {
    let again = app.client.post("/v1/payments", key, body).await;
    let now = again.expect(200);
    assert!(!is_replayed(&again.headers));
    assert_eq!(now["status"], status);
    assert_eq!(now, app.client.payment(now["id"].as_str().unwrap()).await);
    now
}

#[tokio::test(flavor = "multi_thread")]
async fn after_it_was_paid_expired_or_canceled_the_key_answers_with_the_payment_as_it_is() {
    let app = TestApp::start().await;
    app.client.route(&[&app.wechatpay]).await.expect(200);
    let [paid, canceled, expired] = [
        (fresh("key"), order()),
        (fresh("key"), order()),
        (fresh("key"), order()),
    ];

    let mut made = Vec::new();
    for (key, body) in [&paid, &canceled, &expired] {
        made.push(app.client.post("/v1/payments", key, body).await.expect(201));
    }
    let ids: Vec<&str> = made.iter().map(|p| p["id"].as_str().unwrap()).collect();
    app.control.pay(&made[0]).await;
    app.client.until_status(ids[0], "succeeded").await;
    app.client
        .post(
            &format!("/v1/payments/{}/cancel", ids[1]),
            "unused",
            &json!({}),
        )
        .await
        .expect(200);

    app.advance(1_025).await;
    app.client.until_status(ids[2], "expired").await;
    let mut orders = app.control.orders().await.len();
    for ((key, body), (id, status)) in [&paid, &canceled, &expired]
        .into_iter()
        .zip(ids.iter().zip(["succeeded", "canceled", "expired"]))
    {
        let now = answers_with_the_present(&app, key, body, status).await;
        assert_eq!(
            (now["id"].as_str(), now["next_action"]["type"].as_str()),
            (Some(*id), Some("none"))
        );
        orders = orders.max(app.control.orders().await.len());
    }

    assert_eq!(orders, 3, "nothing was begun again");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_202_of_a_parked_payment_is_no_final_answer() {
    let app = TestApp::start().await;
    for protocol in providers::PROTOCOLS {
        app.control
            .fault(json!({"provider": protocol.name.as_str(), "kind": "refuse"}))
            .await;
    }

    let (key, body) = (fresh("key"), order());
    let parked = app
        .client
        .post("/v1/payments", &key, &body)
        .await
        .expect(202);

    let again = app.client.post("/v1/payments", &key, &body).await;
    assert_eq!(again.expect(202)["id"], parked["id"]);
    assert!(!is_replayed(&again.headers));

    let facts = Facts::of(&app).await;
    assert_eq!(
        facts
            .count("idempotency_keys WHERE answer_status IS NULL")
            .await,
        1
    );

    app.control.mend().await;
    app.advance(10).await;
    let id = parked["id"].as_str().unwrap();
    app.client.until_status(id, "requires_action").await;
    let offered = app.client.post("/v1/payments", &key, &body).await;
    let shown = offered.expect(201);

    assert_eq!(
        (shown["id"].as_str(), shown["next_action"]["type"].as_str()),
        (Some(id), Some("display_qr"))
    );

    let replayed = app.client.post("/v1/payments", &key, &body).await;
    assert!(is_replayed(&replayed.headers));
    assert_eq!(replayed.bytes, offered.bytes);
    assert_eq!(app.control.orders().await.len(), 1);

    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_request_leaves_its_key_free() {
    let app = TestApp::start().await;
    let (key, mut body) = (fresh("key"), order());
    body["amount"] = 0.into();
    app.client.post("/v1/payments", &key, &body).await.problem(
        422,
        "invalid_parameter",
        Some("amount"),
    );
    body["amount"] = 1.into();
    app.client
        .post("/v1/payments", &key, &body)
        .await
        .expect(201);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_belong_to_one_merchant_and_one_operation() {
    use interlock::api::auth::Scope;
    let app = TestApp::start().await;
    let other = app
        .other_merchant(&[Scope::Pay, Scope::Refund, Scope::Admin])
        .await;
    let settings = crate::switchover::settings(&app, "wechatpay").await;
    let account =
        json!({"provider": "wechatpay", "name": "theirs", "credentials": settings}).to_string();
    other
        .send(
            reqwest::Method::POST,
            "/v1/accounts",
            None,
            Some(account.into_bytes()),
        )
        .await
        .expect(201);

    let (key, body) = (fresh("key"), order());
    let ours = app
        .client
        .post("/v1/payments", &key, &body)
        .await
        .expect(201);
    let theirs = other.post("/v1/payments", &key, &body).await.expect(201);
    assert_ne!(
        ours["id"], theirs["id"],
        "the same key and order number at another merchant"
    );

    app.control.pay(&ours).await;
    let id = ours["id"].as_str().unwrap();
    app.client.until_status(id, "succeeded").await;
    let refund = json!({"amount": 1, "merchant_refund_no": fresh("rf")});
    let made = app
        .client
        .post(&format!("/v1/payments/{id}/refunds"), &key, &refund)
        .await
        .expect(201);
    assert_eq!(made["object"], "refund", "the same key for a refund");
    let offer = json!({"flow": "qr"});
    let offered = other
        .post(
            &format!("/v1/payments/{}/offers", theirs["id"].as_str().unwrap()),
            &key,
            &offer,
        )
        .await;
    assert_eq!(
        offered.expect(201)["attempts"].as_array().unwrap().len(),
        2,
        "the same key for an offer"
    );
    app.stop().await;
}
