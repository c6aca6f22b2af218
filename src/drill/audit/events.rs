//! The rules about what the merchant is told by events: every end once and in time, and nothing but
//! the truth.

use std::collections::{BTreeMap, BTreeSet};

use super::evidence::Evidence;
use super::findings::Findings;
use crate::domain::attempt::Disposition;
use crate::domain::refund;
use crate::store::audit::Told;

/// Every payment has ended so long after everything was mended, unless a person has to look. The
/// longest pause between two questions is an hour, and a charge may need three of them.
pub const ENDED_WITHIN_S: i64 = 4 * 3_600;

pub(super) const ENDS: [&str; 4] = ["succeeded", "failed", "canceled", "expired"];

pub(super) fn events(found: &mut Findings, e: &Evidence) {
    let mut ends: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for told in &e.told {
        if let Some(end) = told
            .kind
            .strip_prefix("payment.")
            .filter(|end| ENDS.contains(end))
        {
            ends.entry(told.payment_id.as_str()).or_default().push(end);
            let after_s = e
                .mended_at
                .map_or(0, |mended_at| told.at.since(mended_at) / 1_000);
            found.figures.ended_after_s = found.figures.ended_after_s.max(after_s);
            found.require(
                after_s <= ENDED_WITHIN_S,
                "ends_in_time",
                &told.payment_id,
                || format!("{end} {after_s} s after everything was mended"),
            );
        }
        let visible = |state: &String| matches!(state.as_str(), "delivered" | "failed" | "stopped");
        found.require(
            told.deliveries.iter().any(visible),
            "every_event_is_told",
            &told.payment_id,
            || format!("{} {}: {:?}", told.kind, told.id, told.deliveries),
        );
    }

    for payment in &e.payments {
        let status = payment.payment.status.to_string();
        let told = ends
            .get(payment.payment.id.as_str())
            .cloned()
            .unwrap_or_default();
        let wanted: Vec<&str> = if payment.payment.status.is_open() {
            Vec::new()
        } else {
            vec![status.as_str()]
        };
        found.require(
            told == wanted,
            "one_end_told_once",
            &payment.payment.id,
            || format!("{status}, and events say {told:?}"),
        );
    }

    counted(found, e);
    let known: BTreeMap<&str, &Told> = e.told.iter().map(|told| (told.id.as_str(), told)).collect();

    for received in &e.received {
        let true_of = known
            .get(received.id.as_str())
            .is_some_and(|told| told.kind == received.kind);
        let says = received.kind.split_once('.').map_or("", |(_, kind)| kind);
        let as_it_is = !ENDS.contains(&says) || received.status == says;
        found.require(
            true_of && as_it_is,
            "told_only_the_truth",
            &received.payment,
            || {
                format!(
                    "{} {} was received and says {:?}; it is no event of ours",
                    received.kind, received.id, received.status
                )
            },
        );
    }

    let received: BTreeSet<&str> = e.received.iter().map(|r| r.id.as_str()).collect();
    for told in e
        .told
        .iter()
        .filter(|told| told.deliveries.iter().any(|state| state == "delivered"))
    {
        found.require(
            received.contains(told.id.as_str()),
            "delivered_is_received",
            &told.payment_id,
            || {
                format!(
                    "{} {} counts as delivered, and nobody has received it",
                    told.kind, told.id
                )
            },
        );
    }
}

/// Money that came too late and refunds are told of once each.
fn counted(found: &mut Findings, e: &Evidence) {
    for payment in &e.payments {
        let id = payment.payment.id.as_str();
        let told = |kind: &str| {
            e.told
                .iter()
                .filter(|t| t.payment_id == id && t.kind == kind)
                .count()
        };
        let refunds = |state| payment.refunds.iter().filter(|r| r.status == state).count();
        let beside = payment
            .attempts
            .iter()
            .filter(|a| a.disposition.is_some_and(|d| d != Disposition::Kept))
            .count();
        let wanted = [
            ("payment.late_captured", beside, beside),
            (
                "refund.succeeded",
                refunds(refund::State::Succeeded),
                refunds(refund::State::Succeeded),
            ),
            // One that had failed, or gone astray, may have been carried out after all.
            (
                "refund.failed",
                refunds(refund::State::Failed),
                payment.refunds.len(),
            ),
            (
                "refund.abnormal",
                refunds(refund::State::Abnormal),
                payment.refunds.len(),
            ),
        ];
        for (kind, least, most) in wanted {
            found.require(
                (least..=most).contains(&told(kind)),
                "told_once",
                id,
                || {
                    format!(
                        "{kind} was told {} times, and happened {least} times",
                        told(kind)
                    )
                },
            );
        }
    }
}
