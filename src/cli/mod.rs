//! Commands that reach an installation: over the socket of the gateway that has its embedded
//! database, or straight to a PostgreSQL. They work the same way in both cases, beside a gateway
//! and without one.

pub mod arguments;
pub mod backup;
mod command;
mod failure;
mod keys;
pub mod socket;

pub use self::command::{Command, run};
pub use self::failure::Failure;
use self::failure::NO_DATABASE;
use crate::clock::Clock;
use crate::config::Config;
use crate::embedded;
use crate::installation::folder::make_folder;
use crate::installation::locks::lock;
use crate::installation::{StartError, database};
use crate::store::OpenError;

/// Does a command on the installation that `config` describes, and returns what is to be printed.
///
/// # Errors
/// [`Failure`].
pub async fn ask(config: &Config, command: &Command) -> Result<String, Failure> {
    let folder = &config.data.dir;
    // A command makes no installation: at a place that was mistyped it would be another one.
    let is_there = || match config.database_file() {
        Some(file) => match embedded::is_there(&file).map_err(OpenError::from) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Failure::said(format!("{}: {NO_DATABASE}", file.display()))),
            Err(alone) => Err(StartError::from(alone).into()),
        },
        None => Ok(()),
    };

    // Held until the command is done: no gateway starts meanwhile on what it changes.
    let _lock = if socket::is_served(config) {
        if !folder.is_dir() {
            is_there()?;
        }
        make_folder(folder)?;
        match lock(config) {
            Ok(lock) => Some(lock),
            Err(StartError::Locked(_)) => return socket::ask(config, command).await,
            Err(error) => return Err(error.into()),
        }
    } else {
        None
    };

    is_there()?;
    let store = database::open(config).await?;
    let done = run(&store, &Clock::new(), command).await;
    store.close().await?;

    done
}
