//! Makes merchants and their API keys.

use crate::clock::Clock;
use crate::domain::Owner;
use crate::domain::id::{self, Kind, MerchantId, NoRandomness};
use crate::domain::key::{self, Scope};
use crate::store::{self, KeyRow, Store};
use strum::IntoEnumIterator as _;

/// Why nothing was made.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The database.
    #[error("database: {0}")]
    Database(#[from] store::Error),
    /// No random bytes.
    #[error(transparent)]
    Random(#[from] NoRandomness),
}

/// A new key with every scope.
///
/// # Errors
/// [`IssueError`].
pub async fn full_key(store: &Store, owner: &Owner) -> Result<String, IssueError> {
    named_key(
        store,
        owner,
        Some("demo"),
        &Scope::iter().collect::<Vec<_>>(),
    )
    .await
}

/// A merchant's id by its name; made when there is none.
///
/// # Errors
/// [`IssueError`].
pub async fn merchant(store: &Store, name: &str) -> Result<MerchantId, IssueError> {
    Ok(store
        .merchant(name, &MerchantId::new()?, Clock::new().now())
        .await?)
}

/// A new API key. This is the only moment at which anybody can read it.
///
/// # Errors
/// [`IssueError`].
pub async fn new_key(store: &Store, owner: &Owner, scopes: &[Scope]) -> Result<String, IssueError> {
    named_key(store, owner, None, scopes).await
}

/// As [`new_key`], with a name.
///
/// # Errors
/// [`IssueError`].
pub async fn named_key(
    store: &Store,
    owner: &Owner,
    name: Option<&str>,
    scopes: &[Scope],
) -> Result<String, IssueError> {
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
