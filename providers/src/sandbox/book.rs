//! The one book of truth about money in the sandbox. It knows no provider: when a trade exists,
//! which number may be used again and what may be closed are rules of the faces. What it does
//! refuse, whoever asks: paying an order twice, paying a dead one, and giving back more than was
//! taken. Movements of money are only ever added.

mod amounts;
mod late;
pub mod stale_read;
mod stored;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use parking_lot::{Mutex, MutexGuard};
use serde::{Deserialize, Serialize};

use super::refund_end::{PaymentEnd, PaymentEnds, RefundEnds};
use crate::money::Money;
use crate::order::Flow;

/// The book behind its one lock. Never hold it across an `await` or a signature.
#[derive(Debug, Clone, Default)]
pub struct SharedBook(Arc<Mutex<Book>>);

impl SharedBook {
    /// Shares a book.
    #[must_use]
    pub fn new(book: Book) -> Self {
        Self(Arc::new(Mutex::new(book)))
    }

    /// The book, for as long as the guard lives.
    pub fn lock(&self) -> MutexGuard<'_, Book> {
        // Every change of the book is complete before anything in it can panic.
        self.0.lock()
    }
}

/// Names an order: numbers are unique within a merchant.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct OrderKey {
    /// `alipay`, `wechatpay`, `unionpay`.
    pub provider: String,
    /// The merchant's number there, as the face writes it.
    pub merchant: String,
    /// The merchant's number of the order.
    pub order_no: String,
}

impl OrderKey {
    /// A key from its parts.
    pub fn new(
        provider: impl Into<String>,
        merchant: impl Into<String>,
        order_no: impl Into<String>,
    ) -> Self {
        Self {
            provider: provider.into(),
            merchant: merchant.into(),
            order_no: order_no.into(),
        }
    }
}

/// Where an order stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, strum::Display)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum State {
    /// A code was given out, and the provider has no trade until the payer opens it.
    Shown,
    /// The trade exists and is unpaid.
    Payable,
    /// Paid; refunds may have taken some or all of it back.
    Paid,
    /// Ended unpaid.
    Closed,
    /// Ended after it was paid, and all the money went back.
    Reversed,
}

/// A code given out to the payer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Code {
    /// What it says.
    pub text: String,
    /// From then on it cannot be paid with.
    pub dies_at: DateTime<Utc>,
}

/// An order and everything that happened to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Its key.
    #[serde(flatten)]
    pub key: OrderKey,
    /// The amount to collect.
    pub amount: Money,
    /// Shown to the payer.
    pub description: String,
    /// How it is paid.
    pub flow: Flow,
    /// Where its notifications go.
    pub notify_url: Option<String>,
    /// The pass-back field as it came in.
    pub passback: Option<String>,
    /// What else the face must remember of the first request, to compare with a later one.
    pub details: serde_json::Value,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// From then on it takes no money.
    pub expires_at: DateTime<Utc>,
    /// Codes given out, oldest first. Only the last one lives.
    pub codes: Vec<Code>,
    /// Where it stands.
    pub state: State,
    /// The provider's number, once there is one.
    pub transaction_id: Option<String>,
    /// When it was paid.
    pub paid_at: Option<DateTime<Utc>>,
    /// When it was closed or reversed.
    pub ended_at: Option<DateTime<Utc>>,
    /// When its payer last said no.
    #[serde(default)]
    pub declined_at: Option<DateTime<Utc>>,
    /// How the payment ended, once there is one.
    #[serde(default)]
    pub paid_as: PaymentEnd,
    /// By the merchant's number of the refund.
    pub refunds: BTreeMap<String, Refund>,
}

/// Where a refund stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefundStatus {
    /// Accepted; the money has not arrived.
    Processing,
    /// The money is back with the payer.
    #[default]
    Done,
    /// Not carried out; the money is back with the merchant.
    Closed,
    /// It left the merchant and cannot reach the payer.
    Abnormal,
}

