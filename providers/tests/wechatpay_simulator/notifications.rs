//! What the face tells, as the adapter reads it.

use chrono::TimeDelta;
use http::{HeaderMap, StatusCode};
use providers::money::Money;
use providers::notification::{Acknowledgement, Notice, RawNotification, Rejection};
use providers::outcome::{QueryOutcome, RefundQueryOutcome};
use providers::sandbox::simulator::{Alteration, Outgoing};
use providers::signing::Signer;
use providers::wechatpay::sign::{ResourceKey, answer_message};
use serde_json::json;

use crate::bench::{Bench, raw, vector_keys};

const NO: &str = "IL20260105000001";

async fn paid(bench: &Bench) {
    bench
        .adapter()
        .create(&bench.order(NO), &bench.call())
        .await;
    bench.pay(NO);
}

fn only(mut outgoing: Vec<Outgoing>) -> Outgoing {
    assert_eq!(outgoing.len(), 1);
    outgoing.remove(0)
}

#[tokio::test]
async fn a_payment_is_told_as_a_query_would_tell_it() {
    let bench = Bench::start().await;
    paid(&bench).await;
    let outgoing = only(bench.outgoing(Alteration::None));
    assert_eq!(outgoing.url, "http://127.0.0.1:9/notifications/acct_1");

    let read = bench
        .adapter()
        .notification(&raw(&outgoing), bench.now())
        .unwrap()
        .into_inner();

    assert_eq!(read.id, "00112233-4455-6677-8899-aabbccddeeff");
    let queried = bench
        .adapter()
        .query(&bench.reference(NO), &bench.call())
        .await
        .outcome;

    let Notice::Paid { order_no, capture } = read.notice else {
        panic!()
    };
    assert_eq!(order_no, NO);

    assert_eq!(queried, QueryOutcome::Paid(capture));
}

#[tokio::test]
async fn a_refund_is_told_once_it_is_done() {
    let bench = Bench::start().await;
    paid(&bench).await;
    bench
        .adapter()
        .refund(&bench.refund(NO, "R0000001", 40), &bench.call())
        .await;
    assert_eq!(bench.outgoing(Alteration::None).len(), 1);

    bench.pass(TimeDelta::seconds(2));
    let outgoing = only(bench.outgoing(Alteration::None));

    assert_eq!(
        outgoing.url,
        "http://127.0.0.1:9/notifications/acct_1/refund"
    );

    let read = bench
        .adapter()
        .notification(&raw(&outgoing), bench.now())
        .unwrap()
        .into_inner();
    let (order_no, refund_no) = (NO.to_owned(), "R0000001".to_owned());
    let amount = Some(Money::fen(40).unwrap());

    assert_eq!(
        read.notice,
        Notice::Refund {
            order_no,
            refund_no,
            outcome: RefundQueryOutcome::Done,
            amount,
            total: None
        }
    );
}

#[tokio::test]
async fn a_closed_order_is_not_told() {
    let bench = Bench::start().await;
    bench
        .adapter()
        .create(&bench.order(NO), &bench.call())
        .await;
    bench
        .adapter()
        .close(&bench.reference(NO), &bench.call())
        .await;
    assert!(bench.outgoing(Alteration::None).is_empty());
}

#[tokio::test]
async fn a_notification_is_signed_anew_whenever_it_is_sent() {
    let bench = Bench::start().await;
    paid(&bench).await;
    let event = bench.book.lock().take_events().remove(0);
    let first = bench.send(&event, Alteration::None).unwrap();
    bench.pass(TimeDelta::hours(6));
    assert_eq!(
        bench
            .adapter()
            .notification(&raw(&first), bench.now())
            .map(|_| ()),
        Err(Rejection::Stale)
    );

    let second = bench.send(&event, Alteration::None).unwrap();
    bench
        .adapter()
        .notification(&raw(&second), bench.now())
        .unwrap();
}

#[tokio::test]
async fn a_forged_notification_is_refused_for_what_is_wrong_with_it() {
    let bench = Bench::start().await;
    paid(&bench).await;
    let event = bench.book.lock().take_events().remove(0);
    let read = |outgoing: &Outgoing| {
        bench
            .adapter()
            .notification(&raw(outgoing), bench.now())
            .map(|_| ())
    };

    let forged = bench.send(&event, Alteration::BadSignature).unwrap();
    assert_eq!(read(&forged), Err(Rejection::BadSignature));
    let unsigned = bench.send(&event, Alteration::Unsigned).unwrap();
    assert_eq!(
        read(&unsigned),
        Err(Rejection::Unsigned("no Wechatpay-Timestamp".to_owned()))
    );
    for name in ["timestamp", "nonce", "signature", "serial"] {
        let mut genuine = bench.send(&event, Alteration::None).unwrap();
        genuine.headers.remove(format!("wechatpay-{name}"));
        assert!(
            matches!(read(&genuine), Err(Rejection::Unsigned(_))),
            "{name}"
        );
    }
    let mut other_kind = bench.send(&event, Alteration::None).unwrap();
    other_kind.headers.insert(
        "wechatpay-signature-type",
        "WECHATPAY2-SM2-WITH-SM3".parse().unwrap(),
    );
    assert_eq!(
        read(&other_kind),
        Err(Rejection::UnknownKey("WECHATPAY2-SM2-WITH-SM3".to_owned()))
    );
    let mut without_kind = bench.send(&event, Alteration::None).unwrap();
    without_kind.headers.remove("wechatpay-signature-type");
    assert_eq!(read(&without_kind), Ok(()));
}

