//! The WeChat Pay adapter against its face of the sandbox over a socket: every call, and every
//! error that the face can produce.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "in the helpers of a test a panic is how it fails"
)]

mod bench;
mod charges;
mod notifications;
mod recorded;
mod refunds;
mod troubles;
mod whole;

use chrono::TimeDelta;
use providers::money::Money;
use providers::order::Flow;
use providers::outcome::{CloseOutcome, CreateOutcome, Failure, NextAction, QueryOutcome, Refusal};
use providers::sandbox::book::Refusal as BookRefusal;
use serde_json::{Value, json};

use self::bench::Bench;

const NO: &str = "IL20260105000001";
const OTHER: &str = "IL20260105000002";

fn qr(created: &CreateOutcome) -> String {
    let CreateOutcome::Accepted(NextAction::DisplayQr { qr }) = created else {
        panic!("{created:?}")
    };
    qr.clone()
}

fn unknown(created: CreateOutcome) -> Failure {
    let CreateOutcome::Unknown(failure) = created else {
        panic!("{created:?}")
    };
    failure
}

fn refused(created: CreateOutcome) -> (Refusal, String) {
    let CreateOutcome::Refused(who, failure) = created else {
        panic!("{created:?}")
    };
    (who, failure.code)
}

#[tokio::test]
async fn an_order_is_made_paid_and_found() {
    let bench = Bench::start().await;
    let adapter = bench.adapter();
    let created = adapter.create(&bench.order(NO), &bench.call()).await;
    assert!(qr(&created.outcome).starts_with("weixin://wxpay/bizpayurl?pr="));
    assert!(created.request_id.unwrap().ends_with("-0"));
    assert_eq!(
        adapter
            .query(&bench.reference(NO), &bench.call())
            .await
            .outcome,
        QueryOutcome::Payable
    );

    bench.pay(NO);
    bench.pass(TimeDelta::seconds(3));
    let QueryOutcome::Paid(capture) = adapter
        .query(&bench.reference(NO), &bench.call())
        .await
        .outcome
    else {
        panic!()
    };

    assert_eq!(capture.amount, Money::fen(100).unwrap());
    assert_eq!(capture.payment_id.as_deref(), Some("pay_0123456789abcdef"));
    assert_eq!(capture.payer.as_deref(), Some("****eS6o"));
    assert_eq!(capture.paid_at, Some(bench.now() - TimeDelta::seconds(3)));
    assert_eq!(capture.foreign_account, None);
    assert_eq!(capture.transaction_id.len(), 28);

    assert!(
        capture.transaction_id.starts_with("420000000120260105"),
        "{}",
        capture.transaction_id
    );
}

#[tokio::test]
async fn what_is_sent_is_what_the_provider_documents() {
    let bench = Bench::start().await;
    bench
        .adapter()
        .create(&bench.order(NO), &bench.call())
        .await;
    let (method, target, headers, body) = bench.shared.lock().seen.take().unwrap();

    assert_eq!(
        (method.as_str(), target.as_str()),
        ("POST", "/v3/pay/transactions/native")
    );
    assert_eq!(headers["accept"], "application/json");
    assert_eq!(headers["content-type"], "application/json");
    assert!(
        headers["user-agent"]
            .to_str()
            .unwrap()
            .starts_with("interlock/")
    );

    assert_eq!(
        headers["wechatpay-serial"],
        bench.credentials["public_key_id"].as_str().unwrap()
    );

    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(
        body,
        json!({
            "appid": bench.credentials["appid"], "mchid": bench.credentials["mchid"],
            "description": "测试商品",
            "out_trade_no": NO, "time_expire": "2026-01-05T10:15:00+08:00",
            "attach": "pay_0123456789abcdef",
            "notify_url": "http://127.0.0.1:9/notifications/acct_1",
            "amount": {"total": 100, "currency": "CNY"},
        })
    );
}

#[tokio::test]
async fn the_same_request_again_gives_a_new_code_and_the_old_one_dies() {
    let bench = Bench::start().await;
    let adapter = bench.adapter();
    let order = bench.order(NO);
    let first = qr(&adapter.create(&order, &bench.call()).await.outcome);
    let second = qr(&adapter.create(&order, &bench.call()).await.outcome);
    assert_ne!(first, second);
    let book = bench.book.lock();
    let known = book.by_code(&second).unwrap();
    assert_eq!(known.codes.last().unwrap().text, second);
    assert_eq!(known.codes.len(), 2);
    assert_eq!(known.codes[1].dies_at, bench.now() + TimeDelta::hours(2));
}

#[tokio::test]
async fn a_number_that_was_used_is_never_a_no() {
    let bench = Bench::start().await;
    let adapter = bench.adapter();
    let order = bench.order(NO);
    adapter.create(&order, &bench.call()).await;

    let mut dearer = order.clone();
    dearer.amount = Money::fen(101).unwrap();
    let answer = adapter.create(&dearer, &bench.call()).await;
    assert!(answer.request_id.unwrap().ends_with("-268498688"));
    assert_eq!(unknown(answer.outcome).code, "INVALID_REQUEST");

    bench.pay(NO);
    assert_eq!(
        unknown(adapter.create(&order, &bench.call()).await.outcome).code,
        "ORDERPAID"
    );

    let closed = bench.order(OTHER);
    adapter.create(&closed, &bench.call()).await;
    assert_eq!(
        adapter
            .close(&bench.reference(OTHER), &bench.call())
            .await
            .outcome,
        CloseOutcome::Closed
    );
    assert_eq!(
        unknown(adapter.create(&closed, &bench.call()).await.outcome).code,
        "ORDER_CLOSED"
    );
}

