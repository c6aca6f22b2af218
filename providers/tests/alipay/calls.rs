//! The life of a trade, from both ends of the wire.

use chrono::TimeDelta;
use providers::money::Money;
use providers::order::Flow;
use providers::outcome::{
    CloseOutcome, CreateOutcome, Failure, FailureKind, QueryOutcome, RefundOutcome,
    RefundQueryOutcome, Refusal,
};
use providers::sandbox::book::{self, MovementKind};

use crate::shop::{NUMBER, Shop};

fn code(failure: &Failure) -> (&str, FailureKind) {
    (failure.code.as_str(), failure.kind)
}

macro_rules! assert_failure {
    ($answer:expr, $variant:pat => $failure:ident, $code:expr, $kind:ident) => {
        match $answer.outcome {
            $variant => assert_eq!(code(&$failure), ($code, FailureKind::$kind)),
            other => panic!("{other:?}"),
        }
    };
}

#[tokio::test]
async fn a_code_has_no_trade_until_it_is_scanned_and_then_lives_until_it_is_paid() {
    let shop = Shop::open().await;
    assert_eq!(
        shop.alipay
            .query(&shop.reference(), &shop.call())
            .await
            .outcome,
        QueryOutcome::NotFound
    );

    let qr = shop.create().await;
    assert!(qr.starts_with("https://qr.alipay.com/bax"), "{qr}");
    assert_eq!(
        shop.alipay
            .query(&shop.reference(), &shop.call())
            .await
            .outcome,
        QueryOutcome::NotFound
    );

    shop.scan();
    assert_eq!(
        shop.alipay
            .query(&shop.reference(), &shop.call())
            .await
            .outcome,
        QueryOutcome::Payable
    );

    shop.advance(TimeDelta::seconds(7));
    shop.pay();
    let QueryOutcome::Paid(capture) = shop
        .alipay
        .query(&shop.reference(), &shop.call())
        .await
        .outcome
    else {
        panic!("not paid")
    };

    assert_eq!(capture.amount, Money::fen(8888).unwrap());
    assert_eq!(capture.payer_amount, Some(8888));
    assert_eq!(capture.payment_id.as_deref(), Some("pay_0123/é"));
    assert_eq!(capture.payer.as_deref(), Some("138****0000"));
    assert_eq!(capture.paid_at, Some(shop.now()));
    assert_eq!(capture.transaction_id.len(), 28);

    assert_eq!(capture.foreign_account, None);
}

#[tokio::test]
async fn the_provider_stops_taking_money_when_the_order_expires() {
    let shop = Shop::open().await;
    let order = shop.order();
    shop.create().await;
    let code = shop.book().lock().order(&shop.key()).unwrap().codes[0].clone();
    assert_eq!(code.dies_at, order.expires_at, "15 whole minutes");

    shop.scan();
    shop.advance(TimeDelta::minutes(15));
    assert_eq!(
        shop.book().lock().pay(&shop.key(), "x", shop.now()),
        Err(book::Refusal::Expired)
    );
    assert_eq!(
        shop.alipay
            .query(&shop.reference(), &shop.call())
            .await
            .outcome,
        QueryOutcome::Closed
    );

    let late = shop.alipay.create(&order, &shop.call()).await;
    assert_failure!(late, CreateOutcome::Refused(Refusal::Provider, f) => f,
        "ACQ.NOW_TIME_AFTER_EXPIRE_TIME_ERROR", Request);
}

#[tokio::test]
async fn a_code_dies_a_little_before_an_order_of_odd_seconds() {
    let shop = Shop::open().await;
    let mut order = shop.order();
    order.expires_at = shop.now() + TimeDelta::seconds(359);
    assert!(matches!(
        shop.alipay.create(&order, &shop.call()).await.outcome,
        CreateOutcome::Accepted(_)
    ));
    let code = shop.book().lock().order(&shop.key()).unwrap().codes[0].clone();
    assert_eq!(code.dies_at, shop.now() + TimeDelta::minutes(5));
}

#[tokio::test]
async fn a_number_is_used_again_only_for_the_same_unpaid_order() {
    let shop = Shop::open().await;
    let first = shop.create().await;

    assert_ne!(
        shop.create().await,
        first,
        "another code for the same order"
    );

    let mut other = shop.order();
    other.amount = Money::fen(8889).unwrap();
    let answer = shop.alipay.create(&other, &shop.call()).await;
    assert_failure!(answer, CreateOutcome::Unknown(f) => f, "ACQ.CONTEXT_INCONSISTENT", Request);

    shop.pay();
    let answer = shop.alipay.create(&shop.order(), &shop.call()).await;
    assert_failure!(answer, CreateOutcome::Unknown(f) => f, "ACQ.TRADE_HAS_SUCCESS", Request);
    assert!(matches!(
        shop.alipay
            .reverse(&shop.reference(), &shop.call())
            .await
            .outcome,
        CloseOutcome::Reversed
    ));

    let answer = shop.alipay.create(&shop.order(), &shop.call()).await;
    assert_failure!(answer, CreateOutcome::Unknown(f) => f, "ACQ.TRADE_HAS_CLOSE", Request);
}

