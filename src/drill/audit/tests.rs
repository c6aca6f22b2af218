//! Every verdict is seen to fail: a run in which all is well, and what is wrong with it each time.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::payments::QUESTIONS;
use super::{ENDED_WITHIN_S, Evidence, audit};
use crate::domain::attempt::Disposition;
use crate::domain::ledger::tests::{attempt, capture, payment, refund};
use crate::domain::payment::State;
use crate::domain::{Aggregate, Timestamp, refund};
use crate::drill::attacker::Believed;
use crate::drill::merchant::{Answer, Shopped};
use crate::drill::prober::Probed;
use crate::drill::receiver::Received;
use crate::store::Deviation;
use crate::store::audit::{ForAPerson, Told};

/// Of a payment that was asked for twice, paid, told of, and given back in part; and of another
/// offer of it that nobody paid.
fn good() -> Evidence {
    let mut payment = payment();
    attempt(&mut payment);
    attempt(&mut payment);
    capture(&mut payment, 0, 8888, Disposition::Kept);
    refund(&mut payment, "att_1", 1000, false);
    payment.refunds[0].status = refund::State::Succeeded;
    payment.refunds[0].merchant_refund_no = "rf-1".to_owned();
    let order = |number: &str, state: &str, captured: i64, refunded: i64| {
        json!({"provider": "alipay", "order_no": number, "amount": 8888, "state": state,
            "captured": captured,
            "refunded": refunded, "refunds": [], "paid_at": "2026-11-11T00:00:00Z",
            "expires_at": "2026-11-11T00:05:00Z"})
    };

    let told = |version: i64, kind: &str| Told {
        id: format!("evt_{version}").parse().unwrap(),
        payment_id: "pay_1".parse().unwrap(),
        version,
        kind: kind.to_owned(),
        at: Timestamp(1_800_000_000_000),
        deliveries: vec!["delivered".to_owned()],
    };

    let received = |version: i64, kind: &str| Received {
        id: format!("evt_{version}"),
        kind: kind.to_owned(),
        payment: "pay_1".to_owned(),
        status: "succeeded".to_owned(),
    };

    Evidence {
        orders: vec![order("1", "paid", 8888, 1000), order("2", "closed", 0, 0)],
        calls: json!({"alipay": {"create": 2, "query": 3, "close": 1}}),
        notifications: vec![
            json!({"id": "n1", "order_no": "1", "answer": {"acknowledged": true},
                "body_sha256": ""}),
        ],
        sent: 1,
        payments: vec![payment],
        told: vec![told(1, "payment.succeeded"), told(2, "refund.succeeded")],
        taken: vec![("n1".to_owned(), Vec::new())],
        keys: vec![("key".to_owned(), "pay_1".parse().unwrap())],
        shopped: BTreeMap::from([(
            0,
            Shopped {
                payment: Some("pay_1".to_owned()),
                amount: 8888,
                answers: vec![
                    answer(201, "one"),
                    Answer {
                        replayed: true,
                        ..answer(201, "one")
                    },
                ],
                other_body: Some(answer(422, "")),
                other_key: Some(answer(
                    409,
                    r#"{"code": "order_id_in_use", "resource": "pay_1"}"#,
                )),
                statuses: vec!["requires_action".to_owned(), "succeeded".to_owned()],
                refunds: BTreeMap::from([("rf-1".to_owned(), 1000)]),
                payable: true,
                ..Shopped::default()
            },
        )]),
        received: vec![
            received(1, "payment.succeeded"),
            received(2, "refund.succeeded"),
        ],
        logs: vec!["{\"level\":\"INFO\",\"message\":\"serving\"}".to_owned()],
        secrets: vec!["a secret of the merchant".to_owned()],
        probed: vec![Probed {
            longest_ms: 15_000,
            falsely_ready_ms: 30_000,
            ..Probed::default()
        }],
        mended_at: Some(Timestamp(1_800_000_000_000)),
        ..Evidence::default()
    }
}

fn answer(status: u16, body: &str) -> Answer {
    Answer {
        key: "key".to_owned(),
        status,
        replayed: false,
        body: body.as_bytes().to_vec(),
    }
}

