//! What is urgent does not wait behind what is not: charges in doubt beside a flood of expired
//! codes, what is put off while a provider is out, waits that were written before all time was set
//! back, and how much each job can do.

use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use interlock::api::auth::Scope;
use interlock::domain::Timestamp;
use interlock::jobs;
use serde_json::{Value, json};

use crate::addresses::made;
use crate::helpers::facts::Facts;
use crate::helpers::{PATIENCE, TestApp, barcode, order};
use crate::switchover::settings;

/// On a machine that is busy with other things commits may take their time.
const PATIENT: (&str, &str) = ("admission.max_commit_wait_ms", "60000");

/// So many codes, made a few at a time.
async fn codes(app: &TestApp, provider: &str, count: usize) -> Vec<Value> {
    let made = futures_util::stream::iter(0..count).map(|_| async {
        let mut body = order();
        body["providers"] = json!([provider]);
        app.client.pay(&body).await.expect(201)
    });
    made.buffer_unordered(8).collect().await
}

/// So many codes expire at once at a provider that answers no question; then charges whose answers
/// are lost are made at another one. How long it takes until all of these are known to be paid:
/// from a second on they are asked about.
pub async fn charges_beside_expired_codes(expired: usize, charges: usize) -> Duration {
    let app = TestApp::with(&[
        PATIENT,
        ("payments.query_timeout_ms", "2000"),
        ("payments.charge_timeout_ms", "700"),
    ])
    .await;
    codes(&app, "alipay", expired).await;
    for call in ["query", "close"] {
        app.control
            .fault(
                json!({"provider": "alipay", "call": call, "kind": "timeout_before",
                "probability": 1}),
            )
            .await;
    }
    let lost = json!({"provider": "unionpay", "call": "create", "kind": "timeout_after",
        "probability": 1});
    app.control.fault(lost).await;
    app.advance(905).await;
    tokio::time::sleep(Duration::from_millis(600)).await;

    let began = Instant::now();
    let decided = (0..charges).map(|_| async {
        let mut body = barcode("unionpay", 0);
        body["wait"] = 0.into();
        let payment = app.client.pay(&body).await.json();
        let id = payment["id"].as_str().unwrap().to_owned();
        while app.client.payment(&id).await["status"] != "succeeded" {
            assert!(
                began.elapsed() < Duration::from_secs(150),
                "{id} is not known to be paid"
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    futures_util::future::join_all(decided).await;
    let took = began.elapsed();
    let due = Facts::of(&app)
        .await
        .count("payments WHERE next_check_at IS NOT NULL")
        .await;
    println!(
        "{charges} charges in doubt were decided after {took:?}, beside {due} of {expired} expired \
        codes"
    );
    app.stop().await;
    took
}

#[tokio::test(flavor = "multi_thread")]
async fn charges_in_doubt_are_decided_in_their_own_time_whatever_has_expired_elsewhere() {
    let wanted = |name: &str, usual| {
        std::env::var(name)
            .ok()
            .and_then(|n| n.parse().ok())
            .unwrap_or(usual)
    };
    let (expired, charges) = (
        wanted("INTERLOCK_TEST_EXPIRED", 250),
        wanted("INTERLOCK_TEST_CHARGES", 8),
    );
    let took = charges_beside_expired_codes(expired, charges).await;
    assert!(took < Duration::from_secs(9), "{took:?}");
}

/// A merchant whose own account answers nobody has very many charges in doubt. Another one's, at
/// the same provider, is asked about in its own time all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_charge_in_doubt_does_not_wait_behind_a_neighbours_that_hang() {
    let places = ("resolver.batch", "16");
    let calls = [
        ("payments.query_timeout_ms", "2000"),
        ("payments.charge_timeout_ms", "700"),
    ];
    // Breakers would have the neighbour's be refused before they are made.
    let app =
        TestApp::with(&[&[PATIENT, places, ("health.breakers", "false")][..], &calls].concat())
            .await;
    let hostile = app.other_merchant(&[Scope::Admin, Scope::Pay]).await;
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut its_own = settings(&app, "unionpay").await;
    its_own["base_url"] = json!(format!("http://{}", silent.local_addr().unwrap()));
    let kept = tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((stream, _)) = silent.accept().await {
            kept.push(stream);
        }
    });
    made(&hostile, "unionpay", &its_own).await.expect(201);
    let charge = || {
        let mut body = barcode("unionpay", 0);
        body["wait"] = 0.into();
        body
    };
    let made = futures_util::stream::iter(0..120).map(|_| async { hostile.pay(&charge()).await });
    let hanging: Vec<_> = made.buffer_unordered(16).collect().await;
    assert!(
        hanging
            .iter()
            .all(|answer| [201, 202].contains(&answer.status.as_u16()))
    );

    // All of them are due by then, and few have a place.
    tokio::time::sleep(Duration::from_secs(3)).await;

    for kind in [
        json!({"call": "create", "kind": "timeout_after"}),
        json!({"kind": "drop"}),
    ] {
        let mut fault = kind;
        (fault["provider"], fault["probability"]) = (json!("unionpay"), json!(1));
        app.control.fault(fault).await;
    }
    let began = Instant::now();
    let payment = app.client.pay(&charge()).await.json();
    app.client
        .until_status(payment["id"].as_str().unwrap(), "succeeded")
        .await;
    let took = began.elapsed();
    let due = Facts::of(&app)
        .await
        .count("payments WHERE urgency = 1 AND next_check_at IS NOT NULL")
        .await;
    println!("known after {took:?}, beside {due} charges in doubt of another merchant");
    assert!(due > 30, "the neighbour's hang: {due}");
    // Behind all of them it would be seven seconds.
    assert!(took < Duration::from_secs(5), "{took:?}");
    app.stop().await;
    kept.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_when_all_time_is_set_back_waits_no_longer_than_it_was_to() {
    let app = TestApp::with(&[("payments.charge_timeout_ms", "700")]).await;
    app.control
        .fault(
            json!({"provider": "unionpay", "call": "create", "kind": "timeout_after",
            "probability": 1}),
        )
        .await;

    // A charge whose answer is lost while time is an hour ahead: it is asked about a second and
    // three seconds later.
    app.app().clock.shift(3_600_000);
    let mut body = barcode("unionpay", 0);
    body["wait"] = 0.into();
    let charge = app.client.pay(&body).await.json();
    let id = charge["id"].as_str().unwrap();
    app.app().clock.shift(-3_600_000);
    let began = Instant::now();
    app.client.until_status(id, "succeeded").await;
    println!("known {:?} after all time was set back", began.elapsed());

    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );

    let ahead = app
        .app()
        .store
        .left_ahead(app.app().clock.now().plus_ms(2_000), 10)
        .await
        .unwrap();

    assert_eq!(ahead, [], "nothing is left that lies too far ahead");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_does_not_wait_for_one_that_was_sent_before_all_time_was_set_back() {
    const AHEAD_MS: i64 = 240_000;
    let app = TestApp::start().await;
    for provider in providers::PROTOCOLS
        .iter()
        .map(|protocol| protocol.name.as_str())
    {
        let mut body = order();
        body["providers"] = json!([provider]);
        let payment = app.client.pay(&body).await.expect(201);
        let id = payment["id"].as_str().unwrap();
        app.control.pay(&payment).await;
        app.client.until_status(id, "succeeded").await;

        // Not so far that a provider would mind.
        app.app().clock.shift(AHEAD_MS);
        app.client.refund(id, 100).await.expect(201);
        app.client.until(id, |p| p["amount_refunded"] == 100).await;
        app.app().clock.shift(-AHEAD_MS);

        let began = Instant::now();
        app.client.refund(id, 100).await.expect(201);
        app.client.until(id, |p| p["amount_refunded"] == 200).await;
        println!("{provider}: given back after {:?}", began.elapsed());
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_asks_a_provider_that_is_known_to_be_out_and_all_is_asked_once_it_is_back() {
    let app = TestApp::with(&[("payments.query_timeout_ms", "1000")]).await;
    let payment = codes(&app, "alipay", 1).await.remove(0);
    let id = payment["id"].as_str().unwrap();
    app.control
        .fault(json!({"provider": "alipay", "kind": "drop", "probability": 1}))
        .await;
    app.control
        .fault(json!({"provider": "alipay", "kind": "http_500", "probability": 1}))
        .await;
    app.control.pay(&payment).await;
    let began = Instant::now();

    let out = || {
        let vital = app.app().health.board().peek_provider(
            "alipay".parse().unwrap(),
            providers::order::Flow::Qr,
            interlock::domain::Mode::Test,
        );
        vital.is_some_and(|vital| vital.gate() == interlock::routing::health::BreakerState::Open)
    };

    while !out() {
        assert!(began.elapsed() < PATIENCE, "its breaker does not open");
        app.client.pay(&order()).await;
    }

    // Its first question is due.
    app.advance(31).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let facts = Facts::of(&app).await;
    let asked = format!("attempts WHERE payment_id = '{id}' AND questions > 0");
    assert_eq!(facts.count(&asked).await, 0, "only the probe asks");

    let waits = format!(
        "payments WHERE id = '{id}' AND next_check_at > {}",
        app.app().clock.now().0
    );
    assert_eq!(facts.count(&waits).await, 1, "it is put off");

    app.control.mend().await;
    let began = Instant::now();

    loop {
        app.advance(3).await;
        if app.client.payment(id).await["status"] == "succeeded" {
            break;
        }
        assert!(
            began.elapsed() < PATIENCE * 2,
            "it is not asked about once the provider is back"
        );
        tokio::time::sleep(Duration::from_millis(300)).await;
    }

    app.stop().await;
}

/// Each job by itself, on rows that were prepared for it, and what payments can bring: 550 offers
/// and 300 whole lives a second. A build without optimisation on a machine that others use has to
/// do a tenth of it.
#[tokio::test(flavor = "multi_thread")]
async fn each_job_can_do_more_than_payments_bring() {
    const HOUR: &str = "3600000";
    let idle = [
        PATIENT,
        ("resolver.interval_ms", HOUR),
        ("webhooks.interval_ms", HOUR),
        ("ledger.interval_ms", HOUR),
    ];
    let app = TestApp::with(&idle).await;
    let hook = json!({"url": "http://127.0.0.1:8999/hook"});
    app.client
        .post("/v1/webhook_endpoints", "unused", &hook)
        .await
        .expect(201);
    for provider in ["alipay", "wechatpay", "unionpay"] {
        app.control
            .fault(json!({"provider": provider, "kind": "drop", "probability": 1}))
            .await;
    }
    let payments = codes(&app, "alipay", 150).await;
    for payment in &payments {
        app.control.pay(payment).await;
    }
    app.advance(31).await;

    let mut table = Vec::new();
    let began = Instant::now();
    let done = jobs::resolver::step(app.app()).await.unwrap();
    table.push((
        "resolver: payments that nobody told of",
        done,
        began.elapsed(),
        300_usize,
    ));

    let now: Timestamp = app.app().clock.now();
    let (began, mut done) = (Instant::now(), 0);
    loop {
        let more = app
            .app()
            .store
            .fan_out(now, app.app().config.webhooks.batch, || {})
            .await
            .unwrap();
        if more == 0 {
            break;
        }
        done += more;
    }
    table.push(("webhooks: events fanned out", done, began.elapsed(), 850));

    let entries = usize::try_from(
        Facts::of(&app)
            .await
            .count("ledger_entries WHERE block IS NULL")
            .await,
    )
    .unwrap();
    let began = Instant::now();
    jobs::ledger::step(app.app()).await.unwrap();
    table.push(("ledger: entries sealed", entries, began.elapsed(), 300));

    let part = if cfg!(debug_assertions) { 10 } else { 1 };
    println!(
        "{:45} {:>6} {:>10} {:>10} {:>10}",
        "job", "done", "took", "a second", "brought"
    );
    for (job, done, took, brought) in &table {
        let rate = *done * 1_000_000 / usize::try_from(took.as_micros()).unwrap().max(1);
        println!("{job:45} {done:>6} {took:>10.1?} {rate:>10} {brought:>10}");
        assert!(*done >= 150, "{job}: {done}");
        assert!(rate * part >= *brought, "{job}: {rate} a second");
    }
    app.stop().await;
}