#[tokio::test]
async fn a_genuine_notification_for_somebody_else_is_refused() {
    let bench = Bench::start().await;
    paid(&bench).await;
    bench
        .adapter()
        .refund(&bench.refund(NO, "R0000001", 40), &bench.call())
        .await;
    bench.pass(TimeDelta::seconds(2));
    let told = bench.outgoing(Alteration::None);
    let [payment, refund] = told.as_slice() else {
        panic!()
    };

    let read = |member: &str, value: &str, outgoing| {
        let adapter = bench.adapter_with(member, json!(value));
        adapter
            .notification(&raw(outgoing), bench.now())
            .map(|_| ())
    };
    let ours = Err(Rejection::OtherAccount(
        "1900000109/wxd678efh567hg6787".to_owned(),
    ));

    assert_eq!(read("mchid", "1900000110", payment), ours);
    assert_eq!(read("appid", "wx0000000000000000", payment), ours);
    assert_eq!(
        read("mchid", "1900000110", refund),
        Err(Rejection::OtherAccount("1900000109".to_owned()))
    );

    // A refund names no app.
    assert_eq!(read("appid", "wx0000000000000000", refund), Ok(()));
    let wrong_key = read("apiv3_key", "00000000000000000000000000000000", payment);

    assert!(
        matches!(wrong_key, Err(Rejection::Unreadable(_))),
        "{wrong_key:?}"
    );
}

