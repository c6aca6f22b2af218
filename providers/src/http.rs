//! The HTTP client that adapters share. It knows one thing that clients usually do not tell:
//! whether a request can have reached the provider. "Never sent" lets a payment go elsewhere;
//! anything else must be asked about.
//!
//! It never repeats a request, never follows a redirect and takes no proxy from the environment:
//! each of these could send a request twice, or to somebody else. Where it may connect is not its
//! business: whoever opens an account hands in a [`Way`].

use std::error::Error as _;
use std::fmt;
use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use reqwest::dns::{Name, Resolve, Resolving};
use rustix::io::Errno;
use rustls_platform_verifier::BuilderVerifierExt;

use crate::address::{self, Url};
use crate::outcome::{ADDRESS_NOT_ALLOWED, Failure, FailureKind, NO_ROOM};

/// The largest answer that is read.
const MAX_ANSWER_BYTES: usize = 1 << 20;
/// Connections are given this long; a whole call has its own, longer time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Shorter than any provider's keep-alive, so that we rarely write into a connection that is being
/// closed.
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
pub enum SendError {
    /// The provider cannot have seen the request: nothing of its body was ever taken up, or the
    /// connection never stood.
    NotSent(Failure),
    /// It may have.
    Unknown(Failure),
}

/// Who says where a client may connect: names are looked up by it, so that what was checked is what
/// is connected.
pub trait Guard: Resolve + fmt::Debug {
    /// Whether this address may be connected to.
    fn may_connect(&self, ip: IpAddr) -> bool;
}

/// How a client gets out.
#[derive(Debug, Clone)]
pub enum Way {
    /// Anywhere, by the system's resolver: for a sandbox of one's own, and for tests.
    Open,
    /// Only where this guard lets it.
    Guarded(Arc<dyn Guard>),
    /// Nowhere: every request ends as "not sent", before anything is looked up or connected. For an
    /// account whose address is not allowed: what arrives for it can still be read.
    Barred,
}

/// Whom TLS trusts: what this machine does.
static TLS: LazyLock<Result<rustls::ClientConfig, String>> = LazyLock::new(|| {
    let crypto = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(crypto)
        .with_safe_default_protocol_versions()
        .and_then(BuilderVerifierExt::with_platform_verifier)
        .map_err(|e| e.to_string())?
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(tls)
});

/// The beginning of every client: no proxy, HTTP/1.1, and the certificates that this machine
/// trusts, which are read once for all of them. That takes as long as many signatures.
///
/// # Errors
/// Why they cannot be read.
pub fn client_builder() -> Result<reqwest::ClientBuilder, String> {
    let tls = TLS.as_ref().map_err(Clone::clone)?;
    Ok(reqwest::Client::builder()
        .no_proxy()
        .tls_backend_preconfigured(tls.clone()))
}

/// The same for plain http alone: nobody is trusted.
pub fn plain_client_builder() -> reqwest::ClientBuilder {
    reqwest::Client::builder().no_proxy().tls_certs_only([])
}

/// The `Date` of an answer, in whole seconds. It is signed nowhere: it is for people, and decides
/// about no money.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeTold {
    /// What the other clock showed.
    pub date: DateTime<Utc>,
    /// When that was heard.
    pub heard: Instant,
}

impl TimeTold {
    /// How far the other clock is ahead of one that shows `now`.
    #[must_use]
    pub fn ahead(&self, now: DateTime<Utc>) -> TimeDelta {
        let since = TimeDelta::from_std(self.heard.elapsed()).unwrap_or(TimeDelta::MAX);
        // In the middle of its second.
        let then = self
            .date
            .checked_add_signed(TimeDelta::milliseconds(500))
            .unwrap_or(self.date);
        then.signed_duration_since(now)
            .checked_add(&since)
            .unwrap_or(TimeDelta::MAX)
    }
}

/// A client for one account at one base address.
#[derive(Debug, Clone)]
pub struct Client {
    /// None on the way that is barred.
    http: Option<reqwest::Client>,
    base: String,
    told: Arc<Mutex<Option<TimeTold>>>,
}

/// A base address that cannot be used. It is not repeated: people put keys into wrong members.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadBaseUrl {
    /// It is none, or more than one.
    #[error(
        "not an http or https address of a scheme, a host and perhaps a port, and nothing else"
    )]
    Shape,
    /// It leads where the guard does not let anybody.
    #[error("leads to an address that may not be connected to")]
    Forbidden,
    /// TLS cannot be set up.
    #[error("no HTTP client: {0}")]
    NoClient(String),
}

/// A base address as it is used: scheme, host and port. Whatever else an address may hold (a path,
/// a query that swallows the path behind it) makes it no base address.
///
/// # Errors
/// [`BadBaseUrl::Shape`].
pub fn base_address(text: &str) -> Result<Url, BadBaseUrl> {
    let url = address::read(text).map_err(|_| BadBaseUrl::Shape)?;
    let (_, rest) = address::trimmed(text)
        .split_once("://")
        .ok_or(BadBaseUrl::Shape)?;
    let place = rest.strip_suffix('/').unwrap_or(rest);
    // A dot that walks up a path leaves none behind: what was written decides.
    if place.contains(['/', '?', '%']) {
        Err(BadBaseUrl::Shape)
    } else {
        Ok(url)
    }
}

/// Asks the guard for names.
struct Guarded(Arc<dyn Guard>);

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        self.0.resolve(name)
    }
}

