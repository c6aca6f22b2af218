//! What each answer means for money: one function per call, and nothing about money anywhere else.
//!
//! Codes are from the open platform's reference of each call and its list of gateway errors
//! (`codes.rs`). What is not listed is unknown: a "no" is believed only when it is one that Alipay
//! documents for that call. Nothing here looks at `msg`, whose texts are not stable.

use super::capture;
use super::codes::{Class, REFUSED_REFUNDS, bare, gateway, pay_class, precreate_class};
use super::reasons::REASONS;
use super::wire::{Node, Reply};
use crate::http::SendError;
use crate::money::Money;
use crate::order::RefundOrder;
use crate::outcome::{
    CloseOutcome, CreateOutcome, Failure, FailureKind, NextAction, OTHER_REFUND, QueryOutcome,
    RefundOutcome, RefundQueryOutcome, Refusal,
};

/// What an offer means: `alipay.trade.precreate`. It takes nothing whatever it answers.
pub(super) fn created(reply: Reply, order_no: &str) -> CreateOutcome {
    let no = match Sorted::of(reply).about(order_no) {
        Sorted::NotSent(failure) => return CreateOutcome::NotSent(failure),
        Sorted::Success(node) => {
            return match node.text("qr_code") {
                Some(qr) => CreateOutcome::Accepted(NextAction::DisplayQr { qr: qr.to_owned() }),
                None => CreateOutcome::Unknown(incompatible(
                    "no_qr_code",
                    "accepted, and no code to show",
                )),
            };
        }
        Sorted::Gateway(refusal, failure) => return CreateOutcome::Refused(refusal, failure),
        Sorted::Unknown(failure) => return CreateOutcome::Unknown(failure),
        Sorted::Business(no) => no,
    };

    match precreate_class(&no.code) {
        // No payer is there yet: what sounds like one's "no" is this route's.
        Class::Payer => CreateOutcome::Refused(Refusal::Route, no.failure(FailureKind::Declined)),
        class @ (Class::Unknown
        | Class::Exists
        | Class::Clock
        | Class::Route
        | Class::Account
        | Class::Unlisted) => refused_creation(&no, class),
    }
}

/// What a charge means: `alipay.trade.pay`, which takes the money inside the call.
///
/// 10000 with a time of payment: taken. 10003: the payer is asked for the password, and the trade
/// exists. A listed "no": this call took nothing; what speaks of a trade under our number (paid,
/// closed, of another buyer) means that something happened which we did not see, and only a query
/// says what. The payer's "no" may leave a trade behind that can still be paid, which is why it is
/// followed by a cancel. Everything else, 20000 first of all, may have taken the money.
pub(super) fn charged(reply: Reply, order_no: &str) -> CreateOutcome {
    if let Reply::Signed(node) = &reply
        && node.code() == "10003"
        && node.text("out_trade_no") == Some(order_no)
    {
        return CreateOutcome::Waiting;
    }
    let no = match Sorted::of(reply).about(order_no) {
        Sorted::NotSent(failure) => return CreateOutcome::NotSent(failure),
        Sorted::Success(node) => {
            return capture::from_pay(&node).map_or_else(
                |member| CreateOutcome::Unknown(incompatible("unreadable", member)),
                CreateOutcome::Captured,
            );
        }
        Sorted::Gateway(refusal, failure) => return CreateOutcome::Refused(refusal, failure),
        Sorted::Unknown(failure) => return CreateOutcome::Unknown(failure),
        Sorted::Business(no) => no,
    };

    refused_creation(&no, pay_class(&no.code))
}

fn refused_creation(no: &No, class: Class) -> CreateOutcome {
    match class {
        Class::Unknown => CreateOutcome::Unknown(no.failure(FailureKind::ServerError)),
        // A trade with this number is there in some state, perhaps paid: ask before anything.
        Class::Exists => CreateOutcome::Unknown(no.failure(FailureKind::Request)),
        Class::Payer => CreateOutcome::Declined(no.failure(FailureKind::Declined)),
        Class::Clock => CreateOutcome::Refused(Refusal::Provider, no.failure(FailureKind::Request)),
        Class::Route => CreateOutcome::Refused(Refusal::Route, no.failure(FailureKind::Request)),
        Class::Account => {
            CreateOutcome::Refused(Refusal::Account, no.failure(FailureKind::Account))
        }
        Class::Unlisted => CreateOutcome::Unknown(no.failure(FailureKind::Incompatible)),
    }
}

