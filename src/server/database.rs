//! Opens the database that a configuration names, unless what lies there is not what a gateway may go on with.

use super::{StartError, kept_key};
use crate::config::Config;
use crate::domain::Timestamp;
use crate::embedded;
use crate::restored::{COPY, Restored};
use crate::store::{OpenError, Store};

/// Opens it, and makes it where there is none.
///
/// # Errors
/// [`StartError`].
pub(super) async fn open(config: &Config) -> Result<Store, StartError> {
    let file = config.database_file();
    if let Some(file) = &file
        && !embedded::is_there(file).map_err(OpenError::from)?
        && kept_key(config).exists()
    {
        tracing::warn!(
            file = %file.display(),
            "there is a key for stored credentials and no database: a new, empty one is made; if there was one, stop, put \
             it back, and start again"
        );
    }
    let store = Store::open(&config.database_url(), config.database.connections, config.database.patience()).await?;

    // Whoever puts a backup in place by hand goes back in time without anybody knowing. (A version that did not know of this
    // mark left it when it restored.)
    let restored_at = Restored::read(&store).await?.map(|restored| Timestamp(restored.at).rfc3339());
    let copied = store.installation_fact(COPY).await?.filter(|made_at| restored_at.is_none_or(|at| at < *made_at));
    match (file, copied) {
        (Some(file), Some(made_at)) => {
            store.close().await?;
            Err(StartError::Copy { file, made_at })
        }
        (None, _) | (_, None) => Ok(store),
    }
}
