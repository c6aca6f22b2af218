//! Notifications and what faults make of them, as the merchant's endpoint sees it.

use std::time::Duration;

use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::lab::{Lab, ask, merchant, next};

#[tokio::test]
async fn a_payment_is_told_at_once_and_once_when_it_is_acknowledged() {
    let lab = Lab::start().await;
    let (url, mut told) = merchant(0).await;
    lab.create("A1", &url).await;
    lab.pay("A1").await;
    let first = next(&mut told).await;
    assert_eq!(first.signature.as_deref(), Some("good"));
    assert_eq!(
        (&first.body["order_no"], &first.body["said"]),
        (&json!("A1"), &json!({"paid": 100}))
    );

    sent(&lab, 1).await;
    lab.sandbox.clock().advance(TimeDelta::days(2)).unwrap();
    // The next thing it hears is about something else.
    lab.create("A2", &url).await;
    lab.pay("A2").await;

    assert_eq!(next(&mut told).await.body["order_no"], "A2");
}

#[tokio::test]
async fn what_is_not_acknowledged_is_sent_again_when_the_clock_says_so() {
    let lab = Lab::start().await;
    let (url, mut told) = merchant(usize::MAX).await;
    lab.create("A1", &url).await;
    lab.pay("A1").await;
    let first = next(&mut told).await;

    for (jump_s, count) in [(60, 2), (600, 3)] {
        sent(&lab, count - 1).await;
        lab.sandbox
            .clock()
            .advance(TimeDelta::seconds(jump_s / 2))
            .unwrap();
        tokio::task::yield_now().await;
        assert!(told.try_recv().is_err(), "not before its time");
        lab.sandbox
            .clock()
            .advance(TimeDelta::seconds(jump_s))
            .unwrap();
        assert_eq!(
            next(&mut told).await.body["id"],
            first.body["id"],
            "the same notification"
        );
    }

    let log = sent(&lab, 3).await;
    assert_eq!(
        log[2]["answer"],
        json!({"status": 200, "body": "no", "acknowledged": false})
    );

    // The schedule is over.
    lab.sandbox.clock().advance(TimeDelta::days(2)).unwrap();
    lab.create("A2", &url).await;
    lab.pay("A2").await;

    assert_eq!(next(&mut told).await.body["order_no"], "A2");
}

#[tokio::test]
async fn a_refund_is_told_when_it_is_done() {
    let lab = Lab::start().await;
    let (url, mut told) = merchant(0).await;
    lab.create("A1", &url).await;
    lab.pay("A1").await;
    next(&mut told).await;
    ask(lab.face, "/refund/A1/R1").await;
    lab.sandbox.clock().advance(TimeDelta::days(1)).unwrap();
    assert_eq!(next(&mut told).await.body["said"], json!({"refunded": 30}));
}

#[tokio::test]
async fn a_merchant_that_cannot_be_reached_is_written_down() {
    let lab = Lab::start().await;
    lab.create("A1", "http://127.0.0.1:1/n").await;
    lab.pay("A1").await;
    let log = sent(&lab, 1).await;
    assert!(log[0]["answer"]["error"].is_string(), "{log:?}");
    assert_eq!(log[0]["event"]["type"], "paid");
}

#[tokio::test]
async fn a_dropped_notification_comes_with_the_next_try() {
    let lab = Lab::start().await;
    let (url, mut told) = merchant(0).await;
    lab.fault(json!({"provider": "alipay", "call": "notification", "kind": "drop"}))
        .await;
    lab.create("A1", &url).await;
    lab.pay("A1").await;
    let log = sent(&lab, 1).await;
    assert_eq!(
        (&log[0]["fault"], &log[0]["answer"]),
        (&json!("drop"), &Value::Null)
    );
    assert!(told.try_recv().is_err());
    lab.heal().await;
    lab.sandbox.clock().advance(TimeDelta::seconds(61)).unwrap();
    assert_eq!(next(&mut told).await.body["order_no"], "A1");
}

