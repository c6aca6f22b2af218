//! The tables that `outcome.rs` has to reproduce, row by row.

use std::collections::BTreeMap;

use chrono::DateTime;
use serde_json::{Value, json};

use super::*;
use crate::money::Money;
use crate::order::OrderRef;
use crate::reason::Reason;

const ORDER: &str = "il0000000001";
const TABLE: &str = include_str!("../../tests/vectors/alipay-outcomes.txt");
const CALLS: [&str; 7] = [
    "precreate",
    "pay",
    "query",
    "close",
    "cancel",
    "refund",
    "refund_query",
];

pub(crate) fn refund(order_no: &str, refund_no: &str, fen: i64) -> RefundOrder {
    RefundOrder {
        order: OrderRef {
            order_no: order_no.to_owned(),
            txn_time: DateTime::UNIX_EPOCH,
            expires_at: DateTime::UNIX_EPOCH,
        },
        transaction_id: None,
        refund_no: refund_no.to_owned(),
        txn_time: DateTime::UNIX_EPOCH,
        renumbered: false,
        amount: Money::fen(fen).unwrap(),
        total: Money::fen(8888).unwrap(),
        reason: None,
        notify_url: String::new(),
    }
}

fn node(members: Value) -> Node {
    Node::new(members.as_object().unwrap().clone())
}

/// An outcome in the words of the table.
fn outcome(call: &str, reply: Reply) -> String {
    let refund = refund(ORDER, "R1", 100);
    let debug = match call {
        "precreate" => format!("{:?}", created(reply, ORDER)),
        "pay" => format!("{:?}", charged(reply, ORDER)),
        "query" => format!("{:?}", queried(reply, ORDER)),
        "close" => format!("{:?}", closed(reply, ORDER)),
        "cancel" => format!("{:?}", reversed(reply, ORDER)),
        "refund" => format!("{:?}", refunded(reply, ORDER)),
        "refund_query" => format!("{:?}", refund_queried(reply, &refund)),
        other => panic!("no call {other}"),
    };

    let name: String = match debug.strip_prefix("Refused(") {
        Some(rest) => format!("Refused({})", rest.split(',').next().unwrap()),
        None => debug.split('(').next().unwrap().to_owned(),
    };

    match debug.split("kind: ").nth(1) {
        Some(kind) => format!("{name} {}", snake(kind.split(',').next().unwrap())),
        None => name,
    }
}

fn snake(name: &str) -> String {
    let parts = name.chars().map(|c| {
        if c.is_uppercase() {
            format!("_{}", c.to_lowercase())
        } else {
            c.to_string()
        }
    });
    parts.collect::<String>().trim_start_matches('_').to_owned()
}

struct Row<'a> {
    call: &'a str,
    node: Node,
    expected: &'a str,
    line: &'a str,
}

fn rows() -> impl Iterator<Item = Row<'static>> {
    TABLE
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            let columns: Vec<_> = line.splitn(4, ' ').collect();
            let mut answer =
                json!({ "code": columns[1], "msg": "not looked at", "out_trade_no": ORDER });
            if columns[2] != "-" {
                answer["sub_code"] = columns[2].into();
            }
            Row {
                call: columns[0],
                node: node(answer),
                expected: columns[3],
                line,
            }
        })
}

/// What a gateway's answer means for the calls that have no word for a refusal.
fn gateway_outcome(call: &str, expected: &str) -> String {
    let (refusal, kind) = expected.split_once(' ').unwrap();
    match (call, refusal) {
        ("precreate" | "pay", _) => expected.to_owned(),
        ("close" | "cancel", "Refused(Provider)") => format!("Retry {kind}"),
        ("refund", refusal) if refusal.starts_with("Refused") => format!("RetryLater {kind}"),
        (_, _) => format!("Unknown {kind}"),
    }
}