/// A refund and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refund {
    /// The merchant's number.
    pub refund_no: String,
    /// The provider's number.
    pub refund_id: String,
    /// How much goes back.
    pub amount: Money,
    /// Shown to the payer.
    pub reason: Option<String>,
    /// Where its notifications go, when it has an address of its own.
    pub notify_url: Option<String>,
    /// Where it stands.
    pub status: RefundStatus,
    /// When it was accepted.
    pub created_at: DateTime<Utc>,
    /// When a refund in work ends by itself.
    pub due_at: DateTime<Utc>,
    /// How it ends then.
    #[serde(default)]
    pub ends_as: RefundStatus,
    /// When it was done, closed or found abnormal.
    pub completed_at: Option<DateTime<Utc>>,
    /// What else the face must remember of it.
    #[serde(default)]
    pub details: serde_json::Value,
}

/// A refund as a face accepts it.
#[derive(Debug, Clone)]
pub struct NewRefund {
    /// The merchant's number.
    pub refund_no: String,
    /// The provider's number.
    pub refund_id: String,
    /// How much goes back.
    pub amount: Money,
    /// Shown to the payer.
    pub reason: Option<String>,
    /// Where its notifications go, when it has an address of its own.
    pub notify_url: Option<String>,
    /// When it is done: now, for providers that do it inside the call.
    pub due_at: DateTime<Utc>,
    /// What else the face must remember of it.
    pub details: serde_json::Value,
}

/// What a face may have to tell the merchant of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// An order was paid.
    Paid {
        /// Which.
        order: OrderKey,
    },
    /// A refund ended, one way or another.
    RefundEnded {
        /// Of which order.
        order: OrderKey,
        /// Which.
        refund_no: String,
    },
    /// An unpaid order was closed.
    Closed {
        /// Which.
        order: OrderKey,
    },
}

impl Event {
    /// The order that it is about.
    #[must_use]
    pub fn order(&self) -> &OrderKey {
        match self {
            Self::Paid { order } | Self::RefundEnded { order, .. } | Self::Closed { order } => {
                order
            }
        }
    }
}

/// Money that moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Movement {
    /// Taken from the payer, or given back.
    pub kind: MovementKind,
    /// For which order.
    pub order: OrderKey,
    /// By which refund; `None` for a capture and for a reversal.
    pub refund_no: Option<String>,
    /// How much.
    pub amount: Money,
    /// When.
    pub at: DateTime<Utc>,
}

/// Which way money moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MovementKind {
    /// From the payer to the merchant.
    Captured,
    /// From the merchant to the payer.
    Refunded,
}

/// Why the book refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such order, code or refund.
    #[error("there is no such order")]
    Unknown,
    /// The number is taken.
    #[error("the number is already used")]
    Exists,
    /// It is paid.
    #[error("the order is already paid")]
    AlreadyPaid,
    /// It is not paid.
    #[error("the order is not paid")]
    NotPaid,
    /// It is closed or reversed.
    #[error("the order is closed")]
    Ended,
    /// It, or the code, has expired.
    #[error("the order or its code has expired")]
    Expired,
    /// More than is left of the order.
    #[error("more than what is left of the order")]
    TooMuch,
    /// It cannot be paid late.
    #[error("its time is not over yet, or its provider takes no late money")]
    NotLate,
}

/// All orders, and all money that ever moved.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Book {
    orders: HashMap<OrderKey, Order>,
    numbers: HashMap<String, OrderKey>,
    codes: HashMap<String, OrderKey>,
    transactions: HashMap<String, OrderKey>,
    /// By provider, merchant and number of the refund.
    refund_numbers: HashMap<(String, String, String), OrderKey>,
    /// Refunds in work, by the time at which they end by themselves.
    working: BTreeSet<(DateTime<Utc>, OrderKey, String)>,
    movements: Vec<Movement>,
    outbox: Vec<Event>,
    last_number: u64,
    /// How the next refunds end; asked for from outside, and not stored.
    pub refund_ends: RefundEnds,
    /// The same of the next payments.
    pub payment_ends: PaymentEnds,
}

impl Book {
    /// An empty book whose numbers begin behind `last_number`, so that two books do not give out
    /// the same ones.
    #[must_use]
    pub fn starting_behind(last_number: u64) -> Self {
        Self {
            last_number,
            ..Self::default()
        }
    }

