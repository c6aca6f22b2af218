//! UnionPay under odd and hostile input: forms that claim to be notifications, raw answers, and the
//! text that is signed. Whoever cannot sign must not be able to make a recorded message say
//! anything else.

use std::collections::BTreeSet;

use bytes::Bytes;
use http::HeaderMap;
use serde_json::{Value, json};

use super::config::Account;
use super::notification;
use super::sign::signed_text;
use super::vectors::{account, list, now, shared, text, vectors};
use super::wire::{Fields, parse_answer, parse_form, to_form};
use crate::charset::bytes;
use crate::fuzz::{Fuzz, saw};
use crate::notification::{Notice, Notification, RawNotification, Rejection};

const FIELDS: &[&str] = &[
    "&orderId=",
    "&origOrderId=",
    "&txnType=01",
    "&txnType=04",
    "&txnAmt=",
    "&merId=777290058167151",
    "&signMethod=11",
    "&signMethod=01",
    "&version=5.1.0",
    "&signature=",
    "&reqReserved={",
    "{a=1&b=2}",
    "[",
    "}",
    "%26",
    "%3D",
];

fn notified(account: &Account, body: &[u8]) -> Result<Notification, Rejection> {
    let raw = RawNotification {
        headers: HeaderMap::new(),
        body: Bytes::copy_from_slice(body),
    };
    notification::read(account, &raw, now()).map(|verified| verified.into_inner())
}

fn recorded(name: &str) -> Vec<Vec<u8>> {
    let vectors = vectors();
    list(&vectors, name)
        .iter()
        .map(|vector| text(vector, "body").as_bytes().to_vec())
        .collect()
}

#[test]
fn nobody_can_make_a_notification_say_anything_else() {
    let accounts = [account(&json!({})), shared()];
    let seeds = recorded("notifications");
    let said: Vec<Notification> = accounts
        .iter()
        .flat_map(|account| seeds.iter().filter_map(|body| notified(account, body).ok()))
        .collect();

    assert_eq!(said.len(), 2, "one for each way to sign: {said:?}");
    Fuzz {
        name: "unionpay_notification",
        seeds,
        words: FIELDS,
    }
    .run(|body| {
        let seen = accounts
            .each_ref()
            .map(|account| match notified(account, body) {
                Ok(notification) => {
                    assert!(said.contains(&notification), "it says {notification:?}");
                    notification.id
                }
                Err(rejection) => rejection.to_string(),
            });
        saw(seen)
    });
}

