//! Which route a payment takes: the merchant's rule, how healthy the routes are, and the choice
//! made by both.

pub mod account;
pub mod account_limits;
pub mod budget;
pub mod choose;
pub mod coverage;
pub mod health;
pub mod limiter;
pub mod proof;
pub mod queue;
pub mod rule;
pub mod score;
pub mod share;
pub mod time_windows;
pub mod usage;
pub mod validate;
pub mod validation_error;
