//! WeChat Pay against what its SDKs really sent and accepted (`vectors/wechatpay.json`): our
//! canonical strings and signatures equal theirs byte for byte, and we believe exactly the answers
//! and notifications that must be believed.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "in the helpers of a test a panic is how it fails"
)]

use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::{HeaderMap, HeaderName, HeaderValue};
use providers::money::Money;
use providers::notification::{Notice, RawNotification, Rejection};
use providers::outcome::RefundQueryOutcome;
use providers::provider::Provider;
use providers::signing::{Signer, Verifier};
use providers::wechatpay::PROTOCOL;
use providers::wechatpay::sign::{
    Merchant, ResourceKey, Seal, SealError, answer_message, request_message,
};
use serde_json::{Value, json};
use std::sync::Arc;

fn vectors() -> Value {
    serde_json::from_str(include_str!("vectors/wechatpay.json")).unwrap()
}

fn text<'a>(value: &'a Value, member: &str) -> &'a str {
    value[member]
        .as_str()
        .unwrap_or_else(|| panic!("no {member}"))
}

fn list<'a>(value: &'a Value, member: &str) -> &'a Vec<Value> {
    value[member].as_array().unwrap()
}

fn headers(value: &Value) -> HeaderMap {
    let pair = |(name, value): (&String, &Value)| {
        (
            HeaderName::try_from(name).unwrap(),
            HeaderValue::from_str(value.as_str().unwrap()).unwrap(),
        )
    };
    value.as_object().unwrap().iter().map(pair).collect()
}

fn time(value: &Value) -> DateTime<Utc> {
    DateTime::from_timestamp(value.as_i64().unwrap(), 0).unwrap()
}

fn settings(keys: &Value) -> Value {
    json!({
        "mchid": keys["mchid"], "appid": keys["appid"], "serial": keys["merchant_serial"],
        "private_key": keys["merchant_private_key_pem"],
        "public_key_id": keys["wechatpay_pubkey_id"],
        "public_key": keys["wechatpay_pubkey_pem"], "apiv3_key": keys["apiv3_key"],
    })
}

fn adapter(keys: &Value) -> Arc<dyn Provider> {
    (PROTOCOL.open)(settings(keys), &providers::http::Way::Open).unwrap()
}

/// The key that a `Wechatpay-Serial` names.
fn key_of(keys: &Value, serial: &str) -> Verifier {
    let member = match serial.strip_prefix("PUB_KEY_ID_") {
        Some(_) => "wechatpay_pubkey_pem",
        None => "platform_public_key_pem",
    };
    Verifier::from_text(text(keys, member)).unwrap()
}

#[test]
fn our_requests_are_signed_like_those_of_every_sdk() {
    let vectors = vectors();
    let keys = &vectors["keys"];
    let signer = Signer::from_text(text(keys, "merchant_private_key_pem")).unwrap();
    let merchant = Merchant {
        mchid: text(keys, "mchid"),
        serial: text(keys, "merchant_serial"),
        signer: &signer,
    };
    for request in list(&vectors, "requests") {
        let (method, target) = (text(request, "method"), text(request, "target"));
        let auth = &request["auth"];
        let (timestamp, nonce) = (text(auth, "timestamp"), text(auth, "nonce_str"));
        let body = text(request, "body").as_bytes();
        let message = request_message(method, target, timestamp, nonce, body);
        assert_eq!(
            message,
            text(request, "canonical_message").as_bytes(),
            "{}",
            request["id"]
        );
        assert_eq!(
            signer.sign(&message),
            text(auth, "signature"),
            "{}",
            request["id"]
        );

        let header =
            merchant.authorization(method, target, timestamp.parse().unwrap(), nonce, body);
        assert_eq!(
            attributes(&header),
            attributes(text(request, "authorization")),
            "{}",
            request["id"]
        );
    }
    assert_eq!(list(&vectors, "requests").len(), 26);
}

/// The type and the attributes in alphabetical order: SDKs write them in different orders.
fn attributes(header: &str) -> Vec<&str> {
    let (kind, rest) = header.split_once(' ').unwrap();
    let mut attributes: Vec<&str> = rest.split(',').collect();
    attributes.sort_unstable();
    attributes.push(kind);
    attributes
}

