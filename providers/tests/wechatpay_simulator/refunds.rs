//! Refunds: when they are done, whose their numbers are, and how much they may give back.

use chrono::TimeDelta;
use providers::money::Money;
use providers::outcome::{QueryOutcome, RefundOutcome, RefundQueryOutcome};

use crate::bench::Bench;
use crate::{NO, OTHER};

#[tokio::test]
async fn a_refund_is_accepted_and_done_two_seconds_later() {
    let bench = Bench::start().await;
    let adapter = bench.adapter();
    adapter.create(&bench.order(NO), &bench.call()).await;
    let refund = bench.refund(NO, "R0000001", 40);
    let RefundOutcome::Rejected(f) = adapter.refund(&refund, &bench.call()).await.outcome else {
        panic!()
    };
    assert_eq!(f.code, "RESOURCE_NOT_EXISTS");
    assert_eq!(
        adapter.query_refund(&refund, &bench.call()).await.outcome,
        RefundQueryOutcome::NotFound
    );

    bench.pay(NO);
    for _ in 0..2 {
        assert_eq!(
            adapter.refund(&refund, &bench.call()).await.outcome,
            RefundOutcome::Accepted
        );
    }
    assert_eq!(
        adapter.query_refund(&refund, &bench.call()).await.outcome,
        RefundQueryOutcome::Accepted
    );
    bench.pass(TimeDelta::seconds(2));
    assert_eq!(
        adapter.query_refund(&refund, &bench.call()).await.outcome,
        RefundQueryOutcome::Done
    );
    assert_eq!(
        adapter.refund(&refund, &bench.call()).await.outcome,
        RefundOutcome::Done
    );
    assert_eq!(
        bench
            .book
            .lock()
            .order(&bench.key(NO))
            .unwrap()
            .refunded_fen(),
        40
    );
    let queried = adapter
        .query(&bench.reference(NO), &bench.call())
        .await
        .outcome;
    assert!(
        matches!(&queried, QueryOutcome::Paid(c) if c.amount == Money::fen(100).unwrap()),
        "{queried:?}"
    );
}

#[tokio::test]
async fn a_refund_number_belongs_to_one_refund_and_sums_are_limited() {
    let bench = Bench::start().await;
    let adapter = bench.adapter();

    for no in [NO, OTHER] {
        adapter.create(&bench.order(no), &bench.call()).await;
        bench.pay(no);
    }
    adapter
        .refund(&bench.refund(NO, "R0000001", 40), &bench.call())
        .await;
    for other in [
        bench.refund(NO, "R0000001", 41),
        bench.refund(OTHER, "R0000001", 40),
    ] {
        let refunded = adapter.refund(&other, &bench.call()).await.outcome;
        assert!(
            matches!(&refunded, RefundOutcome::Unknown(f) if f.code == "number_exists"),
            "{refunded:?}"
        );
        let queried = adapter.query_refund(&other, &bench.call()).await.outcome;
        assert!(
            matches!(&queried, RefundQueryOutcome::Unknown(f) if f.code == "other_refund"),
            "{queried:?}"
        );
    }

    let too_much = adapter
        .refund(&bench.refund(NO, "R0000002", 61), &bench.call())
        .await
        .outcome;
    assert!(
        matches!(&too_much, RefundOutcome::Rejected(f) if f.code == "INVALID_REQUEST"),
        "{too_much:?}"
    );

    let mut wrong_total = bench.refund(NO, "R0000003", 10);
    wrong_total.total = Money::fen(99).unwrap();
    assert!(matches!(
        adapter.refund(&wrong_total, &bench.call()).await.outcome,
        RefundOutcome::Rejected(_)
    ));

    let nothing = adapter
        .refund(&bench.refund(NO, "R0000004", 0), &bench.call())
        .await
        .outcome;
    assert!(
        matches!(&nothing, RefundOutcome::Rejected(f) if f.code == "PARAM_ERROR"),
        "{nothing:?}"
    );

    assert_eq!(
        adapter
            .refund(&bench.refund(NO, "R0000005", 60), &bench.call())
            .await
            .outcome,
        RefundOutcome::Accepted
    );

    bench.pass(TimeDelta::days(366));
    let late = adapter
        .refund(&bench.refund(OTHER, "R0000006", 1), &bench.call())
        .await
        .outcome;

    assert!(matches!(late, RefundOutcome::Rejected(_)), "{late:?}");
}

#[tokio::test]
async fn a_reason_is_cut_to_what_the_provider_takes() {
    let bench = Bench::start().await;
    let adapter = bench.adapter();
    adapter.create(&bench.order(NO), &bench.call()).await;
    bench.pay(NO);
    let mut refund = bench.refund(NO, "R0000001", 1);
    refund.reason = Some(format!("\u{1F600}{}", "长".repeat(100)));
    for _ in 0..2 {
        assert_eq!(
            adapter.refund(&refund, &bench.call()).await.outcome,
            RefundOutcome::Accepted
        );
    }

    refund.refund_no = "R0000002".to_owned();
    refund.reason = Some("\u{1F600}".to_owned());
    assert_eq!(
        adapter.refund(&refund, &bench.call()).await.outcome,
        RefundOutcome::Accepted
    );
}
