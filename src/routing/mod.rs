//! Which route a payment takes: the merchant's rule, and the choice made by it.

pub mod choose;
pub mod rule;
