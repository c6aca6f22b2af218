//! The one place where an answer of UnionPay becomes an outcome: first whether it can be believed
//! and is about our question ([`believed`]), then one function per call, by the words of
//! [`codes`](super::codes). A code that is not certain is never a "no".
//!
//! Two codes stand in the answer to a query: `respCode` says whether the question was answered,
//! `origRespCode` what became of the money. Each has a text whose detail goes before it. Which sort
//! of order it was, `txnSubType` tells: an applied code (07) goes on living after a card that
//! failed, a scan (06) does not.

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use http::StatusCode;

use super::certificate::Distrust;
use super::codes::CodeClass;
use super::config::Account;
use super::reasons::REASONS;
use super::sign::Doubt;
use super::wire::{Fields, beijing, local, parse_answer, read_beijing, read_yearless};
use crate::charset::words;
use crate::http::HttpAnswer;
use crate::money::Money;
use crate::order::{OrderRef, RefundOrder};
use crate::outcome::{
    Capture, CloseOutcome, CreateOutcome, Failure, FailureKind, NUMBER_EXISTS, NextAction,
    QueryOutcome, RefundOutcome, RefundQueryOutcome, Refusal, WRONGLY_SIGNED,
};
use crate::reason::{Reason, Reasons};

/// `txnType` of payments, refunds, undos, questions and reversals.
pub(super) const CONSUME: &str = "01";
pub(super) const REFUND: &str = "04";
pub(super) const UNDO: &str = "31";
pub(super) const QUERY: &str = "00";
pub(super) const REVERSAL: &str = "99";
/// `txnSubType` of codes that we scan and codes that we show.
pub(super) const SCAN: &str = "06";
pub(super) const APPLY: &str = "07";
/// Renminbi.
pub(super) const CNY: &str = "156";

/// The fields of an answer that is UnionPay's and about our request; everything else is a doubt. In
/// this order: status, form, method and version, certificate, signature, echo.
pub(super) fn believed(
    account: &Account,
    asked: &Fields,
    answer: &HttpAnswer,
    now: DateTime<Utc>,
) -> Result<Fields, Failure> {
    if answer.status != StatusCode::OK {
        let kind = if answer.status.is_server_error() {
            FailureKind::ServerError
        } else {
            FailureKind::Incompatible
        };
        let begin: String = String::from_utf8_lossy(&answer.body)
            .chars()
            .take(80)
            .collect();
        return Err(Failure::new(
            kind,
            format!("http_{}", answer.status.as_u16()),
            begin,
        ));
    }

    let fields = parse_answer(&answer.body).map_err(|e| incompatible(e.to_string()))?;
    account.method.check(&fields, now).map_err(|doubt| {
        Failure::new(
            FailureKind::Incompatible,
            code_of(&doubt),
            doubt.to_string(),
        )
    })?;

    for name in ["merId", "orderId", "txnTime"] {
        if fields.get(name) != asked.get(name) {
            return Err(incompatible(format!("another {name} than was asked for")));
        }
    }

    // The answer to a query speaks of the order's type; its own function looks at it.
    let is_query = asked.get("txnType").is_some_and(|t| t == QUERY);
    if !is_query
        && (fields.get("txnType"), fields.get("txnSubType"))
            != (asked.get("txnType"), asked.get("txnSubType"))
    {
        return Err(incompatible("about another type of transaction"));
    }

    Ok(fields)
}

fn code_of(doubt: &Doubt) -> &'static str {
    match doubt {
        Doubt::Certificate(Distrust::Issuer | Distrust::Name) | Doubt::Signature => WRONGLY_SIGNED,
        Doubt::Certificate(Distrust::OutOfDate | Distrust::Unreadable)
        | Doubt::Missing(_)
        | Doubt::Version(_)
        | Doubt::Method(_) => "not_signed",
    }
}