    /// A number that was never given before: for transaction ids, refund ids and codes.
    pub fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    /// Enters a new order.
    ///
    /// # Errors
    /// `Exists` when its number is taken.
    pub fn insert(&mut self, order: Order) -> Result<(), Refusal> {
        if self.orders.contains_key(&order.key) {
            return Err(Refusal::Exists);
        }
        self.index(order);
        Ok(())
    }

    /// An order.
    #[must_use]
    pub fn order(&self, key: &OrderKey) -> Option<&Order> {
        self.orders.get(key)
    }

    /// The order that a transaction belongs to.
    #[must_use]
    pub fn by_transaction(&self, transaction_id: &str) -> Option<&Order> {
        self.orders.get(self.transactions.get(transaction_id)?)
    }

    /// The order that a code was given out for.
    #[must_use]
    pub fn by_code(&self, code: &str) -> Option<&Order> {
        self.orders.get(self.codes.get(code)?)
    }

    /// The order that a refund number was used for.
    #[must_use]
    pub fn by_refund(&self, provider: &str, merchant: &str, refund_no: &str) -> Option<&Order> {
        let number = (
            provider.to_owned(),
            merchant.to_owned(),
            refund_no.to_owned(),
        );
        self.orders.get(self.refund_numbers.get(&number)?)
    }

    /// The order with this number, of whatever provider; the last one made, should there be
    /// several.
    #[must_use]
    pub fn by_order_no(&self, order_no: &str) -> Option<&Order> {
        self.orders.get(self.numbers.get(order_no)?)
    }

    /// Gives out another code; the codes before it die. For a charge it is the code that was read
    /// off the payer's phone; whether one was used before, [`Book::by_code`] tells.
    ///
    /// # Errors
    /// `Unknown`.
    pub fn give_code(&mut self, key: &OrderKey, code: Code) -> Result<(), Refusal> {
        let order = self.orders.get_mut(key).ok_or(Refusal::Unknown)?;
        self.codes.insert(code.text.clone(), key.clone());
        order.codes.push(code);
        Ok(())
    }

    /// The payer opened the order: from now on it is a trade. Nothing changes when it was one
    /// already.
    ///
    /// # Errors
    /// As [`Book::pay`], but a paid order is left as it is.
    pub fn open_trade(
        &mut self,
        key: &OrderKey,
        transaction_id: &str,
        now: DateTime<Utc>,
    ) -> Result<(), Refusal> {
        let order = self.orders.get_mut(key).ok_or(Refusal::Unknown)?;
        payable(order, now)?;
        order.state = State::Payable;
        if order.transaction_id.is_none() {
            order.transaction_id = Some(transaction_id.to_owned());
            self.transactions
                .insert(transaction_id.to_owned(), key.clone());
        }
        Ok(())
    }

    /// The payer opened the order and said no. It can still be paid.
    ///
    /// # Errors
    /// As [`Book::open_trade`].
    pub fn decline(
        &mut self,
        key: &OrderKey,
        transaction_id: &str,
        now: DateTime<Utc>,
    ) -> Result<(), Refusal> {
        self.open_trade(key, transaction_id, now)?;
        if let Some(order) = self.orders.get_mut(key) {
            order.declined_at = Some(now);
        }
        Ok(())
    }

    /// The payer pays. `transaction_id` is taken unless the trade has a number already.
    ///
    /// # Errors
    /// `Unknown`, `AlreadyPaid`, `Ended`, `Expired`: nothing was changed.
    pub fn pay(
        &mut self,
        key: &OrderKey,
        transaction_id: &str,
        now: DateTime<Utc>,
    ) -> Result<(), Refusal> {
        self.open_trade(key, transaction_id, now)?;
        let order = self.orders.get_mut(key).ok_or(Refusal::Unknown)?;
        order.paid_as = self.payment_ends.draw(&key.provider);
        take(order, &mut self.movements, now);
        self.outbox.push(Event::Paid { order: key.clone() });
        Ok(())
    }

