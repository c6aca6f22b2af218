//! Requests, answers and notifications recorded from SDKs: our bytes have to be theirs.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use chrono::DateTime;
use http::HeaderMap;
use serde::Deserialize;
use serde_json::json;

use super::config::Settings;
use super::sign::{Envelope, string_to_sign, verify_node};
use super::simulator::SIMULATOR;
use super::wire::{Method, Reply, node_name, reply};
use super::{notice, outcome};
use crate::http::HttpAnswer;
use crate::notification::{Notice, RawNotification, Rejection};
use crate::outcome::{
    CloseOutcome, CreateOutcome, QueryOutcome, RefundOutcome, RefundQueryOutcome,
};
use crate::sandbox::book::SharedBook;
use crate::sandbox::simulator::{Alteration, Request, Simulator, SimulatorContext};
use crate::signing::{Signer, Verifier};

#[derive(Deserialize)]
pub(super) struct Vectors {
    pub keys: Keys,
    pub requests: Vec<Exchange>,
    pub unbelievable: Vec<Unbelievable>,
    pub notifications: Vec<Recorded>,
}

#[derive(Deserialize)]
pub(super) struct Keys {
    pub app_private: String,
    pub app_private_pkcs1: String,
    pub app_public: String,
    pub alipay_private: String,
    pub alipay_public: String,
}

#[derive(Deserialize)]
pub(super) struct Exchange {
    pub id: String,
    pub method: String,
    pub http_method: String,
    pub target: String,
    pub body: String,
    pub params: BTreeMap<String, String>,
    pub string_to_sign: String,
    pub signature: String,
    pub reply: String,
    pub signed_substring: String,
}

#[derive(Deserialize)]
pub(super) struct Unbelievable {
    pub id: String,
    pub method: String,
    pub reply: String,
}

#[derive(Deserialize)]
pub(super) struct Recorded {
    pub id: String,
    pub body: String,
    pub expect: bool,
}

pub(super) fn vectors() -> Vectors {
    serde_json::from_str(include_str!("../../tests/vectors/alipay.json")).unwrap()
}

pub(super) fn keys() -> Keys {
    vectors().keys
}

pub(super) fn settings() -> Settings {
    let keys = keys();
    let settings = json!({
        "app_id": "2021000000000001", "seller_id": "2088000000000001",
        "app_private_key": keys.app_private, "alipay_public_key": keys.alipay_public,
    });
    Settings::read(&settings).unwrap()
}

fn method(name: &str) -> Method {
    Method::named(name).unwrap()
}

/// Reads `body` as the answer to `method`, with HTTP status 200.
fn read(method: Method, body: &str) -> Reply {
    let answer = HttpAnswer {
        status: http::StatusCode::OK,
        headers: HeaderMap::new(),
        body: Bytes::copy_from_slice(body.as_bytes()),
    };
    reply(
        &Verifier::from_text(&keys().alipay_public).unwrap(),
        method,
        Ok(&answer),
    )
}

#[test]
fn our_string_to_sign_and_signature_are_those_of_the_sdks() {
    let vectors = vectors();
    let key = Signer::from_text(&vectors.keys.app_private).unwrap();
    let same_key = Signer::from_text(&vectors.keys.app_private_pkcs1).unwrap();
    assert_eq!(vectors.requests.len(), 18);

    for exchange in &vectors.requests {
        let text = string_to_sign(
            exchange
                .params
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str())),
        );
        assert_eq!(text, exchange.string_to_sign, "{}", exchange.id);
        assert_eq!(
            key.sign(text.as_bytes()),
            exchange.signature,
            "{}",
            exchange.id
        );
        assert_eq!(
            same_key.sign(text.as_bytes()),
            exchange.signature,
            "{}",
            exchange.id
        );
    }
}

#[test]
fn the_signed_text_of_every_answer_is_cut_out_exactly_and_its_signature_holds() {
    let vectors = vectors();
    let key = Verifier::from_text(&vectors.keys.alipay_public).unwrap();

    for exchange in &vectors.requests {
        let envelope = Envelope::read(&exchange.reply).unwrap();
        let text = envelope.text(&node_name(&exchange.method)).unwrap();
        assert_eq!(text, exchange.signed_substring, "{}", exchange.id);
        assert!(
            verify_node(&key, text, &envelope.signature().unwrap()).is_ok(),
            "{}",
            exchange.id
        );
        assert!(
            matches!(
                read(method(&exchange.method), &exchange.reply),
                Reply::Signed(_)
            ),
            "{}",
            exchange.id
        );
    }
}

