//! Interlock's tables, the same for SQLite and PostgreSQL. A migration that has been released is never edited:
//! a change is a new one.
//!
//! Times are milliseconds since 1970, UTC; amounts are fen; both are 64-bit integers on both databases.

use sea_orm_migration::MigrationTrait;
pub use sea_orm_migration::MigratorTrait;

mod m20260101_000001_merchants;
mod m20260101_000002_payments;
mod m20260101_000003_webhooks;
mod m20260101_000004_routing;
mod m20260101_000005_waiting;
mod m20260101_000006_incidents;
mod m20260101_000007_ledger;
mod m20260101_000008_decisions;

/// All migrations, in order.
#[derive(Debug)]
pub struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m20260101_000001_merchants::Migration),
            Box::new(m20260101_000002_payments::Migration),
            Box::new(m20260101_000003_webhooks::Migration),
            Box::new(m20260101_000004_routing::Migration),
            Box::new(m20260101_000005_waiting::Migration),
            Box::new(m20260101_000006_incidents::Migration),
            Box::new(m20260101_000007_ledger::Migration),
            Box::new(m20260101_000008_decisions::Migration),
        ]
    }
}
