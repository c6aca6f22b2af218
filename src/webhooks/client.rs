//! One try of telling a merchant. Follows no redirect, takes no proxy from the environment, repeats
//! nothing, reads little and waits briefly: the other side is anybody.
//!
//! How it can end is [`End`]. Only a verified "received" ends a delivery; after everything that may
//! or may not have arrived, it is told again, under the same `webhook-id`.

use std::error::Error as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::DateTime;
use providers::address::Url;
use providers::http::client_builder;
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER, USER_AGENT};
use reqwest::{RequestBuilder, Response, StatusCode};

use super::message::Message;
use super::sign::Secrets;
use crate::domain::Timestamp;
use crate::domain::webhook::{End, Mode};
use crate::guard::{Forbidden, Guard, GuardedResolver, Lookup};
use crate::store::EndpointRow;
use crate::vault::{Vault, VaultError};

/// The most that is read of an answer.
const MAX_ANSWER_BYTES: usize = 64 << 10;
/// The most that is kept of it, for the log.
const MAX_KEPT_BYTES: usize = 1 << 10;
/// Receivers close idle connections when they like; what they kept open is used for a burst, not
/// for a day.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// A message, signed and ready.
#[derive(Debug, Clone)]
pub struct SignedRequest {
    /// Where to.
    pub url: String,
    /// What counts as received.
    pub mode: Mode,
    /// `webhook-id`.
    pub id: String,
    /// `webhook-timestamp`: when this try is made.
    pub at: Timestamp,
    /// `webhook-signature`.
    pub signature: String,
    /// What it says.
    pub body: Vec<u8>,
}

impl SignedRequest {
    /// A message to an endpoint, sent at `now`.
    ///
    /// # Errors
    /// [`VaultError`] when the endpoint's secret cannot be opened.
    pub fn to_endpoint(
        vault: &Vault,
        endpoint: &EndpointRow,
        message: &Message,
        now: Timestamp,
    ) -> Result<Self, VaultError> {
        let secrets = Secrets::open(vault, &endpoint.id, &endpoint.secrets, now)?;
        Ok(Self::signed(
            &secrets,
            endpoint.url.clone(),
            endpoint.mode,
            message,
            now,
        ))
    }

    /// A message to any address, signed with these secrets at `now`.
    #[must_use]
    pub fn signed(
        secrets: &Secrets,
        url: String,
        mode: Mode,
        message: &Message,
        now: Timestamp,
    ) -> Self {
        let body = message.body();
        let signature = secrets.signature(&message.id, now.0.div_euclid(1000), &body);
        Self {
            url,
            mode,
            id: message.id.clone(),
            at: now,
            signature,
            body,
        }
    }
}

/// What came of one try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Try {
    /// How it ended.
    pub end: End,
    /// HTTP status, if there was one.
    pub status: Option<u16>,
    /// From the beginning of the try to its end.
    pub latency_ms: i64,
    /// The beginning of the receiver's answer, or what went wrong on the way.
    pub answer: Option<String>,
    /// How long the receiver wants to be left alone.
    pub retry_after_s: Option<i64>,
}

/// Sends webhooks. Shared by cloning.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    guard: Arc<Guard>,
    timeout: Duration,
}

/// The machine's TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error("webhooks cannot be sent: {0}")]
pub struct NoClient(String);

impl Client {
    /// A client that goes where `guard` lets it. A try takes `timeout` at the most, connecting
    /// `connect_timeout`.
    ///
    /// # Errors
    /// [`NoClient`].
    pub fn new(
        guard: Guard,
        lookup: Arc<dyn Lookup>,
        timeout: Duration,
        connect_timeout: Duration,
    ) -> Result<Self, NoClient> {
        let guard = Arc::new(guard);
        let http = client_builder()
            .map_err(NoClient)?
            .dns_resolver(GuardedResolver {
                guard: Arc::clone(&guard),
                lookup,
            })
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .http1_only()
            .connect_timeout(connect_timeout)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .tcp_nodelay(true)
            .build()
            .map_err(|e| NoClient(e.to_string()))?;

        Ok(Self {
            http,
            guard,
            timeout,
        })
    }

    /// Where this client may go.
    #[must_use]
    pub fn guard(&self) -> &Guard {
        &self.guard
    }

    /// Tries once.
    pub async fn send(&self, signed: SignedRequest) -> Try {
        let began = Instant::now();
        let done = self.exchange(signed, began + self.timeout).await;
        Try {
            latency_ms: i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX),
            ..done
        }
    }

    /// Posts JSON to an address that the operator has chosen, unsigned. Any status from 200 to 299
    /// counts as received: what the answer says is for the caller to judge.
    pub async fn post(&self, address: &str, body: Vec<u8>, now: Timestamp) -> Try {
        let began = Instant::now();
        let done = match self.guard.check(address) {
            Ok(url) => {
                let request = self.request(url).body(body);
                ask(request, Mode::Standard, now, began + self.timeout).await
            }
            Err(forbidden) => {
                Try::without_answer(End::ForbiddenAddress, &format!("the address {forbidden}"))
            }
        };
        Try {
            latency_ms: i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX),
            ..done
        }
    }

    fn request(&self, url: Url) -> RequestBuilder {
        self.http
            .post(url)
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, concat!("Interlock/", env!("CARGO_PKG_VERSION")))
    }

    async fn exchange(&self, signed: SignedRequest, deadline: Instant) -> Try {
        let url = match self.guard.check_stored(&signed.url) {
            Ok(url) => url,
            Err(forbidden) => {
                return Try::without_answer(
                    End::ForbiddenAddress,
                    &format!("the address {forbidden}"),
                );
            }
        };

        let request = self
            .request(url)
            .header("webhook-id", signed.id)
            .header("webhook-timestamp", signed.at.0.div_euclid(1000))
            .header("webhook-signature", signed.signature)
            .body(signed.body);

        ask(request, signed.mode, signed.at, deadline).await
    }
}

