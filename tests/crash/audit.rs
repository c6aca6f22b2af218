//! What must be true in the end, whatever died on the way: read from the gateway's rows and the
//! sandbox's book.

use interlock::domain::id::AttemptId;
use std::time::{Duration, Instant};

use interlock::domain::attempt::Disposition;
use interlock::domain::payment::State;
use interlock::domain::refund;
use interlock::domain::{Aggregate, AllOwners};
use serde_json::Value;

use super::stage::{ALL_LEASES_ARE_OVER_S, Restarted};
use crate::helpers::PATIENCE;
use crate::helpers::facts::Facts;

/// Lets everything come to its end, and audits every payment. All of their requests must have been
/// answered, if the clients came back for the answers.
pub async fn audit(app: &Restarted, clients_returned: bool) {
    notifications_arrive(app).await;
    nothing_stays_due(app).await;
    let facts = Facts::of(app).await;
    let orders = app.control.orders().await;
    let mut known = Vec::new();

    for id in app.payments().await {
        let payment = app
            .app()
            .store
            .payment(AllOwners, &id.parse().unwrap())
            .await
            .unwrap()
            .unwrap();
        let told = facts.told(&id).await;
        told_once(&payment, &told);
        for attempt in &payment.attempts {
            let order = orders
                .iter()
                .find(|order| order["order_no"] == *attempt.provider_order_no);
            books_agree(&payment, &attempt.id, order);
            known.push(attempt.provider_order_no.clone());
        }
        kept_once(&payment, &orders);
        refunds_agree(&payment, &orders);
    }

    for order in &orders {
        let order_no = order["order_no"].as_str().unwrap();
        assert!(
            known.iter().any(|k| k == order_no),
            "the provider heard of an order that is in no row: {order}"
        );
    }

    let ledger = app.app().store.check_ledger(None, 5).await.unwrap();
    assert_eq!(ledger.deviations, [], "the ledger is not what the rows say");
    if clients_returned {
        let unanswered = facts
            .rows("SELECT * FROM idempotency_keys WHERE answer_status IS NULL")
            .await;
        assert_eq!(
            unanswered,
            Vec::<Value>::new(),
            "the clients came back, and have no answer"
        );
    }

    facts.0.close().await.unwrap();
}

/// Every notification is acknowledged in the end: the provider has sent again what nobody took.
async fn notifications_arrive(app: &Restarted) {
    let began = Instant::now();

    for round in 0.. {
        // In steps that are shorter than the skew at which notifications are stale: one clock moves
        // before the other.
        if round % 20 == 0 {
            app.advance(240).await;
        }
        let log = app.control.notifications().await;
        let taken = |entry: &&Value| {
            let answer = &entry["answer"];
            matches!(answer["status"].as_u64(), Some(200 | 204))
                && !answer["body"].as_str().unwrap().contains("fail")
        };
        let waits = log
            .iter()
            .find(|e| !log.iter().filter(taken).any(|t| t["id"] == e["id"]));
        let Some(waits) = waits else { return };
        assert!(
            began.elapsed() < PATIENCE,
            "nobody takes this notification: {waits:#}"
        );
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

/// Lets the time pass that anything still waits for, until nothing does: what is due is done, and
/// not due again.
async fn nothing_stays_due(app: &Restarted) {
    let (store, clock) = (&app.app().store, &app.app().clock);
    for _ in 0..64 {
        let Some(due) = store.next_due().await.unwrap() else {
            return;
        };
        app.advance((due.since(clock.now()) / 1000 + 1).max(ALL_LEASES_ARE_OVER_S))
            .await;
        let began = Instant::now();
        while store
            .next_due()
            .await
            .unwrap()
            .is_some_and(|due| due <= clock.now())
        {
            assert!(
                began.elapsed() < PATIENCE,
                "what was due at {due:?} is not done"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    panic!("something is due again and again");
}

fn told_once(payment: &Aggregate, told: &[String]) {
    let ends = [
        "payment.succeeded",
        "payment.failed",
        "payment.canceled",
        "payment.expired",
    ];
    let ends: Vec<_> = told
        .iter()
        .filter(|kind| ends.contains(&kind.as_str()))
        .collect();

    assert_eq!(
        ends,
        [&format!("payment.{}", payment.payment.status)],
        "one end, told once: {told:?}"
    );

    let late = payment
        .attempts
        .iter()
        .filter(|a| a.disposition == Some(Disposition::Refunded))
        .count();

    assert_eq!(
        told.iter()
            .filter(|kind| *kind == "payment.late_captured")
            .count(),
        late,
        "{told:?}"
    );
}

/// All money that a provider took is in our rows, and no other.
fn books_agree(payment: &Aggregate, attempt_id: &AttemptId, order: Option<&Value>) {
    let attempt = payment.attempt(attempt_id).unwrap();
    let taken = order.map_or(0, |order| order["captured"].as_i64().unwrap());
    assert_eq!(
        attempt.captured.map_or(0, |m| m.minor()),
        taken,
        "{attempt:#?}\n{order:#?}"
    );
    assert_eq!(attempt.disposition.is_some(), taken > 0, "{attempt:#?}");
    assert!(!attempt.status.is_live(), "{attempt:#?}");
}

/// Money that nobody gives back: of one order at the most, and only for a payment that succeeded.
/// All other money has gone back by itself, once.
fn kept_once(payment: &Aggregate, orders: &[Value]) {
    let is_kept = payment.payment.status == State::Succeeded;
    assert_eq!(payment.kept().is_some(), is_kept, "{payment:#?}");

    for attempt in payment.attempts.iter().filter(|a| a.captured.is_some()) {
        let order = orders
            .iter()
            .find(|order| order["order_no"] == *attempt.provider_order_no)
            .unwrap();
        if attempt.disposition != Some(Disposition::Kept) {
            assert_eq!(
                attempt.disposition,
                Some(Disposition::Refunded),
                "{payment:#?}\n{order:#}"
            );
            assert_eq!(
                order["refunded"], order["captured"],
                "{payment:#?}\n{order:#}"
            );
        } else {
            assert_eq!(order["state"], "paid", "{payment:#?}\n{order:#}");
        }
    }
}

/// What went back at each provider is what our refunds say, each of them once.
fn refunds_agree(payment: &Aggregate, orders: &[Value]) {
    for order in orders {
        let Some(attempt) = payment
            .attempts
            .iter()
            .find(|a| order["order_no"] == *a.provider_order_no)
        else {
            continue;
        };
        let refunds: Vec<_> = payment
            .refunds
            .iter()
            .filter(|r| r.attempt_id == attempt.id)
            .collect();
        let done = refunds
            .iter()
            .filter(|r| r.status == refund::State::Succeeded)
            .map(|r| r.amount.minor());
        assert_eq!(
            order["refunds"].as_array().unwrap().len(),
            refunds.len(),
            "{payment:#?}\n{order:#}"
        );
        if order["state"] != "reversed" {
            assert_eq!(
                order["refunded"],
                done.sum::<i64>(),
                "{payment:#?}\n{order:#}"
            );
        }
    }
}
