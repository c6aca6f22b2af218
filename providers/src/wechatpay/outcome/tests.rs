//! Every status and code that the documentation names for our calls, in both spellings, against the outcome it must have.

mod charges;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::json;

use super::*;
use crate::order::{OrderRef, RefundOrder};
use crate::signing::Signer;
use crate::wechatpay::sign::answer_message;

const NOW: i64 = 1_767_578_400;
/// What each "no" to a creation means.
const TABLE: &str = include_str!("../../../tests/vectors/wechatpay-outcomes.txt");

struct Bench {
    account: Account,
    theirs: Signer,
    now: DateTime<Utc>,
}

impl Bench {
    fn new() -> Self {
        let vectors: serde_json::Value =
            serde_json::from_str(include_str!("../../../tests/vectors/wechatpay.json")).unwrap();
        let keys = &vectors["keys"];
        let settings = json!({
            "mchid": keys["mchid"], "appid": keys["appid"], "serial": keys["merchant_serial"],
            "private_key": keys["merchant_private_key_pem"], "public_key_id": keys["wechatpay_pubkey_id"],
            "public_key": keys["wechatpay_pubkey_pem"], "apiv3_key": keys["apiv3_key"],
        });
        Self {
            account: Account::read(settings, &crate::http::Way::Open).unwrap(),
            theirs: Signer::from_text(keys["wechatpay_pubkey_private_key_pem"].as_str().unwrap()).unwrap(),
            now: DateTime::from_timestamp(NOW, 0).unwrap(),
        }
    }

    fn unsigned(&self, status: u16, body: &str) -> HttpAnswer {
        let headers = HeaderMap::new();
        HttpAnswer { status: StatusCode::from_u16(status).unwrap(), headers, body: Bytes::from(body.to_owned()) }
    }

    fn signed(&self, status: u16, body: &str) -> HttpAnswer {
        let mut answer = self.unsigned(status, body);
        let signature = self.theirs.sign(&answer_message(&NOW.to_string(), "n", body.as_bytes()));
        for (name, value) in [
            ("wechatpay-timestamp", NOW.to_string()),
            ("wechatpay-nonce", "n".to_owned()),
            ("wechatpay-signature", signature),
            ("wechatpay-serial", self.account.public_key_id.clone()),
        ] {
            answer.headers.insert(HeaderName::from_static(name), HeaderValue::try_from(value).unwrap());
        }
        answer
    }

    fn weigh(&self, answer: &HttpAnswer) -> Reply {
        Reply::weigh(&self.account, answer, self.now)
    }

    /// A signed "no" as a row of a table names it: `CODE`, `CODE/reason`, or `CODE//member`.
    fn no(&self, status: u16, row: &str) -> Reply {
        let (code, more) = row.split_once('/').unwrap_or((row, "0"));
        let (member, reason) = if more.starts_with('/') { (Some(more), "0") } else { (None, more) };
        let detail = member.map(|member| json!({"field": member, "value": 135, "location": "body"}));
        let body = json!({"code": code, "message": "text", "detail": detail});
        let mut answer = self.signed(status, &body.to_string());
        answer.headers.insert("request-id", HeaderValue::try_from(format!("08AB-{reason}")).unwrap());
        self.weigh(&answer)
    }

    /// Runs every row in both spellings of its code.
    fn table<T>(&self, rows: &[(u16, &str, &str)], map: impl Fn(Reply) -> T, name: impl Fn(&T) -> String) {
        for (status, row, expected) in rows {
            let (code, more) = row.split_at(row.find('/').unwrap_or(row.len()));
            for spelling in [(*row).to_owned(), code.replace('_', "") + more] {
                let outcome = map(self.no(*status, &spelling));
                assert_eq!(name(&outcome), *expected, "{status} {spelling}");
            }
        }
    }
}

fn order() -> OrderRef {
    OrderRef { order_no: "IL00000001".to_owned(), txn_time: DateTime::UNIX_EPOCH, expires_at: DateTime::UNIX_EPOCH }
}

