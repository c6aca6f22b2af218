//! What lists share: their query parameters and their shape.

use std::str::FromStr;

use actix_web::HttpRequest;
use chrono::DateTime;
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use super::error::Problem;
use crate::domain::Timestamp;

/// The most entries of one page.
const MAX_LIMIT: u64 = 100;

/// A page of a list.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct List<T> {
    /// Always `list`.
    pub object: &'static str,
    /// The entries, newest first.
    pub data: Vec<T>,
    /// Whether there are more; ask again with `starting_after` the last one's id.
    pub has_more: bool,
}

impl<T> List<T> {
    /// A page of `limit` entries from `limit + 1` that were read.
    #[must_use]
    pub fn page(mut data: Vec<T>, limit: u64) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let has_more = data.len() > limit;
        data.truncate(limit);
        Self {
            object: "list",
            data,
            has_more,
        }
    }
}

/// What every list takes, as it is described.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(
    dead_code,
    reason = "only described by it: a list reads its parameters with `ListQuery`, which names a \
              wrong one"
)]
pub struct Page {
    /// So many entries.
    #[param(minimum = 1, maximum = 100, default = 20)]
    limit: Option<u64>,
    /// Only entries behind this one: its id.
    starting_after: Option<String>,
}

/// Query parameters of lists; each list takes some of them.
#[derive(Debug, Clone, Default)]
pub struct ListQuery {
    /// The merchant's own number.
    pub order_id: Option<String>,
    /// Only payments, deliveries or entries of the work list in this state.
    pub status: Option<String>,
    /// The provider's number of a transaction.
    pub provider_transaction_id: Option<String>,
    /// RFC 3339; created then or later.
    pub created_from: Option<String>,
    /// RFC 3339; created before then.
    pub created_until: Option<String>,
    /// Only refunds, events or ledger entries of this payment.
    pub payment: Option<String>,
    /// Only events of this kind.
    pub r#type: Option<String>,
    /// Only entries of the work list of this kind.
    pub kind: Option<String>,
    /// Only ledger entries over this account at a provider.
    pub account: Option<String>,
    /// Only entries that debit or credit this ledger account.
    pub ledger_account: Option<String>,
    /// Only deliveries of this event.
    pub event: Option<String>,
    /// Only deliveries to this endpoint.
    pub endpoint: Option<String>,
    /// 1 to 100, 20 if not given.
    pub limit: Option<String>,
    /// Only entries older than this one.
    pub starting_after: Option<String>,
}

impl ListQuery {
    /// Reads the query of a list that takes the parameters `known`.
    ///
    /// # Errors
    /// 422 for a parameter that is unknown, given twice or no text.
    pub fn read(request: &HttpRequest, known: &[&str]) -> Result<Self, Problem> {
        let pairs =
            actix_web::web::Query::<Vec<(String, String)>>::from_query(request.query_string())
                .map_err(|_| Problem::invalid("query", "The query cannot be read."))?;
        let mut query = Self::default();

        for (name, value) in pairs.into_inner() {
            let place = match name.as_str() {
                _ if !known.contains(&name.as_str()) => None,
                "order_id" => Some(&mut query.order_id),
                "status" => Some(&mut query.status),
                "provider_transaction_id" => Some(&mut query.provider_transaction_id),
                "created_from" => Some(&mut query.created_from),
                "created_until" => Some(&mut query.created_until),
                "kind" => Some(&mut query.kind),
                "account" => Some(&mut query.account),
                "ledger_account" => Some(&mut query.ledger_account),
                "payment" => Some(&mut query.payment),
                "type" => Some(&mut query.r#type),
                "event" => Some(&mut query.event),
                "endpoint" => Some(&mut query.endpoint),
                "limit" => Some(&mut query.limit),
                "starting_after" => Some(&mut query.starting_after),
                _ => None,
            };
            let Some(place) = place else {
                let detail = format!("Unknown parameter; this list takes {}.", known.join(", "));
                return Err(Problem::invalid(name, detail));
            };
            if value.contains('\0') {
                return Err(Problem::invalid(
                    name,
                    "A text without NUL characters is needed.",
                ));
            }
            if place.replace(value).is_some() {
                return Err(Problem::invalid(name, "This parameter is given twice."));
            }
        }

        Ok(query)
    }

    /// The id of the entry that the page begins behind.
    ///
    /// # Errors
    /// 422 when no `what` can have it.
    pub fn starting_after<T: FromStr>(&self, what: &str) -> Result<Option<T>, Problem> {
        let id = self.starting_after.as_deref().map(str::parse).transpose();
        id.map_err(|_| Problem::invalid("starting_after", format!("There is no such {what}.")))
    }

    /// How many entries are wanted.
    ///
    /// # Errors
    /// 422 when it is not a number from 1 to 100.
    pub fn limit(&self) -> Result<u64, Problem> {
        let Some(text) = &self.limit else {
            return Ok(20);
        };
        text.parse()
            .ok()
            .filter(|limit| (1..=MAX_LIMIT).contains(limit))
            .ok_or_else(|| Problem::invalid("limit", format!("A limit is from 1 to {MAX_LIMIT}.")))
    }
}

/// A point in time from a query.
///
/// # Errors
/// 422, naming the parameter.
pub fn time(param: &str, text: &str) -> Result<Timestamp, Problem> {
    // A `+` that was not percent-encoded arrives as a blank.
    DateTime::parse_from_rfc3339(&text.replace(' ', "+"))
        .map(|t| Timestamp(t.timestamp_millis()))
        .map_err(|_| {
            Problem::invalid(
                param,
                "A time is RFC 3339 with offset: 2026-01-31T08:00:00+08:00.",
            )
        })
}
