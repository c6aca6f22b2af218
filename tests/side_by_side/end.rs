//! The end: time goes by until nothing is due, then the auditor of the drills looks at rows, books
//! and what was told.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use interlock::drill::audit::{Evidence, audit as auditor};
use interlock::drill::control_socket::{Command, command};
use interlock::drill::receiver::{Received, Receiver};
use interlock::store::Store;
use reqwest::Method;
use serde_json::{Value, json};

use super::deals::{Deal, Till};
use super::{Ground, OWNERS};
use crate::helpers::facts::Facts;
use crate::helpers::process::{Process, interlock};
use crate::helpers::{Control, PATIENCE, connect};

/// Time goes by in steps that no notification gets stale in, and that are worth their while.
const STEP_S: std::ops::RangeInclusive<u64> = 30..=200;
/// So many steps without anything to do.
const QUIET: u32 = 5;
/// What is due waits for a worker's lease, at the most.
const NUDGED_EVERY: Duration = Duration::from_millis(200);
const WITHIN: Duration = Duration::from_secs(90);

/// What merchants were told by both gateways, once nobody has anything more to tell. Each event
/// once: no time has leapt.
pub async fn told_so_far(ground: &Ground, receiver: &Receiver) -> Vec<Received> {
    let (facts, began) = (Facts(connect(&ground.database).await), Instant::now());
    while facts.count("events WHERE fan_out_at IS NOT NULL").await > 0
        || facts
            .count("deliveries WHERE next_try_at IS NOT NULL")
            .await
            > 0
    {
        assert!(began.elapsed() < PATIENCE, "an event is not told");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    facts.0.close().await.unwrap();
    let told: Vec<Received> = OWNERS
        .iter()
        .flat_map(|name| receiver.boxes.empty(name))
        .collect();
    let mut ids = BTreeSet::new();

    let twice: Vec<&Received> = told
        .iter()
        .filter(|event| !ids.insert(event.id.as_str()))
        .collect();
    let tried = |event: &Received| {
        ["before", "after"].map(|name| super::naming(&ground.folder(name), &event.id))
    };

    assert!(
        twice.is_empty(),
        "came twice: {:#?}",
        twice.into_iter().map(|e| (e, tried(e))).collect::<Vec<_>>()
    );

    told
}

/// Lets the time pass that the gateway behind this door waits for, until nothing waits.
pub async fn comes_to_rest(door: &Path, control: &Control) {
    let (began, mut nudged, mut quiet, mut ahead_s) = (Instant::now(), Instant::now(), 0, 0);
    while quiet < QUIET {
        let said = command(door, &Command::Due).await.unwrap();
        let pending = control.call(Method::GET, "/notifications", None).await.1["pending"].clone();
        let waits = || {
            format!(
                "after {ahead_s} s of its own time: {said:?}, {pending} notifications on their way"
            )
        };
        assert!(began.elapsed() < WITHIN, "{}", waits());
        let in_ms = said.due_ms.map(|due| due - said.now_ms);
        let step = match in_ms {
            _ if said.at_work > 0 => 0,
            Some(..=0) if nudged.elapsed() < NUDGED_EVERY => 0,
            Some(..=0) => 1,
            Some(ms) => u64::try_from(ms)
                .unwrap()
                .div_ceil(1_000)
                .clamp(*STEP_S.start(), *STEP_S.end()),
            None => *STEP_S.end(),
        };
        quiet = if in_ms.is_none() && said.at_work == 0 && pending == 0 {
            quiet + 1
        } else {
            0
        };
        if step > 0 {
            nudged = Instant::now();
            ahead_s += step;
            control.advance(i64::try_from(step).unwrap()).await;
            command(door, &Command::Ahead(ahead_s)).await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }

    println!(
        "all at rest after {ahead_s} s of its own time, {:?} of ours",
        began.elapsed()
    );
}

async fn book(control: &Control, path: &str) -> Value {
    let (status, body) = control.call(Method::GET, path, None).await;
    assert_eq!(status, 200, "{body}");
    body
}

/// What payers, the merchant and the auditor of the drills have to say.
pub async fn audit(
    ground: &Ground,
    tills: &[Till],
    deals: &[Deal],
    (mut received, receiver): (Vec<Received>, Receiver),
    after: Process,
) {
    for deal in deals {
        let owner = tills.iter().map(|till| &till.after);
        let mut found = Value::Null;
        for client in owner {
            let answer = client.get(&format!("/v1/payments/{}", deal.id)).await;
            if answer.status == 200 {
                found = answer.json();
            }
        }
        let kept = found["attempts"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|a| a["disposition"] == "kept")
            .count();
        let as_it_is = (
            found["status"].as_str(),
            found["amount_refunded"].as_i64(),
            kept,
        );
        let expected = (
            Some(deal.status),
            Some(deal.refunded),
            usize::from(deal.status == "succeeded"),
        );
        assert_eq!(as_it_is, expected, "{found:#}");
    }
    after.terminate().await;
    let (books, calls) = (
        book(&ground.control, "/books").await,
        book(&ground.control, "/calls").await,
    );
    let log = book(&ground.control, "/notifications").await;
    let store = Store::open(&ground.database, 2, PATIENCE).await.unwrap();
    received.extend(OWNERS.iter().flat_map(|name| receiver.boxes.empty(name)));
    receiver.stop().await;
    let evidence = Evidence {
        orders: books["orders"].as_array().unwrap().clone(),
        calls,
        notifications: log["data"].as_array().unwrap().clone(),
        sent: log["sent"].as_u64().unwrap(),
        payments: store.all_payments().await.unwrap(),
        told: store.all_told().await.unwrap(),
        taken: store.all_notifications().await.unwrap(),
        for_a_person: store.all_for_a_person().await.unwrap(),
        keys: store.all_keys().await.unwrap(),
        ledger: store.check_ledger(None, 20).await.unwrap().deviations,
        logs: ["before", "after"]
            .iter()
            .map(|name| std::fs::read_to_string(ground.folder(name).join("stderr.log")).unwrap())
            .collect(),
        received,
        ..Evidence::default()
    };
    store.close().await.unwrap();
    let (violations, figures) = auditor(&evidence);
    assert_eq!(violations, [], "{figures:?}");
    assert_eq!(
        evidence.payments.len(),
        deals.len(),
        "no payment that nobody asked for"
    );
    told_once(&evidence);

    let mut doctor = interlock();
    doctor
        .args([
            "doctor",
            "--ledger",
            "--database",
            &ground.database,
            "--data",
        ])
        .arg(ground.folder("after"));
    let said = doctor.output().await.unwrap();
    assert!(
        said.status.success(),
        "{}",
        String::from_utf8_lossy(&said.stdout)
    );
    println!(
        "{} payments, {} of them paid; {} events told; 0 failed, {} twice",
        deals.len(),
        deals
            .iter()
            .filter(|deal| deal.status == "succeeded")
            .count(),
        evidence.received.len(),
        figures.captured_twice_kept
    );
}

/// Each event went to its owner's receiver, and is known to have. (While time leaps over leases, it
/// may come again.)
fn told_once(evidence: &Evidence) {
    let received: BTreeSet<&str> = evidence
        .received
        .iter()
        .map(|event| event.id.as_str())
        .collect();
    let told: BTreeSet<&str> = evidence
        .told
        .iter()
        .map(|event| event.id.as_str())
        .collect();

    assert_eq!(received, told);
    let delivered = evidence
        .told
        .iter()
        .filter(|event| event.deliveries == ["delivered"])
        .count();

    assert_eq!(json!(delivered), json!(told.len()));
}