fn refund() -> RefundOrder {
    RefundOrder {
        order: order(),
        transaction_id: None,
        refund_no: "ILR0000001".to_owned(),
        txn_time: DateTime::UNIX_EPOCH,
        renumbered: false,
        amount: Money::fen(40).unwrap(),
        total: Money::fen(100).unwrap(),
        reason: None,
        notify_url: "https://example.com/n".to_owned(),
    }
}

fn of(label: &str, failure: &Failure) -> String {
    format!("{label} {}", failure.kind)
}

fn name_created(outcome: &Created) -> String {
    match outcome {
        Created::Accepted(_) => "accepted".to_owned(),
        Created::Captured(_) => "captured".to_owned(),
        Created::Waiting => "waiting".to_owned(),
        Created::NotSent(f) => of("not sent", f),
        Created::Refused(who, f) => of(&format!("refused by {who}"), f),
        Created::Declined(f) => of("declined", f),
        Created::Unknown(f) => of("unknown", f),
    }
}

fn name_queried(outcome: &Queried) -> String {
    match outcome {
        Queried::NotFound => "not found".to_owned(),
        Queried::Payable => "payable".to_owned(),
        Queried::Paid(_) => "paid".to_owned(),
        Queried::Closed => "closed".to_owned(),
        Queried::Reversed => "reversed".to_owned(),
        Queried::Unknown(f) => of("unknown", f),
    }
}

fn name_ended(outcome: &Ended) -> String {
    match outcome {
        Ended::Closed => "closed".to_owned(),
        Ended::Reversed => "reversed".to_owned(),
        Ended::AlreadyPaid => "already paid".to_owned(),
        Ended::NotFound => "not_found".to_owned(),
        Ended::Impossible(f) => of("impossible", f),
        Ended::Again(f) => of("again", f),
        Ended::Unknown(f) => of("unknown", f),
    }
}

fn name_refunded(outcome: &Refunded) -> String {
    match outcome {
        Refunded::Accepted => "accepted".to_owned(),
        Refunded::Done => "done".to_owned(),
        Refunded::TerminalNo(f) => of("terminal", f),
        Refunded::AnotherNumber(f) => of("another number", f),
        Refunded::Abnormal(f) => of("abnormal", f),
        Refunded::NeedsFunds(f) => of("needs funds", f),
        Refunded::Later(f) => of("later", f),
        Refunded::Unknown(f) => of("unknown", f),
    }
}

fn name_refund_queried(outcome: &RefundQueried) -> String {
    match outcome {
        RefundQueried::NotFound => "not found".to_owned(),
        RefundQueried::Accepted => "accepted".to_owned(),
        RefundQueried::Done => "done".to_owned(),
        RefundQueried::TerminalNo(f) => of("terminal", f),
        RefundQueried::Abnormal(f) => of("abnormal", f),
        RefundQueried::Unknown(f) => of("unknown", f),
    }
}

/// The rows of a call: status, code with what comes behind it, outcome.
fn rows(call: &str) -> Vec<(u16, &'static str, &'static str)> {
    let lines = TABLE.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let columns = lines.map(|line| line.splitn(4, ' ').collect::<Vec<_>>());
    columns.filter(|row| row[0] == call).map(|row| (row[1].parse().unwrap(), row[2], row[3])).collect()
}

#[test]
fn every_documented_no_to_a_creation_has_its_outcome() {
    let rows = rows("native");
    assert!(rows.len() >= 55, "{}", rows.len());
    Bench::new().table(&rows, created, name_created);
}

