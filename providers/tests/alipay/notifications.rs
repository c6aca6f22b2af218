//! What Alipay tells on its own: believed only with its signature, for our account, and as what it
//! is.

use std::collections::BTreeMap;

use bytes::Bytes;
use chrono::TimeDelta;
use encoding_rs::GB18030;
use http::{HeaderMap, StatusCode};
use providers::money::Money;
use providers::notification::{Acknowledgement, Notice, RawNotification, Rejection};
use providers::outcome::{RefundOutcome, RefundQueryOutcome};
use providers::sandbox::simulator::{self, Alteration};
use providers::signing::Signer;

use crate::shop::{NUMBER, Shop, account, form, keys, signed_text};

/// What the face sends about the newest event.
fn told(shop: &Shop, alteration: Alteration) -> Option<RawNotification> {
    let order = shop.book().lock().order(&shop.key()).unwrap().clone();
    let event = shop.book().lock().take_events().pop().unwrap();
    let notice = simulator::Notice {
        event: &event,
        order: &order,
        id: "0123456789abcdef",
        now: shop.now(),
        alteration,
    };
    let outgoing = shop.face().notification(&notice)?;
    assert_eq!(outgoing.url, shop.order().notify_url);
    Some(RawNotification {
        headers: outgoing.headers,
        body: outgoing.body,
    })
}

#[tokio::test]
async fn a_payment_is_told_with_all_that_is_booked_from_it() {
    let shop = Shop::open().await;
    shop.create().await;
    shop.advance(TimeDelta::seconds(5));
    shop.pay();
    let raw = told(&shop, Alteration::None).unwrap();
    let notification = shop
        .alipay
        .notification(&raw, shop.now())
        .unwrap()
        .into_inner();

    assert_eq!(notification.id, "0123456789abcdef");
    let Notice::Paid { order_no, capture } = notification.notice else {
        panic!("{:?}", notification.notice)
    };
    assert_eq!(order_no, NUMBER);

    let providers::outcome::QueryOutcome::Paid(mut asked) = shop
        .alipay
        .query(&shop.reference(), &shop.call())
        .await
        .outcome
    else {
        panic!("not paid")
    };

    asked.foreign_account = None;
    assert_eq!(capture, asked, "the query says the same");
}

#[tokio::test]
async fn a_forged_notification_is_refused() {
    for (alteration, rejection) in [
        (Alteration::BadSignature, Rejection::BadSignature),
        (Alteration::Unsigned, Rejection::Unsigned("sign".into())),
    ] {
        let shop = Shop::open().await;
        shop.create().await;
        shop.pay();
        let raw = told(&shop, alteration).unwrap();
        assert_eq!(
            shop.alipay.notification(&raw, shop.now()).unwrap_err(),
            rejection
        );
    }
}

#[tokio::test]
async fn a_partial_refund_is_told_like_a_payment_and_is_none() {
    let shop = Shop::open().await;
    shop.create().await;
    shop.pay();
    assert_eq!(
        shop.alipay
            .refund(&shop.refund("R1", 100), &shop.call())
            .await
            .outcome,
        RefundOutcome::Done
    );
    let raw = told(&shop, Alteration::None).unwrap();
    assert!(String::from_utf8_lossy(&raw.body).contains("trade_status=TRADE_SUCCESS"));
    let (order_no, refund_no) = (NUMBER.to_owned(), "R1".to_owned());
    // Told is the sum of all refunds of the order.
    let total = Some(Money::fen(100).unwrap());
    let expected = Notice::Refund {
        order_no,
        refund_no,
        outcome: RefundQueryOutcome::Accepted,
        amount: None,
        total,
    };
    assert_eq!(
        shop.alipay
            .notification(&raw, shop.now())
            .unwrap()
            .get()
            .notice,
        expected
    );

    assert_eq!(
        shop.alipay
            .refund(&shop.refund("R2", 8788), &shop.call())
            .await
            .outcome,
        RefundOutcome::Done
    );
    assert!(
        told(&shop, Alteration::None).is_none(),
        "the last part closes the trade, which is not told"
    );
}

#[tokio::test]
async fn a_closed_trade_is_not_told() {
    let shop = Shop::open().await;
    shop.create().await;
    shop.scan();
    shop.alipay.close(&shop.reference(), &shop.call()).await;
    assert!(told(&shop, Alteration::None).is_none());
}

