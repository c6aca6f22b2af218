//! Who uses the installation, in memory: accounts with their opened providers, routing rules, API
//! keys. A payment reads from here and asks the database nothing. Changes show at once on the
//! gateway that made them, and within a second on the others, by a version that each of them
//! watches.

pub mod addresses;
pub mod issue;
pub mod keys;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use addresses::Addresses;
use keys::{APART, BELIEVED, Key, Keys};
use parking_lot::RwLock;
use providers::http::Way;
use providers::{Provider, ProviderName, layer};
use tokio::sync::Mutex;

use crate::clock::Clock;
use crate::domain::id::{self, AccountId};
use crate::domain::{AllOwners, Mode, Owner, Timestamp, owner};
use crate::routing::account::Account;
use crate::routing::account_limits::Terms;
use crate::routing::health::accounts::{self, Accounts};
use crate::routing::proof::{Proof, Proving};
use crate::routing::rule::Routing;
use crate::routing::usage::{Turns, Usage};
use crate::store::directory::keys::DIRECTORY_VERSION;
use crate::store::{self, AccountRow, Store};
use crate::traces::Traces;
use crate::vault::Vault;

/// How long whoever asks waits for the database to say whether a key is still right.
const PATIENCE: Duration = Duration::from_secs(3);
/// What a provider said of the time longer ago than this is not spoken of any more.
const HEARD_WITHIN: Duration = Duration::from_secs(300);
/// Stands in the settings of an account that is barred.
const NOWHERE: &str = "https://barred.invalid";

#[derive(Debug, Default, Clone)]
struct Snapshot {
    version: String,
    accounts: HashMap<AccountId, Arc<Account>>,
    by_owner: HashMap<Owner, Arc<Vec<Arc<Account>>>>,
    routing: HashMap<Owner, Arc<Routing>>,
    /// Accounts with a daily limit.
    limited: Vec<AccountId>,
}

/// The directory.
#[derive(Debug)]
pub struct Directory {
    store: Store,
    vault: Vault,
    traces: Traces,
    addresses: Addresses,
    snapshot: RwLock<Arc<Snapshot>>,
    keys: Keys,
    /// One at a time reads: who reads later knows more, and nobody puts something older in its
    /// place.
    reading: Mutex<()>,
    questions: AtomicU64,
    usage: Usage,
    turns: Turns,
    health: Arc<Accounts>,
}

