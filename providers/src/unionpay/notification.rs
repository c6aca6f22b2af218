//! Notifications. They are believed as answers are, and even then only make the query due: the documents say that
//! money is booked by what a query says. Nothing is read from one whose signature does not hold.

use chrono::{DateTime, Utc};
use http::StatusCode;

use super::config::Account;
use super::outcome::{CONSUME, REFUND, UNDO};
use super::sign::{Doubt, sha256_hex, signed_text};
use super::wire::{Fields, parse_form};
use crate::notification::{
    Acknowledgement, AcknowledgementBody, Notice, Notification, RawNotification, Rejection, Verified,
};

pub(super) fn read(
    account: &Account,
    raw: &RawNotification,
    now: DateTime<Utc>,
) -> Result<Verified<Notification>, Rejection> {
    let fields = parse_form(&raw.body).map_err(|e| Rejection::Unsigned(e.to_string()))?;
    account.method.check(&fields, now).map_err(rejection)?;
    let text = |name: &str| fields.get(name).filter(|value| !value.is_empty()).cloned();
    match text("merId") {
        Some(merchant) if merchant == account.mer_id => {}
        merchant => {
            let other: String = merchant.unwrap_or_default().chars().take(32).collect();
            return Err(Rejection::OtherAccount(format!("merId {other:?}")));
        }
    }
    let missing = |name: &str| Rejection::Unreadable(format!("no {name}"));
    let number = text("orderId").ok_or_else(|| missing("orderId"))?;
    let notice = match text("txnType").ok_or_else(|| missing("txnType"))?.as_str() {
        CONSUME => Notice::Ask { order_no: number, refund_no: None },
        // Its own number is the refund's; the order's is another field, which our requests make it return.
        REFUND | UNDO => Notice::Ask {
            order_no: text("origOrderId").ok_or_else(|| missing("origOrderId"))?,
            refund_no: Some(number),
        },
        _ => Notice::Nothing { order_no: number },
    };
    Ok(Verified::new(Notification { id: id(&fields), notice }))
}

/// UnionPay numbers notifications only by what they are about. The hash of all that is signed is the same when one
/// is sent again, and differs when it says something else.
fn id(fields: &Fields) -> String {
    sha256_hex(&signed_text(fields))
}

fn rejection(doubt: Doubt) -> Rejection {
    match doubt {
        Doubt::Missing(name) => Rejection::Unsigned(format!("no {name}")),
        Doubt::Version(_) | Doubt::Method(_) | Doubt::Certificate(_) => Rejection::UnknownKey(doubt.to_string()),
        Doubt::Signature => Rejection::BadSignature,
    }
}

/// 200 within 10 s ends it; anything else is sent again, five times in all.
pub(super) fn acknowledge(what: Acknowledgement) -> AcknowledgementBody {
    let (status, body) = match what {
        Acknowledgement::Stop => (StatusCode::OK, "ok"),
        Acknowledgement::SendAgain => (StatusCode::INTERNAL_SERVER_ERROR, "not stored, send again"),
        Acknowledgement::Refuse => (StatusCode::FORBIDDEN, "refused"),
    };
    AcknowledgementBody { status, content_type: "text/plain; charset=utf-8", body }
}
