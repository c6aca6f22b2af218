//! What a transition has to know beside the rows.

use std::time::Duration;

use providers::Capabilities;

use crate::config::Payments;

/// How long calls may last, how the attempt's provider works, and whether the owner's payments are
/// held.
#[derive(Debug, Clone, Copy)]
pub struct Conditions<'a> {
    /// How long calls may last.
    pub payments: &'a Payments,
    /// Of the attempt's account; `None`: it cannot be opened.
    pub capabilities: Option<&'static Capabilities>,
    /// Held after a restore: nothing is sent for this owner until a person has said go.
    pub is_held: bool,
}

impl Conditions<'_> {
    /// A refund's call is over so long after it was marked as sent.
    #[must_use]
    pub fn refund_over(&self) -> Duration {
        self.payments.refund_timeout + self.payments.call_grace
    }

    /// The distance between two refunds of one attempt.
    #[must_use]
    pub fn refund_spacing_ms(&self) -> i64 {
        self.capabilities
            .map_or(0, |capabilities| i64::from(capabilities.refund_spacing_ms))
    }

    /// When a refund is asked about, in seconds after it was sent.
    #[must_use]
    pub fn refund_ladder_s(&self) -> &'static [u32] {
        self.capabilities
            .map_or(&[], |capabilities| capabilities.refund_ladder_s)
    }

    /// Whether a refund that was ended without moving money may be asked for under another number.
    #[must_use]
    pub fn renumbers_refunds(&self) -> bool {
        self.capabilities
            .is_some_and(|capabilities| capabilities.refund_renumbers)
    }
}
