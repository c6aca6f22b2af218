//! Who uses the installation, in memory: accounts with their opened providers, routing rules, API keys. A payment
//! reads from here and asks the database nothing. Changes show at once on the gateway that made them, and within
//! a second on the others, by a version that each of them watches.

use std::collections::HashMap;
use std::sync::{Arc, RwLock};

use providers::{Provider, layer};
use sea_orm::DbErr;

use crate::domain::Timestamp;
use crate::domain::id;
use crate::routing::rule::Routing;
use crate::routing::terms::Terms;
use crate::routing::usage::{Turns, Usage};
use crate::store::{AccountRow, KeyRow, Store};
use crate::traces::Traces;
use crate::vault::Vault;

/// The installation fact that changes whenever anything here does.
const VERSION: &str = "directory_version";
/// API keys kept in memory; beyond that all are forgotten and read again.
const MAX_KEYS: usize = 10_000;

/// An account, ready to be called.
#[derive(Debug, Clone)]
pub struct Account {
    /// `acct_…`
    pub id: String,
    /// Whose.
    pub merchant_id: String,
    /// What people call it.
    pub name: String,
    /// Takes no new payments.
    pub disabled: bool,
    /// Basis points of the provider's fee.
    pub fee_bps: i32,
    /// Real money?
    pub livemode: bool,
    /// Until then kept out of new payments.
    pub set_aside_until: Option<Timestamp>,
    /// Why.
    pub set_aside_reason: Option<String>,
    /// Its limits, and when it is in maintenance.
    pub terms: Terms,
    /// When it was made.
    pub created_at: Timestamp,
    /// Its provider, with all layers.
    pub provider: Arc<dyn Provider>,
    sealed: Vec<u8>,
}

#[derive(Debug, Default, Clone)]
struct Snapshot {
    version: String,
    accounts: HashMap<String, Arc<Account>>,
    by_merchant: HashMap<String, Arc<Vec<Arc<Account>>>>,
    routing: HashMap<String, Arc<Routing>>,
    /// Accounts with a daily limit.
    limited: Vec<String>,
}

/// The directory.
#[derive(Debug)]
pub struct Directory {
    store: Store,
    vault: Vault,
    traces: Traces,
    snapshot: RwLock<Arc<Snapshot>>,
    keys: RwLock<HashMap<String, KeyRow>>,
    usage: Usage,
    turns: Turns,
}

