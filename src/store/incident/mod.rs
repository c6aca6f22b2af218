//! Incidents, their entries, the figures they are judged by, and the alerts about them.

pub(super) mod alerts;
pub(super) mod entity;
pub(super) mod figures;
pub(super) mod incidents;
