//! Group commit: many changes share a transaction, and each of them is written or refused by
//! itself.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use interlock::domain::attempt::State;
use interlock::domain::id::{EventId, PaymentId, RefundId, ReviewId};
use interlock::domain::payment::BrokenInvariant;
use interlock::domain::payment::Event as PaymentEvent;
use interlock::domain::{Aggregate, AllOwners, Refund, refund};
use interlock::store::change::{Event, Inbox, Key, KeyScope, KeyWrite, ReviewItem};
use interlock::store::{Change, CommitError};
use providers::money::Money;
use serde_json::json;

use super::{Bench, NOW};
use crate::helpers::facts::{Facts, Watch, taken_fen};
use crate::helpers::{Client, TestApp, fresh, order};

/// Everything that can be written together with a change.
fn with_everything(bench: &Bench, change: Change, name: &str) -> Change {
    let event = Event {
        id: EventId::new().unwrap(),
        kind: "payment.processing",
        data: json!({}),
        created_at: NOW,
    };
    let operation = ReviewItem {
        id: ReviewId::new().unwrap(),
        owner: bench.owner.clone(),
        kind: interlock::domain::operation::ReviewKind::Unresolved,
        subject_id: name.to_owned(),
        detail: String::new(),
        created_at: NOW,
    };

    let inbox = Inbox {
        account_id: bench.account.clone(),
        notification_id: name.to_owned(),
        verdict: "accepted",
        body: b"{}".to_vec(),
        received_at: NOW,
    };

    change
        .with_events(vec![event])
        .with_operations(vec![operation])
        .with_inbox(Some(inbox))
        .with_key(Some(KeyWrite::Claim(key(bench, name))))
}

fn key(bench: &Bench, name: &str) -> Key {
    Key {
        scope: KeyScope {
            owner: bench.owner.clone(),
            endpoint: "payments".to_owned(),
            key: name.to_owned(),
        },
        fingerprint: "f".to_owned(),
        resource_id: PaymentId::new().unwrap().into(),
        created_at: NOW,
    }
}

/// How many rows there are of everything that [`with_everything`] adds.
async fn traces(facts: &Facts, name: &str) -> [i64; 4] {
    [
        facts.count("events").await,
        facts
            .count(&format!("operations WHERE subject_id = '{name}'"))
            .await,
        facts
            .count(&format!("notifications WHERE notification_id = '{name}'"))
            .await,
        facts
            .count(&format!("idempotency_keys WHERE key = '{name}'"))
            .await,
    ]
}

fn processing(before: &Aggregate) -> Aggregate {
    let mut after = before.clone();
    after.payment.apply(PaymentEvent::Doubt).unwrap();
    after.attempts[0].query_count = 7;
    after
}

#[tokio::test]
async fn one_refused_change_in_a_batch_does_not_fail_its_neighbours() {
    let bench = Bench::new().await;
    let paid = bench.payment();
    bench
        .store
        .commit(Change::create(paid.clone()))
        .await
        .unwrap();

    let mut two_live = bench.payment();
    bench.add_attempt(&mut two_live, State::AwaitingPayer);
    assert_eq!(
        bench.store.commit(Change::create(two_live)).await,
        Err(CommitError::Broken(BrokenInvariant::TwoLive)),
        "what cannot be true of a payment by itself does not come near a batch"
    );

    // What an index alone can see.
    let used_number = || {
        let mut payment = bench.payment();
        payment.attempts[0].provider_order_no = paid.attempts[0].provider_order_no.clone();
        payment
    };
    let good: Vec<Aggregate> = (0..40).map(|_| bench.payment()).collect();
    let order_taken = Aggregate {
        payment: interlock::domain::Payment {
            order_id: paid.payment.order_id.clone(),
            ..bench.payment().payment
        },
        attempts: Vec::new(),
        refunds: Vec::new(),
    };

    // On this one thread they all queue up before the writer runs: one batch, the bad ones among
    // the good.
    let mut changes: Vec<(Aggregate, &str)> = good.iter().map(|g| (g.clone(), "good")).collect();
    changes.insert(30, (used_number(), "refused"));
    changes.insert(20, (used_number(), "refused"));
    changes.insert(10, (used_number(), "refused"));
    changes.insert(5, (order_taken, "taken"));
    let commits = changes.iter().map(|(aggregate, _)| {
        let change = with_everything(
            &bench,
            Change::create(aggregate.clone()),
            &aggregate.payment.order_id.clone(),
        );
        bench.store.commit(change)
    });
    let verdicts = futures_util::future::join_all(commits).await;
    for ((aggregate, expected), verdict) in changes.iter().zip(&verdicts) {
        match *expected {
            "good" => assert_eq!(*verdict, Ok(())),
            "taken" => assert_eq!(*verdict, Err(CommitError::OrderTaken)),
            _ => assert!(
                matches!(verdict, Err(CommitError::Refused(_))),
                "{verdict:?}"
            ),
        }
        let written = bench
            .store
            .payment(AllOwners, &aggregate.payment.id)
            .await
            .unwrap();
        assert_eq!(written.is_some(), *expected == "good");
        if let Some(written) = written {
            let expected = Change::create(aggregate.clone());
            assert_eq!(&written, expected.after(), "as it was meant");
        }
        let left = traces(&bench.facts, &aggregate.payment.order_id).await;
        let one = i64::from(*expected == "good");
        assert_eq!(left, [40, one, one, one], "{expected}");
    }
    assert_eq!(bench.facts.count("attempts").await, 41);
    bench.close().await;
}

