//! Genuine answers: each state becomes its outcome, and what does not fit the question proves
//! nothing.

use chrono::DateTime;
use serde_json::json;

use super::{
    Bench, name_created, name_ended, name_queried, name_refund_queried, name_refunded, order,
    refund, transaction,
};
use crate::money::Money;
use crate::outcome::{Capture, CloseOutcome, CreateOutcome, NextAction, QueryOutcome};
use crate::wechatpay::outcome::{closed, created, queried, refund_queried, refunded};

#[test]
fn a_signed_success_is_what_the_call_documents_and_nothing_else() {
    let bench = Bench::new();
    let url = r#"{"code_url":"weixin://wxpay/bizpayurl?pr=x","new_member":{}}"#;
    let qr = "weixin://wxpay/bizpayurl?pr=x".to_owned();
    let offer = created(bench.verify(&bench.signed(200, url)));
    assert_eq!(offer, CreateOutcome::Accepted(NextAction::DisplayQr { qr }));

    for (status, body) in [
        (200, "{}"),
        (200, r#"{"code_url":""}"#),
        (200, "not json"),
        (204, ""),
        (201, url),
    ] {
        let outcome = created(bench.verify(&bench.signed(status, body)));
        assert_eq!(
            name_created(&outcome),
            "unknown incompatible",
            "{status} {body}"
        );
    }

    assert_eq!(
        closed(bench.verify(&bench.signed(204, ""))),
        CloseOutcome::Closed
    );
    assert_eq!(
        name_ended(&closed(bench.verify(&bench.signed(200, "{}")))),
        "unknown incompatible"
    );
}

fn query(bench: &Bench, body: &str) -> QueryOutcome {
    queried(
        &bench.account,
        &order(),
        bench.verify(&bench.signed(200, body)),
    )
}

#[test]
fn every_trade_state_has_its_outcome() {
    let bench = Bench::new();

    for (state, expected) in [
        ("SUCCESS", "paid"),
        ("REFUND", "paid"),
        ("NOTPAY", "payable"),
        ("USERPAYING", "payable"),
        ("PAYERROR", "payable"),
        ("ACCEPT", "payable"),
        ("CLOSED", "closed"),
        ("REVOKED", "reversed"),
        ("success", "unknown incompatible"),
        ("SOMETHING_NEW", "unknown incompatible"),
    ] {
        assert_eq!(
            name_queried(&query(&bench, &transaction(state))),
            expected,
            "{state}"
        );
    }
}

#[test]
fn a_capture_takes_the_total_and_hides_the_payer() {
    let bench = Bench::new();
    let expected = Capture {
        transaction_id: "4200002601202601051234567890".to_owned(),
        amount: Money::fen(100).unwrap(),
        payer_amount: Some(90),
        payer: Some("****eS6o".to_owned()),
        paid_at: DateTime::from_timestamp(1_767_578_401, 0),
        payment_id: Some("pay_1".to_owned()),
        foreign_account: None,
        returns_by_itself: false,
    };

    assert_eq!(
        query(&bench, &transaction("SUCCESS")),
        QueryOutcome::Paid(expected.clone())
    );

    let foreign = transaction("SUCCESS")
        .replace("wxd678efh567hg6787", "wx1")
        .replace("pay_1", "");
    let foreign_account = Some("1900000109/wx1".to_owned());

    assert_eq!(
        query(&bench, &foreign),
        QueryOutcome::Paid(Capture {
            payment_id: None,
            foreign_account,
            ..expected
        })
    );
}

#[test]
fn an_unpaid_answer_needs_no_currency_and_no_payer() {
    let bench = Bench::new();
    // A real answer, three times reported.
    let body = r#"{"amount":{"payer_currency":"CNY","total":1},"appid":"wxd678efh567hg6787","mchid":"1900000109",
        "out_trade_no":"IL00000001","promotion_detail":[],"scene_info":{"device_id":""},"trade_state":"NOTPAY",
        "trade_state_desc":"订单未支付"}"#;
    assert_eq!(query(&bench, body), QueryOutcome::Payable);
    assert_eq!(
        query(
            &bench,
            &body.replace(r#""total":1}"#, r#""total":1},"payer":{}"#)
        ),
        QueryOutcome::Payable
    );
}

#[test]
fn a_genuine_answer_that_does_not_fit_the_question_proves_nothing() {
    let bench = Bench::new();

    for spoilt in [
        transaction("SUCCESS").replace("IL00000001", "IL00000002"),
        transaction("CLOSED").replace("IL00000001", "IL00000002"),
        transaction("SUCCESS").replace(r#""currency":"CNY""#, r#""currency":"HKD""#),
        transaction("SUCCESS").replace(r#""total":100"#, r#""total":-100"#),
        transaction("SUCCESS").replace(r#""total":100"#, r#""total":1.5"#),
        transaction("SUCCESS").replace("4200002601202601051234567890", ""),
        transaction("SUCCESS").replace("transaction_id", "other"),
        transaction("SUCCESS").replace("\"amount\"", "\"other\""),
    ] {
        assert_eq!(
            name_queried(&query(&bench, &spoilt)),
            "unknown incompatible",
            "{spoilt}"
        );
    }
}

#[test]
fn every_refund_status_has_its_outcome() {
    let bench = Bench::new();
    let body = |status: &str| {
        json!({"out_trade_no": "IL00000001", "out_refund_no": "ILR0000001", "status": status,
            "amount": {"refund": 40, "total": 100, "currency": "CNY"}})
        .to_string()
    };

    let reply = |body: &str| bench.verify(&bench.signed(200, body));
    for (status, asked, found) in [
        ("PROCESSING", "accepted", "accepted"),
        ("SUCCESS", "done", "done"),
        ("CLOSED", "another number request", "terminal request"),
        ("ABNORMAL", "abnormal declined", "abnormal declined"),
        (
            "SOMETHING_NEW",
            "unknown incompatible",
            "unknown incompatible",
        ),
    ] {
        assert_eq!(
            name_refunded(&refunded(&refund(), reply(&body(status)))),
            asked,
            "{status}"
        );
        assert_eq!(
            name_refund_queried(&refund_queried(&refund(), reply(&body(status)))),
            found,
            "{status}"
        );
    }

    for (from, to) in [
        ("IL00000001", "IL00000002"),
        ("ILR0000001", "ILR0000002"),
        (":40", ":41"),
    ] {
        let other = body("SUCCESS").replace(from, to);
        assert_eq!(
            name_refunded(&refunded(&refund(), reply(&other))),
            "unknown incompatible",
            "{to}"
        );
        let found = refund_queried(&refund(), reply(&other));
        assert_eq!(name_refund_queried(&found), "unknown incompatible", "{to}");
    }
}
