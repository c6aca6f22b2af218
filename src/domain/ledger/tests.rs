//! The ledger follows whatever a payment goes through: thousands of random lives, each step of
//! which the state machines allow, and what rows and entries say of them in two different ways.

use std::str::FromStr;

use providers::order::Flow;
use rand::rngs::Xoshiro256PlusPlus as Rng;
use rand::seq::IteratorRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use strum::IntoEnumIterator as _;

use super::check::deviations;
use super::*;
use crate::domain::Owner;
use crate::domain::attempt::{DispositionEvent, Event as AttemptEvent};
use crate::domain::id::NotAnId;
use crate::domain::payment::{Payment, State as PaymentState};

const NOW: Timestamp = Timestamp(1_800_000_000_000);

fn id<T: FromStr<Err = NotAnId>>(text: impl AsRef<str>) -> T {
    text.as_ref().parse().unwrap()
}

fn fen(fen: i64) -> Money {
    Money::fen(fen).unwrap()
}

pub(crate) fn payment() -> Aggregate {
    let payment = Payment {
        id: id("pay_1"),
        owner: Owner::of(id("mer_1"), false),
        order_id: "1".to_owned(),
        amount: fen(8888),
        description: String::new(),
        flow: Flow::Qr,
        providers: Vec::new(),
        status: PaymentState::Processing,
        failure: None,
        return_url: None,
        notify_url: None,
        client_ip: None,
        store: None,
        metadata: serde_json::Value::Null,
        round: 0,
        version: 1,
        resume_at: None,
        parked_at: None,
        lease_until: None,
        cancel_requested_at: None,
        paid_at: None,
        created_at: NOW,
        expires_at: NOW,
        ledger: Some(Head::default()),
    };

    Aggregate {
        payment,
        attempts: Vec::new(),
        refunds: Vec::new(),
    }
}

pub(crate) fn attempt(aggregate: &mut Aggregate) {
    let n = aggregate.attempts.len() + 1;

    aggregate.attempts.push(Attempt {
        id: id(format!("att_{n}")),
        payment_id: id("pay_1"),
        seq: i32::try_from(n).unwrap(),
        round: 0,
        account_id: id(format!("acct_{}", n % 2)),
        provider: "alipay".parse().unwrap(),
        flow: Flow::Qr,
        status: State::Superseded,
        disposition: None,
        provider_order_no: id(n.to_string()),
        provider_transaction_id: None,
        provider_request_id: None,
        amount: fen(8888),
        captured: None,
        payer_amount: None,
        payer: None,
        paid_at: None,
        outcome: None,
        failure: None,
        next_action: None,
        reason: serde_json::Value::Null,
        started_at: NOW,
        call_deadline: NOW,
        offer_deadline: NOW,
        latency_ms: None,
        next_check_at: None,
        query_count: 0,
        reversal: None,
        reversal_in_doubt: false,
        not_found_since: None,
        returning: false,
        told_paid: false,
    });
}

pub(crate) fn refund(aggregate: &mut Aggregate, attempt_id: &str, amount: i64, automatic: bool) {
    let n = aggregate.refunds.len() + 1;

    aggregate.refunds.push(Refund {
        id: id(format!("re_{n}")),
        payment_id: id("pay_1"),
        attempt_id: id(attempt_id),
        owner: Owner::of(id("mer_1"), false),
        merchant_refund_no: String::new(),
        provider_refund_no: id(format!("R{n}")),
        earlier_nos: Vec::new(),
        amount: fen(amount),
        status: refund::State::Pending,
        reason: None,
        automatic,
        failure: None,
        needs_funds: false,
        created_at: NOW,
        completed_at: None,
        txn_time: None,
        sent_at: None,
        in_doubt: false,
        next_check_at: None,
        query_count: 0,
        told_done: false,
    });
}

pub(crate) fn capture(aggregate: &mut Aggregate, n: usize, amount: i64, disposition: Disposition) {
    let kept = disposition == Disposition::Kept;
    let attempt = &mut aggregate.attempts[n];
    attempt.apply(AttemptEvent::Capture).unwrap();
    (attempt.captured, attempt.disposition) = (Some(fen(amount)), Some(disposition));
    if kept {
        aggregate.payment.status = PaymentState::Succeeded;
    }
}

