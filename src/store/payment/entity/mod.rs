//! Rows as they lie in the tables. Only `store` sees them; everybody else sees
//! [`crate::domain`].

pub mod attempt;
pub mod idempotency_key;
pub mod notification;
pub mod payment;
pub mod refund;
