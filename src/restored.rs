//! What an installation that was brought back from a backup keeps in mind. What happened between
//! the backup and the restore is in no row: orders that payers paid, money that was given back. So
//! numbers at providers get another prefix, by which the lost ones are told apart; and live
//! payments are held until the providers were asked about what is open, and a person has said go.

pub mod witness;

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use parking_lot::RwLock;
use serde::{Deserialize, Serialize};

use crate::domain::id::{self, InstallationPrefix, NoRandomness};
use crate::domain::{Owner, Timestamp};
use crate::store::{self, Store};

/// The fact about the installation under which this is kept.
pub const FACT: &str = "restored";
/// Characters that a turn has.
const LENGTH: usize = 2;

/// An installation that was brought back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// Stands behind the configured prefix in all numbers since: 2 of `[0-9A-Za-z]`.
    pub turn: String,
    /// When it was brought back, in milliseconds since 1970.
    pub at: i64,
    /// Whether live payments are held.
    pub is_held: bool,
    /// What providers said of what is open, if they were asked since.
    pub asked: Option<Asked>,
}

/// What asking the providers has brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// When, in milliseconds since 1970.
    pub at: i64,
    /// About how many attempts and refunds.
    pub open: usize,
    /// Of those, how many nobody can tell about.
    pub unknown: usize,
}

impl Restored {
    /// A turn that is not the one before, held.
    ///
    /// # Errors
    /// [`NoRandomness`].
    pub fn now(before: Option<&Self>, at: Timestamp) -> Result<Self, NoRandomness> {
        loop {
            let turn: String = id::token()?.chars().take(LENGTH).collect();
            if before.is_none_or(|before| before.turn != turn) {
                return Ok(Self {
                    turn,
                    at: at.0,
                    is_held: true,
                    asked: None,
                });
            }
        }
    }

    /// What the database keeps of it; `None`: it was never brought back.
    ///
    /// # Errors
    /// The database's, or a fact that nobody can read.
    pub async fn read(store: &Store) -> Result<Option<Self>, store::Error> {
        let Some(text) = store.installation_fact(FACT).await? else {
            return Ok(None);
        };
        serde_json::from_str(&text)
            .map(Some)
            .map_err(|e| store::Error::Other(format!("installation {FACT}: {e}")))
    }

    /// Keeps it.
    ///
    /// # Errors
    /// The database's.
    pub async fn write(&self, store: &Store) -> Result<(), store::Error> {
        let text = serde_json::to_string(self).map_err(|e| store::Error::Other(e.to_string()))?;
        store.set_installation(FACT, &text).await
    }
}

/// What this gateway does of it: whether live payments are held, and how numbers at providers
/// begin.
#[derive(Debug)]
pub struct Hold {
    is_on: AtomicBool,
    /// When it was brought back, in milliseconds since 1970; 0: never.
    at: AtomicI64,
    configured: InstallationPrefix,
    prefix: RwLock<InstallationPrefix>,
}

impl Hold {
    /// Nothing was ever brought back.
    #[must_use]
    pub fn new(configured: InstallationPrefix) -> Self {
        Self {
            is_on: AtomicBool::new(false),
            at: AtomicI64::new(0),
            prefix: RwLock::new(configured.clone()),
            configured,
        }
    }

    /// As the database says. Returns whether live payments are held since, or not any more, if that
    /// is news.
    pub fn set(&self, restored: Option<&Restored>) -> Option<bool> {
        let prefix = restored.map_or_else(
            || self.configured.clone(),
            |known| self.configured.in_turn(&known.turn),
        );
        *self.prefix.write() = prefix;
        self.at.store(
            restored.map_or(0, |restored| restored.at),
            Ordering::Relaxed,
        );
        let is_held = restored.is_some_and(|restored| restored.is_held);
        metrics::gauge!("interlock_restored_hold").set(if is_held { 1.0 } else { 0.0 });
        (self.is_on.swap(is_held, Ordering::Relaxed) != is_held).then_some(is_held)
    }

    /// Begins our numbers at providers.
    #[must_use]
    pub fn prefix(&self) -> InstallationPrefix {
        self.prefix.read().clone()
    }

    /// Whether something is of before the restore: what has become of it since the backup is in no
    /// row.
    #[must_use]
    pub fn is_from_before(&self, at: Timestamp) -> bool {
        at.0 < self.at.load(Ordering::Relaxed)
    }

    /// Whether anything is held.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Relaxed)
    }

    /// Whether nothing new may be asked of this owner's payers, nor given back on a merchant's
    /// word.
    #[must_use]
    pub fn covers(&self, owner: &Owner) -> bool {
        owner.is_live() && self.is_on()
    }
}
