//! Charges: the payer's code is scanned, and the call itself takes the money.

use chrono::TimeDelta;
use providers::money::Money;
use providers::order::{Flow, Order};
use providers::outcome::{
    CloseOutcome, CreateOutcome, FailureKind, QueryOutcome, RefundOutcome, RefundQueryOutcome,
    Refusal,
};
use providers::sandbox::book::{MovementKind, State};
use providers::sandbox::refund_end::RefundEnd;
use providers::sandbox::simulator::Alteration;

use crate::shop::{Mode, Shop};

/// Pays at once, must confirm, has no money, is expired.
const PAYS: &str = "281234567890123450";
const ASKED: &str = "281234567890123457";
const POOR: &str = "281234567890123458";
const OLD: &str = "281234567890123459";

fn order(shop: &Shop, auth_code: &str) -> Order {
    let mut order = shop.order();
    order.flow = Flow::Barcode;
    order.auth_code = Some(auth_code.to_owned());
    order
}

async fn charge(shop: &Shop, auth_code: &str) -> CreateOutcome {
    shop.alipay
        .create(&order(shop, auth_code), &shop.call())
        .await
        .outcome
}

async fn query(shop: &Shop) -> QueryOutcome {
    shop.alipay
        .query(&shop.reference(), &shop.call())
        .await
        .outcome
}

async fn reverse(shop: &Shop) -> CloseOutcome {
    shop.alipay
        .reverse(&shop.reference(), &shop.call())
        .await
        .outcome
}

fn declined(created: CreateOutcome) -> String {
    let CreateOutcome::Declined(failure) = created else {
        panic!("{created:?}")
    };
    assert_eq!(failure.kind, FailureKind::Declined);
    failure.code
}

fn unknown(created: CreateOutcome) -> String {
    let CreateOutcome::Unknown(failure) = created else {
        panic!("{created:?}")
    };
    failure.code
}

fn moved(shop: &Shop) -> Vec<(MovementKind, i64)> {
    shop.book()
        .lock()
        .movements()
        .iter()
        .map(|m| (m.kind, m.amount.minor()))
        .collect()
}

#[tokio::test]
async fn a_payer_who_pays_at_once_is_charged_inside_the_call() {
    let shop = Shop::open().await;
    let CreateOutcome::Captured(capture) = charge(&shop, PAYS).await else {
        panic!()
    };

    assert_eq!(
        (capture.amount, capture.payer_amount),
        (Money::fen(8888).unwrap(), Some(8888))
    );
    assert_eq!(
        (capture.payer.as_deref(), capture.paid_at),
        (Some("138****0000"), Some(shop.now()))
    );
    assert_eq!(capture.payment_id, None, "this answer does not carry it");

    let QueryOutcome::Paid(asked) = query(&shop).await else {
        panic!()
    };
    assert_eq!(asked.payment_id.as_deref(), Some("pay_0123/é"));
    assert_eq!(asked.transaction_id, capture.transaction_id);

    assert_eq!(moved(&shop), [(MovementKind::Captured, 8888)]);
}

#[tokio::test]
async fn what_is_not_a_code_of_the_wallet_is_never_sent() {
    let shop = Shop::open().await;
    let face = format!("fp{}", "0".repeat(34));

    for code in [
        "",
        "2812345678901234x",
        "241234567890123450",
        "281234567890123",
        "2812345678901234567890123",
        &face,
    ] {
        let created = charge(&shop, code).await;
        assert!(
            matches!(created, CreateOutcome::Refused(Refusal::Route, _)),
            "{code}: {created:?}"
        );
    }

    assert_eq!(
        shop.book().lock().next_number(),
        1,
        "the face counts its answers, and has given none"
    );

    assert!(
        matches!(
            charge(&shop, &format!("{face}a")).await,
            CreateOutcome::Captured(_)
        ),
        "face payment"
    );
}

