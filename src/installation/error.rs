//! Why an installation cannot be opened, or a gateway not started on it.

use std::path::{Path, PathBuf};

use crate::directory::DirectoryError;
use crate::directory::addresses::NotPublic;
use crate::directory::issue::IssueError;
use crate::domain::id::NoRandomness;
use crate::guard::Forbidden;
use crate::restored::witness::CompareError;
use crate::store::{self, OpenError};
use crate::traces;
use crate::vault::VaultError;
use crate::webhooks::client::NoClient;

/// Why a gateway did not start. One line each.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Which.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// A file or folder cannot be used.
    #[error("{}: {problem}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        problem: String,
    },
    /// A restore has begun to exchange the database, and has not ended.
    #[error(
        "{}: a restore was interrupted, and this is not the whole database: run `interlock restore \
        FILE` again",
        .0.display()
    )]
    HalfRestored(PathBuf),
    /// The embedded database was found damaged.
    #[error(
        "{}: this database was found damaged: keep the file, and bring a backup back with \
        `interlock restore FILE` (`interlock doctor` says whether it is; if you have mended it, remove \
        {})",
        .0.display(), .1.display()
    )]
    Damaged(PathBuf, PathBuf),
    /// The embedded database's file has a second name: another gateway could write into it, beside
    /// another log.
    #[error(
        "{}: this file has a second name (a hard link), over which another process could write into \
        it: copy it, and use the copy",
        .0.display()
    )]
    HardLinked(PathBuf),
    /// What was written last is not in the database.
    #[error(transparent)]
    Witness(#[from] CompareError),
    /// Another process has the embedded database.
    #[error("{}: another interlock runs on this folder", .0.display())]
    Locked(PathBuf),
    /// The database.
    #[error(transparent)]
    Database(#[from] OpenError),
    /// The database, after it was opened.
    #[error("database: {0}")]
    Query(#[from] store::Error),
    /// The directory.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The key for stored credentials.
    #[error("{0}")]
    Vault(#[from] VaultError),
    /// The configured key for stored credentials.
    #[error("credentials.key: {0}")]
    VaultKey(VaultError),
    /// No key for stored credentials, and none may be made.
    #[error(
        "credentials.key: give a key for stored credentials (64 hexadecimal digits, in \
        credentials.key or credentials.key_file): every gateway on this database needs the same one"
    )]
    NoVaultKey,
    /// The key is not the one that stored credentials were sealed with.
    #[error(
        "credentials.key: this is not the key that the stored credentials were sealed with: give \
        that one (every gateway on this database needs it); nothing was changed"
    )]
    OtherVaultKey,
    /// The key that stored credentials were sealed with is not there any more.
    #[error(
        "{}: the key for stored credentials is gone, and credentials sealed with it are in the \
        database: put it back (a backup of the database does not hold it); without it every \
        account has to be given its credentials anew",
        .0.display()
    )]
    LostVaultKey(PathBuf),
    /// The address of the shared health; it is not repeated, since it may hold a password.
    #[error("redis.url: the address {0}")]
    Redis(&'static str),
    /// The sandbox.
    #[error("sandbox: {0}")]
    Sandbox(String),
    /// The demo merchant.
    #[error("demo merchant: {0}")]
    Demo(String),
    /// An address for accounts that cannot be one.
    #[error(transparent)]
    Addresses(#[from] NotPublic),
    /// Webhooks cannot be sent.
    #[error(transparent)]
    Webhooks(#[from] NoClient),
    /// Traces cannot be sent.
    #[error(transparent)]
    Traces(#[from] traces::NoTraces),
    /// A receiver of alerts that nothing may be sent to; its address is not repeated, since it is
    /// as good as a password.
    #[error("alerts.receivers: the address of receiver {number} {problem}")]
    Receiver {
        /// Which, from 1.
        number: u32,
        /// Why.
        problem: Forbidden,
    },
    /// No random bytes.
    #[error(transparent)]
    Random(#[from] NoRandomness),
    /// Metrics or logs.
    #[error("{0}")]
    Telemetry(String),
}

impl StartError {
    pub(crate) fn file(path: &Path, problem: impl ToString) -> Self {
        Self::File {
            path: path.to_owned(),
            problem: problem.to_string(),
        }
    }
}

impl From<IssueError> for StartError {
    fn from(error: IssueError) -> Self {
        match error {
            IssueError::Database(error) => error.into(),
            IssueError::Random(error) => error.into(),
        }
    }
}
