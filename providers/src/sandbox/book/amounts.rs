//! What was taken for an order, by whom it was paid, and what went back.

use chrono::{DateTime, Utc};

use super::{Order, RefundStatus, State, payable};
use crate::sandbox::refund_end::PaymentEnd;

impl Order {
    /// Whether the payer could still pay it.
    #[must_use]
    pub fn is_payable(&self, now: DateTime<Utc>) -> bool {
        payable(self, now).is_ok()
    }

    /// What was taken: the whole amount or nothing.
    #[must_use]
    pub fn captured_fen(&self) -> i64 {
        if self.paid_at.is_some() {
            self.amount.minor()
        } else {
            0
        }
    }

    /// What a coupon paid of it: the rest is the payer's.
    #[must_use]
    pub fn coupon_fen(&self) -> i64 {
        if self.paid_as == PaymentEnd::Coupon {
            self.amount.minor() / 4
        } else {
            0
        }
    }

    /// What went back to the payer, or is on its way there.
    #[must_use]
    pub fn refunding_fen(&self) -> i64 {
        self.refunds
            .values()
            .filter(|r| r.status != RefundStatus::Closed)
            .map(|r| r.amount.minor())
            .sum()
    }

    /// What went back to the payer.
    #[must_use]
    pub fn refunded_fen(&self) -> i64 {
        if self.state == State::Reversed {
            return self.captured_fen();
        }
        self.refunds
            .values()
            .filter(|r| r.status == RefundStatus::Done)
            .map(|r| r.amount.minor())
            .sum()
    }
}
