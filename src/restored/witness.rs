//! The last block that this gateway has seen sealed, kept in the data folder and not in the
//! database. An embedded database that lacks it is an older one: somebody has put a copy in its
//! place, or has thrown away its log, which holds what was written last.

use std::cmp::Ordering;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Restored;
use crate::config::Config;
use crate::embedded;
use crate::store::{self, Block, Store, copy};
use crate::vault::CANARY_FACT;

/// Its owner's alone.
const PRIVATE: u32 = 0o600;

/// A block, and whose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Witness {
    /// What only this installation's database has: another database is another matter.
    installation: String,
    /// Where that lay.
    database: PathBuf,
    /// When it was last brought back from a backup, in milliseconds since 1970; 0: never. After a
    /// later restore older blocks are what is meant.
    restored_at: i64,
    height: i64,
    hash: String,
}

/// The database goes back in time, and no restore has said so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{}: block {height} of the ledger, which this gateway has seen sealed, is not in it: it is \
    gone, an older copy lies in its place, or its log (the -wal) was deleted. Put the right one \
    back, with its -wal; or bring a backup back with `interlock restore FILE`, which has the \
    providers asked about what is missing; or, to go on without it all the same, delete {}",
    database.display(), witness.display()
)]
pub struct Older {
    database: PathBuf,
    witness: PathBuf,
    height: i64,
}

/// Why nothing can be said.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// See [`Older`].
    #[error(transparent)]
    Older(#[from] Older),
    /// The database.
    #[error(transparent)]
    Database(#[from] store::Error),
}

/// Why a block is not kept.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// The database.
    #[error(transparent)]
    Database(#[from] store::Error),
    /// The witness, as JSON.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// The file.
    #[error(transparent)]
    File(#[from] io::Error),
}

fn path(config: &Config) -> PathBuf {
    config.data.dir.join("ledger.last")
}

/// Whether the embedded database has the block that was seen last. To be asked before its tables
/// are touched.
///
/// # Errors
/// [`CompareError`].
pub async fn compare(config: &Config) -> Result<(), CompareError> {
    let Some(database) = config.database_file() else {
        return Ok(());
    };
    let witness = path(config);
    let Ok(text) = std::fs::read(&witness) else {
        return Ok(());
    };
    let last = match serde_json::from_slice::<Witness>(&text) {
        Ok(last) => last,
        Err(error) => {
            // A start is worth more than what it guards.
            tracing::warn!(file = %witness.display(), %error,
                "nobody can read it: whether the database is an older one is not known");
            return Ok(());
        }
    };

    // With a log beside it that is another's; opening it says so.
    if copy::marked(&database).await.is_some() {
        return Ok(());
    }
    if !database.exists() {
        // One that is made at another place is another one.
        if last.database != embedded::itself(&database) {
            return Ok(());
        }
        return Err(Older {
            database,
            witness,
            height: last.height,
        }
        .into());
    }
    let store = match Store::look(&config.database_url(), 1).await {
        Ok(store) => store,
        // Opening it says what is wrong, or makes a new one.
        Err(_) => return Ok(()),
    };
    let has_it = has(&store, &last).await;
    store.close().await?;
    if has_it? {
        Ok(())
    } else {
        Err(Older {
            database,
            witness,
            height: last.height,
        }
        .into())
    }
}

async fn has(store: &Store, last: &Witness) -> Result<bool, store::Error> {
    if store.installation_fact(CANARY_FACT).await?.as_ref() != Some(&last.installation) {
        return Ok(true);
    }
    match restored_at(store).await?.cmp(&last.restored_at) {
        Ordering::Greater => Ok(true),
        Ordering::Less => Ok(false),
        Ordering::Equal => Ok(store
            .ledger_block(last.height)
            .await?
            .is_some_and(|block| block.hash == last.hash)),
    }
}

async fn restored_at(store: &Store) -> Result<i64, store::Error> {
    Ok(Restored::read(store)
        .await?
        .map_or(0, |restored| restored.at))
}

/// Keeps this block in mind, where the database is embedded.
///
/// # Errors
/// [`KeepError`]: the block before stays in mind.
pub async fn keep(config: &Config, store: &Store, last: &Block) -> Result<(), KeepError> {
    let Some(database) = config.database_file().map(|file| embedded::itself(&file)) else {
        return Ok(());
    };
    let Some(installation) = store.installation_fact(CANARY_FACT).await? else {
        return Ok(());
    };
    let restored_at = restored_at(store).await?;
    let witness = Witness {
        installation,
        database,
        restored_at,
        height: last.height,
        hash: last.hash.clone(),
    };
    Ok(write(&path(config), &serde_json::to_vec(&witness)?)?)
}

/// Whole or not at all.
fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    let next = path.with_extension("next");
    let mut file = File::options()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(PRIVATE)
        .open(&next)?;
    file.write_all(text)?;
    file.sync_all()?;
    std::fs::rename(&next, path)
}