#[test]
fn whatever_unionpay_signs_is_read_or_refused_by_name() {
    let account = shared();

    Fuzz {
        name: "unionpay_signed_notification",
        seeds: recorded("notifications"),
        words: FIELDS,
    }
    .run(|body| {
        let Ok(mut fields) = parse_form(body) else {
            return saw("no form");
        };
        fields.insert("version".to_owned(), "5.1.0".to_owned());
        let fields = account.method.sign(fields);
        let form = to_form(&fields);
        assert_eq!(
            parse_form(form.as_bytes()).as_ref(),
            Ok(&fields),
            "what is written is read"
        );
        match notified(&account, form.as_bytes()) {
            Ok(Notification {
                notice:
                    Notice::Ask {
                        order_no,
                        refund_no,
                        ..
                    },
                ..
            }) => {
                let named = |no: &String| {
                    fields.get("orderId") == Some(no) || fields.get("origOrderId") == Some(no)
                };
                assert!(named(&order_no) && refund_no.as_ref().is_none_or(named));
                saw(("ask", refund_no.is_some(), fields.len()))
            }
            Ok(Notification {
                notice: Notice::Nothing { .. },
                ..
            }) => saw(("nothing", fields.len())),
            Ok(Notification { notice, .. }) => {
                panic!("nothing is booked by a notification: {notice:?}")
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
    let account = account(&json!({}));
    let seeds = recorded("answers");
    let believed = |body: &[u8]| {
        let fields = parse_answer(body).ok()?;
        account.method.check(&fields, now()).ok()?;
        Some(fields)
    };

    let genuine: BTreeSet<Fields> = seeds.iter().filter_map(|body| believed(body)).collect();
    assert!(!genuine.is_empty());
    // What is empty is not signed, and so means nothing.
    let meaning = |fields: Fields| -> Fields {
        fields
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .collect()
    };

    let genuine: BTreeSet<Fields> = genuine.into_iter().map(meaning).collect();
    Fuzz {
        name: "unionpay_answer",
        seeds,
        words: FIELDS,
    }
    .run(|body| match believed(body) {
        Some(fields) => {
            assert!(
                genuine.contains(&meaning(fields.clone())),
                "it says {fields:?}"
            );
            saw("believed")
        }
        None => saw(parse_answer(body)
            .map(|fields| (fields.len(), account.method.check(&fields, now()).is_ok()))
            .map_err(|e| e.to_string())),
    });
}

/// Fields out of any bytes: `name=value` in lines.
fn fields(input: &[u8]) -> Fields {
    let text = String::from_utf8_lossy(input).into_owned();
    let pairs = text
        .lines()
        .map(|line| line.split_once('=').unwrap_or((line, "")));
    pairs
        .filter(|(name, _)| !name.is_empty())
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// The promise holds for names and values that are none of `& = { } [ ]`.
#[test]
fn what_we_sign_is_one_text_for_one_set_of_fields_and_verifies() {
    let (by_certificate, shared) = (account(&json!({})), shared());
    let vectors = vectors();
    let lines = |vector: &Value| {
        let pairs = vector["params"].as_object().unwrap().iter();
        pairs
            .map(|(name, value)| format!("{name}={}", value.as_str().unwrap()))
            .collect::<Vec<_>>()
            .join("\n")
    };

    let seeds: Vec<_> = list(&vectors, "sign")
        .iter()
        .map(|vector| lines(vector).into_bytes())
        .collect();
    let words = &[
        "\n",
        "=",
        "&",
        "{",
        "}",
        "[",
        "]",
        "\nsignature=x",
        " ",
        "\u{3000}",
        "é",
        "\0",
        "%41",
    ];

    Fuzz {
        name: "unionpay_canonical",
        seeds,
        words,
    }
    .run(|input| {
        let mut fields = fields(input);
        fields.insert("version".to_owned(), "5.1.0".to_owned());
        assert_eq!(
            parse_form(to_form(&fields).as_bytes()).as_ref(),
            Ok(&fields),
            "what is written is read"
        );
        let signed = shared.method.sign(fields.clone());
        shared
            .method
            .check(&signed, now())
            .expect("what we send verifies");
        let text = signed_text(&signed);
        let special = ['&', '=', '{', '}', '[', ']'];
        let plain = signed.iter().all(|(name, value)| {
            name == "signature" || !(name.contains(special) || value.contains(special))
        });
        if plain {
            let mut back = parse_answer(&bytes(&text)).unwrap();
            back.insert("signature".to_owned(), signed["signature"].clone());
            assert_eq!(
                back, signed,
                "its text says what was signed, and nothing else"
            );
        }
        let mut forged = signed.clone();
        forged.insert(
            "txnAmt".to_owned(),
            format!("{}1", signed.get("txnAmt").map_or("", String::as_str)),
        );
        assert!(shared.method.check(&forged, now()).is_err());
        let certified = by_certificate.method.sign(fields);
        assert!(
            by_certificate.method.check(&certified, now()).is_err(),
            "ours is not UnionPay's"
        );
        saw((plain, signed.len(), text.len() / 16))
    });
}

#[test]
fn an_answer_is_read_as_it_was_written() {
    Fuzz {
        name: "unionpay_parse",
        seeds: recorded("parse"),
        words: FIELDS,
    }
    .run(|body| {
        let Ok(fields) = parse_answer(body) else {
            return saw("unreadable");
        };
        let written: Vec<String> = fields
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let nested = fields
            .values()
            .any(|value| value.contains(['{', '}', '[', ']']));
        // Braces around the whole are taken off once; and only a field that came last may leave a
        // nest open.
        if !nested && !written.first().is_some_and(|first| first.starts_with('{')) {
            assert_eq!(
                parse_answer(&bytes(&written.join("&"))).as_ref(),
                Ok(&fields)
            );
        }
        saw((fields.len(), nested, body.len() / 16))
    });
}
