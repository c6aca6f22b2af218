//! Merchants, accounts, routing, and API keys.

pub(super) mod accounts;
pub(super) mod entity;
pub mod keys;
