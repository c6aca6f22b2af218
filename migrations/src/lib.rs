//! Interlock's tables, the same for SQLite and PostgreSQL. A migration that has been released is never edited:
//! a change is a new one.
//!
//! Times are milliseconds since 1970, UTC; amounts are fen; both are 64-bit integers on both databases.

pub use sea_orm_migration::MigratorTrait;
use sea_orm_migration::{DbErr, MigrationName, MigrationTrait, SchemaManager, async_trait};

mod m20260101_000001_merchants;
mod m20260101_000002_payments;
mod m20260101_000003_webhooks;
mod m20260101_000004_routing;
mod m20260101_000005_waiting;
mod m20260101_000006_incidents;
mod m20260101_000007_ledger;
mod m20260101_000008_decisions;
mod m20261128_000009_owners;
mod m20261128_000010_keys;
mod m20261128_000011_urgency;
mod m20261129_000012_told;
mod m20261129_000013_lists;

/// All migrations, in order.
#[derive(Debug)]
pub struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        let all: Vec<Box<dyn MigrationTrait>> = vec![
            Box::new(m20260101_000001_merchants::Migration),
            Box::new(m20260101_000002_payments::Migration),
            Box::new(m20260101_000003_webhooks::Migration),
            Box::new(m20260101_000004_routing::Migration),
            Box::new(m20260101_000005_waiting::Migration),
            Box::new(m20260101_000006_incidents::Migration),
            Box::new(m20260101_000007_ledger::Migration),
            Box::new(m20260101_000008_decisions::Migration),
            Box::new(m20261128_000009_owners::Migration),
            Box::new(m20261128_000010_keys::Migration),
            Box::new(m20261128_000011_urgency::Migration),
            Box::new(m20261129_000012_told::Migration),
            Box::new(m20261129_000013_lists::Migration),
        ];
        all.into_iter().map(|migration| -> Box<dyn MigrationTrait> { Box::new(Whole(migration)) }).collect()
    }
}

/// A migration that is done whole or not at all, on SQLite as well: one that dies in the middle would never be done, for
/// its first half is there.
struct Whole(Box<dyn MigrationTrait>);

impl MigrationName for Whole {
    fn name(&self) -> &str {
        self.0.name()
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Whole {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        self.0.up(manager).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        self.0.down(manager).await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