#[tokio::test]
async fn a_shop_and_its_till_are_named() {
    let shop = Shop::open().await;
    let mut named = order(&shop, PAYS);

    named.store = Some(providers::order::Shop {
        id: "S".repeat(33),
        name: None,
        terminal_id: Some("T1".to_owned()),
    });

    let created = shop.alipay.create(&named, &shop.call()).await.outcome;
    assert!(
        matches!(&created, CreateOutcome::Refused(Refusal::Route, f) if f.code == "ACQ.INVALID_STORE_ID"),
        "{created:?}"
    );

    named.store = Some(providers::order::Shop {
        id: "S1".to_owned(),
        name: None,
        terminal_id: None,
    });

    assert!(matches!(
        shop.alipay.create(&named, &shop.call()).await.outcome,
        CreateOutcome::Captured(_)
    ));
}

#[tokio::test]
async fn a_payer_who_must_confirm_has_until_the_order_expires_or_is_cancelled() {
    let shop = Shop::open().await;
    assert_eq!(charge(&shop, ASKED).await, CreateOutcome::Waiting);
    assert_eq!(query(&shop).await, QueryOutcome::Payable);
    assert_eq!(
        charge(&shop, ASKED).await,
        CreateOutcome::Waiting,
        "the same trade, once more"
    );
    shop.advance(TimeDelta::minutes(14));
    shop.pay();
    assert!(matches!(query(&shop).await, QueryOutcome::Paid(_)));
    assert_eq!(unknown(charge(&shop, ASKED).await), "ACQ.TRADE_HAS_SUCCESS");

    let shop = Shop::open().await;
    charge(&shop, ASKED).await;
    assert_eq!(reverse(&shop).await, CloseOutcome::Closed);
    assert_eq!(query(&shop).await, QueryOutcome::Closed);
    assert_eq!(unknown(charge(&shop, ASKED).await), "ACQ.TRADE_HAS_CLOSE");

    let shop = Shop::open().await;
    charge(&shop, ASKED).await;
    shop.advance(TimeDelta::minutes(15));
    assert_eq!(query(&shop).await, QueryOutcome::Closed);
    assert!(moved(&shop).is_empty());
}

#[tokio::test]
async fn a_payer_without_money_leaves_a_trade_that_only_a_cancel_ends() {
    let shop = Shop::open().await;
    assert_eq!(
        declined(charge(&shop, POOR).await),
        "ACQ.BUYER_BALANCE_NOT_ENOUGH"
    );
    assert_eq!(query(&shop).await, QueryOutcome::Payable);
    assert_eq!(reverse(&shop).await, CloseOutcome::Closed);
    assert_eq!(query(&shop).await, QueryOutcome::Closed);
    assert!(moved(&shop).is_empty());
}

#[tokio::test]
async fn an_old_code_makes_no_trade_and_a_new_one_may_follow_under_the_number() {
    let shop = Shop::open().await;
    assert_eq!(
        declined(charge(&shop, OLD).await),
        "ACQ.PAYMENT_AUTH_CODE_INVALID"
    );
    assert_eq!(query(&shop).await, QueryOutcome::NotFound);
    assert_eq!(reverse(&shop).await, CloseOutcome::NotFound);
    assert!(matches!(
        charge(&shop, PAYS).await,
        CreateOutcome::Captured(_)
    ));
    let mut other = order(&shop, PAYS);
    other.order_no = "il00000000000002".to_owned();
    assert_eq!(
        declined(shop.alipay.create(&other, &shop.call()).await.outcome),
        "ACQ.PAYMENT_AUTH_CODE_INVALID"
    );
    assert_eq!(moved(&shop).len(), 1);
}

