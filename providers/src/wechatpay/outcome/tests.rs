//! Every status and code that the documentation names for our calls, in both spellings, against the
//! outcome it must have.

mod charges;
mod signatures;
mod states;

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
            "private_key": keys["merchant_private_key_pem"],
            "public_key_id": keys["wechatpay_pubkey_id"],
            "public_key": keys["wechatpay_pubkey_pem"], "apiv3_key": keys["apiv3_key"],
        });
        Self {
            account: Account::read(settings, &crate::http::Way::Open).unwrap(),
            theirs: Signer::from_text(keys["wechatpay_pubkey_private_key_pem"].as_str().unwrap())
                .unwrap(),
            now: DateTime::from_timestamp(NOW, 0).unwrap(),
        }
    }

    fn unsigned(&self, status: u16, body: &str) -> HttpAnswer {
        let headers = HeaderMap::new();
        HttpAnswer {
            status: StatusCode::from_u16(status).unwrap(),
            headers,
            body: Bytes::from(body.to_owned()),
        }
    }

    fn signed(&self, status: u16, body: &str) -> HttpAnswer {
        let mut answer = self.unsigned(status, body);
        let signature = self
            .theirs
            .sign(&answer_message(&NOW.to_string(), "n", body.as_bytes()));

        for (name, value) in [
            ("wechatpay-timestamp", NOW.to_string()),
            ("wechatpay-nonce", "n".to_owned()),
            ("wechatpay-signature", signature),
            ("wechatpay-serial", self.account.public_key_id.clone()),
        ] {
            answer.headers.insert(
                HeaderName::from_static(name),
                HeaderValue::try_from(value).unwrap(),
            );
        }

        answer
    }

    fn verify(&self, answer: &HttpAnswer) -> Reply {
        Reply::verify(&self.account, answer, self.now)
    }

    /// A signed "no" as a row of a table names it: `CODE`, `CODE/reason`, or `CODE//member`.
    fn no(&self, status: u16, row: &str) -> Reply {
        let (code, more) = row.split_once('/').unwrap_or((row, "0"));
        let (member, reason) = if more.starts_with('/') {
            (Some(more), "0")
        } else {
            (None, more)
        };
        let detail =
            member.map(|member| json!({"field": member, "value": 135, "location": "body"}));
        let body = json!({"code": code, "message": "text", "detail": detail});
        let mut answer = self.signed(status, &body.to_string());
        answer.headers.insert(
            "request-id",
            HeaderValue::try_from(format!("08AB-{reason}")).unwrap(),
        );
        self.verify(&answer)
    }

    /// Runs every row in both spellings of its code.
    fn table<T>(
        &self,
        rows: &[(u16, &str, &str)],
        map: impl Fn(Reply) -> T,
        name: impl Fn(&T) -> String,
    ) {
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
    OrderRef {
        order_no: "IL00000001".to_owned(),
        txn_time: DateTime::UNIX_EPOCH,
        expires_at: DateTime::UNIX_EPOCH,
    }
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

fn name_created(outcome: &CreateOutcome) -> String {
    match outcome {
        CreateOutcome::Accepted(_) => "accepted".to_owned(),
        CreateOutcome::Captured(_) => "captured".to_owned(),
        CreateOutcome::Waiting => "waiting".to_owned(),
        CreateOutcome::NotSent(f) => of("not sent", f),
        CreateOutcome::Refused(who, f) => of(&format!("refused by {who}"), f),
        CreateOutcome::Declined(f) => of("declined", f),
        CreateOutcome::Unknown(f) => of("unknown", f),
    }
}

fn name_queried(outcome: &QueryOutcome) -> String {
    match outcome {
        QueryOutcome::NotFound => "not found".to_owned(),
        QueryOutcome::Payable => "payable".to_owned(),
        QueryOutcome::Paid(_) => "paid".to_owned(),
        QueryOutcome::Closed => "closed".to_owned(),
        QueryOutcome::Reversed => "reversed".to_owned(),
        QueryOutcome::Unknown(f) => of("unknown", f),
    }
}

fn name_ended(outcome: &CloseOutcome) -> String {
    match outcome {
        CloseOutcome::Closed => "closed".to_owned(),
        CloseOutcome::Reversed => "reversed".to_owned(),
        CloseOutcome::AlreadyPaid => "already paid".to_owned(),
        CloseOutcome::NotFound => "not_found".to_owned(),
        CloseOutcome::Impossible(f) => of("impossible", f),
        CloseOutcome::Retry(f) => of("again", f),
        CloseOutcome::Unknown(f) => of("unknown", f),
    }
}

fn name_refunded(outcome: &RefundOutcome) -> String {
    match outcome {
        RefundOutcome::Accepted => "accepted".to_owned(),
        RefundOutcome::Done => "done".to_owned(),
        RefundOutcome::Rejected(f) => of("terminal", f),
        RefundOutcome::RetryWithNewNumber(f) => of("another number", f),
        RefundOutcome::Abnormal(f) => of("abnormal", f),
        RefundOutcome::NeedsFunds(f) => of("needs funds", f),
        RefundOutcome::RetryLater(f) => of("later", f),
        RefundOutcome::Unknown(f) => of("unknown", f),
    }
}

fn name_refund_queried(outcome: &RefundQueryOutcome) -> String {
    match outcome {
        RefundQueryOutcome::NotFound => "not found".to_owned(),
        RefundQueryOutcome::Accepted => "accepted".to_owned(),
        RefundQueryOutcome::Done => "done".to_owned(),
        RefundQueryOutcome::Rejected(f) => of("terminal", f),
        RefundQueryOutcome::Abnormal(f) => of("abnormal", f),
        RefundQueryOutcome::Unknown(f) => of("unknown", f),
    }
}

/// The rows of a call: status, code with what comes behind it, outcome.
fn rows(call: &str) -> Vec<(u16, &'static str, &'static str)> {
    let lines = TABLE
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    let columns = lines.map(|line| line.splitn(4, ' ').collect::<Vec<_>>());
    columns
        .filter(|row| row[0] == call)
        .map(|row| (row[1].parse().unwrap(), row[2], row[3]))
        .collect()
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
            assert_eq!(
                reason.is_none(),
                is_none,
                "{call} {status} {row} {expected}: {reason:?}"
            );
        }
    }

    let why = |row| {
        let Reply::No(no) = bench.no(400, row) else {
            panic!("{row}")
        };
        (
            no.failure(FailureKind::Request).reason,
            no.of_refund(FailureKind::Request).reason,
        )
    };

    for (row, all, refund) in [
        (
            "INVALID_REQUEST/268448010",
            Reason::AccountRestricted,
            Reason::AccountRestricted,
        ),
        (
            "INVALID_REQUEST/268435464",
            Reason::AmountLimitExceeded,
            Reason::RefundRefused,
        ),
        (
            "PARAM_ERROR//description",
            Reason::DescriptionRefused,
            Reason::DescriptionRefused,
        ),
        (
            "PARAM_ERROR//amount/refund",
            Reason::ParameterRefused,
            Reason::RefundAmountExceeded,
        ),
        (
            "PARAM_ERROR//new_member",
            Reason::ParameterRefused,
            Reason::ParameterRefused,
        ),
        // A number says more of codes with several meanings alone.
        (
            "NOT_ENOUGH/268435464",
            Reason::InsufficientFunds,
            Reason::MerchantBalanceInsufficient,
        ),
    ] {
        assert_eq!(why(row), (Some(all), Some(refund)), "{row}");
    }
}

#[test]
fn a_refund_of_a_payment_of_over_a_year_says_so() {
    let bench = Bench::new();
    for (days, expected) in [
        (364, Reason::RefundRefused),
        (366, Reason::RefundPeriodOver),
    ] {
        let refund = RefundOrder {
            txn_time: DateTime::UNIX_EPOCH + TimeDelta::days(days),
            ..refund()
        };
        let outcome = refunded(&refund, bench.no(400, "INVALID_REQUEST/268435464"));
        let RefundOutcome::Rejected(failure) = outcome else {
            panic!("{outcome:?}")
        };
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

fn transaction(state: &str) -> String {
    json!({
        "amount": {"currency": "CNY", "payer_currency": "CNY", "payer_total": 90, "total": 100},
        "appid": "wxd678efh567hg6787", "attach": "pay_1", "mchid": "1900000109",
        "out_trade_no": "IL00000001",
        "payer": {"openid": "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o"},
        "success_time": "2026-01-05T10:00:01+08:00",
        "trade_state": state, "transaction_id": "4200002601202601051234567890",
    })
    .to_string()
}
