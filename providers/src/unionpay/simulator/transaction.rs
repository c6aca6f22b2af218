//! What payments, refunds and undos have in common: their days, their numbers, and what is said of
//! money that moved.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;

use super::super::wire::{Fields, local};
use super::state::{PROVIDER, UnionPaySimulator};
use crate::sandbox::book::Book;

/// A day of UnionPay's ends at 23:00 in Beijing.
pub(super) fn clearing_day(time: DateTime<Utc>) -> String {
    local(time + TimeDelta::hours(1)).format("%m%d").to_string()
}

pub(super) fn same_clearing_day(a: DateTime<Utc>, b: DateTime<Utc>) -> bool {
    let day = |time| local(time + TimeDelta::hours(1)).date();
    day(a) == day(b)
}

/// Whether a number is used by a payment, a refund or an undo.
pub(super) fn is_used(face: &UnionPaySimulator, book: &Book, number: &str) -> bool {
    book.order(&face.key(number)).is_some()
        || book
            .by_refund(PROVIDER, &face.keys.mer_id, number)
            .is_some()
}

pub(super) fn detail<'a>(details: &'a Value, name: &str) -> &'a str {
    details
        .get(name)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// What every transaction has that moved money.
pub(super) fn settled(at: DateTime<Utc>, query_id: &str, amount: &str) -> Fields {
    let time = local(at).format("%m%d%H%M%S").to_string();
    super::super::fields([
        ("queryId", query_id),
        ("traceNo", query_id.get(14..20).unwrap_or_default()),
        ("traceTime", &time),
        ("settleDate", &clearing_day(at)),
        ("settleAmt", amount),
        ("settleCurrencyCode", "156"),
    ])
}