    /// Ends an unpaid order. Whether its provider allows that is for the face to know.
    ///
    /// # Errors
    /// `Unknown`, `AlreadyPaid`, `Ended`: nothing was changed.
    pub fn close(&mut self, key: &OrderKey, now: DateTime<Utc>) -> Result<(), Refusal> {
        let order = self.orders.get_mut(key).ok_or(Refusal::Unknown)?;
        alive(order)?;
        order.state = State::Closed;
        order.ended_at = Some(now);
        self.outbox.push(Event::Closed { order: key.clone() });
        Ok(())
    }

    /// Ends a charge: an unpaid one is closed, a paid one gives all its money back.
    ///
    /// # Errors
    /// `Unknown`; `Ended`; `TooMuch` when a refund took something already: nothing was changed.
    pub fn reverse(&mut self, key: &OrderKey, now: DateTime<Utc>) -> Result<State, Refusal> {
        let order = self.orders.get_mut(key).ok_or(Refusal::Unknown)?;
        match alive(order) {
            Ok(()) => order.state = State::Closed,
            Err(Refusal::AlreadyPaid) if order.refunding_fen() > 0 => return Err(Refusal::TooMuch),
            Err(Refusal::AlreadyPaid) => {
                order.state = State::Reversed;
                self.movements.push(Movement {
                    kind: MovementKind::Refunded,
                    order: key.clone(),
                    refund_no: None,
                    amount: order.amount,
                    at: now,
                });
            }
            Err(refusal) => return Err(refusal),
        }

        order.ended_at = Some(now);
        Ok(order.state)
    }

    /// Accepts a refund; one that is due at once is done at once.
    ///
    /// # Errors
    /// `Unknown`; `NotPaid`; `Ended` after a reversal; `Exists` for a number that was used for this
    /// order; `TooMuch`. Nothing was changed.
    pub fn refund(
        &mut self,
        key: &OrderKey,
        new: NewRefund,
        now: DateTime<Utc>,
    ) -> Result<&Refund, Refusal> {
        let order = self.orders.get_mut(key).ok_or(Refusal::Unknown)?;
        match order.state {
            State::Paid => {}
            State::Reversed => return Err(Refusal::Ended),
            State::Shown | State::Payable | State::Closed => return Err(Refusal::NotPaid),
        }

        if order.refunds.contains_key(&new.refund_no) {
            return Err(Refusal::Exists);
        }
        let left = order.captured_fen() - order.refunding_fen();
        if new.amount.minor() <= 0 || new.amount.minor() > left {
            return Err(Refusal::TooMuch);
        }
        let refund_no = new.refund_no.clone();

        let refund = Refund {
            refund_no: new.refund_no,
            refund_id: new.refund_id,
            amount: new.amount,
            reason: new.reason,
            notify_url: new.notify_url,
            status: RefundStatus::Processing,
            created_at: now,
            due_at: new.due_at,
            ends_as: RefundStatus::Done,
            completed_at: None,
            details: new.details,
        };

        order.refunds.insert(refund_no.clone(), refund);
        self.refund_numbers.insert(
            (
                key.provider.clone(),
                key.merchant.clone(),
                refund_no.clone(),
            ),
            key.clone(),
        );

        if new.due_at <= now {
            self.end_refund(key, &refund_no, RefundStatus::Done, now)?;
        } else {
            self.working
                .insert((new.due_at, key.clone(), refund_no.clone()));
        }

        self.orders
            .get(key)
            .and_then(|o| o.refunds.get(&refund_no))
            .ok_or(Refusal::Unknown)
    }

    /// A refund in work will end like this when its time comes. Nothing changes when there is none.
    pub fn refund_will_end(&mut self, key: &OrderKey, refund_no: &str, ends_as: RefundStatus) {
        if let Some(refund) = self
            .orders
            .get_mut(key)
            .and_then(|o| o.refunds.get_mut(refund_no))
        {
            refund.ends_as = ends_as;
        }
    }

