//! The one place where an answer of WeChat Pay becomes an outcome: first what it is worth
//! ([`Reply`]), then one function per call. A code that is not named here is never a "no": it is
//! `Unknown`, and a query decides.
//!
//! Codes are compared without underscores and in upper case, since `ORDERPAID` and `ORDER_PAID` are
//! both sent. HTTP statuses differ between the sources, so the code decides, except that 5xx always
//! is `Unknown`.

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use http::StatusCode;

use super::config::Account;
use super::reasons::REASONS;
use super::sign::{Seal, SealError};
use super::wire::{ErrorBody, NativeAnswer, Refund, Transaction, json};
use crate::http::HttpAnswer;
use crate::money::Money;
use crate::order::{OrderRef, RefundOrder};
use crate::outcome::{
    Capture, CloseOutcome, CreateOutcome, Failure, FailureKind, NUMBER_EXISTS, NextAction,
    OTHER_REFUND, QueryOutcome, RefundOutcome, RefundQueryOutcome, Refusal, WRONGLY_SIGNED,
};
use crate::reason::Reason;

/// The number was used before with other parameters: something lives under it already.
const REENTRY: &str = "268498688";
/// An order of a code payment, which can only be reversed.
const ONLY_REVERSE: &str = "268449641";
/// Reasons of an `INVALID_REQUEST` that speak of the order's state rather than of our parameters:
/// not there, paid (two), closed.
const ORDER_STATE: [&str; 4] = ["268512771", "268449538", "268498689", "268447914"];

/// What an answer is worth.
#[derive(Debug)]
pub(super) enum Reply {
    /// 2xx with a signature that holds. A 202 only without a code in it.
    Done(StatusCode, Bytes),
    /// A "no" that can be believed: signed, or an unsigned 401 `SIGN_ERROR`, which was never
    /// executed. Also a signed 202 with a code, which is a "not yet".
    No(No),
    /// Nothing that can be believed, or a provider in trouble.
    Doubt(Failure),
}

/// A "no" and its reason.
#[derive(Debug)]
pub(super) struct No {
    status: u16,
    /// Without underscores, in upper case.
    code: String,
    /// The number behind the last `-` of `Request-ID`; `None` where it is missing or 0 and so names
    /// no reason.
    reason: Option<String>,
    /// The member that `detail` is about, as a path: `/payer/auth_code`.
    field: Option<String>,
    /// Its message speaks of the time of our request.
    is_about_time: bool,
    /// As sent, for people.
    said: (String, String),
}

impl Reply {
    /// Weighs an answer. Every 2xx must be signed; an error may come without a signature but never
    /// with a wrong one.
    pub(super) fn verify(account: &Account, answer: &HttpAnswer, now: DateTime<Utc>) -> Self {
        let (status, success) = (answer.status.as_u16(), answer.status.is_success());
        let signed = success || Seal::is_there(&answer.headers);

        if signed {
            let seal = Seal::of(&answer.headers);
            let checked = seal.and_then(|s| {
                s.check(
                    &answer.body,
                    now,
                    &account.public_key_id,
                    &account.public_key,
                )
            });
            if let Err(e) = checked {
                let code = match e {
                    SealError::UnknownKey(_) | SealError::BadSignature => WRONGLY_SIGNED,
                    SealError::Stale => "signed_at_another_time",
                    SealError::Missing(_) | SealError::Probe | SealError::UnknownType(_) => {
                        "not_signed"
                    }
                };
                return Self::Doubt(Failure::new(
                    FailureKind::Incompatible,
                    code,
                    format!("HTTP {status}: {e}"),
                ));
            }
        }

        let done = || Self::Done(answer.status, answer.body.clone());
        if success && answer.status != StatusCode::ACCEPTED {
            return done();
        }
        let Some(error) = ErrorBody::read(&answer.body) else {
            if success {
                return done();
            }
            return Self::Doubt(Failure::new(
                kind_of(status),
                format!("http_{status}"),
                "without a readable code",
            ));
        };

        let no = No::new(status, error, answer.header("Request-ID"));
        // A 202 is no "no", whatever its code: what was asked for may still be done.
        let believed = (signed && (status != 202 || no.code == "USERPAYING"))
            || (status == 401 && no.code == "SIGNERROR");

        // What is not believed gives no reason either.
        if believed && status < 500 {
            Self::No(no)
        } else {
            Self::Doubt(no.failure(kind_of(status)).because(None))
        }
    }
}

