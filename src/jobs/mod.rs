//! What runs beside requests. Each job can be stepped by a test; none keeps anything in memory that a restart
//! would miss.

pub mod alerts;
pub mod gauges;
pub mod health;
pub mod housekeeping;
pub mod incidents;
pub mod ledger;
pub mod queue;
pub mod resolver;
pub mod webhook;
pub mod work_list;