    /// A refund in work ends.
    ///
    /// # Errors
    /// `Unknown`; `Ended` when it ended before.
    pub fn end_refund(
        &mut self,
        key: &OrderKey,
        refund_no: &str,
        status: RefundStatus,
        now: DateTime<Utc>,
    ) -> Result<(), Refusal> {
        let refund = self
            .orders
            .get_mut(key)
            .and_then(|o| o.refunds.get_mut(refund_no))
            .ok_or(Refusal::Unknown)?;

        if refund.status != RefundStatus::Processing {
            return Err(Refusal::Ended);
        }
        refund.status = status;
        refund.completed_at = Some(now);
        if status == RefundStatus::Done {
            self.movements.push(Movement {
                kind: MovementKind::Refunded,
                order: key.clone(),
                refund_no: Some(refund_no.to_owned()),
                amount: refund.amount,
                at: now,
            });
        }

        self.outbox.push(Event::RefundEnded {
            order: key.clone(),
            refund_no: refund_no.to_owned(),
        });

        Ok(())
    }

    /// Ends the refunds that are due, and says when the next one will be.
    pub fn end_due_refunds(&mut self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        while let Some((due_at, _, _)) = self.working.first()
            && *due_at <= now
            && let Some((_, key, refund_no)) = self.working.pop_first()
        {
            let refund = self
                .orders
                .get(&key)
                .and_then(|o| o.refunds.get(&refund_no));
            let ends_as = refund.map_or(RefundStatus::Done, |refund| refund.ends_as);
            // A refund that a face ended before its time is no longer in work; nothing happens to
            // it then.
            let _ = self.end_refund(&key, &refund_no, ends_as, now);
        }
        self.working.first().map(|(due_at, _, _)| *due_at)
    }

    /// Whether [`Book::end_due_refunds`] would end any.
    #[must_use]
    pub fn has_due_refunds(&self, now: DateTime<Utc>) -> bool {
        self.working
            .first()
            .is_some_and(|(due_at, _, _)| *due_at <= now)
    }

    /// What happened since this was last asked, oldest first.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.outbox)
    }

    /// All orders, oldest first.
    #[must_use]
    pub fn orders(&self) -> Vec<&Order> {
        let mut orders: Vec<&Order> = self.orders.values().collect();
        orders.sort_by(|a, b| (a.created_at, &a.key).cmp(&(b.created_at, &b.key)));
        orders
    }

    /// All money that moved, oldest first.
    #[must_use]
    pub fn movements(&self) -> &[Movement] {
        &self.movements
    }

    fn index(&mut self, order: Order) {
        for code in &order.codes {
            self.codes.insert(code.text.clone(), order.key.clone());
        }
        if let Some(id) = &order.transaction_id {
            self.transactions.insert(id.clone(), order.key.clone());
        }
        for refund_no in order.refunds.keys() {
            let key = &order.key;
            self.refund_numbers.insert(
                (
                    key.provider.clone(),
                    key.merchant.clone(),
                    refund_no.clone(),
                ),
                key.clone(),
            );
        }

        for refund in order
            .refunds
            .values()
            .filter(|r| r.status == RefundStatus::Processing)
        {
            self.working
                .insert((refund.due_at, order.key.clone(), refund.refund_no.clone()));
        }
        self.numbers
            .insert(order.key.order_no.clone(), order.key.clone());

        self.orders.insert(order.key.clone(), order);
    }
}

/// The money of an order moves.
fn take(order: &mut Order, movements: &mut Vec<Movement>, now: DateTime<Utc>) {
    order.state = State::Paid;
    order.paid_at = Some(now);
    movements.push(Movement {
        kind: MovementKind::Captured,
        order: order.key.clone(),
        refund_no: None,
        amount: order.amount,
        at: now,
    });
}

/// Whether an order can still be ended unpaid.
fn alive(order: &Order) -> Result<(), Refusal> {
    match order.state {
        State::Shown | State::Payable => Ok(()),
        State::Paid => Err(Refusal::AlreadyPaid),
        State::Closed | State::Reversed => Err(Refusal::Ended),
    }
}

fn payable(order: &Order, now: DateTime<Utc>) -> Result<(), Refusal> {
    alive(order)?;
    if now >= order.expires_at {
        Err(Refusal::Expired)
    } else {
        Ok(())
    }
}