fn first(e: &mut Evidence) -> &mut Aggregate {
    &mut e.payments[0]
}

fn shopper(e: &mut Evidence) -> &mut Shopped {
    e.shopped.get_mut(&0).unwrap()
}

fn for_a_person(kind: &str, subject_id: &str) -> ForAPerson {
    ForAPerson {
        kind: kind.to_owned(),
        subject_id: subject_id.to_owned(),
        since: Timestamp(1_800_000_000_000),
    }
}

/// Money on the second offer as well, with what became of it.
fn second(e: &mut Evidence, disposition: Disposition) {
    capture(first(e), 1, 8888, disposition);
    first(e).payment.status = State::Succeeded;
    e.orders[1]["captured"] = 8888.into();
    let told = Told {
        id: "evt_3".parse().unwrap(),
        version: 3,
        kind: "payment.late_captured".to_owned(),
        ..e.told[0].clone()
    };
    e.received.push(Received {
        id: told.id.to_string(),
        kind: told.kind.clone(),
        ..e.received[0].clone()
    });
    e.told.push(told);
}

/// The second offer was UnionPay's, and was paid after its time.
fn late(e: &mut Evidence) {
    first(e).attempts[1].provider = "unionpay".parse().unwrap();
    e.calls = json!({"alipay": {"create": 1}, "unionpay": {"create": 1}});
    e.orders[1]["provider"] = "unionpay".into();
    e.orders[1]["paid_at"] = "2026-11-11T00:06:00Z".into();
}

fn broken(e: &Evidence) -> BTreeSet<&'static str> {
    audit(e)
        .0
        .into_iter()
        .map(|violation| violation.rule)
        .collect()
}

#[test]
fn a_good_run_breaks_nothing() {
    let (violations, figures) = audit(&good());
    assert_eq!(violations, []);
    assert_eq!(
        (figures.payments, figures.payable, figures.succeeded),
        (1, 1, 1)
    );
    assert_eq!(
        (figures.captured_twice_kept, figures.lost, figures.unended),
        (0, 0, 0)
    );
}

type Spoil = fn(&mut Evidence);

