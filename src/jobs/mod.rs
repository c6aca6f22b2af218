//! What runs beside requests. Each job can be stepped by a test; none keeps anything in memory that
//! a restart would miss. All of them run in one loop, [`mod@periodic`].

pub mod alerts;
mod clocks;
pub mod gauges;
pub mod health;
pub mod housekeeping;
pub mod incidents;
pub mod keys;
pub mod ledger;
mod periodic;
mod proofs;
pub mod queue;
pub mod resolver;
pub mod restored;
pub mod webhook;
pub mod work_list;

pub use periodic::{Failed, Job, Next, periodic};