/// Whatever a provider's table knows has words; what nobody lists has none.
#[test]
fn every_code_of_the_table_has_a_reason() {
    let bench = Bench::new();
    for (call, new) in [("native", "SOMETHING_NEW"), ("codepay", "SOMETHING_NEW")] {
        for (status, row, expected) in rows(call) {
            // What is not believed gives no reason.
            let (reason, is_none) = match bench.no(status, row) {
                Reply::No(no) => (no.failure(FailureKind::Request).reason, row == new),
                Reply::Doubt(failure) => (failure.reason, true),
                Reply::Done(..) => panic!("{call} {status} {row}"),
            };
            assert_eq!(reason.is_none(), is_none, "{call} {status} {row} {expected}: {reason:?}");
        }
    }
    let why = |row| {
        let Reply::No(no) = bench.no(400, row) else { panic!("{row}") };
        (no.failure(FailureKind::Request).reason, no.of_refund(FailureKind::Request).reason)
    };
    for (row, all, refund) in [
        ("INVALID_REQUEST/268448010", Reason::AccountRestricted, Reason::AccountRestricted),
        ("INVALID_REQUEST/268435464", Reason::AmountLimitExceeded, Reason::RefundRefused),
        ("PARAM_ERROR//description", Reason::DescriptionRefused, Reason::DescriptionRefused),
        ("PARAM_ERROR//amount/refund", Reason::ParameterRefused, Reason::RefundAmountExceeded),
        ("PARAM_ERROR//new_member", Reason::ParameterRefused, Reason::ParameterRefused),
        // A number says more of codes with several meanings alone.
        ("NOT_ENOUGH/268435464", Reason::InsufficientFunds, Reason::MerchantBalanceInsufficient),
    ] {
        assert_eq!(why(row), (Some(all), Some(refund)), "{row}");
    }
}

#[test]
fn a_refund_of_a_payment_of_over_a_year_says_so() {
    let bench = Bench::new();
    for (days, expected) in [(364, Reason::RefundRefused), (366, Reason::RefundPeriodOver)] {
        let refund = RefundOrder { txn_time: DateTime::UNIX_EPOCH + TimeDelta::days(days), ..refund() };
        let outcome = refunded(&refund, bench.no(400, "INVALID_REQUEST/268435464"));
        let Refunded::TerminalNo(failure) = outcome else { panic!("{outcome:?}") };
        assert_eq!(failure.reason, Some(expected), "{days}");
    }
}

#[test]
fn every_documented_no_to_a_query_leaves_the_order_unknown_except_a_404_of_the_order() {
    let bench = Bench::new();
    bench.table(
        &[
            (404, "ORDER_NOT_EXIST", "not found"),
            (400, "ORDER_NOT_EXIST", "unknown incompatible"),
            (404, "RESOURCE_NOT_EXISTS", "unknown incompatible"),
            (400, "PARAM_ERROR", "unknown request"),
            (400, "INVALID_REQUEST", "unknown request"),
            (400, "APPID_MCHID_NOT_MATCH", "unknown account"),
            (400, "MCH_NOT_EXISTS", "unknown account"),
            (401, "SIGN_ERROR", "unknown account"),
            (403, "TRADE_ERROR", "unknown account"),
            (403, "NO_AUTH", "unknown account"),
            (403, "RULE_LIMIT", "unknown account"),
            (429, "FREQUENCY_LIMITED", "unknown rate_limited"),
            (500, "SYSTEM_ERROR", "unknown server_error"),
            (202, "USER_PAYING", "unknown incompatible"),
            (400, "SOMETHING_NEW", "unknown incompatible"),
        ],
        |reply| queried(&bench.account, &order(), reply),
        name_queried,
    );
}

#[test]
fn every_documented_no_to_a_close_has_its_outcome() {
    Bench::new().table(
        &[
            (202, "USER_PAYING", "again declined"),
            (400, "ORDER_PAID", "already paid"),
            (403, "ORDER_PAID", "already paid"),
            (400, "ORDER_CLOSED", "closed"),
            (400, "INVALID_REQUEST/268449641", "impossible request"),
            (400, "INVALID_REQUEST", "again request"),
            (400, "APPID_MCHID_NOT_MATCH", "impossible account"),
            (400, "MCH_NOT_EXISTS", "impossible account"),
            (400, "PARAM_ERROR", "impossible request"),
            (401, "SIGN_ERROR", "again account"),
            (403, "NO_AUTH", "again account"),
            (404, "ORDER_NOT_EXIST", "impossible request"),
            (429, "FREQUENCY_LIMITED", "again rate_limited"),
            (500, "SYSTEM_ERROR", "unknown server_error"),
            (500, "ORDER_PAID", "unknown server_error"),
            (400, "SOMETHING_NEW", "unknown incompatible"),
        ],
        closed,
        name_ended,
    );
}