#[tokio::test]
async fn one_refused_update_in_a_batch_does_not_fail_its_neighbours() {
    let bench = Bench::new().await;
    let stored: Vec<Aggregate> = (0..20)
        .map(|_| Change::create(bench.payment()).after().clone())
        .collect();

    for aggregate in &stored {
        bench
            .store
            .commit(Change::create(aggregate.clone()))
            .await
            .unwrap();
    }

    let used = fresh("rf");
    let updates: Vec<(Aggregate, Aggregate)> = stored
        .iter()
        .enumerate()
        .map(|(n, before)| {
            let mut after = processing(before);
            // The same refund number twice: one of the two is refused.
            let number = if n % 10 == 3 {
                used.clone()
            } else {
                fresh("rf")
            };
            after.refunds.push(refund_of(&bench, before, &number));
            (before.clone(), after)
        })
        .collect();

    let commits = updates.iter().map(|(before, after)| {
        bench
            .store
            .commit(Change::update(before, after.clone(), NOW))
    });
    let verdicts = futures_util::future::join_all(commits).await;
    let refused: Vec<usize> = verdicts
        .iter()
        .enumerate()
        .filter(|(_, v)| v.is_err())
        .map(|(n, _)| n)
        .collect();

    assert!(refused == [3] || refused == [13], "{verdicts:?}");
    for (n, (before, after)) in updates.iter().enumerate() {
        let now = bench
            .store
            .payment(AllOwners, &before.payment.id)
            .await
            .unwrap()
            .unwrap();
        let expected = if refused.contains(&n) {
            before.clone()
        } else {
            Change::update(before, after.clone(), NOW).after().clone()
        };
        assert_eq!(now, expected);
    }

    bench.close().await;
}

fn refund_of(bench: &Bench, payment: &Aggregate, merchant_refund_no: &str) -> Refund {
    Refund {
        id: RefundId::new().unwrap(),
        payment_id: payment.payment.id.clone(),
        attempt_id: payment.attempts[0].id.clone(),
        owner: bench.owner.clone(),
        merchant_refund_no: merchant_refund_no.to_owned(),
        provider_refund_no: fresh("R").parse().unwrap(),
        amount: Money::fen(1).unwrap(),
        status: refund::State::Pending,
        reason: None,
        automatic: false,
        failure: None,
        needs_funds: false,
        created_at: NOW,
        completed_at: None,
        txn_time: None,
        earlier_nos: Vec::new(),
        sent_at: None,
        in_doubt: false,
        next_check_at: None,
        query_count: 0,
        told_done: false,
    }
}

