//! Who is let in: each merchant's share, what an account's owner allows, what a provider lets
//! itself be asked, and a gateway that refuses at once what it cannot do.

use std::time::Instant;

use futures_util::future::join_all;
use interlock::api::auth::Scope;
use sea_orm::{ConnectionTrait as _, TransactionTrait as _};
use serde_json::json;

use crate::helpers::{PATIENCE, TestApp, fresh, order};

#[tokio::test(flavor = "multi_thread")]
async fn a_merchant_that_asks_too_often_is_told_and_the_others_do_not_notice() {
    let limits = [
        ("admission.payments_per_s", "1"),
        ("admission.payments_burst", "3"),
    ];
    let app = TestApp::with(&limits).await;
    let first = app.client.pay(&order()).await;
    first.expect(201);
    assert_eq!(first.headers["ratelimit-policy"], "\"payments\";q=3;w=3");
    assert_eq!(first.headers["ratelimit"], "\"payments\";r=2;t=3");

    let answers = join_all((0..6).map(|_| async { app.client.pay(&order()).await })).await;
    let refused: Vec<_> = answers
        .iter()
        .filter(|answer| answer.status == 429)
        .collect();
    assert!((2..=4).contains(&refused.len()), "{}", refused.len());

    for answer in &refused {
        let problem = answer.problem(429, "rate_limited", None);
        assert_eq!(problem["retryable"], true);
        assert_eq!(answer.headers["ratelimit"], "\"payments\";r=0;t=3");
        assert!(
            answer.headers["retry-after"]
                .to_str()
                .unwrap()
                .parse::<u64>()
                .unwrap()
                >= 1
        );
    }

    // Reading is something else, and so is another merchant.
    let read = app.client.get("/v1/payments").await;
    assert!(read.expect(200)["data"].is_array());
    assert!(
        read.headers["ratelimit"]
            .to_str()
            .unwrap()
            .starts_with("\"requests\""),
        "{:?}",
        read.headers
    );

    let other = app.other_merchant(&[Scope::Pay]).await;
    other
        .pay(&order())
        .await
        .problem(422, "flow_not_available", Some("flow"));

    // A refused request is not remembered: the same key works as soon as there is room.
    let (key, body) = (fresh("key"), order());
    let began = Instant::now();

    while app.client.post("/v1/payments", &key, &body).await.status != 201 {
        assert!(began.elapsed() < PATIENCE, "never let in again");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }

    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_all_kinds_are_counted_too() {
    let app = TestApp::with(&[
        ("admission.requests_per_s", "1"),
        ("admission.requests_burst", "2"),
    ])
    .await;
    let answers = join_all((0..5).map(|_| app.client.get("/v1/refunds"))).await;
    assert!(answers.iter().any(|answer| answer.status == 429));
    assert!(answers.iter().any(|answer| answer.status == 200));
    app.stop().await;
}

/// A provider hangs, and all places are taken: the next one hears at once that it should come
/// again, and everything else goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_with_too_much_to_do_refuses_new_payments_and_nothing_else() {
    let app = TestApp::with(&[
        ("admission.max_in_progress", "4"),
        ("health.breakers", "false"),
    ])
    .await;
    let paid = app.paid().await;
    let id = paid["id"].as_str().unwrap();

    for protocol in providers::PROTOCOLS {
        let fault = json!({"provider": protocol.name.as_str(), "call": "create", "kind": "slow",
            "latency_ms": 2_500});
        app.control.fault(fault).await;
    }

    let many = tokio::spawn({
        let client = app.client.clone();
        async move { join_all((0..8).map(|_| async { client.pay(&order()).await })).await }
    });
    let began = Instant::now();

    while app.client.get("/v1/routes").await.expect(200)["data"]
        .as_array()
        .unwrap()
        .iter()
        .all(|r| r["in_flight"] == 0)
        && app.client.get("/v1/payments?limit=5").await.expect(200)["data"]
            .as_array()
            .unwrap()
            .len()
            < 5
    {
        assert!(began.elapsed() < PATIENCE, "nothing is under way");
    }

    // Meanwhile everything else goes on.
    assert_eq!(app.client.payment(id).await["status"], "succeeded");
    app.client.refund(id, 88).await.expect(201);
    let answers = many.await.unwrap();
    let (served, refused): (Vec<_>, Vec<_>) =
        answers.iter().partition(|answer| answer.status == 201);

    assert_eq!((served.len(), refused.len()), (4, 4), "one place each");
    for answer in refused {
        let problem = answer.problem(503, "overloaded", None);
        assert_eq!(problem["retryable"], true);
        assert_eq!(answer.headers["retry-after"], "1");
    }

    app.control.mend().await;
    app.client.pay(&order()).await.expect(201);
    app.stop().await;
}

