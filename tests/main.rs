//! The gateway's integration tests: one binary, a file per subject.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    missing_docs,
    reason = "a test stops where something is wrong, and a table of cases is read in one piece"
)]

mod addresses;
mod admission;
mod bad_input;
#[cfg(feature = "testing")]
mod broken;
mod charges;
mod contract;
mod crash;
mod credentials;
mod database;
mod doctor;
mod door;
#[cfg(feature = "testing")]
mod drill;
mod failures;
mod fuzz;
mod health;
mod helpers;
mod idempotency;
mod incidents;
mod keys;
mod ledger;
mod life;
mod lists;
#[cfg(feature = "testing")]
mod model;
mod moved_clock;
mod notifications;
mod observability;
mod operations;
mod outage;
mod owners;
#[cfg(feature = "testing")]
mod payer_ways;
mod program;
mod queue;
mod refunds;
mod refusals;
mod restore;
mod routing;
#[cfg(feature = "testing")]
mod settings;
mod side_by_side;
mod switchover;
mod tidy;
mod unionpay;
mod upgrade;
#[cfg(feature = "testing")]
mod urgency;
mod webhooks;