/// An answer that we cannot make sense of.
pub(super) fn incompatible(message: impl Into<String>) -> Failure {
    Failure::new(FailureKind::Incompatible, "unreadable_answer", message)
}

fn text<'a>(fields: &'a Fields, name: &str) -> &'a str {
    fields.get(name).map_or("", String::as_str)
}

/// The two codes of a message, and their texts for people.
fn said(fields: &Fields, code: &str, message: &str, kind: FailureKind) -> Failure {
    let cut = |name, most| {
        words(text(fields, name))
            .chars()
            .take(most)
            .collect::<String>()
    };
    Failure::new(kind, cut(code, 16), cut(message, 200)).because(why(
        fields,
        code,
        message,
        Reasons::of,
    ))
}

fn own(fields: &Fields, kind: FailureKind) -> Failure {
    said(fields, "respCode", "respMsg", kind)
}

fn original(fields: &Fields, kind: FailureKind) -> Failure {
    said(fields, "origRespCode", "origRespMsg", kind)
}

/// Why, by the code, unless the detail beside it leaves everything open.
fn why(
    fields: &Fields,
    code: &str,
    message: &str,
    listed: impl Fn(&Reasons, &str) -> Option<Reason>,
) -> Option<Reason> {
    let code = text(fields, code);
    let is_open = CodeClass::of(code, text(fields, message)) == CodeClass::Open;
    if is_open {
        Some(Reason::OutcomeUnknown)
    } else {
        listed(&REASONS, code)
    }
}

/// What `respCode` says of a refund.
fn own_of_refund(fields: &Fields, kind: FailureKind) -> Failure {
    own(fields, kind).because(why(fields, "respCode", "respMsg", Reasons::of_refund))
}

/// What `origRespCode` says of a refund.
fn original_of_refund(fields: &Fields, kind: FailureKind) -> Failure {
    original(fields, kind).because(why(
        fields,
        "origRespCode",
        "origRespMsg",
        Reasons::of_refund,
    ))
}

/// What kind of trouble a word is when it leaves everything open.
fn kind(word: CodeClass) -> FailureKind {
    match word {
        CodeClass::TooOften => FailureKind::RateLimited,
        CodeClass::Busy | CodeClass::Failed | CodeClass::Closed | CodeClass::Open => {
            FailureKind::ServerError
        }
        CodeClass::Account | CodeClass::Signature => FailureKind::Account,
        CodeClass::Request | CodeClass::Duplicate | CodeClass::Original | CodeClass::GoneBack => {
            FailureKind::Request
        }
        CodeClass::Payer => FailureKind::Declined,
        CodeClass::Yes
        | CodeClass::TooLate
        | CodeClass::Unsettled
        | CodeClass::Accepted
        | CodeClass::Asking
        | CodeClass::NotFound
        | CodeClass::Reversed
        | CodeClass::Unknown => FailureKind::Incompatible,
    }
}

/// Applying for a code. 00 makes an offer and takes nothing. A certain code means that there is
/// none, and another route may be tried at once; what is not certain leaves at most an order whose
/// code nobody holds.
pub(super) fn applied(fields: &Fields) -> CreateOutcome {
    let word = CodeClass::of(text(fields, "respCode"), text(fields, "respMsg"));
    let failure = own(fields, kind(word));

    match word {
        CodeClass::Yes if text(fields, "respCode") == "00" => match text(fields, "qrCode") {
            "" => CreateOutcome::Unknown(incompatible("a success without a qrCode")),
            qr => CreateOutcome::Accepted(NextAction::DisplayQr { qr: qr.to_owned() }),
        },
        CodeClass::Account | CodeClass::Signature => {
            CreateOutcome::Refused(Refusal::Account, failure)
        }
        // No payer is there yet: what the codes of cards say is this route's "no".
        CodeClass::Request | CodeClass::Payer => CreateOutcome::Refused(Refusal::Route, failure),
        CodeClass::Asking if text(fields, "respCode") == "82" => {
            CreateOutcome::Refused(Refusal::Route, own(fields, FailureKind::Declined))
        }
        CodeClass::Closed | CodeClass::Failed | CodeClass::Busy => {
            CreateOutcome::Refused(Refusal::Provider, failure)
        }
        CodeClass::Yes
        | CodeClass::TooLate
        | CodeClass::Unsettled
        | CodeClass::Accepted
        | CodeClass::Asking
        | CodeClass::Duplicate
        | CodeClass::NotFound
        | CodeClass::Original
        | CodeClass::TooOften
        | CodeClass::GoneBack
        | CodeClass::Reversed
        | CodeClass::Open
        | CodeClass::Unknown => CreateOutcome::Unknown(failure),
    }
}

