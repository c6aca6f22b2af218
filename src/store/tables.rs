//! Whether the tables of a database are those of this version: a program does not touch what a later
//! one has made.

use migrations::{Migrator, MigratorTrait as _};
use sea_orm::{ConnectionTrait, Statement};

use super::Error;

/// Whose tables a database has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tables {
    /// This version's.
    Own,
    /// Those of a version before, which lack these migrations.
    Older(Vec<String>),
    /// Those of a later version, which made this migration.
    Newer(String),
}

/// Compares the migrations that were run with those of this version.
pub(super) async fn of<C: ConnectionTrait>(db: &C) -> Result<Tables, Error> {
    let sql = "SELECT version FROM seaql_migrations";
    let rows = db
        .query_all_raw(Statement::from_string(db.get_database_backend(), sql))
        .await?;
    let there: Vec<String> = rows
        .iter()
        .map(|row| row.try_get("", "version"))
        .collect::<Result<_, _>>()?;

    let mut known: Vec<String> = Migrator::migrations()
        .into_iter()
        .map(|migration| migration.name().to_owned())
        .collect();
    if let Some(name) = there.iter().find(|name| !known.contains(name)) {
        return Ok(Tables::Newer(name.clone()));
    }

    known.retain(|name| !there.contains(name));
    Ok(if known.is_empty() {
        Tables::Own
    } else {
        Tables::Older(known)
    })
}
