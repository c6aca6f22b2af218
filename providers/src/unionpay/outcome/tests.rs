//! Each code of the official appendix in each call, the money behind them, and what is never
//! believed.

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use http::{HeaderMap, StatusCode};

use super::super::sign::VERSION;
use super::super::vectors::shared;
use super::super::{fields, head};
use super::*;
use crate::reason::Reason;

/// Before the deadline.
fn queried(order: &OrderRef, fields: &Fields) -> QueryOutcome {
    super::queried(order, fields, time() + TimeDelta::minutes(1))
}

const NO: &str = "IL20260701000001";
const REFUND_NO: &str = "IR20260701000001";

fn time() -> DateTime<Utc> {
    read_beijing("20260701120000").unwrap()
}

fn order() -> OrderRef {
    OrderRef {
        order_no: NO.to_owned(),
        txn_time: time(),
        expires_at: time() + TimeDelta::minutes(15),
    }
}

fn refund() -> RefundOrder {
    RefundOrder {
        order: order(),
        transaction_id: None,
        refund_no: REFUND_NO.to_owned(),
        txn_time: time() + TimeDelta::minutes(1),
        renumbered: false,
        amount: Money::fen(300).unwrap(),
        total: Money::fen(1000).unwrap(),
        reason: None,
        notify_url: "https://shop.example/r".to_owned(),
    }
}

/// What each code means in each call: the columns are applying, scanning, asking about either,
/// reversing, refunding and asking about a refund. The last rows are codes that nobody has listed,
/// or of another product, and none at all.
const TABLE: &str = include_str!("../../../tests/vectors/unionpay-outcomes.txt");

/// The answer to a request of this type, or to a question about one.
fn answer(number: &str, txn: (&str, &str), more: &[(&str, &str)]) -> Fields {
    let mut answer = head(txn, number, time());
    answer.extend(fields([
        ("txnAmt", "1000"),
        ("currencyCode", CNY),
        ("queryId", "782607011200001234568"),
    ]));
    answer.extend(fields([
        ("qrCode", "https://qr.95516.com/00010001/6212"),
        ("reqReserved", "pay_1"),
    ]));
    answer.extend(fields(more.iter().copied()));
    answer
}

fn created(outcome: &CreateOutcome) -> &'static str {
    match outcome {
        CreateOutcome::Accepted(NextAction::DisplayQr { qr }) if qr.ends_with("6212") => "accepted",
        CreateOutcome::Accepted(_) | CreateOutcome::Captured(_) | CreateOutcome::NotSent(_) => {
            "wrong"
        }
        CreateOutcome::Waiting => "waiting",
        CreateOutcome::Refused(Refusal::Provider, _) => "provider",
        CreateOutcome::Refused(Refusal::Account, _) => "account",
        CreateOutcome::Refused(Refusal::Route, _) => "route",
        CreateOutcome::Refused(Refusal::Request, _) => "request",
        CreateOutcome::Declined(_) => "declined",
        CreateOutcome::Unknown(_) => "unknown",
    }
}

fn state(outcome: &QueryOutcome) -> &'static str {
    match outcome {
        QueryOutcome::NotFound => "not_found",
        QueryOutcome::Payable => "payable",
        QueryOutcome::Paid(capture) if capture.returns_by_itself => "late",
        QueryOutcome::Paid(_) => "paid",
        QueryOutcome::Closed => "closed",
        QueryOutcome::Reversed => "reversed",
        QueryOutcome::Unknown(_) => "unknown",
    }
}

fn ended(outcome: &CloseOutcome) -> &'static str {
    match outcome {
        CloseOutcome::Closed | CloseOutcome::AlreadyPaid => "wrong",
        CloseOutcome::Reversed => "reversed",
        CloseOutcome::NotFound => "not_found",
        CloseOutcome::Impossible(_) => "impossible",
        CloseOutcome::Retry(_) => "again",
        CloseOutcome::Unknown(_) => "unknown",
    }
}

fn taken_up(outcome: &RefundOutcome) -> &'static str {
    match outcome {
        RefundOutcome::Accepted => "accepted",
        RefundOutcome::Done | RefundOutcome::Abnormal(_) | RefundOutcome::NeedsFunds(_) => "wrong",
        RefundOutcome::Rejected(_) => "terminal",
        RefundOutcome::RetryWithNewNumber(_) => "another number",
        RefundOutcome::RetryLater(_) => "later",
        RefundOutcome::Unknown(_) => "unknown",
    }
}

