//! Several gateways on one PostgreSQL: each due payment has one worker at a time.

use interlock::domain::id::PaymentId;
use std::collections::HashSet;

use interlock::config::Config;
use interlock::domain::Timestamp;
use interlock::server;
use interlock::store::{Change, Lane, Store};
use tempfile::TempDir;

use super::{Bench, NOW};
use crate::helpers::facts::{Facts, Watch};
use crate::helpers::{TestApp, attempts, order};

fn is_postgres(url: &str) -> bool {
    if !url.starts_with("postgres") {
        println!("skipped on SQLite: its folder is locked, so a second gateway cannot start on it");
    }
    url.starts_with("postgres")
}

/// The payments that are due and free, whoever is to be asked.
async fn due(store: &Store, now: Timestamp, each: u64) -> Vec<PaymentId> {
    let lanes: Vec<Lane> = providers::PROTOCOLS
        .iter()
        .map(|p| Some(p.name))
        .chain([None])
        .collect();
    store
        .due(now, &lanes, each)
        .await
        .unwrap()
        .into_iter()
        .map(|due| due.id)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_due_payment_is_claimed_once_by_workers_that_look_at_the_same_moment() {
    let bench = Bench::new().await;
    let count = 200;
    let made = (0..count).map(|_| bench.store.commit(Change::create(bench.payment())));

    assert!(
        futures_util::future::join_all(made)
            .await
            .into_iter()
            .all(|verdict| verdict == Ok(()))
    );

    // On SQLite the workers of one process share a store; on PostgreSQL they come from two.
    let second = if is_postgres(&bench.url) {
        Store::open(&bench.url, 4, crate::helpers::PATIENCE)
            .await
            .unwrap()
    } else {
        bench.store.clone()
    };
    let mut looking = tokio::task::JoinSet::new();

    for worker in 0..8 {
        let store = if worker % 2 == 0 {
            bench.store.clone()
        } else {
            second.clone()
        };
        looking.spawn(async move {
            let mut claimed = Vec::new();
            loop {
                let due = due(&store, NOW.plus_s(1), 7).await;
                assert!(due.len() <= 7, "{}", due.len());
                if due.is_empty() {
                    return claimed;
                }
                // Another one may have been faster.
                claimed.extend(
                    store
                        .claim(due, NOW.plus_s(1), NOW.plus_s(61))
                        .await
                        .unwrap(),
                );
                assert!(claimed.len() <= count, "the same ones again and again");
            }
        });
    }

    let claimed: Vec<PaymentId> = looking.join_all().await.into_iter().flatten().collect();
    let different: HashSet<&PaymentId> = claimed.iter().collect();

    assert_eq!(
        (claimed.len(), different.len()),
        (count, count),
        "none twice"
    );

    // Not before the lease is over does anybody get them again.
    assert!(due(&second, NOW.plus_s(60), 7).await.is_empty());
    let ids = claimed.clone();

    assert!(
        second
            .claim(ids, NOW.plus_s(60), NOW.plus_s(120))
            .await
            .unwrap()
            .is_empty()
    );

    let due = due(&second, NOW.plus_s(61), 1_000).await;
    assert_eq!(
        second
            .claim(due, NOW.plus_s(61), NOW.plus_s(121))
            .await
            .unwrap()
            .len(),
        count
    );

    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_gateways_on_one_database_go_on_with_each_parked_payment_once() {
    let key = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
    let app = TestApp::with(&[("credentials.key", key)]).await;
    if !is_postgres(&app.database) {
        return app.stop().await;
    }
    let folder = TempDir::new().unwrap();
    let flags = [
        ("server.listen", "127.0.0.1:0".to_owned()),
        ("server.workers", "1".to_owned()),
        ("data.dir", folder.path().display().to_string()),
        ("database.url", app.database.clone()),
        ("database.connections", "4".to_owned()),
        ("sandbox.listen", app.control.url.clone()),
        ("resolver.interval_ms", "50".to_owned()),
        ("credentials.key", key.to_owned()),
    ];

    let other = server::start(Config::load(None, &flags).unwrap())
        .await
        .unwrap();
    for protocol in providers::PROTOCOLS {
        app.control
            .fault(serde_json::json!({"provider": protocol.name.as_str(), "kind": "refuse"}))
            .await;
    }

    let watch = Watch::start(&app).await;
    let parking = (0..40).map(|_| async { app.client.pay(&order()).await.expect(202) });
    let parked = futures_util::future::join_all(parking).await;
    app.control.mend().await;

    // Both clocks at the same moment: all payments are due for both of them.
    app.control.advance(40).await;
    app.app().clock.jump(std::time::Duration::from_secs(40));
    other.app.clock.jump(std::time::Duration::from_secs(40));
    for payment in &parked {
        let offered = app
            .client
            .until_status(payment["id"].as_str().unwrap(), "requires_action")
            .await;
        let good = attempts(&offered)
            .iter()
            .filter(|(_, status)| status == "awaiting_payer")
            .count();
        assert_eq!(good, 1);
    }

    assert_eq!(
        app.control.orders().await.len(),
        40,
        "one order for each payment"
    );

    let facts = Facts::of(&app).await;
    assert_eq!(facts.count("attempts WHERE outcome = 'accepted'").await, 40);
    assert_eq!(facts.count("attempts WHERE status = 'abandoned'").await, 0);

    watch.stop().await;
    other.stop().await;
    app.stop().await;
}
