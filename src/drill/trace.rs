//! What is known of a payment that something is wrong with.

use super::audit::{Evidence, Violation};

/// What is known of the payment that a violation is about: its rows, its orders at providers, what
/// shoppers were told, and the lines of the log that name it.
pub fn trace(violation: &Violation, e: &Evidence) -> String {
    let id = &violation.subject;
    let mut lines = vec![format!("  trace of {id}:")];

    for payment in e.payments.iter().filter(|p| p.payment.id == *id) {
        let p = &payment.payment;
        lines.push(format!(
            "    {} {} fen {} canceled {:?}",
            p.status,
            p.amount.minor(),
            p.flow,
            p.cancel_requested_at
        ));
        for a in &payment.attempts {
            lines.push(format!(
                "    attempt {} {} {} {:?} outcome {:?} captured {:?} reversal {:?} next {:?}",
                a.id,
                a.provider,
                a.status,
                a.disposition,
                a.outcome,
                a.captured,
                a.reversal,
                a.next_check_at
            ));
            for order in e
                .orders
                .iter()
                .filter(|o| o["order_no"] == *a.provider_order_no)
            {
                lines.push(format!(
                    "      order {} {} captured {} refunded {}",
                    order["order_no"], order["state"], order["captured"], order["refunded"]
                ));
            }
        }
        for r in &payment.refunds {
            lines.push(format!(
                "    refund {} of {} {} {} fen {:?}",
                r.id,
                r.attempt_id,
                r.status,
                r.amount.minor(),
                r.failure
            ));
        }
    }

    for told in e.told.iter().filter(|told| told.payment_id == *id) {
        lines.push(format!(
            "    event {} {} {:?}",
            told.version, told.kind, told.deliveries
        ));
    }

    for shopped in e
        .shopped
        .values()
        .filter(|s| s.payment.as_ref() == Some(id))
    {
        let answers: Vec<(u16, bool)> = shopped
            .answers
            .iter()
            .map(|a| (a.status, a.replayed))
            .collect();
        lines.push(format!(
            "    answers {answers:?}, statuses {:?}, refunds {:?}",
            shopped.statuses, shopped.refunds
        ));
    }

    let named = e
        .logs
        .iter()
        .flat_map(|log| log.lines())
        .filter(|line| line.contains(id.as_str()));

    lines.extend(
        named
            .take(60)
            .map(|line| format!("    log {}", line.chars().take(400).collect::<String>())),
    );

    lines.join("\n")
}
