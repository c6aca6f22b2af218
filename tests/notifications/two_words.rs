//! A notification that says two things about one order or refund: the event's name, and the state
//! inside. Neither is believed; the provider is asked, now.

use providers::sandbox::simulator::Alteration;
use serde_json::json;

use super::pen::Pen;
use super::{Told, is_told, post, unheard};
use crate::helpers::TestApp;
use crate::helpers::facts::Facts;

#[tokio::test(flavor = "multi_thread")]
async fn a_success_that_shows_another_state_is_asked_about() {
    let app = TestApp::start().await;
    let (payment, order) = unheard(&app, "wechatpay").await;
    let pen = Pen::new(&app, "wechatpay");
    let odd = pen.edited(
        &pen.paid(&order, 1, Alteration::None),
        "trade_state",
        Some("USERPAYING"),
    );
    is_told(
        "wechatpay",
        &post(&app, &app.wechatpay, &odd.headers, odd.body.clone()).await,
        Told::Stop,
    );

    // Without it, the next question would be minutes away.
    app.client
        .until_status(payment["id"].as_str().unwrap(), "succeeded")
        .await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_that_failed_by_its_state_and_was_done_by_its_event_is_asked_about() {
    let app = TestApp::start().await;
    app.client.route(&[&app.wechatpay]).await.expect(200);
    let paid = app.paid().await;
    let id = paid["id"].as_str().unwrap();
    app.control
        .fault(json!({"provider": "wechatpay", "kind": "drop"}))
        .await;
    app.client.refund(id, 88).await.expect(201);
    app.control.advance(60).await;
    let order_no = paid["attempts"][0]["provider_order_no"].as_str().unwrap();
    let pen = Pen::new(&app, "wechatpay");
    let good = pen.refund_ended(&app, order_no, 2).await;
    let odd = pen.edited(&good, "refund_status", Some("CLOSED"));
    let account = format!("{}/refund", app.wechatpay);
    is_told(
        "wechatpay",
        &post(&app, &account, &odd.headers, odd.body.clone()).await,
        Told::Stop,
    );
    let seen = app.client.until(id, |p| p["amount_refunded"] == 88).await;
    assert_eq!(seen["refunds"][0]["status"], "succeeded", "{seen:#}");
    assert_eq!(Facts::of(&app).await.count("operations").await, 0);

    app.stop().await;
}

/// That money went back is not forgotten because the sum is another one.
#[tokio::test(flavor = "multi_thread")]
async fn a_refund_of_another_amount_is_asked_about_and_made_no_second_time_while_answers_deny_it() {
    let app = TestApp::start().await;
    app.client.route(&[&app.wechatpay]).await.expect(200);
    let paid = app.paid().await;
    let id = paid["id"].as_str().unwrap();
    app.control
        .fault(json!({"provider": "wechatpay", "kind": "drop"}))
        .await;
    app.control
        .fault(json!({"provider": "wechatpay", "call": "query_refund", "kind": "reset"}))
        .await;
    app.client.refund(id, 88).await.expect(201);
    app.control.advance(60).await;
    let order_no = paid["attempts"][0]["provider_order_no"].as_str().unwrap();
    let pen = Pen::new(&app, "wechatpay");
    let good = pen.refund_ended(&app, order_no, 3).await;
    let odd = pen.edited(&good, "amount.refund", Some("89"));
    let account = format!("{}/refund", app.wechatpay);
    is_told(
        "wechatpay",
        &post(&app, &account, &odd.headers, odd.body.clone()).await,
        Told::Stop,
    );
    let facts = Facts::of(&app).await;
    assert_eq!(
        facts
            .count("refunds WHERE told_done AND status = 'pending'")
            .await,
        1
    );
    assert_eq!(
        facts
            .count("operations WHERE kind = 'notification_mismatch'")
            .await,
        1,
        "a person looks"
    );

    app.control.mend().await;
    app.client.until(id, |p| p["amount_refunded"] == 88).await;
    let order = app
        .sandbox()
        .book()
        .lock()
        .by_order_no(order_no)
        .unwrap()
        .clone();
    assert_eq!(order.refunds.len(), 1);
    app.stop().await;
}
