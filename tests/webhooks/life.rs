//! Every event of a payment, verified by an independent library; secrets; a receiver that is down
//! for a day.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Receiver, all_verified, kinds, said};
use crate::helpers::facts::Facts;
use crate::helpers::{TestApp, order};

const WHOLE_LIFE: [&str; 3] = [
    "payment.requires_action",
    "payment.succeeded",
    "refund.succeeded",
];

fn sorted(mut log: Vec<Value>) -> Vec<Value> {
    log.sort_by_key(|entry| said(entry)["version"].as_i64().unwrap());
    log
}

#[tokio::test(flavor = "multi_thread")]
async fn every_event_of_a_payments_life_is_verified_by_an_independent_library() {
    let app = TestApp::start().await;
    let receiver = Receiver::start().await;
    let endpoint = receiver.endpoint(&app.client, "all", json!({})).await;

    receiver
        .endpoint(
            &app.client,
            "paid",
            json!({"events": ["payment.succeeded"]}),
        )
        .await;

    let shown = app.client.get("/v1/notify_secret").await.expect(200);
    receiver
        .set("own", json!({"secret": shown["secret"]}))
        .await;
    let mut body = order();
    body["notify_url"] = json!(receiver.url("own"));
    let payment = app.client.pay(&body).await.expect(201);
    let id = payment["id"].as_str().unwrap();
    app.control.pay(&payment).await;
    app.client.until_status(id, "succeeded").await;
    app.client.refund(id, 888).await.expect(201);

    for hook in ["all", "own"] {
        let log = receiver.got(hook, 3).await;
        all_verified(&log);
        let log = sorted(log);
        assert_eq!(kinds(&log), WHOLE_LIFE, "{hook}: in order by the version");
        for entry in &log {
            let event = said(entry);
            assert_eq!(
                (&event["payment"], &event["object"], &event["livemode"]),
                (&json!(id), &json!("event"), &json!(false))
            );
            assert_eq!(entry["headers"]["webhook-id"], event["id"]);
            let read = app
                .client
                .get(&format!("/v1/events/{}", event["id"].as_str().unwrap()))
                .await
                .expect(200);
            assert_eq!(read, event, "the API shows what the webhook told");
        }
        let ids: BTreeSet<String> = log.iter().map(|e| said(e)["id"].to_string()).collect();
        assert_eq!(ids.len(), 3);
    }

    let paid = receiver.got("paid", 1).await;
    assert_eq!(kinds(&paid), ["payment.succeeded"]);
    assert_eq!(said(&paid[0])["data"]["amount_captured"], 8888);

    let query = format!("endpoint={}", endpoint["id"].as_str().unwrap());
    let done = super::deliveries(&app, &query, |l| {
        l.iter().all(|d| d["status"] == "delivered")
    })
    .await;
    assert_eq!(done.len(), 3);
    assert!(
        done.iter().all(|d| d["tries"] == 1
            && d["log"][0]["status"] == 200
            && d["log"][0]["answer"] == "taken"),
        "{done:#?}"
    );

    assert_eq!(receiver.log("all").await.len(), 3, "once each");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_secret_goes_on_for_the_overlap_and_a_wrong_one_is_refused() {
    let app = TestApp::start().await;
    let receiver = Receiver::start().await;
    let made = receiver
        .endpoint(
            &app.client,
            "a",
            json!({"events": ["payment.requires_action"]}),
        )
        .await;
    let path = format!("/v1/webhook_endpoints/{}", made["id"].as_str().unwrap());
    let test = async || {
        app.client
            .post(&format!("{path}/test"), "unused", &json!({}))
            .await
            .expect(200)
    };
    assert_eq!(test().await["delivered"], true);
    let rotated = app
        .client
        .post(
            &format!("{path}/rotate_secret"),
            "unused",
            &json!({"overlap_s": 100}),
        )
        .await
        .expect(200);
    assert_ne!(rotated["secret"], made["secret"]);
    assert!(rotated["old_secret_until"].is_string());
    for secret in [&made["secret"], &rotated["secret"]] {
        receiver.set("a", json!({"secret": secret})).await;
        assert_eq!(test().await["delivered"], true, "either is good now");
        app.client.pay(&order()).await.expect(201);
    }
    let log = receiver.got("a", 5).await;
    all_verified(&log);
    assert_eq!(
        log[4]["headers"]["webhook-signature"]
            .as_str()
            .unwrap()
            .split(' ')
            .count(),
        2
    );

    app.advance(101).await;
    assert_eq!(test().await["delivered"], true);
    receiver.set("a", json!({"secret": made["secret"]})).await;
    let refused = test().await;
    assert_eq!(
        (&refused["delivered"], &refused["status"]),
        (&json!(false), &json!(401)),
        "{refused}"
    );
    let shown = app.client.get(&path).await.expect(200);
    assert!(
        shown.get("secret").is_none() && shown["old_secret_until"].is_null(),
        "{shown}"
    );

    // The same for the secret of `notify_url`s, which can be read again.
    let before = app.client.get("/v1/notify_secret").await.expect(200);
    let after = app
        .client
        .post("/v1/notify_secret/rotate", "unused", &json!({}))
        .await
        .expect(200);
    assert_ne!(before["secret"], after["secret"]);
    assert_eq!(app.client.get("/v1/notify_secret").await.expect(200), after);
    for secret in [&before["secret"], &after["secret"]] {
        let hook = secret
            .as_str()
            .unwrap()
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .collect::<String>();
        receiver.set(&hook, json!({"secret": secret})).await;
        let mut body = order();
        body["notify_url"] = json!(receiver.url(&hook));
        app.client.pay(&body).await.expect(201);
        all_verified(&receiver.got(&hook, 1).await);
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_was_down_for_a_day_gets_every_event_in_an_order_it_can_restore() {
    let app = TestApp::start().await;
    let receiver = Receiver::start().await;
    let made = receiver.endpoint(&app.client, "a", json!({})).await;
    let port = receiver.port;
    receiver.stop().await;

    let mut payments = Vec::new();
    for _ in 0..3 {
        let id = app.paid().await["id"].as_str().unwrap().to_owned();
        app.client.refund(&id, 100).await.expect(201);
        app.client
            .until(&id, |p| p["refunds"][0]["status"] == "succeeded")
            .await;
        payments.push(id);
    }
    let mut passed = 0;
    let mut pass = async |seconds: i64| {
        app.advance(seconds).await;
        passed += seconds;
        // What is due now is tried, and written down.
        tokio::time::sleep(std::time::Duration::from_millis(60)).await;
        passed
    };
    while pass(900).await < 86_400 {}
    let pending = super::deliveries(&app, "", |l| {
        l.iter().all(|d| d["tries"].as_i64().unwrap() >= 4)
    })
    .await;
    assert_eq!(pending.len(), 9);
    assert!(
        pending
            .iter()
            .all(|d| d["status"] == "pending" && d["log"][0]["end"] == "unreachable"),
        "{pending:#?}"
    );

    let receiver = Receiver::at(port).await;
    receiver.set("a", json!({"secret": made["secret"]})).await;
    let enough = |log: &[Value]| {
        log.iter()
            .map(|e| said(e)["id"].to_string())
            .collect::<BTreeSet<_>>()
            .len()
            == 9
    };
    for _ in 0..150 {
        // The library lets clocks differ by 300 s: so this one is right before the jump and after
        // it.
        let by = pass(0).await;
        receiver.shift(by + 250).await;
        pass(500).await;
        if enough(&receiver.log("a").await) {
            break;
        }
    }
    let log = receiver.until("a", enough).await;
    all_verified(&log);
    let facts = Facts::of(&app).await;
    for id in &payments {
        let theirs: Vec<Value> = log
            .iter()
            .filter(|e| said(e)["payment"] == *id)
            .cloned()
            .collect();
        assert_eq!(kinds(&sorted(theirs)), facts.told(id).await);
    }
    facts.0.close().await.unwrap();
    super::deliveries(&app, "", |l| l.iter().all(|d| d["status"] == "delivered")).await;
    app.stop().await;
}
