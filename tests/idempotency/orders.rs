//! The second guard: an order number names one payment, whatever the keys.

use serde_json::json;

use super::at_once;
use crate::helpers::facts::Facts;
use crate::helpers::{TestApp, fresh, order};

#[tokio::test(flavor = "multi_thread")]
async fn the_same_order_number_under_another_key_makes_no_second_payment() {
    let app = TestApp::start().await;
    let body = order();
    let payment = app.client.pay(&body).await.expect(201);
    let id = payment["id"].as_str().unwrap();
    let mut with_another_amount = body.clone();
    with_another_amount["amount"] = 1.into();
    for body in [&body, &with_another_amount] {
        let problem = app
            .client
            .pay(body)
            .await
            .problem(409, "order_id_in_use", Some("order_id"));
        assert_eq!(
            (
                problem["resource"].as_str(),
                problem["resource_status"].as_str()
            ),
            (Some(id), Some("requires_action"))
        );
    }

    app.control.pay(&payment).await;
    app.client.until_status(id, "succeeded").await;
    let problem = app
        .client
        .pay(&body)
        .await
        .problem(409, "order_id_in_use", Some("order_id"));

    assert_eq!(
        (
            problem["resource"].as_str(),
            problem["resource_status"].as_str()
        ),
        (Some(id), Some("succeeded"))
    );

    assert_eq!(
        (
            Facts::of(&app).await.count("payments").await,
            app.control.orders().await.len()
        ),
        (1, 1)
    );

    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_keys_for_one_order_number_at_once_make_one_payment_and_leave_the_other_keys_free()
 {
    let app = TestApp::start().await;
    let body = order();
    let keys: Vec<String> = (0..64).map(|_| fresh("key")).collect();
    let requests = keys
        .iter()
        .map(|key| ("/v1/payments".to_owned(), key.clone(), body.clone()))
        .collect();
    let answers = at_once(&app.client, requests).await;
    let made: Vec<_> = answers.iter().filter(|a| a.status == 201).collect();

    assert_eq!(made.len(), 1);
    let payment = made[0].json();

    for answer in answers.iter().filter(|a| a.status != 201) {
        let problem = answer.problem(409, "order_id_in_use", Some("order_id"));
        assert_eq!(problem["resource"], payment["id"]);
        assert!(
            matches!(
                problem["resource_status"].as_str(),
                Some("created" | "requires_action")
            ),
            "{problem}"
        );
    }

    let facts = Facts::of(&app).await;
    assert_eq!(
        (facts.count("payments").await, facts.count("attempts").await),
        (1, 1)
    );
    assert_eq!(
        facts.count("idempotency_keys").await,
        1,
        "those that were refused keep nothing"
    );

    assert_eq!(app.control.orders().await.len(), 1);
    let requests = keys
        .iter()
        .map(|key| ("/v1/payments".to_owned(), key.clone(), order()))
        .collect();
    let free = at_once(&app.client, requests)
        .await
        .iter()
        .filter(|a| a.status == 201)
        .count();

    assert_eq!(free, 63, "every key but the one that made the payment");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_number_is_free_again_after_its_payment_was_canceled_or_expired() {
    let app = TestApp::start().await;
    app.client.route(&[&app.wechatpay]).await.expect(200);
    let body = order();
    let canceled = app.client.pay(&body).await.expect(201);
    let cancel = format!("/v1/payments/{}/cancel", canceled["id"].as_str().unwrap());

    assert_eq!(
        app.client
            .post(&cancel, "unused", &json!({}))
            .await
            .expect(200)["status"],
        "canceled"
    );

    let expired = app.client.pay(&body).await.expect(201);
    assert_ne!(expired["id"], canceled["id"]);
    app.client
        .pay(&body)
        .await
        .problem(409, "order_id_in_use", Some("order_id"));
    app.advance(1_025).await;
    app.client
        .until_status(expired["id"].as_str().unwrap(), "expired")
        .await;
    let third = app.client.pay(&body).await.expect(201);
    app.control.pay(&third).await;
    app.client
        .until_status(third["id"].as_str().unwrap(), "succeeded")
        .await;

    app.client
        .pay(&body)
        .await
        .problem(409, "order_id_in_use", Some("order_id"));

    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_number_is_held_while_its_canceled_payment_might_still_be_paid() {
    let app = TestApp::start().await;
    app.client.route(&[&app.alipay]).await.expect(200);
    let body = order();
    let payment = app.client.pay(&body).await.expect(201);
    let id = payment["id"].as_str().unwrap();

    // An Alipay code that nobody has scanned cannot be closed: it lives until its deadline.
    let noted = app
        .client
        .post(&format!("/v1/payments/{id}/cancel"), "unused", &json!({}))
        .await
        .expect(202);

    assert!(noted["cancel_requested_at"].is_string());
    let problem = app
        .client
        .pay(&body)
        .await
        .problem(409, "order_id_in_use", Some("order_id"));

    assert_eq!(
        (
            problem["resource"].as_str(),
            problem["resource_status"].as_str()
        ),
        (Some(id), Some("processing"))
    );

    app.advance(1_025).await;
    app.client.until_status(id, "canceled").await;
    app.client.pay(&body).await.expect(201);
    app.stop().await;
}