/// A genuine notification with these changes; an empty value removes a field.
fn genuine(changes: &[(&str, &str)]) -> RawNotification {
    let mut fields = BTreeMap::new();
    let usual = [
        ("notify_id", "n1"),
        ("notify_type", "trade_status_sync"),
        ("charset", "utf-8"),
        ("app_id", keys()["app_id"].as_str().unwrap()),
        ("seller_id", keys()["seller_id"].as_str().unwrap()),
        ("out_trade_no", NUMBER),
        ("trade_no", "2026030122001000000000000001"),
        ("trade_status", "TRADE_SUCCESS"),
        ("total_amount", "88.88"),
        ("gmt_payment", "2026-03-01 10:00:00"),
        ("a_new_field", "signed as well"),
    ];

    for (name, value) in usual.iter().chain(changes) {
        if value.is_empty() {
            fields.remove(*name)
        } else {
            fields.insert((*name).to_owned(), (*value).to_owned())
        };
    }

    let key = Signer::from_text(keys()["alipay_private_key"].as_str().unwrap()).unwrap();
    let sign = key.sign(signed_text(&fields).as_bytes());
    fields.insert("sign".to_owned(), sign);
    fields
        .entry("sign_type".to_owned())
        .or_insert_with(|| "RSA2".to_owned());

    RawNotification {
        headers: HeaderMap::new(),
        body: Bytes::from(form(&fields)),
    }
}

/// The signature is over the bytes as they were sent; what they mean, the charset that they name
/// says.
#[test]
fn a_genuine_notification_in_another_charset_is_believed() {
    let alipay = account("http://127.0.0.1:9", |_| {});
    let encoded = |text: &str| GB18030.encode(text).0.into_owned();

    for charset in ["GBK", "gb2312", "GB18030"] {
        let key = Signer::from_text(keys()["alipay_private_key"].as_str().unwrap()).unwrap();
        let mut fields: BTreeMap<&str, Vec<u8>> = [
            ("notify_id", "n1"),
            ("charset", charset),
            ("app_id", keys()["app_id"].as_str().unwrap()),
            ("seller_id", keys()["seller_id"].as_str().unwrap()),
            ("out_trade_no", NUMBER),
            ("trade_no", "2026030122001000000000000001"),
            ("trade_status", "TRADE_SUCCESS"),
            ("total_amount", "88.88"),
            ("gmt_payment", "2026-03-01 10:00:00"),
            // 联通 alone could be read as UTF-8; the second byte of 乗 is a backslash.
            ("subject", "联通"),
            ("body", "乗丂&茶"),
            ("buyer_logon_id", "张*丰"),
        ]
        .map(|(name, value)| (name, encoded(value)))
        .into();
        let pairs = |fields: &BTreeMap<&str, Vec<u8>>| -> Vec<Vec<u8>> {
            fields
                .iter()
                .map(|(name, value)| [name.as_bytes(), b"=", value].concat())
                .collect()
        };
        let sign = key.sign(&pairs(&fields).join(&b'&'));
        fields.extend([("sign", sign.into_bytes()), ("sign_type", b"RSA2".to_vec())]);
        let percent = |(name, value): (&&str, &Vec<u8>)| {
            format!(
                "{name}={}",
                form_urlencoded::byte_serialize(value).collect::<String>()
            )
        };
        let body = fields.iter().map(percent).collect::<Vec<_>>().join("&");
        let read = |body: String| {
            let raw = RawNotification {
                headers: HeaderMap::new(),
                body: Bytes::from(body),
            };
            alipay
                .notification(&raw, chrono::DateTime::UNIX_EPOCH)
                .map(|told| told.into_inner().notice)
        };
        let Ok(Notice::Paid { order_no, capture }) = read(body.clone()) else {
            panic!("{charset}: {body}")
        };
        assert_eq!(
            (order_no.as_str(), capture.payer.as_deref()),
            (NUMBER, Some("张*丰")),
            "{charset}"
        );
        let forged = body.replace("total_amount=88.88", "total_amount=88.80");
        assert!(
            matches!(read(forged), Err(Rejection::BadSignature)),
            "{charset}"
        );
    }
}