#[test]
fn every_documented_no_to_a_refund_has_its_outcome() {
    Bench::new().table(
        &[
            (400, "PARAM_ERROR", "terminal request"),
            (400, "INVALID_REQUEST/268435464", "terminal request"),
            (400, "INVALID_REQUEST/268447914", "terminal request"),
            (400, "INVALID_REQUEST/268498688", "unknown request"),
            (400, "INVALID_REQUEST", "unknown request"),
            (401, "SIGN_ERROR", "later account"),
            (403, "NOT_ENOUGH", "needs funds account"),
            (403, "NO_AUTH", "later account"),
            (403, "USER_ACCOUNT_ABNORMAL", "terminal declined"),
            (404, "RESOURCE_NOT_EXISTS", "terminal request"),
            (400, "MCH_NOT_EXISTS", "later account"),
            (404, "MCH_NOT_EXISTS", "later account"),
            (429, "FREQUENCY_LIMITED", "later rate_limited"),
            (429, "RATELIMIT_EXCEEDED", "later rate_limited"),
            (500, "SYSTEM_ERROR", "unknown server_error"),
            (500, "BIZERR_NEED_RETRY", "unknown server_error"),
            (400, "BIZERR_NEED_RETRY", "unknown incompatible"),
            (500, "NOT_ENOUGH", "unknown server_error"),
            (202, "USER_PAYING", "unknown incompatible"),
            (403, "SOMETHING_NEW", "unknown incompatible"),
        ],
        |reply| refunded(&refund(), reply),
        name_refunded,
    );
}

#[test]
fn every_documented_no_to_a_refund_query_leaves_it_unknown_except_a_404() {
    Bench::new().table(
        &[
            (404, "RESOURCE_NOT_EXISTS", "not found"),
            (400, "RESOURCE_NOT_EXISTS", "unknown incompatible"),
            (404, "MCH_NOT_EXISTS", "unknown account"),
            (400, "PARAM_ERROR", "unknown request"),
            (401, "SIGN_ERROR", "unknown account"),
            (403, "NO_AUTH", "unknown account"),
            (429, "FREQUENCY_LIMITED", "unknown rate_limited"),
            (500, "SYSTEM_ERROR", "unknown server_error"),
            (404, "SOMETHING_NEW", "unknown incompatible"),
        ],
        |reply| refund_queried(&refund(), reply),
        name_refund_queried,
    );
}

#[test]
fn an_unsigned_no_is_believed_only_when_it_is_a_sign_error() {
    let bench = Bench::new();
    let created_from = |answer: &HttpAnswer| name_created(&created(bench.weigh(answer)));
    let no = |status, code: &str| bench.unsigned(status, &json!({"code": code, "message": "m"}).to_string());
    assert_eq!(created_from(&no(401, "SIGN_ERROR")), "refused by account account");
    for (status, code, expected) in [
        (400, "SIGN_ERROR", "unknown incompatible"),
        (401, "NO_AUTH", "unknown incompatible"),
        (400, "PARAM_ERROR", "unknown incompatible"),
        (403, "NO_AUTH", "unknown incompatible"),
        (429, "FREQUENCY_LIMITED", "unknown rate_limited"),
        (500, "SYSTEM_ERROR", "unknown server_error"),
    ] {
        assert_eq!(created_from(&no(status, code)), expected, "{status} {code}");
    }
    let not_found = bench.weigh(&no(404, "ORDER_NOT_EXIST"));
    assert_eq!(name_queried(&queried(&bench.account, &order(), not_found)), "unknown incompatible");
    let paid = bench.weigh(&no(400, "ORDER_PAID"));
    assert_eq!(name_ended(&closed(paid)), "unknown incompatible");
    let no_refund = bench.weigh(&no(404, "RESOURCE_NOT_EXISTS"));
    assert_eq!(name_refund_queried(&refund_queried(&refund(), no_refund)), "unknown incompatible");
}

