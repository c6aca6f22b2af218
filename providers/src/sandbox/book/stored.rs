//! The book as JSON, so that a sandbox that was stopped still knows its orders.

use serde::{Deserialize, Serialize};

use super::{Book, Event, Movement, Order};

/// A book as it is stored.
#[derive(Serialize, Deserialize)]
struct Stored {
    orders: Vec<Order>,
    movements: Vec<Movement>,
    outbox: Vec<Event>,
    last_number: u64,
}

impl Book {
    /// The whole book, to be stored and read by [`Book::from_json`].
    ///
    /// # Errors
    /// Never for a book that this program filled; JSON cannot hold every value, so the type says
    /// so.
    pub fn to_json(&self) -> Result<serde_json::Value, serde_json::Error> {
        serde_json::to_value(Stored {
            orders: self.orders().into_iter().cloned().collect(),
            movements: self.movements.clone(),
            outbox: self.outbox.clone(),
            last_number: self.last_number,
        })
    }

    /// A stored book.
    ///
    /// # Errors
    /// When it is not one.
    pub fn from_json(json: serde_json::Value) -> Result<Self, serde_json::Error> {
        let stored: Stored = serde_json::from_value(json)?;
        let mut book = Self {
            movements: stored.movements,
            outbox: stored.outbox,
            last_number: stored.last_number,
            ..Self::default()
        };
        for order in stored.orders {
            book.index(order);
        }
        Ok(book)
    }
}
