//! What every request gets: an id that goes into its answer, its problem and every line of its log.

use std::fmt;
use std::future::{Ready, ready};
use std::ops::Deref;
use std::str::FromStr;
use std::time::{Duration, Instant};

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::http::{ConnectionType, Method, StatusCode};
use actix_web::middleware::Next;
use actix_web::{FromRequest, HttpMessage as _, HttpRequest, dev, web};
use tracing::Instrument as _;

use super::admission;
use super::auth::RequestOwner;
use super::connections::Connections;
use super::error::{Problem, REQUEST_ID};
use crate::domain::id;
use crate::lines;
use crate::traces::Caller;

const HEADER: &str = "x-request-id";

/// So much of a path is logged; ours are shorter.
const LONGEST_PATH: usize = 200;

/// Takes the caller's `X-Request-Id` if it is one, or makes one; logs one line for each answer.
///
/// # Errors
/// Those of the routes.
pub async fn identify(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    let given = request
        .headers()
        .get(HEADER)
        .and_then(|v| v.to_str().ok())
        .filter(|v| is_id(v))
        .map(str::to_owned);
    let request_id = match given {
        Some(given) => given,
        None => format!("req_{}", id::token().unwrap_or_default()),
    };
    let span = tracing::info_span!("request", request_id);
    let (method, path) = (request.method().clone(), shown(request.path()));
    let began = Instant::now();

    REQUEST_ID
        .scope(request_id.clone(), async move {
            let mut response = next.call(request).await?;
            let (answered, inner) = (response.request().clone(), response.headers_mut());
            admission::tell(&answered, inner);
            if let Ok(value) = HeaderValue::from_str(&request_id) {
                response
                    .headers_mut()
                    .insert(HeaderName::from_static(HEADER), value);
            }
            measure(&response, &method, began.elapsed());
            end_in_a_crowd(&mut response);
            if is_worth_a_line(&response) {
                let ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
                tracing::info!(%method, path, status = response.status().as_u16(), ms, "answered");
            }
            Ok(response)
        })
        .instrument(span)
        .await
}

/// A path as it is logged: whoever sends a long one fills no disk with it.
fn shown(path: &str) -> String {
    path.chars().take(LONGEST_PATH).collect()
}

/// Refusals, and what needs no key, can be had as fast as somebody likes: so many of them are
/// logged for each merchant, and for all strangers. Our own failures always are.
fn is_worth_a_line(response: &ServiceResponse<impl MessageBody>) -> bool {
    let status = response.status();
    let is_refused = status.is_client_error() || status == StatusCode::SERVICE_UNAVAILABLE;
    let extensions = response.request().extensions();
    let asker = extensions.get::<RequestOwner>();
    if !is_refused && (asker.is_some() || status.is_server_error()) {
        return true;
    }
    lines::may_write(asker.map(|asker| asker.0.to_string()).as_deref())
}

/// While more connections are open than are kept, none is kept.
fn end_in_a_crowd(response: &mut ServiceResponse<impl MessageBody>) {
    let connections = response.request().app_data::<web::Data<Connections>>();
    if connections.is_some_and(|connections| connections.is_crowded()) {
        response
            .response_mut()
            .head_mut()
            .set_connection_type(ConnectionType::Close);
    }
}

/// By route, never by path: paths hold ids. What has no route and strange methods are one series
/// each.
fn measure(response: &ServiceResponse<impl MessageBody>, method: &Method, took: Duration) {
    let route = response
        .request()
        .match_pattern()
        .unwrap_or_else(|| "none".to_owned());
    let known = [
        Method::GET,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
        Method::HEAD,
    ];

    let method = if known.contains(method) {
        method.to_string()
    } else {
        "other".to_owned()
    };
    let status = response.status().as_u16().to_string();
    metrics::histogram!("interlock_http_request_seconds", "route" => route.clone(),
        "method" => method.clone())
    .record(took);

    metrics::counter!("interlock_http_requests_total", "route" => route, "method" => method,
        "status" => status)
    .increment(1);
}

/// Where the request stands in the trace of whoever sent it.
#[must_use]
pub fn caller_of(request: &HttpRequest) -> Option<Caller> {
    Caller::read(|name| {
        request
            .headers()
            .get(name)?
            .to_str()
            .ok()
            .map(str::to_owned)
    })
}

fn is_id(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// The `{id}` of a path. Ours are short and plain; what is not cannot name anything, and is not
/// looked for: a NUL, for example, is an error to PostgreSQL, not an id that it does not find.
#[derive(Debug, Clone)]
pub struct Id(String);

impl Id {
    fn read(text: &str) -> Option<Self> {
        let plain =
            text.len() <= 64 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        plain.then(|| Self(text.to_owned()))
    }

    /// The same as the id of a `what`.
    ///
    /// # Errors
    /// 404 when none can have it.
    pub fn of<T: FromStr>(&self, what: &str) -> Result<T, Problem> {
        self.parse().map_err(|_| Problem::not_found(what))
    }
}

impl FromRequest for Id {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut dev::Payload) -> Self::Future {
        ready(
            request
                .match_info()
                .get("id")
                .and_then(Self::read)
                .ok_or_else(|| Problem::not_found("id")),
        )
    }
}

impl Deref for Id {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
