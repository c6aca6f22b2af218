//! WeChat Pay under odd and hostile input: signed headers and bodies, what is encrypted in them,
//! and the texts that are signed. Whoever cannot sign must not be able to make a recorded message
//! say anything else.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::{Value, json};

use super::config::Account;
use super::notification;
use super::outcome::Reply;
use super::sign::{Merchant, ResourceKey, answer_message, request_message};
use crate::fuzz::{Fuzz, saw};
use crate::http::HttpAnswer;
use crate::notification::{Notice, Notification, RawNotification, Rejection};
use crate::signing::{Signer, Verifier};

/// The headers that carry a signature, in the order in which an input has them as lines before its
/// body.
const SEAL: [&str; 5] = [
    "Wechatpay-Timestamp",
    "Wechatpay-Nonce",
    "Wechatpay-Signature",
    "Wechatpay-Serial",
    "Wechatpay-Signature-Type",
];
const WORDS: &[&str] = &[
    "\n",
    "WECHATPAY/SIGNTEST/",
    "WECHATPAY2-SHA256-RSA2048",
    "\"event_type\":\"TRANSACTION.SUCCESS\"",
    "\"event_type\":\"REFUND.SUCCESS\"",
    "\"trade_state\":\"SUCCESS\"",
    "\"amount\":{\"total\":1,\"currency\":\"CNY\"}",
    "\"payer_total\":-1",
    "\\u0000",
    "null",
    "9223372036854775808",
    "{}",
];

static VECTORS: LazyLock<Value> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../../tests/vectors/wechatpay.json")).unwrap()
});

fn key(member: &str) -> &'static str {
    VECTORS["keys"][member].as_str().unwrap()
}

fn account() -> Account {
    let settings = json!({
        "mchid": key("mchid"), "appid": key("appid"), "serial": key("merchant_serial"),
        "private_key": key("merchant_private_key_pem"), "public_key_id": key("wechatpay_pubkey_id"),
        "public_key": key("wechatpay_pubkey_pem"), "apiv3_key": key("apiv3_key"),
    });
    Account::read(settings, &crate::http::Way::Open).unwrap()
}

/// A recorded message as an input.
fn input(recorded: &Value) -> Vec<u8> {
    let headers = recorded["headers"].as_object().unwrap();
    let header = |name: &str| {
        headers
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .and_then(|(_, v)| v.as_str())
    };

    let lines: Vec<&str> = SEAL
        .iter()
        .map(|name| header(name).unwrap_or_default())
        .collect();

    format!(
        "{}\n{}",
        lines.join("\n"),
        recorded["body"].as_str().unwrap()
    )
    .into_bytes()
}

fn time(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(seconds, 0).unwrap()
}

/// An input as headers and a body; an empty line is a header that is not there.
fn message(input: &[u8]) -> Option<RawNotification> {
    let mut rest = input;
    let mut headers = HeaderMap::new();

    for name in SEAL {
        let end = rest.iter().position(|b| *b == b'\n')?;
        let value = rest.get(..end)?;
        rest = rest.get(end + 1..)?;
        if !value.is_empty() {
            headers.insert(
                HeaderName::try_from(name).unwrap(),
                HeaderValue::from_bytes(value).ok()?,
            );
        }
    }

    Some(RawNotification {
        headers,
        body: Bytes::copy_from_slice(rest),
    })
}

fn notified(
    account: &Account,
    input: &[u8],
    now: DateTime<Utc>,
) -> Option<Result<Notification, Rejection>> {
    Some(notification::read(account, &message(input)?, now).map(|verified| verified.into_inner()))
}

