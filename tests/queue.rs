//! Payments that wait for a route: their place and their estimate, and that they go on oldest
//! first, over restarts too.

use std::time::{Duration, Instant};

use interlock::routing::queue::Wait;
use serde_json::{Value, json};

use crate::helpers::{PATIENCE, TestApp, order};

async fn break_all(app: &TestApp) {
    for protocol in providers::PROTOCOLS {
        app.control
            .fault(json!({"provider": protocol.name.as_str(), "kind": "refuse"}))
            .await;
    }
}

/// Payments that all have a place, the first one first.
async fn park(app: &TestApp, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for _ in 0..count {
        let parked = app.client.pay(&order()).await.expect(202);
        assert_eq!(parked["status"], "created", "{parked:#}");
        ids.push(parked["id"].as_str().unwrap().to_owned());
    }
    ids
}

fn place(payment: &Value) -> (u64, u64) {
    let queue = &payment["queue"];
    (
        queue["position"].as_u64().unwrap(),
        queue["estimated_wait_seconds"].as_u64().unwrap(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parked_payment_knows_its_place_and_how_long_it_may_take() {
    let app = TestApp::start().await;
    break_all(&app).await;
    let ids = park(&app, 8).await;

    for (id, position) in ids.iter().zip(1..) {
        let payment = app.client.payment(id).await;
        let (at, estimate) = place(&payment);
        assert_eq!(at, position, "{payment:#}");
        assert!((1..=60).contains(&estimate), "{payment:#}");
    }

    let first = place(&app.client.payment(&ids[0]).await).1;
    // The longer it lasts, the longer it may last; nobody is told that it is a matter of seconds
    // when it is not.
    let began = Instant::now();

    while place(&app.client.payment(&ids[0]).await).1 < first + 4 {
        assert!(began.elapsed() < PATIENCE, "the estimate stays {first} s");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    // In lists too, and for one merchant only.
    let listed = app
        .client
        .get("/v1/payments?status=created&limit=1")
        .await
        .expect(200);

    assert_eq!(place(&listed["data"][0]).0, 8, "the newest one: {listed:#}");
    let listed = app
        .client
        .get("/v1/payments?status=created")
        .await
        .expect(200);

    let positions: Vec<u64> = listed["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|payment| place(payment).0)
        .collect();

    assert_eq!(positions, [8, 7, 6, 5, 4, 3, 2, 1], "{listed:#}");
    use interlock::api::auth::Scope;

    let other = app.other_merchant(&[Scope::Pay]).await;
    assert_eq!(
        other.get("/v1/payments?status=created").await.expect(200)["data"],
        json!([])
    );

    // Whoever leaves the line makes room.
    app.client
        .post(&format!("/v1/payments/{}/cancel", ids[0]), "x", &json!({}))
        .await
        .expect(200);

    assert_eq!(place(&app.client.payment(&ids[1]).await).0, 1);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_a_route_returns_the_oldest_goes_on_first_and_all_go_on_by_themselves() {
    let app = TestApp::start().await;
    break_all(&app).await;
    let ids = park(&app, 12).await;

    // A restart forgets nobody: their places are rows.
    let ground = app.leave().await;
    let app = TestApp::on(ground, &[]).await;
    app.control.mend().await;
    for id in &ids {
        app.client.until_status(id, "requires_action").await;
    }
    let mut began: Vec<(String, String)> = Vec::new();

    for id in &ids {
        let payment = app.client.payment(id).await;
        assert_eq!(payment["queue"], Value::Null, "{payment:#}");
        let last = payment["attempts"]
            .as_array()
            .unwrap()
            .last()
            .unwrap()
            .clone();
        began.push((last["started_at"].as_str().unwrap().to_owned(), id.clone()));
    }

    let (first, last) = (began[0].0.clone(), began[11].0.clone());
    println!("the first one after the return began {first}, the last one {last}");
    let before = began.iter().filter(|(at, _)| *at < first).count();

    assert_eq!(
        before, 0,
        "nobody overtook the one that waited longest: {began:#?}"
    );

    let pay = app.client.payment(&ids[11]).await;
    app.control.pay(&pay).await;
    app.client.until_status(&ids[11], "succeeded").await;
    app.stop().await;
}

/// How long to wait is told from how long others had to.
#[tokio::test(flavor = "multi_thread")]
async fn how_long_an_outage_lasted_is_learned_when_it_is_over() {
    let app = TestApp::start().await;
    break_all(&app).await;
    let ids = park(&app, 8).await;
    let first = place(&app.client.payment(&ids[0]).await).1;
    assert!(first >= 5, "a guess: {first} s");
    assert_eq!(app.app().queue.measured(Wait::Outage), 0);
    app.control.mend().await;
    for id in &ids {
        app.client.until_status(id, "requires_action").await;
    }
    assert!(
        app.app().queue.measured(Wait::Outage) > 0,
        "nothing was learned"
    );
    app.stop().await;
}

/// Whoever would hardly get a turn is told so at once, and leaves nothing behind.
#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_is_full_takes_no_more() {
    let app = TestApp::with(&[("payments.max_parked", "3")]).await;
    break_all(&app).await;
    park(&app, 3).await;
    let (began, body) = (Instant::now(), order());
    let refused = loop {
        let answer = app.client.post("/v1/payments", "the-fourth", &body).await;
        if answer.status == 503 {
            break answer;
        }
        assert!(began.elapsed() < PATIENCE, "never full");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };

    let problem = refused.problem(503, "queue_full", None);
    assert_eq!(problem["retryable"], true);
    assert!(refused.headers.contains_key("retry-after"));
    app.stop().await;
}

/// A storm of retries does not feed itself: when the budget is used up, nobody tries a route that
/// has not proved itself.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_budget_nobody_retries_a_route_that_is_only_coming_back() {
    let app = TestApp::start().await;
    let budget = &app.app().budget;

    while budget.left() > 0 {
        budget.timed_out(
            &interlock::domain::Owner::of(app.merchant.clone(), false),
            app.app().health.now_ms(),
        );
    }

    break_all(&app).await;
    let ids = park(&app, 4).await;

    assert_eq!(
        budget.left(),
        0,
        "a switch onto a route that works costs nothing, and nothing worked"
    );

    app.control.mend().await;
    // First the providers come back on trial; new payments prove them, and that fills the budget
    // again.
    let began = Instant::now();
    let mut made = 0;

    while app.client.payment(&ids[3]).await["status"] == "created" {
        assert!(began.elapsed() < 3 * PATIENCE, "never");
        made += u32::from(app.client.pay(&order()).await.status == 201);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    assert!(made > 0);
    assert!(budget.left() > 0);
    app.stop().await;
}