/// What a "no" is about, as far as it tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum About {
    /// There are too many calls: not accepted.
    Load,
    /// The time: two clocks differ, which is no account's trouble and no order's.
    Clock,
    /// The account, whatever is asked of it.
    Account,
    /// This request, over this route.
    Request,
    /// The payer.
    Payer,
    /// Something that lives under our number, or perhaps does: what became of it must be asked.
    Number,
}

/// What the number of a reason says. It stands outside of the signature, so that none but these
/// makes anything certain: a parameter is illegal, out of range, unknown, missing; too many calls;
/// collection restricted, merchant unusable, app and merchant do not match, for partners only
/// (four), bad signature.
fn reason(number: &str) -> Option<About> {
    match number {
        "268435461" | "268435464" | "270924358" | "268501013" => Some(About::Request),
        "268447840" => Some(About::Load),
        "268448010" | "268443715" | "268445527" | "268443701" | "268443704" | "268443705"
        | "268447845" | "268443699" => Some(About::Account),
        _ => None,
    }
}

impl No {
    fn new(status: u16, error: ErrorBody, request_id: Option<&str>) -> Self {
        let code = error
            .code
            .chars()
            .filter(|c| *c != '_')
            .collect::<String>()
            .to_ascii_uppercase();
        let reason = request_id
            .and_then(|id| id.rsplit_once('-'))
            .map(|(_, reason)| reason.to_owned());
        let reason = reason.filter(|r| !r.is_empty() && r != "0");

        let field = error
            .detail
            .as_ref()
            .and_then(|d| d.get("field")?.as_str().map(str::to_owned));
        let detail = error.detail.map(|d| format!(" {d}")).unwrap_or_default();
        let is_about_time = error.message.contains("timestamp");
        let message = format!("{}{detail}", error.message)
            .chars()
            .take(500)
            .collect();

        Self {
            status,
            code,
            reason,
            field,
            is_about_time,
            said: (error.code, message),
        }
    }

    fn failure(&self, kind: FailureKind) -> Failure {
        let code = if self.said.0.is_empty() {
            format!("http_{}", self.status)
        } else {
            self.said.0.clone()
        };
        let code = code.chars().take(64).collect::<String>();
        Failure::new(kind, code, self.said.1.clone()).because(self.why(|told| REASONS.of(told)))
    }

    /// As [`Self::failure`], of a refund.
    fn of_refund(&self, kind: FailureKind) -> Failure {
        self.failure(kind)
            .because(self.why(|told| REASONS.of_refund(told)))
    }

    /// By the most that it tells: the member or the number of the reason, where its code has
    /// several meanings.
    fn why(&self, listed: impl Fn(&str) -> Option<Reason>) -> Option<Reason> {
        if self.about() == Some(About::Clock) {
            return Some(Reason::ClockSkew);
        }
        let is_open = matches!(self.code.as_str(), "PARAMERROR" | "INVALIDREQUEST");
        let more =
            [self.field.as_deref(), self.reason.as_deref()].map(|told| told.filter(|_| is_open));
        more.into_iter()
            .flatten()
            .find_map(&listed)
            .or_else(|| listed(&self.code))
    }

    /// A code that means nothing to us, or nothing in this call.
    fn unlisted(&self) -> Failure {
        self.failure(kind_of(self.status))
    }

    /// Not accepted because there are too many: all four spellings, and whatever comes with 429,
    /// unless it tells of something that was accepted.
    fn is_busy(&self) -> bool {
        const TAKEN_UP: [&str; 8] = [
            "ORDERPAID",
            "ORDERCLOSED",
            "ORDERREVERSED",
            "OUTTRADENOUSED",
            "USERPAYING",
            "SYSTEMERROR",
            "BANKERROR",
            "BUYERMISMATCH",
        ];

        if self.is_about_our_number() || self.about() == Some(About::Number) {
            return false;
        }
        let codes = [
            "FREQUENCYLIMITED",
            "RATELIMITEXCEEDED",
            "RATELIMITEXCEED",
            "FREQLIMIT",
        ];

        let is_told = codes.contains(&self.code.as_str()) || self.about() == Some(About::Load);
        is_told || (self.status == 429 && !TAKEN_UP.contains(&self.code.as_str()))
    }

