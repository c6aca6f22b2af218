//! What the two calls of a code payment mean: the charge itself, which takes money inside the call,
//! and its reversal. Codes are those of the older edition of both calls, since the present one
//! documents none.

use http::StatusCode;

use super::{Reply, capture, incompatible, parse};
use crate::order::OrderRef;
use crate::outcome::{CloseOutcome, CreateOutcome, Failure, FailureKind, NOT_GIVEN, Refusal};
use crate::wechatpay::config::Account;
use crate::wechatpay::wire::{ReverseAnswer, Transaction};

/// A charge. 200 and SUCCESS: taken. USERPAYING, with 202 or as a code: the payer is being asked. A
/// listed "no": this call took nothing, and our number was new. What speaks of an order under our
/// number (paid, closed, used), a system or bank error, a timeout and every code that is not listed
/// may have taken the money: `Unknown`.
pub(in crate::wechatpay) fn charged(
    account: &Account,
    order_no: &str,
    reply: Reply,
) -> CreateOutcome {
    let no = match reply {
        Reply::Done(status @ (StatusCode::OK | StatusCode::ACCEPTED), body) => {
            return match parse::<Transaction>(&body) {
                Ok(transaction) => taken(account, order_no, status, transaction),
                Err(failure) => CreateOutcome::Unknown(failure),
            };
        }
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
        return refused;
    }

    match no.code.as_str() {
        "USERPAYING" => CreateOutcome::Waiting,
        // The code is old or wrong, or the payer has no money or a card that does not do.
        "AUTHCODEEXPIRE" | "AUTHCODEERROR" | "AUTHCODEINVALID" | "NOTENOUGH" | "NOTSUPORTCARD" => {
            CreateOutcome::Declined(no.failure(FailureKind::Declined))
        }
        "NOAUTH" | "APPIDNOTEXIST" | "MCHIDNOTEXIST" | "MCHNOTEXISTS" | "APPIDMCHIDNOTMATCH" => {
            CreateOutcome::Refused(Refusal::Account, no.failure(FailureKind::Account))
        }
        // Refused, and nobody says for whose sake; or the form of our request, which is this
        // protocol's.
        "TRADEERROR" | "LACKPARAMS" | "XMLFORMATERROR" | "REQUIREPOSTMETHOD" | "NOTUTF8" => {
            CreateOutcome::Refused(Refusal::Route, no.failure(FailureKind::Request))
        }
        // Something lives, or lived, under our number.
        "ORDERPAID" | "ORDERCLOSED" | "ORDERREVERSED" | "OUTTRADENOUSED" | "BUYERMISMATCH" => {
            CreateOutcome::Unknown(no.failure(FailureKind::Request))
        }
        "SYSTEMERROR" | "BANKERROR" => CreateOutcome::Unknown(no.failure(FailureKind::ServerError)),
        // This account was never given the call. That takes nothing from its codes to be shown, so
        // it is not set aside.
        "RESOURCENOTEXISTS" | "NOTFOUND" if no.status == 404 => {
            let said = no.failure(FailureKind::Account);
            let message = format!("{}: {}", said.code, said.message);
            CreateOutcome::Refused(
                Refusal::Route,
                Failure::new(FailureKind::Account, NOT_GIVEN, message),
            )
        }
        _ => CreateOutcome::Unknown(no.unlisted()),
    }
}

/// Only a 200 with SUCCESS tells of money. A 202 is about a payer who is asked, or about nothing
/// that is certain.
fn taken(
    account: &Account,
    order_no: &str,
    status: StatusCode,
    transaction: Transaction,
) -> CreateOutcome {
    if transaction.out_trade_no != order_no {
        return CreateOutcome::Unknown(incompatible(format!(
            "about order {:?}",
            transaction.out_trade_no
        )));
    }
    match transaction.trade_state.as_str() {
        "SUCCESS" if status == StatusCode::OK => capture(account, transaction)
            .map_or_else(CreateOutcome::Unknown, CreateOutcome::Captured),
        "USERPAYING" => CreateOutcome::Waiting,
        // PAYERROR with them: it failed so far, and is final only once it was reversed.
        other => CreateOutcome::Unknown(incompatible(format!("trade_state {other:?}"))),
    }
}

/// Reversing a charge. 200 is final: unpaid it is dead, paid the money goes back; it does not tell
/// which, and the query after it says REVOKED either way. It burns a number that was never seen as
/// well.
pub(in crate::wechatpay) fn reversed(order: &OrderRef, reply: Reply) -> CloseOutcome {
    let no = match reply {
        Reply::Done(StatusCode::OK, body) => {
            return match parse::<ReverseAnswer>(&body) {
                Ok(answer) if answer.out_trade_no == order.order_no => CloseOutcome::Closed,
                Ok(answer) => CloseOutcome::Unknown(incompatible(format!(
                    "about order {:?}",
                    answer.out_trade_no
                ))),
                Err(failure) => CloseOutcome::Unknown(failure),
            };
        }
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
        // The payer is in the password dialog: the reversal failed.
        "USERPAYING" => CloseOutcome::Retry(no.failure(FailureKind::Declined)),
        "SIGNERROR" | "NOAUTH" => CloseOutcome::Retry(no.failure(FailureKind::Account)),
        // Not executed. Too early is said so too, and then it works later.
        "INVALIDREQUEST" => CloseOutcome::Retry(no.failure(FailureKind::Request)),
        "ORDERNOTEXIST" if no.status == 404 => CloseOutcome::NotFound,
        // Over seven days old: only a refund gives the money back now.
        "REVERSEEXPIRE" | "PARAMERROR" | "INVALIDTRANSACTIONID" | "REQUIREPOSTMETHOD" => {
            CloseOutcome::Impossible(no.failure(FailureKind::Request))
        }
        "APPIDMCHIDNOTMATCH" | "MCHNOTEXISTS" => {
            CloseOutcome::Impossible(no.failure(FailureKind::Account))
        }
        // Its state forbids it (refunded, for one): a query says what it is.
        "TRADEERROR" => CloseOutcome::Unknown(no.failure(FailureKind::Request)),
        "SYSTEMERROR" => CloseOutcome::Unknown(no.failure(FailureKind::ServerError)),
        _ => CloseOutcome::Unknown(no.unlisted()),
    }
}
