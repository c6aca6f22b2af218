//! Interlock: one payment API over Alipay, WeChat Pay and UnionPay that moves a payment to another
//! provider when one fails, and never keeps money twice.

pub mod api;
pub mod app;
pub mod bench;
pub mod cli;
pub mod clock;
pub mod config;
pub mod directory;
pub mod doctor;
pub mod domain;
#[cfg(feature = "testing")]
pub mod drill;
pub mod embedded;
pub mod guard;
pub mod incidents;
pub mod installation;
pub mod jobs;
pub mod lines;
pub mod payments;
pub mod progress;
pub mod redact;
pub mod restored;
pub mod routing;
pub mod server;
pub mod store;
pub mod telemetry;
pub mod testing;
pub mod traces;
pub mod vault;
pub mod webhooks;