    /// By its reason: it speaks of something that lives under our number.
    fn is_about_our_number(&self) -> bool {
        self.reason
            .as_deref()
            .is_some_and(|r| r == REENTRY || r == ONLY_REVERSE || ORDER_STATE.contains(&r))
    }

    /// What the codes with several meanings are about; `None` for all others. An `INVALID_REQUEST`
    /// without a reason may be about our number as well as about our parameters.
    fn about(&self) -> Option<About> {
        match self.code.as_str() {
            "INVALIDREQUEST" => Some(
                self.reason
                    .as_deref()
                    .and_then(reason)
                    .unwrap_or(About::Number),
            ),
            "PARAMERROR" if self.is_about_our_number() => Some(About::Number),
            "PARAMERROR" => Some(match self.field.as_deref() {
                Some("/payer/auth_code") => About::Payer,
                Some("/appid" | "/mchid") => About::Account,
                Some(_) | None => About::Request,
            }),
            "SIGNERROR" if self.is_about_time => Some(About::Clock),
            "SIGNERROR" => Some(About::Account),
            _ => None,
        }
    }

    /// A creation that is refused by what it is about; `None`: by its code alone.
    fn refusal(&self) -> Option<CreateOutcome> {
        Some(match self.about()? {
            About::Load => {
                CreateOutcome::Refused(Refusal::Provider, self.failure(FailureKind::RateLimited))
            }
            // Whatever is asked is refused alike until it is mended: as if the provider were out.
            About::Clock => {
                CreateOutcome::Refused(Refusal::Provider, self.failure(FailureKind::Request))
            }
            About::Account => {
                CreateOutcome::Refused(Refusal::Account, self.failure(FailureKind::Account))
            }
            About::Request => {
                CreateOutcome::Refused(Refusal::Route, self.failure(FailureKind::Request))
            }
            About::Payer => CreateOutcome::Declined(self.failure(FailureKind::Declined)),
            About::Number => CreateOutcome::Unknown(self.failure(FailureKind::Request)),
        })
    }
}

/// What kind of trouble a status is that says no more.
fn kind_of(status: u16) -> FailureKind {
    match status {
        429 => FailureKind::RateLimited,
        500.. => FailureKind::ServerError,
        _ => FailureKind::Incompatible,
    }
}

fn incompatible(message: impl Into<String>) -> Failure {
    Failure::new(FailureKind::Incompatible, "unreadable", message)
}

fn parse<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    json(body).map_err(|e| incompatible(e.to_string()))
}

/// Creating a native order. It takes no money; what is `Unknown` may still become payable.
///
/// Our numbers are new, so "paid", "closed", "used" or "other parameters" mean that something we
/// did not see the end of happened under this number: `Unknown`, never a "no".
pub(super) fn created(reply: Reply) -> CreateOutcome {
    let no = match reply {
        Reply::Done(StatusCode::OK, body) => return offered(&body),
        Reply::Done(status, _) => {
            return CreateOutcome::Unknown(incompatible(format!("HTTP {status}")));
        }
        Reply::Doubt(failure) => return CreateOutcome::Unknown(failure),
        Reply::No(no) => no,
    };

    if no.is_busy() {
        return CreateOutcome::Refused(Refusal::Provider, no.failure(FailureKind::RateLimited));
    }
    if let Some(refused) = no.refusal() {
        // No payer is there yet: a member of the payer's is one that this route makes trouble
        // about.
        return match refused {
            CreateOutcome::Declined(failure) => CreateOutcome::Refused(Refusal::Route, failure),
            CreateOutcome::Accepted(_)
            | CreateOutcome::Captured(_)
            | CreateOutcome::Waiting
            | CreateOutcome::NotSent(_)
            | CreateOutcome::Refused(..)
            | CreateOutcome::Unknown(_) => refused,
        };
    }

    match no.code.as_str() {
        "NOAUTH" | "APPIDMCHIDNOTMATCH" | "MCHNOTEXISTS" => {
            CreateOutcome::Refused(Refusal::Account, no.failure(FailureKind::Account))
        }
        // No payer is there yet, so what sounds like one's "no" is a rule of this route's, which
        // does not say whose it is.
        "ACCOUNTERROR" | "RULELIMIT" | "TRADEERROR" | "NOTENOUGH" => {
            CreateOutcome::Refused(Refusal::Route, no.failure(FailureKind::Account))
        }
        "ORDERPAID" | "ORDERCLOSED" | "OUTTRADENOUSED" => {
            CreateOutcome::Unknown(no.failure(FailureKind::Request))
        }
        // With them: USER_PAYING (202) and ORDER_NOT_EXIST, which is no answer to a creation.
        _ => CreateOutcome::Unknown(no.unlisted()),
    }
}

