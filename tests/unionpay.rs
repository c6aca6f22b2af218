//! UnionPay's notifications prove nothing by themselves: they make the query due, and what it says
//! is booked.

use interlock::domain::AllOwners;
use serde_json::{Value, json};

use crate::helpers::facts::taken_fen;
use crate::helpers::{TestApp, live, order};

async fn offered(app: &TestApp) -> Value {
    app.client.route(&[&app.unionpay]).await.expect(200);
    let payment = app.client.pay(&order()).await.expect(201);
    assert_eq!(payment["provider"], "unionpay");
    payment
}

/// The adapter's first own question is due after five minutes, and nobody moves the clock here.
#[tokio::test(flavor = "multi_thread")]
async fn a_notification_makes_the_query_due_and_the_query_books_the_money() {
    let app = TestApp::start().await;
    let payment = offered(&app).await;
    app.control.pay(&payment).await;
    let id = payment["id"].as_str().unwrap();
    let paid = app.client.until_status(id, "succeeded").await;
    assert!(paid["provider_transaction_id"].is_string());
    assert_eq!(taken_fen(&app).await, 8888);

    app.client.refund(id, 888).await.expect(201);
    app.client
        .until(id, |payment| payment["refunds"][0]["status"] == "succeeded")
        .await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notification_whose_query_fails_books_nothing() {
    let app = TestApp::start().await;
    let payment = offered(&app).await;
    let fault = json!({"provider": "unionpay", "call": "query", "kind": "bad_signature"});
    app.control.fault(fault).await;
    app.control.pay(&payment).await;
    let id = payment["id"].as_str().unwrap();
    let asked = |app: &TestApp| {
        let app = app.app().clone();
        let id = id.to_owned();
        async move {
            app.store
                .payment(AllOwners, &id.parse().unwrap())
                .await
                .unwrap()
                .unwrap()
                .attempts[0]
                .query_count
        }
    };

    while asked(&app).await == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let waiting = app.client.payment(id).await;

    assert_eq!(
        (waiting["status"].as_str(), live(&waiting)),
        (Some("requires_action"), 1)
    );

    app.control.mend().await;
    app.advance(301).await;
    app.client.until_status(id, "succeeded").await;
    app.stop().await;
}

/// There is no call that closes an order, so a canceled one is waited for.
#[tokio::test(flavor = "multi_thread")]
async fn a_canceled_offer_is_dead_only_after_its_deadline() {
    let app = TestApp::start().await;
    let payment = offered(&app).await;
    let id = payment["id"].as_str().unwrap();
    let path = format!("/v1/payments/{id}/cancel");
    app.client
        .post(&path, "unused", &json!({}))
        .await
        .expect(202);
    app.advance(900 + 60).await;
    assert_eq!(app.client.payment(id).await["status"], "processing");
    app.advance(70).await;
    app.client.until_status(id, "canceled").await;
    app.stop().await;
}

/// The types of transaction by which money went back, as UnionPay booked them, and how much each
/// time.
fn ways_back(app: &TestApp) -> Vec<(String, i64)> {
    let book = app.sandbox().book().lock();
    let refunds = book
        .orders()
        .into_iter()
        .flat_map(|order| order.refunds.values());
    let way = |details: &Value| details["txnType"].as_str().unwrap().to_owned();
    let mut ways: Vec<_> = refunds
        .map(|refund| (way(&refund.details), refund.amount.minor()))
        .collect();
    ways.sort_unstable();
    ways
}

/// Seconds to this hour in Beijing (UTC+8).
fn seconds_to(app: &TestApp, hour: i64) -> i64 {
    let now = app.app().clock.now().utc().timestamp() + 8 * 3600;
    (hour * 3600 - now).rem_euclid(86_400)
}

/// Until 23:00 in Beijing the whole of a payment is undone, which costs the merchant no fee;
/// afterwards, and in part, it is refunded.
#[tokio::test(flavor = "multi_thread")]
async fn a_whole_payment_is_undone_while_its_day_lasts() {
    let app = TestApp::start().await;
    app.advance(seconds_to(&app, 12)).await;
    let mut expected: Vec<(String, i64)> = Vec::new();

    for (amount, later_s, way) in [(8888, 0, "31"), (888, 0, "04"), (8888, 12 * 3600, "04")] {
        app.client.route(&[&app.unionpay]).await.expect(200);
        let payment = app.paid().await;
        let id = payment["id"].as_str().unwrap();
        app.advance(later_s).await;
        app.client.refund(id, amount).await.expect(201);
        app.client
            .until(id, |payment| payment["refunds"][0]["status"] == "succeeded")
            .await;
        expected.push((way.to_owned(), amount));
        expected.sort_unstable();
        assert_eq!(ways_back(&app), expected, "{amount} {later_s}");
    }

    app.stop().await;
}

/// The provider's day is over a minute before ours: what it refuses to undo is refunded, under
/// another number.
#[tokio::test(flavor = "multi_thread")]
async fn an_undo_that_comes_too_late_becomes_a_refund() {
    let app = TestApp::start().await;
    app.advance(seconds_to(&app, 23) - 120).await;
    offered(&app).await;
    let payment = app.paid().await;
    app.control.advance(130).await;
    let id = payment["id"].as_str().unwrap();
    let refund = app.client.refund(id, 8888).await.expect(201);

    assert_eq!(
        (&refund["status"], &refund["failure"]["code"]),
        (&json!("pending"), &json!("35"))
    );

    app.advance(61).await;
    app.client
        .until(id, |payment| payment["refunds"][0]["status"] == "succeeded")
        .await;
    assert_eq!(ways_back(&app), [("04".to_owned(), 8888)]);

    app.stop().await;
}
