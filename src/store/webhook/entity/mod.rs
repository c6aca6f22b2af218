//! Rows as they lie in the tables. Only `store` sees them; everybody else sees
//! [`crate::domain`].

pub mod delivery;
pub mod delivery_try;
pub mod event;
pub mod notify_secret;
pub mod webhook_endpoint;