#[test]
fn nobody_can_make_a_notification_say_anything_else() {
    let account = account();
    let recorded = VECTORS["notifications"].as_array().unwrap();
    let seeds: Vec<_> = recorded.iter().map(input).collect();
    let mut clocks: Vec<_> = recorded
        .iter()
        .map(|vector| time(vector["clock_at"].as_i64().unwrap()))
        .collect();
    clocks.sort_unstable();
    clocks.dedup();

    let heard = |input: &Vec<u8>| {
        clocks
            .iter()
            .find_map(|clock| notified(&account, input, *clock)?.ok())
    };
    let said: Vec<Notification> = seeds.iter().filter_map(heard).collect();

    assert!(said.len() >= 3, "{said:?}");
    Fuzz {
        name: "wechatpay_notification",
        seeds,
        words: WORDS,
    }
    .run(|input| {
        let mut seen = Vec::new();
        for clock in &clocks {
            match notified(&account, input, *clock) {
                None => return saw("not even headers"),
                Some(Ok(notification)) => {
                    assert!(said.contains(&notification), "it says {notification:?}");
                    seen.push(notification.id);
                }
                Some(Err(rejection)) => seen.push(rejection.to_string()),
            }
        }
        seen.dedup();
        saw(seen)
    });
}

#[test]
fn whatever_wechat_pay_signs_and_seals_is_read_or_refused_by_name() {
    let account = account();
    let signer = Signer::from_text(key("wechatpay_pubkey_private_key_pem")).unwrap();
    let resource_key = ResourceKey::new(key("apiv3_key")).unwrap();
    let now = time(1_780_000_000);

    // An input is the kind of event, a line end, and the resource before it is sealed.
    let resources = VECTORS["notifications"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|vector| {
            let body: Value = serde_json::from_str(vector["body"].as_str()?).ok()?;
            let resource = &vector["decrypted_resource"];
            let resource = resource
                .as_str()
                .map_or_else(|| resource.to_string(), str::to_owned);
            Some(format!("{}\n{resource}", body["event_type"].as_str()?).into_bytes())
        });
    let seeds: Vec<_> = resources.collect();

    Fuzz {
        name: "wechatpay_signed_notification",
        seeds,
        words: WORDS,
    }
    .run(|input| {
        let text = String::from_utf8_lossy(input);
        let (kind, resource) = text
            .split_once('\n')
            .unwrap_or(("TRANSACTION.SUCCESS", &text));
        let sealed = resource_key
            .seal("123456789012", "transaction", resource.as_bytes())
            .unwrap();
        assert_eq!(
            resource_key
                .open("123456789012", "transaction", &sealed)
                .unwrap(),
            resource.as_bytes()
        );
        assert!(
            resource_key
                .open("123456789012", "refund", &sealed)
                .is_err(),
            "sealed for another purpose"
        );
        let body = json!({
            "id": "n1", "create_time": "2026-07-01T12:00:00+08:00", "event_type": kind,
            "resource_type": "encrypt-resource",
            "summary": "", "resource": {"algorithm": "AEAD_AES_256_GCM", "ciphertext": sealed,
                "nonce": "123456789012",
            "associated_data": "transaction", "original_type": "transaction"},
        });
        let (stamp, body) = (now.timestamp().to_string(), body.to_string());
        let signature = signer.sign(&answer_message(&stamp, "nonce", body.as_bytes()));
        let lines = [
            &stamp,
            "nonce",
            &signature,
            key("wechatpay_pubkey_id"),
            "",
            &body,
        ]
        .join("\n");
        match notified(&account, lines.as_bytes(), now).unwrap() {
            Ok(Notification { notice, .. }) => {
                if let Notice::Paid { capture, .. } = &notice {
                    let member: Value = serde_json::from_str(resource).unwrap();
                    assert_eq!(member["mchid"], key("mchid"), "another merchant's money");
                    assert_eq!(member["amount"]["total"], capture.amount.minor());
                }
                saw(("ok", std::mem::discriminant(&notice), kind.len()))
            }
            Err(rejection) => {
                let mended = [Rejection::BadSignature, Rejection::Stale, Rejection::Probe];
                assert!(!mended.contains(&rejection), "it is signed: {rejection}");
                saw(rejection.to_string())
            }
        }
    });
}

