//! Requests as bytes and answers as far as they can be believed. It knows signatures and shapes,
//! and never what an answer means for money: that is `outcome.rs`.

use std::borrow::Cow;

use bytes::Bytes;
use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Map, Value};

use super::codes::bare;
use super::config::Settings;
use super::reasons::REASONS;
use super::sign::{Envelope, string_to_sign, verify_node};
use crate::charset::{opaque, words};
use crate::http::{HttpAnswer, Request, SendError};
use crate::order::Call;
use crate::outcome::{Failure, FailureKind, WRONGLY_SIGNED};
use crate::signing::Verifier;

/// Alipay's clock is Beijing's, wherever we run; China has no summer time.
const BEIJING: TimeDelta = TimeDelta::hours(8);
const SECONDS: &str = "%Y-%m-%d %H:%M:%S";
/// Codes and messages of Alipay's are cut to this many characters before they are kept.
const MAX_MESSAGE_CHARS: usize = 200;

/// The calls of the open platform that we make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Precreate,
    Pay,
    Query,
    Close,
    Cancel,
    Refund,
    RefundQuery,
}

impl Method {
    /// As in the parameter `method`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Precreate => "alipay.trade.precreate",
            Self::Pay => "alipay.trade.pay",
            Self::Query => "alipay.trade.query",
            Self::Close => "alipay.trade.close",
            Self::Cancel => "alipay.trade.cancel",
            Self::Refund => "alipay.trade.refund",
            Self::RefundQuery => "alipay.trade.fastpay.refund.query",
        }
    }
}

/// The member of an answer that holds what `method` says.
pub(super) fn node_name(method: &str) -> String {
    format!("{}_response", method.replace('.', "_"))
}

/// A time as Alipay writes it.
pub(super) fn beijing_time(time: DateTime<Utc>) -> String {
    (time + BEIJING).format(SECONDS).to_string()
}

/// Reads a time as Alipay writes it; some notifications add milliseconds.
pub(super) fn from_beijing_time(text: &str) -> Option<DateTime<Utc>> {
    let naive = NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f").ok()?;
    Some((naive - BEIJING).and_utc())
}

/// A signed request: common parameters in the query string and `biz_content` in the body, as the
/// official SDKs send them. `notify_url` is a common parameter in this version of the protocol.
pub(super) fn request(
    settings: &Settings,
    method: Method,
    biz_content: &Value,
    notify_url: Option<&str>,
    call: &Call,
) -> Request {
    let timestamp = beijing_time(call.now);
    let biz_content = biz_content.to_string();
    let mut common = vec![
        ("app_id", settings.app_id.as_str()),
        ("method", method.name()),
        ("format", "JSON"),
        ("charset", "utf-8"),
        ("sign_type", "RSA2"),
        ("timestamp", timestamp.as_str()),
        ("version", "1.0"),
    ];

    // An empty parameter is never sent: SDKs disagree whether it is signed.
    common.extend(
        notify_url
            .filter(|url| !url.is_empty())
            .map(|url| ("notify_url", url)),
    );

    let body = ("biz_content", biz_content.as_str());
    let signature = settings
        .app_key
        .sign(string_to_sign(common.iter().copied().chain([body])).as_bytes());
    let query = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(common)
        .append_pair("sign", &signature)
        .finish();
    let body = form_urlencoded::Serializer::new(String::new())
        .append_pair(body.0, body.1)
        .finish();
    let content_type = HeaderValue::from_static("application/x-www-form-urlencoded;charset=utf-8");

    Request {
        method: http::Method::POST,
        target: format!("/gateway.do?{query}"),
        headers: HeaderMap::from_iter([(header::CONTENT_TYPE, content_type)]),
        body: Bytes::from(body),
        timeout: call.timeout,
    }
}

/// What came back, as far as it can be believed.
#[derive(Debug, Clone)]
pub(super) enum Reply {
    /// No whole answer.
    NoAnswer(SendError),
    /// Alipay's signature holds over it.
    Signed(Node),
    /// It carries no signature. Good for a closed list of refusals, never for anything about money.
    Unsigned(Node),
    /// An answer, but not one to believe: not HTTP 200, garbled, or wrongly signed.
    Unbelievable(Failure),
}

/// The object inside an answer.
#[derive(Debug, Clone)]
pub(super) struct Node(Map<String, Value>);

impl Node {
    /// From the members of an object, whatever charset they came in.
    pub(super) fn new(mut members: Map<String, Value>) -> Self {
        for member in members.values_mut() {
            if let Value::String(text) = member
                && let Cow::Owned(decoded) = words(text)
            {
                *text = decoded;
            }
        }
        Self(members)
    }

    /// A member that is a text and not empty.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0
            .get(name)
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
    }

    /// The result code: `10000`, `40004` …
    pub(super) fn code(&self) -> &str {
        self.text("code").unwrap_or_default()
    }

    /// The failure that this answer describes, in its own words, as `kind`.
    pub(super) fn failure(&self, kind: FailureKind) -> Failure {
        let code = self
            .text("sub_code")
            .or(self.text("code"))
            .unwrap_or("no_code");
        let message = self
            .text("sub_msg")
            .or(self.text("msg"))
            .unwrap_or_default();
        Failure::new(kind, cut(code), cut(message)).because(REASONS.of(&bare(code)))
    }
}

