//! What tells two requests apart: method, path and body as they are understood. The order of
//! members, blanks, escapes and the notation of numbers are a matter of who writes them down, and
//! of when.

use actix_web::HttpRequest;
use percent_encoding::percent_decode_str;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::auth::hex;
use super::body::RawBody;
use super::metadata::decimal;

/// How a fingerprint begins that is over the request as understood.
const UNDERSTOOD: &str = "2:";

/// SHA-256 of the request as it is understood: method, decoded path, and the body's values.
pub(super) fn understood(request: &HttpRequest, body: &RawBody) -> String {
    let mut hash = Sha256::new();
    text(&mut hash, request.method().as_str().as_bytes());
    text(
        &mut hash,
        &percent_decode_str(request.path()).collect::<Vec<u8>>(),
    );
    match serde_json::from_slice(&body.0) {
        Ok(read) => value(&mut hash, &read),
        // It will be refused; nothing is ever stored for it.
        Err(_) => text(&mut hash, &body.0),
    }
    format!("{UNDERSTOOD}{}", hex(&hash.finalize()))
}

/// SHA-256 of the request as it was sent, as the version before took it: method, path, and the
/// body's bytes.
pub(super) fn as_sent(request: &HttpRequest, body: &RawBody) -> String {
    let mut hash = Sha256::new();
    for part in [
        request.method().as_str().as_bytes(),
        request.path().as_bytes(),
        &body.0,
    ] {
        text(&mut hash, part);
    }
    hex(&hash.finalize())
}

/// Whether a stored fingerprint is over the request as understood.
pub(super) fn is_understood(stored: &str) -> bool {
    stored.starts_with(UNDERSTOOD)
}

/// Its length goes first: what belongs to one text is never taken for a part of the next.
fn text(hash: &mut Sha256, bytes: &[u8]) {
    hash.update(bytes.len().to_be_bytes());
    hash.update(bytes);
}

/// A value: what it is, how much belongs to it, and that.
fn value(hash: &mut Sha256, read: &Value) {
    match read {
        Value::Null => hash.update(b"n"),
        Value::Bool(true) => hash.update(b"t"),
        Value::Bool(false) => hash.update(b"f"),
        Value::Number(number) => {
            hash.update(b"d");
            text(hash, number_as_understood(&number.to_string()).as_bytes());
        }
        Value::String(words) => {
            hash.update(b"s");
            text(hash, words.as_bytes());
        }
        Value::Array(items) => {
            hash.update(b"a");
            hash.update(items.len().to_be_bytes());
            items.iter().for_each(|item| value(hash, item));
        }
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_unstable_by_key(|(name, _)| *name);
            hash.update(b"o");
            hash.update(members.len().to_be_bytes());
            for (name, member) in members {
                text(hash, name.as_bytes());
                value(hash, member);
            }
        }
    }
}

/// `1`, `1.0` and `10e-1` are one number, and so are the two zeros.
fn number_as_understood(written: &str) -> String {
    match decimal(written) {
        Some((_, digits, _)) if digits.is_empty() => "0".to_owned(),
        Some((is_negative, digits, exponent)) => {
            format!("{}{digits}e{exponent}", if is_negative { "-" } else { "" })
        }
        None => written.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn of(path: &str, body: &str) -> String {
        let request = TestRequest::post().uri(path).to_http_request();
        understood(&request, &RawBody(body.to_owned().into()))
    }

    #[test]
    fn however_it_is_written_it_is_the_same_request() {
        let first = of(
            "/v1/payments/pay_1/refunds",
            r#"{"amount":100,"m":{"a":[1,2.50,"茶"],"b":null,"z":-0.0}}"#,
        );
        for (path, body) in [
            (
                "/v1/payments/pay_1/refunds",
                r#" { "m" : {"z":0,"b":null, "a":[1.0 , 25e-1,"\u8336"] },"amount":100}"#,
            ),
            (
                "/v1/payments/pay%5f1/refunds",
                r#"{"amount":1.00e2,"m":{"a":[1,2.5,"茶"],"b":null,"z":0e5}}"#,
            ),
        ] {
            assert_eq!(of(path, body), first, "{path} {body}");
        }

        assert!(is_understood(&first) && first.len() == 66, "{first}");
    }

    #[test]
    fn whatever_means_something_else_is_another_request() {
        let bodies = [
            r#"{"a":1}"#,
            r#"{"a":2}"#,
            r#"{"a":-1}"#,
            r#"{"a":10}"#,
            r#"{"a":0.1}"#,
            r#"{"a":"1"}"#,
            r#"{"a":[1]}"#,
            r#"{"a":true}"#,
            r#"{"a":false}"#,
            r#"{"a":null}"#,
            r#"{"a":{}}"#,
            r#"{"a":[]}"#,
            r#"{"a":[[]]}"#,
            r#"{"a":[[],[]]}"#,
            r#"{"a":["b","c"]}"#,
            r#"{"a":["c","b"]}"#,
            r#"{"a":["bc"]}"#,
            r#"{"b":1}"#,
            r#"{"a":1,"b":1}"#,
            r#"{"a":{"b":1},"c":1}"#,
            r#"{"a":{"b":1,"c":1}}"#,
            r#"{"a":9007199254740993}"#,
            r#"{"a":9007199254740992}"#,
            r#"{"a":18446744073709551615}"#,
            "{}",
            "",
            "{",
            "[1]",
        ];
        let mut all: Vec<String> = bodies.iter().map(|body| of("/v1/payments", body)).collect();
        all.push(of("/v1/payment", "{}"));
        all.sort_unstable();
        let count = all.len();
        all.dedup();

        assert_eq!(all.len(), count);
    }

    /// A body that is deep or long costs no more than reading it.
    #[test]
    fn what_nobody_can_read_is_told_apart_by_its_bytes() {
        let deep = "[".repeat(60_000);
        assert_ne!(of("/", &deep), of("/", &deep[1..]));
    }
}
