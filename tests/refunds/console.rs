//! Refunds that somebody makes in the provider's own console: recognised, confirmed and booked,
//! each once.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::{id, in_time, refund, told, until};
use crate::helpers::facts::Facts;
use crate::helpers::{TestApp, fresh};
use crate::operations::{decide, only, two_persons};

/// Somebody gives money back in the provider's own console.
async fn by_hand(app: &TestApp, payment: &Value, fen: i64) -> (u16, Value) {
    let order_no = &payment["attempts"][0]["provider_order_no"];
    app.control
        .call(
            Method::POST,
            "/refunds",
            Some(json!({"order_no": order_no, "amount": fen})),
        )
        .await
}

async fn until_refunded(app: &TestApp, payment: &Value, fen: i64) -> Value {
    app.client
        .until(id(payment), |p| p["amount_refunded"] == fen)
        .await
}

/// A notification was lost on its way.
async fn until_dropped(app: &TestApp) {
    let began = std::time::Instant::now();
    while !app
        .control
        .notifications()
        .await
        .iter()
        .any(|n| n["fault"] == "drop")
    {
        assert!(
            began.elapsed() < crate::helpers::PATIENCE,
            "no notification"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Whether one of the payment's attempts has this disposition.
fn with(payment: &Value, disposition: &str) -> bool {
    payment["attempts"]
        .as_array()
        .unwrap()
        .iter()
        .any(|a| a["disposition"] == disposition)
}

/// A payment of which the second code is paid and the first, too: what came twice is due to go
/// back, and cannot for now. With the number of that order.
async fn due(app: &TestApp) -> (Value, Value) {
    for call in ["close", "refund"] {
        app.control
            .fault(json!({"provider": "wechatpay", "call": call, "kind": "http_500"}))
            .await;
    }

    let first = app.client.pay(&crate::helpers::order()).await.expect(201);
    let path = format!("/v1/payments/{}/offers", id(&first));
    let second = app
        .client
        .post(&path, &fresh("key"), &json!({"flow": "qr"}))
        .await
        .json();

    for payment in [&second, &first] {
        app.control.pay(payment).await;
    }
    app.client
        .until(id(&first), |p| with(p, "refund_due"))
        .await;
    let due = app
        .client
        .until(id(&first), |p| {
            p["refunds"].as_array().is_some_and(|list| !list.is_empty())
        })
        .await;

    let attempts = due["attempts"].as_array().unwrap();
    let number = attempts
        .iter()
        .find(|a| a["disposition"] == "refund_due")
        .unwrap()["provider_order_no"]
        .clone();

    (first, number)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_made_in_the_providers_console_is_recognised_and_booked_once() {
    for provider in ["alipay", "wechatpay"] {
        let app = TestApp::start().await;
        app.client
            .route(&[&app.account(provider)])
            .await
            .expect(200);
        let payment = app.paid().await;
        let fault = json!({"provider": provider, "kind": "duplicate"});
        app.control.fault(fault).await;
        assert_eq!(by_hand(&app, &payment, 888).await.0, 200);
        let seen = until_refunded(&app, &payment, 888).await;
        let found = &seen["refunds"][0];
        assert_eq!(
            (&found["status"], &found["amount"], &found["automatic"]),
            (&json!("succeeded"), &json!(888), &json!(false))
        );
        assert!(
            found["merchant_refund_no"]
                .as_str()
                .unwrap()
                .starts_with("provider-"),
            "{found}"
        );
        // What is left can be refunded, and no more than that.
        assert_eq!(refund(&app, id(&payment), 8001).await.0, 422);
        assert_eq!(refund(&app, id(&payment), 3000).await.0, 201);
        app.advance(5).await;
        until_refunded(&app, &payment, 3888).await;
        assert_eq!(by_hand(&app, &payment, 1000).await.0, 200);
        let seen = until_refunded(&app, &payment, 4888).await;
        assert_eq!(
            seen["refunds"].as_array().unwrap().len(),
            3,
            "each of them once: {seen:#}"
        );
        assert_ne!(
            by_hand(&app, &payment, 8888).await.0,
            200,
            "the provider has its own guard"
        );
        let told = told(&app, &payment).await;
        assert_eq!(
            told.iter()
                .filter(|kind| *kind == "refund.succeeded")
                .count(),
            3,
            "{told:?}"
        );
        let ledger = app.app().store.check_ledger(None, 5).await.unwrap();
        assert_eq!(ledger.deviations, []);
        let operations = Facts::of(&app).await.count("operations").await;
        assert_eq!(operations, 0, "nobody has to look at it");
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_console_refund_that_the_provider_does_not_confirm_comes_again() {
    let app = TestApp::start().await;
    app.client
        .route(&[&app.account("wechatpay")])
        .await
        .expect(200);
    let payment = app.paid().await;
    app.control
        .fault(json!({"provider": "wechatpay", "call": "query_refund", "kind": "http_500"}))
        .await;
    assert_eq!(by_hand(&app, &payment, 888).await.0, 200);

    let began = std::time::Instant::now();
    while !app
        .control
        .notifications()
        .await
        .iter()
        .any(|n| n["event"]["type"] == "refund_ended")
    {
        assert!(
            began.elapsed() < crate::helpers::PATIENCE,
            "no notification"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    assert_eq!(
        app.client.payment(id(&payment)).await["amount_refunded"],
        0,
        "nobody has confirmed it"
    );

    app.control.mend().await;
    for _ in 0..5 {
        app.advance(60).await;
    }
    until_refunded(&app, &payment, 888).await;

    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn money_that_was_due_and_was_given_back_by_hand_is_not_given_back_again() {
    let app = TestApp::start().await;
    app.client
        .route(&[&app.account("wechatpay")])
        .await
        .expect(200);
    let (first, number) = due(&app).await;
    let due = app.client.payment(id(&first)).await;
    let by_hand = json!({"order_no": number, "amount": 8888});

    assert_eq!(
        app.control
            .call(Method::POST, "/refunds", Some(by_hand))
            .await
            .0,
        200
    );

    app.client.until(id(&first), |p| with(p, "refunded")).await;
    app.control.mend().await;
    let automatic = due["refunds"]
        .as_array()
        .unwrap()
        .iter()
        .find(|r| r["automatic"] == true)
        .unwrap();

    in_time(&app, automatic, |refund| refund["status"] == "failed").await;
    let taken: i64 = app
        .control
        .orders()
        .await
        .iter()
        .map(|o| o["captured"].as_i64().unwrap() - o["refunded"].as_i64().unwrap())
        .sum();

    assert_eq!(taken, 8888, "kept once, and given back once");
    assert_eq!(
        Facts::of(&app).await.count("operations").await,
        0,
        "nobody has to look at it"
    );

    assert_eq!(
        app.app()
            .store
            .check_ledger(None, 5)
            .await
            .unwrap()
            .deviations,
        []
    );

    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_console_refund_that_is_told_after_a_later_one_of_ours_is_booked_with_its_own_amount() {
    let app = TestApp::start().await;
    app.client
        .route(&[&app.account("alipay")])
        .await
        .expect(200);
    let payment = app.paid().await;
    app.control
        .fault(json!({"provider": "alipay", "kind": "drop"}))
        .await;
    assert_eq!(by_hand(&app, &payment, 888).await.0, 200);
    assert_eq!(refund(&app, id(&payment), 3000).await.0, 201);

    until_refunded(&app, &payment, 3000).await;
    app.control.mend().await;
    let began = std::time::Instant::now();

    while app.client.payment(id(&payment)).await["amount_refunded"] != 3888 {
        assert!(
            began.elapsed() < crate::helpers::PATIENCE,
            "it is not booked"
        );
        app.advance(65).await;
        tokio::time::sleep(Duration::from_millis(60)).await;
    }

    assert_eq!(
        Facts::of(&app).await.count("operations").await,
        0,
        "nobody has to look at it"
    );

    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_console_refund_that_its_provider_does_not_know_yet_is_on_the_work_list_until_it_is_booked()
 {
    let app = TestApp::start().await;
    app.client
        .route(&[&app.account("wechatpay")])
        .await
        .expect(200);
    let payment = app.paid().await;

    // Asked about it, the provider knows nothing of it: its answers are ten minutes old.
    let behind = json!({"provider": "wechatpay", "call": "query_refund", "kind": "behind",
        "latency_ms": 600_000});
    app.control.fault(behind).await;
    assert_eq!(by_hand(&app, &payment, 888).await.0, 200);

    let (facts, began) = (Facts::of(&app).await, std::time::Instant::now());
    let open = "operations WHERE kind = 'console_refund_unconfirmed' AND resolved_at IS NULL";

    while facts.count(open).await != 1 {
        assert!(began.elapsed() < crate::helpers::PATIENCE, "nobody is told");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(
        app.client.payment(id(&payment)).await["amount_refunded"],
        0,
        "it was not confirmed"
    );

    app.control.mend().await;
    until(&app, &payment, async |_| facts.count(open).await == 0).await;
    assert_eq!(
        app.client.payment(id(&payment)).await["amount_refunded"],
        888
    );
    assert_eq!(
        facts
            .count("operations WHERE resolution = 'by_itself'")
            .await,
        1
    );

    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_console_refunds_are_booked_each_with_its_amount_although_the_second_is_told_first() {
    let app = TestApp::start().await;
    app.client
        .route(&[&app.account("alipay")])
        .await
        .expect(200);
    let payment = app.paid().await;
    app.control
        .fault(json!({"provider": "alipay", "kind": "drop"}))
        .await;
    assert_eq!(by_hand(&app, &payment, 888).await.0, 200);

    until_dropped(&app).await;
    app.control.mend().await;
    assert_eq!(by_hand(&app, &payment, 1000).await.0, 200);

    let seen = until(&app, &payment, async |p| p["amount_refunded"] == 1888).await;
    let mut amounts: Vec<i64> = seen["refunds"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["amount"].as_i64().unwrap())
        .collect();

    amounts.sort_unstable();
    assert_eq!(amounts, [888, 1000]);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_console_refund_of_money_that_nobody_here_knows_of_yet_is_booked_once_it_is_known() {
    let app = TestApp::with(&[("resolver.interval_ms", "3600000")]).await;
    app.client
        .route(&[&app.account("wechatpay")])
        .await
        .expect(200);
    app.control
        .fault(json!({"provider": "wechatpay", "kind": "drop"}))
        .await;
    let payment = app.client.pay(&crate::helpers::order()).await.expect(201);
    app.control.pay(&payment).await;
    until_dropped(&app).await;
    app.control.mend().await;
    assert_eq!(by_hand(&app, &payment, 888).await.0, 200);

    let seen = until(&app, &payment, async |p| p["amount_refunded"] == 888).await;
    assert_eq!(seen["status"], "succeeded");
    assert_eq!(
        app.app()
            .store
            .check_ledger(None, 5)
            .await
            .unwrap()
            .deviations,
        []
    );

    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn money_that_is_due_goes_back_without_the_part_that_somebody_has_given_back_by_hand() {
    let app = TestApp::start().await;
    app.client
        .route(&[&app.account("wechatpay")])
        .await
        .expect(200);
    let (first, number) = due(&app).await;
    let by_hand = json!({"order_no": number, "amount": 888});

    assert_eq!(
        app.control
            .call(Method::POST, "/refunds", Some(by_hand))
            .await
            .0,
        200
    );

    let seen = until(&app, &first, async |p| {
        p["refunds"].as_array().unwrap().len() == 2
    })
    .await;
    app.control.mend().await;
    let automatic = seen["refunds"]
        .as_array()
        .unwrap()
        .iter()
        .find(|r| r["automatic"] == true)
        .unwrap();

    in_time(&app, automatic, |refund| refund["status"] == "failed").await;
    // The whole amount is refused now; a person has it tried again, and the rest goes.
    let entry = only(&app.client, "automatic_refund_failed").await;
    decide(&two_persons(&app).await, &entry, "retry").await;
    until(&app, &first, async |p| with(p, "refunded")).await;
    let taken = app.control.orders().await;
    let left: i64 = taken
        .iter()
        .map(|o| o["captured"].as_i64().unwrap() - o["refunded"].as_i64().unwrap())
        .sum();

    assert_eq!(left, 8888, "kept once, and given back once");
    assert_eq!(
        app.app()
            .store
            .check_ledger(None, 5)
            .await
            .unwrap()
            .deviations,
        []
    );

    app.stop().await;
}
