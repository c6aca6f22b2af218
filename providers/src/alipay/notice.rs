//! Reads the notifications of trades ("V1" signature rule). Nothing of one is looked at before its
//! signature held, and a notice about a refund is never taken for a payment.

use super::capture;
use super::config::Settings;
use super::sign::notification_string;
use crate::charset;
use crate::money::Money;
use crate::notification::{Notice, Notification, RawNotification, Rejection, Verified};
use crate::outcome::RefundQueryOutcome;

/// The fields of a form, percent-decoded once: a second time would change `%3D` inside a value.
struct Form(Vec<(String, String)>);

impl Form {
    /// `None` when its signature could be one over other fields. What is signed is a plain text, so
    /// `a` = `1&b=2` has the signature of `a` = `1`, `b` = `2`, and an empty value has none at all:
    /// who repeats a genuine notification could hide in this way that it speaks of a refund.
    fn read(body: &[u8]) -> Option<Self> {
        let form = Self(charset::form(body, "charset"));
        let mut names: Vec<_> = form.pairs().map(|(name, _)| name).collect();
        names.sort_unstable();
        let distinct = names.windows(2).all(|pair| pair.first() != pair.last());
        let plain = form.pairs().all(|(name, value)| {
            name.is_ascii() && !name.contains(['&', '=']) && !holds_a_field(&charset::bytes(value))
        });
        (distinct && plain).then_some(form)
    }

    /// In characters, once the signature over the bytes has held.
    fn decoded(self) -> Self {
        Self(
            self.0
                .into_iter()
                .map(|(name, value)| (name, charset::words(&value).into_owned()))
                .collect(),
        )
    }

    /// A field that is not empty.
    fn text(&self, name: &str) -> Option<&str> {
        self.pairs()
            .find(|(n, _)| *n == name)
            .map(|(_, value)| value)
            .filter(|value| !value.is_empty())
    }

    fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

/// Whether a value holds what could be a field of its own. An `&` by itself may stand in the name
/// of a coupon.
fn holds_a_field(value: &[u8]) -> bool {
    let is_name = |name: &[u8]| {
        !name.is_empty() && name.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'_')
    };
    let pieces = value.split(|byte| *byte == b'&').skip(1);
    pieces.filter(|piece| piece.contains(&b'=')).any(|piece| {
        piece
            .split(|byte| *byte == b'=')
            .next()
            .is_some_and(is_name)
    })
}

/// Verifies, then reads.
///
/// # Errors
/// A [`Rejection`] for what is not Alipay's, not ours or not readable.
pub(super) fn read(
    settings: &Settings,
    raw: &RawNotification,
) -> Result<Verified<Notification>, Rejection> {
    let form = Form::read(&raw.body)
        .ok_or_else(|| Rejection::Unsigned("fields that can be read in two ways".to_owned()))?;
    let signature = form
        .text("sign")
        .ok_or_else(|| Rejection::Unsigned("sign".to_owned()))?;

    // The algorithm is ours to choose, not the sender's: `RSA` would be SHA-1.
    if form.text("sign_type") != Some("RSA2") {
        return Err(Rejection::Unsigned("sign_type is not RSA2".to_owned()));
    }
    settings
        .alipay_key
        .verify(
            &charset::bytes(&notification_string(form.pairs())),
            signature,
        )
        .map_err(|_| Rejection::BadSignature)?;

    let form = form.decoded();
    // The seller may be left out, the application never is.
    let seller = form.text("seller_id");
    let named = [(
        "app_id",
        form.text("app_id").unwrap_or_default(),
        &settings.app_id,
    )];

    for (name, theirs, ours) in named
        .into_iter()
        .chain(seller.map(|id| ("seller_id", id, &settings.seller_id)))
    {
        if theirs != ours {
            return Err(Rejection::OtherAccount(format!(
                "{name} {:?}",
                theirs.chars().take(32).collect::<String>()
            )));
        }
    }

    let required = |name: &str| {
        form.text(name)
            .ok_or_else(|| Rejection::Unreadable(name.to_owned()))
    };
    let notice = match notice(
        &form,
        required("out_trade_no")?.to_owned(),
        required("trade_status")?,
    )? {
        // Whose money it is was not said: a question is answered by our own account's key.
        Notice::Paid { order_no, .. } if seller.is_none() => Notice::Ask {
            order_no,
            refund_no: None,
            says_done: true,
            amount: None,
        },
        told @ (Notice::Paid { .. }
        | Notice::Refund { .. }
        | Notice::Refunded { .. }
        | Notice::Ask { .. }
        | Notice::Nothing { .. }) => told,
    };

    Ok(Verified::new(Notification {
        id: required("notify_id")?.to_owned(),
        notice,
    }))
}

fn notice(form: &Form, order_no: String, trade_status: &str) -> Result<Notice, Rejection> {
    // A partial refund repeats TRADE_SUCCESS with the whole amount, a full one says TRADE_CLOSED.
    if speaks_of_a_refund(form) {
        return Ok(match form.text("out_biz_no") {
            // Its amount is the sum of all refunds, so it says that something happened; the query
            // says what.
            Some(refund_no) => Notice::Refund {
                order_no,
                refund_no: refund_no.to_owned(),
                outcome: RefundQueryOutcome::Accepted,
                amount: None,
                total: refunded(form),
            },
            None => Notice::Refunded {
                order_no,
                total: refunded(form),
            },
        });
    }

    match trade_status {
        "TRADE_SUCCESS" | "TRADE_FINISHED" => capture::from_notification(|name| form.text(name))
            .map(|capture| Notice::Paid { order_no, capture })
            .map_err(|field| Rejection::Unreadable(field.to_owned())),
        _ => Ok(Notice::Nothing { order_no }),
    }
}

/// What all refunds of the order have given back together.
fn refunded(form: &Form) -> Option<Money> {
    form.text("refund_fee")
        .and_then(|fee| Money::from_yuan(fee).ok())
}

fn speaks_of_a_refund(form: &Form) -> bool {
    let nothing_refunded = |fee: &str| Money::from_yuan(fee).is_ok_and(|fee| fee.minor() == 0);
    form.text("gmt_refund").is_some()
        || form.text("out_biz_no").is_some()
        || form
            .text("refund_fee")
            .is_some_and(|fee| !nothing_refunded(fee))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_whose_signature_could_be_one_over_other_fields_is_not_read() {
        for body in [
            "subject=%E8%8C%B61%26total_amount%3D0.01&%80=",
            "subject=%E8%8C%B61%26a%3D1&b=%80",
            "%80=1",
            "a=1&a=2",
            "gmt_refund=2026&gmt_refund=",
            "gmt_payment=2026%26gmt_refund%3D2026",
            "a%3D1=2",
            "a%26b=1",
        ] {
            assert!(Form::read(body.as_bytes()).is_none(), "{body}");
        }

        for body in [
            "",
            "a=1&b=",
            "coupon=Tea+%26+cake",
            "coupon=1%3D1+%26",
            "passback_params=a%253D1%2526b%253D2",
        ] {
            assert!(Form::read(body.as_bytes()).is_some(), "{body}");
        }
    }
}
