//! The book as a provider in trouble reads it: a copy that is wrong, good for one answer. The money
//! stays where it is.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::{Book, Order, RefundStatus, State};
use crate::money::Money;

/// How the book is read wrongly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misreading {
    /// As it was so long ago, on the sandbox's clock.
    Behind(Duration),
    /// What can still be paid seems to be closed.
    Closed,
    /// Every amount seems to be one fen.
    OtherAmount,
}

impl Book {
    /// What is read instead of the book.
    #[must_use]
    pub fn stale_read(&self, how: Misreading, now: DateTime<Utc>) -> Self {
        let mut copy = self.clone();
        match how {
            Misreading::Behind(by) => {
                let then = now - TimeDelta::from_std(by).unwrap_or(TimeDelta::MAX);
                copy.orders.retain(|_, order| order.created_at <= then);
                copy.orders
                    .values_mut()
                    .for_each(|order| go_back(order, then));
            }
            Misreading::Closed => {
                for order in copy
                    .orders
                    .values_mut()
                    .filter(|o| matches!(o.state, State::Shown | State::Payable))
                {
                    (order.state, order.ended_at) = (State::Closed, Some(now));
                }
            }
            Misreading::OtherAmount => {
                if let Ok(fen) = Money::fen(1) {
                    copy.orders
                        .values_mut()
                        .for_each(|order| order.amount = fen);
                }
            }
        }

        copy
    }
}

fn go_back(order: &mut Order, then: DateTime<Utc>) {
    let after = |at: Option<DateTime<Utc>>| at.is_some_and(|at| at > then);
    if after(order.ended_at) {
        (order.state, order.ended_at) = (
            if order.paid_at.is_some() {
                State::Paid
            } else {
                State::Payable
            },
            None,
        );
    }

    if after(order.paid_at) {
        (order.state, order.paid_at) = (State::Payable, None);
    }
    if after(order.declined_at) {
        order.declined_at = None;
    }
    order.refunds.retain(|_, refund| refund.created_at <= then);
    for refund in order
        .refunds
        .values_mut()
        .filter(|refund| after(refund.completed_at))
    {
        (refund.status, refund.completed_at) = (RefundStatus::Processing, None);
    }
}
