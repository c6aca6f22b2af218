//! The operators' work list.

pub(super) mod entity;
pub(super) mod operations;