#[test]
fn an_answer_signed_with_plain_slashes_and_sent_with_escaped_ones_is_believed() {
    let vectors = vectors();
    let node = r#"{"code":"10000","out_trade_no":"A1","qr_code":"https://qr.alipay.com/bax"}"#;
    let sign = Signer::from_text(&vectors.keys.alipay_private)
        .unwrap()
        .sign(node.as_bytes());
    let node = node.replace('/', "\\/");
    let body = format!(r#"{{"alipay_trade_precreate_response":{node},"sign":"{sign}"}}"#);

    assert!(matches!(
        outcome::created(read(Method::Precreate, &body), "A1"),
        CreateOutcome::Accepted(_)
    ));

    let forged = body.replace("A1", "A2");
    assert!(matches!(
        outcome::created(read(Method::Precreate, &forged), "A2"),
        CreateOutcome::Unknown(_)
    ));
}

#[test]
fn success_without_a_signature_or_with_a_wrong_one_is_unknown() {
    let vectors = vectors();
    assert_eq!(vectors.unbelievable.len(), 9);

    for answer in &vectors.unbelievable {
        let order_no = Envelope::read(&answer.reply)
            .and_then(|e| {
                serde_json::from_str::<serde_json::Value>(e.text(&node_name(&answer.method))?).ok()
            })
            .and_then(|node| Some(node.get("out_trade_no")?.as_str()?.to_owned()))
            .unwrap_or_default();
        let reply = read(method(&answer.method), &answer.reply);
        assert!(!matches!(reply, Reply::Signed(_)), "{}", answer.id);
        // None of them may be taken for news about money, whichever call it is said to answer.
        assert!(
            matches!(
                outcome::queried(reply.clone(), &order_no),
                QueryOutcome::Unknown(_)
            ),
            "{}",
            answer.id
        );
        assert!(
            matches!(
                outcome::closed(reply.clone(), &order_no),
                CloseOutcome::Unknown(_)
            ),
            "{}",
            answer.id
        );
        assert!(
            matches!(
                outcome::reversed(reply.clone(), &order_no),
                CloseOutcome::Unknown(_)
            ),
            "{}",
            answer.id
        );
        assert!(
            matches!(
                outcome::refunded(reply.clone(), &order_no),
                RefundOutcome::Unknown(_) | RefundOutcome::RetryLater(_)
            ),
            "{}",
            answer.id
        );
        // A refusal of the gateway's own is believed without a signature, and says nothing but "not
        // done".
        let charged = outcome::charged(reply.clone(), &order_no);
        assert!(
            matches!(
                charged,
                CreateOutcome::Unknown(_) | CreateOutcome::Refused(..)
            ),
            "{}",
            answer.id
        );
        assert!(
            !matches!(
                outcome::created(reply, &order_no),
                CreateOutcome::Accepted(_)
            ),
            "{}",
            answer.id
        );
    }
}

#[test]
fn recorded_answers_mean_what_they_say() {
    let vectors = vectors();
    let mut seen = BTreeMap::new();

    for exchange in &vectors.requests {
        let biz: serde_json::Value = serde_json::from_str(&exchange.params["biz_content"]).unwrap();
        let order_no = biz["out_trade_no"].as_str().unwrap();
        let method = method(&exchange.method);
        let reply = read(method, &exchange.reply);
        let outcome = match method {
            Method::Precreate => matches!(
                outcome::created(reply, order_no),
                CreateOutcome::Accepted(_)
            ),
            Method::Pay if exchange.id == "node-error-20000" => {
                matches!(outcome::charged(reply, order_no), CreateOutcome::Unknown(_))
            }
            Method::Pay => matches!(outcome::charged(reply, order_no), CreateOutcome::Waiting),
            Method::Query if exchange.id.ends_with("not-exist") => {
                matches!(outcome::queried(reply, order_no), QueryOutcome::NotFound)
            }
            Method::Query => matches!(outcome::queried(reply, order_no), QueryOutcome::Paid(_)),
            Method::Close => matches!(outcome::closed(reply, order_no), CloseOutcome::Closed),
            Method::Cancel => matches!(outcome::reversed(reply, order_no), CloseOutcome::Closed),
            Method::Refund => matches!(outcome::refunded(reply, order_no), RefundOutcome::Done),
            Method::RefundQuery => {
                let refund = super::outcome::tests::refund(order_no, "R_1", 1);
                matches!(
                    outcome::refund_queried(reply, &refund),
                    RefundQueryOutcome::Done
                )
            }
        };
        assert!(outcome, "{}", exchange.id);
        *seen.entry(exchange.method.clone()).or_insert(0) += 1;
    }

    assert_eq!(seen.len(), 7, "every call: {seen:?}");
    assert_eq!(seen["alipay.trade.pay"], 3);
}

/// The sandbox's face with the recorded keys.
fn face() -> Arc<dyn Simulator> {
    let keys = keys();
    (SIMULATOR.open)(&json!({
        "app_id": "2021000000000001", "seller_id": "2088000000000001",
        "app_private_key": keys.app_private, "alipay_private_key": keys.alipay_private,
    }))
    .unwrap()
}

#[test]
fn the_face_takes_what_the_sdks_send_and_they_would_believe_its_answer() {
    let vectors = vectors();
    let face = face();
    let book = SharedBook::default();
    let now = DateTime::parse_from_rfc3339("2025-12-31T00:00:00Z")
        .unwrap()
        .to_utc();

    for exchange in &vectors.requests {
        let mut request = Request {
            method: exchange.http_method.parse().unwrap(),
            target: exchange.target.clone(),
            headers: HeaderMap::new(),
            body: Bytes::from(exchange.body.clone()),
        };
        assert!(face.call_of(&request, &book).is_some(), "{}", exchange.id);
        let context = SimulatorContext {
            book: &book,
            now,
            alteration: Alteration::None,
            spaces_refunds: false,
        };
        let order_no =
            serde_json::from_str::<serde_json::Value>(&exchange.params["biz_content"]).unwrap();
        let order_no = order_no["out_trade_no"].as_str().unwrap();
        let response = face.handle(&request, &context);
        let body = String::from_utf8(response.body.to_vec()).unwrap();
        let reply = read(method(&exchange.method), &body);
        assert!(matches!(reply, Reply::Signed(_)), "{}: {body}", exchange.id);
        // Past the gateway's checks: the business answers, and nobody has scanned anything.
        let expected = match exchange.method.as_str() {
            "alipay.trade.precreate" => {
                matches!(
                    outcome::created(reply, order_no),
                    CreateOutcome::Accepted(_)
                )
            }
            // The recorded codes end in the moods of the sandbox's payers: too old, and paying at
            // once.
            "alipay.trade.pay" if exchange.id == "node-error-20000" => {
                matches!(
                    outcome::charged(reply, order_no),
                    CreateOutcome::Captured(_)
                )
            }
            "alipay.trade.pay" => body.contains(r#""sub_code":"ACQ.PAYMENT_AUTH_CODE_INVALID""#),
            "alipay.trade.cancel" => body.contains(r#""retry_flag":"N"}"#),
            _ => body.contains(r#""sub_code":"ACQ.TRADE_NOT_EXIST""#),
        };
        assert!(expected, "{}: {body}", exchange.id);
        // One changed byte, and the signature no longer holds.
        request.body = Bytes::from(exchange.body.replace("2026", "2027"));
        request.target = exchange.target.replace("2026", "2027");
        let body = String::from_utf8(face.handle(&request, &context).body.to_vec()).unwrap();
        assert!(
            body.contains("isv.invalid-signature"),
            "{}: {body}",
            exchange.id
        );
    }
}

#[test]
fn notifications_are_believed_or_refused_as_recorded() {
    let vectors = vectors();
    let settings = settings();
    assert_eq!(vectors.notifications.len(), 7);

    for recorded in &vectors.notifications {
        let raw = RawNotification {
            headers: HeaderMap::new(),
            body: Bytes::from(recorded.body.clone()),
        };
        match (notice::read(&settings, &raw), recorded.id.as_str()) {
            (Err(rejection), id) => {
                assert!(!recorded.expect, "{id}: {rejection}");
                assert_eq!(rejection, Rejection::BadSignature, "{id}");
            }
            (Ok(notification), id) => {
                assert!(recorded.expect, "{id}");
                let notification = notification.into_inner();
                match (notification.notice, id) {
                    (
                        Notice::Refund {
                            refund_no, outcome, ..
                        },
                        "generated-partial_refund",
                    ) => {
                        assert_eq!(
                            (refund_no.as_str(), outcome),
                            ("R_1", RefundQueryOutcome::Accepted)
                        );
                    }
                    (Notice::Nothing { order_no }, "generated-trade_closed") => {
                        assert_eq!(order_no, "NODE_20260101_0001");
                    }
                    (Notice::Paid { order_no, capture }, _) => {
                        assert_eq!(order_no, "NODE_20260101_0001", "{id}");
                        assert_eq!(capture.amount.minor(), 8888, "{id}");
                        assert_eq!(capture.payer.as_deref(), Some("138****0000"), "{id}");
                        assert_eq!(
                            capture.payment_id.as_deref(),
                            Some("a=1&b=2"),
                            "{id}: decoded once"
                        );
                        let paid_at = DateTime::parse_from_rfc3339("2026-01-01T08:00:05+08:00")
                            .unwrap()
                            .to_utc();
                        assert_eq!(capture.paid_at, Some(paid_at), "{id}");
                    }
                    (notice, _) => panic!("{id}: {notice:?}"),
                }
            }
        }
    }
}
