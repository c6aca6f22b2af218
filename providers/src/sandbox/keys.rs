//! The sandbox's secrets: made once by chance, kept by whoever starts it. They open nothing but
//! this sandbox.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::secrets::{NoRandomness, side_by_side};
use super::simulator::SimulatedProvider;
use crate::SIMULATORS;

/// The keys and identities of every provider's sandbox merchant, by provider; each simulator knows
/// its own part.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Keys(BTreeMap<String, serde_json::Value>);

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Keys {
    /// New keys for all providers, made side by side.
    ///
    /// # Errors
    /// [`NoRandomness`].
    pub fn generate() -> Result<Self, NoRandomness> {
        Self::default().completed()
    }

    /// These keys, and new ones for providers that have none yet.
    ///
    /// # Errors
    /// [`NoRandomness`].
    pub fn completed(mut self) -> Result<Self, NoRandomness> {
        let is_missing = |p: &&SimulatedProvider| !self.0.contains_key(p.name.as_str());
        let missing: Vec<&SimulatedProvider> = SIMULATORS.iter().filter(is_missing).collect();
        for (provider, keys) in missing
            .iter()
            .zip(side_by_side(missing.iter().map(|p| p.make_keys)))
        {
            self.0.insert(provider.name.to_string(), keys?);
        }
        Ok(self)
    }

    /// One provider's part.
    #[must_use]
    pub fn of(&self, provider: &str) -> Option<&serde_json::Value> {
        self.0.get(provider)
    }
}