async fn ask(request: RequestBuilder, mode: Mode, now: Timestamp, deadline: Instant) -> Try {
    match tokio::time::timeout_at(deadline.into(), request.send()).await {
        Ok(Ok(response)) => answered(response, mode, now, deadline).await,
        // An address may be as good as a password.
        Ok(Err(error)) => failed(&error.without_url()),
        Err(_) => Try::without_answer(End::Timeout, "no answer in time"),
    }
}

impl Try {
    fn without_answer(end: End, why: &str) -> Self {
        Self {
            end,
            status: None,
            latency_ms: 0,
            answer: Some(why.to_owned()),
            retry_after_s: None,
        }
    }
}

/// The receiver has answered; in standard mode the status alone decides, however its body ends.
async fn answered(response: Response, mode: Mode, now: Timestamp, deadline: Instant) -> Try {
    let status = response.status();
    let header = response
        .headers()
        .get(RETRY_AFTER)
        .and_then(|v| v.to_str().ok())
        .map(str::to_owned);

    let mut body = Vec::new();
    // A body that drips does not take a good status back.
    let _ = tokio::time::timeout_at(deadline.into(), read(response, &mut body)).await;
    let text = String::from_utf8_lossy(&body);
    let end = match (status, mode) {
        (StatusCode::GONE, _) => End::Gone,
        (status, Mode::Standard) if status.is_success() => End::Delivered,
        (status, Mode::SuccessBody) if status.is_success() => {
            match text.trim().eq_ignore_ascii_case("success") {
                true => End::Delivered,
                false => End::WrongBody,
            }
        }
        (_, Mode::Standard | Mode::SuccessBody) => End::HttpStatus,
    };

    Try {
        end,
        status: Some(status.as_u16()),
        latency_ms: 0,
        answer: kept(&text),
        retry_after_s: header.and_then(|text| retry_after_s(&text, now)),
    }
}

async fn read(mut response: Response, body: &mut Vec<u8>) {
    while let Ok(Some(chunk)) = response.chunk().await {
        let room = MAX_ANSWER_BYTES.saturating_sub(body.len());
        body.extend(chunk.iter().take(room));
        if chunk.len() >= room {
            return;
        }
    }
}

/// What the log keeps: no control characters, of which PostgreSQL could not store all.
fn kept(text: &str) -> Option<String> {
    let mut kept = String::new();
    for c in text
        .trim()
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
    {
        if kept.len() + c.len_utf8() > MAX_KEPT_BYTES {
            break;
        }
        kept.push(c);
    }
    (!kept.is_empty()).then_some(kept)
}

/// Seconds, or an HTTP date; what is neither is no wish.
fn retry_after_s(text: &str, now: Timestamp) -> Option<i64> {
    let text = text.trim();
    if let Ok(seconds) = text.parse::<i64>() {
        return Some(seconds.max(0));
    }
    let at = DateTime::parse_from_rfc2822(text).ok()?;
    Some(
        Timestamp(at.timestamp_millis())
            .since(now)
            .max(0)
            .div_euclid(1000),
    )
}

/// There is no answer. A total timeout is told by whoever waits for it.
fn failed(error: &reqwest::Error) -> Try {
    let mut source = error.source();
    let mut last = error.to_string();

    while let Some(cause) = source {
        if let Some(forbidden) = cause.downcast_ref::<Forbidden>() {
            return Try::without_answer(End::ForbiddenAddress, &format!("the address {forbidden}"));
        }
        last = cause.to_string();
        source = cause.source();
    }

    let end = match (error.is_connect(), error.is_timeout()) {
        (true, _) => End::Unreachable,
        (false, true) => End::Timeout,
        (false, false) => End::Broken,
    };

    Try {
        answer: kept(&last),
        ..Try::without_answer(end, "")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = Timestamp(1_445_412_400_000);
        for (text, wish) in [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("-5", Some(0)),
            ("Wed, 21 Oct 2015 07:28:00 GMT", Some(80)),
            ("Wed, 21 Oct 2015 07:20:00 GMT", Some(0)),
            ("soon", None),
            ("1.5", None),
        ] {
            assert_eq!(retry_after_s(text, now), wish, "{text}");
        }
    }

    #[test]
    fn what_is_kept_is_short_and_has_no_control_characters() {
        assert_eq!(kept(" a\0b\nc "), Some("a b c".to_owned()));
        assert_eq!(kept(" \n"), None);
        assert_eq!(kept(&"谢".repeat(1000)).unwrap().len(), 1023);
    }
}
