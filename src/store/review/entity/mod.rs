//! Rows as they lie in the tables. Only `store` sees them; everybody else sees
//! [`crate::domain`].

pub mod operation;
pub mod operation_step;
