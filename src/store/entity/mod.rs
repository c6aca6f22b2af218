//! Rows as they lie in the tables. Only `store` sees them; everybody else sees [`crate::domain`].

pub mod account;
pub mod alert;
pub mod api_key;
pub mod attempt;
pub mod delivery;
pub mod delivery_try;
pub mod event;
pub mod idempotency_key;
pub mod incident;
pub mod incident_entry;
pub mod incident_norm;
pub mod installation;
pub mod ledger_block;
pub mod ledger_entry;
pub mod merchant;
pub mod notification;
pub mod notify_secret;
pub mod operation;
pub mod operation_step;
pub mod payment;
pub mod refund;
pub mod routing;
pub mod webhook_endpoint;
