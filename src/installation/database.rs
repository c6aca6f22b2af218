//! Opens the database that a configuration names, unless what lies there is not what a gateway may
//! go on with.

use super::error::StartError;
use super::folder::make_folder;
use super::locks::lock;
use super::sealing_key::kept_key;
use crate::config::Config;
use crate::embedded;
use crate::restored::witness;
use crate::store::{OpenError, Store};

/// Opens it, and makes it where there is none.
///
/// # Errors
/// [`StartError`].
pub async fn open(config: &Config) -> Result<Store, StartError> {
    if let Some(file) = config.database_file()
        && !embedded::is_there(&file).map_err(OpenError::from)?
        && kept_key(config).exists()
    {
        tracing::warn!(
            file = %file.display(),
            "there is a key for stored credentials and no database: a new, empty one is made; if \
            there was one, stop, put it back, and start again"
        );
    }

    witness::compare(config).await?;
    Ok(Store::open(
        &config.database_url(),
        config.database.connections,
        config.database.timeout,
    )
    .await?)
}

/// Opens the database alone, for commands that need no gateway. The embedded one must not be in
/// use.
///
/// # Errors
/// [`StartError`].
pub async fn open_alone(config: &Config) -> Result<Store, StartError> {
    let folder = &config.data.dir;
    make_folder(folder)?;
    if config.database_file().is_some() {
        // Checked, not kept: these commands are over before anybody else can start.
        lock(config)?;
    }
    open(config).await
}
