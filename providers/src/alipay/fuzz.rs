//! Alipay under odd and hostile input: forms that claim to be notifications, answers, and the text
//! that is signed. Whoever cannot sign must not be able to make a recorded message say anything
//! else.

use std::collections::BTreeMap;

use bytes::Bytes;
use form_urlencoded::Serializer;
use http::HeaderMap;
use serde_json::{Value, json};

use super::config::Settings;
use super::notice;
use super::sign::{Envelope, notification_string, string_to_sign, verify_node};
use super::vectors::{keys, settings, vectors};
use super::wire::{self, Method, Reply, node_name};
use crate::fuzz::{Fuzz, saw};
use crate::http::HttpAnswer;
use crate::notification::{Notice, Notification, RawNotification, Rejection};
use crate::order::Call;
use crate::signing::{Signer, Verifier};

const FIELDS: &[&str] = &[
    "&gmt_refund=",
    "&out_biz_no=",
    "&refund_fee=0.01",
    "&trade_status=TRADE_SUCCESS",
    "&trade_status=TRADE_CLOSED",
    "&total_amount=",
    "&sign_type=RSA2",
    "&sign=",
    "&app_id=2021000000000001",
    "&seller_id=2088000000000001",
    "&notify_id=",
    "&out_trade_no=",
    "%26",
    "%3D",
    "%25",
    "0.01",
    "-1",
    "99999999999999999999",
];

fn notified(settings: &Settings, body: &[u8]) -> Result<Notification, Rejection> {
    let raw = RawNotification {
        headers: HeaderMap::new(),
        body: Bytes::copy_from_slice(body),
    };
    notice::read(settings, &raw).map(|verified| verified.into_inner())
}

/// A form with the signature of Alipay over it.
fn signed<'a>(alipay: &Signer, fields: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let fields: Vec<_> = fields
        .into_iter()
        .filter(|(name, _)| !["sign", "sign_type"].contains(name))
        .collect();
    let signature = alipay.sign(notification_string(fields.iter().copied()).as_bytes());
    let mut form = Serializer::new(String::new());
    form.extend_pairs(fields)
        .append_pair("sign", &signature)
        .append_pair("sign_type", "RSA2")
        .finish()
}

fn alipay() -> Signer {
    Signer::from_text(&keys().alipay_private).unwrap()
}

/// Genuine ones: as recorded, and one about a refund.
fn genuine() -> Vec<Vec<u8>> {
    let mut bodies: Vec<_> = vectors()
        .notifications
        .into_iter()
        .map(|n| n.body.into_bytes())
        .collect();
    let refunded = [
        ("app_id", "2021000000000001"),
        ("gmt_payment", "2026-07-01 12:00:00"),
        ("gmt_refund", "2026-07-01 12:30:00"),
        ("notify_id", "refund-1"),
        ("notify_type", "trade_status_sync"),
        ("out_biz_no", "R1"),
        ("out_trade_no", "A1"),
        ("receipt_amount", "88.88"),
        ("refund_fee", "0.01"),
        ("seller_id", "2088000000000001"),
        ("total_amount", "88.88"),
        ("trade_no", "2026070122001"),
        ("trade_status", "TRADE_SUCCESS"),
    ];

    bodies.push(signed(&alipay(), refunded).into_bytes());
    bodies
}

#[test]
fn nobody_can_make_a_notification_say_anything_else() {
    let settings = settings();
    let seeds = genuine();
    let said: Vec<Notification> = seeds
        .iter()
        .filter_map(|body| notified(&settings, body).ok())
        .collect();

    assert!(said.len() >= 3, "{said:?}");
    Fuzz {
        name: "alipay_notification",
        seeds,
        words: FIELDS,
    }
    .run(|body| match notified(&settings, body) {
        Ok(notification) => {
            assert!(said.contains(&notification), "it says {notification:?}");
            saw(("ok", notification.id))
        }
        Err(rejection) => saw(rejection.to_string()),
    });
}

