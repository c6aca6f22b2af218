//! Payments, their attempts and refunds: rows, what is due, whose turn it is, and what requests
//! were answered.

pub(super) mod backlog;
pub(super) mod entity;
pub(super) mod find;
pub(super) mod idempotency;
pub(super) mod inbox;
pub(super) mod lease;
pub(super) mod rows;
pub(super) mod usage;
