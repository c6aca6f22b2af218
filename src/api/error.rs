//! The only place where anything becomes an HTTP error: problem+json (RFC 9457) with a stable
//! `code`, the member it is about, and whether the same request may succeed later. What a provider
//! or the database wrote stays inside.

use std::borrow::Cow;

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpResponse, ResponseError};
use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::operation::actions;
use crate::payments;
use crate::payments::offer::OfferError;
use crate::payments::pay::OpenError;
use crate::payments::refund::RefundError;
use crate::payments::work_list::Refusal;
use crate::routing::validation_error::ValidationError;
use crate::store::{self, CommitError};

tokio::task_local! {
    /// The id of the request that is being answered.
    pub static REQUEST_ID: String;
}

/// An error as clients get it.
#[derive(Debug, Clone, Serialize, ToSchema, thiserror::Error)]
#[error("{code}: {detail}")]
pub struct Problem {
    /// `about:blank`: `code` says more than an address could.
    pub r#type: &'static str,
    /// The status in words.
    pub title: &'static str,
    /// HTTP status.
    pub status: u16,
    /// Stable, for programs.
    pub code: &'static str,
    /// For people.
    pub detail: String,
    /// The member, header or query parameter that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub param: Option<String>,
    /// The payment or refund that stands in the way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// That payment's or refund's status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_status: Option<String>,
    /// Whether the same request may succeed later.
    pub retryable: bool,
    /// For our logs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// The methods that would do, for `Allow`.
    #[serde(skip)]
    pub allow: Option<Cow<'static, str>>,
    /// Seconds, also in `Retry-After`.
    #[serde(skip)]
    pub retry_after_s: Option<u32>,
}

impl Problem {
    /// A problem with this status and code.
    #[must_use]
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            r#type: "about:blank",
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            code,
            detail: detail.into(),
            param: None,
            resource: None,
            resource_status: None,
            retryable: false,
            request_id: None,
            allow: None,
            retry_after_s: None,
        }
    }

    /// About this member, header or parameter.
    #[must_use]
    pub fn about(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// This payment or refund stands in the way.
    #[must_use]
    pub fn because_of(mut self, id: impl Into<String>, status: impl ToString) -> Self {
        self.resource = Some(id.into());
        self.resource_status = Some(status.to_string());
        self
    }

    /// The same request may succeed after so many seconds.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retryable = true;
        self.retry_after_s = Some(seconds);
        self
    }

    /// A member whose value cannot be.
    #[must_use]
    pub fn invalid(param: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "invalid_parameter",
            detail,
        )
        .about(param)
    }

    /// Nothing of this merchant has this id; whether somebody else's has is nobody's business.
    #[must_use]
    pub fn not_found(what: &str) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "not_found",
            format!("There is no such {what}."),
        )
    }

    /// There is something here, but not for this method.
    #[must_use]
    pub fn wrong_method(allow: impl Into<Cow<'static, str>>) -> Self {
        let allow = allow.into();
        let detail = format!("Only {allow} will do here.");
        let problem = Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail);
        Self {
            allow: Some(allow),
            ..problem
        }
    }

    /// We are in trouble. What the request wanted may have been done, or not.
    #[must_use]
    pub fn unavailable() -> Self {
        let detail = "The service is in trouble for the moment, and whether this was done is not \
                      certain: repeat the request, with the same Idempotency-Key if it had one.";
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "service_unavailable",
            detail,
        )
        .retry_after(2)
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse {
        let mut body = self.clone();
        body.request_id = REQUEST_ID.try_with(Clone::clone).ok();
        let mut response = HttpResponse::build(self.status_code()).json(body);
        let headers = response.headers_mut();

        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(allow) = self
            .allow
            .as_deref()
            .and_then(|allow| HeaderValue::from_str(allow).ok())
        {
            headers.insert(header::ALLOW, allow);
        }
        if self.status == 401 {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }

        response
    }
}

impl From<payments::Error> for Problem {
    fn from(trouble: payments::Error) -> Self {
        tracing::error!(error = %trouble, "a request could not be finished");
        Self::unavailable()
    }
}

impl From<store::Error> for Problem {
    fn from(error: store::Error) -> Self {
        payments::Error::from(error).into()
    }
}