#[test]
fn whatever_alipay_signs_is_read_or_refused_by_name() {
    let (settings, alipay) = (settings(), alipay());

    Fuzz {
        name: "alipay_signed_notification",
        seeds: genuine(),
        words: FIELDS,
    }
    .run(|body| {
        let fields: Vec<(String, String)> = form_urlencoded::parse(body).into_owned().collect();
        let form = signed(
            &alipay,
            fields
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str())),
        );
        let only = |name: &str| {
            let mut values = fields
                .iter()
                .filter(|(n, _)| n == name)
                .map(|(_, value)| value.as_str());
            values.next().filter(|_| values.next().is_none())
        };
        match notified(&settings, form.as_bytes()) {
            Ok(Notification { id, notice }) => {
                assert_eq!(Some(id.as_str()), only("notify_id"));
                assert_eq!(Some(settings.app_id.as_str()), only("app_id"));
                if let Notice::Paid { order_no, capture } = &notice {
                    assert_eq!(Some(order_no.as_str()), only("out_trade_no"));
                    assert!(
                        capture.amount.minor() > 0 && only("gmt_refund").is_none_or(str::is_empty),
                        "{capture:?}"
                    );
                }
                saw(("ok", std::mem::discriminant(&notice), fields.len()))
            }
            Err(rejection) => {
                assert_ne!(rejection, Rejection::BadSignature, "it is signed: {form}");
                saw(rejection.to_string())
            }
        }
    });
}

#[test]
fn nobody_can_make_an_answer_say_anything_else() {
    let vectors = vectors();
    let as_input = |method: &str, reply: &str| format!("{method}\n{reply}").into_bytes();
    let mut seeds: Vec<_> = vectors
        .requests
        .iter()
        .map(|e| as_input(&e.method, &e.reply))
        .collect();

    seeds.extend(
        vectors
            .unbelievable
            .iter()
            .map(|e| as_input(&e.method, &e.reply)),
    );

    let key = Verifier::from_text(&keys().alipay_public).unwrap();
    let answered = |input: &[u8]| -> Option<(Method, Reply)> {
        let (method, reply) = std::str::from_utf8(input).ok()?.split_once('\n')?;
        let method = Method::named(method)?;
        let body = Bytes::copy_from_slice(reply.as_bytes());
        let answer = HttpAnswer {
            status: http::StatusCode::OK,
            headers: HeaderMap::new(),
            body,
        };
        Some((method, wire::reply(&key, method, Ok(&answer))))
    };

    let said = |input: &[u8]| match answered(input) {
        Some((_, Reply::Signed(node))) => Some(format!("{node:?}")),
        Some((_, Reply::NoAnswer(_) | Reply::Unsigned(_) | Reply::Unbelievable(_))) | None => None,
    };
    let genuine: Vec<String> = seeds.iter().filter_map(|input| said(input)).collect();
    let words = &[
        "\"sign\":\"\"",
        "\\/",
        "\"code\":\"10000\"",
        "\"error_response\":{",
        "\\u0022",
        "null",
        "{}",
        "\"trade_status\":\"TRADE_SUCCESS\"",
    ];

    Fuzz {
        name: "alipay_answer",
        seeds,
        words,
    }
    .run(|input| {
        if let Some(node) = said(input) {
            assert!(genuine.contains(&node), "it says {node}");
        }
        saw(answered(input).map(|(method, reply)| match reply {
            Reply::Signed(node) => (method.name(), node.code().to_owned()),
            Reply::Unsigned(node) => (method.name(), format!("unsigned {}", node.code())),
            Reply::Unbelievable(failure) => (method.name(), failure.code),
            Reply::NoAnswer(_) => (method.name(), "undelivered".to_owned()),
        }))
    });
}