fn refund_state(outcome: &RefundQueryOutcome) -> &'static str {
    match outcome {
        RefundQueryOutcome::NotFound => "not_found",
        RefundQueryOutcome::Accepted => "accepted",
        RefundQueryOutcome::Done => "done",
        RefundQueryOutcome::Rejected(_) => "terminal",
        RefundQueryOutcome::Abnormal(_) => "wrong",
        RefundQueryOutcome::Unknown(_) => "unknown",
    }
}

fn row(code: &str, text: &str) -> [&'static str; 7] {
    let said = [("respCode", code), ("respMsg", text)];
    let original = [
        ("respCode", "00"),
        ("origRespCode", code),
        ("origRespMsg", text),
    ];

    let (found, refunded_as) = (
        original,
        [&original[..], &[("txnAmt", "300"), ("origOrderId", NO)]].concat(),
    );

    [
        created(&applied(&answer(NO, (CONSUME, APPLY), &said))),
        created(&scanned(&answer(NO, (CONSUME, SCAN), &said))),
        state(&queried(&order(), &answer(NO, (CONSUME, APPLY), &found))),
        state(&queried(&order(), &answer(NO, (CONSUME, SCAN), &found))),
        ended(&reversed(&answer(NO, (REVERSAL, "01"), &said))),
        taken_up(&refunded(&answer(REFUND_NO, (REFUND, "00"), &said))),
        refund_state(&refund_queried(
            &refund(),
            &answer(REFUND_NO, (REFUND, "00"), &refunded_as),
        )),
    ]
}

#[test]
fn each_code_means_in_each_call_what_the_table_says() {
    let mut rows = 0;
    for line in TABLE.lines().skip(1) {
        let mut words = line.split_whitespace();
        let code = words.next().unwrap();
        let expected: Vec<&str> = words.collect();
        assert_eq!(
            row(if code == "-" { "" } else { code }, "text").to_vec(),
            expected,
            "{code}"
        );
        // What cannot be undone may be refunded still; all else is the same for both.
        let said = answer(
            REFUND_NO,
            (UNDO, "00"),
            &[("respCode", code), ("respMsg", "text")],
        );
        let undo = taken_up(&undone(&said));
        assert_eq!(
            undo,
            if expected[5] == "terminal" {
                "another number"
            } else {
                expected[5]
            },
            "{code}"
        );
        rows += 1;
    }

    assert_eq!(rows, 74);
}

/// Whatever the table knows has words, but for successes and codes of files; what nobody lists has
/// none.
#[test]
fn every_code_that_is_no_success_has_a_reason() {
    for line in TABLE.lines().skip(1) {
        let code = line.split_whitespace().next().unwrap();
        let has_none = [
            "00", "A6", "14", "41", "98", "-", "0000", "07", "84", "97", "PR01",
        ]
        .contains(&code);
        assert_eq!(REASONS.of(code).is_none(), has_none, "{code}");
    }

    let said = answer(
        REFUND_NO,
        (REFUND, "00"),
        &[("respCode", "90"), ("respMsg", "text")],
    );
    let RefundOutcome::Rejected(failure) = refunded(&said) else {
        panic!("{said:?}")
    };

    assert_eq!(failure.reason, Some(Reason::MerchantBalanceInsufficient));
    let said = answer(
        NO,
        (CONSUME, SCAN),
        &[("respCode", "64"), ("respMsg", "发卡方应答超时[1000068]")],
    );

    let CreateOutcome::Unknown(failure) = scanned(&said) else {
        panic!("{said:?}")
    };
    assert_eq!(failure.reason, Some(Reason::OutcomeUnknown));

    let said = answer(
        NO,
        (CONSUME, SCAN),
        &[("respCode", "90"), ("respMsg", "text")],
    );
    let CreateOutcome::Declined(failure) = scanned(&said) else {
        panic!("{said:?}")
    };

    assert_eq!(failure.reason, Some(Reason::InsufficientFunds));
}