#[tokio::test]
async fn the_face_stops_for_our_acknowledgement_and_for_no_other_answer() {
    let bench = Bench::start().await;
    let adapter = bench.adapter();
    let acknowledged = |what| {
        let answer = adapter.acknowledge(what);
        bench
            .face
            .acknowledged(answer.status, answer.body.as_bytes())
    };

    assert!(acknowledged(Acknowledgement::Stop));
    assert!(!acknowledged(Acknowledgement::SendAgain));
    assert!(!acknowledged(Acknowledgement::Refuse));
    assert!(bench.face.acknowledged(StatusCode::OK, b""));
    assert!(!bench.face.acknowledged(StatusCode::FOUND, b""));
    for what in [Acknowledgement::SendAgain, Acknowledgement::Refuse] {
        assert!(
            adapter
                .acknowledge(what)
                .body
                .starts_with(r#"{"code":"FAIL","message":""#)
        );
    }

    bench
        .adapter()
        .create(&bench.order(NO), &bench.call())
        .await;
    let order = bench.book.lock().order(&bench.key(NO)).cloned().unwrap();
    let schedule = bench.face.retry_schedule_s(&order);
    assert_eq!(schedule.len(), 15);
    assert_eq!(
        schedule.iter().sum::<u32>(),
        60 + 180 + 600 + 1200 + 3 * 1800 + 3600 + 3 * 10_800 + 2 * 21_600
    );
}

/// A genuine notification that the face would not send.
fn told(bench: &Bench, event_type: &str, algorithm: &str, resource: &str) -> RawNotification {
    let keys = vector_keys();
    let key = ResourceKey::new(keys["apiv3_key"].as_str().unwrap()).unwrap();
    let ciphertext = key.seal("012345678901", "", resource.as_bytes()).unwrap();

    // `associated_data` may be absent.
    let resource =
        json!({"algorithm": algorithm, "ciphertext": ciphertext, "nonce": "012345678901"});
    let body = json!({"id": "1", "event_type": event_type, "resource": resource, "new_member": 1})
        .to_string();
    let at = bench.now().timestamp().to_string();
    let theirs = Signer::from_text(keys["public_key_private"].as_str().unwrap()).unwrap();
    let mut headers = HeaderMap::new();

    for (name, value) in [
        ("wechatpay-timestamp", at.clone()),
        ("wechatpay-nonce", "n".to_owned()),
        (
            "wechatpay-signature",
            theirs.sign(&answer_message(&at, "n", body.as_bytes())),
        ),
        (
            "wechatpay-serial",
            keys["public_key_id"].as_str().unwrap().to_owned(),
        ),
    ] {
        headers.insert(name, value.parse().unwrap());
    }

    RawNotification {
        headers,
        body: body.into(),
    }
}

#[tokio::test]
async fn what_is_not_about_our_money_is_nothing_and_what_cannot_be_read_is_refused() {
    let bench = Bench::start().await;
    let adapter = bench.adapter();
    let read = |raw: &RawNotification| {
        adapter
            .notification(raw, bench.now())
            .map(|n| n.into_inner().notice)
    };
    let gcm = "AEAD_AES_256_GCM";
    let transaction = |state: &str, more: &str| {
        format!(
            r#"{{"mchid":"1900000109","appid":"wxd678efh567hg6787","out_trade_no":"{NO}","trade_state":"{state}"{more}}}"#
        )
    };
    let nothing = |order_no: &str| {
        Ok(Notice::Nothing {
            order_no: order_no.to_owned(),
        })
    };
    let closed = told(
        &bench,
        "TRANSACTION.SUCCESS",
        gcm,
        &transaction("CLOSED", ""),
    );
    // Only successes are notified: this one says two things.
    let asked = Notice::Ask {
        order_no: NO.to_owned(),
        refund_no: None,
        says_done: true,
        amount: None,
    };
    assert_eq!(read(&closed), Ok(asked));
    let other = told(
        &bench,
        "COUPON.USE",
        gcm,
        r#"{"mchid":"1900000109","coupon_id":"1"}"#,
    );
    assert_eq!(read(&other), nothing(""));
    let theirs = told(&bench, "COUPON.USE", gcm, r#"{"mchid":"1900000110"}"#);
    assert_eq!(
        read(&theirs),
        Err(Rejection::OtherAccount("1900000110".to_owned()))
    );

    for raw in [
        told(
            &bench,
            "TRANSACTION.SUCCESS",
            gcm,
            &transaction("SUCCESS", ""),
        ),
        told(
            &bench,
            "TRANSACTION.SUCCESS",
            gcm,
            &transaction("SUCCESS", r#","amount":{"total":1}"#),
        ),
        told(
            &bench,
            "TRANSACTION.SUCCESS",
            gcm,
            r#"{"mchid":"1900000109"}"#,
        ),
        told(&bench, "REFUND.SUCCESS", gcm, &transaction("SUCCESS", "")),
        told(&bench, "TRANSACTION.SUCCESS", gcm, "not json"),
        told(
            &bench,
            "TRANSACTION.SUCCESS",
            "AEAD_SM4_GCM",
            &transaction("CLOSED", ""),
        ),
    ] {
        let rejection = read(&raw).unwrap_err();
        assert!(
            matches!(rejection, Rejection::Unreadable(_)),
            "{rejection:?}"
        );
    }
    let refund = format!(
        r#"{{"mchid":"1900000109","out_trade_no":"{NO}","out_refund_no":"R0000001","refund_status":"SOMETHING_NEW"}}"#
    );
    let Ok(Notice::Refund { outcome, .. }) =
        read(&told(&bench, "REFUND.SOMETHING_NEW", gcm, &refund))
    else {
        panic!()
    };
    assert!(
        matches!(outcome, RefundQueryOutcome::Unknown(_)),
        "{outcome:?}"
    );
    let refund_no = Some("R0000001".to_owned());
    let asked = Notice::Ask {
        order_no: NO.to_owned(),
        refund_no,
        says_done: true,
        amount: None,
    };
    assert_eq!(
        read(&told(&bench, "REFUND.SUCCESS", gcm, &refund)),
        Ok(asked)
    );
}

#[tokio::test]
async fn a_refund_without_a_number_has_gone_back_only_where_that_is_said() {
    let bench = Bench::start().await;
    let gcm = "AEAD_AES_256_GCM";
    let adapter = bench.adapter();
    let read = |raw: &RawNotification| {
        adapter
            .notification(raw, bench.now())
            .map(|read| read.into_inner().notice)
    };
    let unnumbered = |status: &str| {
        format!(
            r#"{{"mchid":"1900000109","out_trade_no":"{NO}","out_refund_no":"","refund_status":"{status}"}}"#
        )
    };
    let order_no = NO.to_owned();

    assert_eq!(
        read(&told(&bench, "REFUND.SUCCESS", gcm, &unnumbered("SUCCESS"))),
        Ok(Notice::Refunded {
            order_no: order_no.clone(),
            total: None
        })
    );

    for status in ["CLOSED", "ABNORMAL"] {
        assert_eq!(
            read(&told(
                &bench,
                &format!("REFUND.{status}"),
                gcm,
                &unnumbered(status)
            )),
            Ok(Notice::Ask {
                order_no: order_no.clone(),
                refund_no: None,
                says_done: false,
                amount: None,
            })
        );
    }
}