/// Fields out of any bytes: `name=value` in lines.
fn fields(input: &[u8]) -> BTreeMap<String, String> {
    let text = String::from_utf8_lossy(input).into_owned();
    let pairs = text
        .lines()
        .map(|line| line.split_once('=').unwrap_or((line, "")));
    pairs
        .filter(|(name, _)| !name.is_empty())
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// The promise holds for names and values that are none of `&` and `=`; our own API lets no other
/// text through.
#[test]
fn what_we_sign_is_one_text_for_one_set_of_fields_and_verifies() {
    let settings = settings();
    let (ours, now) = (
        settings.app_key.verifier(),
        chrono::DateTime::from_timestamp(1_780_000_000, 0).unwrap(),
    );
    let call = Call {
        now,
        timeout: std::time::Duration::from_secs(1),
    };

    let seeds = [
        &b"a=1\nb=2\nsign=x\nsign_type=RSA2"[..],
        b"subject=Two cups of tea\ntotal_amount=88.88\nb=\n\xe8\x8c\xb6=+%",
    ];
    let seeds = seeds.map(<[u8]>::to_vec).to_vec();
    let words = &[
        "\nsign=",
        "\nsign_type=",
        "\n",
        "=",
        "%26",
        "+",
        "é",
        "\u{202e}",
        "\0",
    ];

    Fuzz {
        name: "alipay_canonical",
        seeds,
        words,
    }
    .run(|input| {
        let fields = fields(input);
        let pairs = || {
            fields
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str()))
        };
        let text = string_to_sign(pairs());
        assert_eq!(
            text,
            string_to_sign(pairs().rev()),
            "the order of fields decides nothing"
        );
        let plain = pairs().all(|(name, value)| !name.contains('&') && !value.contains(['&', '=']));
        if plain {
            let back: BTreeMap<String, String> = text
                .split('&')
                .filter_map(|pair| pair.split_once('='))
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect();
            let kept = pairs().filter(|(name, value)| *name != "sign" && !value.is_empty());
            assert_eq!(
                back,
                kept.map(|(name, value)| (name.to_owned(), value.to_owned()))
                    .collect()
            );
        }
        let biz: Value = json!(fields);
        let notify_url = fields.values().next().map(String::as_str);
        let request = wire::request(&settings, Method::Pay, &biz, notify_url, &call);
        let query = request.target.strip_prefix("/gateway.do?").unwrap();
        let sent: Vec<(String, String)> = [query.as_bytes(), &request.body]
            .iter()
            .flat_map(|form| form_urlencoded::parse(form).into_owned())
            .collect();
        let sent = || {
            sent.iter()
                .map(|(name, value)| (name.as_str(), value.as_str()))
        };
        let signature = sent().find(|(name, _)| *name == "sign").unwrap().1;
        ours.verify(string_to_sign(sent()).as_bytes(), signature)
            .expect("what we send verifies");
        let biz_back: Value =
            serde_json::from_str(sent().find(|(n, _)| *n == "biz_content").unwrap().1).unwrap();
        assert_eq!(biz_back, biz);
        saw((plain, fields.len(), text.len() / 8))
    });
}

#[test]
fn what_alipay_signs_is_cut_out_of_its_answer_as_it_is() {
    let (alipay, name) = (alipay(), node_name(Method::Query.name()));
    let key = alipay.verifier();
    let seeds: Vec<_> = vectors()
        .requests
        .into_iter()
        .map(|e| e.signed_substring.into_bytes())
        .collect();

    let words = &[
        "\\\"",
        "\\\\",
        "}",
        "{",
        "\\u005c",
        "\"sign\":\"x\"",
        "[",
        "]",
        ",",
    ];

    Fuzz {
        name: "alipay_envelope",
        seeds,
        words,
    }
    .run(|input| {
        let Some(node) = std::str::from_utf8(input)
            .ok()
            .filter(|t| serde_json::from_str::<Value>(t).is_ok())
        else {
            return saw("no JSON");
        };
        let body = format!(
            r#"{{"{name}":{node},"sign":"{}"}}"#,
            alipay.sign(node.trim().as_bytes())
        );
        let Some(envelope) = Envelope::read(&body) else {
            panic!("not read: {body}")
        };
        assert_eq!(envelope.text(&name), Some(node.trim()));
        verify_node(
            &key,
            envelope.text(&name).unwrap(),
            &envelope.signature().unwrap(),
        )
        .unwrap();
        saw(node.len() / 4)
    });
}