#[test]
fn every_documented_code_has_its_outcome_and_an_unlisted_one_is_unknown() {
    let mut seen = BTreeMap::new();
    for row in rows() {
        *seen.entry(row.call).or_insert(0) += 1;
        if row.call != "gateway" {
            assert_eq!(
                outcome(row.call, Reply::Signed(row.node)),
                row.expected,
                "{}",
                row.line
            );
            continue;
        }
        if row.node.code() == "10000" {
            // An unsigned success is not believed, and neither is one that says why it is none.
            for call in CALLS {
                let said = outcome(call, Reply::Signed(row.node.clone()));
                assert_eq!(said, "Unknown server_error", "{call}: {}", row.line);
            }
            assert_eq!(
                outcome("close", Reply::Unsigned(row.node)),
                row.expected,
                "{}",
                row.line
            );
            continue;
        }
        for call in CALLS {
            let expected = gateway_outcome(call, row.expected);
            assert_eq!(
                outcome(call, Reply::Signed(row.node.clone())),
                expected,
                "{call}: {}",
                row.line
            );
            // Only the closed list is believed without a signature.
            let listed = row.expected.starts_with("Refused");
            let expected = if listed {
                expected
            } else {
                "Unknown incompatible".to_owned()
            };
            assert_eq!(
                outcome(call, Reply::Unsigned(row.node.clone())),
                expected,
                "{call}, unsigned: {}",
                row.line
            );
        }
    }

    assert_eq!(
        seen.into_iter().collect::<Vec<_>>(),
        [
            ("cancel", 11),
            ("close", 9),
            ("gateway", 54),
            ("pay", 103),
            ("precreate", 108),
            ("query", 10),
            ("refund", 34),
            ("refund_query", 8),
        ]
    );
}

/// Whatever the tables know has words; what nobody lists has none.
#[test]
fn every_documented_code_has_a_reason() {
    for row in rows() {
        let Some(code) = row.node.text("sub_code").map(bare) else {
            continue;
        };
        if code.is_empty() || code.contains("BRAND") || row.expected == "Waiting" {
            continue;
        }
        assert!(REASONS.of(&code).is_some(), "{}", row.line);
        assert_eq!(
            row.node.failure(FailureKind::Request).reason,
            REASONS.of(&code),
            "{}",
            row.line
        );
    }

    for code in REFUSED_REFUNDS {
        assert!(REASONS.of_refund(code).is_some(), "{code}");
    }
    assert_eq!((REASONS.of("BRAND_NEW"), REASONS.of("")), (None, None));

    let answer =
        json!({ "code": "40004", "sub_code": "ACQ.TRADE_HAS_CLOSE", "out_trade_no": ORDER });
    let RefundOutcome::Rejected(no) = refunded(Reply::Signed(node(answer.clone())), ORDER) else {
        panic!("{answer}")
    };
    assert_eq!(no.reason, Some(Reason::PaymentStateInvalid));

    let CreateOutcome::Unknown(no) = charged(Reply::Signed(node(answer.clone())), ORDER) else {
        panic!("{answer}")
    };
    assert_eq!(no.reason, Some(Reason::OrderNumberUsed));
}

#[test]
fn a_business_no_without_a_signature_is_unknown_in_every_call() {
    for row in rows().filter(|row| row.call != "gateway") {
        assert_eq!(
            outcome(row.call, Reply::Unsigned(row.node)),
            "Unknown incompatible",
            "{}",
            row.line
        );
    }
}

#[test]
fn only_what_provably_never_left_is_not_sent() {
    let failure = || Failure::new(FailureKind::Network, "connect", "refused");

    for (call, not_sent) in [
        ("precreate", "NotSent network"),
        ("pay", "NotSent network"),
        ("query", "Unknown network"),
        ("close", "Retry network"),
        ("cancel", "Retry network"),
        ("refund", "RetryLater network"),
        ("refund_query", "Unknown network"),
    ] {
        assert_eq!(
            outcome(call, Reply::NoAnswer(SendError::NotSent(failure()))),
            not_sent
        );
        assert_eq!(
            outcome(call, Reply::NoAnswer(SendError::Unknown(failure()))),
            "Unknown network"
        );
        assert_eq!(
            outcome(call, Reply::Unbelievable(failure())),
            "Unknown network"
        );
    }
}