/// Scanning the payer's code. 00 says that it was accepted and nothing about money, so not even a
/// success captures: a query does. 01, 02, 06 and 60 are asked about, as the official demo does.
pub(super) fn scanned(fields: &Fields) -> CreateOutcome {
    let word = CodeClass::of(text(fields, "respCode"), text(fields, "respMsg"));
    // Of a scan, 01 says above all that its code was used before: it is about our request, although
    // it leaves open whether anything was taken.
    let is_used = word == CodeClass::Failed && text(fields, "respCode") == "01";
    let failure = own(
        fields,
        if is_used {
            FailureKind::Request
        } else {
            kind(word)
        },
    );

    match word {
        CodeClass::Yes
        | CodeClass::TooLate
        | CodeClass::Unsettled
        | CodeClass::Accepted
        | CodeClass::Asking => CreateOutcome::Waiting,
        CodeClass::Payer => CreateOutcome::Declined(failure),
        CodeClass::Account | CodeClass::Signature => {
            CreateOutcome::Refused(Refusal::Account, failure)
        }
        CodeClass::Request => CreateOutcome::Refused(Refusal::Route, failure),
        CodeClass::Closed => CreateOutcome::Refused(Refusal::Provider, failure),
        CodeClass::Failed
        | CodeClass::Busy
        | CodeClass::Duplicate
        | CodeClass::NotFound
        | CodeClass::Original
        | CodeClass::TooOften
        | CodeClass::GoneBack
        | CodeClass::Reversed
        | CodeClass::Open
        | CodeClass::Unknown => CreateOutcome::Unknown(failure),
    }
}

/// Clocks differ, and a payer may be in the last dialog when the deadline passes.
const AFTER_DEADLINE: TimeDelta = TimeDelta::minutes(2);

/// Querying an order. 34 says that nothing is known at this moment, which proves nothing about an
/// offer.
pub(super) fn queried(order: &OrderRef, fields: &Fields, now: DateTime<Utc>) -> QueryOutcome {
    match answered(fields, CONSUME) {
        Found::Original(word) => order_state(order, word, fields, now),
        Found::Nothing => QueryOutcome::NotFound,
        Found::NoAnswer(failure) => QueryOutcome::Unknown(failure),
    }
}

/// What a query brought.
enum Found {
    /// The state of what was asked about.
    Original(CodeClass),
    Nothing,
    NoAnswer(Failure),
}

/// `respCode` first: without a 00 there, nothing is said about money.
fn answered(fields: &Fields, txn_type: &str) -> Found {
    let word = CodeClass::of(text(fields, "respCode"), text(fields, "respMsg"));
    match (word, text(fields, "txnType"), text(fields, "origRespCode")) {
        (CodeClass::NotFound, QUERY, "") => Found::Nothing,
        (CodeClass::NotFound, ..) => Found::NoAnswer(incompatible("not found, and yet described")),
        (CodeClass::Yes, found, code)
            if text(fields, "respCode") == "00" && found == txn_type && !code.is_empty() =>
        {
            Found::Original(CodeClass::of(code, text(fields, "origRespMsg")))
        }
        (CodeClass::Yes, ..) => Found::NoAnswer(incompatible("an answer about something else")),
        _ => Found::NoAnswer(own(fields, kind(word))),
    }
}

