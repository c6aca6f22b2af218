//! What a payment may be like although nothing is wrong with it: a provider did something, and
//! where a person has to look, it stands on the work list.

use std::collections::BTreeSet;

use serde_json::Value;

use super::evidence::Evidence;
use crate::domain::{Aggregate, Attempt};

/// Whether one of these troubles stands on the work list for this attempt, or for a refund of it.
pub(super) fn stands(e: &Evidence, payment: &Aggregate, attempt: &Attempt, kinds: &[&str]) -> bool {
    let refunds = payment
        .refunds
        .iter()
        .filter(|r| r.attempt_id == attempt.id)
        .map(|r| r.id.as_str());
    let about: BTreeSet<&str> = refunds.chain([attempt.id.as_str()]).collect();
    e.for_a_person
        .iter()
        .any(|o| kinds.contains(&o.kind.as_str()) && about.contains(o.subject_id.as_str()))
}

/// A charge that WeChat Pay never heard of cannot be proved dead there (4.8): two persons decide.
pub(super) fn cannot_be_proved(attempt: &Attempt, order: Option<&Value>) -> bool {
    attempt.provider.as_str() == "wechatpay" && attempt.flow.is_charge() && order.is_none()
}

/// Whether a refund of this order never gets an end at its provider: UnionPay has no word for one
/// that cannot reach its payer.
pub(super) fn never_ends(order: Option<&Value>) -> bool {
    let all = order
        .filter(|order| order["provider"] == "unionpay")
        .and_then(|order| order["refunds"].as_array());
    all.into_iter()
        .flatten()
        .any(|refund| refund["status"] == "abnormal")
}

/// Whether money that is due has not gone back because its provider would not give it, and a person
/// is told of that.
pub(super) fn cannot_go_back(
    e: &Evidence,
    payment: &Aggregate,
    attempt: &Attempt,
    order: Option<&Value>,
) -> bool {
    let why: &[&str] = if never_ends(order) {
        &["refund_unresolved"]
    } else {
        &["automatic_refund_failed", "refund_abnormal"]
    };
    e.refusing.contains(attempt.provider.as_str()) && stands(e, payment, attempt, why)
}

/// Whether a provider told of another amount than was paid, and a person is told of that.
pub(super) fn misstated(e: &Evidence, payment: &Aggregate, attempt: &Attempt) -> bool {
    e.liars.contains(attempt.provider.as_str())
        && stands(e, payment, attempt, &["capture_mismatch"])
}

/// Whether money is held because of something that its provider did, and a person is told of that.
pub(super) fn held_rightly(
    e: &Evidence,
    payment: &Aggregate,
    attempt: &Attempt,
    order: Option<&Value>,
) -> bool {
    let goes_back_by_itself =
        order.is_some_and(is_late) && stands(e, payment, attempt, &["capture_returning"]);
    goes_back_by_itself || misstated(e, payment, attempt)
}

/// Paid after its time, where the provider gives it back by itself some days later (UnionPay 0.5).
pub(super) fn is_late(order: &Value) -> bool {
    let at = |name: &str| {
        order[name]
            .as_str()
            .and_then(|at| at.parse::<chrono::DateTime<chrono::Utc>>().ok())
    };
    order["provider"] == "unionpay"
        && at("paid_at")
            .zip(at("expires_at"))
            .is_some_and(|(paid, over)| paid >= over)
}
