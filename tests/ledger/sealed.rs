//! Sealing: everything once, in blocks that follow each other, however many gateways do it at the
//! same time.

use interlock::store::{Sealed, Store};

use super::{agrees, unsealed};
use crate::helpers::facts::Facts;

#[tokio::test(flavor = "multi_thread")]
async fn gateways_that_seal_at_the_same_time_seal_every_entry_once() {
    let app = unsealed().await;
    let paying = (0..30).map(|_| app.paid());
    futures_util::future::join_all(paying).await;
    let store = &app.app().store;
    assert_eq!(store.unsealed_entries().await.unwrap(), 30);

    // Three stores are three gateways, as far as the database can tell.
    let (second, third) = (
        Store::look(&app.database, 2).await.unwrap(),
        Store::look(&app.database, 2).await.unwrap(),
    );
    let seal = async |store: &Store| {
        let (mut blocks, mut overtaken) = (0, 0);
        loop {
            match store.seal_ledger(app.app().clock.now(), 4).await.unwrap() {
                Sealed::Block(block) => {
                    assert!((1..=4).contains(&block.entries), "{block:?}");
                    blocks += 1;
                }
                Sealed::Overtaken => overtaken += 1,
                Sealed::Nothing => return (blocks, overtaken),
            }
        }
    };

    let ((a, _), (b, _), (c, _)) = tokio::join!(seal(store), seal(&second), seal(&third));
    assert_eq!(a + b + c, 8, "30 entries, 4 in each block");
    let report = agrees(&app).await;

    assert_eq!(
        (
            report.unsealed,
            report.entries,
            report.last_block.unwrap().height
        ),
        (0, 30, 8)
    );

    let facts = Facts::of(&app).await;
    assert_eq!(facts.count("ledger_entries WHERE block IS NULL").await, 0);
    second.close().await.unwrap();
    third.close().await.unwrap();

    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_gateway_seals_by_itself() {
    let app = crate::helpers::TestApp::with(&[("ledger.interval_ms", "50")]).await;
    app.paid().await;
    let began = std::time::Instant::now();
    while app.app().store.unsealed_entries().await.unwrap() > 0 {
        assert!(
            began.elapsed() < crate::helpers::PATIENCE,
            "nobody seals it"
        );
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(agrees(&app).await.last_block.unwrap().entries, 1);
    app.stop().await;
}
