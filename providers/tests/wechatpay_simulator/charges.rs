//! Code payments and their reversal, from both ends of the wire.

use chrono::TimeDelta;
use providers::money::Money;
use providers::notification::Notice;
use providers::order::{Flow, Order, Shop};
use providers::outcome::{
    CloseOutcome, CreateOutcome, Failure, FailureKind, QueryOutcome, RefundOutcome,
    RefundQueryOutcome, Refusal,
};
use providers::sandbox::book::{MovementKind, Refusal as BookRefusal, State};
use providers::sandbox::refund_end::RefundEnd;
use providers::sandbox::simulator::Alteration;
use serde_json::{Value, json};

use crate::bench::{Bench, Mood};

const NO: &str = "IL20260105000001";
const OTHER: &str = "IL20260105000002";
/// Pays at once, must confirm, has no money, is expired.
const PAYS: &str = "130061098828009400";
const ASKED: &str = "130061098828009407";
const POOR: &str = "130061098828009408";
const OLD: &str = "130061098828009409";

fn charge(bench: &Bench, order_no: &str, auth_code: &str) -> Order {
    let mut order = bench.order(order_no);
    order.flow = Flow::Barcode;
    order.auth_code = Some(auth_code.to_owned());
    order
}

async fn create(bench: &Bench, order_no: &str, auth_code: &str) -> CreateOutcome {
    bench
        .adapter()
        .create(&charge(bench, order_no, auth_code), &bench.call())
        .await
        .outcome
}

async fn query(bench: &Bench, order_no: &str) -> QueryOutcome {
    bench
        .adapter()
        .query(&bench.reference(order_no), &bench.call())
        .await
        .outcome
}

async fn reverse(bench: &Bench, order_no: &str) -> CloseOutcome {
    bench
        .adapter()
        .reverse(&bench.reference(order_no), &bench.call())
        .await
        .outcome
}

fn declined(created: CreateOutcome) -> (String, FailureKind) {
    let CreateOutcome::Declined(Failure { code, kind, .. }) = created else {
        panic!("{created:?}")
    };
    (code, kind)
}

fn again(ended: CloseOutcome) -> String {
    let CloseOutcome::Retry(failure) = ended else {
        panic!("{ended:?}")
    };
    failure.code
}

fn moved(bench: &Bench) -> Vec<(MovementKind, i64)> {
    bench
        .book
        .lock()
        .movements()
        .iter()
        .map(|m| (m.kind, m.amount.minor()))
        .collect()
}

#[tokio::test]
async fn a_payer_who_pays_at_once_is_charged_inside_the_call_and_nobody_is_notified() {
    let bench = Bench::start().await;
    let CreateOutcome::Captured(capture) = create(&bench, NO, PAYS).await else {
        panic!()
    };
    assert_eq!(capture.amount, Money::fen(100).unwrap());
    assert_eq!(capture.payment_id.as_deref(), Some("pay_0123456789abcdef"));
    assert_eq!(
        (capture.payer.as_deref(), capture.paid_at),
        (Some("****eS6o"), Some(bench.now()))
    );
    assert_eq!(query(&bench, NO).await, QueryOutcome::Paid(capture));
    assert!(bench.outgoing(Alteration::None).is_empty());
    assert_eq!(moved(&bench), [(MovementKind::Captured, 100)]);
}