impl Client {
    /// A client for `base` (scheme, host, port; nothing else).
    ///
    /// # Errors
    /// [`BadBaseUrl`].
    pub fn new(base: &str, way: &Way) -> Result<Self, BadBaseUrl> {
        let url = base_address(base)?;
        let base = url.origin().ascii_serialization();
        let mut builder = match url.scheme() {
            "https" => client_builder().map_err(BadBaseUrl::NoClient)?,
            _ => plain_client_builder(),
        };

        match way {
            Way::Open => {}
            Way::Barred => {
                return Ok(Self {
                    http: None,
                    base,
                    told: Arc::default(),
                });
            }
            Way::Guarded(guard) => {
                // A resolver is asked about names alone.
                let host = url.host_str().unwrap_or_default();
                let literal: Option<IpAddr> = host.trim_matches(['[', ']']).parse().ok();
                if literal.is_some_and(|ip| !guard.may_connect(ip)) {
                    return Err(BadBaseUrl::Forbidden);
                }
                builder = builder.dns_resolver(Guarded(Arc::clone(guard)));
            }
        }

        let http = builder
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .http1_only()
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .tcp_nodelay(true)
            .build()
            .map_err(|e| BadBaseUrl::NoClient(e.to_string()))?;

        Ok(Self {
            http: Some(http),
            base,
            told: Arc::default(),
        })
    }

    /// Where it sends requests to.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    /// What the last answer with a `Date` said of the time.
    #[must_use]
    pub fn time_told(&self) -> Option<TimeTold> {
        *self.told.lock()
    }

    /// Sends a request once and reads the whole answer.
    ///
    /// # Errors
    /// [`SendError`], which says whether the provider can have seen it.
    pub async fn send(&self, request: Request) -> Result<HttpAnswer, SendError> {
        let touched = Arc::new(AtomicBool::new(false));
        let has_body = !request.body.is_empty();
        let http = self.http.as_ref().ok_or_else(barred)?;
        let mut builder = http
            .request(request.method, format!("{}{}", self.base, request.target))
            .headers(request.headers)
            .timeout(request.timeout);

        if has_body {
            builder = builder.body(reqwest::Body::wrap(WatchedBody {
                rest: Some(request.body),
                touched: Arc::clone(&touched),
            }));
        }

        let response = builder.send().await.map_err(|e| {
            // Without a body there is nothing to watch: only a connection that never stood proves
            // anything.
            let untouched = has_body && !touched.load(Ordering::SeqCst);
            undelivered(&e, untouched || e.is_connect())
        })?;
        let date = response
            .headers()
            .get(header::DATE)
            .and_then(|date| date.to_str().ok());

        if let Some(date) = date.and_then(|date| DateTime::parse_from_rfc2822(date).ok()) {
            let told = TimeTold {
                date: date.to_utc(),
                heard: Instant::now(),
            };
            *self.told.lock() = Some(told);
        }

        read(response).await
    }
}

/// Says nothing about the provider: it was not asked.
fn barred() -> SendError {
    let message = "the account's address is not one that accounts may have: nothing was sent";
    SendError::NotSent(Failure::new(
        FailureKind::Account,
        ADDRESS_NOT_ALLOWED,
        message,
    ))
}

async fn read(mut response: reqwest::Response) -> Result<HttpAnswer, SendError> {
    let unknown = |code: &str, message: String| {
        SendError::Unknown(Failure::new(FailureKind::Incompatible, code, message))
    };
    let status = response.status();
    let headers = response.headers().clone();
    let bodiless = status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED;
    let chunked = headers
        .get(header::TRANSFER_ENCODING)
        .is_some_and(is_chunked);

    if !bodiless && !chunked && response.content_length().is_none() {
        // Such a body ends when the connection does, so a cut one looks whole.
        return Err(unknown(
            "no_length",
            format!("HTTP {status} without a length: cannot tell whether it is whole"),
        ));
    }

    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() > MAX_ANSWER_BYTES => {
                return Err(unknown(
                    "too_long",
                    format!("HTTP {status} with more than {MAX_ANSWER_BYTES} bytes"),
                ));
            }
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => break,
            Err(e) => return Err(undelivered(&e, false)),
        }
    }

    Ok(HttpAnswer {
        status,
        headers,
        body: body.into(),
    })
}

fn is_chunked(value: &HeaderValue) -> bool {
    value
        .to_str()
        .is_ok_and(|v| v.trim().eq_ignore_ascii_case("chunked"))
}

fn undelivered(error: &reqwest::Error, never_left: bool) -> SendError {
    let mut message = error.to_string();
    let mut has_no_room = false;
    let mut source = error.source();

    while let Some(cause) = source {
        message = format!("{message}: {cause}");
        has_no_room |= cause.downcast_ref().is_some_and(is_no_room);
        source = cause.source();
    }

    // Where a name could not be looked up, why is not told.
    has_no_room |= never_left
        && error.is_connect()
        && File::open("/dev/null").is_err_and(|error| is_no_room(&error));
    let failure = if has_no_room {
        Failure::new(FailureKind::Network, NO_ROOM, message)
    } else if error.is_timeout() {
        Failure::new(FailureKind::Timeout, "timeout", message)
    } else if error.is_connect() {
        Failure::new(FailureKind::Network, "connect", message)
    } else {
        Failure::new(FailureKind::Network, "connection_lost", message)
    };

    if never_left {
        SendError::NotSent(failure)
    } else {
        SendError::Unknown(failure)
    }
}

/// Whether what failed is that this machine has none left of what it takes, whoever is to be
/// reached.
fn is_no_room(error: &io::Error) -> bool {
    const ALL_TAKEN: [Errno; 4] = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    Errno::from_io_error(error).is_some_and(|errno| ALL_TAKEN.contains(&errno))
}

/// A body that remembers whether anybody began to read it. It cannot be cloned, so nobody can send
/// it twice.
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
        SizeHint::with_exact(
            self.rest
                .as_ref()
                .map_or(0, |b| u64::try_from(b.len()).unwrap_or(u64::MAX)),
        )
    }
}
