//! Where merchants want to be told, what of, and what became of that.

pub(super) mod deliveries;
pub(super) mod delivery_log;
pub(super) mod delivery_rows;
pub(super) mod endpoints;
pub(super) mod entity;