/// Why one cancel that finds nothing proves nothing.
#[tokio::test]
async fn a_charge_that_arrives_after_its_cancel_takes_the_money_all_the_same() {
    let shop = Shop::open().await;
    assert_eq!(reverse(&shop).await, CloseOutcome::NotFound);
    assert!(matches!(
        charge(&shop, PAYS).await,
        CreateOutcome::Captured(_)
    ));
    assert_eq!(reverse(&shop).await, CloseOutcome::Reversed);
    assert_eq!(query(&shop).await, QueryOutcome::Reversed);
    assert_eq!(
        moved(&shop),
        [
            (MovementKind::Captured, 8888),
            (MovementKind::Refunded, 8888)
        ]
    );
}

#[tokio::test]
async fn a_number_belongs_to_its_first_order() {
    let shop = Shop::open().await;
    charge(&shop, ASKED).await;
    let mut dearer = order(&shop, ASKED);
    dearer.amount = Money::fen(8889).unwrap();
    assert_eq!(
        unknown(shop.alipay.create(&dearer, &shop.call()).await.outcome),
        "ACQ.CONTEXT_INCONSISTENT"
    );
    let shown = shop
        .alipay
        .create(&shop.order(), &shop.call())
        .await
        .outcome;
    assert_eq!(unknown(shown), "ACQ.CONTEXT_INCONSISTENT");
}

#[tokio::test]
async fn an_answer_that_is_lost_or_cannot_be_believed_may_have_taken_the_money() {
    for mode in [
        Mode::HangUp,
        Mode::Simulator(Alteration::Unsigned),
        Mode::Simulator(Alteration::BadSignature),
    ] {
        let shop = Shop::open().await;
        shop.mode(mode);
        let created = charge(&shop, PAYS).await;
        assert!(
            matches!(created, CreateOutcome::Unknown(_)),
            "{mode:?}: {created:?}"
        );
        assert_eq!(
            shop.book().lock().order(&shop.key()).unwrap().state,
            State::Paid
        );
        shop.mode(Mode::Simulator(Alteration::None));
        assert!(matches!(query(&shop).await, QueryOutcome::Paid(_)));
    }

    let shop = Shop::open().await;
    shop.mode(Mode::Http500);
    assert!(matches!(
        charge(&shop, PAYS).await,
        CreateOutcome::Unknown(_)
    ));

    shop.mode(Mode::RateLimited);
    assert!(matches!(
        charge(&shop, PAYS).await,
        CreateOutcome::Refused(Refusal::Provider, _)
    ));

    assert!(moved(&shop).is_empty());
}

#[tokio::test]
async fn a_merchant_without_funds_neither_reverses_nor_refunds_until_it_has_some() {
    let shop = Shop::open().await;
    charge(&shop, PAYS).await;
    let ask = |end, count| {
        shop.book()
            .lock()
            .refund_ends
            .ask("alipay", end, Some(count))
    };

    ask(RefundEnd::NoFunds, 2);
    assert_eq!(reverse(&shop).await, CloseOutcome::AlreadyPaid);
    let refund = shop.refund("R1", 100);
    let refunded = async || shop.alipay.refund(&refund, &shop.call()).await.outcome;
    let needs = refunded().await;

    assert!(
        matches!(&needs, RefundOutcome::NeedsFunds(f) if f.code == "ACQ.SELLER_BALANCE_NOT_ENOUGH"),
        "{needs:?}"
    );

    ask(RefundEnd::Closed, 1);
    assert_eq!(
        refunded().await,
        RefundOutcome::Accepted,
        "taken up, and nothing moved"
    );

    let found = shop
        .alipay
        .query_refund(&refund, &shop.call())
        .await
        .outcome;

    assert_eq!(found, RefundQueryOutcome::NotFound);
    ask(RefundEnd::Abnormal, 1);
    let blocked = refunded().await;

    assert!(
        matches!(&blocked, RefundOutcome::Rejected(f) if f.code == "ACQ.BUYER_ENABLE_STATUS_FORBID"),
        "{blocked:?}"
    );
    assert_eq!(moved(&shop).len(), 1);
    assert_eq!(
        refunded().await,
        RefundOutcome::Done,
        "the same number, once all is well"
    );

    assert_eq!(moved(&shop).len(), 2);
}
