//! Where traces go, and why they cannot.

use std::time::Duration;

/// Where traces go, and how.
#[derive(Clone)]
pub struct Settings {
    /// The collector's address; `/v1/traces` is added to one without a path.
    pub otlp_url: String,
    /// How many of a hundred payments are traced, by their ids: the same ones on every gateway.
    pub percent: u8,
    /// Spans that wait to be sent, at most; further ones are dropped.
    pub queue: usize,
    /// How often they are sent.
    pub interval: Duration,
    /// How long one sending may take.
    pub timeout: Duration,
    /// Which gateway this is.
    pub gateway: String,
}

/// Traces cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum NoTraces {
    /// The client for the collector cannot be made.
    #[error("traces.otlp_url: {0}")]
    Client(String),
    /// This program cannot send any.
    #[error("traces.otlp_url: this build sends no traces; the feature otlp does")]
    NotBuiltIn,
}
