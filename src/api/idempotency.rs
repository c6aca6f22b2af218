//! `Idempotency-Key`: the same request again is the same payment again, whoever has written it down
//! anew meanwhile.
//!
//! A key is stored with the fingerprint of its request. The version before took it over the bytes
//! as they were sent, and what it has stored is compared in that way for ever. While a gateway of
//! that version may still be at work beside this one, real money's requests are stored so, too: it
//! must know them when they are repeated to it. (Keys of test requests it never finds.)

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::HeaderValue;
use actix_web::{HttpRequest, HttpResponse};

use super::auth::Caller;
use super::body::RawBody;
use super::error::Problem;
use super::fingerprint;
use crate::app::App;
use crate::store::change::{Key, KeyScope, StoredAnswer};

const HEADER: &str = "Idempotency-Key";
/// A database that takes no answer for so long keeps no client waiting: it asks again with the same
/// key.
pub const STORED_WITHIN: Duration = Duration::from_secs(2);

/// A request that must not be done twice: its key, and what it said.
#[derive(Debug, Clone)]
pub struct Once {
    /// The key within its scope.
    pub scope: KeyScope,
    /// What is stored with it, if it is new.
    pub fingerprint: String,
    understood: String,
    as_sent: String,
}

impl Once {
    /// Reads the key of a request. The quoted form of the IETF draft and the bare form mean the
    /// same.
    ///
    /// # Errors
    /// 400 when it is missing, empty, longer than 255 or not visible ASCII.
    pub fn read(
        app: &App,
        request: &HttpRequest,
        caller: &Caller,
        operation: &str,
        body: &RawBody,
    ) -> Result<Self, Problem> {
        let bad =
            |code, detail: &str| Problem::new(StatusCode::BAD_REQUEST, code, detail).about(HEADER);
        let mut values = request.headers().get_all(HEADER);
        let Some(value) = values.next() else {
            let detail =
                "Give an Idempotency-Key: a repeated request is then answered, not done again.";
            return Err(bad("idempotency_key_missing", detail));
        };

        let malformed = || {
            bad(
                "idempotency_key_invalid",
                "One Idempotency-Key of 1 to 255 visible ASCII characters is needed.",
            )
        };

        if values.next().is_some() {
            return Err(malformed());
        }
        let text = value.to_str().map_err(|_| malformed())?.trim();
        let key = match text.strip_prefix('"') {
            Some(rest) => rest.strip_suffix('"').ok_or_else(malformed)?,
            None => text,
        };
        if !(1..=255).contains(&key.len()) || !key.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(malformed());
        }

        let (understood, as_sent) = (
            fingerprint::understood(request, body),
            fingerprint::as_sent(request, body),
        );
        let is_kept_as_before =
            caller.owner.is_live() && app.store.has_older_gateways(app.clock.now());

        Ok(Self {
            scope: KeyScope {
                owner: caller.owner.clone(),
                endpoint: operation.to_owned(),
                key: key.to_owned(),
            },
            fingerprint: if is_kept_as_before {
                as_sent.clone()
            } else {
                understood.clone()
            },
            understood,
            as_sent,
        })
    }

    /// Whether this is the request that a key is stored with.
    #[must_use]
    pub fn is(&self, stored: &Key) -> bool {
        match fingerprint::is_understood(&stored.fingerprint) {
            true => stored.fingerprint == self.understood,
            false => stored.fingerprint == self.as_sent,
        }
    }
}

/// The same key came with another request.
#[must_use]
pub fn reused() -> Problem {
    let detail = "This Idempotency-Key was used for another request.";
    Problem::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        "idempotency_key_reused",
        detail,
    )
    .about(HEADER)
}

/// The first request under this key is still being worked on.
#[must_use]
pub fn in_progress(resource: &str, status: impl ToString) -> Problem {
    let detail = "The first request with this Idempotency-Key is still being worked on.";
    Problem::new(StatusCode::CONFLICT, "request_in_progress", detail)
        .because_of(resource, status)
        .retry_after(1)
}

/// The answer that stands under a key, byte for byte.
#[must_use]
pub fn answer(stored: StoredAnswer) -> HttpResponse {
    let status = StatusCode::from_u16(stored.status).unwrap_or(StatusCode::OK);
    HttpResponse::build(status)
        .content_type("application/json")
        .body(stored.body)
}

/// The same to somebody who asks again.
#[must_use]
pub fn replay(stored: StoredAnswer) -> HttpResponse {
    let mut response = answer(stored);
    let name = actix_web::http::header::HeaderName::from_static("idempotency-replayed");
    response
        .headers_mut()
        .insert(name, HeaderValue::from_static("true"));
    response
}