#[tokio::test]
async fn a_delayed_notification_waits_for_the_clock() {
    let lab = Lab::start().await;
    let (url, mut told) = merchant(0).await;
    lab.fault(json!({"provider": "alipay", "kind": "delay", "latency_ms": 600_000}))
        .await;
    lab.create("A1", &url).await;
    lab.pay("A1").await;
    held(&lab).await;
    lab.sandbox
        .clock()
        .advance(TimeDelta::seconds(300))
        .unwrap();
    lab.heal().await;
    lab.create("A2", &url).await;
    lab.pay("A2").await;

    assert_eq!(
        next(&mut told).await.body["order_no"],
        "A2",
        "the delayed one is not out yet"
    );

    lab.sandbox
        .clock()
        .advance(TimeDelta::seconds(300))
        .unwrap();

    assert_eq!(next(&mut told).await.body["order_no"], "A1");
}

#[tokio::test]
async fn a_duplicate_is_the_same_notification_twice() {
    let lab = Lab::start().await;
    let (url, mut told) = merchant(0).await;
    lab.fault(json!({"provider": "alipay", "kind": "duplicate"}))
        .await;
    lab.create("A1", &url).await;
    lab.pay("A1").await;
    let (first, second) = (next(&mut told).await, next(&mut told).await);
    assert_eq!(
        (first.body, first.signature),
        (second.body, second.signature)
    );
}

#[tokio::test]
async fn a_reordered_notification_is_overtaken_or_comes_after_five_seconds() {
    let lab = Lab::start().await;
    let (url, mut told) = merchant(0).await;
    lab.fault(json!({"provider": "alipay", "kind": "reorder"}))
        .await;
    lab.create("A1", &url).await;
    lab.pay("A1").await;
    held(&lab).await;
    lab.heal().await;
    lab.create("A2", &url).await;
    lab.pay("A2").await;
    assert_eq!(next(&mut told).await.body["order_no"], "A2");
    assert_eq!(next(&mut told).await.body["order_no"], "A1");

    lab.fault(json!({"provider": "alipay", "kind": "reorder"}))
        .await;
    lab.create("A3", &url).await;
    lab.pay("A3").await;
    held(&lab).await;
    assert!(told.try_recv().is_err());
    lab.sandbox.clock().advance(TimeDelta::seconds(5)).unwrap();
    assert_eq!(next(&mut told).await.body["order_no"], "A3");
}

#[tokio::test]
async fn a_forged_notification_has_another_amount_and_a_signature_that_does_not_hold() {
    let lab = Lab::start().await;
    let (url, mut told) = merchant(0).await;
    lab.fault(json!({"provider": "alipay", "kind": "forge"}))
        .await;
    lab.create("A1", &url).await;
    lab.pay("A1").await;
    let (forged, genuine) = (next(&mut told).await, next(&mut told).await);

    assert_eq!(
        (forged.signature.as_deref(), &forged.body["said"]),
        (Some("bad"), &json!({"paid": 101}))
    );
    assert_eq!(
        (genuine.signature.as_deref(), &genuine.body["said"]),
        (Some("good"), &json!({"paid": 100}))
    );

    let captured = lab
        .sandbox
        .book()
        .lock()
        .by_order_no("A1")
        .unwrap()
        .captured_fen();

    assert_eq!(captured, 100, "the truth is as it was");
}

#[tokio::test]
async fn a_misstated_notification_is_signed_and_sent_again_rightly() {
    let lab = Lab::start().await;
    let (url, mut told) = merchant(1).await;
    lab.fault(json!({"provider": "alipay", "kind": "misstate"}))
        .await;
    lab.create("A1", &url).await;
    lab.pay("A1").await;
    let misstated = next(&mut told).await;

    assert_eq!(
        (misstated.signature.as_deref(), &misstated.body["said"]),
        (Some("good"), &json!({"paid": 101}))
    );

    sent(&lab, 1).await;
    lab.heal().await;
    lab.control("POST", "/clock", &json!({"advance_s": 3600}))
        .await;
    let right = next(&mut told).await;

    assert_eq!(
        (right.signature.as_deref(), &right.body["said"]),
        (Some("good"), &json!({"paid": 100}))
    );
}

/// Lets the tasks of the sandbox, which share this thread, run until the notification is held.
async fn held(lab: &Lab) {
    lab.control("GET", "/notifications", &Value::Null).await;
}

/// The log, once `count` sendings are written down.
async fn sent(lab: &Lab, count: usize) -> Vec<Value> {
    let wait = async {
        loop {
            let (_, log) = lab.control("GET", "/notifications", &Value::Null).await;
            let log = log["data"].as_array().unwrap().clone();
            if log.len() >= count {
                return log;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), wait)
        .await
        .unwrap()
}