#[tokio::test]
async fn a_lost_compare_and_set_answers_moved_and_writes_nothing() {
    let bench = Bench::new().await;
    let before = Change::create(bench.payment()).after().clone();
    bench
        .store
        .commit(Change::create(before.clone()))
        .await
        .unwrap();
    let neighbour = bench.payment();

    // Twenty decisions about the same reading, in one queue with a stranger's: one of them wins.
    let names: Vec<String> = (0..20).map(|_| fresh("decision")).collect();
    let decisions = names.iter().map(|name| {
        let mut after = processing(&before);
        after.attempts[0].provider_request_id = Some(name.clone());
        bench.store.commit(with_everything(
            &bench,
            Change::update(&before, after, NOW),
            name,
        ))
    });
    let (verdicts, strangers) = tokio::join!(
        futures_util::future::join_all(decisions),
        bench.store.commit(Change::create(neighbour.clone()))
    );
    assert_eq!(strangers, Ok(()));
    let winners: Vec<&String> = names
        .iter()
        .zip(&verdicts)
        .filter(|(_, v)| v.is_ok())
        .map(|(n, _)| n)
        .collect();
    assert_eq!(winners.len(), 1, "{verdicts:?}");
    for (name, verdict) in names.iter().zip(&verdicts) {
        let one = i64::from(verdict.is_ok());
        assert_eq!(traces(&bench.facts, name).await, [1, one, one, one]);
        assert!(
            verdict.is_ok() || *verdict == Err(CommitError::VersionConflict),
            "{verdict:?}"
        );
    }
    let now = bench
        .store
        .payment(AllOwners, &before.payment.id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (
            now.payment.version,
            &now.attempts[0].provider_request_id.as_ref()
        ),
        (2, &Some(winners[0]))
    );

    // What the losers claimed is free: the same key and notification go with the next decision.
    let loser = names.iter().find(|name| *name != winners[0]).unwrap();
    let mut after = now.clone();
    after.attempts[0].query_count = 8;
    bench
        .store
        .commit(with_everything(
            &bench,
            Change::update(&now, after, NOW),
            loser,
        ))
        .await
        .unwrap();
    assert_eq!(traces(&bench.facts, loser).await, [2, 1, 1, 1]);

    // And a key or a notification that is taken leaves nothing else behind.
    let now = bench
        .store
        .payment(AllOwners, &before.payment.id)
        .await
        .unwrap()
        .unwrap();
    let fresh_name = fresh("decision");
    let update = || {
        with_everything(
            &bench,
            Change::update(&now, processing(&now), NOW),
            &fresh_name,
        )
    };
    let key_taken = update().with_key(Some(KeyWrite::Claim(key(&bench, loser))));
    assert_eq!(
        bench.store.commit(key_taken).await,
        Err(CommitError::KeyTaken)
    );
    assert_eq!(traces(&bench.facts, &fresh_name).await, [2, 0, 0, 0]);
    let known = with_everything(&bench, Change::update(&now, processing(&now), NOW), loser);
    let known = known.with_key(Some(KeyWrite::Claim(key(&bench, &fresh_name))));
    assert_eq!(
        bench.store.commit(known).await,
        Err(CommitError::NotificationStored)
    );
    assert_eq!(traces(&bench.facts, &fresh_name).await, [2, 0, 0, 0]);
    assert_eq!(traces(&bench.facts, loser).await, [2, 1, 1, 1]);
    assert_eq!(
        bench
            .store
            .payment(AllOwners, &before.payment.id)
            .await
            .unwrap()
            .unwrap(),
        now
    );
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_is_read_together_with_its_attempts_as_they_were_at_one_moment() {
    let bench = Bench::new().await;
    let mut now = Change::create(bench.payment()).after().clone();
    now.attempts[0].query_count = 1;
    bench
        .store
        .commit(Change::create(now.clone()))
        .await
        .unwrap();

    let (over, id) = (Arc::new(AtomicBool::new(false)), now.payment.id.clone());
    let mut reading = tokio::task::JoinSet::new();

    for _ in 0..3 {
        let (store, over, id) = (bench.store.clone(), Arc::clone(&over), id.clone());
        reading.spawn(async move {
            let mut versions = HashSet::new();
            while !over.load(Ordering::Relaxed) {
                let read = store.payment(AllOwners, &id).await.unwrap().unwrap();
                assert_eq!(
                    i64::from(read.attempts[0].query_count),
                    read.payment.version
                );
                versions.insert(read.payment.version);
            }
            versions.len()
        });
    }

    for _ in 0..400 {
        let mut after = now.clone();
        after.attempts[0].query_count += 1;
        let change = Change::update(&now, after, NOW);
        now = change.after().clone();
        bench.store.commit(change).await.unwrap();
    }

    over.store(true, Ordering::Relaxed);
    assert!(
        reading
            .join_all()
            .await
            .iter()
            .all(|versions| *versions > 1)
    );

    bench.close().await;
}

/// How many commits there were in this process, and how many changes in them.
async fn commits(client: &Client) -> (f64, f64) {
    let text = String::from_utf8(client.get("/metrics").await.bytes).unwrap();
    let value = |name: &str| {
        let line = text
            .lines()
            .find_map(|l| l.strip_prefix(&format!("interlock_group_commit_changes_{name} ")));
        line.map_or(0.0, |v| v.parse::<f64>().unwrap())
    };
    (value("count"), value("sum"))
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_payments_at_once_all_end_right_in_fewer_commits_than_changes() {
    let app = TestApp::with(&[("payments.offer_timeout_ms", "9000")]).await;
    let client = Client {
        http: providers::http::plain_client_builder().build().unwrap(),
        ..app.client.clone()
    };
    let watch = Watch::start(&app).await;
    let before = commits(&client).await;
    let paying = (0..500).map(|_| {
        let client = client.clone();
        // On a busy machine some of them are answered before they are done, and some are asked to
        // come again.
        async move {
            let (key, order) = (crate::helpers::fresh("key"), order());
            loop {
                let answer = client.post("/v1/payments", &key, &order).await;
                if let Some(id) = answer.json()["id"].as_str() {
                    return id.to_owned();
                }
                assert!(
                    matches!(answer.status.as_u16(), 408 | 409 | 503),
                    "{answer:?}"
                );
                tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            }
        }
    });
    let ids = futures_util::future::join_all(paying).await;
    let after = commits(&client).await;
    let (commits, changes) = (after.0 - before.0, after.1 - before.1);
    assert!(
        changes >= 1000.0 && commits < changes,
        "{changes} changes in {commits} commits"
    );

    let facts = Facts::of(&app).await;
    for id in &ids {
        let payment = app.client.until_status(id, "requires_action").await;
        app.control.pay(&payment).await;
    }
    for id in &ids {
        let paid = app.client.until_status(id, "succeeded").await;
        assert_eq!(paid["amount_captured"], 8888);
    }
    assert_eq!(
        facts.count("attempts WHERE disposition = 'kept'").await,
        500
    );
    assert_eq!(
        facts.count("events WHERE type = 'payment.succeeded'").await,
        500
    );
    assert_eq!(taken_fen(&app).await, 500 * 8888);
    watch.stop().await;
    app.stop().await;
}
