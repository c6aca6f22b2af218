//! Codes that the payer scans, refunds, and money that comes too late.

use chrono::TimeDelta;
use providers::notification::Notice;
use providers::order::RefundOrder;
use providers::outcome::{
    CloseOutcome, CreateOutcome, NextAction, QueryOutcome, RefundOutcome, RefundQueryOutcome,
};
use providers::sandbox::book::Refusal;
use providers::sandbox::payer::{Holding, Wish};
use serde_json::json;

use crate::bench::{Bench, QR, reference};

#[tokio::test]
async fn an_order_lives_through_a_failed_card_payment_and_refund() {
    for method in ["01", "11"] {
        let mut bench = Bench::with(&json!({ "sign_method": method })).await;
        let order = bench.qr();
        let created = bench.adapter.create(&order, &bench.call()).await.outcome;
        let CreateOutcome::Accepted(NextAction::DisplayQr { qr }) = created else {
            panic!("{created:?}")
        };
        let code = Holding::Code(qr);
        assert_eq!(bench.query(&order).await, QueryOutcome::Payable);
        // A card without money does not end it: the payer takes another one.
        bench.sandbox.pay(&code, Wish::Declined).unwrap();
        assert_eq!(bench.query(&order).await, QueryOutcome::Payable);
        bench.sandbox.pay(&code, Wish::Paid).unwrap();
        let asks = |refund_no: Option<&str>| Notice::Ask {
            order_no: QR.to_owned(),
            refund_no: refund_no.map(str::to_owned),
            says_done: true,
            amount: None,
        };
        assert_eq!(bench.told().await, asks(None));
        let QueryOutcome::Paid(capture) = bench.query(&order).await else {
            panic!()
        };
        assert_eq!(
            (capture.amount, capture.returns_by_itself),
            (order.amount, false)
        );
        assert_eq!(capture.payment_id.as_deref(), Some("pay_0123456789abcdef"));
        assert_eq!(capture.payer.as_deref(), Some("****0018"));

        let refund = bench.refund_of(&order, "IR20260701000001", 400);
        assert_eq!(bench.refund(&refund).await, RefundOutcome::Accepted);
        assert_eq!(
            bench.query_refund(&refund).await,
            RefundQueryOutcome::Accepted
        );
        let again = bench.refund(&refund).await;
        assert!(
            matches!(&again, RefundOutcome::Unknown(f) if f.code == "number_exists"),
            "{again:?}"
        );
        bench.pass(TimeDelta::seconds(2));
        assert_eq!(bench.told().await, asks(Some("IR20260701000001")));
        assert_eq!(bench.query_refund(&refund).await, RefundQueryOutcome::Done);
        assert_eq!(bench.money(QR), (1000, 400));

        let too_much = bench
            .refund(&bench.refund_of(&order, "IR20260701000002", 601))
            .await;
        assert!(
            matches!(&too_much, RefundOutcome::Rejected(f) if f.code == "36"),
            "{too_much:?}"
        );
        // The original's own number is a number that was used.
        let own_number = bench.refund(&bench.refund_of(&order, QR, 1)).await;
        assert!(
            matches!(&own_number, RefundOutcome::Unknown(f) if f.code == "number_exists"),
            "{own_number:?}"
        );
        assert!(!bench.is_told_more());
    }
}

