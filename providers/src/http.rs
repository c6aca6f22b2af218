//! The HTTP client that adapters share. It knows one thing that clients usually do not tell: whether a request
//! can have reached the provider. "Never sent" lets a payment go elsewhere; anything else must be asked about.
//!
//! It never repeats a request, never follows a redirect and takes no proxy from the environment: each of these
//! could send a request twice, or to somebody else.

use std::error::Error as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use http_body::{Body, Frame, SizeHint};

use crate::outcome::{Failure, FailureKind};

/// The largest answer that is read.
const MAX_ANSWER_BYTES: usize = 1 << 20;
/// Connections are given this long; a whole call has its own, longer time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Shorter than any provider's keep-alive, so that we rarely write into a connection that is being closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);

/// A request, complete: the adapter has signed exactly these bytes.
#[derive(Debug, Clone)]
pub struct Request {
    /// GET or POST.
    pub method: Method,
    /// Path and query as signed, beginning with `/`.
    pub target: String,
    /// Headers beside `Content-Length` and `Host`.
    pub headers: HeaderMap,
    /// The body; empty for GET.
    pub body: Bytes,
    /// The whole call ends by then.
    pub timeout: Duration,
}

/// An answer that came in whole: its length was checked.
#[derive(Debug, Clone)]
pub struct HttpAnswer {
    /// HTTP status.
    pub status: StatusCode,
    /// All headers.
    pub headers: HeaderMap,
    /// The raw body: signatures are over it.
    pub body: Bytes,
}

impl HttpAnswer {
    /// A header as text, or nothing when it is missing or not ASCII.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|v| v.to_str().ok())
    }
}

/// Why there is no whole answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Undelivered {
    /// The provider cannot have seen the request: nothing of its body was ever taken up, or the connection
    /// never stood.
    NotSent(Failure),
    /// It may have.
    Unknown(Failure),
}

/// A client for one account at one base address.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
}

/// A base address that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an http or https address: {0}")]
pub struct BadBaseUrl(String);

impl Client {
    /// A client for `base` (scheme, host, port; no path).
    ///
    /// # Errors
    /// [`BadBaseUrl`] when `base` is not such an address or TLS cannot be set up.
    pub fn new(base: &str) -> Result<Self, BadBaseUrl> {
        let url = reqwest::Url::parse(base).map_err(|e| BadBaseUrl(e.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(BadBaseUrl(base.chars().take(64).collect()));
        }
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .http1_only()
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .tcp_nodelay(true)
            .build()
            .map_err(|e| BadBaseUrl(e.to_string()))?;
        Ok(Self { http, base: base.trim_end_matches('/').to_owned() })
    }

    /// Sends a request once and reads the whole answer.
    ///
    /// # Errors
    /// [`Undelivered`], which says whether the provider can have seen it.
    pub async fn send(&self, request: Request) -> Result<HttpAnswer, Undelivered> {
        let touched = Arc::new(AtomicBool::new(false));
        let has_body = !request.body.is_empty();
        let mut builder = self
            .http
            .request(request.method, format!("{}{}", self.base, request.target))
            .headers(request.headers)
            .timeout(request.timeout);
        if has_body {
            builder = builder
                .body(reqwest::Body::wrap(WatchedBody { rest: Some(request.body), touched: Arc::clone(&touched) }));
        }
        let response = builder.send().await.map_err(|e| {
            // Without a body there is nothing to watch: only a connection that never stood proves anything.
            let untouched = has_body && !touched.load(Ordering::SeqCst);
            undelivered(&e, untouched || e.is_connect())
        })?;
        read(response).await
    }
}

async fn read(mut response: reqwest::Response) -> Result<HttpAnswer, Undelivered> {
    let unknown =
        |code: &str, message: String| Undelivered::Unknown(Failure::new(FailureKind::Incompatible, code, message));
    let status = response.status();
    let headers = response.headers().clone();
    let bodiless = status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED;
    let chunked = headers.get(header::TRANSFER_ENCODING).is_some_and(is_chunked);
    if !bodiless && !chunked && response.content_length().is_none() {
        // Such a body ends when the connection does, so a cut one looks whole.
        return Err(unknown("no_length", format!("HTTP {status} without a length: cannot tell whether it is whole")));
    }
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() > MAX_ANSWER_BYTES => {
                return Err(unknown("too_long", format!("HTTP {status} with more than {MAX_ANSWER_BYTES} bytes")));
            }
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => break,
            Err(e) => return Err(undelivered(&e, false)),
        }
    }
    Ok(HttpAnswer { status, headers, body: body.into() })
}

fn is_chunked(value: &HeaderValue) -> bool {
    value.to_str().is_ok_and(|v| v.trim().eq_ignore_ascii_case("chunked"))
}

fn undelivered(error: &reqwest::Error, never_left: bool) -> Undelivered {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        message = format!("{message}: {cause}");
        source = cause.source();
    }
    let failure = if error.is_timeout() {
        Failure::new(FailureKind::Timeout, "timeout", message)
    } else if error.is_connect() {
        Failure::new(FailureKind::Network, "connect", message)
    } else {
        Failure::new(FailureKind::Network, "connection_lost", message)
    };
    if never_left { Undelivered::NotSent(failure) } else { Undelivered::Unknown(failure) }
}

/// A body that remembers whether anybody began to read it. It cannot be cloned, so nobody can send it twice.
struct WatchedBody {
    rest: Option<Bytes>,
    touched: Arc<AtomicBool>,
}

impl Body for WatchedBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        self.touched.store(true, Ordering::SeqCst);
        Poll::Ready(self.rest.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.as_ref().map_or(0, |b| u64::try_from(b.len()).unwrap_or(u64::MAX)))
    }
}