/// Whatever code came with it: the issuer was asked, and may still say yes.
#[test]
fn an_issuer_that_has_not_answered_leaves_everything_open() {
    for line in TABLE.lines().skip(1) {
        let code = line.split_whitespace().next().unwrap();
        for text in [
            "发卡方应答超时[1000068]",
            "[1000098]no answer",
            "交易超时，已冲正[1000068]",
            "无应答[1099999]",
        ] {
            let row = row(if code == "-" { "" } else { code }, text);
            // Without a code there is no original to be told of.
            assert_eq!(row, ["unknown"; 7], "{code} {text}");
            let undo = answer(
                REFUND_NO,
                (UNDO, "00"),
                &[("respCode", code), ("respMsg", text)],
            );
            assert_eq!(taken_up(&undone(&undo)), "unknown", "{code} {text}");
            // The question's own text: whether it was answered.
            let asked = [
                ("respCode", "00"),
                ("respMsg", text),
                ("origRespCode", code),
            ];
            assert_eq!(
                state(&queried(&order(), &answer(NO, (CONSUME, SCAN), &asked))),
                "unknown",
                "{code} {text}"
            );
        }
    }

    let scan = scanned(&answer(
        NO,
        (CONSUME, SCAN),
        &[("respCode", "30"), ("respMsg", "发卡方应答超时[1000068]")],
    ));

    assert!(
        matches!(scan, CreateOutcome::Unknown(failure) if failure.kind == FailureKind::ServerError)
    );
}

/// The clearing day ends at 23:00 in Beijing, and what a number was first sent with decides for
/// ever.
#[test]
fn the_whole_is_undone_within_its_clearing_day_and_everything_else_is_refunded() {
    let whole = |ordered: &str, refunded: &str| RefundOrder {
        order: OrderRef {
            txn_time: read_beijing(ordered).unwrap(),
            ..order()
        },
        txn_time: read_beijing(refunded).unwrap(),
        amount: Money::fen(1000).unwrap(),
        ..refund()
    };
    for (ordered, refunded, way) in [
        ("20260701120000", "20260701225959", UNDO),
        ("20260701120000", "20260701230000", REFUND),
        ("20260630230000", "20260701225959", UNDO),
        ("20260630225959", "20260630230000", REFUND),
        ("20261231233000", "20270101120000", UNDO),
        ("20260701120000", "20270701120000", REFUND),
    ] {
        assert_eq!(
            way_back(&whole(ordered, refunded)),
            way,
            "{ordered} {refunded}"
        );
    }
    let today = whole("20260701120000", "20260701120100");
    assert_eq!(
        way_back(&RefundOrder {
            amount: Money::fen(999).unwrap(),
            ..today.clone()
        }),
        REFUND
    );
    assert_eq!(
        way_back(&RefundOrder {
            renumbered: true,
            ..today.clone()
        }),
        REFUND
    );

    // A question about an undo is answered by an undo, and by nothing else.
    let found = |txn| {
        answer(
            REFUND_NO,
            (txn, "00"),
            &[("respCode", "00"), ("origRespCode", "00")],
        )
    };
    assert_eq!(
        refund_queried(&today, &found(UNDO)),
        RefundQueryOutcome::Done
    );
    assert_eq!(
        refund_state(&refund_queried(&today, &found(REFUND))),
        "unknown"
    );
}

/// The other code of an answer to a query: without a 00 nothing is said about money.
#[test]
fn a_question_that_was_not_answered_says_nothing_about_money() {
    for line in TABLE.lines().skip(1) {
        let code = line.split_whitespace().next().unwrap();
        let said = [("respCode", code), ("origRespCode", "00")];
        let expected = if code == "00" { "paid" } else { "unknown" };
        assert_eq!(
            state(&queried(&order(), &answer(NO, (CONSUME, SCAN), &said))),
            expected,
            "{code}"
        );
        let refund_said = [
            ("respCode", code),
            ("origRespCode", "00"),
            ("txnAmt", "300"),
        ];
        let expected = if code == "00" { "done" } else { "unknown" };
        let asked = refund_queried(&refund(), &answer(REFUND_NO, (REFUND, "00"), &refund_said));
        assert_eq!(refund_state(&asked), expected, "{code}");
    }

    let nothing = answer(NO, (QUERY, "00"), &[("respCode", "34")]);
    assert_eq!(queried(&order(), &nothing), QueryOutcome::NotFound);
    assert_eq!(
        refund_queried(&refund(), &nothing),
        RefundQueryOutcome::NotFound
    );

    let too_often = queried(&order(), &answer(NO, (QUERY, "00"), &[("respCode", "37")]));
    assert!(matches!(too_often, QueryOutcome::Unknown(f) if f.kind == FailureKind::RateLimited));
}

