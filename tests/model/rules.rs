//! What must hold whatever happens, and what must have become of everything once nothing happens
//! any more. The rules look at the rows, at what the merchant was told and at the model's orders;
//! they know nothing of how the code decides.

use std::collections::BTreeSet;

use interlock::domain::attempt::{Disposition, DispositionEvent, Event, State};
use interlock::domain::payment::{Event as PaymentEvent, State as PaymentState};
use interlock::domain::refund::{Event as RefundEvent, State as RefundState};
use interlock::domain::{Aggregate, Attempt};
use strum::IntoEnumIterator as _;

use super::world::{AMOUNT_FEN, World};

/// What says that a payment has ended.
const FINAL: [&str; 4] = [
    "payment.succeeded",
    "payment.failed",
    "payment.canceled",
    "payment.expired",
];

/// Holds the rules against what was just written.
pub fn hold(world: &World, before: Option<&Aggregate>) {
    let Some(now) = &world.seen else { return };
    let kept: Vec<&Attempt> = now
        .attempts
        .iter()
        .filter(|a| a.disposition == Some(Disposition::Kept))
        .collect();

    let succeeded = now.payment.status == PaymentState::Succeeded;
    assert_eq!(
        kept.len(),
        usize::from(succeeded),
        "one capture is kept exactly when the payment has succeeded"
    );

    let live = now.attempts.iter().filter(|a| a.status.is_live()).count();
    assert!(live <= 1, "{live} attempts are alive");
    for attempt in &now.attempts {
        money_has_a_disposition(attempt);
        let is_another_sum = attempt
            .captured
            .is_some_and(|money| money.minor() != AMOUNT_FEN);
        let is_held = attempt
            .disposition
            .is_none_or(|disposition| disposition == Disposition::Held);
        assert!(
            !is_another_sum || is_held,
            "another sum than was asked for is {:?}",
            attempt.disposition
        );
    }

    if let Some(before) = before {
        only_legal_steps(before, now);
    }
    told_consistently(world, now);
    let ended = |a: &Aggregate| !a.payment.status.is_open();

    if ended(now) && !succeeded && !before.is_some_and(ended) {
        nobody_can_pay(world, now);
    }
}

fn money_has_a_disposition(attempt: &Attempt) {
    assert_eq!(
        attempt.disposition.is_some(),
        attempt.status == State::Captured,
        "an attempt that is {} has money that is {:?}",
        attempt.status,
        attempt.disposition
    );
}

/// What can be reached from a state, by whatever happens.
fn reachable<S: Copy + PartialEq>(from: S, step: impl Fn(S) -> Vec<S>) -> Vec<S> {
    let mut reached = vec![from];
    let mut at = 0;
    while let Some(state) = reached.get(at).copied() {
        for next in step(state) {
            if !reached.contains(&next) {
                reached.push(next);
            }
        }
        at += 1;
    }
    reached
}

fn only_legal_steps(before: &Aggregate, now: &Aggregate) {
    let payment = |s: PaymentState| PaymentEvent::iter().filter_map(|e| s.on(e).ok()).collect();
    let legal = reachable(before.payment.status, payment);

    assert!(
        legal.contains(&now.payment.status),
        "payment: {} to {}",
        before.payment.status,
        now.payment.status
    );

    for was in &before.attempts {
        let is = now.attempt(&was.id).expect("an attempt is never forgotten");
        assert_eq!(
            (&was.provider_order_no, &was.account_id),
            (&is.provider_order_no, &is.account_id)
        );
        let legal = reachable(was.status, |s: State| {
            Event::iter().filter_map(|e| s.on(e).ok()).collect()
        });
        assert!(
            legal.contains(&is.status),
            "attempt: {} to {}",
            was.status,
            is.status
        );
        if let Some(disposition) = was.disposition {
            let step = |s: Disposition| {
                DispositionEvent::iter()
                    .filter_map(|e| s.on(e).ok())
                    .collect()
            };
            let is = is.disposition.expect("money is never forgotten");
            assert!(
                reachable(disposition, step).contains(&is),
                "money: {disposition} to {is}"
            );
        }
    }

    for was in &before.refunds {
        let is = now
            .refunds
            .iter()
            .find(|r| r.id == was.id)
            .expect("a refund is never forgotten");
        let legal = reachable(was.status, |s: RefundState| {
            RefundEvent::iter().filter_map(|e| s.on(e).ok()).collect()
        });
        assert!(
            legal.contains(&is.status),
            "refund: {} to {}",
            was.status,
            is.status
        );
    }
}

