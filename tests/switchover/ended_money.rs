//! Money that nobody waits for any more, or not in this shape: it is recognised, told once, and
//! goes back once or waits for a person.

use std::time::Duration;

use serde_json::{Value, json};

use super::late_money::{pay_order, until_given_back, with_an_abandoned_order};
use super::{ORDERS, PAST_DEADLINES_S, account, id, order_no};
use crate::helpers::facts::{Facts, Watch};
use crate::helpers::{TestApp, fresh, order};

/// What a merchant is told of money that its payment did not wait for.
const TOLD_OF_LATE_MONEY: [&str; 2] = ["payment.late_captured", "refund.succeeded"];

#[tokio::test(flavor = "multi_thread")]
async fn money_for_a_canceled_payment_goes_back() {
    for names in ORDERS {
        let app = TestApp::start().await;
        let payment = with_an_abandoned_order(&app, names, "garbled").await;
        let watch = Watch::start(&app).await;
        // Opened, so that every provider lets it be closed.
        let opened = json!({"code": payment["next_action"]["qr"], "result": "declined"});
        assert_eq!(
            app.control
                .call(reqwest::Method::POST, "/pay", Some(opened))
                .await
                .0,
            200
        );
        let path = format!("/v1/payments/{}/cancel", id(&payment));
        app.client.post(&path, &fresh("key"), &json!({})).await;
        app.client.until_status(id(&payment), "canceled").await;
        pay_order(&app, order_no(&payment, 0)).await;
        goes_back(&app, &payment, "canceled").await;
        watch.stop().await;
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn money_that_is_found_after_its_payment_has_expired_goes_back() {
    for names in ORDERS {
        let app = TestApp::start().await;
        let payment = with_an_abandoned_order(&app, names, "garbled").await;
        let watch = Watch::start(&app).await;
        // Paid in time, and nobody hears of it until the payment has expired.
        app.control.mend().await;
        for fault in [
            json!({"kind": "drop"}),
            json!({"kind": "http_500", "call": "query"}),
        ] {
            let mut fault = fault;
            fault["provider"] = names[0].into();
            app.control.fault(fault).await;
        }
        pay_order(&app, order_no(&payment, 0)).await;
        app.advance(PAST_DEADLINES_S).await;
        app.client.until_status(id(&payment), "expired").await;
        app.control.mend().await;
        goes_back(&app, &payment, "expired").await;
        watch.stop().await;
        app.stop().await;
    }
}

async fn goes_back(app: &TestApp, payment: &Value, status: &str) {
    until_given_back(app, id(payment)).await;
    let after = app.client.payment(id(payment)).await;

    assert_eq!(
        (&after["status"], &after["amount_captured"]),
        (&json!(status), &json!(0)),
        "{after:#}"
    );

    assert_eq!(
        (&after["refunds"][0]["automatic"], &after["refunds"][1]),
        (&json!(true), &json!(null))
    );

    let told = Facts::of(app).await.told(id(payment)).await;
    let ended = format!("payment.{status}");
    let late: Vec<&String> = told.iter().skip_while(|t| **t != ended).skip(1).collect();

    assert_eq!(
        late,
        TOLD_OF_LATE_MONEY.iter().collect::<Vec<_>>(),
        "{told:?}"
    );

    let orders = app.control.orders().await;
    let paid = orders
        .iter()
        .find(|o| o["order_no"] == order_no(payment, 0))
        .unwrap();

    assert_eq!(
        (&paid["captured"], &paid["refunded"]),
        (&json!(8888), &json!(8888)),
        "{paid:#}"
    );

    app.client
        .refund(id(payment), 1)
        .await
        .problem(409, "payment_not_refundable", None);
}

#[tokio::test(flavor = "multi_thread")]
async fn money_that_is_told_of_before_the_order_was_answered_is_the_payments_money() {
    for protocol in providers::PROTOCOLS {
        let provider = protocol.name.as_str();
        let app = TestApp::start().await;
        app.client
            .route(&[&app.account(provider)])
            .await
            .expect(200);
        let watch = Watch::start(&app).await;
        app.control
            .fault(
                json!({"provider": provider, "call": "create", "kind": "slow", "latency_ms": 2500}),
            )
            .await;
        let body = order();
        let payer = async {
            let facts = Facts::of(&app).await;
            // The provider has the order, and its answer is on the way.
            while app.control.orders().await.is_empty() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            let rows = facts
                .rows("SELECT provider_order_no AS no FROM attempts")
                .await;
            pay_order(&app, rows[0]["no"].as_str().unwrap()).await;
        };
        let (answer, ()) = tokio::join!(app.client.pay(&body), payer);
        let paid = app
            .client
            .until_status(id(&answer.json()), "succeeded")
            .await;
        assert_eq!(paid["attempts"].as_array().unwrap().len(), 1, "{paid:#}");
        let told = Facts::of(&app).await.told(id(&paid)).await;
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
async fn money_of_another_amount_is_held_for_a_person() {
    for provider in ["alipay", "wechatpay", "unionpay"] {
        let app = TestApp::start().await;
        app.client
            .route(&[&app.account(provider)])
            .await
            .expect(200);
        let payment = app.client.pay(&order()).await.expect(201);
        let facts = Facts::of(&app).await;
        app.control
            .fault(json!({"provider": provider, "kind": "drop"}))
            .await;
        // As if we had asked for another amount than the provider has taken.
        facts
            .execute("UPDATE attempts SET amount = 8887")
            .await
            .unwrap();
        app.control.pay(&payment).await;
        app.advance(PAST_DEADLINES_S).await;
        let held = app
            .client
            .until(id(&payment), |p| p["attempts"][0]["disposition"] == "held")
            .await;
        assert_eq!(
            (&held["status"], &held["amount_captured"]),
            (&json!("processing"), &json!(0)),
            "{held:#}"
        );
        assert_eq!(
            facts
                .count("operations WHERE kind = 'capture_mismatch'")
                .await,
            1
        );
        app.advance(3_600).await;
        let later = app.client.payment(id(&payment)).await;
        assert_eq!(
            (&later["attempts"], &later["refunds"]),
            (&held["attempts"], &json!([])),
            "nobody touches it"
        );
        assert_eq!(
            facts
                .told(id(&payment))
                .await
                .iter()
                .filter(|t| *t == "payment.late_captured")
                .count(),
            1
        );
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn money_that_its_provider_gives_back_by_itself_is_held_and_never_refunded() {
    let app = TestApp::start().await;
    app.client
        .route(&[account(&app, "unionpay")])
        .await
        .expect(200);
    let payment = app.client.pay(&order()).await.expect(201);
    app.advance(901).await;
    let late = json!({"order_no": order_no(&payment, 0), "result": "late"});

    let (status, said) = app
        .control
        .call(reqwest::Method::POST, "/pay", Some(late))
        .await;
    assert_eq!(status, 200, "{said}");

    app.advance(PAST_DEADLINES_S).await;
    let held = app
        .client
        .until(id(&payment), |p| p["attempts"][0]["disposition"] == "held")
        .await;
    assert_eq!(held["amount_captured"], 0, "{held:#}");

    app.client.until_status(id(&payment), "expired").await;
    for _ in 0..6 {
        app.advance(24 * 3_600).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let after = app.client.payment(id(&payment)).await;

    assert_eq!(
        (&after["refunds"], &after["attempts"]),
        (&json!([]), &held["attempts"]),
        "{after:#}"
    );

    assert_eq!(
        Facts::of(&app)
            .await
            .count("operations WHERE kind = 'capture_returning'")
            .await,
        1
    );

    let told = Facts::of(&app).await.told(id(&payment)).await;
    assert_eq!(
        told.iter()
            .filter(|t| *t == "payment.late_captured")
            .count(),
        1,
        "{told:?}"
    );

    assert_eq!(
        told.iter().filter(|t| *t == "payment.expired").count(),
        1,
        "{told:?}"
    );

    let order = &app.control.orders().await[0];
    assert_eq!(
        (&order["captured"], &order["refunded"]),
        (&json!(8888), &json!(8888)),
        "{order:#}"
    );

    app.stop().await;
}

/// The question that its notification leads to is not answered: it is asked again, and not
/// forgotten.
#[tokio::test(flavor = "multi_thread")]
async fn money_on_an_attempt_that_was_taken_for_dead_is_asked_about_until_it_is_found() {
    for protocol in providers::PROTOCOLS {
        let provider = protocol.name.as_str();
        let app = TestApp::start().await;
        app.client
            .route(&[&app.account(provider)])
            .await
            .expect(200);
        let payment = app.client.pay(&order()).await.expect(201);
        for fault in [
            json!({"kind": "drop"}),
            json!({"kind": "http_500", "call": "query"}),
        ] {
            let mut fault = fault;
            fault["provider"] = provider.into();
            app.control.fault(fault).await;
        }
        pay_order(&app, order_no(&payment, 0)).await;
        let facts = Facts::of(&app).await;
        facts
            .execute("UPDATE attempts SET status = 'dead', next_check_at = 1")
            .await
            .unwrap();
        let ended = "UPDATE payments SET status = 'expired', resume_at = NULL, next_check_at = 1, \
                     version = version + 1";
        facts.execute(ended).await.unwrap();
        let began = std::time::Instant::now();
        while facts.count("attempts WHERE questions > 2").await == 0 {
            assert!(
                began.elapsed() < Duration::from_secs(20),
                "{provider}: it is not asked about again"
            );
            app.advance(10).await;
            tokio::time::sleep(Duration::from_millis(60)).await;
        }
        app.control.mend().await;
        app.advance(60).await;
        until_given_back(&app, id(&payment)).await;
        assert_eq!(app.client.payment(id(&payment)).await["status"], "expired");
        app.stop().await;
    }
}