/// What a query found: `alipay.trade.query`.
pub(super) fn queried(reply: Reply, order_no: &str) -> QueryOutcome {
    let node = match Sorted::of(reply).about(order_no) {
        Sorted::Success(node) => node,
        Sorted::Business(no) if no.code == "TRADE_NOT_EXIST" => return QueryOutcome::NotFound,
        Sorted::Business(no) => {
            let kind = match no.code.as_str() {
                "SYSTEM_ERROR" => FailureKind::ServerError,
                "INVALID_PARAMETER" => FailureKind::Request,
                "ENTERPRISE_PAY_BIZ_ERROR" => FailureKind::Account,
                _ => FailureKind::Incompatible,
            };
            return QueryOutcome::Unknown(no.failure(kind));
        }
        Sorted::NotSent(failure) | Sorted::Gateway(_, failure) | Sorted::Unknown(failure) => {
            return QueryOutcome::Unknown(failure);
        }
    };

    match node.text("trade_status") {
        Some("WAIT_BUYER_PAY") => QueryOutcome::Payable,
        // FINISHED is SUCCESS past its refund window.
        Some("TRADE_SUCCESS" | "TRADE_FINISHED") => capture::from_query(&node).map_or_else(
            |member| QueryOutcome::Unknown(incompatible("unreadable", member)),
            QueryOutcome::Paid,
        ),
        // The same word for "never paid" and "all of it went back": only the time of payment tells
        // them apart.
        Some("TRADE_CLOSED") if node.text("send_pay_date").is_some() => QueryOutcome::Reversed,
        Some("TRADE_CLOSED") => QueryOutcome::Closed,
        Some(_) | None => QueryOutcome::Unknown(incompatible(
            "trade_status",
            "a status that is not documented",
        )),
    }
}

/// What closing means: `alipay.trade.close`. It works on unpaid trades only and never gives money
/// back.
pub(super) fn closed(reply: Reply, order_no: &str) -> CloseOutcome {
    let no = match Sorted::of(reply).about(order_no) {
        Sorted::Success(_) => return CloseOutcome::Closed,
        Sorted::Business(no) => no,
        Sorted::NotSent(failure) => return CloseOutcome::Retry(failure),
        Sorted::Gateway(refusal, failure) => return refused_ending(refusal, failure),
        Sorted::Unknown(failure) => return CloseOutcome::Unknown(failure),
    };

    match no.code.as_str() {
        // Nobody has scanned it. The code may still be: this proves nothing about the future.
        "TRADE_NOT_EXIST" | "INVALID_PARAMETER" => {
            CloseOutcome::Impossible(no.failure(FailureKind::Request))
        }
        // Paid or closed already; the code does not say which.
        "TRADE_STATUS_ERROR" | "REASON_TRADE_STATUS_INVALID" | "REASON_ILLEGAL_STATUS" => {
            CloseOutcome::Unknown(no.failure(FailureKind::Request))
        }
        "SYSTEM_ERROR" => CloseOutcome::Unknown(no.failure(FailureKind::ServerError)),
        _ => CloseOutcome::Unknown(no.failure(FailureKind::Incompatible)),
    }
}

/// What reversing means: `alipay.trade.cancel`. It ends the trade whatever its state and gives
/// money back.
pub(super) fn reversed(reply: Reply, order_no: &str) -> CloseOutcome {
    let no = match Sorted::of(reply).about(order_no) {
        Sorted::Success(node) => return reversal(&node),
        Sorted::Business(no) => no,
        Sorted::NotSent(failure) => return CloseOutcome::Retry(failure),
        Sorted::Gateway(refusal, failure) => return refused_ending(refusal, failure),
        Sorted::Unknown(failure) => return CloseOutcome::Unknown(failure),
    };

    match no.code.as_str() {
        // It is paid, and the merchant's balance is too small to give it back: top up, and cancel
        // or refund then.
        "SELLER_BALANCE_NOT_ENOUGH" => CloseOutcome::AlreadyPaid,
        // Too old, frozen, finished or partly refunded: not cancelled, and a query tells what it
        // is.
        "TRADE_HAS_FINISHED"
        | "TRADE_CANCEL_TIME_OUT"
        | "CANCEL_NOT_ALLOWED"
        | "REASON_TRADE_BEEN_FREEZEN"
        | "REASON_TRADE_REFUND_FEE_ERR"
        | "INVALID_PARAMETER" => CloseOutcome::Impossible(no.failure(FailureKind::Request)),
        "SYSTEM_ERROR" => CloseOutcome::Unknown(no.failure(FailureKind::ServerError)),
        _ => CloseOutcome::Unknown(no.failure(FailureKind::Incompatible)),
    }
}