impl From<crate::directory::DirectoryError> for Problem {
    fn from(error: crate::directory::DirectoryError) -> Self {
        tracing::error!(%error, "the directory could not be read or written");
        Self::unavailable()
    }
}

impl From<ValidationError> for Problem {
    fn from(fault: ValidationError) -> Self {
        Self::invalid(fault.param, fault.detail)
    }
}

impl From<OfferError> for Problem {
    fn from(error: OfferError) -> Self {
        match error {
            OfferError::NoPayment => Self::not_found("payment"),
            OfferError::NotOpen { id, status } => {
                let detail = "This payment takes no other offer now.";
                Self::new(StatusCode::CONFLICT, "payment_not_open", detail).because_of(id, status)
            }
            OfferError::NotServed => {
                let detail = "None of your accounts serves this flow, amount and choice of \
                              providers, or those that do have refused this payment.";
                Self::new(
                    StatusCode::UNPROCESSABLE_ENTITY,
                    "flow_not_available",
                    detail,
                )
                .about("flow")
            }
            OfferError::Other(trouble) => trouble.into(),
        }
    }
}

impl From<OpenError> for Problem {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::NotServed => {
                let detail =
                    "None of your accounts serves this flow, amount and choice of providers.";
                Self::new(
                    StatusCode::UNPROCESSABLE_ENTITY,
                    "flow_not_available",
                    detail,
                )
                .about("flow")
            }
            OpenError::QueueFull { retry_after_s } => {
                let detail = "No provider can take this payment now, and very many wait for one. \
                              Nothing was done.";
                let seconds = u32::try_from(retry_after_s.clamp(1, 600)).unwrap_or(600);
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "queue_full", detail)
                    .retry_after(seconds)
            }
            OpenError::Other(trouble) => trouble.into(),
        }
    }
}

impl From<RefundError> for Problem {
    fn from(error: RefundError) -> Self {
        match error {
            RefundError::NoPayment => Self::not_found("payment"),
            RefundError::NotCaptured => {
                let detail = "No money of this payment is kept, so there is nothing to refund.";
                Self::new(StatusCode::CONFLICT, "payment_not_refundable", detail)
            }
            RefundError::TooMuch { left_fen } => {
                let detail = format!("Only {left_fen} fen of this payment are left to refund.");
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "refund_too_large", detail)
                    .about("amount")
            }
            RefundError::NumberTaken(id) => {
                let detail = "This refund number was used before, under another key.";
                let problem = Self::new(StatusCode::CONFLICT, "merchant_refund_no_in_use", detail);
                let mut problem = problem.about("merchant_refund_no");
                problem.resource = Some(id.into());
                problem
            }
            RefundError::Other(trouble) => trouble.into(),
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let conflict = |code, detail: &str| Self::new(StatusCode::CONFLICT, code, detail);

        match refusal {
            Refusal::NotFound => Self::not_found("operation"),
            Refusal::Ended(row) => {
                let resolution = row.resolution.unwrap_or_default();
                conflict("operation_resolved", "This has ended; nothing was done.")
                    .because_of(row.id, resolution)
            }
            Refusal::NotForThis(kind) => {
                let known: Vec<String> = actions(kind.parse().ok())
                    .iter()
                    .map(ToString::to_string)
                    .collect();
                let detail = format!("For {kind} there is {}.", known.join(", "));
                let status = StatusCode::UNPROCESSABLE_ENTITY;
                Self::new(status, "action_not_for_this_kind", detail).about("action")
            }
            Refusal::NotPossible(why) => conflict("action_not_possible", &why).about("action"),
            Refusal::SamePerson => {
                let detail = "This key has proposed it, or one that made it or was made with it; a \
                              second person has to confirm it with a key of its own.";
                conflict("second_person_needed", detail)
            }
            Refusal::Other(trouble) => trouble.into(),
        }
    }
}

/// Whether an error says that another request has the same idempotency key.
#[must_use]
pub fn is_key_taken(trouble: &payments::Error) -> bool {
    matches!(trouble, payments::Error::Commit(CommitError::KeyTaken))
}

/// Whether an error says that the order number is taken.
#[must_use]
pub fn is_order_taken(trouble: &payments::Error) -> bool {
    matches!(trouble, payments::Error::Commit(CommitError::OrderTaken))
}