#[test]
fn a_paid_order_is_read_completely_or_not_at_all() {
    let paid = |more: &[(&str, &str)]| {
        let found = [&[("respCode", "00"), ("origRespCode", "00")], more].concat();
        queried(&order(), &answer(NO, (CONSUME, APPLY), &found))
    };
    let whole = [
        ("accNo", "621626******0018"),
        ("traceTime", "0701120007"),
        ("settleAmt", "900"),
    ];

    let QueryOutcome::Paid(capture) = paid(&whole) else {
        panic!()
    };
    let expected = Capture {
        transaction_id: "782607011200001234568".to_owned(),
        amount: Money::fen(1000).unwrap(),
        payer_amount: None,
        payer: Some("****0018".to_owned()),
        paid_at: read_beijing("20260701120007"),
        payment_id: Some("pay_1".to_owned()),
        foreign_account: None,
        returns_by_itself: false,
    };

    assert_eq!(capture, expected);
    for wrong in [
        ("queryId", ""),
        ("txnAmt", ""),
        ("txnAmt", "10.00"),
        ("txnAmt", "-1"),
        ("txnAmt", "+1"),
        ("txnAmt", "1000000000000"),
        ("currencyCode", "840"),
        ("txnType", "31"),
        ("txnSubType", "01"),
    ] {
        assert_eq!(state(&paid(&[wrong])), "unknown", "{wrong:?}");
    }

    assert_eq!(state(&paid(&[("currencyCode", "")])), "paid");
    let encrypted = paid(&[("accNo", &"k".repeat(344))]);
    assert!(matches!(encrypted, QueryOutcome::Paid(c) if c.payer.is_none()));
}

#[test]
fn a_refund_of_another_amount_or_order_is_not_ours() {
    let ask = |more: &[(&str, &str)]| {
        let found = [
            &[
                ("respCode", "00"),
                ("origRespCode", "00"),
                ("txnAmt", "300"),
            ],
            more,
        ]
        .concat();
        refund_state(&refund_queried(
            &refund(),
            &answer(REFUND_NO, (REFUND, "00"), &found),
        ))
    };

    assert_eq!(
        ask(&[("origOrderId", NO), ("origTxnTime", "20260701120000")]),
        "done"
    );
    assert_eq!(ask(&[("txnAmt", "301")]), "unknown");
    assert_eq!(ask(&[("origOrderId", "another0")]), "unknown");
    assert_eq!(
        ask(&[("origOrderId", NO), ("origTxnTime", "20260701120001")]),
        "unknown"
    );
    assert_eq!(ask(&[("txnType", "31")]), "unknown");
    assert_eq!(ask(&[("currencyCode", "840")]), "unknown");

    assert_eq!(ask(&[("currencyCode", "")]), "done");
}

/// Signed over its bytes; the words are for people, and the detail in them is in ASCII.
#[test]
fn an_answer_and_a_notification_in_gbk_are_believed() {
    let account = shared();
    let asked = {
        let mut asked = head((CONSUME, SCAN), NO, time());
        asked.insert("merId".to_owned(), account.mer_id.clone());
        account.method.sign(asked)
    };
    for (message, expected) in [
        ("余额不足乗[1000051]", "declined"),
        ("发卡方应答超时[1000068]", "unknown"),
    ] {
        let mut said = asked.clone();
        said.remove("signature");
        let more = [
            ("encoding", "GBK"),
            ("respCode", "64"),
            ("respMsg", message),
        ];
        said.extend(fields(more).into_iter().map(|(name, value)| {
            (
                name,
                crate::charset::byte_by_byte(&encoding_rs::GB18030.encode(&value).0),
            )
        }));
        let said = account.method.sign(said);
        let body: Vec<String> = said
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let body = crate::charset::bytes(&body.join("&")).into_owned();
        assert!(std::str::from_utf8(&body).is_err());
        let answer = HttpAnswer {
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            body: Bytes::from(body.clone()),
        };
        let read = believed(&account, &asked, &answer, time()).unwrap();
        let outcome = scanned(&read);
        assert_eq!(created(&outcome), expected);
        let (CreateOutcome::Declined(failure) | CreateOutcome::Unknown(failure)) = outcome else {
            panic!()
        };
        assert_eq!(failure.message, message);
        let mut forged = body;
        forged.extend_from_slice(b"&queryId=1");
        let answer = HttpAnswer {
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            body: Bytes::from(forged),
        };
        assert!(believed(&account, &asked, &answer, time()).is_err());

        let raw = crate::notification::RawNotification {
            headers: HeaderMap::new(),
            body: Bytes::from(super::super::wire::to_form(&said)),
        };
        let told = super::super::notification::read(&account, &raw, time())
            .unwrap()
            .into_inner();
        assert!(
            matches!(told.notice, crate::notification::Notice::Ask { order_no,
                .. } if order_no == NO)
        );
    }
}

