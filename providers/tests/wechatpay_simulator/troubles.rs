//! Accounts that are set up wrongly, and a provider that is busy, broken, not believed or not
//! there: what each call says then.

use chrono::TimeDelta;
use providers::outcome::{
    CloseOutcome, CreateOutcome, FailureKind, QueryOutcome, RefundOutcome, RefundQueryOutcome,
    Refusal,
};
use providers::sandbox::book::State;
use providers::sandbox::simulator::Alteration;
use serde_json::json;

use crate::bench::{self, Bench, Mood};
use crate::{NO, qr, refused, unknown};

#[tokio::test]
async fn an_account_that_is_set_up_wrongly_is_refused_and_nothing_is_made() {
    let bench = Bench::start().await;
    let wrong_key = bench::vector_keys()["platform_private_key"].clone();

    for (member, value, code) in [
        ("private_key", wrong_key, "SIGN_ERROR"),
        (
            "serial",
            json!("7A3D33BEC05BF6417BFC42A6EEE855DC927370C1"),
            "SIGN_ERROR",
        ),
        ("mchid", json!("1900000110"), "SIGN_ERROR"),
        (
            "appid",
            json!("wx0000000000000000"),
            "APPID_MCHID_NOT_MATCH",
        ),
    ] {
        let adapter = bench.adapter_with(member, value);
        let outcome = adapter
            .create(&bench.order(NO), &bench.call())
            .await
            .outcome;
        assert_eq!(
            refused(outcome),
            (Refusal::Account, code.to_owned()),
            "{member}"
        );
    }

    let mut late = bench.call();
    late.now += TimeDelta::seconds(301);
    let outcome = bench
        .adapter()
        .create(&bench.order(NO), &late)
        .await
        .outcome;

    assert_eq!(
        refused(outcome),
        (Refusal::Provider, "SIGN_ERROR".to_owned()),
        "a clock is no account's"
    );

    assert!(bench.book.lock().orders().is_empty());
    late.now -= TimeDelta::seconds(2);
    qr(&bench
        .adapter()
        .create(&bench.order(NO), &late)
        .await
        .outcome);
}

#[tokio::test]
async fn an_unauthenticated_call_says_nothing_about_an_order() {
    let bench = Bench::start().await;
    let adapter = bench.adapter_with("serial", json!("7A3D33BEC05BF6417BFC42A6EEE855DC927370C1"));

    bench
        .adapter()
        .create(&bench.order(NO), &bench.call())
        .await;
    let QueryOutcome::Unknown(f) = adapter
        .query(&bench.reference(NO), &bench.call())
        .await
        .outcome
    else {
        panic!()
    };

    assert_eq!(
        (f.kind, f.code.as_str()),
        (FailureKind::Account, "SIGN_ERROR")
    );

    let ended = adapter
        .close(&bench.reference(NO), &bench.call())
        .await
        .outcome;
    assert!(matches!(ended, CloseOutcome::Retry(_)), "{ended:?}");

    let refund = bench.refund(NO, "R0000001", 1);
    assert!(matches!(
        adapter.refund(&refund, &bench.call()).await.outcome,
        RefundOutcome::RetryLater(_)
    ));
    assert!(matches!(
        adapter.query_refund(&refund, &bench.call()).await.outcome,
        RefundQueryOutcome::Unknown(_)
    ));

    assert_eq!(
        bench.book.lock().order(&bench.key(NO)).unwrap().state,
        State::Payable
    );
}

/// Everything but the outcome of a creation.
async fn others(
    bench: &Bench,
) -> (
    QueryOutcome,
    CloseOutcome,
    RefundOutcome,
    RefundQueryOutcome,
) {
    let (adapter, call, refund) = (
        bench.adapter(),
        bench.call(),
        bench.refund(NO, "R0000001", 40),
    );
    (
        adapter.query(&bench.reference(NO), &call).await.outcome,
        adapter.close(&bench.reference(NO), &call).await.outcome,
        adapter.refund(&refund, &call).await.outcome,
        adapter.query_refund(&refund, &call).await.outcome,
    )
}

