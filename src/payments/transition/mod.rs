//! What a fact means for a payment: the answer of a call, a notification, the time that has gone
//! by, the word of two persons. Pure: what it has to know beside the rows comes in as
//! [`Conditions`], and nothing is asked or written here.

pub mod auto_refund;
pub mod capture;
pub mod charge;
mod conditions;
pub mod console_refund;
pub mod create;
pub mod decision;
pub mod ending;
#[cfg(feature = "testing")]
mod mutations;
pub mod notified;
pub mod query;
pub mod refund_outcome;
pub mod refund_retry;
pub mod refund_turn;
pub mod reversal;
pub mod schedule;

pub use self::conditions::Conditions;