/// A code that was applied for can be paid until its deadline, and another card may do what one did
/// not: only what is said after it is final. Accepted (05) and "not open" never are: something may
/// still be running.
fn order_state(
    order: &OrderRef,
    word: CodeClass,
    fields: &Fields,
    now: DateTime<Utc>,
) -> QueryOutcome {
    let failure = original(fields, kind(word));
    let is_scan = match text(fields, "txnSubType") {
        SCAN => true,
        APPLY => false,
        other => {
            return QueryOutcome::Unknown(incompatible(format!("an order of type 01/{other:?}")));
        }
    };

    let is_over = now >= order.expires_at + AFTER_DEADLINE;
    let paid = |returns| {
        capture(order, fields, returns).map_or_else(QueryOutcome::Unknown, QueryOutcome::Paid)
    };

    match (word, is_scan) {
        // What was taken after the deadline goes back by itself, whichever code tells of it.
        (CodeClass::Yes | CodeClass::Unsettled, false) => {
            paid(paid_at(order, fields).is_some_and(|at| at > order.expires_at))
        }
        (CodeClass::Yes | CodeClass::Unsettled, true) => paid(false),
        (CodeClass::TooLate, _) => paid(true),
        (CodeClass::Reversed, true) => QueryOutcome::Reversed,
        (CodeClass::Accepted | CodeClass::Asking, true) => QueryOutcome::Payable,
        // A card that failed ends a scan.
        (CodeClass::Payer | CodeClass::Account | CodeClass::Request | CodeClass::Closed, true) => {
            QueryOutcome::Closed
        }
        (
            CodeClass::Payer
            | CodeClass::Account
            | CodeClass::Request
            | CodeClass::Closed
            | CodeClass::Failed
            | CodeClass::Reversed
            | CodeClass::Accepted,
            false,
        ) if !is_over => QueryOutcome::Payable,
        (
            CodeClass::Payer
            | CodeClass::Account
            | CodeClass::Request
            | CodeClass::Closed
            | CodeClass::Failed
            | CodeClass::Reversed,
            false,
        ) if text(fields, "origRespCode") != "02" => QueryOutcome::Closed,
        (
            CodeClass::Payer
            | CodeClass::Account
            | CodeClass::Request
            | CodeClass::Closed
            | CodeClass::Failed
            | CodeClass::Reversed
            | CodeClass::Accepted
            | CodeClass::Asking
            | CodeClass::Signature
            | CodeClass::Busy
            | CodeClass::Duplicate
            | CodeClass::NotFound
            | CodeClass::Original
            | CodeClass::TooOften
            | CodeClass::GoneBack
            | CodeClass::Open
            | CodeClass::Unknown,
            _,
        ) => QueryOutcome::Unknown(failure),
    }
}

/// Amounts are digits without a leading zero or a point, in fen of Renminbi. That no currency is
/// named is no disagreement: answers about what is still being worked on name none.
fn fen(fields: &Fields) -> Result<Money, Failure> {
    let (amount, currency) = (text(fields, "txnAmt"), text(fields, "currencyCode"));
    if !matches!(currency, "" | CNY) {
        return Err(incompatible(format!("an amount in {currency:?}")));
    }
    let digits =
        !amount.is_empty() && amount.len() <= 12 && amount.bytes().all(|b| b.is_ascii_digit());
    let fen = amount
        .parse()
        .ok()
        .filter(|_| digits)
        .and_then(|fen| Money::fen(fen).ok());
    fen.ok_or_else(|| incompatible(format!("an amount of {amount:?}")))
}