#[test]
fn every_recorded_answer_verifies_with_its_key_and_with_no_other() {
    let vectors = vectors();
    let keys = &vectors["keys"];

    for request in list(&vectors, "requests") {
        let response = &request["response"];
        let headers = headers(&response["headers"]);
        let (stamp, nonce, body) = (
            text(&response["headers"], "Wechatpay-Timestamp"),
            text(&response["headers"], "Wechatpay-Nonce"),
            text(response, "body"),
        );
        assert_eq!(
            answer_message(stamp, nonce, body.as_bytes()),
            text(response, "message_to_verify").as_bytes(),
            "{}",
            request["id"]
        );
        let serial = text(&response["headers"], "Wechatpay-Serial");
        let now = DateTime::from_timestamp(stamp.parse().unwrap(), 0).unwrap();
        let seal = Seal::of(&headers).unwrap();
        assert_eq!(
            seal.check(body.as_bytes(), now, serial, &key_of(keys, serial)),
            Ok(()),
            "{}",
            request["id"]
        );
        let other = key_of(
            keys,
            if serial.starts_with("PUB_KEY_ID_") {
                ""
            } else {
                "PUB_KEY_ID_"
            },
        );
        assert_eq!(
            seal.check(body.as_bytes(), now, serial, &other),
            Err(SealError::BadSignature)
        );
        let unknown = Err(SealError::UnknownKey(serial.to_owned()));
        assert_eq!(
            seal.check(body.as_bytes(), now, "another", &key_of(keys, serial)),
            unknown
        );
    }
}

#[test]
fn answers_are_refused_from_five_minutes_on() {
    let vectors = vectors();
    for case in list(&vectors, "response_clock_window") {
        let headers = headers(&case["headers"]);
        let serial = text(&case["headers"], "Wechatpay-Serial");
        let key = key_of(&vectors["keys"], serial);
        let checked = Seal::of(&headers).unwrap().check(
            text(case, "body").as_bytes(),
            time(&case["clock_at"]),
            serial,
            &key,
        );
        let expected = if case["must_accept"] == true {
            Ok(())
        } else {
            Err(SealError::Stale)
        };
        assert_eq!(checked, expected, "{}", case["id"]);
    }

    assert_eq!(list(&vectors, "response_clock_window").len(), 7);
}

fn raw(case: &Value) -> RawNotification {
    RawNotification {
        headers: headers(&case["headers"]),
        body: Bytes::from(text(case, "body").to_owned()),
    }
}

#[test]
fn notifications_of_public_key_mode_are_believed_as_the_go_sdk_believes_them() {
    let vectors = vectors();
    let adapter = adapter(&vectors["keys"]);
    let mut accepted = 0;
    for case in list(&vectors, "notifications")
        .iter()
        .filter(|c| c["mode"] == "pubkey")
    {
        let id = text(case, "id");
        let read = adapter.notification(&raw(case), time(&case["clock_at"]));
        if case["expect"]["must_accept"] == true {
            assert_eq!(read.unwrap().get().id, id);
            accepted += 1;
            continue;
        }
        let rejection = read.map(|n| n.into_inner()).unwrap_err();
        let expected = match id {
            "EV-NEG-stale-timestamp" => Rejection::Stale,
            "EV-NEG-tampered-body" => Rejection::BadSignature,
            "EV-NEG-signtest-probe" => Rejection::Probe,
            _ => Rejection::Unreadable("cannot be decrypted with the APIv3 key".to_owned()),
        };
        assert_eq!(rejection, expected, "{id}");
    }

    assert_eq!(accepted, 5);
}

#[test]
fn notifications_signed_with_a_platform_certificate_are_of_an_unknown_key() {
    let vectors = vectors();
    let adapter = adapter(&vectors["keys"]);
    let cases: Vec<&Value> = list(&vectors, "notifications")
        .iter()
        .filter(|c| c["mode"] == "cert")
        .collect();

    assert_eq!(cases.len(), 9);
    for case in cases {
        let rejection = adapter
            .notification(&raw(case), time(&case["clock_at"]))
            .map(|n| n.into_inner())
            .unwrap_err();
        let expected = match text(case, "id") {
            "EV-NEG-stale-timestamp" => Rejection::Stale,
            "EV-NEG-signtest-probe" => Rejection::Probe,
            _ => Rejection::UnknownKey(text(&vectors["keys"], "platform_serial").to_owned()),
        };
        assert_eq!(rejection, expected, "{}", case["id"]);
    }
}

