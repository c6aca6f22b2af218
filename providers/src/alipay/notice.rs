//! Reads the notifications of trades ("V1" signature rule). Nothing of one is looked at before its signature
//! held, and a notice about a refund is never taken for a payment.

use std::borrow::Cow;

use super::capture;
use super::config::Settings;
use super::sign::notification_string;
use crate::money::Money;
use crate::notification::{Notice, Notification, RawNotification, Rejection, Verified};
use crate::outcome::RefundQueried;

/// The fields of a form, decoded once: a second time would change `%3D` inside a value.
struct Form<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Form<'a> {
    fn read(body: &'a [u8]) -> Self {
        Self(form_urlencoded::parse(body).collect())
    }

    /// A field that is there once and is not empty.
    fn text(&self, name: &str) -> Option<&str> {
        let mut values = self.0.iter().filter(|(n, _)| n == name).map(|(_, value)| value.as_ref());
        values.next().filter(|value| !value.is_empty() && values.next().is_none())
    }

    fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_ref(), value.as_ref()))
    }
}

/// Verifies, then reads.
///
/// # Errors
/// A [`Rejection`] for what is not Alipay's, not ours or not readable.
pub(super) fn read(settings: &Settings, raw: &RawNotification) -> Result<Verified<Notification>, Rejection> {
    let form = Form::read(&raw.body);
    let signature = form.text("sign").ok_or_else(|| Rejection::Unsigned("sign".to_owned()))?;
    // The algorithm is ours to choose, not the sender's: `RSA` would be SHA-1.
    if form.text("sign_type") != Some("RSA2") {
        return Err(Rejection::Unsigned("sign_type is not RSA2".to_owned()));
    }
    settings
        .alipay_key
        .verify(notification_string(form.pairs()).as_bytes(), signature)
        .map_err(|_| Rejection::BadSignature)?;
    for (name, ours) in [("app_id", &settings.app_id), ("seller_id", &settings.seller_id)] {
        let theirs = form.text(name).unwrap_or_default();
        if theirs != ours {
            return Err(Rejection::OtherAccount(format!("{name} {:?}", theirs.chars().take(32).collect::<String>())));
        }
    }
    let required = |name: &str| form.text(name).ok_or_else(|| Rejection::Unreadable(name.to_owned()));
    let notice = notice(&form, required("out_trade_no")?.to_owned(), required("trade_status")?)?;
    Ok(Verified::new(Notification { id: required("notify_id")?.to_owned(), notice }))
}

fn notice(form: &Form<'_>, order_no: String, trade_status: &str) -> Result<Notice, Rejection> {
    // A partial refund repeats TRADE_SUCCESS with the whole amount, a full one says TRADE_CLOSED.
    if speaks_of_a_refund(form) {
        return Ok(match form.text("out_biz_no") {
            // Its amount is the sum of all refunds, so it says that something happened; the query says what.
            Some(refund_no) => {
                Notice::Refund { order_no, refund_no: refund_no.to_owned(), outcome: RefundQueried::Accepted }
            }
            None => Notice::Nothing { order_no },
        });
    }
    match trade_status {
        "TRADE_SUCCESS" | "TRADE_FINISHED" => capture::from_notification(|name| form.text(name))
            .map(|capture| Notice::Paid { order_no, capture })
            .map_err(|field| Rejection::Unreadable(field.to_owned())),
        _ => Ok(Notice::Nothing { order_no }),
    }
}

fn speaks_of_a_refund(form: &Form<'_>) -> bool {
    let nothing_refunded = |fee: &str| Money::from_yuan(fee).is_ok_and(|fee| fee.minor() == 0);
    form.text("gmt_refund").is_some()
        || form.text("out_biz_no").is_some()
        || form.text("refund_fee").is_some_and(|fee| !nothing_refunded(fee))
}
