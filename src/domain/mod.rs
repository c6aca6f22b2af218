//! Values and rules: what a payment, an attempt and a refund are and how they may change.
//! Everything here is pure and synchronous; no I/O, no clock, no database.

pub mod attempt;
pub mod id;
pub mod incident;
pub mod key;
pub mod ledger;
pub mod mode;
pub mod operation;
pub mod owner;
pub mod payment;
pub mod refund;
pub mod time;
pub mod turns;
pub mod urgency;
pub mod webhook;

pub use attempt::Attempt;
pub use mode::Mode;
pub use owner::{AllOwners, Owner, Whose};
pub use payment::{Aggregate, Payment};
pub use refund::Refund;
pub use time::{Beijing, Timestamp};
pub use urgency::{Due, Urgency};

/// An event that does not fit the state it met. Never written: the caller reads again and decides
/// again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{event} is not possible in {machine} state {state}")]
pub struct Illegal {
    /// `payment`, `attempt`, `disposition` or `refund`.
    pub machine: &'static str,
    /// The state it was in.
    pub state: String,
    /// What should have happened.
    pub event: String,
}
