//! Entries, blocks, and whether they agree with everything else.

pub(super) mod check;
pub(super) mod entity;
pub(super) mod entries;
