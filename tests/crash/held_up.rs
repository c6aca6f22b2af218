//! A gateway that is stopped (SIGSTOP) after it has written down what it is about to do, and goes
//! on a minute later: it sends nothing, since somebody else may have judged the call by then.

use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use futures_util::future::join_all;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::audit::audit;
use super::stage::Stage;
use crate::helpers::facts::Facts;
use crate::helpers::process::{Process, logged, signal};
use crate::helpers::{PATIENCE, barcode, charging_providers, fresh, order};

const STOPPED: Duration = Duration::from_secs(60);

/// A gateway that asks this provider first and stops at `point`, and a client with the patience
/// that this takes.
async fn stopping(stage: &Stage, provider: &str, point: &str) -> Process {
    let file = stop_file(stage).display().to_string();
    let env = [
        ("INTERLOCK_STOP_POINT", point.to_owned()),
        ("INTERLOCK_STOP_FILE", file),
    ];
    let mut gateway = stage.asking(provider, &env).await;
    gateway.client.http = providers::http::plain_client_builder()
        .timeout(STOPPED * 2)
        .build()
        .unwrap();
    gateway
}

/// Where a gateway looks whether it may stop: it may come to its point before it serves.
fn stop_file(stage: &Stage) -> PathBuf {
    stage.ground.folder.path().join("stop")
}

/// Waits until the gateway has stopped, sees that it has written down what it is about to do, and
/// lets it go on when its time is over.
async fn go_on(stage: &Stage, gateway: &Process, there_is: &str) {
    std::fs::write(stop_file(stage), "").unwrap();
    let stat = format!("/proc/{}/stat", gateway.child.id().unwrap());
    // The state is behind the name, which is in brackets.
    let is_stopped = || {
        std::fs::read_to_string(&stat)
            .unwrap()
            .rsplit(')')
            .next()
            .unwrap()
            .starts_with(" T")
    };

    let stopped = async {
        while !is_stopped() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };

    tokio::time::timeout(PATIENCE, stopped)
        .await
        .expect("it does not come to its point");
    let facts = Facts(crate::helpers::connect(&stage.ground.database).await);
    assert!(facts.count(there_is).await > 0, "no {there_is}");

    facts.0.close().await.unwrap();
    tokio::time::sleep(STOPPED).await;
    signal(&gateway.child, Signal::CONT);
}

/// Asks until there is an answer that stays: whoever waited beyond its time is told to ask again
/// with the same key.
async fn ask(gateway: &Process, path: &str, body: &Value) -> Value {
    let key = fresh("key");
    loop {
        let answer = gateway.client.post(path, &key, body).await;
        match answer.status.as_u16() {
            202 | 409 | 503 => tokio::time::sleep(Duration::from_millis(50)).await,
            200 | 201 => return answer.json(),
            other => panic!("{other}: {:#}", answer.json()),
        }
    }
}

/// The gateway itself logs this, once.
async fn says(stage: &Stage, what: &str) {
    let log = logged(stage.ground.folder.path(), what).await;
    assert_eq!(log.matches(what).count(), 1, "{what}: {log}");
}

/// All of them at once: a minute is long.
#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_was_stopped_for_a_minute_before_its_first_byte_sends_nothing() {
    let mut all: Vec<Pin<Box<dyn Future<Output = ()>>>> = Vec::new();
    for protocol in providers::PROTOCOLS {
        all.push(Box::pin(before_an_offer_it_makes_another_one(
            protocol.name.as_str(),
        )));
    }

    for provider in charging_providers() {
        all.push(Box::pin(before_a_charge_it_charges_nobody(provider)));
        all.push(Box::pin(
            before_a_reversal_it_reverses_nothing_and_does_so_later(provider),
        ));
        all.push(Box::pin(before_a_refund_it_asks_first_and_gives_back_once(
            provider,
        )));
    }

    join_all(all).await;
}

async fn before_a_charge_it_charges_nobody(provider: &str) {
    let stage = Stage::new().await;
    let gateway = stopping(&stage, provider, "pay_after_first_commit").await;
    let body = barcode(provider, 0);
    let (failed, ()) = tokio::join!(
        ask(&gateway, "/v1/payments", &body),
        go_on(&stage, &gateway, "attempts WHERE status = 'sending'")
    );
    let outcome = failed["attempts"][0]["outcome"].as_str().unwrap();

    // Usually it finds out itself; the resolver, which wakes with it, may be first, and asks before
    // it believes.
    assert!(
        failed["status"] == "failed" && ["not_sent", "unknown"].contains(&outcome),
        "{failed:#}"
    );

    // Where an order that was never made is reversed, its number is kept as used: without an
    // amount.
    let orders = stage.control.orders().await;
    assert!(
        orders.iter().all(|order| order["amount"] == 0),
        "it reached its provider: {orders:#?}"
    );

    gateway.terminate().await;
}

async fn before_an_offer_it_makes_another_one(provider: &str) {
    let stage = Stage::new().await;
    let gateway = stopping(&stage, provider, "pay_after_first_commit").await;
    let body = order();
    let (payment, ()) = tokio::join!(
        ask(&gateway, "/v1/payments", &body),
        go_on(&stage, &gateway, "attempts WHERE status = 'sending'")
    );
    let held_up = &payment["attempts"][0]["provider_order_no"];
    let orders = stage.control.orders().await;
    assert!(
        orders.iter().all(|order| order["order_no"] != *held_up),
        "it reached its provider: {orders:#?}"
    );
    gateway.terminate().await;
}

async fn before_a_reversal_it_reverses_nothing_and_does_so_later(provider: &str) {
    let stage = Stage::new().await;
    let mut first = stage.asking(provider, &[]).await;
    let mut body = barcode(provider, 7);
    body["wait"] = 0.into();
    let waiting = first.client.pay(&body).await.expect(202);
    first.child.kill().await.unwrap();
    stage.age_apart(70, 20).await;
    let gateway = stopping(&stage, provider, "reverse_after_plan_commit").await;

    go_on(
        &stage,
        &gateway,
        "attempts WHERE status = 'reversing' AND call_deadline > started_at + 71000",
    )
    .await;

    // The next reversal, planned by somebody who is not late, may have been sent since.
    says(&stage, "the worker was held up; nothing was reversed").await;
    gateway.terminate().await;
    let app = stage.restart().await;
    let id = waiting["id"].as_str().unwrap();
    super::scenarios::ended(&app, id).await;
    audit(&app, false).await;

    app.stop().await;
}

async fn before_a_refund_it_asks_first_and_gives_back_once(provider: &str) {
    let stage = Stage::new().await;
    let gateway = stopping(&stage, provider, "refund_after_first_commit").await;
    let paid = gateway.client.pay(&barcode(provider, 0)).await.expect(201);
    let id = paid["id"].as_str().unwrap();
    let (path, body) = (
        format!("/v1/payments/{id}/refunds"),
        json!({"amount": 8888, "merchant_refund_no": fresh("rf")}),
    );

    tokio::join!(
        ask(&gateway, &path, &body),
        go_on(&stage, &gateway, "refunds")
    );

    // Whoever asked what had become of the refund has sent it since, once.
    says(
        &stage,
        "the worker was held up; the refund is asked about before it is sent",
    )
    .await;

    gateway.terminate().await;
    let app = stage.restart().await;
    super::scenarios::refunded_in_the_end(&app, id, 8888).await;
    audit(&app, false).await;

    app.stop().await;
}
