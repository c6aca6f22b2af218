//! The rules about one payment, its attempts and its refunds: each ends, is kept once, and its
//! money is where its rows and its provider say that it is.

use std::collections::BTreeMap;

use serde_json::Value;

use super::books::fen;
use super::evidence::Evidence;
use super::excuses::{
    cannot_be_proved, cannot_go_back, held_rightly, is_late, misstated, never_ends, stands,
};
use super::findings::Findings;
use crate::domain::attempt::Disposition;
use crate::domain::payment::State;
use crate::domain::{Aggregate, Attempt, refund};

/// So many questions about one payment at the most, whatever its attempts went through.
pub(super) const QUESTIONS: i32 = 30;

/// What nobody has to look at any more once everything was mended: it goes on by itself, or says
/// that it cannot.
const IN_VAIN: [&str; 5] = [
    "unresolved",
    "payment_stuck",
    "account_unavailable",
    "refund_unresolved",
    "refund_needs_funds",
];

pub(super) fn one_payment(
    found: &mut Findings,
    e: &Evidence,
    payment: &Aggregate,
    orders: &BTreeMap<&str, &Value>,
) {
    let id = payment.payment.id.as_str();
    let status = payment.payment.status;
    let ended = !status.is_open();
    let order_of = |attempt: &Attempt| orders.get(attempt.provider_order_no.as_str()).copied();
    let undecided = payment.attempts.iter().any(|attempt| {
        let held = held_rightly(e, payment, attempt, order_of(attempt));
        let unproved = cannot_be_proved(attempt, order_of(attempt))
            && stands(e, payment, attempt, &["unresolved"]);
        held || unproved
    });

    if !ended && !undecided {
        found.figures.unended += 1;
        found.add("every_request_ends", id, format!("still {status}"));
    }
    let questions = payment
        .attempts
        .iter()
        .map(|attempt| attempt.query_count)
        .sum();

    found.figures.most_questions_of_a_payment =
        found.figures.most_questions_of_a_payment.max(questions);
    found.require(questions <= QUESTIONS, "bounded_questions", id, || {
        format!("the providers were asked about it {questions} times")
    });
    let kept = payment
        .attempts
        .iter()
        .filter(|a| a.disposition == Some(Disposition::Kept))
        .count();

    let wanted = usize::from(status == State::Succeeded);
    found.require(kept == wanted, "kept_once", id, || {
        format!("{status}, and {kept} kept")
    });
    let alive = payment
        .attempts
        .iter()
        .filter(|a| a.status.is_live())
        .count();

    found.require(alive <= usize::from(!ended), "ended_is_dead", id, || {
        format!("{status} with {alive} live attempts")
    });
    let mut not_given_back = 0;

    for attempt in &payment.attempts {
        let order = order_of(attempt);
        one_attempt(found, e, payment, attempt, order);
        let left = order.map_or(0, |order| fen(order, "captured") - fen(order, "refunded"));
        let is_excused = match attempt.disposition {
            Some(Disposition::Kept) => true,
            Some(Disposition::Held) => held_rightly(e, payment, attempt, order),
            Some(Disposition::RefundDue) => cannot_go_back(e, payment, attempt, order),
            // Nobody asks any more when it comes, and it goes back by itself.
            None | Some(Disposition::ReturnedByProvider) => order.is_some_and(is_late),
            Some(Disposition::Refunded) => false,
        };
        if left > 0 && !is_excused {
            not_given_back += 1;
        }
        // What was ended before it came stands in the book without an amount.
        if let Some(order) =
            order.filter(|order| fen(order, "amount") > 0 || fen(order, "captured") > 0)
        {
            let (asked, amount) = (payment.payment.amount.minor(), fen(order, "amount"));
            found.require(asked == amount, "one_amount", id, || {
                format!("{asked} fen, and its order is of {amount}")
            });
        }
        if matches!(attempt.disposition, Some(Disposition::Refunded)) {
            found.figures.given_back += 1;
        }
    }

    found.figures.captured_twice_kept += u64::try_from(kept.saturating_sub(wanted)).unwrap_or(0);
    if not_given_back > 0 {
        found.figures.captured_twice_kept += not_given_back;
        found.add(
            "no_money_kept_beside",
            id,
            format!("{not_given_back} orders keep money that is not this payment's"),
        );
    }

    refunds(found, e, payment, orders);
}