/// Their seals and cipher texts hold all the same, so what differs between the modes is the key
/// alone.
#[test]
fn notifications_signed_with_a_platform_certificate_hold_with_its_key() {
    let vectors = vectors();
    let keys = &vectors["keys"];
    let resource_key = ResourceKey::new(text(keys, "apiv3_key")).unwrap();

    for case in list(&vectors, "notifications") {
        let headers = headers(&case["headers"]);
        let serial = text(&case["headers"], "Wechatpay-Serial");
        let body = text(case, "body");
        let seal = Seal::of(&headers).unwrap();
        let held = seal
            .check(
                body.as_bytes(),
                time(&case["clock_at"]),
                serial,
                &key_of(keys, serial),
            )
            .is_ok();
        let envelope: Value = serde_json::from_str(body).unwrap();
        let resource = &envelope["resource"];
        let opened = resource_key.open(
            text(resource, "nonce"),
            text(resource, "associated_data"),
            text(resource, "ciphertext"),
        );
        assert_eq!(
            opened.is_ok(),
            case["expect"]["decrypts_with_apiv3_key"] == true,
            "{}",
            case["id"]
        );
        if let Ok(opened) = &opened {
            assert_eq!(
                opened,
                text(case, "decrypted_resource").as_bytes(),
                "{}",
                case["id"]
            );
        }
        assert_eq!(
            held && opened.is_ok(),
            case["expect"]["must_accept"] == true,
            "{}",
            case["id"]
        );
    }
}

fn notice(id: &str) -> Notice {
    let vectors = vectors();
    let adapter = adapter(&vectors["keys"]);
    let is = |c: &&Value| c["id"] == id && c["mode"] == "pubkey";
    let case = list(&vectors, "notifications").iter().find(is).unwrap();
    adapter
        .notification(&raw(case), time(&case["clock_at"]))
        .unwrap()
        .into_inner()
        .notice
}

#[test]
fn a_payment_with_a_coupon_counts_in_full() {
    let Notice::Paid { order_no, capture } = notice("EV-pay-success-coupon") else {
        panic!()
    };
    assert_eq!(order_no, "SBX20260105000001");
    assert_eq!(capture.amount, Money::fen(100).unwrap());
    assert_eq!(capture.payer_amount, Some(90));
    assert_eq!(capture.payer.as_deref(), Some("****eS6o"));
    assert_eq!(capture.payment_id.as_deref(), Some(r#"{"o":"测试"}"#));
    assert_eq!(capture.transaction_id, "4200002601202601051234567890");
    assert_eq!(
        capture.paid_at.unwrap().to_rfc3339(),
        "2026-01-05T02:00:01+00:00"
    );
    assert_eq!(capture.foreign_account, None);
}

#[test]
fn refund_notifications_say_what_became_of_the_refund() {
    for (id, done) in [
        ("EV-refund-success", "done"),
        ("EV-refund-abnormal", "abnormal"),
        ("EV-refund-closed", "no"),
    ] {
        let Notice::Refund {
            order_no,
            refund_no,
            outcome,
            amount,
            ..
        } = notice(id)
        else {
            panic!("{id}")
        };
        assert_eq!(
            (order_no.as_str(), refund_no.as_str()),
            ("SBX20260105000001", "RF20260105000001")
        );
        let named = match outcome {
            RefundQueryOutcome::Done => "done",
            RefundQueryOutcome::Abnormal(_) => "abnormal",
            RefundQueryOutcome::Rejected(_) => "no",
            RefundQueryOutcome::NotFound
            | RefundQueryOutcome::Accepted
            | RefundQueryOutcome::Unknown(_) => "something else",
        };
        assert_eq!(named, done, "{id}");
        assert!(amount.is_some(), "{id}");
    }
}