/// A cancel that was taken up says by `action` what it did, and by `retry_flag` whether it is
/// through.
fn reversal(node: &Node) -> CloseOutcome {
    match (node.text("retry_flag"), node.text("action")) {
        // Not through: it may still be.
        (Some("Y"), _) => CloseOutcome::Unknown(node.failure(FailureKind::ServerError)),
        (Some("N"), Some("close")) => CloseOutcome::Closed,
        (Some("N"), Some("refund")) => CloseOutcome::Reversed,
        // No trade was found, or nothing was done. A payment on its way may still make one: a query
        // decides.
        (Some("N"), None) => CloseOutcome::NotFound,
        (_, _) => CloseOutcome::Unknown(incompatible(
            "action",
            "an action or retry flag that is not documented",
        )),
    }
}

/// A close or cancel that the gateway refused: nothing was ended. Only a full gateway is worth
/// asking again.
fn refused_ending(refusal: Refusal, failure: Failure) -> CloseOutcome {
    match refusal {
        Refusal::Provider => CloseOutcome::Retry(failure),
        Refusal::Account | Refusal::Route | Refusal::Request => CloseOutcome::Unknown(failure),
    }
}

/// What a refund means: `alipay.trade.refund`.
pub(super) fn refunded(reply: Reply, order_no: &str) -> RefundOutcome {
    let no = match Sorted::of(reply).about(order_no) {
        // "Accepted" proves nothing; only `fund_change` says that this call moved the money.
        Sorted::Success(node) if node.text("fund_change") == Some("Y") => {
            return RefundOutcome::Done;
        }
        Sorted::Success(_) => return RefundOutcome::Accepted,
        Sorted::Business(no) => no,
        // The refund itself was not looked at: the same number goes out again once the trouble is
        // over.
        Sorted::NotSent(failure) | Sorted::Gateway(_, failure) => {
            return RefundOutcome::RetryLater(failure);
        }
        Sorted::Unknown(failure) => return RefundOutcome::Unknown(failure),
    };

    match no.code.as_str() {
        "SYSTEM_ERROR" => RefundOutcome::Unknown(no.of_refund(FailureKind::ServerError)),
        "SELLER_BALANCE_NOT_ENOUGH" => {
            RefundOutcome::NeedsFunds(no.of_refund(FailureKind::Account))
        }
        // Another amount went out under this number before: that one decides.
        "DISCORDANT_REPEAT_REQUEST" => RefundOutcome::Unknown(no.of_refund(FailureKind::Request)),
        code if REFUSED_REFUNDS.contains(&code) => {
            RefundOutcome::Rejected(no.of_refund(FailureKind::Request))
        }
        _ => RefundOutcome::Unknown(no.of_refund(FailureKind::Incompatible)),
    }
}

