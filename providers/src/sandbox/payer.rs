//! The payer: opens what was shown and pays, or cannot. Only the book decides whether money moves.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};

use super::book::{NewRefund, Order, OrderKey, Refusal, SharedBook};
use super::simulator::Simulator;

/// What the payer holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holding {
    /// The text of a code that was shown.
    Code(String),
    /// An order's number, to spare tests the code: pays with the code shown last.
    OrderNo(String),
}

/// What comes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wish {
    /// The payer pays.
    Paid,
    /// The payer opens the order and cannot pay.
    Declined,
    /// The payer pays when the order's time is over, and the provider lets it happen.
    Late,
}

/// How a payer whose code was scanned takes it: the last digit of the code says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PayerBehaviour {
    /// Pays inside the call.
    Pays,
    /// Has to confirm on the phone first: waits for [`act`].
    MustConfirm,
    /// Has no money.
    HasNoMoney,
    /// Shows a code that is too old.
    CodeExpired,
}

impl PayerBehaviour {
    /// The mood behind a code.
    #[must_use]
    pub fn of(auth_code: &str) -> Self {
        match auth_code.as_bytes().last() {
            Some(b'7') => Self::MustConfirm,
            Some(b'8') => Self::HasNoMoney,
            Some(b'9') => Self::CodeExpired,
            _ => Self::Pays,
        }
    }
}

/// Acts. Returns the order as it is then.
///
/// # Errors
/// Why the book refuses; nothing was changed.
pub(super) fn act<'a>(
    book: &SharedBook,
    face_of: impl Fn(&OrderKey) -> Option<&'a Arc<dyn Simulator>>,
    holding: &Holding,
    wish: Wish,
    now: DateTime<Utc>,
) -> Result<Order, Refusal> {
    let mut book = book.lock();
    let key = {
        let order = match holding {
            Holding::Code(code) => book.by_code(code),
            Holding::OrderNo(order_no) => book.by_order_no(order_no),
        };
        let order = order.ok_or(Refusal::Unknown)?;
        let last = order.codes.last();
        let alive = last.is_none_or(|last| now < last.dies_at && holding.is(&last.text));
        // What became of the order says more than that its code is old.
        if !alive && order.is_payable(now) {
            return Err(Refusal::Expired);
        }
        order.key.clone()
    };

    let face = face_of(&key).ok_or(Refusal::Unknown)?;
    let transaction_id = face.transaction_id(book.next_number(), now);

    match wish {
        Wish::Paid => book.pay(&key, &transaction_id, now)?,
        Wish::Declined => book.decline(&key, &transaction_id, now)?,
        Wish::Late => {
            let after = TimeDelta::seconds(i64::from(
                face.late_money_returns_s().ok_or(Refusal::NotLate)?,
            ));
            let amount = book.order(&key).ok_or(Refusal::Unknown)?.amount;
            let back = NewRefund {
                refund_no: format!("late{}", key.order_no),
                refund_id: face.transaction_id(book.next_number(), now),
                amount,
                reason: None,
                notify_url: None,
                due_at: now + after,
                details: serde_json::Value::Null,
            };
            book.pay_late(&key, &transaction_id, back, now)?;
        }
    }

    book.order(&key).cloned().ok_or(Refusal::Unknown)
}

impl Holding {
    fn is(&self, code: &str) -> bool {
        match self {
            Self::Code(text) => text == code,
            Self::OrderNo(_) => true,
        }
    }
}