#[tokio::test]
async fn what_is_sent_names_the_shop_and_the_till_or_the_account_s_own_shop() {
    let bench = Bench::start().await;
    let sent = || {
        let (method, target, _, body) = bench.shared.lock().seen.take().unwrap();
        (
            format!("{method} {target}"),
            serde_json::from_slice::<Value>(&body).unwrap(),
        )
    };

    create(&bench, NO, PAYS).await;
    let (line, body) = sent();
    assert_eq!(line, "POST /v3/pay/transactions/codepay");
    assert_eq!(
        body,
        json!({
            "appid": bench.credentials["appid"], "mchid": bench.credentials["mchid"],
            "description": "测试商品",
            "out_trade_no": NO, "attach": "pay_0123456789abcdef",
            "amount": {"total": 100, "currency": "CNY"},
            "payer": {"auth_code": PAYS},
            "scene_info": {"store_info": {"out_id": bench.credentials["mchid"]}},
        })
    );

    let mut order = charge(&bench, OTHER, ASKED);
    order.store = Some(Shop {
        id: "S1".to_owned(),
        name: None,
        terminal_id: Some("T1".to_owned()),
    });

    bench.adapter().create(&order, &bench.call()).await;
    assert_eq!(
        sent().1["scene_info"],
        json!({"device_id": "T1", "store_info": {"out_id": "S1"}})
    );

    order.store = None;
    bench
        .adapter_with("store_id", json!("S0"))
        .create(&order, &bench.call())
        .await;
    assert_eq!(
        sent().1["scene_info"],
        json!({"store_info": {"out_id": "S0"}})
    );

    reverse(&bench, NO).await;
    let (line, body) = sent();

    assert_eq!(
        line,
        format!("POST /v3/pay/transactions/out-trade-no/{NO}/reverse")
    );

    assert_eq!(
        body,
        json!({"appid": bench.credentials["appid"], "mchid": bench.credentials["mchid"]})
    );
}

#[tokio::test]
async fn what_is_not_a_code_of_the_wallet_is_never_sent() {
    let bench = Bench::start().await;
    for code in [
        "",
        "28123456789012345",
        "160061098828009400",
        "13006109882800940",
        "13006109882800940x",
    ] {
        let created = create(&bench, NO, code).await;
        assert!(
            matches!(created, CreateOutcome::Refused(Refusal::Route, _)),
            "{code}: {created:?}"
        );
    }
    assert!(bench.shared.lock().seen.is_none());
}

#[tokio::test]
async fn a_payer_who_must_confirm_is_asked_for_a_minute() {
    let bench = Bench::start().await;
    assert_eq!(create(&bench, NO, ASKED).await, CreateOutcome::Waiting);
    assert_eq!(query(&bench, NO).await, QueryOutcome::Payable);
    assert_eq!(
        create(&bench, NO, ASKED).await,
        CreateOutcome::Waiting,
        "the same request tells how it stands"
    );
    bench.pass(TimeDelta::seconds(59));
    bench.pay(NO);
    assert!(matches!(query(&bench, NO).await, QueryOutcome::Paid(_)));

    create(&bench, OTHER, "130061098828009417").await;
    bench.pass(TimeDelta::seconds(60));
    assert_eq!(
        bench.book.lock().pay(&bench.key(OTHER), "4", bench.now()),
        Err(BookRefusal::Expired)
    );
    assert_eq!(
        query(&bench, OTHER).await,
        QueryOutcome::Payable,
        "PAYERROR is not final"
    );
    assert_eq!(reverse(&bench, OTHER).await, CloseOutcome::Closed);
    assert_eq!(query(&bench, OTHER).await, QueryOutcome::Reversed);
    assert_eq!(moved(&bench), [(MovementKind::Captured, 100)]);
}

#[tokio::test]
async fn nothing_is_reversed_while_the_dialog_is_open_or_before_fifteen_seconds() {
    let bench = Bench::start().await;
    create(&bench, NO, ASKED).await;
    bench.pass(TimeDelta::seconds(45));
    assert_eq!(again(reverse(&bench, NO).await), "USERPAYING");
    bench.pay(NO);
    assert_eq!(reverse(&bench, NO).await, CloseOutcome::Closed);
    assert_eq!(query(&bench, NO).await, QueryOutcome::Reversed);
    assert_eq!(
        reverse(&bench, NO).await,
        CloseOutcome::Closed,
        "once more, and nothing moves"
    );
    assert_eq!(
        moved(&bench),
        [(MovementKind::Captured, 100), (MovementKind::Refunded, 100)]
    );

    create(&bench, OTHER, PAYS).await;
    bench.pass(TimeDelta::seconds(14));
    assert_eq!(again(reverse(&bench, OTHER).await), "INVALID_REQUEST");
    bench.pass(TimeDelta::days(8));
    let late = reverse(&bench, OTHER).await;
    assert!(
        matches!(&late, CloseOutcome::Impossible(f) if f.code == "REVERSE_EXPIRE"),
        "{late:?}"
    );
}