/// The money of a paid order. Merchant, number and time were compared with the question; amount and
/// payment are compared by whoever books it.
fn capture(order: &OrderRef, fields: &Fields, returns_by_itself: bool) -> Result<Capture, Failure> {
    let transaction_id = text(fields, "queryId");
    if transaction_id.is_empty() {
        return Err(incompatible("paid, without a queryId"));
    }
    let some = |name| fields.get(name).filter(|value| !value.is_empty());

    Ok(Capture {
        transaction_id: transaction_id.to_owned(),
        amount: fen(fields)?,
        // `settleAmt` is what is settled, which coupons do not make smaller: nothing tells of the
        // payer's own pocket.
        payer_amount: None,
        payer: some("accNo").and_then(|number| masked(number)),
        paid_at: paid_at(order, fields),
        payment_id: some("reqReserved").cloned(),
        foreign_account: None,
        returns_by_itself,
    })
}

fn paid_at(order: &OrderRef, fields: &Fields) -> Option<DateTime<Utc>> {
    fields
        .get("traceTime")
        .and_then(|time| read_yearless(time, order.txn_time))
}

/// A masked card number, shortened; an encrypted one is of no use to anybody.
fn masked(number: &str) -> Option<String> {
    let shown = number.len() <= 24 && number.contains('*') && number.is_ascii();
    shown.then(|| {
        format!(
            "****{}",
            number
                .get(number.len().saturating_sub(4)..)
                .unwrap_or_default()
        )
    })
}

/// Reversing a scan. Whether 00 is final is not documented, so a query after it decides (34 for
/// good, or reversed); it is the same for an order that was paid and one that was not.
pub(super) fn reversed(fields: &Fields) -> CloseOutcome {
    let word = CodeClass::of(text(fields, "respCode"), text(fields, "respMsg"));
    let failure = own(fields, kind(word));

    match word {
        CodeClass::Yes | CodeClass::Reversed => CloseOutcome::Reversed,
        CodeClass::NotFound => CloseOutcome::NotFound,
        // Not done, and it may be once the load, the hour or the key has changed.
        CodeClass::Busy | CodeClass::Closed | CodeClass::TooOften | CodeClass::Signature => {
            CloseOutcome::Retry(failure)
        }
        // Not done: another day's order, one that is no scan, a contract without reversals; or the
        // word that the charge itself ended with. A query after it says which.
        CodeClass::Original | CodeClass::Request | CodeClass::Account | CodeClass::Payer => {
            CloseOutcome::Impossible(failure)
        }
        // Accepted is not carried out yet.
        CodeClass::Accepted
        | CodeClass::TooLate
        | CodeClass::Unsettled
        | CodeClass::Asking
        | CodeClass::Failed
        | CodeClass::Duplicate
        | CodeClass::GoneBack
        | CodeClass::Open
        | CodeClass::Unknown => CloseOutcome::Unknown(failure),
    }
}

/// How money goes back: undone while the clearing day of its order lasts (to 23:00 in Beijing), if
/// it is the whole and nothing was refused before; refunded otherwise. What a number was first sent
/// with decides, so that repeating it and asking about it mean the same thing at any later hour.
pub(super) fn way_back(refund: &RefundOrder) -> &'static str {
    let is_whole = refund.amount == refund.total;
    let same_day = clearing_day(refund.order.txn_time) == clearing_day(refund.txn_time);
    if is_whole && same_day && !refund.renumbered {
        UNDO
    } else {
        REFUND
    }
}

/// A day of UnionPay's ends at 23:00 in Beijing.
pub(super) fn clearing_day(time: DateTime<Utc>) -> NaiveDate {
    local(time + TimeDelta::hours(1)).date()
}

/// Asking for an undo, as for a refund; but what cannot be undone may still be refunded: another
/// number does that.
pub(super) fn undone(fields: &Fields) -> RefundOutcome {
    match refunded(fields) {
        RefundOutcome::Rejected(failure) => RefundOutcome::RetryWithNewNumber(failure),
        other @ (RefundOutcome::Accepted
        | RefundOutcome::Done
        | RefundOutcome::RetryWithNewNumber(_)
        | RefundOutcome::Abnormal(_)
        | RefundOutcome::NeedsFunds(_)
        | RefundOutcome::RetryLater(_)
        | RefundOutcome::Unknown(_)) => other,
    }
}