/// Two clocks that differ are alike for all accounts: another route is taken, and none is set aside.
#[test]
fn a_sign_error_about_the_time_is_not_the_accounts() {
    let bench = Bench::new();
    for (message, expected) in [
        ("Http头Authorization中的timestamp与发起请求的时间不得超过5分钟", "refused by provider request"),
        ("Authorization不合法", "refused by account account"),
        ("错误的签名，导致验签失败", "refused by account account"),
        ("商户证书序列号有误", "refused by account account"),
    ] {
        let answer = bench.unsigned(401, &json!({"code": "SIGN_ERROR", "message": message}).to_string());
        assert_eq!(name_created(&created(bench.weigh(&answer))), expected, "{message}");
        assert_eq!(name_created(&charged(&bench.account, "IL00000001", bench.weigh(&answer))), expected, "{message}");
    }
}

/// The code can be read, and is signed: words in another charset, halves of characters and nothing at all decide nothing.
#[test]
fn words_that_cannot_be_read_take_nothing_from_the_code() {
    let bench = Bench::new();
    for message in [&b"\"\xd5\xcb\xbb\xa7\""[..], b"\"\xff\"", br#""\ud83d""#, b"null", b"7"] {
        let body = [br#"{"code":"NO_AUTH","message":"#, message, b"}"].concat();
        let mut answer = bench.signed(403, "");
        let signature = bench.theirs.sign(&answer_message(&NOW.to_string(), "n", &body));
        answer.headers.insert("wechatpay-signature", HeaderValue::try_from(signature).unwrap());
        answer.body = Bytes::from(body);
        let outcome = name_created(&created(bench.weigh(&answer)));
        assert_eq!(outcome, "refused by account account", "{}", message.escape_ascii());
    }
}

#[test]
fn a_wrong_signature_makes_any_answer_unknown() {
    let bench = Bench::new();
    let body = r#"{"code":"PARAM_ERROR","message":"m","code_url":"weixin://x"}"#;
    for status in [200, 204, 400, 401, 404] {
        let set = |name: &'static str, value: &'static str| {
            let mut answer = bench.signed(status, body);
            answer.headers.insert(name, HeaderValue::from_static(value));
            answer
        };
        let mut without_nonce = bench.signed(status, body);
        without_nonce.headers.remove("wechatpay-nonce");
        let mut tampered = bench.signed(status, body);
        tampered.body = Bytes::from_static(br#"{"code":"NO_AUTH","message":"m","code_url":"weixin://y"}"#);
        let spoilt = [
            set("wechatpay-signature", "AAAA"),
            set("wechatpay-signature", "WECHATPAY/SIGNTEST/AAAA"),
            set("wechatpay-serial", "PUB_KEY_ID_0"),
            set("wechatpay-timestamp", "1767578100"),
            set("wechatpay-timestamp", "yesterday"),
            set("wechatpay-signature-type", "WECHATPAY2-SM2-WITH-SM3"),
            without_nonce,
            tampered,
        ];
        for answer in spoilt {
            let headers = answer.headers.clone();
            let Reply::Doubt(failure) = bench.weigh(&answer) else { panic!("{status} {headers:?}") };
            assert_eq!(failure.kind, FailureKind::Incompatible, "{status} {headers:?}");
        }
    }
}

#[test]
fn a_success_without_a_signature_is_unknown() {
    let bench = Bench::new();
    let offer = bench.weigh(&bench.unsigned(200, r#"{"code_url":"weixin://wxpay/bizpayurl?pr=x"}"#));
    assert_eq!(name_created(&created(offer)), "unknown incompatible");
    assert_eq!(name_ended(&closed(bench.weigh(&bench.unsigned(204, "")))), "unknown incompatible");
    let paid = bench.weigh(&bench.unsigned(200, &transaction("SUCCESS")));
    assert_eq!(name_queried(&queried(&bench.account, &order(), paid)), "unknown incompatible");
}

#[test]
fn proxies_and_redirects_are_unknown() {
    let bench = Bench::new();
    for (status, expected) in [
        (301, "unknown incompatible"),
        (307, "unknown incompatible"),
        (404, "unknown incompatible"),
        (429, "unknown rate_limited"),
        (502, "unknown server_error"),
        (503, "unknown server_error"),
        (504, "unknown server_error"),
    ] {
        let reply = bench.weigh(&bench.unsigned(status, "<html>"));
        assert_eq!(name_created(&created(reply)), expected, "{status}");
    }
}

#[test]
fn a_signed_success_is_what_the_call_documents_and_nothing_else() {
    let bench = Bench::new();
    let url = r#"{"code_url":"weixin://wxpay/bizpayurl?pr=x","new_member":{}}"#;
    let qr = "weixin://wxpay/bizpayurl?pr=x".to_owned();
    let offer = created(bench.weigh(&bench.signed(200, url)));
    assert_eq!(offer, Created::Accepted(NextAction::DisplayQr { qr }));
    for (status, body) in [(200, "{}"), (200, r#"{"code_url":""}"#), (200, "not json"), (204, ""), (201, url)] {
        let outcome = created(bench.weigh(&bench.signed(status, body)));
        assert_eq!(name_created(&outcome), "unknown incompatible", "{status} {body}");
    }
    assert_eq!(closed(bench.weigh(&bench.signed(204, ""))), Ended::Closed);
    assert_eq!(name_ended(&closed(bench.weigh(&bench.signed(200, "{}")))), "unknown incompatible");
}

fn transaction(state: &str) -> String {
    json!({
        "amount": {"currency": "CNY", "payer_currency": "CNY", "payer_total": 90, "total": 100},
        "appid": "wxd678efh567hg6787", "attach": "pay_1", "mchid": "1900000109", "out_trade_no": "IL00000001",
        "payer": {"openid": "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o"}, "success_time": "2026-01-05T10:00:01+08:00",
        "trade_state": state, "transaction_id": "4200002601202601051234567890",
    })
    .to_string()
}

fn query(bench: &Bench, body: &str) -> Queried {
    queried(&bench.account, &order(), bench.weigh(&bench.signed(200, body)))
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
        assert_eq!(name_queried(&query(&bench, &transaction(state))), expected, "{state}");
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
    assert_eq!(query(&bench, &transaction("SUCCESS")), Queried::Paid(expected.clone()));
    let foreign = transaction("SUCCESS").replace("wxd678efh567hg6787", "wx1").replace("pay_1", "");
    let foreign_account = Some("1900000109/wx1".to_owned());
    assert_eq!(query(&bench, &foreign), Queried::Paid(Capture { payment_id: None, foreign_account, ..expected }));
}

#[test]
fn an_unpaid_answer_needs_no_currency_and_no_payer() {
    let bench = Bench::new();
    // A real answer, three times reported.
    let body = r#"{"amount":{"payer_currency":"CNY","total":1},"appid":"wxd678efh567hg6787","mchid":"1900000109",
        "out_trade_no":"IL00000001","promotion_detail":[],"scene_info":{"device_id":""},"trade_state":"NOTPAY",
        "trade_state_desc":"订单未支付"}"#;
    assert_eq!(query(&bench, body), Queried::Payable);
    assert_eq!(query(&bench, &body.replace(r#""total":1}"#, r#""total":1},"payer":{}"#)), Queried::Payable);
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
        assert_eq!(name_queried(&query(&bench, &spoilt)), "unknown incompatible", "{spoilt}");
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
    let reply = |body: &str| bench.weigh(&bench.signed(200, body));
    for (status, asked, found) in [
        ("PROCESSING", "accepted", "accepted"),
        ("SUCCESS", "done", "done"),
        ("CLOSED", "terminal request", "terminal request"),
        ("ABNORMAL", "abnormal declined", "abnormal declined"),
        ("SOMETHING_NEW", "unknown incompatible", "unknown incompatible"),
    ] {
        assert_eq!(name_refunded(&refunded(&refund(), reply(&body(status)))), asked, "{status}");
        assert_eq!(name_refund_queried(&refund_queried(&refund(), reply(&body(status)))), found, "{status}");
    }
    for (from, to) in [("IL00000001", "IL00000002"), ("ILR0000001", "ILR0000002"), (":40", ":41")] {
        let other = body("SUCCESS").replace(from, to);
        assert_eq!(name_refunded(&refunded(&refund(), reply(&other))), "unknown incompatible", "{to}");
        let found = refund_queried(&refund(), reply(&other));
        assert_eq!(name_refund_queried(&found), "unknown incompatible", "{to}");
    }
}