#[tokio::test]
async fn a_payer_who_says_no_leaves_a_payment_that_is_reversed_at_once() {
    let bench = Bench::start().await;
    create(&bench, NO, ASKED).await;
    bench.pass(TimeDelta::seconds(15));
    bench
        .book
        .lock()
        .decline(&bench.key(NO), "4", bench.now())
        .unwrap();
    assert_eq!(query(&bench, NO).await, QueryOutcome::Payable);
    assert_eq!(reverse(&bench, NO).await, CloseOutcome::Closed);
    assert_eq!(query(&bench, NO).await, QueryOutcome::Reversed);
    assert!(moved(&bench).is_empty());
}

#[tokio::test]
async fn a_payer_without_money_or_with_an_old_code_is_declined_and_cannot_pay_later() {
    let bench = Bench::start().await;
    assert_eq!(
        declined(create(&bench, NO, POOR).await),
        ("NOT_ENOUGH".to_owned(), FailureKind::Declined)
    );
    assert_eq!(
        bench.book.lock().pay(&bench.key(NO), "4", bench.now()),
        Err(BookRefusal::Expired)
    );
    assert_eq!(
        declined(create(&bench, OTHER, OLD).await).0,
        "AUTHCODEEXPIRE"
    );
    assert_eq!(query(&bench, OTHER).await, QueryOutcome::NotFound);
}

#[tokio::test]
async fn a_code_works_once_and_a_number_too() {
    let bench = Bench::start().await;
    let unknown = |created: CreateOutcome| {
        let CreateOutcome::Unknown(failure) = created else {
            panic!("{created:?}")
        };
        failure.code
    };
    create(&bench, NO, PAYS).await;
    assert_eq!(
        declined(create(&bench, OTHER, PAYS).await).0,
        "AUTH_CODE_INVALID"
    );
    assert_eq!(unknown(create(&bench, NO, PAYS).await), "ORDERPAID");
    bench.pass(TimeDelta::seconds(15));
    reverse(&bench, NO).await;
    assert_eq!(
        unknown(create(&bench, NO, "130061098828009410").await),
        "OUT_TRADE_NO_USED"
    );
    let native = bench
        .adapter()
        .create(&bench.order(NO), &bench.call())
        .await
        .outcome;
    assert_eq!(unknown(native), "OUT_TRADE_NO_USED");

    bench
        .adapter()
        .create(&bench.order(OTHER), &bench.call())
        .await;
    assert_eq!(
        unknown(create(&bench, OTHER, "130061098828009420").await),
        "INVALID_REQUEST"
    );
    assert_eq!(
        again(reverse(&bench, OTHER).await),
        "INVALID_REQUEST",
        "an offer is closed, not reversed"
    );
    assert_eq!(moved(&bench).len(), 2);
}

#[tokio::test]
async fn reversing_a_number_that_never_came_in_burns_it() {
    let bench = Bench::start().await;
    assert_eq!(reverse(&bench, NO).await, CloseOutcome::Closed);
    assert_eq!(query(&bench, NO).await, QueryOutcome::Reversed);
    let CreateOutcome::Unknown(failure) = create(&bench, NO, PAYS).await else {
        panic!()
    };
    assert_eq!(failure.code, "OUT_TRADE_NO_USED");
    assert!(moved(&bench).is_empty());
}

#[tokio::test]
async fn a_charge_is_not_closed() {
    let bench = Bench::start().await;
    create(&bench, NO, ASKED).await;
    let closed = bench
        .adapter()
        .close(&bench.reference(NO), &bench.call())
        .await;

    assert!(closed.request_id.unwrap().ends_with("-268449641"));
    assert!(
        matches!(&closed.outcome, CloseOutcome::Impossible(f) if f.code == "INVALID_REQUEST"),
        "{:?}",
        closed.outcome
    );

    assert_eq!(
        bench.book.lock().order(&bench.key(NO)).unwrap().state,
        State::Payable
    );
}

#[tokio::test]
async fn a_charge_that_gave_something_back_is_refunded_and_not_reversed() {
    let bench = Bench::start().await;
    create(&bench, NO, PAYS).await;
    let refunded = bench
        .adapter()
        .refund(&bench.refund(NO, "R0000001", 40), &bench.call())
        .await
        .outcome;
    assert_eq!(refunded, RefundOutcome::Accepted);
    bench.pass(TimeDelta::seconds(15));
    let ended = reverse(&bench, NO).await;
    assert!(
        matches!(&ended, CloseOutcome::Unknown(f) if f.code == "TRADE_ERROR"),
        "{ended:?}"
    );
    assert!(matches!(query(&bench, NO).await, QueryOutcome::Paid(_)));
}