/// One thing that may happen, if it may.
fn happens(rng: &mut Rng, a: &mut Aggregate) {
    let n = rng.random_range(0..a.attempts.len());

    match rng.random_range(0..6) {
        0 if a.attempts[n].captured.is_none()
            && a.attempts[n].status.on(AttemptEvent::Capture).is_ok() =>
        {
            let free = a.kept().is_none();
            let disposition = match rng.random_range(0..3) {
                0 if free => Disposition::Kept,
                0 | 1 => Disposition::RefundDue,
                _ => Disposition::Held,
            };
            capture(a, n, rng.random_range(1..10_000), disposition);
        }
        1 if a.attempts[n].status == State::Captured => {
            let event = DispositionEvent::iter().choose(rng).unwrap();
            let attempt = &a.attempts[n];
            let id = attempt.id.clone();
            let under_way = a
                .refunds
                .iter()
                .any(|r| r.attempt_id == id && r.status != refund::State::Failed);
            let next = attempt.disposition.and_then(|d| d.on(event).ok());
            let twice = next == Some(Disposition::Kept) && a.kept().is_some();
            if let Some(next) = next.filter(|_| !under_way && !twice) {
                a.attempts[n].disposition = Some(next);
                if next == Disposition::Kept {
                    a.payment.status = PaymentState::Succeeded;
                }
            }
        }
        2 if a.attempts[n].disposition == Some(Disposition::Kept)
            && a.attempts[n].status == State::Captured =>
        {
            let id = a.attempts[n].id.clone();
            let left = a.attempts[n].captured.unwrap().minor() - a.claimed_by_refunds_fen(&id);
            if left > 0 {
                let amount = rng.random_range(1..=left);
                refund(a, &id, amount, false);
            }
        }
        3 if a.attempts[n].disposition == Some(Disposition::RefundDue)
            && a.attempts[n].status == State::Captured =>
        {
            let id = a.attempts[n].id.clone();
            if a.claimed_by_refunds_fen(&id) == 0 {
                let amount = a.attempts[n].captured.unwrap().minor();
                refund(a, &id, amount, true);
            }
        }
        4 if !a.refunds.is_empty() => {
            let r = rng.random_range(0..a.refunds.len());
            let event = refund::Event::iter().choose(rng).unwrap();
            let failed = a.refunds[r].status == refund::State::Failed;
            if failed && !a.still_fits(&a.refunds[r]) {
                return;
            }
            if a.refunds[r].apply(event).is_ok() && a.refunds[r].automatic {
                let (id, done) = (
                    a.refunds[r].attempt_id.clone(),
                    a.refunds[r].status == refund::State::Succeeded,
                );
                let attempt = a.attempt_mut(&id).unwrap();
                if done && attempt.disposition == Some(Disposition::RefundDue) {
                    attempt.disposition = Some(Disposition::Refunded);
                }
            }
        }
        5 if rng.random_range(0..8) == 0 && a.attempts[n].status == State::Captured => {
            let id = a.attempts[n].id.clone();
            // The provider's word that all of it went back ends the refunds, too.
            if !a
                .refunds
                .iter()
                .any(|r| r.attempt_id == id && r.status == refund::State::Pending)
            {
                a.attempts[n].apply(AttemptEvent::Reversed).unwrap();
            }
        }
        _ => {}
    }
}

#[test]
fn entries_agree_with_rows_whatever_a_payment_goes_through() {
    let (mut moved, mut causes) = (0, std::collections::HashSet::new());
    for seed in 0..3_000 {
        let mut rng = Rng::seed_from_u64(seed);
        let mut now = payment();
        for _ in 0..3 {
            attempt(&mut now);
        }
        let mut journal: Vec<Entry> = Vec::new();
        for _ in 0..40 {
            let mut after = now.clone();
            // Sometimes several things become true in one change.
            for _ in 0..rng.random_range(1..4) {
                happens(&mut rng, &mut after);
            }
            let (new, head) = entries(Some(&now), &after, NOW);
            causes.extend(new.iter().map(|entry| entry.transfer.cause.to_string()));
            moved += new.len();
            journal.extend(new);
            after.payment.ledger = Some(head);
            assert_eq!(
                deviations(&after, &journal),
                Vec::<String>::new(),
                "seed {seed}: {after:#?}"
            );
            let total: i128 = balances(journal.iter()).values().sum();
            assert_eq!(total, 0, "seed {seed}");
            now = after;
        }
        // A payment that was there before the ledger gets into it as it is.
        let mut old = now.clone();
        old.payment.ledger = None;
        let (opening, head) = entries(Some(&old), &old, NOW);
        assert!(
            opening
                .iter()
                .all(|entry| entry.transfer.cause == Cause::Opening)
        );
        old.payment.ledger = Some(head);
        assert_eq!(
            deviations(&old, &opening),
            Vec::<String>::new(),
            "seed {seed}: {old:#?}"
        );
    }

    assert!(moved > 10_000, "{moved}");
    assert_eq!(causes.len(), 7, "all but the opening: {causes:?}");
}

