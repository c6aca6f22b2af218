//! Money that comes when an order's time is over, at providers that let it come and give it back by
//! themselves.

use chrono::{DateTime, Utc};

use super::{Book, NewRefund, Order, OrderKey, Refusal, alive, take};

impl Order {
    /// Whether it was paid after its time was over, and will give the money back by itself.
    #[must_use]
    pub fn is_late(&self) -> bool {
        self.paid_at.is_some_and(|at| at >= self.expires_at)
    }
}

impl Book {
    /// The payer pays when the order's time is over. The money is taken, nobody is told, and `back`
    /// gives it back.
    ///
    /// # Errors
    /// `Unknown`, `AlreadyPaid`, `Ended`; `NotLate` before its time is over: nothing was changed.
    pub fn pay_late(
        &mut self,
        key: &OrderKey,
        transaction_id: &str,
        back: NewRefund,
        now: DateTime<Utc>,
    ) -> Result<(), Refusal> {
        let order = self.orders.get_mut(key).ok_or(Refusal::Unknown)?;
        alive(order)?;
        if now < order.expires_at {
            return Err(Refusal::NotLate);
        }
        let transaction_id = order
            .transaction_id
            .get_or_insert_with(|| transaction_id.to_owned())
            .clone();
        self.transactions.insert(transaction_id, key.clone());
        take(order, &mut self.movements, now);
        self.refund(key, back, now).map(drop)
    }
}