/// Why the directory cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// The database's.
    #[error(transparent)]
    Database(#[from] DbErr),
    /// The system has no randomness.
    #[error(transparent)]
    Random(#[from] id::NoRandomness),
}

impl Directory {
    /// Reads everything.
    ///
    /// # Errors
    /// The database's.
    pub async fn open(store: Store, vault: Vault, traces: Traces) -> Result<Self, DirectoryError> {
        let directory = Self {
            store,
            vault,
            traces,
            snapshot: RwLock::default(),
            keys: RwLock::default(),
            usage: Usage::default(),
            turns: Turns::default(),
        };
        directory.reload().await?;
        Ok(directory)
    }

    /// The vault that account credentials are sealed with.
    #[must_use]
    pub fn vault(&self) -> &Vault {
        &self.vault
    }

    /// An account by its id, whoever's it is.
    #[must_use]
    pub fn account(&self, id: &str) -> Option<Arc<Account>> {
        self.now().accounts.get(id).cloned()
    }

    /// All accounts, of all merchants, in no order.
    #[must_use]
    pub fn accounts(&self) -> Vec<Arc<Account>> {
        self.now().accounts.values().cloned().collect()
    }

    /// A merchant's accounts, oldest first.
    #[must_use]
    pub fn accounts_of(&self, merchant_id: &str) -> Arc<Vec<Arc<Account>>> {
        self.now().by_merchant.get(merchant_id).cloned().unwrap_or_default()
    }

    /// A merchant's routing; empty and version 0 when none was ever set.
    #[must_use]
    pub fn routing_of(&self, merchant_id: &str) -> Arc<Routing> {
        self.now().routing.get(merchant_id).cloned().unwrap_or_default()
    }

    /// How much of their day accounts have used.
    #[must_use]
    pub fn usage(&self) -> &Usage {
        &self.usage
    }

    /// Whose turn it is in rules that go round.
    #[must_use]
    pub fn turns(&self) -> &Turns {
        &self.turns
    }

    /// Reads how much of their day the accounts with a daily limit have used, unless that was done just now.
    ///
    /// # Errors
    /// The database's.
    pub async fn refresh_usage(&self, now: Timestamp) -> Result<(), DbErr> {
        self.usage.refresh(&self.store, &self.now().limited, now).await
    }

    /// Whose key this is, by its digest.
    ///
    /// # Errors
    /// The database's, for a key that was not seen before.
    pub async fn key(&self, digest: &str) -> Result<Option<KeyRow>, DbErr> {
        let known = self.keys.read().unwrap_or_else(std::sync::PoisonError::into_inner).get(digest).cloned();
        if known.is_some() {
            return Ok(known);
        }
        let found = self.store.key_by_digest(digest).await?;
        if let Some(row) = &found {
            let mut keys = self.keys.write().unwrap_or_else(std::sync::PoisonError::into_inner);
            if keys.len() >= MAX_KEYS {
                keys.clear();
            }
            keys.insert(digest.to_owned(), row.clone());
        }
        Ok(found)
    }

    /// Tells every gateway, this one first, that something here has changed.
    ///
    /// # Errors
    /// The database's.
    pub async fn changed(&self) -> Result<(), DirectoryError> {
        self.store.set_installation(VERSION, &id::token()?).await?;
        self.reload().await
    }

    /// Reads again if another gateway has changed something.
    ///
    /// # Errors
    /// The database's.
    pub async fn refresh(&self) -> Result<(), DirectoryError> {
        let version = self.store.installation_fact(VERSION).await?;
        if version.is_some_and(|version| version == self.now().version) {
            return Ok(());
        }
        self.reload().await
    }

    /// Puts another provider in the place of an account's own, for tests that decide what becomes of every call. It stays
    /// until the account's credentials change.
    #[cfg(feature = "drill")]
    pub fn stand_in(&self, account_id: &str, provider: &Arc<dyn Provider>) {
        let mut next = Snapshot::clone(&self.now());
        let replaced = |account: &Arc<Account>| {
            let is_it = account.id == account_id;
            if is_it {
                Arc::new(Account { provider: Arc::clone(provider), ..Account::clone(account) })
            } else {
                Arc::clone(account)
            }
        };
        next.accounts.values_mut().for_each(|account| *account = replaced(account));
        for list in next.by_merchant.values_mut() {
            *list = Arc::new(list.iter().map(replaced).collect());
        }
        *self.snapshot.write().unwrap_or_else(std::sync::PoisonError::into_inner) = Arc::new(next);
    }

    fn now(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot.read().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    async fn reload(&self) -> Result<(), DirectoryError> {
        // The version is read first: a change that comes in between is read twice rather than missed.
        let version = self.store.installation(VERSION, "0").await?;
        let before = self.now();
        let mut next = Snapshot { version, ..Snapshot::default() };
        let mut by_merchant: HashMap<String, Vec<Arc<Account>>> = HashMap::new();
        for row in self.store.accounts().await? {
            let Some(account) = self.open_account(&before, row) else { continue };
            let account = Arc::new(account);
            if account.terms.limits.day.is_some() {
                next.limited.push(account.id.clone());
            }
            next.accounts.insert(account.id.clone(), Arc::clone(&account));
            by_merchant.entry(account.merchant_id.clone()).or_default().push(account);
        }
        next.by_merchant = by_merchant.into_iter().map(|(id, list)| (id, Arc::new(list))).collect();
        for (merchant_id, row) in self.store.routings().await? {
            match serde_json::from_value::<Routing>(row.rules) {
                Ok(routing) => {
                    next.routing.insert(merchant_id, Arc::new(Routing { version: row.version, ..routing }));
                }
                Err(error) => {
                    tracing::error!(merchant_id, %error, "stored routing cannot be read; the one before goes on");
                    if let Some(known) = before.routing.get(&merchant_id) {
                        next.routing.insert(merchant_id, Arc::clone(known));
                    }
                }
            }
        }
        *self.snapshot.write().unwrap_or_else(std::sync::PoisonError::into_inner) = Arc::new(next);
        self.keys.write().unwrap_or_else(std::sync::PoisonError::into_inner).clear();
        Ok(())
    }

    /// One account that cannot be opened must not take the others down: it is left out, loudly.
    fn open_account(&self, before: &Snapshot, row: AccountRow) -> Option<Account> {
        let provider = match before.accounts.get(&row.id).filter(|known| known.sealed == row.credentials) {
            Some(known) => Arc::clone(&known.provider),
            None => self
                .open_provider(&row)
                .inspect_err(|error| tracing::error!(account_id = row.id, error, "account left out"))
                .ok()?,
        };
        let terms = match row.terms.map(serde_json::from_value) {
            None => Terms::default(),
            Some(Ok(terms)) => terms,
            Some(Err(error)) => {
                tracing::error!(account_id = row.id, %error, "stored limits cannot be read; those before go on");
                before.accounts.get(&row.id).map(|known| known.terms.clone()).unwrap_or_default()
            }
        };
        Some(Account {
            id: row.id,
            merchant_id: row.merchant_id,
            name: row.name,
            disabled: row.disabled,
            fee_bps: row.fee_bps,
            livemode: row.livemode,
            set_aside_until: row.set_aside_until,
            set_aside_reason: row.set_aside_reason,
            terms,
            created_at: row.created_at,
            provider,
            sealed: row.credentials,
        })
    }

    fn open_provider(&self, row: &AccountRow) -> Result<Arc<dyn Provider>, String> {
        let plain = self.vault.open(&row.id, &row.credentials).map_err(|e| e.to_string())?;
        let settings = serde_json::from_slice(&plain).map_err(|_| "sealed settings are not JSON".to_owned())?;
        let protocol = providers::protocol(&row.provider)
            .ok_or_else(|| format!("no provider {:?} in this version", row.provider))?;
        let provider = (protocol.open)(settings).map_err(|e| e.to_string())?;
        Ok(self.traces.around(layer::stack(provider)))
    }
}

#[cfg(test)]
impl Account {
    /// An account for tests of what chooses among accounts.
    pub(crate) fn of(id: &str, provider: Arc<dyn Provider>) -> Self {
        Self {
            id: id.to_owned(),
            merchant_id: "mer_test".to_owned(),
            name: id.to_owned(),
            disabled: false,
            fee_bps: 60,
            livemode: false,
            set_aside_until: None,
            set_aside_reason: None,
            terms: Terms::default(),
            created_at: Timestamp(0),
            provider,
            sealed: Vec::new(),
        }
    }
}
