//! Wrappers around any provider. Each forwards everything and changes one thing. There is no layer
//! that repeats a call which can move money: a second try of such a call is a new attempt, written
//! down before it is sent.

#![deny(clippy::missing_trait_methods)]

mod metrics;
mod read_retry;
mod secret;
mod timeout;

use std::sync::Arc;

pub use metrics::{Label, register as register_metrics};

use crate::provider::Provider;

/// The order of the layers, from the inside: adapter, second questions, hard time limit, metrics.
/// The limit holds for a question and its repetition together, and the metrics see what the caller
/// sees; `mode` is their label.
#[must_use]
pub fn stack(provider: Arc<dyn Provider>, mode: &'static str) -> Arc<dyn Provider> {
    let asks_twice = Arc::new(read_retry::ReadRetry::around(provider));
    let limited = Arc::new(timeout::Timeout::around(asks_twice));
    Arc::new(metrics::Metrics::around(limited, mode))
}
