//! What merchants send, under odd and hostile input: bodies are read strictly or refused with a
//! problem that names a member. What providers send is fuzzed where it is read, in
//! `providers/src/*/fuzz.rs`, by the same driver.

#[path = "fuzz/driver.rs"]
mod driver;

use interlock::api::accounts::CreateAccount;
use interlock::api::body::RawBody;
use interlock::api::new_payment::CreatePayment;
use interlock::api::refunds::CreateRefund;
use interlock::api::webhooks::CreateEndpoint;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use self::driver::{Fuzz, saw};
use crate::helpers::{barcode, order};

const WORDS: &[&str] = &[
    "\"amount\":1",
    "\"amount\":1e2",
    "\"amount\":9223372036854775808",
    "\"order_id\":\"\\u0000\"",
    "\"\\u0061mount\":2",
    "\"metadata\":{\"a\":{\"a\":1}}",
    ",\"amount\":-0",
    "null",
    "[[[[[[[[[[[[[[[[",
    "\\ud800",
    "\u{feff}",
    "{}",
    "1.0",
    " ",
];

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, (u16, String)> {
    RawBody(bytes::Bytes::copy_from_slice(body))
        .json::<T>()
        .map_err(|problem| {
            assert!([400, 422].contains(&problem.status), "{problem:?}");
            (
                problem.status,
                problem.param.expect("the member at fault is named"),
            )
        })
}

/// No object has a member twice, by another way of looking than the code's own: every member that
/// is written is there.
fn has_every_member(text: &str, value: &Value) -> bool {
    fn members(value: &Value) -> usize {
        match value {
            Value::Object(map) => map.len() + map.values().map(members).sum::<usize>(),
            Value::Array(list) => list.iter().map(members).sum(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
        }
    }

    // Outside of strings each member has one colon.
    let (mut colons, mut quoted, mut escaped) = (0, false, false);
    for c in text.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ':' if !quoted => colons += 1,
            _ => {}
        }
    }

    members(value) == colons
}

#[test]
fn a_body_is_read_strictly_or_refused_by_the_name_of_a_member() {
    let bodies = [
        order(),
        barcode("alipay", 0),
        json!({"amount": 1, "merchant_refund_no": "r1", "reason": "returned"}),
        json!({"provider": "alipay", "name": "shop",
            "credentials": {"app_id": "1", "app_private_key": "x"}}),
        json!({"url": "https://example.com/hook", "events": ["payment.succeeded"]}),
        json!({"metadata": {"a": [1, 2.5, null, true, {"b": "c"}]}}),
    ];

    let seeds = bodies
        .iter()
        .map(|body| body.to_string().into_bytes())
        .collect();

    Fuzz {
        name: "api_body",
        seeds,
        words: WORDS,
    }
    .run(|body| {
        let any = read::<Value>(body);
        let seen = [
            read::<CreatePayment>(body).map(drop),
            read::<CreateRefund>(body).map(drop),
            read::<CreateAccount>(body).map(drop),
            read::<CreateEndpoint>(body).map(drop),
        ];
        match &any {
            Ok(value) => {
                let text = std::str::from_utf8(body).expect("what was read is text");
                assert!(
                    has_every_member(text, value),
                    "a member that comes twice was read"
                );
                assert_eq!(
                    read::<Value>(value.to_string().as_bytes()).as_ref(),
                    Ok(value),
                    "it reads as it is written"
                );
            }
            Err(_) => assert!(
                seen.iter().all(Result::is_err),
                "no strict JSON, and read all the same"
            ),
        }
        saw((seen, any.map(|value| value.to_string().len() / 16)))
    });
}