/// A verified success of `call` with these members.
fn success(call: &str, members: Value) -> String {
    let mut answer =
        json!({ "code": "10000", "msg": "Success", "out_trade_no": ORDER, "trade_no": "2026" });
    answer
        .as_object_mut()
        .unwrap()
        .extend(members.as_object().unwrap().clone());
    outcome(call, Reply::Signed(node(answer)))
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn a_success_means_what_its_members_say() {
    let paid = |status: &str| {
        json!({ "trade_status": status, "total_amount": "88.88",
        "send_pay_date": "2026-01-01 08:00:01" })
    };
    let done = json!({ "refund_status": "REFUND_SUCCESS", "out_request_no": "R1",
        "refund_amount": "1.0" });

    for (call, members, expected) in [
        (
            "precreate",
            json!({ "qr_code": "https://qr.alipay.com/bax" }),
            "Accepted",
        ),
        ("precreate", json!({}), "Unknown incompatible"),
        (
            "precreate",
            json!({ "qr_code": "" }),
            "Unknown incompatible",
        ),
        (
            "pay",
            json!({ "total_amount": "88.88", "gmt_payment": "2026-01-01 08:00:01" }),
            "Captured",
        ),
        (
            "pay",
            json!({ "total_amount": "88.88" }),
            "Unknown incompatible",
        ),
        (
            "pay",
            json!({ "total_amount": "88.88", "gmt_payment": "yesterday" }),
            "Unknown incompatible",
        ),
        (
            "pay",
            json!({ "total_amount": "1e3", "gmt_payment": "2026-01-01 08:00:01" }),
            "Unknown incompatible",
        ),
        ("pay", json!({}), "Unknown incompatible"),
        (
            "query",
            json!({ "trade_status": "WAIT_BUYER_PAY" }),
            "Payable",
        ),
        ("query", paid("TRADE_SUCCESS"), "Paid"),
        ("query", paid("TRADE_FINISHED"), "Paid"),
        (
            "query",
            json!({ "trade_status": "TRADE_SUCCESS" }),
            "Unknown incompatible",
        ),
        (
            "query",
            json!({ "trade_status": "TRADE_SUCCESS", "total_amount": "1e3" }),
            "Unknown incompatible",
        ),
        ("query", json!({ "trade_status": "TRADE_CLOSED" }), "Closed"),
        (
            "query",
            json!({ "trade_status": "TRADE_CLOSED", "send_pay_date": "" }),
            "Closed",
        ),
        ("query", paid("TRADE_CLOSED"), "Reversed"),
        ("query", paid("TRADE_PENDING"), "Unknown incompatible"),
        ("query", json!({}), "Unknown incompatible"),
        ("close", json!({}), "Closed"),
        (
            "cancel",
            json!({ "retry_flag": "N", "action": "close" }),
            "Closed",
        ),
        (
            "cancel",
            json!({ "retry_flag": "N", "action": "refund" }),
            "Reversed",
        ),
        ("cancel", json!({ "retry_flag": "N" }), "NotFound"),
        (
            "cancel",
            json!({ "retry_flag": "Y" }),
            "Unknown server_error",
        ),
        (
            "cancel",
            json!({ "retry_flag": "Y", "action": "close" }),
            "Unknown server_error",
        ),
        (
            "cancel",
            json!({ "retry_flag": "N", "action": "explode" }),
            "Unknown incompatible",
        ),
        ("cancel", json!({}), "Unknown incompatible"),
        ("refund", json!({ "fund_change": "Y" }), "Done"),
        ("refund", json!({ "fund_change": "N" }), "Accepted"),
        ("refund", json!({}), "Accepted"),
        ("refund_query", json!({}), "NotFound"),
        (
            "refund_query",
            json!({ "out_trade_no": null, "trade_no": null }),
            "NotFound",
        ),
        ("refund_query", done.clone(), "Done"),
        (
            "refund_query",
            json!({ "refund_status": "REFUND_SUCCESS" }),
            "Unknown incompatible",
        ),
        (
            "refund_query",
            json!({ "refund_status": "REFUND_FAIL" }),
            "Unknown incompatible",
        ),
    ] {
        assert_eq!(success(call, members.clone()), expected, "{call} {members}");
    }

    for (member, value) in [
        ("out_request_no", "R2"),
        ("refund_amount", "1.01"),
        ("out_trade_no", "other"),
    ] {
        let mut members = done.clone();
        members[member] = value.into();
        assert_eq!(
            success("refund_query", members),
            "Unknown incompatible",
            "another {member}"
        );
    }
}

#[test]
fn an_answer_about_another_order_is_unknown() {
    let asked = node(json!({ "code": "10003", "out_trade_no": "il0000000002" }));
    assert_eq!(outcome("pay", Reply::Signed(asked)), "Unknown incompatible");

    for call in ["precreate", "pay", "query", "close", "cancel", "refund"] {
        for other in [json!("il0000000002"), Value::Null, json!(1)] {
            let members = json!({
                "out_trade_no": other, "qr_code": "https://qr", "trade_status": "TRADE_SUCCESS",
                "total_amount": "1.00",
                "retry_flag": "N", "action": "close", "fund_change": "Y",
                "gmt_payment": "2026-01-01 08:00:01",
            });
            assert_eq!(
                success(call, members),
                "Unknown incompatible",
                "{call} {other}"
            );
        }
    }
}