#[test]
fn only_a_paid_trade_without_any_word_of_a_refund_is_a_payment() {
    let alipay = account("http://127.0.0.1:9", |_| {});
    let now = chrono::DateTime::UNIX_EPOCH;

    for (changes, expected) in [
        (&[][..], "Paid"),
        (&[("trade_status", "TRADE_FINISHED")], "Paid"),
        (&[("refund_fee", "0.00")], "Paid"),
        (&[("trade_status", "WAIT_BUYER_PAY")], "Nothing"),
        (&[("trade_status", "TRADE_CLOSED")], "Nothing"),
        (&[("trade_status", "TRADE_PENDING")], "Nothing"),
        (&[("refund_fee", "0.01")], "Refunded"),
        (&[("refund_fee", "nonsense")], "Refunded"),
        (&[("gmt_refund", "2026-03-01 10:00:00.123")], "Refunded"),
        (&[("out_biz_no", "R1")], "Refund"),
        (
            &[("out_biz_no", "R1"), ("trade_status", "TRADE_CLOSED")],
            "Refund",
        ),
    ] {
        let notification = alipay.notification(&genuine(changes), now).unwrap();
        let notice = format!("{:?}", notification.get().notice);
        assert!(notice.starts_with(expected), "{changes:?}: {notice}");
    }
}

#[test]
fn a_genuine_notification_is_rejected_when_it_is_not_ours_or_says_too_little() {
    let alipay = account("http://127.0.0.1:9", |_| {});
    let now = chrono::DateTime::UNIX_EPOCH;

    for (change, expected) in [
        (("app_id", "2021999"), "other_account"),
        (("app_id", ""), "other_account"),
        (("seller_id", "2088999"), "other_account"),
        (("out_trade_no", ""), "unreadable"),
        (("trade_status", ""), "unreadable"),
        (("notify_id", ""), "unreadable"),
        (("trade_no", ""), "unreadable"),
        (("total_amount", "1,000.00"), "unreadable"),
    ] {
        let rejection = alipay.notification(&genuine(&[change]), now).unwrap_err();
        assert_eq!(
            <&str>::from(&rejection),
            expected,
            "{change:?}: {rejection}"
        );
    }

    // Whose money it is has to be told; then a question tells.
    let unnamed = alipay
        .notification(&genuine(&[("seller_id", "")]), now)
        .unwrap()
        .into_inner();

    assert!(
        matches!(
            unnamed.notice,
            Notice::Ask {
                refund_no: None,
                says_done: true,
                ..
            }
        ),
        "{unnamed:?}"
    );
}

#[test]
fn the_algorithm_is_ours_to_choose_and_no_byte_may_change() {
    let alipay = account("http://127.0.0.1:9", |_| {});
    let now = chrono::DateTime::UNIX_EPOCH;
    let body = String::from_utf8(genuine(&[]).body.to_vec()).unwrap();

    for (from, to, expected) in [
        ("sign_type=RSA2", "sign_type=RSA", "unsigned"),
        ("sign_type=RSA2", "x=y", "unsigned"),
        ("total_amount=88.88", "total_amount=88.80", "bad_signature"),
        (
            "total_amount=88.88",
            "total_amount=88.88&total_amount=1.00",
            "unsigned",
        ),
        ("a_new_field", "b_new_field", "bad_signature"),
        ("charset=utf-8", "charset=gbk", "bad_signature"),
    ] {
        assert!(body.contains(from), "{from}");
        let raw = RawNotification {
            headers: HeaderMap::new(),
            body: Bytes::from(body.replace(from, to)),
        };
        let rejection = alipay.notification(&raw, now).unwrap_err();
        assert_eq!(<&str>::from(&rejection), expected, "{to}");
    }

    let twice = format!("{body}&sign=x");
    let raw = RawNotification {
        headers: HeaderMap::new(),
        body: Bytes::from(twice),
    };

    assert!(matches!(
        alipay.notification(&raw, now).unwrap_err(),
        Rejection::Unsigned(_)
    ));
}

#[tokio::test]
async fn exactly_success_stops_the_sender_and_nothing_else_does() {
    let shop = Shop::open().await;
    for (what, stops) in [
        (Acknowledgement::Stop, true),
        (Acknowledgement::SendAgain, false),
        (Acknowledgement::Refuse, false),
    ] {
        let answer = shop.alipay.acknowledge(what);
        assert_eq!(
            shop.face()
                .acknowledged(answer.status, answer.body.as_bytes()),
            stops,
            "{what:?}"
        );
    }

    for body in ["success\n", "SUCCESS", "\"success\"", ""] {
        assert!(
            !shop.face().acknowledged(StatusCode::OK, body.as_bytes()),
            "{body:?}"
        );
    }

    assert!(!shop.face().acknowledged(StatusCode::ACCEPTED, b"success"));
    shop.create().await;
    let order = shop.book().lock().order(&shop.key()).unwrap().clone();
    let schedule = shop.face().retry_schedule_s(&order);

    assert_eq!(
        schedule,
        [0, 0, 0, 240, 600, 600, 3_600, 7_200, 21_600, 54_000]
    );
}
