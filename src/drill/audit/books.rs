//! The rules about what providers have in their books: the calls that they were sent, the orders
//! that they know, and the notifications that they have sent.
#![expect(
    clippy::indexing_slicing,
    reason = "a JSON value gives null for what it has not"
)]

use std::collections::BTreeSet;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::evidence::Evidence;
use super::findings::Findings;

/// So many questions, closes and reversals of an attempt at the most, and probes of routes that are
/// out.
const CALLS_AN_ATTEMPT: u64 = 2 * 42;
const PROBES: u64 = 1_000;

fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect()
}

pub(super) fn fen(order: &Value, member: &str) -> i64 {
    order[member].as_i64().unwrap_or(0)
}

/// Each attempt is sent once, whatever happens; and nobody asks without end.
pub(super) fn calls(found: &mut Findings, e: &Evidence) {
    for protocol in providers::PROTOCOLS {
        let name = protocol.name.as_str();
        let made = |call: &str| e.calls[name][call].as_u64().unwrap_or(0);
        let attempts = e
            .payments
            .iter()
            .flat_map(|p| &p.attempts)
            .filter(|a| a.provider.as_str() == name)
            .count();
        let attempts = u64::try_from(attempts).unwrap_or(0);
        found.require(made("create") <= attempts, "sent_once", name, || {
            format!(
                "{} orders were sent for {attempts} attempts",
                made("create")
            )
        });
        let asked = made("query") + made("close") + made("reverse");
        // The board's probes are queries, too: one a second at the most, in a run of days of its
        // own time.
        found.require(
            asked <= PROBES + attempts * CALLS_AN_ATTEMPT,
            "bounded_calls",
            name,
            || format!("{asked} questions, closes and reversals for {attempts} attempts"),
        );
    }
}

/// Whatever a provider heard of is in a row: durable before the first byte.
pub(super) fn known_orders(found: &mut Findings, e: &Evidence) {
    let ours: BTreeSet<&str> = e
        .payments
        .iter()
        .flat_map(|p| p.attempts.iter().map(|a| a.provider_order_no.as_str()))
        .collect();
    for order in &e.orders {
        let number = order["order_no"].as_str().unwrap_or_default();
        if !ours.contains(number) && fen(order, "captured") > fen(order, "refunded") {
            found.figures.lost += 1;
        }
        found.require(ours.contains(number), "durable_before_sent", number, || {
            format!("{} knows an order that no row has", order["provider"])
        });
    }
}

/// What was acknowledged was recorded, each by its id; UnionPay gives none, there it is the same
/// body.
pub(super) fn notifications(found: &mut Findings, e: &Evidence) {
    let shown = u64::try_from(e.notifications.len()).unwrap_or(0);
    found.require(shown == e.sent, "everything_is_seen", "run", || {
        format!(
            "{} notifications were sent, and the log has {shown}",
            e.sent
        )
    });

    // WeChat Pay writes the id with hyphens.
    let ids: BTreeSet<String> = e.taken.iter().map(|(id, _)| id.replace('-', "")).collect();
    let bodies: BTreeSet<String> = e.taken.iter().map(|(_, body)| sha256_hex(body)).collect();

    for sent in &e.notifications {
        let taken = sent["answer"]["acknowledged"] == true;
        let (id, order) = (
            sent["id"].as_str().unwrap_or_default(),
            sent["order_no"].as_str().unwrap_or_default(),
        );
        let forged = sent["fault"] == "forge";
        found.require(!(forged && taken), "forged_is_refused", order, || {
            format!("a forged notification {id} was answered {}", sent["answer"])
        });
        if taken && !forged {
            let recorded = ids.contains(id)
                || bodies.contains(sent["body_sha256"].as_str().unwrap_or_default());
            found.require(recorded, "acknowledged_is_recorded", order, || {
                format!("notification {id} was acknowledged, and no row has it")
            });
        }
    }
}