/// Why the directory cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// The database's.
    #[error(transparent)]
    Database(#[from] store::Error),
    /// It took too long.
    #[error("the database has not said in time whether what is known is still right")]
    Late,
    /// The system has no randomness.
    #[error(transparent)]
    Random(#[from] id::NoRandomness),
}

impl Directory {
    /// Reads everything.
    ///
    /// # Errors
    /// The database's.
    pub async fn open(
        store: Store,
        vault: Vault,
        traces: Traces,
        addresses: Addresses,
    ) -> Result<Self, DirectoryError> {
        let directory = Self {
            store,
            vault,
            traces,
            addresses,
            snapshot: RwLock::default(),
            keys: Keys::default(),
            reading: Mutex::default(),
            questions: AtomicU64::new(0),
            usage: Usage::default(),
            turns: Turns::default(),
            health: Arc::default(),
        };
        directory.reload().await?;
        Ok(directory)
    }

    /// The vault that account credentials are sealed with.
    #[must_use]
    pub fn vault(&self) -> &Vault {
        &self.vault
    }

    /// Where accounts may be.
    #[must_use]
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// An account by its id, whoever's it is: for what a row names, never for what a caller names.
    #[must_use]
    pub fn account(&self, id: &AccountId) -> Option<Arc<Account>> {
        self.now().accounts.get(id).cloned()
    }

    /// All accounts, in no order.
    #[must_use]
    pub fn accounts(&self, _: AllOwners) -> Vec<Arc<Account>> {
        self.now().accounts.values().cloned().collect()
    }

    /// The mode that public pages, incidents and alerts speak of: live as soon as there is a live
    /// account, and test only until then.
    #[must_use]
    pub fn spoken_mode(&self) -> Mode {
        owner::spoken_mode(self.now().accounts.values().map(|account| &account.owner))
    }

    /// How far each provider's clock is ahead of this one in milliseconds, by what its accounts
    /// have heard lately: the middle one of them.
    #[must_use]
    pub fn provider_clocks(&self, clock: &Clock) -> BTreeMap<(Mode, ProviderName), i64> {
        let (now, set_at) = (clock.now(), clock.set_at());
        let mut heard: BTreeMap<(Mode, ProviderName), Vec<i64>> = BTreeMap::new();

        for account in self.now().accounts.values() {
            if let Some(told) = account
                .provider
                .time_told()
                .filter(|told| told.heard >= set_at && told.heard.elapsed() < HEARD_WITHIN)
            {
                let ahead_ms = told.ahead(now.utc()).num_milliseconds();
                heard
                    .entry((account.owner.mode, account.provider.name()))
                    .or_default()
                    .push(ahead_ms);
            }
        }

        let middle = |mut all: Vec<i64>| {
            all.sort_unstable();
            all.get(all.len() / 2).copied().unwrap_or(0)
        };

        heard
            .into_iter()
            .map(|(key, all)| (key, middle(all)))
            .collect()
    }

    /// How far the nearest of these clocks is ahead, of the mode that is spoken of: all of them are
    /// not wrong at once. 0 while nobody has told.
    #[must_use]
    pub fn providers_ahead_ms(&self, clock: &Clock) -> i64 {
        let spoken = self.spoken_mode();
        let clocks = self.provider_clocks(clock);
        let all = clocks
            .iter()
            .filter(|((mode, _), _)| *mode == spoken)
            .map(|(_, ms)| *ms);
        all.min_by_key(|ms| ms.saturating_abs()).unwrap_or(0)
    }

    /// An owner's accounts, oldest first.
    #[must_use]
    pub fn accounts_of(&self, owner: &Owner) -> Arc<Vec<Arc<Account>>> {
        self.now().by_owner.get(owner).cloned().unwrap_or_default()
    }

    /// An owner's routing; empty and version 0 when none was ever set.
    #[must_use]
    pub fn routing_of(&self, owner: &Owner) -> Arc<Routing> {
        self.now().routing.get(owner).cloned().unwrap_or_default()
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

    /// What health has to know of accounts: those that take new payments.
    #[must_use]
    pub fn for_health(&self) -> Arc<Accounts> {
        Arc::clone(&self.health)
    }

    /// Reads how much of their day the accounts with a daily limit have used, unless that was done
    /// just now.
    ///
    /// # Errors
    /// The database's.
    pub async fn refresh_usage(&self, now: Timestamp) -> Result<(), store::Error> {
        let snapshot = self.now();
        let Some(reading) = self.usage.to_read(&snapshot.limited, now) else {
            return Ok(());
        };
        let sums = self
            .store
            .usage(&snapshot.limited, reading.day_start(), reading.new_since())
            .await?;
        self.usage.take(&reading, &snapshot.limited, &sums);
        Ok(())
    }

    /// The key with this digest, if it is in use. One that was revoked is not found a second later,
    /// whether or not the database has been heard of since; one that was made before this was
    /// called is found.
    ///
    /// # Errors
    /// What is known may be out of date, and the database does not answer.
    pub async fn key(&self, digest: &str) -> Result<Option<Arc<Key>>, DirectoryError> {
        let asked = Instant::now();
        if self.keys.get(digest).is_some() {
            if self
                .keys
                .confirmed()
                .is_some_and(|at| asked.duration_since(at) < BELIEVED)
            {
                return Ok(self.keys.get(digest));
            }
            self.in_time(self.confirm(asked, Duration::ZERO)).await?;
            return Ok(self.keys.get(digest));
        }
        self.in_time(self.confirm(asked, APART)).await?;
        Ok(self.keys.get(digest))
    }

    /// Whether a key was in use when that was last read.
    #[must_use]
    pub fn knows_key(&self, digest: &str) -> bool {
        self.keys.get(digest).is_some()
    }

    /// How often the database was asked for the sake of a key.
    #[must_use]
    pub fn questions(&self) -> u64 {
        self.questions.load(Ordering::Relaxed)
    }

    /// When a key was last used, as far as this gateway knows.
    #[must_use]
    pub fn key_used(&self, id: &str) -> Option<Timestamp> {
        self.keys.last_used(id)
    }

    /// Writes down when keys were used, where that is news.
    ///
    /// # Errors
    /// The database's.
    pub async fn note_uses(&self) -> Result<(), store::Error> {
        let used = self.keys.used();
        if !used.is_empty() {
            self.store.keys_used(&used).await?;
            self.keys.written(&used);
        }
        Ok(())
    }

    /// Makes sure that what is known was true at `since` or later. Questions are `apart` at least;
    /// one answer does for all who wait for it.
    async fn confirm(&self, since: Instant, apart: Duration) -> Result<(), DirectoryError> {
        let _alone = self.reading.lock().await;
        let is_known = |at: Option<Instant>| at.is_some_and(|at| at >= since);
        let last = self.keys.confirmed();
        if is_known(last) {
            return Ok(());
        }
        let next = last.map_or(since, |last| last + apart);
        tokio::time::sleep_until(next.into()).await;

        self.questions.fetch_add(1, Ordering::Relaxed);
        let began = Instant::now();
        let version = self.store.installation_fact(DIRECTORY_VERSION).await?;
        // A program of before makes keys without saying so.
        let count = self.store.count_keys_in_use(AllOwners).await?;
        let is_same = version.is_some_and(|version| version == self.now().version);
        if is_same && usize::try_from(count).is_ok_and(|count| count == self.keys.len()) {
            self.keys.confirm(began);
            return Ok(());
        }
        self.read().await
    }

    async fn in_time(
        &self,
        work: impl Future<Output = Result<(), DirectoryError>>,
    ) -> Result<(), DirectoryError> {
        tokio::time::timeout(PATIENCE, work)
            .await
            .unwrap_or(Err(DirectoryError::Late))
    }

    /// Tells every gateway, this one first, that something here has changed.
    ///
    /// # Errors
    /// The database's.
    pub async fn changed(&self) -> Result<(), DirectoryError> {
        self.store
            .set_installation(DIRECTORY_VERSION, &id::token()?)
            .await?;
        self.reload().await
    }

    /// Reads again if another gateway has changed something.
    ///
    /// # Errors
    /// The database's.
    pub async fn refresh(&self) -> Result<(), DirectoryError> {
        let began = Instant::now();
        let version = self.store.installation_fact(DIRECTORY_VERSION).await?;
        if version.is_some_and(|version| version == self.now().version) {
            self.keys.confirm(began);
            return Ok(());
        }
        self.reload().await
    }

    /// Puts another provider in the place of an account's own, for tests that decide what becomes
    /// of every call. It stays until the account's credentials change.
    #[cfg(feature = "testing")]
    pub fn stand_in(&self, account_id: &AccountId, provider: &Arc<dyn Provider>) {
        let mut next = Snapshot::clone(&self.now());
        let replaced = |account: &Arc<Account>| {
            let is_it = account.id == *account_id;
            if is_it {
                Arc::new(Account {
                    provider: Arc::clone(provider),
                    ..Account::clone(account)
                })
            } else {
                Arc::clone(account)
            }
        };

        next.accounts
            .values_mut()
            .for_each(|account| *account = replaced(account));
        for list in next.by_owner.values_mut() {
            *list = Arc::new(list.iter().map(replaced).collect());
        }

        *self.snapshot.write() = Arc::new(next);
    }

    fn now(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot.read())
    }

    async fn reload(&self) -> Result<(), DirectoryError> {
        let _alone = self.reading.lock().await;
        self.read().await
    }

    /// Reads everything; whoever calls this holds `reading`.
    async fn read(&self) -> Result<(), DirectoryError> {
        // The version is read first: a change that comes in between is read twice rather than
        // missed.
        let began = Instant::now();
        let version = self.store.installation(DIRECTORY_VERSION, "0").await?;
        let before = self.now();
        let mut next = Snapshot {
            version,
            ..Snapshot::default()
        };
        let mut by_owner: HashMap<Owner, Vec<Arc<Account>>> = HashMap::new();

        for row in self.store.accounts(AllOwners).await? {
            let Some(account) = self.open_account(&before, row) else {
                continue;
            };
            let account = Arc::new(account);
            if account.terms.limits.day.is_some() {
                next.limited.push(account.id.clone());
            }
            next.accounts
                .insert(account.id.clone(), Arc::clone(&account));
            by_owner
                .entry(account.owner.clone())
                .or_default()
                .push(account);
        }

        next.by_owner = by_owner
            .into_iter()
            .map(|(owner, list)| (owner, Arc::new(list)))
            .collect();
        for (owner, row) in self.store.routings(AllOwners).await? {
            match serde_json::from_value::<Routing>(row.rules) {
                Ok(routing) => {
                    next.routing.insert(
                        owner,
                        Arc::new(Routing {
                            version: row.version,
                            ..routing
                        }),
                    );
                }
                Err(error) => {
                    tracing::error!(%owner, %error, "stored routing cannot be read; the one before \
                                                     goes on");
                    if let Some(known) = before.routing.get(&owner) {
                        next.routing.insert(owner, Arc::clone(known));
                    }
                }
            }
        }

        // First, so that health knows every account that a payment can choose.
        self.health.set(
            next.accounts
                .values()
                .filter(|account| !account.disabled)
                .map(|a| a.for_health())
                .collect(),
        );

        *self.snapshot.write() = Arc::new(next);
        self.keys.replace(self.store.keys_in_use(AllOwners).await?);
        self.keys.confirm(began);

        Ok(())
    }

    /// One account that cannot be opened must not take the others down: it is left out, loudly.
    fn open_account(&self, before: &Snapshot, row: AccountRow) -> Option<Account> {
        let known = before
            .accounts
            .get(&row.id)
            .filter(|known| known.sealed == row.credentials);
        let Opened {
            provider,
            proof,
            barred,
            credentials,
        } = match known {
            // Whether an address is allowed changes with the sandbox alone, before anything else is
            // opened.
            Some(known) if known.barred.is_none() => {
                let (provider, proof) = (Arc::clone(&known.provider), Arc::clone(&known.proof));
                Opened {
                    provider,
                    proof,
                    barred: None,
                    credentials: known.credentials,
                }
            }
            Some(_) | None => self
                .open_provider(&row)
                .inspect_err(
                    |error| tracing::error!(account_id = %row.id, error, "account left out"),
                )
                .ok()?,
        };

        let terms = match row.terms.map(serde_json::from_value) {
            None => Terms::default(),
            Some(Ok(terms)) => terms,
            Some(Err(error)) => {
                tracing::error!(account_id = %row.id, %error,
                    "stored limits cannot be read; those before go on");
                before
                    .accounts
                    .get(&row.id)
                    .map(|known| known.terms.clone())
                    .unwrap_or_default()
            }
        };

        Some(Account {
            id: row.id,
            owner: row.owner,
            name: row.name,
            disabled: row.disabled || barred.is_some(),
            barred,
            fee_bps: row.fee_bps,
            set_aside_until: row.set_aside_until,
            set_aside_reason: row.set_aside_reason,
            terms,
            created_at: row.created_at,
            provider,
            proof,
            sealed: row.credentials,
            credentials,
        })
    }

    /// The account's provider, and why it may not be called, if so.
    fn open_provider(&self, row: &AccountRow) -> Result<Opened, String> {
        let plain = self
            .vault
            .open(&row.id, &row.credentials)
            .map_err(|e| e.to_string())?;
        let mut settings: serde_json::Map<_, _> = serde_json::from_slice(&plain)
            .map_err(|_| "sealed settings are not JSON".to_owned())?;

        // Sealed anew, the same ones look different.
        let credentials = accounts::number(&plain);
        let protocol = providers::protocol(&row.provider)
            .ok_or_else(|| format!("no provider {:?} in this version", row.provider))?;
        let (way, barred) = match self
            .addresses
            .way(protocol, row.owner.is_live(), &mut settings)
        {
            Ok(way) => (way, None),
            Err(wrong) => {
                // An adapter that is never called still has to be opened, and it looks at its
                // address, too.
                settings.insert("base_url".to_owned(), NOWHERE.into());
                (Way::Barred, Some(wrong.to_string()))
            }
        };

        let provider = (protocol.open)(settings.into(), &way).map_err(|e| e.to_string())?;
        let proof = Arc::new(Proof::default());
        let provider = layer::stack(provider, row.owner.mode.as_str());

        Ok(Opened {
            provider: self
                .traces
                .around(Proving::around(provider, Arc::clone(&proof))),
            proof,
            barred,
            credentials,
        })
    }
}

/// An account's adapter.
struct Opened {
    provider: Arc<dyn Provider>,
    proof: Arc<Proof>,
    /// Why it may not call its address.
    barred: Option<String>,
    /// [`accounts::number`] of its credentials.
    credentials: u32,
}
