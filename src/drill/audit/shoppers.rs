//! The rules about what the merchant's shoppers were answered: what was accepted is kept, and a
//! key, an order and a payment belong together.
#![expect(
    clippy::indexing_slicing,
    reason = "a JSON value gives null for what it has not"
)]

use std::collections::BTreeMap;

use super::events::ENDS;
use super::evidence::Evidence;
use super::findings::Findings;
use crate::domain::Aggregate;
use crate::domain::payment::State;
use crate::drill::merchant::{Answer, Shopped};

pub(super) fn shoppers(found: &mut Findings, e: &Evidence) {
    for (number, shopped) in &e.shopped {
        let subject = shopped
            .payment
            .clone()
            .unwrap_or_else(|| format!("shopper {number}"));
        let payment = shopped
            .payment
            .as_ref()
            .and_then(|id| e.payments.iter().find(|p| p.payment.id == *id));
        if shopped.payment.is_some() && payment.is_none() {
            found.figures.lost += 1;
            found.add(
                "accepted_is_kept",
                &subject,
                "was accepted, and is in no row".to_owned(),
            );
        }
        let Some(payment) = payment else { continue };
        let (asked, amount) = (shopped.amount, payment.payment.amount.minor());
        found.require(asked == amount, "one_amount", &subject, || {
            format!("{asked} fen were asked for, not {amount}")
        });
        let status = payment.payment.status.to_string();
        for told in shopped
            .statuses
            .iter()
            .filter(|told| ENDS.contains(&told.as_str()))
        {
            found.require(*told == status, "told_one_end", &subject, || {
                format!("told {told}, and is {status}")
            });
        }
        same_key_same_bytes(found, &subject, &shopped.answers);
        same_key_same_bytes(found, &subject, &shopped.refund_answers);
        strange_requests(found, &subject, shopped, payment.payment.status);
        for (refund_no, amount) in &shopped.refunds {
            let kept = payment
                .refunds
                .iter()
                .find(|r| r.merchant_refund_no == *refund_no);
            found.require(
                kept.is_some_and(|r| r.amount.minor() == *amount),
                "accepted_is_kept",
                &subject,
                || format!("refund {refund_no} of {amount} fen was accepted, and is in no row"),
            );
        }
        for (key, payment_id) in e
            .keys
            .iter()
            .filter(|(key, _)| shopped.answers.iter().any(|a| a.key == *key))
        {
            found.require(
                payment_id == &payment.payment.id,
                "one_payment_a_key",
                &subject,
                || format!("key {key} stands for {payment_id}"),
            );
        }
    }

    let mut by_order: BTreeMap<&str, Vec<&Aggregate>> = BTreeMap::new();
    for payment in &e.payments {
        by_order
            .entry(payment.payment.order_id.as_str())
            .or_default()
            .push(payment);
    }

    for (order, payments) in by_order {
        let paid = payments
            .iter()
            .filter(|p| p.payment.status == State::Succeeded)
            .count();
        found.require(paid <= 1, "one_payment_an_order", order, || {
            format!("{paid} payments of one order succeeded")
        });
    }
}

/// Whatever stands under a key is one answer, byte for byte, whether or not it says that it was
/// given before. (A 200 tells what has become of it since.)
fn same_key_same_bytes(found: &mut Findings, subject: &str, answers: &[Answer]) {
    let mut standing: BTreeMap<&str, &Answer> = BTreeMap::new();
    for answer in answers
        .iter()
        .filter(|answer| answer.replayed || answer.status == 201)
    {
        let first = standing.entry(answer.key.as_str()).or_insert(answer);
        let same = (first.status, &first.body) == (answer.status, &answer.body);
        found.require(same, "same_key_same_bytes", subject, || {
            format!("two answers under key {}", answer.key)
        });
    }
}

/// One key is one request, and one order one payment.
fn strange_requests(found: &mut Findings, subject: &str, shopped: &Shopped, status: State) {
    if let Some(answer) = &shopped.other_body {
        // Not read in time, in progress, limited, overloaded: asked again, it would be refused for
        // what it is.
        found.require(
            matches!(answer.status, 408 | 409 | 422 | 429 | 503),
            "another_body_is_refused",
            subject,
            || {
                format!(
                    "another body under the same key was answered {}",
                    answer.status
                )
            },
        );
    }

    let Some(answer) = &shopped.other_key else {
        return;
    };
    let body = answer.json();
    let is_another = matches!(answer.status, 200..=202) && body["id"] != subject;

    found.require(
        !is_another || (!status.is_open() && status != State::Succeeded),
        "one_payment_an_order",
        subject,
        || {
            format!(
                "the same order became {}, too, and the first one is {status}",
                body["id"]
            )
        },
    );

    let names_it = answer.status != 409
        || body["code"] != "order_id_in_use"
        || body["resource"] == subject
        || body["retryable"] == true;

    found.require(names_it, "the_first_one_is_named", subject, || {
        format!("{body}")
    });
}
