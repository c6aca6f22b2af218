//! Notifications. They are believed as answers are, and even then only make the query due: the
//! documents say that money is booked by what a query says. Nothing is read from one whose
//! signature does not hold.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use http::StatusCode;

use super::codes::CodeClass;
use super::config::Account;
use super::outcome::{CONSUME, REFUND, UNDO};
use super::sign::{Doubt, signed_text};
use super::wire::{Fields, parse_answer, parse_form};
use crate::charset::bytes;
use crate::notification::{
    Acknowledgement, AcknowledgementBody, Notice, Notification, RawNotification, Rejection,
    Verified,
};
use crate::signing::sha256_hex;

pub(super) fn read(
    account: &Account,
    raw: &RawNotification,
    now: DateTime<Utc>,
) -> Result<Verified<Notification>, Rejection> {
    let fields = parse_form(&raw.body).map_err(|e| Rejection::Unsigned(e.to_string()))?;
    if !is_read_in_one_way(&fields) {
        return Err(Rejection::Unsigned(
            "fields that can be read in two ways".to_owned(),
        ));
    }

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
    let message = text("respMsg").unwrap_or_default();
    let says_done =
        text("respCode").is_some_and(|code| CodeClass::of(&code, &message) == CodeClass::Yes);
    let notice = match text("txnType").ok_or_else(|| missing("txnType"))?.as_str() {
        CONSUME => Notice::Ask {
            order_no: number,
            refund_no: None,
            says_done,
            amount: None,
        },
        // Its own number is the refund's; the order's is another field, which our requests make it
        // return.
        REFUND | UNDO => Notice::Ask {
            order_no: text("origOrderId").ok_or_else(|| missing("origOrderId"))?,
            refund_no: Some(number),
            says_done,
            amount: None,
        },
        _ => Notice::Nothing { order_no: number },
    };

    Ok(Verified::new(Notification {
        id: id(&fields),
        notice,
    }))
}

/// Whether the text that is signed says these fields and no other ones. It is a plain text, so `a`
/// = `1&b=2` has the signature of `a` = `1`, `b` = `2`: who repeats a genuine notification could
/// have one field swallow another.
fn is_read_in_one_way(fields: &Fields) -> bool {
    let signed = |fields: &Fields| -> BTreeMap<Vec<u8>, Vec<u8>> {
        let signed = fields
            .iter()
            .filter(|(name, value)| *name != "signature" && !value.is_empty());
        signed
            .map(|(name, value)| (bytes(name).into_owned(), bytes(value).into_owned()))
            .collect()
    };
    parse_answer(&bytes(&signed_text(fields))).is_ok_and(|read| signed(&read) == signed(fields))
}

/// UnionPay numbers notifications only by what they are about. The hash of all that is signed is
/// the same when one is sent again, and differs when it says something else.
fn id(fields: &Fields) -> String {
    sha256_hex(bytes(&signed_text(fields)))
}

fn rejection(doubt: Doubt) -> Rejection {
    match doubt {
        Doubt::Missing(name) => Rejection::Unsigned(format!("no {name}")),
        Doubt::Version(_) | Doubt::Method(_) | Doubt::Certificate(_) => {
            Rejection::UnknownKey(doubt.to_string())
        }
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
    AcknowledgementBody {
        status,
        content_type: "text/plain; charset=utf-8",
        body,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_whose_signature_could_be_one_over_other_fields_is_not_believed() {
        let read = |body: &str| is_read_in_one_way(&parse_form(body.as_bytes()).unwrap());
        for body in ["orderId=1%26payType=2&txnType=01", "a%3D1=2"] {
            assert!(!read(body), "{body}");
        }
        for body in [
            "a=1&b=",
            "a=1%3D2",
            "reqReserved=%7Ba%3D1%26b%3D%5B2%263%5D%7D&txnType=01",
            "a=1&signature=x%26y%3Dz",
        ] {
            assert!(read(body), "{body}");
        }
    }
}