#[tokio::test]
async fn what_the_provider_does_not_take_is_refused() {
    let shop = Shop::open().await;
    let refused = async |change: fn(&mut providers::order::Order)| {
        let mut order = shop.order();
        change(&mut order);
        shop.alipay.create(&order, &shop.call()).await
    };

    let answer = refused(|o| o.amount = Money::fen(0).unwrap()).await;
    assert_failure!(answer, CreateOutcome::Refused(Refusal::Route, f) => f, "ACQ.INVALID_PARAMETER",
        Request);

    let answer = refused(|o| o.amount = Money::fen(10_000_000_001).unwrap()).await;
    assert_failure!(answer, CreateOutcome::Refused(Refusal::Route, f) => f, "ACQ.TOTAL_FEE_EXCEED",
        Request);

    let answer = refused(|o| o.order_no = "with-dashes".to_owned()).await;
    assert_failure!(answer, CreateOutcome::Refused(Refusal::Route, f) => f, "ACQ.INVALID_PARAMETER",
        Request);

    let answer = refused(|o| o.flow = Flow::Page).await;
    assert_failure!(answer, CreateOutcome::NotSent(f) => f, "flow", Request);
    assert!(shop.book().lock().orders().is_empty());

    // Words are made to fit.
    let answer = refused(|o| o.description = "茶".repeat(127)).await;
    assert!(
        matches!(answer.outcome, CreateOutcome::Accepted(_)),
        "{answer:?}"
    );
}

#[tokio::test]
async fn closing_ends_a_scanned_order_and_never_a_paid_one() {
    let shop = Shop::open().await;
    let close = async || shop.alipay.close(&shop.reference(), &shop.call()).await;
    shop.create().await;
    assert_failure!(close().await, CloseOutcome::Impossible(f) => f, "ACQ.TRADE_NOT_EXIST", Request);
    shop.scan();
    assert_eq!(close().await.outcome, CloseOutcome::Closed);
    assert_failure!(close().await, CloseOutcome::Unknown(f) => f, "ACQ.TRADE_STATUS_ERROR", Request);
    assert_eq!(
        shop.alipay
            .query(&shop.reference(), &shop.call())
            .await
            .outcome,
        QueryOutcome::Closed
    );

    let shop = Shop::open().await;
    shop.create().await;
    shop.pay();
    let answer = shop.alipay.close(&shop.reference(), &shop.call()).await;
    assert_failure!(answer, CloseOutcome::Unknown(f) => f, "ACQ.TRADE_STATUS_ERROR", Request);
    assert!(matches!(
        shop.alipay
            .query(&shop.reference(), &shop.call())
            .await
            .outcome,
        QueryOutcome::Paid(_)
    ));
    assert_eq!(shop.book().lock().movements().len(), 1, "only the capture");
}

#[tokio::test]
async fn reversing_says_what_became_of_the_money() {
    let reverse = async |shop: &Shop| shop.alipay.reverse(&shop.reference(), &shop.call()).await;

    let shop = Shop::open().await;
    assert_eq!(reverse(&shop).await.outcome, CloseOutcome::NotFound);
    shop.create().await;
    assert_eq!(reverse(&shop).await.outcome, CloseOutcome::NotFound);
    shop.scan();
    assert_eq!(
        reverse(&shop).await.outcome,
        CloseOutcome::Closed,
        "the code outlived the first cancels"
    );
    assert_eq!(reverse(&shop).await.outcome, CloseOutcome::Closed);
    assert!(shop.book().lock().movements().is_empty());

    let shop = Shop::open().await;
    shop.create().await;
    shop.pay();
    assert_eq!(reverse(&shop).await.outcome, CloseOutcome::Reversed);
    assert_eq!(reverse(&shop).await.outcome, CloseOutcome::Reversed);
    assert_eq!(
        shop.alipay
            .query(&shop.reference(), &shop.call())
            .await
            .outcome,
        QueryOutcome::Reversed
    );
    let kinds: Vec<_> = shop
        .book()
        .lock()
        .movements()
        .iter()
        .map(|m| (m.kind, m.amount.minor()))
        .collect();
    assert_eq!(
        kinds,
        [
            (MovementKind::Captured, 8888),
            (MovementKind::Refunded, 8888)
        ]
    );
}