fn one_attempt(
    found: &mut Findings,
    e: &Evidence,
    payment: &Aggregate,
    attempt: &Attempt,
    order: Option<&Value>,
) {
    let id = payment.payment.id.as_str();
    let stands = |kinds: &[&str]| stands(e, payment, attempt, kinds);
    let in_book = order.map_or(0, |order| fen(order, "captured"));
    let in_rows = attempt.captured.map_or(0, providers::money::Money::minor);
    let reversed = order.is_some_and(|o| o["state"] == "reversed");

    if attempt.disposition == Some(Disposition::Kept) {
        let stays = in_book > 0 && !reversed && !order.is_some_and(is_late);
        found.require(stays, "kept_is_there", id, || {
            format!(
                "attempt {} is kept, and its order is {}",
                attempt.id,
                order.map_or(&Value::Null, |o| &o["state"])
            )
        });
    }

    // A charge that was reversed had its money for a moment; that it was ever there may be known to
    // the provider alone. So may money that came when nobody asked any more, and goes back by
    // itself.
    let gone =
        order.is_some_and(|o| fen(o, "captured") == fen(o, "refunded") || reversed || is_late(o));
    let agrees = in_book == in_rows || (in_rows == 0 && gone);
    let agrees = agrees || misstated(e, payment, attempt);
    if !agrees && in_book > in_rows {
        found.figures.lost += 1;
    }

    found.require(agrees, "books_agree", id, || {
        format!(
            "attempt {} ({}): {in_rows} fen in rows, {in_book} at its provider",
            attempt.id, attempt.status
        )
    });

    found.figures.most_questions = found.figures.most_questions.max(attempt.query_count);
    let due = attempt.disposition == Some(Disposition::RefundDue);

    found.require(
        !due || cannot_go_back(e, payment, attempt, order),
        "due_money_goes_back",
        id,
        || format!("attempt {} is still refund_due", attempt.id),
    );

    let held = attempt.disposition == Some(Disposition::Held);
    found.require(
        !held || held_rightly(e, payment, attempt, order),
        "held_for_a_reason",
        id,
        || {
            format!(
                "attempt {} is held, and its provider did nothing that stands on the work list",
                attempt.id
            )
        },
    );

    for kind in IN_VAIN {
        let excused = (kind == "unresolved" && cannot_be_proved(attempt, order))
            || (kind == "refund_unresolved" && never_ends(order));
        found.require(
            excused || !stands(&[kind]),
            "nothing_waits_in_vain",
            id,
            || {
                format!(
                    "{kind} of attempt {} ({}) still stands on the work list",
                    attempt.id, attempt.status
                )
            },
        );
    }

    let claimed = payment.claimed_by_refunds_fen(&attempt.id);
    found.require(claimed <= in_rows, "refunds_within_capture", id, || {
        format!(
            "attempt {}: {claimed} of {in_rows} fen are promised or refunded",
            attempt.id
        )
    });
}

fn refunds(
    found: &mut Findings,
    e: &Evidence,
    payment: &Aggregate,
    orders: &BTreeMap<&str, &Value>,
) {
    let id = payment.payment.id.as_str();

    for attempt in payment.attempts.iter().filter(|a| a.captured.is_some()) {
        let Some(order) = orders.get(attempt.provider_order_no.as_str()) else {
            continue;
        };
        let of_it: Vec<_> = payment
            .refunds
            .iter()
            .filter(|r| r.attempt_id == attempt.id)
            .collect();
        let done = of_it
            .iter()
            .filter(|r| r.status == refund::State::Succeeded)
            .map(|r| r.amount.minor())
            .sum::<i64>();
        // A reversal gives all of it back, without a refund of ours.
        let reversed =
            order["state"] == "reversed" && attempt.disposition != Some(Disposition::Kept);
        let settled = done == fen(order, "refunded") || reversed || is_late(order);
        found.require(
            settled || misstated(e, payment, attempt),
            "refunds_agree",
            id,
            || {
                format!(
                    "attempt {}: {done} fen refunded in rows, {} at its provider",
                    attempt.id,
                    fen(order, "refunded")
                )
            },
        );
        // One at a time: the others wait for it.
        let waits = never_ends(Some(order)) && stands(e, payment, attempt, &["refund_unresolved"]);
        for refund in of_it
            .iter()
            .filter(|r| r.status == refund::State::Pending && !waits)
        {
            found.add(
                "every_refund_ends",
                id,
                format!("refund {} is still pending", refund.id),
            );
        }
        for refund in of_it.iter().filter(|r| r.status == refund::State::Abnormal) {
            let listed = e
                .for_a_person
                .iter()
                .any(|o| o.kind == "refund_abnormal" && o.subject_id == refund.id);
            found.require(listed, "every_refund_ends", id, || {
                format!("refund {} is abnormal, and nobody is told", refund.id)
            });
        }
    }
}