#[test]
fn only_a_verified_answer_to_our_own_question_is_believed() {
    let account = shared();
    let asked = {
        let mut asked = head((CONSUME, APPLY), NO, time());
        asked.insert("merId".to_owned(), account.mer_id.clone());
        account.method.sign(asked)
    };
    let verify = |status: u16, body: Vec<u8>| {
        let answer = HttpAnswer {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::new(),
            body: Bytes::from(body),
        };
        believed(&account, &asked, &answer, time()).map_err(|failure| failure.code)
    };
    let raw = |fields: &Fields| {
        fields
            .iter()
            .map(|(k, v)| format!("{k}={v}"))
            .collect::<Vec<_>>()
            .join("&")
    };
    let said = |more: &[(&str, &str)]| {
        let mut said = answer(NO, (CONSUME, APPLY), &[("respCode", "00")]);
        said.insert("merId".to_owned(), account.mer_id.clone());
        said.extend(fields(more.iter().copied()));
        account.method.sign(said)
    };
    let good = said(&[]);
    assert_eq!(verify(200, raw(&good).into_bytes()), Ok(good.clone()));
    assert_eq!(good["version"], VERSION);

    for status in [201, 302, 400, 404, 500, 502, 503] {
        assert_eq!(
            verify(status, raw(&good).into_bytes()),
            Err(format!("http_{status}")),
            "{status}"
        );
    }
    for body in [
        Vec::new(),
        b"  ".to_vec(),
        raw(&good).into_bytes().split_off(1),
        vec![0xFF; 8],
    ] {
        assert!(verify(200, body).is_err());
    }
    let cut = raw(&good);
    assert!(
        verify(200, cut.as_bytes()[..cut.len() - 1].to_vec()).is_err(),
        "cut off"
    );
    for other in [
        ("orderId", "IL20260701000002"),
        ("txnTime", "20260701120001"),
        ("merId", "777290058167152"),
        ("txnSubType", "06"),
        ("txnType", "04"),
    ] {
        assert_eq!(
            verify(200, raw(&said(&[other])).into_bytes()),
            Err("unreadable_answer".to_owned()),
            "{other:?}"
        );
    }
    assert_eq!(
        verify(200, raw(&said(&[("version", "5.0.0")])).into_bytes()),
        Err("not_signed".to_owned())
    );
    let mut forged = good;
    forged.insert("respCode".to_owned(), "A6".to_owned());
    assert_eq!(
        verify(200, raw(&forged).into_bytes()),
        Err(WRONGLY_SIGNED.to_owned())
    );
}

#[test]
fn after_its_deadline_a_code_is_closed_by_a_certain_no_and_by_nothing_else() {
    let later = time() + TimeDelta::minutes(17);
    let after = |code: &str, txn| {
        let found = [("respCode", "00"), ("origRespCode", code)];
        state(&super::queried(
            &order(),
            &answer(NO, (CONSUME, txn), &found),
            later,
        ))
    };

    for (code, expected) in [
        ("64", "closed"),
        ("38", "closed"),
        ("01", "closed"),
        ("46", "closed"),
        ("02", "unknown"),
        ("05", "unknown"),
        ("03", "unknown"),
        ("04", "unknown"),
        ("99", "unknown"),
        ("00", "paid"),
        ("42", "late"),
    ] {
        assert_eq!(after(code, APPLY), expected, "{code}");
    }

    assert_eq!(after("05", SCAN), "payable", "a scan has no deadline");
}

#[test]
fn money_that_was_taken_after_the_deadline_goes_back_by_itself() {
    for (trace_time, returns) in [
        ("0701120007", false),
        ("0701121459", false),
        ("0701121501", true),
    ] {
        let found = [
            ("respCode", "00"),
            ("origRespCode", "00"),
            ("traceTime", trace_time),
        ];
        let QueryOutcome::Paid(capture) = queried(&order(), &answer(NO, (CONSUME, APPLY), &found))
        else {
            panic!()
        };
        assert_eq!(capture.returns_by_itself, returns, "{trace_time}");
        let QueryOutcome::Paid(capture) = queried(&order(), &answer(NO, (CONSUME, SCAN), &found))
        else {
            panic!()
        };
        assert!(!capture.returns_by_itself);
    }
}
