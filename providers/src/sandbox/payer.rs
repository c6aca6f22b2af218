//! The payer: opens what was shown and pays, or cannot. Only the book decides whether money moves.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::book::{Order, OrderKey, Refusal, SharedBook};
use super::face::Face;

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
}

/// Acts. Returns the order as it is then.
///
/// # Errors
/// Why the book refuses; nothing was changed.
pub(super) fn act<'a>(
    book: &SharedBook,
    face_of: impl Fn(&OrderKey) -> Option<&'a Arc<dyn Face>>,
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
        Wish::Declined => book.open_trade(&key, &transaction_id, now)?,
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
