//! What merchants are told. Events are read off the difference between two shapes of a payment, so
//! that no code path can change a payment and forget to say so.

use crate::domain::attempt::Disposition;
use crate::domain::id::{EventId, NoRandomness};
use crate::domain::payment::State;
use crate::domain::{Aggregate, Timestamp, refund};
use crate::payments::view;
use crate::store::change::Event;

/// Every kind of event there is.
pub const KINDS: &[&str] = &[
    "payment.requires_action",
    "payment.action_changed",
    "payment.processing",
    "payment.succeeded",
    "payment.failed",
    "payment.canceled",
    "payment.expired",
    "payment.late_captured",
    "refund.succeeded",
    "refund.failed",
    "refund.abnormal",
];

/// The events between `before` (`None` for a new payment) and `after`.
///
/// # Errors
/// [`NoRandomness`]: an event without an id cannot be told apart from its repetition.
pub fn between(
    before: Option<&Aggregate>,
    after: &Aggregate,
    now: Timestamp,
) -> Result<Vec<Event>, NoRandomness> {
    let mut kinds: Vec<(&'static str, serde_json::Value)> = Vec::new();
    if let Some(kind) = payment_event(before, after) {
        kinds.push((kind, json(&view::payment(after))));
    }
    for attempt in &after.attempts {
        let known = before
            .and_then(|b| b.attempt(&attempt.id))
            .and_then(|a| a.disposition);
        if let (None, Some(disposition)) = (known, attempt.disposition)
            && disposition != Disposition::Kept
        {
            let data = serde_json::json!({
                "payment": view::payment(after),
                "attempt": attempt.id,
                "amount": attempt.captured.map(providers::money::Money::minor),
                "duplicate": after.kept().is_some(),
                "disposition": disposition,
            });
            kinds.push(("payment.late_captured", data));
        }
    }

    for refund in &after.refunds {
        let known = before
            .and_then(|b| b.refunds.iter().find(|r| r.id == refund.id))
            .map(|r| r.status);
        if known == Some(refund.status) {
            continue;
        }
        let kind = match refund.status {
            refund::State::Pending => continue,
            refund::State::Succeeded => "refund.succeeded",
            refund::State::Failed => "refund.failed",
            refund::State::Abnormal => "refund.abnormal",
        };
        kinds.push((kind, json(&view::refund(refund))));
    }

    kinds
        .into_iter()
        .map(|(kind, data)| {
            Ok(Event {
                id: EventId::new()?,
                kind,
                data,
                created_at: now,
            })
        })
        .collect()
}

fn payment_event(before: Option<&Aggregate>, after: &Aggregate) -> Option<&'static str> {
    let was = before.map(|b| b.payment.status);
    let is = after.payment.status;

    // It is only made, and asks nothing of anybody.
    if before.is_none() && is.is_open() {
        return None;
    }
    if was == Some(is) {
        let offer = |a: &Aggregate| a.live().and_then(|l| l.next_action.clone());
        let changed = is == State::RequiresAction && before.and_then(offer) != offer(after);
        return changed.then_some("payment.action_changed");
    }

    match is {
        // A payment that is only made, or waits for a route again, asks nothing of anybody.
        State::Created => None,
        State::RequiresAction => Some("payment.requires_action"),
        State::Processing => Some("payment.processing"),
        State::Succeeded => Some("payment.succeeded"),
        State::Failed => Some("payment.failed"),
        State::Canceled => Some("payment.canceled"),
        State::Expired => Some("payment.expired"),
    }
}

fn json(value: &impl serde::Serialize) -> serde_json::Value {
    serde_json::to_value(value).unwrap_or_default()
}