/// How money went back, as the sandbox booked it.
fn types(bench: &Bench) -> Vec<String> {
    let book = bench.sandbox.book().lock();
    let refunds = book.by_order_no(QR).unwrap().refunds.values();
    refunds
        .map(|refund| refund.details["txnType"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn a_whole_payment_is_undone_once_and_after_its_day_it_is_refunded() {
    let mut bench = Bench::start().await;
    // It is 16:00 in Beijing: the day ends at 23:00 (15:00 in UTC).
    let day_s = 24 * 3600;
    bench.pass(TimeDelta::seconds(
        (8 * 3600 - bench.sandbox.clock().now().timestamp()).rem_euclid(day_s),
    ));
    let left_s = 7 * 3600;
    let order = bench.qr();
    bench.adapter.create(&order, &bench.call()).await;
    bench
        .sandbox
        .pay(&Holding::OrderNo(QR.to_owned()), Wish::Paid)
        .unwrap();
    bench.told().await;
    // The day is over where the undo arrives, although it was not where it was sent.
    bench.pass(TimeDelta::seconds(left_s - 60));
    let planned = bench.refund_of(&order, "IR20260701000001", 1000);
    bench.pass(TimeDelta::seconds(90));
    let refused = bench.refund(&planned).await;
    assert!(
        matches!(&refused, RefundOutcome::RetryWithNewNumber(f) if f.code == "35"),
        "{refused:?}"
    );
    assert_eq!(types(&bench), Vec::<String>::new());
    let refund = RefundOrder {
        renumbered: true,
        ..bench.refund_of(&order, "IR20260701000002", 1000)
    };
    assert_eq!(bench.refund(&refund).await, RefundOutcome::Accepted);
    assert_eq!(types(&bench), ["04"]);

    let mut bench = Bench::start().await;
    let order = bench.qr();
    bench.adapter.create(&order, &bench.call()).await;
    bench
        .sandbox
        .pay(&Holding::OrderNo(QR.to_owned()), Wish::Paid)
        .unwrap();
    bench.told().await;
    let undo = bench.refund_of(&order, "IR20260701000003", 1000);
    assert_eq!(bench.refund(&undo).await, RefundOutcome::Accepted);
    assert_eq!(
        bench.query_refund(&undo).await,
        RefundQueryOutcome::Accepted
    );
    bench.pass(TimeDelta::seconds(2));
    let number = Some("IR20260701000003".to_owned());
    assert_eq!(
        bench.told().await,
        Notice::Ask {
            order_no: QR.to_owned(),
            refund_no: number,
            says_done: true,
            amount: None
        }
    );
    assert_eq!(bench.query_refund(&undo).await, RefundQueryOutcome::Done);
    assert_eq!(
        (types(&bench), bench.money(QR)),
        (vec!["31".to_owned()], (1000, 1000))
    );
}

/// The time is a part of an order's name.
#[tokio::test]
async fn an_order_is_found_by_its_own_time_only() {
    let bench = Bench::start().await;
    let order = bench.qr();
    bench.adapter.create(&order, &bench.call()).await;
    let mut reference = reference(&order);
    reference.txn_time += TimeDelta::seconds(1);
    assert_eq!(
        bench.adapter.query(&reference, &bench.call()).await.outcome,
        QueryOutcome::NotFound
    );

    let twice = bench.adapter.create(&order, &bench.call()).await.outcome;
    assert!(
        matches!(&twice, CreateOutcome::Unknown(f) if f.code == "12"),
        "{twice:?}"
    );

    let closed = bench
        .adapter
        .close(&crate::bench::reference(&order), &bench.call())
        .await
        .outcome;

    assert!(matches!(closed, CloseOutcome::Impossible(_)));
}

#[tokio::test]
async fn late_money_is_told_by_the_query_alone_and_goes_back_by_itself() {
    let mut bench = Bench::start().await;
    let order = bench.qr();
    bench.adapter.create(&order, &bench.call()).await;
    let holding = Holding::OrderNo(QR.to_owned());

    assert_eq!(
        bench.sandbox.pay(&holding, Wish::Late).unwrap_err(),
        Refusal::NotLate
    );

    bench.pass(TimeDelta::minutes(16));
    assert_eq!(
        bench.sandbox.pay(&holding, Wish::Paid).unwrap_err(),
        Refusal::Expired
    );
    assert_eq!(bench.query(&order).await, QueryOutcome::NotFound);

    bench.sandbox.pay(&holding, Wish::Late).unwrap();
    let QueryOutcome::Paid(capture) = bench.query(&order).await else {
        panic!()
    };
    assert!(capture.returns_by_itself);
    assert_eq!(bench.money(QR), (1000, 0));

    // What goes back by itself is not given back a second time.
    let refused = bench
        .refund(&bench.refund_of(&order, "IR20260701000003", 1000))
        .await;
    assert!(
        matches!(&refused, RefundOutcome::RetryWithNewNumber(f) if f.code == "45"),
        "{refused:?}"
    );

    let refund = RefundOrder {
        renumbered: true,
        ..bench.refund_of(&order, "IR20260701000004", 1000)
    };
    let refused = bench.refund(&refund).await;

    assert!(
        matches!(&refused, RefundOutcome::Rejected(f) if f.code == "45"),
        "{refused:?}"
    );

    bench.pass(TimeDelta::days(5));
    let now = bench.sandbox.clock().now();
    while bench.sandbox.book().lock().has_due_refunds(now) {
        tokio::task::yield_now().await;
    }
    assert_eq!(bench.money(QR), (1000, 1000));

    assert!(!bench.is_told_more(), "nobody is told of late money");
}

#[tokio::test]
async fn who_asks_too_often_is_told_so_and_learns_nothing() {
    let bench = Bench::start().await;
    let order = bench.qr();
    bench.adapter.create(&order, &bench.call()).await;
    for _ in 0..20 {
        assert_eq!(bench.query(&order).await, QueryOutcome::Payable);
    }
    let answer = bench.query(&order).await;
    assert!(
        matches!(&answer, QueryOutcome::Unknown(f) if f.code == "37"),
        "{answer:?}"
    );
    bench.pass(TimeDelta::seconds(11));
    assert_eq!(bench.query(&order).await, QueryOutcome::Payable);
}