#[tokio::test]
async fn a_trade_that_is_partly_refunded_or_a_day_old_cannot_be_reversed() {
    let shop = Shop::open().await;
    shop.create().await;
    shop.pay();
    assert_eq!(
        shop.alipay
            .refund(&shop.refund("R1", 1), &shop.call())
            .await
            .outcome,
        RefundOutcome::Done
    );
    let answer = shop.alipay.reverse(&shop.reference(), &shop.call()).await;
    assert_failure!(answer, CloseOutcome::Impossible(f) => f, "ACQ.REASON_TRADE_REFUND_FEE_ERR", Request);
    shop.advance(TimeDelta::hours(24));
    let answer = shop.alipay.reverse(&shop.reference(), &shop.call()).await;
    assert_failure!(answer, CloseOutcome::Impossible(f) => f, "ACQ.TRADE_CANCEL_TIME_OUT", Request);
}

#[tokio::test]
async fn a_refund_is_one_refund_however_often_it_is_sent() {
    let shop = Shop::open().await;
    let refund = async |refund_no: &str, fen: i64| {
        shop.alipay
            .refund(&shop.refund(refund_no, fen), &shop.call())
            .await
    };
    let found = async |no: &str, fen: i64| {
        shop.alipay
            .query_refund(&shop.refund(no, fen), &shop.call())
            .await
            .outcome
    };
    assert_failure!(refund("R1", 1).await, RefundOutcome::Rejected(f) => f, "ACQ.TRADE_NOT_EXIST",
        Request);
    assert_eq!(
        found("R1", 1).await,
        RefundQueryOutcome::NotFound,
        "no trade"
    );
    shop.create().await;
    shop.scan();
    assert_failure!(refund("R1", 1).await, RefundOutcome::Rejected(f) => f, "ACQ.TRADE_STATUS_ERROR",
        Request);
    shop.pay();

    assert_eq!(found("R1", 3000).await, RefundQueryOutcome::NotFound);
    assert_eq!(refund("R1", 3000).await.outcome, RefundOutcome::Done);
    assert_eq!(
        refund("R1", 3000).await.outcome,
        RefundOutcome::Accepted,
        "moved nothing this time"
    );
    assert_eq!(found("R1", 3000).await, RefundQueryOutcome::Done);
    assert!(
        matches!(found("R1", 3001).await, RefundQueryOutcome::Unknown(_)),
        "another amount is not our refund"
    );
    assert_failure!(refund("R1", 3001).await, RefundOutcome::Unknown(f) => f,
        "ACQ.DISCORDANT_REPEAT_REQUEST", Request);
    assert!(matches!(
        shop.alipay
            .query(&shop.reference(), &shop.call())
            .await
            .outcome,
        QueryOutcome::Paid(_)
    ));

    let too_much = refund("R2", 5889).await;
    assert_failure!(too_much, RefundOutcome::Rejected(f) => f, "ACQ.REASON_TRADE_REFUND_FEE_ERR",
        Request);
    assert_eq!(refund("R2", 5888).await.outcome, RefundOutcome::Done);
    assert_eq!(
        shop.alipay
            .query(&shop.reference(), &shop.call())
            .await
            .outcome,
        QueryOutcome::Reversed
    );
    assert_failure!(refund("R3", 1).await, RefundOutcome::Rejected(f) => f, "ACQ.TRADE_HAS_CLOSE",
        Request);
    assert_eq!(
        refund("R2", 5888).await.outcome,
        RefundOutcome::Accepted,
        "the last one can still be repeated"
    );
    let back: i64 = shop
        .book()
        .lock()
        .movements()
        .iter()
        .skip(1)
        .map(|m| m.amount.minor())
        .sum();
    assert_eq!(back, 8888);
}

#[tokio::test]
async fn a_closed_trade_is_not_refunded() {
    let shop = Shop::open().await;
    shop.create().await;
    shop.scan();
    assert_eq!(
        shop.alipay
            .close(&shop.reference(), &shop.call())
            .await
            .outcome,
        CloseOutcome::Closed
    );

    let answer = shop
        .alipay
        .refund(&shop.refund("R1", 1), &shop.call())
        .await;
    assert_failure!(answer, RefundOutcome::Rejected(f) => f, "ACQ.TRADE_HAS_CLOSE", Request);

    assert_eq!(
        shop.book().lock().order(&shop.key()).unwrap().key.order_no,
        NUMBER
    );
}