fn offered(body: &[u8]) -> CreateOutcome {
    match parse::<NativeAnswer>(body) {
        Ok(answer) if !answer.code_url.is_empty() => {
            CreateOutcome::Accepted(NextAction::DisplayQr {
                qr: answer.code_url,
            })
        }
        Ok(_) => CreateOutcome::Unknown(incompatible("an empty code_url")),
        Err(failure) => CreateOutcome::Unknown(failure),
    }
}

/// Querying an order. Only a signed 404 says that there is none; every other "no" says nothing.
pub(super) fn queried(account: &Account, order: &OrderRef, reply: Reply) -> QueryOutcome {
    match reply {
        Reply::Done(StatusCode::OK, body) => match parse::<Transaction>(&body) {
            Ok(transaction) => order_state(account, order, transaction),
            Err(failure) => QueryOutcome::Unknown(failure),
        },
        Reply::Done(status, _) => QueryOutcome::Unknown(incompatible(format!("HTTP {status}"))),
        Reply::Doubt(failure) => QueryOutcome::Unknown(failure),
        Reply::No(no) if no.status == 404 && no.code == "ORDERNOTEXIST" => QueryOutcome::NotFound,
        Reply::No(no) => QueryOutcome::Unknown(question_failed(&no)),
    }
}

/// The signature of an answer does not cover the question, so the number is compared: an answer
/// about another order of ours would be genuine too.
fn order_state(account: &Account, order: &OrderRef, transaction: Transaction) -> QueryOutcome {
    if transaction.out_trade_no != order.order_no {
        return QueryOutcome::Unknown(incompatible(format!(
            "about order {:?}",
            transaction.out_trade_no
        )));
    }

    match transaction.trade_state.as_str() {
        // REFUND: paid, and a refund of any size was started; the refund's own number says more.
        "SUCCESS" | "REFUND" => {
            capture(account, transaction).map_or_else(QueryOutcome::Unknown, QueryOutcome::Paid)
        }
        // All of these can still become paid; the last three come with code payments and
        // withholding only.
        "NOTPAY" | "USERPAYING" | "PAYERROR" | "ACCEPT" => QueryOutcome::Payable,
        "CLOSED" => QueryOutcome::Closed,
        // Dead, and nothing is kept. Whether money had moved it does not tell, so it must not be
        // called unpaid: the bill may have rows of a payment and of its return.
        "REVOKED" => QueryOutcome::Reversed,
        other => QueryOutcome::Unknown(incompatible(format!("trade_state {other:?}"))),
    }
}

/// Closing an order. 204 also comes for a number that was never created, and burns it.
pub(super) fn closed(reply: Reply) -> CloseOutcome {
    let no = match reply {
        Reply::Done(StatusCode::NO_CONTENT, _) => return CloseOutcome::Closed,
        Reply::Done(status, _) => {
            return CloseOutcome::Unknown(incompatible(format!("HTTP {status}")));
        }
        Reply::Doubt(failure) => return CloseOutcome::Unknown(failure),
        Reply::No(no) => no,
    };

    if no.is_busy() {
        return CloseOutcome::Retry(no.failure(FailureKind::RateLimited));
    }
    match no.code.as_str() {
        "ORDERPAID" => CloseOutcome::AlreadyPaid,
        "ORDERCLOSED" => CloseOutcome::Closed,
        "USERPAYING" => CloseOutcome::Retry(no.failure(FailureKind::Declined)),
        // Nothing was changed, and it may work later: once the key or the clock is mended, or
        // (older documents) when the order is five minutes old.
        "SIGNERROR" | "NOAUTH" => CloseOutcome::Retry(no.failure(FailureKind::Account)),
        "INVALIDREQUEST" if no.reason.as_deref() != Some(ONLY_REVERSE) => {
            CloseOutcome::Retry(no.failure(FailureKind::Request))
        }
        "INVALIDREQUEST" | "PARAMERROR" | "ORDERNOTEXIST" => {
            CloseOutcome::Impossible(no.failure(FailureKind::Request))
        }
        "APPIDMCHIDNOTMATCH" | "MCHNOTEXISTS" => {
            CloseOutcome::Impossible(no.failure(FailureKind::Account))
        }
        _ => CloseOutcome::Unknown(no.unlisted()),
    }
}

