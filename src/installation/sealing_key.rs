//! The key that credentials are sealed with: as configured, as it lies in the data folder, or made
//! anew where nothing is sealed yet.

use std::path::PathBuf;

use super::error::StartError;
use super::folder::write_secret;
use crate::config::Config;
use crate::domain::AllOwners;
use crate::store::Store;
use crate::vault::{CANARY_FACT, Vault};

/// The key for stored credentials, as configured or kept in the data folder where that is enough;
/// `None`: there is none yet, and one may be made.
pub fn vault(config: &Config) -> Result<Option<Vault>, StartError> {
    if !config.credentials.key.is_empty() {
        return Vault::new(&config.credentials.key)
            .map(Some)
            .map_err(StartError::VaultKey);
    }

    let configured = !config.credentials.key_file.as_os_str().is_empty();
    let path = if configured {
        config.credentials.key_file.clone()
    } else {
        kept_key(config)
    };

    match std::fs::read_to_string(&path) {
        Ok(text) => Vault::new(&text)
            .map(Some)
            .map_err(|e| StartError::file(&path, e)),
        Err(e) if configured || e.kind() != std::io::ErrorKind::NotFound => {
            Err(StartError::file(&path, e))
        }
        // Several gateways share a PostgreSQL; a key that one of them makes would lock out the
        // others.
        Err(_) if !config.is_embedded() && config.sandbox.listen == "off" => {
            Err(StartError::NoVaultKey)
        }
        Err(_) => Ok(None),
    }
}

/// Where a key lies that nobody has configured.
#[must_use]
pub fn kept_key(config: &Config) -> PathBuf {
    config.data.dir.join("credentials.key")
}

/// The key must be the one that credentials were sealed with: with another one every account would
/// be left out, and every payment refused. A new one is made only where nothing is sealed.
pub async fn known_vault(
    config: &Config,
    found: Option<Vault>,
    store: &Store,
) -> Result<Vault, StartError> {
    let canary = store.installation_fact(CANARY_FACT).await?;
    let sealed = store.accounts(AllOwners).await?;
    let vault = match found {
        Some(vault) => vault,
        None if canary.is_some() || !sealed.is_empty() => {
            return Err(StartError::LostVaultKey(kept_key(config)));
        }
        None => {
            let key = Vault::new_key()?;
            write_secret(&kept_key(config), key.as_bytes())?;
            Vault::new(&key)?
        }
    };

    let is_known = match &canary {
        Some(canary) => vault.knows(canary),
        // From before there was one.
        None => {
            sealed.is_empty()
                || sealed
                    .iter()
                    .any(|row| vault.open(&row.id, &row.credentials).is_ok())
        }
    };

    // Of two gateways that start at once with different keys, one is refused.
    if !is_known || !vault.knows(&store.installation(CANARY_FACT, &vault.canary()?).await?) {
        return Err(StartError::OtherVaultKey);
    }

    Ok(vault)
}
