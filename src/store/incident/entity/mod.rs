//! Rows as they lie in the tables. Only `store` sees them; everybody else sees
//! [`crate::domain`].

pub mod alert;
pub mod incident;
pub mod incident_entry;
pub mod incident_norm;