#[tokio::test]
async fn a_busy_provider_has_done_nothing() {
    let bench = Bench::start().await;
    bench.set(Alteration::None, Mood::Busy);
    let outcome = bench
        .adapter()
        .create(&bench.order(NO), &bench.call())
        .await
        .outcome;

    assert_eq!(
        refused(outcome),
        (Refusal::Provider, "FREQUENCY_LIMITED".to_owned())
    );

    let (queried, ended, refunded, refund_queried) = others(&bench).await;
    assert!(
        matches!(&queried, QueryOutcome::Unknown(f) if f.kind == FailureKind::RateLimited),
        "{queried:?}"
    );
    assert!(matches!(ended, CloseOutcome::Retry(_)), "{ended:?}");
    assert!(
        matches!(refunded, RefundOutcome::RetryLater(_)),
        "{refunded:?}"
    );

    assert!(
        matches!(refund_queried, RefundQueryOutcome::Unknown(_)),
        "{refund_queried:?}"
    );
}

#[tokio::test]
async fn whatever_is_broken_unsigned_or_wrongly_signed_is_unknown() {
    for (alteration, mood, kind) in [
        (Alteration::None, Mood::Broken, FailureKind::ServerError),
        (Alteration::Unsigned, Mood::Well, FailureKind::Incompatible),
        (
            Alteration::BadSignature,
            Mood::Well,
            FailureKind::Incompatible,
        ),
    ] {
        let bench = Bench::start().await;
        bench.set(alteration, mood);
        assert_eq!(
            unknown(
                bench
                    .adapter()
                    .create(&bench.order(NO), &bench.call())
                    .await
                    .outcome
            )
            .kind,
            kind
        );
        let made = bench.book.lock().order(&bench.key(NO)).is_some();
        assert_eq!(
            made,
            mood == Mood::Well,
            "the order exists although its answer was not believed"
        );
        if made {
            bench.pay(NO);
        }
        let (queried, ended, refunded, refund_queried) = others(&bench).await;
        assert!(matches!(queried, QueryOutcome::Unknown(_)), "{queried:?}");
        assert!(matches!(ended, CloseOutcome::Unknown(_)), "{ended:?}");
        assert!(
            matches!(refunded, RefundOutcome::Unknown(_)),
            "{refunded:?}"
        );
        assert!(
            matches!(refund_queried, RefundQueryOutcome::Unknown(_)),
            "{refund_queried:?}"
        );
    }
}

#[tokio::test]
async fn a_provider_whose_key_we_do_not_know_is_not_believed() {
    let bench = Bench::start().await;
    let adapter = bench.adapter_with("public_key_id", json!("PUB_KEY_ID_1"));
    let failure = unknown(
        adapter
            .create(&bench.order(NO), &bench.call())
            .await
            .outcome,
    );
    assert_eq!(
        (failure.kind, failure.code.as_str()),
        (FailureKind::Incompatible, "wrongly_signed")
    );
}

#[tokio::test]
async fn a_provider_that_cannot_be_reached_was_never_asked() {
    let bench = Bench::start().await;
    // Bound and let go: nobody listens there.
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();

    let adapter = bench.adapter_with("base_url", json!(format!("http://{free}")));
    let (call, refund) = (bench.call(), bench.refund(NO, "R0000001", 1));
    let created = adapter.create(&bench.order(NO), &call).await.outcome;

    assert!(
        matches!(&created, CreateOutcome::NotSent(f) if f.code == "connect"),
        "{created:?}"
    );

    let queried = adapter.query(&bench.reference(NO), &call).await.outcome;
    assert!(
        matches!(&queried, QueryOutcome::Unknown(f) if f.kind == FailureKind::Network),
        "{queried:?}"
    );
    assert!(matches!(
        adapter.close(&bench.reference(NO), &call).await.outcome,
        CloseOutcome::Retry(_)
    ));

    assert!(matches!(
        adapter.refund(&refund, &call).await.outcome,
        RefundOutcome::RetryLater(_)
    ));

    assert!(matches!(
        adapter.query_refund(&refund, &call).await.outcome,
        RefundQueryOutcome::Unknown(_)
    ));
}