fn cut(text: &str) -> String {
    text.chars().take(MAX_MESSAGE_CHARS).collect()
}

/// Reads the answer to `method`: HTTP 200, one node, and the signature over its raw text.
pub(super) fn reply(
    key: &Verifier,
    method: Method,
    answer: Result<&HttpAnswer, SendError>,
) -> Reply {
    let answer = match answer {
        Ok(answer) => answer,
        Err(undelivered) => return Reply::NoAnswer(undelivered),
    };

    // The gateway says everything, errors too, with 200: another status comes from something in
    // between.
    if answer.status != StatusCode::OK {
        let kind = match answer.status {
            StatusCode::TOO_MANY_REQUESTS => FailureKind::RateLimited,
            status if status.is_server_error() => FailureKind::ServerError,
            _ => FailureKind::Incompatible,
        };
        let code = format!("http_{}", answer.status.as_u16());
        return Reply::Unbelievable(Failure::new(
            kind,
            code,
            "the gateway itself always answers 200",
        ));
    }

    believe(key, method, &answer.body).unwrap_or_else(|(code, message)| {
        Reply::Unbelievable(Failure::new(FailureKind::Incompatible, code, message))
    })
}

/// As [`reply`], from the body of an answer with status 200; an error is a code and a message.
fn believe(
    key: &Verifier,
    method: Method,
    body: &[u8],
) -> Result<Reply, (&'static str, &'static str)> {
    let body = opaque(body);
    let envelope =
        Envelope::read(&body).ok_or(("garbled", "not an object whose members differ"))?;
    let text = match (
        envelope.text(&node_name(method.name())),
        envelope.text("error_response"),
    ) {
        (Some(own), None) => own,
        (None, Some(error)) => error,
        (None, None) => return Err(("no_node", "the answer to this call is not in it")),
        (Some(_), Some(_)) => return Err(("two_nodes", "an answer and an error at once")),
    };

    let node = serde_json::from_str(text)
        .map(Node::new)
        .map_err(|_| ("garbled", "the node is not an object"))?;
    match envelope.signature() {
        Some(signature) => verify_node(key, text, &signature)
            .map(|()| Reply::Signed(node))
            .map_err(|_| (WRONGLY_SIGNED, "the signature does not hold")),
        None => Ok(Reply::Unsigned(node)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beijing_times_are_written_and_read_with_and_without_milliseconds() {
        let time = DateTime::parse_from_rfc3339("2025-12-31T23:59:59Z")
            .unwrap()
            .to_utc();
        assert_eq!(beijing_time(time), "2026-01-01 07:59:59");
        assert_eq!(from_beijing_time("2026-01-01 07:59:59"), Some(time));
        assert_eq!(
            from_beijing_time("2026-01-01 07:59:59.123"),
            Some(time + TimeDelta::milliseconds(123))
        );
        assert_eq!(from_beijing_time("2026-01-01"), None);
    }

    /// The second byte of 乗 is a backslash, and with the slash behind it looks like an escaped one.
    #[test]
    fn an_answer_in_gbk_is_verified_over_its_bytes_and_read() {
        let keys = (super::super::simulator::SIMULATOR.make_keys)().unwrap();
        let signer =
            crate::signing::Signer::from_text(keys["alipay_private_key"].as_str().unwrap())
                .unwrap();
        let text = r#"{"code":"40004","msg":"Business Failed","sub_code":"ACQ.ACCESS_FORBIDDEN","sub_msg":"无权限乗/\"丂{"}"#;
        let node = encoding_rs::GB18030.encode(text).0.into_owned();
        let answer = |signature: &str| {
            let begin = br#"{"alipay_trade_pay_response":"#.as_slice();
            let body = [
                begin,
                &node,
                format!(r#","sign":"{signature}"}}"#).as_bytes(),
            ]
            .concat();
            HttpAnswer {
                status: StatusCode::OK,
                headers: HeaderMap::new(),
                body: Bytes::from(body),
            }
        };

        let said = |reply: Reply| match reply {
            Reply::Signed(node) => Some(node.failure(FailureKind::Account)),
            Reply::Unsigned(_) | Reply::NoAnswer(_) | Reply::Unbelievable(_) => None,
        };

        let failure = said(reply(
            &signer.verifier(),
            Method::Pay,
            Ok(&answer(&signer.sign(&node))),
        ))
        .unwrap();
        assert_eq!(
            (failure.code.as_str(), failure.message.as_str()),
            ("ACQ.ACCESS_FORBIDDEN", "无权限乗/\"丂{")
        );

        let other = signer.sign(text.as_bytes());
        assert!(
            said(reply(&signer.verifier(), Method::Pay, Ok(&answer(&other)))).is_none(),
            "other bytes"
        );
        assert!(matches!(
            reply(&signer.verifier(), Method::Pay, Ok(&answer(""))),
            Reply::Unsigned(_)
        ));
    }

    #[test]
    fn a_node_is_named_after_its_method() {
        assert_eq!(
            node_name(Method::RefundQuery.name()),
            "alipay_trade_fastpay_refund_query_response"
        );
    }
}
