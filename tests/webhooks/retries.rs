//! What becomes of deliveries that are not taken: 410, Retry-After, bodies, redirects, the last
//! try, slowness.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Receiver, deliveries, said};
use crate::helpers::facts::Facts;
use crate::helpers::{TestApp, order};

async fn pay_to(app: &TestApp, url: &str) -> Value {
    let mut body = order();
    body["notify_url"] = json!(url);
    app.client.pay(&body).await.expect(201)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_answers_410_gets_no_more() {
    let app = TestApp::start().await;
    let receiver = Receiver::start().await;
    let made = receiver.endpoint(&app.client, "a", json!({})).await;
    receiver.set("a", json!({"status": 410})).await;
    let path = format!("/v1/webhook_endpoints/{}", made["id"].as_str().unwrap());
    app.paid().await;
    let query = format!("endpoint={}", made["id"].as_str().unwrap());
    deliveries(&app, &query, |l| {
        !l.is_empty() && l.iter().all(|d| d["status"] == "stopped")
    })
    .await;
    let disabled = app.client.get(&path).await.expect(200);
    assert_eq!(
        (&disabled["status"], &disabled["disabled_reason"]),
        (&json!("disabled"), &json!("gone"))
    );
    let so_far = receiver.log("a").await.len();

    // A disabled endpoint gets nothing, and refuses a replay; enabled again, it gets what is new
    // and what is replayed.
    receiver.set("a", json!({"status": 200})).await;
    app.client.pay(&order()).await.expect(201);
    app.client
        .post(
            &format!("{path}/replay"),
            "unused",
            &json!({"since": "2020-01-01T00:00:00+08:00"}),
        )
        .await
        .problem(409, "endpoint_disabled", None);
    app.advance(10).await;
    assert_eq!(receiver.log("a").await.len(), so_far);
    let enable = json!({"status": "enabled"}).to_string().into_bytes();
    let enabled = app
        .client
        .send(reqwest::Method::PATCH, &path, None, Some(enable))
        .await
        .expect(200);
    assert_eq!(
        (&enabled["status"], &enabled["disabled_reason"]),
        (&json!("enabled"), &Value::Null)
    );
    let since = json!({"since": "2020-01-01T00:00:00+08:00"});
    let replay = app
        .client
        .post(&format!("{path}/replay"), "unused", &since)
        .await
        .expect(202);
    assert_eq!(
        (&replay["deliveries"], &replay["more_since"]),
        (&json!(3), &Value::Null)
    );
    super::all_verified(&receiver.got("a", so_far + 3).await);

    // A payment's own address only speaks for that payment.
    receiver
        .set("own", json!({"status": 410, "careless": true}))
        .await;
    let payment = pay_to(&app, &receiver.url("own")).await;
    deliveries(&app, "status=stopped", |l| {
        l.iter().any(|d| d["notify_url"].is_string())
    })
    .await;
    app.control.pay(&payment).await;
    app.client
        .until_status(payment["id"].as_str().unwrap(), "succeeded")
        .await;
    let other = pay_to(&app, &receiver.url("own")).await;
    let log = receiver.got("own", 2).await;
    let told: Vec<Value> = log.iter().map(|e| said(e)["payment"].clone()).collect();
    assert_eq!(told, [payment["id"].clone(), other["id"].clone()]);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn retry_after_is_obeyed_in_seconds_and_as_a_date() {
    let app = TestApp::start().await;
    let receiver = Receiver::start().await;
    receiver.endpoint(&app.client, "a", json!({})).await;
    let busy = json!({"status": 503, "headers": {"retry-after": "200"}});
    receiver.set("a", busy).await;
    app.client.pay(&order()).await.expect(201);
    receiver.got("a", 1).await;
    deliveries(&app, "", |l| l[0]["tries"] == 1).await;
    receiver
        .set("a", json!({"status": 200, "headers": {}}))
        .await;
    // The ladder alone would try again after 5 to 6 seconds.
    app.advance(190).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(receiver.log("a").await.len(), 1);
    app.advance(15).await;
    receiver.got("a", 2).await;
    deliveries(&app, "", |l| {
        l[0]["status"] == "delivered" && l[0]["tries"] == 2
    })
    .await;

    let at = app
        .app()
        .clock
        .now()
        .plus_s(1000)
        .utc()
        .format("%a, %d %b %Y %H:%M:%S GMT")
        .to_string();
    receiver
        .set(
            "b",
            json!({"status": 429, "headers": {"Retry-After": at}, "careless": true}),
        )
        .await;
    pay_to(&app, &receiver.url("b")).await;
    receiver.got("b", 1).await;
    let waits = deliveries(&app, "", |l| {
        l.iter()
            .any(|d| d["notify_url"].is_string() && d["tries"] == 1)
    })
    .await;
    let next = waits.iter().find(|d| d["notify_url"].is_string()).unwrap()["next_try_at"]
        .as_str()
        .unwrap()
        .to_owned();
    let next = chrono::DateTime::parse_from_rfc3339(&next)
        .unwrap()
        .timestamp();
    let pause_s = next - app.app().clock.now().0 / 1000;
    assert!((990..=1000).contains(&pause_s), "{pause_s}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shops_that_answer_success_are_believed_by_that_word_alone() {
    let app = TestApp::start().await;
    let receiver = Receiver::start().await;
    let made = receiver
        .endpoint(&app.client, "a", json!({"mode": "success_body"}))
        .await;
    let path = format!(
        "/v1/webhook_endpoints/{}/test",
        made["id"].as_str().unwrap()
    );

    for (status, body, delivered, end) in [
        (200, "success", true, "delivered"),
        (200, " SUCCESS\n", true, "delivered"),
        (200, "fail", false, "wrong_body"),
        (200, "", false, "wrong_body"),
        (200, "{\"result\": \"success\"}", false, "wrong_body"),
        (500, "success", false, "http_status"),
    ] {
        receiver
            .set("a", json!({"status": status, "body": body}))
            .await;
        let test = app
            .client
            .post(&path, "unused", &json!({}))
            .await
            .expect(200);
        assert_eq!(
            (&test["delivered"], &test["end"]),
            (&json!(delivered), &json!(end)),
            "{status} {body:?}: {test}"
        );
    }

    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_is_not_followed_and_a_long_answer_not_kept() {
    let app = TestApp::start().await;
    let receiver = Receiver::start().await;
    let made = receiver.endpoint(&app.client, "a", json!({})).await;
    let path = format!(
        "/v1/webhook_endpoints/{}/test",
        made["id"].as_str().unwrap()
    );

    for status in [301, 302, 303, 307, 308] {
        receiver
            .set(
                "a",
                json!({"status": status, "headers": {"location": receiver.url("b")}}),
            )
            .await;
        let test = app
            .client
            .post(&path, "unused", &json!({}))
            .await
            .expect(200);
        assert_eq!(
            (&test["delivered"], &test["status"]),
            (&json!(false), &json!(status))
        );
    }

    assert_eq!(receiver.log("b").await.len(), 0);
    receiver
        .set(
            "a",
            json!({"status": 200, "headers": {}, "body": "x".repeat(1 << 20)}),
        )
        .await;

    let test = app
        .client
        .post(&path, "unused", &json!({}))
        .await
        .expect(200);

    assert_eq!(
        (&test["delivered"], test["answer"].as_str().unwrap().len()),
        (&json!(true), 1024)
    );

    app.stop().await;
}

/// Waits until every try that is due has been made and written down: a jump of the clock would end
/// its lease.
async fn nothing_is_on_its_way(app: &TestApp) {
    let facts = Facts::of(app).await;
    let due = format!(
        "deliveries WHERE status = 'pending' AND next_try_at <= {}",
        app.app().clock.now().0
    );
    let began = std::time::Instant::now();
    let mut idle_since = None;

    loop {
        let claimed = facts
            .count("deliveries WHERE status = 'pending' AND fence > tries")
            .await;
        let idle = facts.count(&due).await == 0;
        let (since, before) = *idle_since.get_or_insert((std::time::Instant::now(), claimed));
        if !idle || before != claimed {
            idle_since = None;
        }
        // A leap of the clock in the middle of a claim ends its lease at once: the delivery is
        // claimed again, and its fence stays ahead of its tries.
        if idle && (claimed == 0 || since.elapsed() > Duration::from_secs(1)) {
            break;
        }
        assert!(
            began.elapsed() < crate::helpers::PATIENCE,
            "a try is not made"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    facts.0.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_takes_in_three_days_fails_is_alarmed_and_can_be_replayed() {
    let app = TestApp::start().await;
    let receiver = Receiver::start().await;
    let made = receiver.endpoint(&app.client, "a", json!({})).await;
    receiver
        .set("a", json!({"status": 500, "careless": true}))
        .await;
    receiver
        .set("own", json!({"status": 500, "careless": true}))
        .await;
    pay_to(&app, &receiver.url("own")).await;
    // The payment will expire meanwhile, which is another event.
    let first = deliveries(&app, "", |l| l.len() == 2).await[0]["event"]
        .as_str()
        .unwrap()
        .to_owned();
    let query = format!("event={first}");
    let began = app.app().clock.now();
    let mut failed_after_s = 0;
    for n in 1..200 {
        let deliveries = deliveries(&app, &query, |l| l.len() == 2).await;
        let waits = deliveries.iter().any(|d| d["status"] == "pending");
        if !waits {
            break;
        }
        let from = receiver.log("a").await.len() + receiver.log("own").await.len();
        app.advance(if n < 20 { 30 } else { 3_600 }).await;
        receiver
            .shift(app.app().clock.now().since(began) / 1000)
            .await;
        nothing_is_on_its_way(&app).await;
        if receiver.log("a").await.len() + receiver.log("own").await.len() > from {
            failed_after_s = app.app().clock.now().since(began) / 1000;
        }
    }
    let failed = deliveries(&app, &format!("{query}&status=failed"), |l| l.len() == 2).await;
    // One more may have been sent where a leap ended the lease in the middle of a claim.
    let sent = |delivery: &Value| delivery["log"].as_array().unwrap().len();
    for delivery in &failed {
        assert!(
            delivery["tries"] == 11 && sent(delivery) >= 11,
            "{delivery:#}"
        );
        assert!(delivery["log"][10]["status"] == 500 && delivery["next_try_at"].is_null());
    }
    assert!(
        failed_after_s >= 3 * 86_400,
        "given up after {failed_after_s} s"
    );
    let facts = Facts::of(&app).await;
    for subject in [made["id"].as_str().unwrap(), &app.merchant] {
        let began = Instant::now();
        while facts
            .count(&format!(
                "operations WHERE kind = 'webhook_failing' AND subject_id = '{subject}'"
            ))
            .await
            != 1
        {
            assert!(
                began.elapsed() < crate::helpers::PATIENCE,
                "{subject} is on the work list"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    facts.0.close().await.unwrap();
    let metrics = String::from_utf8(app.client.get("/metrics").await.bytes).unwrap();
    assert!(
        metrics.contains("interlock_webhook_tries_total{mode=\"test\",result=\"http_status\"}"),
        "{metrics}"
    );

    receiver.set("a", json!({"status": 200})).await;
    receiver.set("own", json!({"status": 200})).await;
    let replay = app
        .client
        .post(&format!("/v1/events/{first}/replay"), "unused", &json!({}))
        .await
        .expect(202);
    assert_eq!(replay["deliveries"], 2);
    let done = deliveries(&app, &format!("{query}&status=delivered"), |l| l.len() == 2).await;
    assert!(
        done.iter().all(|d| d["tries"] == 1 && sent(d) >= 12),
        "{done:#?}"
    );
    let healthy = app
        .client
        .get(&format!(
            "/v1/webhook_endpoints/{}",
            made["id"].as_str().unwrap()
        ))
        .await
        .expect(200);
    assert!(healthy["failing_since"].is_null());
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_receiver_holds_up_nobody_else_and_is_not_hammered() {
    let app = TestApp::with(&[
        ("webhooks.concurrency", "8"),
        ("webhooks.per_receiver", "4"),
    ])
    .await;
    let receiver = Receiver::start().await;
    let wants = json!({"events": ["payment.requires_action"]});
    receiver.endpoint(&app.client, "slow", wants.clone()).await;
    receiver.set("slow", json!({"delay_ms": 3_000})).await;
    receiver.endpoint(&app.client, "down", wants.clone()).await;
    receiver.set("down", json!({"status": 500})).await;
    receiver.endpoint(&app.client, "quick", wants).await;
    let began = Instant::now();
    for _ in 0..20 {
        app.client.pay(&order()).await.expect(201);
    }
    receiver.got("quick", 20).await;
    let all_taken = began.elapsed();
    let slow = receiver.log("slow").await;

    assert!(
        slow.iter().filter(|e| e["under_way"] == true).count() <= 4,
        "{slow:#?}"
    );
    assert!(slow.len() < 20, "the slow one is still at it");
    assert!(all_taken < Duration::from_secs(9), "{all_taken:?}");

    // One that fails is tried about once a second, however much waits for it (four may have been
    // under way).
    let down = receiver.log("down").await.len();
    assert!(
        down <= 5 + usize::try_from(all_taken.as_secs()).unwrap(),
        "{down} tries in {all_taken:?}"
    );

    app.stop().await;
}
