//! The demo merchant: with a sandbox, everything that is needed for a first payment is made at the
//! start, and written to `demo.json` for scripts.

use std::path::Path;

use providers::http::Way;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::sandbox_side::SandboxSide;
use crate::app::App;
use crate::directory::issue::{full_key, merchant};
use crate::domain::id::AccountId;
use crate::domain::key;
use crate::domain::{AllOwners, Mode, Owner, Timestamp};
use crate::installation::StartError;
use crate::installation::folder::write_secret;
use crate::store::{AccountRow, NewAccount};

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

/// Makes the demo merchant, or finds it again, and writes `demo.json`.
///
/// # Errors
/// [`StartError`].
pub async fn set_up(app: &App, sandbox: &SandboxSide, folder: &Path) -> Result<Demo, StartError> {
    let owner = Owner {
        merchant: merchant(&app.store, "demo").await?,
        mode: Mode::Test,
    };
    let mut accounts = Vec::new();

    // Without a rule the first account comes first: those of one start must not be of one
    // millisecond.
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
        accounts.push(DemoAccount {
            id: account_id.into(),
            provider: name.to_owned(),
        });
    }

    let path = folder.join("demo.json");
    let demo = Demo {
        base_url: app.public_url.clone(),
        api_key: api_key(app, &owner, &path).await?,
        sandbox_url: sandbox.control_url.clone(),
        faces: sandbox.faces.clone(),
        merchant: owner.merchant.into(),
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
) -> Result<AccountId, StartError> {
    let protocol = providers::protocol(provider)
        .ok_or_else(|| StartError::Demo(format!("no provider {provider}")))?;
    let settings = Value::Object(settings);
    let plain = serde_json::to_vec(&settings).map_err(|e| StartError::Demo(e.to_string()))?;
    let opened = (protocol.open)(settings, &Way::Open)
        .map_err(|e| StartError::Demo(format!("{provider}: {e}")))?;
    let identity = opened.identity().to_owned();
    let rows = app.store.accounts(AllOwners).await?;
    let mut own = rows
        .into_iter()
        .filter(|row| row.owner == *owner && row.provider == provider);

    if let Some(known) = own.find(|row| row.identity == identity) {
        let unchanged = app
            .directory
            .vault()
            .open(&known.id, &known.credentials)
            .is_ok_and(|old| old == plain);
        if !unchanged {
            let credentials = app.directory.vault().seal(&known.id, &plain)?;
            let after = AccountRow {
                credentials,
                ..known.clone()
            };
            // Whoever else has changed it has started on the same sandbox.
            app.store.change_account(&known, &after).await?;
        }
        return Ok(known.id);
    }

    let account_id = AccountId::new()?;
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
    let known = std::fs::read(path)
        .ok()
        .and_then(|text| serde_json::from_slice::<Demo>(&text).ok());
    if let Some(known) = known {
        let row = app
            .store
            .key_by_digest(&key::digest(&known.api_key))
            .await?;
        if row.is_some_and(|row| row.owner == *owner) {
            return Ok(known.api_key);
        }
    }
    Ok(full_key(&app.store, owner).await?)
}
