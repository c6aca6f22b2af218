//! Which route a payment takes: the merchant's rule, how healthy the routes are, and the choice made by both.

pub mod budget;
pub mod check;
pub mod choose;
pub mod coverage;
pub mod health;
pub mod hours;
pub mod pace;
pub mod queue;
pub mod rule;
pub mod score;
pub mod share;
pub mod terms;
pub mod usage;