/// Asking for a refund. 00 says that it was accepted. 12 says that this number was used before: by
/// this very refund, most likely, but its amount is not told, so it takes a query to know.
pub(super) fn refunded(fields: &Fields) -> RefundOutcome {
    let word = CodeClass::of(text(fields, "respCode"), text(fields, "respMsg"));
    let failure = own_of_refund(fields, kind(word));

    match word {
        CodeClass::Yes | CodeClass::Accepted => RefundOutcome::Accepted,
        // Nothing was done, and the same number may be sent again once the contract, the key or the
        // hour allows.
        CodeClass::Account | CodeClass::Signature | CodeClass::Closed => {
            RefundOutcome::RetryLater(failure)
        }
        CodeClass::Original | CodeClass::GoneBack | CodeClass::Request | CodeClass::Payer => {
            RefundOutcome::Rejected(failure)
        }
        CodeClass::TooLate
        | CodeClass::Unsettled
        | CodeClass::Asking
        | CodeClass::Failed
        | CodeClass::Busy
        | CodeClass::NotFound
        | CodeClass::TooOften
        | CodeClass::Reversed
        | CodeClass::Open
        | CodeClass::Unknown => RefundOutcome::Unknown(failure),
        CodeClass::Duplicate => RefundOutcome::Unknown(Failure {
            code: NUMBER_EXISTS.to_owned(),
            ..failure
        }),
    }
}

/// Querying a refund by its own number and time. The payment's own query never tells of it.
pub(super) fn refund_queried(refund: &RefundOrder, fields: &Fields) -> RefundQueryOutcome {
    let word = match answered(fields, way_back(refund)) {
        Found::Original(word) => word,
        Found::Nothing => return RefundQueryOutcome::NotFound,
        Found::NoAnswer(failure) => return RefundQueryOutcome::Unknown(failure),
    };

    if let Some(failure) = another_refund(refund, fields) {
        return RefundQueryOutcome::Unknown(failure);
    }
    let failure = original_of_refund(fields, kind(word));

    match word {
        CodeClass::Yes => RefundQueryOutcome::Done,
        CodeClass::Accepted => RefundQueryOutcome::Accepted,
        CodeClass::Payer
        | CodeClass::Account
        | CodeClass::Request
        | CodeClass::Closed
        | CodeClass::Original
        | CodeClass::GoneBack => RefundQueryOutcome::Rejected(failure),
        CodeClass::TooLate
        | CodeClass::Unsettled
        | CodeClass::Asking
        | CodeClass::Signature
        | CodeClass::Failed
        | CodeClass::Busy
        | CodeClass::Duplicate
        | CodeClass::NotFound
        | CodeClass::TooOften
        | CodeClass::Reversed
        | CodeClass::Open
        | CodeClass::Unknown => RefundQueryOutcome::Unknown(failure),
    }
}

/// Under our number there may be a refund of another amount, or of another order.
fn another_refund(refund: &RefundOrder, fields: &Fields) -> Option<Failure> {
    match fen(fields) {
        Err(failure) => return Some(failure),
        Ok(amount) if amount != refund.amount => {
            return Some(incompatible(format!("a refund of {amount}")));
        }
        Ok(_) => {}
    }
    let (number, time) = (text(fields, "origOrderId"), text(fields, "origTxnTime"));
    let same = (number.is_empty() || number == refund.order.order_no)
        && (time.is_empty()
            || read_beijing(time).map(beijing) == Some(beijing(refund.order.txn_time)));
    (!same).then(|| incompatible("a refund of another order"))
}

#[cfg(test)]
mod tests;