#[tokio::test]
async fn parameters_that_the_provider_refuses_are_refused_requests() {
    let bench = Bench::start().await;
    let adapter = bench.adapter();
    let with = |change: &dyn Fn(&mut providers::order::Order)| {
        let mut order = bench.order(NO);
        change(&mut order);
        order
    };

    for order in [
        with(&|o| o.amount = Money::fen(0).unwrap()),
        with(&|o| o.notify_url = "https://example.com/n?a=b".to_owned()),
        with(&|o| o.payment_id = "p".repeat(129)),
        with(&|o| o.order_no = "IL1".to_owned()),
        with(&|o| o.order_no = "I".repeat(33)),
    ] {
        let outcome = adapter.create(&order, &bench.call()).await.outcome;
        assert_eq!(
            refused(outcome),
            (Refusal::Route, "PARAM_ERROR".to_owned()),
            "{order:?}"
        );
    }

    assert!(bench.book.lock().orders().is_empty());
    // Words are made to fit.
    for (number, words) in ["长".repeat(127), String::new(), "\u{1F600}".repeat(3)]
        .into_iter()
        .enumerate()
    {
        let order =
            with(&|o| (o.description, o.order_no) = (words.clone(), format!("{NO}{number}")));
        qr(&adapter.create(&order, &bench.call()).await.outcome);
    }

    let page = with(&|o| o.flow = Flow::Page);
    assert_eq!(
        refused(adapter.create(&page, &bench.call()).await.outcome).1,
        "flow_not_served"
    );
}

#[tokio::test]
async fn an_order_that_was_never_made_is_not_found() {
    let bench = Bench::start().await;
    assert_eq!(
        bench
            .adapter()
            .query(&bench.reference(NO), &bench.call())
            .await
            .outcome,
        QueryOutcome::NotFound
    );
}

#[tokio::test]
async fn a_close_can_be_repeated_and_a_paid_order_stays_paid() {
    let bench = Bench::start().await;
    let adapter = bench.adapter();
    adapter.create(&bench.order(NO), &bench.call()).await;
    for _ in 0..2 {
        assert_eq!(
            adapter
                .close(&bench.reference(NO), &bench.call())
                .await
                .outcome,
            CloseOutcome::Closed
        );
    }
    assert_eq!(
        adapter
            .query(&bench.reference(NO), &bench.call())
            .await
            .outcome,
        QueryOutcome::Closed
    );

    adapter.create(&bench.order(OTHER), &bench.call()).await;
    bench.pay(OTHER);
    assert_eq!(
        adapter
            .close(&bench.reference(OTHER), &bench.call())
            .await
            .outcome,
        CloseOutcome::AlreadyPaid
    );
    let queried = adapter
        .query(&bench.reference(OTHER), &bench.call())
        .await
        .outcome;
    assert!(matches!(queried, QueryOutcome::Paid(_)), "{queried:?}");
}

#[tokio::test]
async fn closing_a_number_that_was_never_made_burns_it() {
    let bench = Bench::start().await;
    let adapter = bench.adapter();

    assert_eq!(
        adapter
            .close(&bench.reference(NO), &bench.call())
            .await
            .outcome,
        CloseOutcome::Closed
    );

    assert_eq!(
        adapter
            .query(&bench.reference(NO), &bench.call())
            .await
            .outcome,
        QueryOutcome::NotFound
    );

    assert_eq!(
        unknown(
            adapter
                .create(&bench.order(NO), &bench.call())
                .await
                .outcome
        )
        .code,
        "INVALID_REQUEST"
    );
}

#[tokio::test]
async fn an_offer_takes_no_money_after_its_deadline_and_closes_itself_after_seven_days() {
    let bench = Bench::start().await;
    let adapter = bench.adapter();
    let mut order = bench.order(NO);
    order.expires_at = bench.now() + TimeDelta::seconds(5);
    adapter.create(&order, &bench.call()).await;
    let pay = || bench.book.lock().pay(&bench.key(NO), "4", bench.now());
    bench.pass(TimeDelta::seconds(60));
    assert_eq!(pay(), Err(BookRefusal::Expired));

    assert_eq!(
        adapter
            .query(&bench.reference(NO), &bench.call())
            .await
            .outcome,
        QueryOutcome::Payable
    );

    assert_eq!(
        unknown(adapter.create(&order, &bench.call()).await.outcome).code,
        "ORDER_CLOSED"
    );

    bench.pass(TimeDelta::days(7));
    assert_eq!(
        adapter
            .query(&bench.reference(NO), &bench.call())
            .await
            .outcome,
        QueryOutcome::Closed
    );
}

#[tokio::test]
async fn the_provider_lengthens_an_offer_to_a_minute() {
    let bench = Bench::start().await;
    let mut order = bench.order(NO);
    order.expires_at = bench.now() + TimeDelta::seconds(5);
    bench.adapter().create(&order, &bench.call()).await;
    bench.pass(TimeDelta::seconds(59));
    bench.pay(NO);
}
