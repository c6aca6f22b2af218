//! What lists are read by: each filter of each list has an index that begins with what it names and ends with the time,
//! newest last. A gateway of the program before goes on beside it, and needs none of them.
//!
//! One is exchanged: `deliveries_age` had the time alone, and PostgreSQL liked to read lists by it, past everybody else's
//! deliveries. What looks for old ones that have ended, in this program and in the one before, is served by one that holds
//! those alone.
//!
//! Each is as narrow as will do. Where nothing else could be read in its place, the last word of the order, the id, is
//! left out: few rows share a millisecond. Where another index has the order, too, and a planner would weigh one
//! against the other, the order is whole.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::DbBackend;

#[derive(DeriveMigrationName)]
pub struct Migration;

/// Which rows an index holds.
#[derive(Clone, Copy)]
enum Only {
    All,
    /// Payments whose order number is free again. The others have `payments_order`.
    FreeOrders,
    Without(&'static str),
    With(&'static str),
}

struct New {
    name: &'static str,
    table: &'static str,
    columns: &'static [&'static str],
    only: Only,
}

const INDEXES: &[New] = &[
    New {
        name: "payments_status",
        table: "payments",
        columns: &["merchant_id", "livemode", "status", "created_at", "id"],
        only: Only::All,
    },
    New {
        name: "payments_order_ended",
        table: "payments",
        columns: &["merchant_id", "livemode", "order_id", "created_at", "id"],
        only: Only::FreeOrders,
    },
    New {
        name: "refunds_list",
        table: "refunds",
        columns: &["merchant_id", "livemode", "created_at"],
        only: Only::All,
    },
    New {
        name: "events_type",
        table: "events",
        columns: &["merchant_id", "livemode", "type", "created_at", "id"],
        only: Only::All,
    },
    New {
        name: "deliveries_status",
        table: "deliveries",
        columns: &["merchant_id", "livemode", "status", "created_at", "id"],
        only: Only::All,
    },
    New {
        name: "deliveries_endpoint_status",
        table: "deliveries",
        columns: &["endpoint_id", "status", "created_at", "id"],
        only: Only::With("endpoint_id"),
    },
    New { name: "deliveries_old", table: "deliveries", columns: &["created_at"], only: Only::Without("next_try_at") },
    // An account has one owner. What is asked of an owner's whole ledger is asked of each of its accounts.
    New {
        name: "ledger_entries_debit",
        table: "ledger_entries",
        columns: &["account_id", "debit", "at"],
        only: Only::All,
    },
    New {
        name: "ledger_entries_credit",
        table: "ledger_entries",
        columns: &["account_id", "credit", "at"],
        only: Only::All,
    },
    // The work list is written rarely.
    New {
        name: "operations_waiting",
        table: "operations",
        columns: &["merchant_id", "livemode", "created_at", "id"],
        only: Only::Without("resolved_at"),
    },
    New {
        name: "operations_ended",
        table: "operations",
        columns: &["merchant_id", "livemode", "created_at", "id"],
        only: Only::With("resolved_at"),
    },
    New {
        name: "operations_kind_waiting",
        table: "operations",
        columns: &["merchant_id", "livemode", "kind", "created_at", "id"],
        only: Only::Without("resolved_at"),
    },
    New {
        name: "operations_kind_ended",
        table: "operations",
        columns: &["merchant_id", "livemode", "kind", "created_at", "id"],
        only: Only::With("resolved_at"),
    },
];

/// What is exchanged.
const AGE: &str = "deliveries_age";
/// All tables at once, or none of them: it gives up soon and is tried again (see the gateway's `store`), and waits for nobody
/// once it has them.
const LOCKS: &str = "\
    SET LOCAL lock_timeout = '250ms';\
    LOCK TABLE payments, refunds, ledger_entries, events, operations IN SHARE ROW EXCLUSIVE MODE;\
    LOCK TABLE deliveries IN ACCESS EXCLUSIVE MODE;";

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        if manager.get_database_backend() == DbBackend::Postgres {
            manager.get_connection().execute_unprepared(LOCKS).await?;
        }
        for new in INDEXES {
            manager.create_index(new.index()).await?;
        }
        manager.drop_index(Index::drop().name(AGE).table("deliveries").to_owned()).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let age = Index::create().name(AGE).table("deliveries").col("created_at").to_owned();
        manager.create_index(age).await?;
        for new in INDEXES {
            manager.drop_index(Index::drop().name(new.name).table(new.table).to_owned()).await?;
        }
        Ok(())
    }
}

impl New {
    fn index(&self) -> IndexCreateStatement {
        let mut index = Index::create().name(self.name).table(self.table).to_owned();
        for column in self.columns {
            index.col(*column);
        }
        match self.only {
            Only::All => {}
            Only::FreeOrders => {
                index.cond_where(Expr::col("status").is_in(["failed", "canceled", "expired"]));
            }
            Only::Without(column) => {
                index.cond_where(Expr::col(column).is_null());
            }
            Only::With(column) => {
                index.cond_where(Expr::col(column).is_not_null());
            }
        }
        index
    }
}