/// A payment can be refunded for a year.
const REFUNDED_WITHIN: TimeDelta = TimeDelta::days(365);

/// Refunding. `Rejected` only where nothing can have been taken up under this number by this
/// call; what a mended account or a full balance would cure keeps its number.
pub(super) fn refunded(refund: &RefundOrder, reply: Reply) -> RefundOutcome {
    let no = match reply {
        Reply::Done(StatusCode::OK, body) => return refund_taken_up(refund, &body),
        Reply::Done(status, _) => {
            return RefundOutcome::Unknown(incompatible(format!("HTTP {status}")));
        }
        Reply::Doubt(failure) => return RefundOutcome::Unknown(failure),
        Reply::No(no) => no,
    };

    if no.is_busy() {
        return RefundOutcome::RetryLater(no.of_refund(FailureKind::RateLimited));
    }
    match no.code.as_str() {
        "NOTENOUGH" => RefundOutcome::NeedsFunds(no.of_refund(FailureKind::Account)),
        "SIGNERROR" | "NOAUTH" | "MCHNOTEXISTS" => {
            RefundOutcome::RetryLater(no.of_refund(FailureKind::Account))
        }
        "PARAMERROR" | "INVALIDREQUEST" if no.about() == Some(About::Account) => {
            RefundOutcome::RetryLater(no.of_refund(FailureKind::Account))
        }
        "RESOURCENOTEXISTS" => RefundOutcome::Rejected(no.of_refund(FailureKind::Request)),
        "PARAMERROR" if !no.is_about_our_number() => {
            RefundOutcome::Rejected(no.of_refund(FailureKind::Request))
        }
        "USERACCOUNTABNORMAL" => RefundOutcome::Rejected(no.of_refund(FailureKind::Declined)),
        // A refund lives under this number.
        "PARAMERROR" | "INVALIDREQUEST" if no.reason.as_deref() == Some(REENTRY) => {
            RefundOutcome::Unknown(Failure {
                code: NUMBER_EXISTS.to_owned(),
                ..no.of_refund(FailureKind::Request)
            })
        }
        // Too much, too old, too many, not paid. A closed or unpaid order cannot be refunded
        // either, so only a missing reason leaves a doubt.
        "INVALIDREQUEST"
            if no
                .reason
                .as_deref()
                .is_some_and(|r| r.bytes().all(|b| b.is_ascii_digit())) =>
        {
            let failure = no.of_refund(FailureKind::Request);
            let is_old = refund.txn_time - refund.order.txn_time > REFUNDED_WITHIN;
            RefundOutcome::Rejected(if is_old {
                failure.because(Some(Reason::RefundPeriodOver))
            } else {
                failure
            })
        }
        "PARAMERROR" | "INVALIDREQUEST" => {
            RefundOutcome::Unknown(no.of_refund(FailureKind::Request))
        }
        _ => RefundOutcome::Unknown(no.of_refund(kind_of(no.status))),
    }
}

fn refund_taken_up(refund: &RefundOrder, body: &[u8]) -> RefundOutcome {
    match same_refund(refund, body) {
        RefundQueryOutcome::Accepted => RefundOutcome::Accepted,
        RefundQueryOutcome::Done => RefundOutcome::Done,
        RefundQueryOutcome::Rejected(closed) => RefundOutcome::RetryWithNewNumber(closed),
        RefundQueryOutcome::Abnormal(failure) => RefundOutcome::Abnormal(failure),
        RefundQueryOutcome::Unknown(failure) => RefundOutcome::Unknown(failure),
        RefundQueryOutcome::NotFound => {
            RefundOutcome::Unknown(incompatible("taken up and not found"))
        }
    }
}

/// Querying a refund. A signed 404 means that it was never accepted.
pub(super) fn refund_queried(refund: &RefundOrder, reply: Reply) -> RefundQueryOutcome {
    match reply {
        Reply::Done(StatusCode::OK, body) => same_refund(refund, &body),
        Reply::Done(status, _) => {
            RefundQueryOutcome::Unknown(incompatible(format!("HTTP {status}")))
        }
        Reply::Doubt(failure) => RefundQueryOutcome::Unknown(failure),
        Reply::No(no) if no.status == 404 && no.code == "RESOURCENOTEXISTS" => {
            RefundQueryOutcome::NotFound
        }
        Reply::No(no) => RefundQueryOutcome::Unknown(question_failed(&no)),
    }
}

