//! What a failure tells merchants: why, in a closed list of words, which member of the request to
//! change, and what to do, in English and Chinese. What a provider wrote in words stays with the
//! operators.

mod words;

use providers::outcome::{
    ADDRESS_NOT_ALLOWED, Failure, FailureKind, NO_ROOM, NUMBER_EXISTS, OTHER_REFUND,
};
use providers::reason::{Reason, Row};
use serde::Serialize;
use strum::IntoEnumIterator as _;
use utoipa::ToSchema;
use utoipa::openapi::schema::{ObjectBuilder, Type};

pub use self::words::{Words, words};
use crate::domain::payment::NO_ROUTE;

/// What went wrong.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Failure)]
pub struct FailureView {
    /// `network`, `timeout`, `rate_limited`, `server_error`, `incompatible`, `account`, `request`
    /// or `declined`.
    #[schema(value_type = String)]
    pub kind: FailureKind,
    /// The provider's code, for its support, or ours.
    pub code: String,
    /// Why: the same words for all providers.
    #[schema(schema_with = reasons)]
    pub reason: Reason,
    /// The member of the request that has to be another one, where it is one: `amount`,
    /// `auth_code`.
    pub param: Option<&'static str>,
    /// Why, and what to do.
    pub message: &'static str,
    /// The same in Chinese.
    pub message_zh: &'static str,
}

fn reasons() -> ObjectBuilder {
    let names = Reason::iter().map(|reason| reason.to_string());
    ObjectBuilder::new()
        .schema_type(Type::String)
        .enum_values(Some(names))
}

/// A failure as merchants see it. A provider's code passes as far as it is one.
pub(super) fn view(failure: &Failure) -> FailureView {
    let is_one = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let reason = reason(failure);
    let Words { param, en, zh } = words(reason);
    FailureView {
        kind: failure.kind,
        code: failure.code.chars().filter(is_one).take(64).collect(),
        reason,
        param,
        message: en,
        message_zh: zh,
    }
}

/// Why, of any failure: by its provider's table, else by our own codes, else by its kind.
#[must_use]
pub fn reason(failure: &Failure) -> Reason {
    let own = || {
        OWN.iter()
            .find(|(_, codes)| codes.contains(&failure.code.as_str()))
            .map(|(reason, _)| *reason)
    };
    failure.reason.or_else(own).unwrap_or(match failure.kind {
        FailureKind::Network => Reason::ProviderUnreachable,
        FailureKind::Timeout => Reason::ProviderTimeout,
        FailureKind::RateLimited => Reason::RateLimited,
        FailureKind::ServerError => Reason::ProviderUnavailable,
        FailureKind::Incompatible => Reason::AnswerUnreadable,
        FailureKind::Account => Reason::AccountRefused,
        FailureKind::Request => Reason::Refused,
        FailureKind::Declined => Reason::Declined,
    })
}

/// Codes that are not a provider's: of the adapters for what happened before there was an answer to
/// believe, and of ours for what happened here.
pub const OWN: &[Row] = &[
    (Reason::ProviderUnreachable, &["connect", "connection_lost"]),
    (Reason::ProviderTimeout, &["timeout"]),
    (
        Reason::AnswerUnreadable,
        &[
            "no_length",
            "too_long",
            "unreadable",
            "unreadable_answer",
            "garbled",
            "no_node",
            "two_nodes",
            "unsigned",
            "signature",
            "bad_signature",
            "no_code",
            "no_qr_code",
            "out_trade_no",
            "trade_status",
            "refund_status",
            "action",
        ],
    ),
    (Reason::AuthCodeInvalid, &["auth_code"]),
    (Reason::AuthCodeExpired, &["code_gone"]),
    (Reason::NotConfirmed, &["not_confirmed"]),
    (
        Reason::ProductNotSupported,
        &["flow", "flow_not_served", "no_close"],
    ),
    (Reason::ParameterRefused, &["not_built"]),
    (Reason::RefundNumberUsed, &[NUMBER_EXISTS, OTHER_REFUND]),
    (
        Reason::AccountUnavailable,
        &["account_unavailable", ADDRESS_NOT_ALLOWED],
    ),
    (Reason::NoRoute, &[NO_ROUTE]),
    (Reason::Refused, &["refused_route"]),
    (Reason::Throttled, &["own_limit"]),
    (Reason::Interrupted, &["worker_lost", "held_up"]),
    (Reason::NoCapacity, &[NO_ROOM]),
];