#[tokio::test]
async fn whatever_is_broken_unsigned_or_wrongly_signed_may_have_taken_the_money() {
    for (alteration, mood) in [
        (Alteration::None, Mood::Broken),
        (Alteration::Unsigned, Mood::Well),
        (Alteration::BadSignature, Mood::Well),
    ] {
        let bench = Bench::start().await;
        bench.set(alteration, mood);
        let created = create(&bench, NO, PAYS).await;
        assert!(matches!(created, CreateOutcome::Unknown(_)), "{created:?}");
        let ended = reverse(&bench, NO).await;
        assert!(matches!(ended, CloseOutcome::Unknown(_)), "{ended:?}");
    }

    let bench = Bench::start().await;
    bench.set(Alteration::None, Mood::Busy);
    let created = create(&bench, NO, PAYS).await;

    assert!(
        matches!(created, CreateOutcome::Refused(Refusal::Provider, _)),
        "{created:?}"
    );

    assert_eq!(again(reverse(&bench, NO).await), "FREQUENCY_LIMITED");
}

#[tokio::test]
async fn refunds_end_as_they_were_asked_to_and_the_shop_is_told() {
    for (end, status, event) in [
        (RefundEnd::Closed, "CLOSED", "REFUND.CLOSED"),
        (RefundEnd::Abnormal, "ABNORMAL", "REFUND.ABNORMAL"),
        (RefundEnd::Done, "SUCCESS", "REFUND.SUCCESS"),
    ] {
        let bench = Bench::start().await;
        create(&bench, NO, PAYS).await;
        bench.outgoing(Alteration::None);
        bench.book.lock().refund_ends.ask("wechatpay", end, Some(1));
        let (adapter, refund) = (bench.adapter(), bench.refund(NO, "R0000001", 40));
        assert_eq!(
            adapter.refund(&refund, &bench.call()).await.outcome,
            RefundOutcome::Accepted,
            "{status}"
        );
        bench.pass(TimeDelta::seconds(2));
        let found = adapter.query_refund(&refund, &bench.call()).await.outcome;
        let named = match &found {
            RefundQueryOutcome::Done => "SUCCESS",
            RefundQueryOutcome::Rejected(f) | RefundQueryOutcome::Abnormal(f) => f.code.as_str(),
            RefundQueryOutcome::NotFound
            | RefundQueryOutcome::Accepted
            | RefundQueryOutcome::Unknown(_) => "something else",
        };
        assert_eq!(named, status);
        let told = bench.outgoing(Alteration::None);
        assert_eq!(told.len(), 1);
        assert!(
            String::from_utf8_lossy(&told[0].body).contains(event),
            "{event}"
        );
        let raw = crate::bench::raw(&told[0]);
        let Notice::Refund { outcome, .. } = adapter
            .notification(&raw, bench.now())
            .unwrap()
            .into_inner()
            .notice
        else {
            panic!()
        };
        assert_eq!(outcome, found);
        let back = i64::from(status == "SUCCESS") * 40;
        assert_eq!(
            bench
                .book
                .lock()
                .order(&bench.key(NO))
                .unwrap()
                .refunded_fen(),
            back
        );
    }
}

#[tokio::test]
async fn a_refund_without_funds_is_sent_again_under_its_number() {
    let bench = Bench::start().await;
    create(&bench, NO, PAYS).await;
    bench
        .book
        .lock()
        .refund_ends
        .ask("wechatpay", RefundEnd::NoFunds, Some(1));

    let refund = bench.refund(NO, "R0000001", 40);
    let needs = bench.adapter().refund(&refund, &bench.call()).await.outcome;

    assert!(
        matches!(&needs, RefundOutcome::NeedsFunds(f) if f.code == "NOT_ENOUGH"),
        "{needs:?}"
    );
    assert_eq!(
        bench
            .adapter()
            .query_refund(&refund, &bench.call())
            .await
            .outcome,
        RefundQueryOutcome::NotFound
    );

    assert_eq!(
        bench.adapter().refund(&refund, &bench.call()).await.outcome,
        RefundOutcome::Accepted
    );
}
