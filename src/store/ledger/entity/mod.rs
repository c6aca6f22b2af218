//! Rows as they lie in the tables. Only `store` sees them; everybody else sees
//! [`crate::domain`].

pub mod ledger_block;
pub mod ledger_entry;
