//! Rows as they lie in the tables. Only `store` sees them; everybody else sees
//! [`crate::domain`].

pub mod account;
pub mod api_key;
pub mod merchant;
pub mod routing;
