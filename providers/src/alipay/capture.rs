//! Reads proof of a payment out of a verified answer or notification; both say the same with other
//! names. It never sees anything unverified, and lets no payer's account through unmasked.

use percent_encoding::percent_decode_str;

use super::wire::{Node, from_beijing_time};
use crate::money::Money;
use crate::outcome::Capture;

/// From the answer to a query that found a paid trade.
///
/// # Errors
/// The member that is missing or unreadable.
pub(super) fn from_query(node: &Node) -> Result<Capture, &'static str> {
    read(|name| node.text(name), "send_pay_date", "buyer_user_id")
}

/// From the answer to a payment that was taken inside the call. An answer without a time of payment
/// proves none: the one to a payer who is still being asked looks the same but for that.
///
/// # Errors
/// The member that is missing or unreadable.
pub(super) fn from_pay(node: &Node) -> Result<Capture, &'static str> {
    let capture = read(|name| node.text(name), "gmt_payment", "buyer_user_id")?;
    if capture.paid_at.is_some() {
        Ok(capture)
    } else {
        Err("gmt_payment")
    }
}

/// From the fields of a notification of a paid trade.
///
/// # Errors
/// The field that is missing or unreadable.
pub(super) fn from_notification<'a>(
    field: impl Fn(&str) -> Option<&'a str>,
) -> Result<Capture, &'static str> {
    read(field, "gmt_payment", "buyer_id")
}

fn read<'a>(
    text: impl Fn(&str) -> Option<&'a str>,
    paid_at: &str,
    buyer_id: &str,
) -> Result<Capture, &'static str> {
    Ok(Capture {
        transaction_id: text("trade_no").ok_or("trade_no")?.to_owned(),
        amount: text("total_amount")
            .and_then(|yuan| Money::from_yuan(yuan).ok())
            .ok_or("total_amount")?,
        payer_amount: text("buyer_pay_amount")
            .and_then(|yuan| Money::from_yuan(yuan).ok())
            .map(Money::minor),
        payer: text("buyer_logon_id")
            .or_else(|| text(buyer_id))
            .map(masked),
        paid_at: text(paid_at).and_then(from_beijing_time),
        payment_id: text("passback_params")
            .map(|sent| percent_decode_str(sent).decode_utf8_lossy().into_owned()),
        foreign_account: None,
        returns_by_itself: false,
    })
}

/// Alipay masks logon ids itself (`138****0000`); user ids and whatever came unmasked keep both
/// ends.
fn masked(id: &str) -> String {
    if id.contains('*') {
        return id.to_owned();
    }
    let ends = |id: &str| {
        let start: String = id.chars().take(3).collect();
        let end: Vec<char> = id.chars().rev().take(4).collect();
        (start, end.into_iter().rev().collect::<String>())
    };
    match ends(id) {
        (start, end) if id.chars().count() > 8 => format!("{start}****{end}"),
        (_, _) => "****".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_named_in_full() {
        for (id, shown) in [
            ("138****0000", "138****0000"),
            ("2088000000000002", "208****0002"),
            ("13800001234", "138****1234"),
            ("12345678", "****"),
            ("", "****"),
        ] {
            assert_eq!(masked(id), shown, "{id}");
        }
    }

    #[test]
    fn proof_needs_a_number_and_an_amount() {
        let fields = |missing: &'static str| {
            move |name: &str| match name {
                name if name == missing => None,
                "trade_no" => Some("2026010122001400000000000001"),
                "total_amount" => Some("88.8"),
                "buyer_pay_amount" => Some("80.00"),
                "gmt_payment" => Some("2026-01-01 08:00:05"),
                "passback_params" => Some("pay_a%2Fb"),
                "buyer_id" => Some("2088000000000002"),
                _ => None,
            }
        };
        let capture = from_notification(fields("")).unwrap();

        assert_eq!(
            (capture.amount.minor(), capture.payer_amount),
            (8880, Some(8000))
        );
        assert_eq!(capture.payment_id.as_deref(), Some("pay_a/b"));
        assert_eq!(capture.payer.as_deref(), Some("208****0002"));
        assert_eq!(
            capture.paid_at.unwrap().to_rfc3339(),
            "2026-01-01T00:00:05+00:00"
        );
        assert_eq!(from_notification(fields("trade_no")), Err("trade_no"));

        assert_eq!(
            from_notification(fields("total_amount")),
            Err("total_amount")
        );
    }
}