/// Reads a refund and compares what the signature does not tie to our question: numbers and amount.
fn same_refund(refund: &RefundOrder, body: &[u8]) -> RefundQueryOutcome {
    let found: Refund = match parse(body) {
        Ok(found) => found,
        Err(failure) => return RefundQueryOutcome::Unknown(failure),
    };
    let same = found.out_refund_no == refund.refund_no
        && found.out_trade_no == refund.order.order_no
        && found.amount.refund == refund.amount.minor();

    if !same {
        let (number, order, fen) = (found.out_refund_no, found.out_trade_no, found.amount.refund);
        let failure = incompatible(format!("about refund {number:?} of {fen} fen of {order:?}"));
        return RefundQueryOutcome::Unknown(Failure {
            code: OTHER_REFUND.to_owned(),
            ..failure
        });
    }

    refund_state(&found.status)
}

/// `status` of a refund, `refund_status` in a notification.
pub(super) fn refund_state(status: &str) -> RefundQueryOutcome {
    let failure = |kind, message: &str| {
        Failure::new(kind, status, message).because(REASONS.of_refund(status))
    };
    match status {
        "PROCESSING" => RefundQueryOutcome::Accepted,
        "SUCCESS" => RefundQueryOutcome::Done,
        "CLOSED" => RefundQueryOutcome::Rejected(failure(
            FailureKind::Request,
            "closed without moving money",
        )),
        "ABNORMAL" => RefundQueryOutcome::Abnormal(failure(
            FailureKind::Declined,
            "the payer's card cannot take it",
        )),
        other => RefundQueryOutcome::Unknown(incompatible(format!("refund status {other:?}"))),
    }
}

fn question_failed(no: &No) -> Failure {
    match no.code.as_str() {
        _ if no.is_busy() => no.failure(FailureKind::RateLimited),
        "SIGNERROR" | "NOAUTH" | "APPIDMCHIDNOTMATCH" | "MCHNOTEXISTS" | "RULELIMIT"
        | "TRADEERROR" => no.failure(FailureKind::Account),
        "PARAMERROR" | "INVALIDREQUEST" => no.failure(FailureKind::Request),
        _ => no.unlisted(),
    }
}

/// The merchant and app that a transaction names, when they are not ours.
pub(super) fn foreign_account(account: &Account, transaction: &Transaction) -> Option<String> {
    let ours = transaction.mchid == account.mchid && transaction.appid == account.appid;
    (!ours).then(|| format!("{}/{}", transaction.mchid, transaction.appid))
}

/// The money of a paid transaction: `total` is what was taken for the order; `payer_total` is
/// smaller with coupons and never compared with anything.
pub(super) fn capture(account: &Account, transaction: Transaction) -> Result<Capture, Failure> {
    let foreign_account = foreign_account(account, &transaction);
    let transaction_id = transaction.transaction_id.filter(|id| !id.is_empty());
    let amount = transaction
        .amount
        .ok_or_else(|| incompatible("paid, without an amount"))?;
    if let Some(other) = amount.currency.filter(|c| c != "CNY") {
        return Err(incompatible(format!("paid in {other:?}")));
    }

    Ok(Capture {
        transaction_id: transaction_id
            .ok_or_else(|| incompatible("paid, without a transaction_id"))?,
        amount: Money::fen(amount.total).map_err(|e| incompatible(e.to_string()))?,
        payer_amount: amount.payer_total,
        payer: transaction
            .payer
            .and_then(|p| p.openid)
            .filter(|id| !id.is_empty())
            .map(|id| masked(&id)),
        paid_at: transaction
            .success_time
            .and_then(|t| DateTime::parse_from_rfc3339(&t).ok())
            .map(|t| t.to_utc()),
        payment_id: transaction.attach.filter(|a| !a.is_empty()),
        foreign_account,
        returns_by_itself: false,
    })
}

fn masked(openid: &str) -> String {
    let hidden = openid.chars().count().saturating_sub(4);
    format!("****{}", openid.chars().skip(hidden).collect::<String>())
}

mod charge;
pub(super) use charge::{charged, reversed};

#[cfg(test)]
mod tests;
