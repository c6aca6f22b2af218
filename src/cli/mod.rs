//! Commands that reach an installation: over the socket of the gateway that has its embedded database, or straight
//! to a PostgreSQL. A new command is one variant of [`Command`] and one function that [`run`] calls; it works the same
//! way in both cases, beside a gateway and without one.

pub mod backup;
mod keys;
pub mod socket;

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Clock;
use crate::config::Config;
use crate::demo;
use crate::domain::{AllOwners, Whose, owner};
use crate::embedded;
use crate::incidents::report;
use crate::payments::schedule;
use crate::server::{self, StartError};
use crate::store::{IncidentFilter, OpenError, Store};

/// What an operator does about it.
pub(crate) const NO_DATABASE: &str =
    "there is no database; --data says where it is, and `interlock serve` or `interlock migrate` makes one";
/// How many incidents are listed.
const INCIDENTS: u64 = 100;

/// What can be asked of an installation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Make a merchant, or find it again.
    Merchant {
        /// Its name.
        name: String,
    },
    /// Make an API key.
    KeyMake {
        /// Whose: the merchant's name.
        merchant: String,
        /// What people call the key.
        name: Option<String>,
        /// What it may do.
        scopes: Vec<String>,
        /// Real money?
        live: bool,
    },
    /// List a merchant's API keys.
    KeyList {
        /// Its name.
        merchant: String,
    },
    /// Revoke an API key.
    KeyRevoke {
        /// `key_…`.
        id: String,
    },
    /// Show incidents, or one.
    Incident {
        /// Which; none: a list.
        id: Option<String>,
    },
    /// Note that the providers were asked about what is open after a restore.
    RestoreAsked {
        /// How many were open.
        open: usize,
        /// Of those, how many nobody knows about.
        unknown: usize,
    },
    /// Let live payments go on after a restore.
    RestoreGo {
        /// Although nobody knows about some that are open.
        anyway: bool,
    },
}

impl Command {
    /// How long it may take.
    #[must_use]
    pub fn patience(&self) -> Duration {
        match self {
            Self::Merchant { .. }
            | Self::KeyMake { .. }
            | Self::KeyList { .. }
            | Self::KeyRevoke { .. }
            | Self::Incident { .. }
            | Self::RestoreAsked { .. }
            | Self::RestoreGo { .. } => Duration::from_secs(20),
        }
    }
}

/// Why a command did nothing. One line for whoever asked.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// What is wrong with what was asked, or what went wrong.
    #[error("{0}")]
    Said(String),
    /// The database cannot be opened.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The database, after it was opened.
    #[error("database: {0}")]
    Query(#[from] sea_orm::DbErr),
    /// A gateway has the database, and cannot be asked.
    #[error("{}: another interlock runs on this folder, and cannot be asked: {problem}", folder.display())]
    Unreachable {
        /// Its data folder.
        folder: PathBuf,
        /// Why.
        problem: String,
    },
}

impl Failure {
    fn said(text: impl Into<String>) -> Self {
        Self::Said(text.into())
    }
}

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
        server::make_folder(folder)?;
        match server::lock(config) {
            Ok(lock) => Some(lock),
            Err(StartError::Locked(_)) => return socket::ask(config, command).await,
            Err(error) => return Err(error.into()),
        }
    } else {
        None
    };
    is_there()?;
    let store = server::database::open(config).await?;
    let done = run(&store, &Clock::new(), command).await;
    store.close().await?;
    done
}

/// Does a command on an open database.
///
/// # Errors
/// [`Failure`].
pub async fn run(store: &Store, clock: &Clock, command: &Command) -> Result<String, Failure> {
    match command {
        Command::Merchant { name } => merchant(store, name).await,
        Command::KeyMake { merchant, name, scopes, live } => {
            keys::make(store, merchant, name.as_deref(), scopes, *live).await
        }
        Command::KeyList { merchant } => keys::list(store, merchant).await,
        Command::KeyRevoke { id } => keys::revoke(store, clock, id).await,
        Command::Incident { id } => incident(store, clock, id.as_deref()).await,
        Command::RestoreAsked { open, unknown } => backup::asked(store, clock, *open, *unknown).await,
        Command::RestoreGo { anyway } => backup::go(store, *anyway).await,
    }
}

async fn merchant(store: &Store, name: &str) -> Result<String, Failure> {
    if !(1..=64).contains(&name.chars().count()) || name.chars().any(char::is_control) || name.trim() != name {
        let text = format!("a merchant's name has 1 to 64 characters, no blanks around it: {name:?}");
        return Err(Failure::said(text));
    }
    Ok(format!("{}\n", demo::merchant(store, name).await?))
}

async fn incident(store: &Store, clock: &Clock, id: Option<&str>) -> Result<String, Failure> {
    let now = clock.now();
    let Some(id) = id else {
        let filter = IncidentFilter { limit: INCIDENTS, ..IncidentFilter::default() };
        return Ok(report::list(&store.incidents(None, &filter).await?, now));
    };
    let found = store.incident(id).await?;
    let found = found.ok_or_else(|| Failure::said(format!("there is no incident {id:?}")))?;
    let accounts = store.accounts(AllOwners).await?;
    let whose = Whose::AllIn(owner::spoken_mode(accounts.iter().map(|account| &account.owner)));
    let figures = store.figures(&found, whose, now, now.plus_s(-schedule::OFFER_MARGIN_S)).await?;
    Ok(report::whole(&found, &store.timeline(id).await?, &figures, now))
}