const SPOILS: &[(&str, Spoil)] = &[
    ("served_again", |e| e.probed[0].longest_ms = 15_001),
    ("ready_is_true", |e| e.probed[0].falsely_ready_ms = 30_001),
    ("every_loop_goes_on", |e| {
        e.probed[0].stopped.push("ledger".to_owned())
    }),
    ("comes_to_rest", |e| {
        e.trouble.push("gateway 0 does not stop".to_owned())
    }),
    ("never_two_alive", |e| {
        e.seen_double.push("pay_1".parse().unwrap())
    }),
    ("back_in_time", |e| {
        e.not_back.push("alipay is out".to_owned())
    }),
    ("ledger_agrees", |e| {
        e.ledger.push(Deviation {
            place: "pay_1".to_owned(),
            what: "unbalanced".to_owned(),
        })
    }),
    ("every_point_is_hit", |e| {
        e.point = Some(("pay_after_call:1".to_owned(), false))
    }),
    ("forged_is_refused", |e| {
        e.forgeries.believed.push(Believed {
            what: "a notification",
            answer: "200".to_owned(),
        });
    }),
    ("forged_is_refused", |e| {
        e.notifications[0]["fault"] = "forge".into()
    }),
    ("forged_changes_nothing", |e| {
        e.changed_by_forgeries = Some("payments: 1 is now 2".to_owned())
    }),
    ("every_request_ends", |e| {
        first(e).payment.status = State::Processing
    }),
    ("every_request_ends", |e| {
        // Nobody lied: it stands on the work list all the same.
        first(e).payment.status = State::Processing;
        e.for_a_person
            .push(for_a_person("capture_mismatch", "att_1"));
    }),
    ("kept_once", |e| second(e, Disposition::Kept)),
    ("kept_once", |e| {
        first(e).attempts[0].disposition = Some(Disposition::Refunded)
    }),
    ("ended_is_dead", |e| {
        first(e).attempts[1].status = crate::domain::attempt::State::AwaitingPayer
    }),
    ("no_money_kept_beside", |e| second(e, Disposition::Refunded)),
    ("no_money_kept_beside", |e| {
        e.orders[1]["captured"] = 8888.into()
    }),
    ("no_money_kept_beside", |e| {
        second(e, Disposition::Held);
        e.for_a_person
            .push(for_a_person("capture_returning", "att_2"));
    }),
    ("one_amount", |e| e.orders[0]["amount"] = 8800.into()),
    ("one_amount", |e| shopper(e).amount = 8800),
    ("kept_is_there", |e| e.orders[0]["captured"] = 0.into()),
    ("kept_is_there", |e| {
        second(e, Disposition::Kept);
        late(e);
    }),
    ("books_agree", |e| e.orders[0]["captured"] = 8887.into()),
    ("bounded_questions", |e| {
        first(e).attempts[0].query_count = QUESTIONS + 1
    }),
    ("bounded_questions", |e| {
        second(e, Disposition::Refunded);
        first(e).attempts[0].query_count = QUESTIONS;
        first(e).attempts[1].query_count = 1;
    }),
    ("due_money_goes_back", |e| second(e, Disposition::RefundDue)),
    ("due_money_goes_back", |e| {
        // It was never refused.
        second(e, Disposition::RefundDue);
        e.for_a_person
            .push(for_a_person("automatic_refund_failed", "att_2"));
    }),
    ("held_for_a_reason", |e| second(e, Disposition::Held)),
    ("held_for_a_reason", |e| {
        second(e, Disposition::Held);
        e.for_a_person
            .push(for_a_person("capture_mismatch", "att_2"));
    }),
    ("nothing_waits_in_vain", |e| {
        e.for_a_person.push(for_a_person("unresolved", "att_1"))
    }),
    ("refunds_within_capture", |e| {
        refund(first(e), "att_1", 8000, false);
    }),
    ("refunds_agree", |e| e.orders[0]["refunded"] = 2000.into()),
    ("every_refund_ends", |e| {
        first(e).refunds[0].status = refund::State::Pending
    }),
    ("every_refund_ends", |e| {
        first(e).refunds[0].status = refund::State::Abnormal
    }),
    ("sent_once", |e| e.calls["alipay"]["create"] = 3.into()),
    ("bounded_calls", |e| {
        e.calls["alipay"]["query"] = 5_000.into()
    }),
    ("durable_before_sent", |e| {
        e.orders[1]["order_no"] = "3".into()
    }),
    ("everything_is_seen", |e| e.sent = 2),
    ("acknowledged_is_recorded", |e| e.taken.clear()),
    ("accepted_is_kept", |e| e.payments.clear()),
    ("accepted_is_kept", |e| {
        shopper(e).refunds.insert("rf-2".to_owned(), 1);
    }),
    ("told_one_end", |e| {
        shopper(e).statuses.push("failed".to_owned())
    }),
    ("same_key_same_bytes", |e| {
        shopper(e).answers.push(answer(201, "two"))
    }),
    ("same_key_same_bytes", |e| {
        shopper(e).refund_answers = vec![
            answer(201, "one"),
            Answer {
                replayed: true,
                ..answer(201, "two")
            },
        ];
    }),
    ("another_body_is_refused", |e| {
        shopper(e).other_body = Some(answer(201, ""))
    }),
    ("one_payment_an_order", |e| {
        shopper(e).other_key = Some(answer(201, r#"{"id": "pay_2"}"#))
    }),
    ("one_payment_an_order", |e| {
        let mut other = first(e).clone();
        other.payment.id = "pay_2".parse().unwrap();
        e.payments.push(other);
    }),
    ("the_first_one_is_named", |e| {
        shopper(e).other_key = Some(answer(
            409,
            r#"{"code": "order_id_in_use", "resource": null}"#,
        ));
    }),
    ("one_payment_a_key", |e| {
        e.keys[0].1 = "pay_2".parse().unwrap()
    }),
    ("ends_in_time", |e| {
        e.told[0].at = Timestamp(1_800_000_000_000 + (ENDED_WITHIN_S + 1) * 1_000)
    }),
    ("every_event_is_told", |e| {
        e.told[0].deliveries = vec!["pending".to_owned()]
    }),
    ("one_end_told_once", |e| {
        e.told[0].kind = "payment.failed".to_owned()
    }),
    ("one_end_told_once", |e| {
        let twice = e.told[0].clone();
        e.told.push(twice);
    }),
    ("told_once", |e| {
        e.told.pop();
    }),
    ("told_only_the_truth", |e| {
        e.received[0].status = "failed".to_owned()
    }),
    ("told_only_the_truth", |e| {
        e.received[0].id = "evt_9".to_owned()
    }),
    ("delivered_is_received", |e| {
        e.received.pop();
    }),
    ("no_secret_in_logs", |e| {
        e.logs[0].push_str("a secret of the merchant")
    }),
    ("no_illegal_transition", |e| {
        e.logs[0].push_str("Capture is not possible in failed")
    }),
    ("nothing_panics", |e| {
        e.logs[0].push_str("thread 'main' panicked at src/main.rs")
    }),
];

#[test]
fn each_verdict_can_fail() {
    for (number, (rule, spoil)) in SPOILS.iter().enumerate() {
        let mut e = good();
        spoil(&mut e);
        let found = broken(&e);
        assert!(
            found.contains(rule),
            "{number}: {rule} is broken, and it says {found:?}"
        );
    }
}

/// What looks like a rule in the source is in the table above.
#[test]
fn no_verdict_is_left_out() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/drill/audit");
    let beside = std::fs::read_dir(&folder)
        .unwrap()
        .map(|file| file.unwrap().path());
    let files = beside
        .filter(|file| !file.ends_with("tests.rs"))
        .chain([folder.with_extension("rs")]);
    let sources: Vec<String> = files
        .map(|file| std::fs::read_to_string(file).unwrap())
        .collect();
    let tried: BTreeSet<&str> = SPOILS.iter().map(|(rule, _)| *rule).collect();

    let said: BTreeSet<&str> = sources
        .iter()
        .flat_map(|source| source.split('"').skip(1).step_by(2))
        .filter(|text| {
            text.contains('_') && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
        })
        .collect();
    let left_out: Vec<&&str> = tried.difference(&said).collect();

    assert!(left_out.is_empty(), "no such rules: {left_out:?}");
    let others = [
        "account_unavailable",
        "automatic_refund_failed",
        "capture_mismatch",
        "capture_returning",
        "expires_at",
        "order_id_in_use",
        "order_no",
        "paid_at",
        "payment_stuck",
        "refund_abnormal",
        "refund_needs_funds",
        "refund_unresolved",
        "body_sha",
        "payment.late_captured",
    ];

    let untried: Vec<&&str> = said
        .difference(&tried)
        .filter(|text| !others.contains(*text))
        .collect();

    assert!(untried.is_empty(), "never seen to fail: {untried:?}");
}

#[test]
fn what_a_provider_did_excuses_what_came_of_it() {
    let mut returning = good();
    second(&mut returning, Disposition::Held);
    late(&mut returning);
    returning
        .for_a_person
        .push(for_a_person("capture_returning", "att_2"));
    assert_eq!(broken(&returning), BTreeSet::new());

    let mut misstated = good();
    second(&mut misstated, Disposition::Held);
    misstated.liars.insert("alipay".to_owned());
    misstated
        .for_a_person
        .push(for_a_person("capture_mismatch", "att_2"));
    assert_eq!(broken(&misstated), BTreeSet::new());

    let mut refused = good();
    second(&mut refused, Disposition::RefundDue);
    refused.refusing.insert("alipay".to_owned());
    refused
        .for_a_person
        .push(for_a_person("automatic_refund_failed", "att_2"));

    assert_eq!(broken(&refused), BTreeSet::new());
}

#[test]
fn figures_count_what_was_kept_twice_and_what_was_lost() {
    let mut twice = good();
    second(&mut twice, Disposition::Kept);
    assert_eq!(audit(&twice).1.captured_twice_kept, 1);
    let mut beside = good();
    beside.orders[1]["captured"] = 8888.into();
    let figures = audit(&beside).1;
    assert_eq!((figures.captured_twice_kept, figures.lost), (1, 1));
    let mut lost = good();
    lost.payments.clear();
    assert_eq!(audit(&lost).1.lost, 2, "the payment, and its order's money");
}