fn shown(entries: &[Entry]) -> Vec<String> {
    let line = |e: &Entry| {
        let t = &e.transfer;
        format!(
            "{} {}: {} to {} from {}",
            e.seq,
            t.cause,
            t.amount.minor(),
            t.debit,
            t.credit
        )
    };
    entries.iter().map(line).collect()
}

#[test]
fn a_payment_that_is_kept_refunded_in_part_and_stuck_on_the_way() {
    let mut before = payment();
    attempt(&mut before);
    let mut after = before.clone();
    capture(&mut after, 0, 8888, Disposition::Kept);
    let mut journal = Vec::new();
    let mut step = |before: &mut Aggregate, mut after: Aggregate| {
        let (new, head) = entries(Some(before), &after, NOW);
        after.payment.ledger = Some(head);
        journal.extend(new);
        *before = after;
    };

    step(&mut before, after);
    let mut after = before.clone();
    refund(&mut after, "att_1", 1000, false);
    step(&mut before, after);
    let mut after = before.clone();
    after.refunds[0].apply(refund::Event::MarkAbnormal).unwrap();
    step(&mut before, after);
    let mut after = before.clone();
    after.refunds[0].apply(refund::Event::Refuse).unwrap();
    step(&mut before, after);
    let mut after = before.clone();
    refund(&mut after, "att_1", 888, false);
    after.refunds[1].apply(refund::Event::Done).unwrap();
    step(&mut before, after);

    assert_eq!(
        shown(&journal),
        [
            "1 captured: 8888 to at_provider from kept",
            "2 refund_pending: 1000 to kept from refund_pending",
            "3 refund_abnormal: 1000 to astray from at_provider",
            "4 refund_failed: 1000 to refund_pending from kept",
            "5 refund_failed: 1000 to at_provider from astray",
            "6 refund_succeeded: 888 to kept from at_provider",
        ]
    );

    assert_eq!(deviations(&before, &journal), Vec::<String>::new());
}

#[test]
fn whatever_is_done_to_a_chain_is_found() {
    let mut before = payment();
    attempt(&mut before);
    let mut after = before.clone();
    capture(&mut after, 0, 8888, Disposition::Kept);
    refund(&mut after, "att_1", 100, false);
    refund(&mut after, "att_1", 200, false);
    let (journal, head) = entries(Some(&before), &after, NOW);
    after.payment.ledger = Some(head);
    assert_eq!(deviations(&after, &journal), Vec::<String>::new());

    let says = |journal: &[Entry], what: &str| {
        let found = deviations(&after, journal);
        assert!(
            found.iter().any(|text| text.contains(what)),
            "{what:?} is not in {found:?}"
        );
    };

    for n in 0..journal.len() {
        let mut cut = journal.clone();
        cut.remove(n);
        says(
            &cut,
            if n == journal.len() - 1 {
                "the chain ends with"
            } else {
                "is missing"
            },
        );
        let mut changed = journal.clone();
        changed[n].transfer.amount = fen(1);
        says(&changed, "was changed");
        // With a new hash of its own, the next one does not follow it any more; nor does the
        // payment's row.
        changed[n].hash = changed[n].computed_hash();
        says(
            &changed,
            if n == journal.len() - 1 {
                "the chain ends with"
            } else {
                "does not follow"
            },
        );
        says(&changed, "fen in the ledger and");
    }

    let mut more = journal.clone();
    let mut extra = Entry {
        seq: 4,
        previous: journal[2].hash.clone(),
        ..journal[2].clone()
    };

    extra.hash = extra.computed_hash();
    more.push(extra);
    says(
        &more,
        "the chain ends with entry 4, and the payment's row with entry 3",
    );
    let mut row = after.clone();
    row.attempts[0].captured = Some(fen(9999));

    assert!(
        deviations(&row, &journal)[0].contains("by the rows"),
        "{:?}",
        deviations(&row, &journal)
    );

    let mut status = after.clone();
    status.payment.status = PaymentState::Failed;
    assert_eq!(
        deviations(&status, &journal),
        ["its status is failed, and money is kept"]
    );
}

#[test]
fn the_hash_of_an_entry_is_the_same_for_ever() {
    let mut before = payment();
    attempt(&mut before);
    let mut after = before.clone();
    capture(&mut after, 0, 8888, Disposition::Held);
    let (journal, _) = entries(Some(&before), &after, NOW);
    insta::assert_snapshot!(journal[0].hash,
        @"e96d15d47365a826d06172372e43b04f214a3f43299253cdcc0c5936ac830190");
}