/// The database takes no commit: whoever comes while one is stuck is refused at once instead of
/// joining the line.
#[tokio::test(flavor = "multi_thread")]
async fn while_no_commit_gets_through_new_payments_are_refused_at_once() {
    let app = TestApp::with(&[("admission.max_commit_wait_ms", "200")]).await;
    app.client.pay(&order()).await.expect(201);
    let db = app.db().await;
    let held = db.begin().await.unwrap();
    let lock = match app.database.starts_with("postgres") {
        true => "LOCK TABLE idempotency_keys IN EXCLUSIVE MODE",
        false => "UPDATE merchants SET name = name",
    };
    held.execute_unprepared(lock).await.unwrap();

    let stuck = tokio::spawn({
        let client = app.client.clone();
        async move { client.pay(&order()).await }
    });
    let began = Instant::now();

    while app.app().store.commit_wait() < std::time::Duration::from_millis(250) {
        assert!(began.elapsed() < PATIENCE, "nothing is stuck");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let asked = Instant::now();

    app.client
        .pay(&order())
        .await
        .problem(503, "overloaded", None);
    println!("refused within {:?}", asked.elapsed());
    assert!(
        app.client.get("/v1/payments").await.expect(200)["data"].is_array(),
        "reading goes on"
    );

    held.rollback().await.unwrap();
    db.close().await.unwrap();
    stuck.await.unwrap().expect(201);
    app.client.pay(&order()).await.expect(201);

    app.stop().await;
}

/// What an owner allows its account in a second is kept; what is over goes elsewhere in the same
/// request.
#[tokio::test(flavor = "multi_thread")]
async fn an_account_is_asked_as_often_as_its_owner_allows_and_the_rest_goes_elsewhere() {
    let app = TestApp::start().await;
    app.client
        .route(&[&app.alipay, &app.wechatpay])
        .await
        .expect(200);
    let limit = |count: serde_json::Value| {
        json!({"limits": {"second": {"count": count}}})
            .to_string()
            .into_bytes()
    };

    let path = format!("/v1/accounts/{}", app.alipay);
    let change = async |count| {
        app.client
            .send(reqwest::Method::PATCH, &path, None, Some(limit(count)))
            .await
    };

    change(json!(0))
        .await
        .problem(422, "invalid_parameter", Some("limits.second.count"));
    change(json!(-1))
        .await
        .problem(422, "invalid_parameter", Some("limits.second.count"));
    change(json!(2)).await.expect(200);
    let began = Instant::now();
    let made =
        join_all((0..12).map(|_| async { app.client.pay(&order()).await.expect(201) })).await;
    let allowed = 2 + 2 * began.elapsed().as_secs() + 2;

    let alipay = made
        .iter()
        .filter(|payment| payment["provider"] == "alipay")
        .count();
    assert!(
        (1..=usize::try_from(allowed).unwrap()).contains(&alipay),
        "{alipay} of at most {allowed}"
    );

    assert!(
        made.iter()
            .any(|payment| payment["provider"] == "wechatpay")
    );

    let reason = &made.last().unwrap()["attempts"][0]["reason"];
    println!("{reason}");
    app.stop().await;
}

/// A provider that says "too often" is asked less often, without its breaker opening for good, and
/// payments go on.
#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_complains_of_too_many_calls_is_asked_less_often() {
    let app = TestApp::start().await;
    app.client
        .route(&[&app.alipay, &app.wechatpay])
        .await
        .expect(200);
    for _ in 0..4 {
        app.client.pay(&order()).await.expect(201);
    }

    let shown = async || {
        let routes = app.client.get("/v1/routes").await.expect(200);
        let all = routes["data"].as_array().unwrap().clone();
        all.into_iter()
            .find(|r| r["account"] == app.alipay.as_str() && r["flow"] == "qr")
            .unwrap()
    };

    assert_eq!(shown().await["max_per_second"], json!(null));
    app.control
        .fault(json!({"provider": "alipay", "call": "create", "kind": "rate_limited"}))
        .await;
    let payment = app.client.pay(&order()).await.expect(201);

    assert_eq!(
        payment["provider"], "wechatpay",
        "the merchant does not notice: {payment:#}"
    );

    app.control.mend().await;
    let route = shown().await;

    assert!(
        route["max_per_second"]
            .as_u64()
            .is_some_and(|rate| rate >= 1),
        "{route:#}"
    );

    assert!(
        route["max_in_flight"]
            .as_u64()
            .is_some_and(|limit| limit >= 8),
        "{route:#}"
    );

    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_reason_for_refusing_is_counted_from_the_start() {
    let app = TestApp::start().await;
    let text = String::from_utf8(app.client.get("/metrics").await.bytes).unwrap();

    for reason in [
        "requests",
        "payments",
        "reads",
        "database",
        "restored",
        "strangers",
    ] {
        let series = format!("interlock_refused_total{{reason=\"{reason}\"}} 0");
        assert!(text.contains(&series), "{series}");
    }

    let counted = text
        .lines()
        .filter(|line| line.starts_with("interlock_refused_total{"))
        .count();
    assert_eq!(counted, 6, "no other");

    app.stop().await;
}
