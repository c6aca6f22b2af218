//! The demo merchant: with a sandbox, everything that is needed for a first payment is made at the start, and
//! written to `demo.json` for scripts.

use std::io::Write as _;
use std::path::Path;

use providers::http::Way;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use strum::IntoEnumIterator as _;

use crate::app::App;
use crate::clock::Clock;
use crate::domain::id::{self, Kind};
use crate::domain::key::{self, Scope};
use crate::domain::{AllOwners, Mode, Owner, Timestamp};
use crate::server::StartError;
use crate::store::{AccountRow, KeyRow, NewAccount, Store};

/// What `demo.json` holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Demo {
    /// The gateway's address.
    pub base_url: String,
    /// A key with every scope.
    pub api_key: String,
    /// The sandbox's control.
    pub sandbox_url: String,
    /// Each provider's address in the sandbox.
    pub faces: serde_json::Map<String, Value>,
    /// The demo merchant's id.
    pub merchant: String,
    /// Its accounts.
    pub accounts: Vec<DemoAccount>,
}

/// One account of the demo merchant.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DemoAccount {
    /// `acct_…`
    pub id: String,
    /// At which provider.
    pub provider: String,
}

/// A sandbox, as far as the demo merchant has to know it.
#[derive(Debug, Clone)]
pub struct SandboxSide {
    /// Its control's address.
    pub control_url: String,
    /// What `GET /faces` says.
    pub faces: serde_json::Map<String, Value>,
    /// What `GET /credentials` says.
    pub credentials: serde_json::Map<String, Value>,
}

/// Makes the demo merchant, or finds it again, and writes `demo.json`.
///
/// # Errors
/// [`StartError`].
pub async fn set_up(app: &App, sandbox: &SandboxSide, folder: &Path) -> Result<Demo, StartError> {
    let owner = Owner { merchant: merchant(&app.store, "demo").await?, mode: Mode::Test };
    let mut accounts = Vec::new();
    // Without a rule the first account comes first: those of one start must not be of one millisecond.
    let now = app.clock.now();
    for (protocol, position) in providers::PROTOCOLS.iter().zip(0..) {
        let name = protocol.name.as_str();
        let (Some(Value::Object(credentials)), Some(base_url)) =
            (sandbox.credentials.get(name), sandbox.faces.get(name))
        else {
            continue;
        };
        let mut settings = credentials.clone();
        settings.insert("base_url".to_owned(), base_url.clone());
        let account_id = account(app, &owner, name, settings, now.plus_ms(position)).await?;
        accounts.push(DemoAccount { id: account_id, provider: name.to_owned() });
    }
    let path = folder.join("demo.json");
    let demo = Demo {
        base_url: app.public_url.clone(),
        api_key: api_key(app, &owner, &path).await?,
        sandbox_url: sandbox.control_url.clone(),
        faces: sandbox.faces.clone(),
        merchant: owner.merchant,
        accounts,
    };
    app.directory.changed().await?;
    let text = serde_json::to_vec_pretty(&demo).map_err(|e| StartError::file(&path, e))?;
    write_secret(&path, &text)?;
    Ok(demo)
}

/// The demo's account at one provider: made, or given the sandbox's present keys and address.
async fn account(
    app: &App,
    owner: &Owner,
    provider: &str,
    settings: serde_json::Map<String, Value>,
    now: Timestamp,
) -> Result<String, StartError> {
    let protocol = providers::protocol(provider).ok_or_else(|| StartError::Demo(format!("no provider {provider}")))?;
    let settings = Value::Object(settings);
    let plain = serde_json::to_vec(&settings).map_err(|e| StartError::Demo(e.to_string()))?;
    let opened = (protocol.open)(settings, &Way::Open).map_err(|e| StartError::Demo(format!("{provider}: {e}")))?;
    let identity = opened.identity().to_owned();
    let rows = app.store.accounts(AllOwners).await?;
    let mut own = rows.into_iter().filter(|row| row.owner == *owner && row.provider == provider);
    if let Some(known) = own.find(|row| row.identity == identity) {
        let unchanged = app.directory.vault().open(&known.id, &known.credentials).is_ok_and(|old| old == plain);
        if !unchanged {
            let credentials = app.directory.vault().seal(&known.id, &plain)?;
            app.store.change_account(&AccountRow { credentials, ..known.clone() }).await?;
        }
        return Ok(known.id);
    }
    let account_id = id::new(Kind::Account)?;
    let row = NewAccount {
        credentials: app.directory.vault().seal(&account_id, &plain)?,
        id: account_id.clone(),
        owner: owner.clone(),
        provider: provider.to_owned(),
        identity,
        name: format!("{provider} sandbox"),
        disabled: false,
        fee_bps: 60,
        set_aside_until: None,
        set_aside_reason: None,
        terms: None,
        created_at: now,
    };
    app.store.add_account(&row).await?;
    Ok(account_id)
}

/// The key in `demo.json`, as long as the database knows it; otherwise a new one.
async fn api_key(app: &App, owner: &Owner, path: &Path) -> Result<String, StartError> {
    let known = std::fs::read(path).ok().and_then(|text| serde_json::from_slice::<Demo>(&text).ok());
    if let Some(known) = known {
        let row = app.store.key_by_digest(&key::digest(&known.api_key)).await?;
        if row.is_some_and(|row| row.owner == *owner) {
            return Ok(known.api_key);
        }
    }
    full_key(&app.store, owner).await
}

/// A new key with every scope.
///
/// # Errors
/// [`StartError`].
pub async fn full_key(store: &Store, owner: &Owner) -> Result<String, StartError> {
    named_key(store, owner, Some("demo"), &Scope::iter().collect::<Vec<_>>()).await
}

/// A merchant's id by its name; made when there is none.
///
/// # Errors
/// [`StartError`].
pub async fn merchant(store: &Store, name: &str) -> Result<String, StartError> {
    Ok(store.merchant(name, &id::new(Kind::Merchant)?, Clock::new().now()).await?)
}

/// A new API key. This is the only moment at which anybody can read it.
///
/// # Errors
/// [`StartError`].
pub async fn new_key(store: &Store, owner: &Owner, scopes: &[Scope]) -> Result<String, StartError> {
    named_key(store, owner, None, scopes).await
}

/// As [`new_key`], with a name.
///
/// # Errors
/// [`StartError`].
pub async fn named_key(
    store: &Store,
    owner: &Owner,
    name: Option<&str>,
    scopes: &[Scope],
) -> Result<String, StartError> {
    let secret = key::secret(owner.is_live())?;
    let names: Vec<&'static str> = scopes.iter().map(|scope| (*scope).into()).collect();
    let row = KeyRow {
        id: id::new(Kind::Key)?,
        owner: owner.clone(),
        digest: key::digest(&secret),
        name: name.map(str::to_owned),
        scopes: names.join(" "),
        root: None,
        created_at: Clock::new().now(),
        last_used_at: None,
        revoked_at: None,
    };
    store.add_key(&row, &id::token()?).await?;
    Ok(secret)
}

/// Writes a file that only its owner can read, whole or not at all.
///
/// # Errors
/// [`StartError::File`].
pub fn write_secret(path: &Path, text: &[u8]) -> Result<(), StartError> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let next = path.with_extension("next");
    let write = || -> std::io::Result<()> {
        let _ = std::fs::remove_file(&next);
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&next)?;
        file.write_all(text)?;
        file.sync_all()?;
        std::fs::rename(&next, path)
    };
    write().map_err(|e| StartError::file(path, e))
}
