//! The commands, and what each does to an open database. A new one is one variant of [`Command`]
//! and one function that [`run`] calls.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::failure::Failure;
use super::{backup, keys};
use crate::clock::Clock;
use crate::directory::issue;
use crate::domain::{AllOwners, Whose, owner};
use crate::incidents::report;
use crate::payments::transition::schedule;
use crate::store::{IncidentFilter, Store};

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

/// Does a command on an open database.
///
/// # Errors
/// [`Failure`].
pub async fn run(store: &Store, clock: &Clock, command: &Command) -> Result<String, Failure> {
    match command {
        Command::Merchant { name } => merchant(store, name).await,
        Command::KeyMake {
            merchant,
            name,
            scopes,
            live,
        } => keys::make(store, merchant, name.as_deref(), scopes, *live).await,
        Command::KeyList { merchant } => keys::list(store, merchant).await,
        Command::KeyRevoke { id } => keys::revoke(store, clock, id).await,
        Command::Incident { id } => incident(store, clock, id.as_deref()).await,
        Command::RestoreAsked { open, unknown } => {
            backup::asked(store, clock, *open, *unknown).await
        }
        Command::RestoreGo { anyway } => backup::go(store, *anyway).await,
    }
}

async fn merchant(store: &Store, name: &str) -> Result<String, Failure> {
    if !(1..=64).contains(&name.chars().count())
        || name.chars().any(char::is_control)
        || name.trim() != name
    {
        let text =
            format!("a merchant's name has 1 to 64 characters, no blanks around it: {name:?}");
        return Err(Failure::said(text));
    }
    Ok(format!("{}\n", issue::merchant(store, name).await?))
}

async fn incident(store: &Store, clock: &Clock, id: Option<&str>) -> Result<String, Failure> {
    let now = clock.now();
    let Some(id) = id else {
        let filter = IncidentFilter {
            limit: INCIDENTS,
            ..IncidentFilter::default()
        };
        return Ok(report::list(&store.incidents(None, &filter).await?, now));
    };

    let found = store.incident(id).await?;
    let found = found.ok_or_else(|| Failure::said(format!("there is no incident {id:?}")))?;
    let accounts = store.accounts(AllOwners).await?;
    let whose = Whose::AllIn(owner::spoken_mode(
        accounts.iter().map(|account| &account.owner),
    ));
    let figures = store
        .figures(&found, whose, now, now.plus_s(-schedule::OFFER_MARGIN_S))
        .await?;

    Ok(report::whole(
        &found,
        &store.timeline(id).await?,
        &figures,
        now,
    ))
}
