//! How healthy routes are. Only technical outcomes count: a payer without money says nothing about
//! a provider.
//!
//! Health is kept of two sorts of subjects: each account's route, and each provider's flow over all
//! accounts that call it at one address in one mode. A route is as healthy as the worse of its two
//! subjects, but that no merchant alone speaks for a provider that others use as well: see
//! [`record`].

pub mod accounts;
pub mod adaptive;
pub mod breaker;
pub mod delta;
pub mod key;
pub mod latency;
mod local;
pub mod monitor;
pub mod record;
pub mod redis;
pub mod registry;
pub mod score;

use providers::order::Flow;
use providers::provider::ProviderName;
use serde::{Deserialize, Serialize};

use crate::domain::id::AccountId;

/// Clocks of gateways follow each other's: what was written further ahead than this was written by
/// none of them.
const AHEAD_MS: i64 = 360_000;

/// What routing chooses between: an account, and how the payer pays over it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteId {
    /// `acct_…`
    pub account_id: AccountId,
    /// Its provider.
    pub provider: ProviderName,
    /// How the payer pays.
    pub flow: Flow,
}

/// What the end of a call says about the health of its route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// A verified answer, whatever it said about the payer or our parameters: the provider works.
    Good,
    /// Unreachable or busy: counts against the provider, and the account.
    ProviderFailed,
    /// An answer that cannot be believed, or not be understood: counts against the account, and
    /// against the provider only if this gateway has understood one over this account before. It
    /// may be the key that is wrong, which its merchant has given.
    Unbelievable,
    /// A verified "no" to this account: counts against the account alone.
    AccountFailed,
    /// Nothing was learned: our own limit, a worker that was held up.
    Nothing,
}

/// Whether a route takes new payments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, strum::IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum BreakerState {
    /// It does.
    Closed,
    /// It has come back and takes a growing share.
    Ramping,
    /// One switchable offer at a time, to see whether it works again.
    Trial,
    /// It takes none.
    Open,
}

/// A route as routing sees it at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RouteView {
    /// Whether it takes new payments: the breaker's word.
    pub gate: BreakerState,
    /// Whether this very payment may take it, by the gate, its ramp and its trial. Drawn anew for
    /// each look.
    pub is_admitted: bool,
    /// Since when the gate is as it is, in milliseconds since 1970.
    pub since_ms: i64,
    /// A draw from what is believed of its success rate, 0 to 1.
    pub sampled_success: f64,
    /// The believed success rate, 0 to 1.
    pub success: f64,
    /// 95 of 100 calls are over by then, in milliseconds; `None` until there is history.
    pub p95_ms: Option<u32>,
    /// 99 of 100.
    pub p99_ms: Option<u32>,
    /// Calls on their way from this gateway.
    pub in_flight: u32,
}

impl RouteView {
    /// A route that nothing is known of.
    #[must_use]
    pub const fn unknown() -> Self {
        Self {
            gate: BreakerState::Closed,
            is_admitted: true,
            since_ms: 0,
            sampled_success: 1.0,
            success: 1.0,
            p95_ms: None,
            p99_ms: None,
            in_flight: 0,
        }
    }
}
