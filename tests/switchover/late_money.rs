//! Money that arrives on an attempt that was given up: kept when the payment is still open, owed
//! back when it has been paid, and told about once.

use serde_json::{Value, json};

use super::{ORDERS, Order, PAST_DEADLINES_S, id, order_no, pairs};
use crate::helpers::facts::{Facts, Watch, in_book, taken_fen};
use crate::helpers::{TestApp, attempts, order};

/// A payment whose first provider made the order and did not say so, while the second one's code is
/// shown.
pub async fn with_an_abandoned_order(
    app: &TestApp,
    names: [&'static str; 2],
    fault: &str,
) -> Value {
    let order_of_providers = Order::set(app, names).await;
    let [first, second] = order_of_providers.names;
    app.control
        .fault(json!({"provider": first, "call": "create", "kind": fault}))
        .await;

    // Every notification comes twice: none may count twice.
    for provider in names {
        app.control
            .fault(json!({"provider": provider, "kind": "duplicate"}))
            .await;
    }

    let payment = app.client.pay(&order()).await.expect(201);
    assert_eq!(
        attempts(&payment),
        pairs([(first, "abandoned"), (second, "awaiting_payer")])
    );

    payment
}

pub async fn pay_order(app: &TestApp, order_no: &str) {
    let (status, said) = app.control.pay_order(order_no).await;
    assert_eq!(status, 200, "{said}");
}

async fn is_kept_while_the_payment_is_open(names: [&'static str; 2], fault: &str) {
    let app = TestApp::start().await;
    let payment = with_an_abandoned_order(&app, names, fault).await;
    let watch = Watch::start(&app).await;
    let [first, second] = names;
    pay_order(&app, order_no(&payment, 0)).await;
    let paid = app.client.until_status(id(&payment), "succeeded").await;

    assert_eq!(
        (paid["provider"].clone(), paid["account"].clone()),
        (json!(first), paid["attempts"][0]["account"].clone())
    );
    assert_eq!(paid["attempts"][0]["disposition"], "kept");
    assert_eq!(
        paid["next_action"]["type"], "none",
        "the other code is not shown any more"
    );

    assert!(
        matches!(
            paid["attempts"][1]["status"].as_str(),
            Some("superseded" | "dead")
        ),
        "{paid}"
    );

    if second == "alipay" {
        // Nobody has scanned it, so there is no trade to close yet: it dies with its code.
        app.advance(PAST_DEADLINES_S).await;
    }
    let ended = app
        .client
        .until(id(&payment), |p| p["attempts"][1]["status"] == "dead")
        .await;

    assert_eq!(
        attempts(&ended),
        pairs([(first, "captured"), (second, "dead")])
    );

    let state = in_book(&app, order_no(&payment, 1), "state").await;
    assert_eq!(
        state,
        if second == "alipay" {
            "shown"
        } else {
            "closed"
        }
    );

    let (status, said) = app.control.pay_order(order_no(&payment, 1)).await;
    assert_eq!(status, 409, "{said}");
    assert_eq!(taken_fen(&app).await, 8888);

    let told = Facts::of(&app).await.told(id(&payment)).await;
    assert_eq!(told, ["payment.requires_action", "payment.succeeded"]);
    watch.stop().await;
    app.stop().await;
}

/// Until the money on one of its attempts has gone back by itself, which some providers take a
/// while for.
pub async fn until_given_back(app: &TestApp, id: &str) {
    let given_back = |p: &Value| {
        p["attempts"]
            .as_array()
            .unwrap()
            .iter()
            .any(|a| a["disposition"] == "refunded")
    };

    app.client
        .until(id, |p| p["refunds"].as_array().unwrap().len() == 1)
        .await;
    for pause in crate::helpers::pauses() {
        if given_back(&app.client.payment(id).await) {
            return;
        }
        app.advance(61).await;
        tokio::time::sleep(pause).await;
    }

    panic!("not given back: {:#}", app.client.payment(id).await);
}

async fn is_owed_back_when_the_payment_has_been_paid(
    names: [&'static str; 2],
    fault: &str,
    notified: bool,
) {
    let app = TestApp::start().await;
    let payment = with_an_abandoned_order(&app, names, fault).await;
    let watch = Watch::start(&app).await;
    let [first, second] = names;
    app.control.pay(&payment).await;
    app.client.until_status(id(&payment), "succeeded").await;
    if !notified {
        app.control.mend().await;
        app.control
            .fault(json!({"provider": first, "kind": "drop"}))
            .await;
    }

    pay_order(&app, order_no(&payment, 0)).await;
    if !notified {
        app.advance(PAST_DEADLINES_S).await;
    }
    until_given_back(&app, id(&payment)).await;
    let late = app.client.payment(id(&payment)).await;

    assert_eq!(
        (late["status"].clone(), late["provider"].clone()),
        (json!("succeeded"), json!(second))
    );
    assert_eq!(late["attempts"][0]["disposition"], "refunded");
    assert_eq!(late["attempts"][1]["disposition"], "kept");
    assert_eq!(
        late["amount_captured"], 8888,
        "the second money is not the merchant's"
    );

    let facts = Facts::of(&app).await;
    let told = facts.told(id(&payment)).await;

    assert_eq!(
        told,
        [
            "payment.requires_action",
            "payment.succeeded",
            "payment.late_captured",
            "refund.succeeded"
        ]
    );

    assert_eq!(
        (&late["refunds"][0]["automatic"], &late["refunds"][1]),
        (&json!(true), &json!(null))
    );

    let event = facts
        .rows("SELECT data FROM events WHERE type = 'payment.late_captured'")
        .await;
    let stored = &event[0]["data"];
    let data = stored.as_str().map_or_else(
        || stored.clone(),
        |text| serde_json::from_str(text).unwrap(),
    );

    assert_eq!(
        (&data["duplicate"], &data["disposition"]),
        (&json!(true), &json!("refund_due"))
    );
    assert_eq!(
        (&data["attempt"], &data["amount"]),
        (&late["attempts"][0]["id"], &json!(8888))
    );

    watch.stop().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn money_on_an_abandoned_order_is_kept_while_the_payment_is_open_and_the_shown_code_is_ended()
{
    for fault in ["timeout_after", "garbled"] {
        let [one, other] = ORDERS;
        tokio::join!(
            is_kept_while_the_payment_is_open(one, fault),
            is_kept_while_the_payment_is_open(other, fault)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn money_on_an_abandoned_order_is_owed_back_when_the_payment_has_been_paid() {
    for fault in ["timeout_after", "garbled"] {
        let [one, other] = ORDERS;
        tokio::join!(
            is_owed_back_when_the_payment_has_been_paid(one, fault, true),
            is_owed_back_when_the_payment_has_been_paid(other, fault, true)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn money_on_an_abandoned_order_is_found_at_its_deadline_when_no_notification_comes() {
    let [one, other] = ORDERS;
    tokio::join!(
        is_owed_back_when_the_payment_has_been_paid(one, "garbled", false),
        is_owed_back_when_the_payment_has_been_paid(other, "garbled", false)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn both_codes_paid_at_the_same_moment_keep_one() {
    for names in ORDERS {
        let app = TestApp::start().await;
        let payment = with_an_abandoned_order(&app, names, "garbled").await;
        let watch = Watch::start(&app).await;
        tokio::join!(
            pay_order(&app, order_no(&payment, 0)),
            pay_order(&app, order_no(&payment, 1))
        );
        let both = |p: &Value| {
            p["attempts"]
                .as_array()
                .unwrap()
                .iter()
                .all(|a| a["status"] == "captured")
        };
        app.client.until(id(&payment), both).await;
        until_given_back(&app, id(&payment)).await;
        let paid = app.client.payment(id(&payment)).await;
        let mut dispositions: Vec<&str> = paid["attempts"]
            .as_array()
            .unwrap()
            .iter()
            .map(|a| a["disposition"].as_str().unwrap())
            .collect();
        dispositions.sort_unstable();
        assert_eq!(dispositions, ["kept", "refunded"], "{paid}");
        assert_eq!(
            (paid["status"].clone(), paid["amount_captured"].clone()),
            (json!("succeeded"), json!(8888))
        );
        let told = Facts::of(&app).await.told(id(&payment)).await;
        assert_eq!(
            told,
            [
                "payment.requires_action",
                "payment.succeeded",
                "payment.late_captured",
                "refund.succeeded"
            ]
        );
        watch.stop().await;
        app.stop().await;
    }
}
