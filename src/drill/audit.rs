//! The auditor: reads the sandbox's book, the database's rows and the merchant's log, and nothing
//! else, and says what must never be so. Each verdict is a rule that can be broken; what it says of
//! a payment is enough to look for it. Pure.

mod books;
mod events;
mod evidence;
mod excuses;
mod figures;
mod findings;
mod gateways;
mod payments;
mod shoppers;

use std::collections::BTreeMap;

use serde_json::Value;

use self::books::{calls, known_orders, notifications};
pub use self::events::ENDED_WITHIN_S;
use self::events::events;
pub use self::evidence::Evidence;
pub use self::figures::Figures;
use self::findings::Findings;
pub use self::findings::Violation;
use self::gateways::{logs, probes};
use self::payments::one_payment;
use self::shoppers::shoppers;

/// Audits all.
#[must_use]
pub fn audit(e: &Evidence) -> (Vec<Violation>, Figures) {
    let mut found = Findings::default();
    let orders: BTreeMap<&str, &Value> = e
        .orders
        .iter()
        .filter_map(|o| Some((o["order_no"].as_str()?, o)))
        .collect();

    for trouble in &e.trouble {
        found.add("comes_to_rest", "run", trouble.clone());
    }
    for (rule, found_slow) in &e.too_slow {
        found.add(rule, "run", found_slow.clone());
    }
    for seen in &e.seen_double {
        found.add(
            "never_two_alive",
            seen,
            "two live or two kept attempts at one moment".to_owned(),
        );
    }

    for missing in &e.not_back {
        found.add("back_in_time", "run", missing.clone());
    }
    for deviation in &e.ledger {
        found.add("ledger_agrees", &deviation.place, deviation.what.clone());
    }
    if let Some((point, false)) = &e.point {
        found.add(
            "every_point_is_hit",
            point,
            "no gateway died there".to_owned(),
        );
    }

    for believed in &e.forgeries.believed {
        found.add("forged_is_refused", believed.what, believed.answer.clone());
    }
    if let Some(changed) = &e.changed_by_forgeries {
        found.add("forged_changes_nothing", "run", changed.clone());
    }
    probes(&mut found, e);
    calls(&mut found, e);
    for payment in &e.payments {
        one_payment(&mut found, e, payment, &orders);
    }
    known_orders(&mut found, e);
    notifications(&mut found, e);
    shoppers(&mut found, e);
    events(&mut found, e);
    logs(&mut found, e);

    found.done(e)
}

#[cfg(test)]
mod tests;
