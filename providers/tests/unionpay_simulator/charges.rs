//! Codes that we scan: nothing is sure before a query says so, and a reversal makes an order
//! disappear.

use chrono::TimeDelta;
use providers::notification::Notice;
use providers::order::Order;
use providers::outcome::{CloseOutcome, CreateOutcome, QueryOutcome};
use providers::sandbox::book::Refusal;
use providers::sandbox::payer::{Holding, Wish};

use crate::bench::{Bench, SCAN, reference};

const PAYS: &str = "6220485073630469930";
const CONFIRMS: &str = "6220485073630469937";
const HAS_NO_MONEY: &str = "6220485073630469938";
const EXPIRED: &str = "6220485073630469939";

async fn create(bench: &Bench, order: &Order) -> CreateOutcome {
    bench.adapter.create(order, &bench.call()).await.outcome
}

async fn reverse(bench: &Bench, order: &Order) -> CloseOutcome {
    bench
        .adapter
        .reverse(&reference(order), &bench.call())
        .await
        .outcome
}

#[tokio::test]
async fn a_charge_is_only_accepted_and_the_query_says_that_it_was_paid() {
    let mut bench = Bench::start().await;
    let is_code = bench.adapter.capabilities().charge.unwrap().is_code;
    assert!(is_code(PAYS) && !is_code("622048507363046993") && !is_code("2820485073630469930"));

    let order = bench.scan(PAYS);
    assert_eq!(create(&bench, &order).await, CreateOutcome::Waiting);
    assert_eq!(
        bench.told().await,
        Notice::Ask {
            order_no: SCAN.to_owned(),
            refund_no: None,
            says_done: true,
            amount: None
        }
    );

    let QueryOutcome::Paid(capture) = bench.query(&order).await else {
        panic!()
    };
    assert_eq!(capture.amount, order.amount);

    // A code works once.
    let other = Order {
        order_no: "IL20260701SC000002".to_owned(),
        ..bench.scan(PAYS)
    };
    let used = create(&bench, &other).await;

    assert!(
        matches!(&used, CreateOutcome::Unknown(f) if f.code == "01"),
        "{used:?}"
    );

    assert_eq!(bench.query(&other).await, QueryOutcome::NotFound);
}

#[tokio::test]
async fn a_payer_who_must_confirm_is_waited_for() {
    let bench = Bench::start().await;
    let order = bench.scan(CONFIRMS);
    assert_eq!(create(&bench, &order).await, CreateOutcome::Waiting);
    assert_eq!(bench.query(&order).await, QueryOutcome::Payable);
    bench
        .sandbox
        .pay(&Holding::Code(CONFIRMS.to_owned()), Wish::Paid)
        .unwrap();
    assert!(matches!(bench.query(&order).await, QueryOutcome::Paid(_)));
    assert_eq!(bench.money(SCAN), (1000, 0));
}

#[tokio::test]
async fn a_payer_who_says_no_or_nothing_ends_the_charge() {
    for says_no in [true, false] {
        let bench = Bench::start().await;
        let order = bench.scan(CONFIRMS);
        create(&bench, &order).await;
        let holding = Holding::Code(CONFIRMS.to_owned());
        if says_no {
            bench.sandbox.pay(&holding, Wish::Declined).unwrap();
        } else {
            bench.pass(TimeDelta::minutes(3));
        }
        assert_eq!(bench.query(&order).await, QueryOutcome::Closed);
        assert_eq!(
            bench.sandbox.pay(&holding, Wish::Paid).unwrap_err(),
            Refusal::Ended
        );
        assert_eq!(bench.money(SCAN), (0, 0));
    }
}

#[tokio::test]
async fn a_payer_without_money_is_found_out_by_the_query_and_an_old_code_at_once() {
    let bench = Bench::start().await;
    let order = bench.scan(HAS_NO_MONEY);
    assert_eq!(create(&bench, &order).await, CreateOutcome::Waiting);
    assert_eq!(bench.query(&order).await, QueryOutcome::Closed);

    let other = Order {
        order_no: "IL20260701SC000003".to_owned(),
        ..bench.scan(EXPIRED)
    };
    let expired = create(&bench, &other).await;

    assert!(
        matches!(&expired, CreateOutcome::Declined(f) if f.code == "86"),
        "{expired:?}"
    );

    let unknown = Order {
        order_no: "IL20260701SC000004".to_owned(),
        ..bench.scan("1320485073630469930")
    };
    let unknown = create(&bench, &unknown).await;

    assert!(
        matches!(&unknown, CreateOutcome::Declined(f) if f.code == "88"),
        "{unknown:?}"
    );
}

#[tokio::test]
async fn a_reversed_charge_gives_the_money_back_once_and_is_never_found_again() {
    for (code, taken) in [(PAYS, 1000), (CONFIRMS, 0)] {
        let bench = Bench::start().await;
        let order = bench.scan(code);
        create(&bench, &order).await;
        assert_eq!(bench.money(SCAN), (taken, 0));
        assert_eq!(reverse(&bench, &order).await, CloseOutcome::Reversed);
        assert_eq!(reverse(&bench, &order).await, CloseOutcome::Reversed);
        assert_eq!(bench.money(SCAN), (taken, taken));
        for _ in 0..2 {
            assert_eq!(bench.query(&order).await, QueryOutcome::NotFound);
            bench.pass(TimeDelta::seconds(30));
        }
        let holding = Holding::OrderNo(SCAN.to_owned());
        assert_eq!(
            bench.sandbox.pay(&holding, Wish::Paid).unwrap_err(),
            Refusal::Ended
        );
    }
}

#[tokio::test]
async fn only_a_scan_of_the_same_clearing_day_is_reversed() {
    let bench = Bench::start().await;
    let never = bench.scan(PAYS);
    assert_eq!(reverse(&bench, &never).await, CloseOutcome::NotFound);
    let qr = bench.qr();
    create(&bench, &qr).await;
    assert!(matches!(
        reverse(&bench, &qr).await,
        CloseOutcome::Impossible(_)
    ));
    create(&bench, &never).await;
    bench.pass(TimeDelta::days(1));
    let late = reverse(&bench, &never).await;
    assert!(
        matches!(&late, CloseOutcome::Impossible(f) if f.code == "35"),
        "{late:?}"
    );
    assert_eq!(bench.money(SCAN), (1000, 0));
}