/// What became of a refund: `alipay.trade.fastpay.refund.query`.
pub(super) fn refund_queried(reply: Reply, refund: &RefundOrder) -> RefundQueryOutcome {
    let node = match Sorted::of(reply) {
        Sorted::Success(node) => node,
        Sorted::Business(no) if no.code == "TRADE_NOT_EXIST" => {
            return RefundQueryOutcome::NotFound;
        }
        Sorted::Business(no) => {
            let kind = match no.code.as_str() {
                "SYSTEM_ERROR" => FailureKind::ServerError,
                "INVALID_PARAMETER" => FailureKind::Request,
                "ENTERPRISE_PAY_BIZ_ERROR" => FailureKind::Account,
                _ => FailureKind::Incompatible,
            };
            return RefundQueryOutcome::Unknown(no.failure(kind));
        }
        Sorted::NotSent(failure) | Sorted::Gateway(_, failure) | Sorted::Unknown(failure) => {
            return RefundQueryOutcome::Unknown(failure);
        }
    };
    let ours = node.text("out_trade_no") == Some(refund.order.order_no.as_str())
        && node.text("out_request_no") == Some(refund.refund_no.as_str())
        && node.text("refund_amount").map(Money::from_yuan) == Some(Ok(refund.amount));

    match node.text("refund_status") {
        // Absent (as are most fields, for a number that is not there): not received, not finished,
        // or failed. In each case the same number is sent again.
        None => RefundQueryOutcome::NotFound,
        Some("REFUND_SUCCESS") if ours => RefundQueryOutcome::Done,
        Some("REFUND_SUCCESS") => RefundQueryOutcome::Unknown(incompatible(
            OTHER_REFUND,
            "another number or amount than ours",
        )),
        Some(_) => RefundQueryOutcome::Unknown(incompatible(
            "refund_status",
            "a status that is not documented",
        )),
    }
}

fn incompatible(code: &str, message: &str) -> Failure {
    Failure::new(FailureKind::Incompatible, code, message)
}

/// A verified business "no", by its code without prefixes.
struct No {
    code: String,
    node: Node,
}

impl No {
    fn failure(&self, kind: FailureKind) -> Failure {
        self.node.failure(kind)
    }

    /// As [`Self::failure`], of a refund.
    fn of_refund(&self, kind: FailureKind) -> Failure {
        self.failure(kind).because(REASONS.of_refund(&self.code))
    }
}

/// A reply, sorted by what all calls have in common.
enum Sorted {
    NotSent(Failure),
    /// Verified, code 10000, and about our order.
    Success(Node),
    /// Verified, code 40004: the call's own list decides.
    Business(No),
    /// The gateway refused the request before anything was executed.
    Gateway(Refusal, Failure),
    Unknown(Failure),
}

impl Sorted {
    fn of(reply: Reply) -> Self {
        let (node, signed) = match reply {
            Reply::NoAnswer(SendError::NotSent(failure)) => return Self::NotSent(failure),
            Reply::NoAnswer(SendError::Unknown(failure)) | Reply::Unbelievable(failure) => {
                return Self::Unknown(failure);
            }
            Reply::Signed(node) => (node, true),
            Reply::Unsigned(node) => (node, false),
        };
        let code = bare(node.text("sub_code").unwrap_or_default());

        if let Some(refusal) = gateway(node.code(), &code) {
            let kind = match refusal {
                Refusal::Provider if code == "INVALID-TIMESTAMP" => FailureKind::Request,
                Refusal::Provider => FailureKind::RateLimited,
                Refusal::Account => FailureKind::Account,
                Refusal::Route | Refusal::Request => FailureKind::Request,
            };
            return Self::Gateway(refusal, node.failure(kind));
        }

        if !signed {
            let Failure {
                kind,
                code,
                message,
                ..
            } = node.failure(FailureKind::Incompatible);
            return Self::Unknown(Failure::new(kind, "unsigned", format!("{code}: {message}")));
        }

        match node.code() {
            "10000" if code.is_empty() => Self::Success(node),
            // "Done", and why it is not: two words about one call.
            "10000" => Self::Unknown(node.failure(FailureKind::ServerError)),
            "40004" => Self::Business(No { code, node }),
            "20000" => Self::Unknown(node.failure(FailureKind::ServerError)),
            _ => Self::Unknown(node.failure(FailureKind::Incompatible)),
        }
    }

    /// A signature does not bind an answer to its question, so a success has to name our order.
    fn about(self, order_no: &str) -> Self {
        if let Self::Success(node) = &self
            && node.text("out_trade_no") != Some(order_no)
        {
            return Self::Unknown(incompatible(
                "out_trade_no",
                "the answer does not name our order",
            ));
        }

        if let Self::Business(no) = &self
            && no
                .node
                .text("out_trade_no")
                .is_some_and(|named| named != order_no)
        {
            return Self::Unknown(incompatible(
                "out_trade_no",
                "the answer is about another order",
            ));
        }

        self
    }
}

#[cfg(test)]
#[path = "outcome_tests.rs"]
pub(super) mod tests;
