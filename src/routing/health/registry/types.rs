//! What goes in and out of the board.

use std::collections::HashMap;
use std::sync::Arc;

use providers::provider::ProviderName;

use crate::routing::health::delta::MerchantHash;
use crate::routing::health::key::HealthKey;
use crate::routing::health::record::HealthRecord;
use crate::routing::health::{BreakerState, RouteId};

/// How a board is set up.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Which gateway this is; another number for each, drawn at its start.
    pub gateway: u32,
    /// Providers that may be asked less often than once a second, and how often: milliseconds.
    pub probe_every_ms: HashMap<ProviderName, u32>,
    /// Whether there are others to agree with on who probes. Without, this gateway does.
    pub shared: bool,
    /// How many probes may be under way at the same time. Merchants share these places.
    pub probes_at_once: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            gateway: 0,
            probe_every_ms: HashMap::new(),
            shared: false,
            probes_at_once: 64,
        }
    }
}

/// A call on its way. To be given back by [`super::HealthRegistry::end`], however it ended.
#[derive(Debug)]
#[must_use]
pub struct Ticket {
    pub(super) route: Arc<RouteId>,
    pub(super) call: u64,
}

/// A probe to make now: a signed query of an order that does not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// Whose turn it is.
    pub subject: HealthKey,
    /// Over which account.
    pub route: RouteId,
    /// Whose account that is.
    pub(in crate::routing::health) merchant: MerchantHash,
    /// With which credentials.
    pub(in crate::routing::health) credentials: u32,
}

/// What is to be removed from the store, if it still has this version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removal {
    /// Whose.
    pub subject: HealthKey,
    /// The version that goes.
    pub version: u64,
}

/// What became of something that was read from the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Adopted {
    /// It counts now.
    Taken,
    /// It is about nothing that this gateway has accounts for.
    NotOurs,
    /// No gateway can have written it. What is known here is written over it.
    Refused,
}

/// A state to write, if the stored one still has this version. 0: if none is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Whose.
    pub subject: HealthKey,
    /// The version that it replaces.
    pub version: u64,
    /// The state.
    pub vital: HealthRecord,
}

/// How a subject is, for who watches over it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthStatus {
    /// Whose.
    pub subject: HealthKey,
    /// The breaker's word.
    pub gate: BreakerState,
    /// Since when, in milliseconds since 1970.
    pub since_ms: i64,
    /// Open, and the last probe was answered.
    pub answering: bool,
    /// Whether any call has ended lately: without, nobody knows how it is.
    pub has_recent_calls: bool,
    /// Of a thousand calls so many are believed to fail now.
    pub failing: i64,
    /// The same in the long run.
    pub usually_failing: i64,
    /// A route whose whole provider is out as well: no news of its own.
    pub with_provider: bool,
}
