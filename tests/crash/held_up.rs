//! A gateway that is stopped (SIGSTOP) after it has written down what it is about to do, and goes on after its time:
//! it sends nothing, since somebody else may have judged the call by then.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::audit::audit;
use super::stage::Stage;
use crate::helpers::facts::Facts;
use crate::helpers::process::{Process, signal};
use crate::helpers::{PATIENCE, barcode, charging_providers, fresh, order};

/// Longer than `call_grace_ms` below allows.
const STOPPED: Duration = Duration::from_secs(2);

/// A gateway that asks this provider first and pauses at `point`: long enough to be stopped there.
async fn pausing(stage: &Stage, provider: &str, point: &str) -> Process {
    let env =
        [("INTERLOCK_HOLD_POINT", format!("{point}:700")), ("INTERLOCK__PAYMENTS__CALL_GRACE_MS", "300".to_owned())];
    stage.asking(provider, &env).await
}

/// Waits for a row, stops the gateway, and lets it go on when its time is over.
async fn stop_and_go_on(stage: &Stage, gateway: &Process, once_there_is: &str) {
    let facts = Facts(sea_orm::Database::connect(&stage.ground.database).await.unwrap());
    let there = async {
        while facts.count(once_there_is).await == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, there).await.unwrap_or_else(|_| panic!("no {once_there_is}"));
    signal(&gateway.child, Signal::STOP);
    tokio::time::sleep(STOPPED).await;
    signal(&gateway.child, Signal::CONT);
    facts.0.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn before_a_charge_it_charges_nobody() {
    for provider in charging_providers() {
        let stage = Stage::new().await;
        let gateway = pausing(&stage, provider, "pay_after_first_commit").await;
        let (key, body) = (fresh("key"), barcode(provider, 0));
        let (answer, ()) = tokio::join!(
            gateway.client.post("/v1/payments", &key, &body),
            stop_and_go_on(&stage, &gateway, "attempts WHERE status = 'sending'")
        );
        let failed = answer.expect(201);
        assert_eq!((&failed["status"], &failed["attempts"][0]["outcome"]), (&json!("failed"), &json!("not_sent")));
        assert_eq!(stage.control.orders().await, Vec::<Value>::new(), "it reached its provider");
        gateway.terminate().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn before_an_offer_it_makes_another_one() {
    for protocol in providers::PROTOCOLS {
        let stage = Stage::new().await;
        let gateway = pausing(&stage, protocol.name.as_str(), "pay_after_first_commit").await;
        let body = order();
        let (answer, ()) = tokio::join!(
            gateway.client.pay(&body),
            stop_and_go_on(&stage, &gateway, "attempts WHERE status = 'sending'")
        );
        let payment = answer.json();
        let held_up = &payment["attempts"][0]["provider_order_no"];
        let orders = stage.control.orders().await;
        assert!(orders.iter().all(|order| order["order_no"] != *held_up), "it reached its provider: {orders:#?}");
        gateway.terminate().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn before_a_reversal_it_reverses_nothing_and_does_so_later() {
    for provider in charging_providers() {
        let stage = Stage::new().await;
        let mut first = stage.asking(provider, &[]).await;
        let mut body = barcode(provider, 7);
        body["wait"] = 0.into();
        let waiting = first.client.pay(&body).await.expect(202);
        first.child.kill().await.unwrap();
        stage.age_apart(70, 20).await;
        let gateway = pausing(&stage, provider, "reverse_after_plan_commit").await;
        stop_and_go_on(&stage, &gateway, "attempts WHERE status = 'reversing' AND call_deadline > started_at + 71000")
            .await;
        tokio::time::sleep(Duration::from_millis(700)).await;
        let orders = stage.control.orders().await;
        assert_eq!(orders[0]["state"], "payable", "it was reversed: {orders:#?}");
        gateway.terminate().await;
        let app = stage.restart().await;
        let id = waiting["id"].as_str().unwrap();
        super::scenarios::ended(&app, id).await;
        audit(&app, false).await;
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn before_a_refund_it_asks_first_and_gives_back_once() {
    for provider in charging_providers() {
        let stage = Stage::new().await;
        let gateway = pausing(&stage, provider, "refund_after_first_commit").await;
        let paid = gateway.client.pay(&barcode(provider, 0)).await.expect(201);
        let id = paid["id"].as_str().unwrap();
        let refund = gateway.client.refund(id, 8888);
        let (answer, ()) = tokio::join!(refund, stop_and_go_on(&stage, &gateway, "refunds"));
        answer.expect(201);
        let orders = stage.control.orders().await;
        assert_eq!(orders[0]["refunds"], json!([]), "it was sent: {orders:#?}");
        gateway.terminate().await;
        let app = stage.restart().await;
        super::scenarios::refunded_in_the_end(&app, id, 8888).await;
        audit(&app, false).await;
        app.stop().await;
    }
}