#[test]
fn nobody_can_make_an_answer_say_anything_else() {
    let account = account();
    let answers = VECTORS["requests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|request| &request["response"]);

    let seeds: Vec<_> = answers.map(input).collect();
    // As many seconds after the epoch as its first line says, so that only the signature can be
    // wrong.
    let read = |input: &[u8]| {
        let RawNotification { headers, body } = message(input)?;
        let signed_at = headers
            .get(SEAL[0])
            .and_then(|v| v.to_str().ok()?.parse().ok())
            .unwrap_or(0);
        let now = DateTime::from_timestamp(signed_at, 0)?;
        Some(Reply::verify(
            &account,
            &HttpAnswer {
                status: StatusCode::OK,
                headers,
                body,
            },
            now,
        ))
    };

    let done = |input: &[u8]| match read(input)? {
        Reply::Done(_, body) => Some(body),
        Reply::No(_) | Reply::Doubt(_) => None,
    };
    let genuine: Vec<Bytes> = seeds.iter().filter_map(|input| done(input)).collect();
    assert!(!genuine.is_empty());

    Fuzz {
        name: "wechatpay_answer",
        seeds,
        words: WORDS,
    }
    .run(|input| {
        if let Some(body) = done(input) {
            assert!(genuine.contains(&body), "it says {body:?}");
        }
        saw(read(input).map(|reply| match reply {
            Reply::Done(..) => "done".to_owned(),
            Reply::No(_) => "no".to_owned(),
            Reply::Doubt(failure) => failure.message,
        }))
    });
}

/// The promise holds for a method, an address, a time and a nonce without line ends: HTTP lets no
/// other ones through.
#[test]
fn what_we_sign_is_one_text_for_one_request_and_verifies() {
    let signer = Signer::from_text(key("merchant_private_key_pem")).unwrap();
    let verifier: Verifier = signer.verifier();
    let merchant = Merchant {
        mchid: key("mchid"),
        serial: key("merchant_serial"),
        signer: &signer,
    };

    let requests = VECTORS["requests"].as_array().unwrap().iter();
    let seeds: Vec<_> = requests
        .map(|request| {
            request["canonical_message"]
                .as_str()
                .unwrap()
                .as_bytes()
                .to_vec()
        })
        .collect();

    let words = &["\n", "\n\n", "\r\n", "\u{2028}", "\0", "?a=b", "%0A"];
    Fuzz {
        name: "wechatpay_canonical",
        seeds,
        words,
    }
    .run(|input| {
        let mut parts = input.splitn(5, |b| *b == b'\n');
        let mut line = || String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
        let (method, target, _, nonce) = (line(), line(), line(), line());
        let body = parts.next().unwrap_or_default();
        let message = request_message(&method, &target, "1780000000", &nonce, body);
        let mut back = message.splitn(5, |b| *b == b'\n');
        for part in [&method, &target, "1780000000", &nonce] {
            assert_eq!(back.next(), Some(part.as_bytes()));
        }
        assert_eq!(
            back.next().and_then(|rest| rest.strip_suffix(b"\n")),
            Some(body)
        );
        let answer = answer_message(&target, &nonce, body);
        assert!(message.ends_with(&answer[target.len()..]) && message != answer);
        let header = merchant.authorization(&method, &target, 1_780_000_000, &nonce, body);
        let signature = header
            .rsplit_once("signature=\"")
            .and_then(|(_, rest)| rest.split('"').next())
            .unwrap();
        verifier
            .verify(&message, signature)
            .expect("what we send verifies");
        assert!(
            verifier.verify(&answer, signature).is_err(),
            "a request's signature is no answer's"
        );
        assert_eq!(BASE64.decode(signature).unwrap().len(), 256);
        saw((
            method.len(),
            target.len() / 8,
            nonce.len() / 8,
            body.len() / 64,
        ))
    });
}