fn told_consistently(world: &World, now: &Aggregate) {
    let told = &world.told;
    let ends: Vec<&String> = told
        .iter()
        .filter(|kind| FINAL.contains(&kind.as_str()))
        .collect();
    let expected: Vec<String> = if now.payment.status.is_open() {
        Vec::new()
    } else {
        vec![format!("payment.{}", now.payment.status)]
    };

    assert_eq!(
        ends,
        expected.iter().collect::<Vec<_>>(),
        "the end is told once, and truly"
    );

    let late = told
        .iter()
        .filter(|kind| *kind == "payment.late_captured")
        .count();
    let not_kept = now
        .attempts
        .iter()
        .filter(|a| a.disposition.is_some_and(|d| d != Disposition::Kept))
        .count();

    assert_eq!(
        late, not_kept,
        "money that is not kept is told of once: {told:?}"
    );

    let canceled = now.payment.status == PaymentState::Canceled;
    assert!(
        !canceled || world.canceled,
        "canceled, and nobody has asked for it"
    );

    let expired = now.payment.status == PaymentState::Expired;
    assert!(
        !expired || world.now() >= now.payment.expires_at,
        "expired before its time"
    );
}

/// "Failed", "canceled" and "expired" are said when nothing that a payer has seen can be paid any
/// more.
fn nobody_can_pay(world: &World, now: &Aggregate) {
    let (time, charge) = (world.now().utc(), now.payment.flow.is_charge());

    for attempt in &now.attempts {
        let number = &attempt.provider_order_no;
        let was_shown = charge || attempt.next_action.is_some();
        let order = world.shop.order(number);
        let payable = order.is_some_and(|order| order.can_be_paid(time));
        let on_its_way = charge && world.shop.is_on_its_way(number, time);
        assert!(
            !(was_shown && (payable || on_its_way)) || world.has_lied,
            "{} is told, and order {number} can still be paid",
            now.payment.status
        );
        let unknown_money =
            order.is_some_and(|order| order.net_fen() > 0 && attempt.disposition.is_none());
        assert!(
            !(was_shown && unknown_money) || world.has_lied,
            "{} is told, and order {number} has been paid",
            now.payment.status
        );
    }
}

/// Nothing is due any more: every fen is where the rows say that it is, and what is not ended
/// stands on the work list.
pub async fn hold_at_the_end(world: &World) {
    for order in world.shop.orders.iter().filter(|order| order.net_fen() > 0) {
        let number = &order.wanted.order_no;
        let rows = world.seen.iter().flat_map(|now| &now.attempts);
        assert!(
            rows.into_iter().any(|a| a.provider_order_no == *number),
            "order {number} is paid, and no row knows of it"
        );
    }

    let Some(now) = &world.seen else { return };
    let mut listed = BTreeSet::new();

    for attempt in &now.attempts {
        if world.is_on_the_work_list(&attempt.id).await {
            listed.insert(attempt.id.clone());
        }
    }

    for refund in &now.refunds {
        if world.is_on_the_work_list(&refund.id).await {
            listed.insert(refund.attempt_id.clone());
        }
    }

    for attempt in &now.attempts {
        let is_listed = listed.contains(&attempt.id);
        let order = world.shop.order(&attempt.provider_order_no);
        let taken = order.map_or(0, |order| order.net_fen());
        match (attempt.status, attempt.disposition) {
            (State::Captured, Some(Disposition::Kept)) => {
                assert_eq!(taken, AMOUNT_FEN, "kept, and the payer has it")
            }
            (State::Captured, Some(Disposition::Refunded | Disposition::ReturnedByProvider)) => {
                assert_eq!(taken, 0, "said to have gone back");
            }
            (State::Captured, Some(Disposition::Held | Disposition::RefundDue)) => {
                assert!(is_listed, "{:?}, and on nobody's list", attempt.disposition);
            }
            (State::Captured, None) => panic!("money without a disposition"),
            (State::Reversed, _) => assert_eq!(taken, 0, "said to have been reversed"),
            // Of money on an order that its provider had said was dead, only the provider can tell.
            (State::Dead, _) => {
                let untold = world.has_lied && !world.start.hears;
                assert!(
                    taken == 0 || untold,
                    "dead, and {taken} fen are with the merchant"
                );
            }
            (
                State::Sending
                | State::AwaitingPayer
                | State::Unknown
                | State::Abandoned
                | State::Closing
                | State::Superseded
                | State::Reversing,
                _,
            ) => assert!(
                is_listed,
                "an attempt is {} for ever, and on nobody's list",
                attempt.status
            ),
        }
    }

    if now.payment.status.is_open() {
        let waits = now.attempts.iter().any(|a| listed.contains(&a.id));
        assert!(
            waits,
            "the payment is {} for ever, and on nobody's list",
            now.payment.status
        );
    }
}
