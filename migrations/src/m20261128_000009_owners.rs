//! A merchant in a mode owns what is stored: refunds, entries of the work list and routings get their mode, and every
//! unique index, key and list takes it.
//!
//! A gateway of the version before may go on working on a PostgreSQL that this has migrated, for the length of a rolling
//! restart. It writes rows without the new columns, and triggers fill them in. It claims idempotency keys by the primary
//! key, which therefore stays: the mode is part of the stored operation instead (see `store/idempotency.rs`). SQLite has
//! one gateway, the one that migrates: nothing is filled in there.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::boolean;
use sea_orm_migration::sea_orm::DbBackend;

#[derive(DeriveMigrationName)]
pub struct Migration;

/// Tables that know their merchant, and not yet the mode.
const WITHOUT_MODE: [&str; 3] = ["refunds", "operations", "routing"];

/// All that this takes, before anything else, in the order in which gateways take it in their transactions. Whoever reads
/// takes it in any order, and an index that goes holds up reading, too: so this does not wait long for what somebody else
/// has who may be waiting for this. It gives up and is tried again (see the gateway's `store`); once it has all, it waits
/// for nobody.
const LOCKS: &str = "\
    SET LOCAL lock_timeout = '250ms';\
    LOCK TABLE idempotency_keys IN SHARE ROW EXCLUSIVE MODE;\
    LOCK TABLE payments, refunds, ledger_entries, deliveries, events, operations, accounts, routing \
    IN ACCESS EXCLUSIVE MODE;";

/// Whether the payment, attempt, refund or account that an entry of the work list is about is live; null where it is
/// about none of them. No id names two things.
const SUBJECT_IS_LIVE: &str = "COALESCE(\
    (SELECT p.livemode FROM payments p WHERE p.id = {row}.subject_id),\
    (SELECT p.livemode FROM attempts a JOIN payments p ON p.id = a.payment_id WHERE a.id = {row}.subject_id),\
    (SELECT p.livemode FROM refunds r JOIN payments p ON p.id = r.payment_id WHERE r.id = {row}.subject_id),\
    (SELECT a.livemode FROM accounts a WHERE a.id = {row}.subject_id),\
    (SELECT e.livemode FROM webhook_endpoints e WHERE e.id = {row}.subject_id))";

/// Whether a merchant is anybody in live mode, or in test mode: has an account or a key there.
const HAS_MODE: &str = "(EXISTS (SELECT 1 FROM accounts a WHERE a.merchant_id = {row}.merchant_id AND a.livemode = {mode})\
    OR EXISTS (SELECT 1 FROM api_keys k WHERE k.merchant_id = {row}.merchant_id AND k.livemode = {mode}))";

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    /// On SQLite, too: whole or not at all, whatever dies meanwhile.
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let is_postgres = manager.get_database_backend() == DbBackend::Postgres;
        if is_postgres {
            run(manager, LOCKS).await?;
        }
        columns(manager, is_postgres).await?;
        fill(manager).await?;
        if is_postgres {
            triggers(manager).await?;
            for table in WITHOUT_MODE {
                run(manager, &format!("ALTER TABLE {table} ALTER COLUMN livemode SET NOT NULL")).await?;
            }
        }
        for index in INDEXES {
            manager.drop_index(Index::drop().name(index.name).table(index.table).to_owned()).await?;
            index.create(manager, index.columns).await?;
        }
        copy_routings(manager).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let is_postgres = manager.get_database_backend() == DbBackend::Postgres;
        // Of a merchant's two routings the live one stays; numbers that both modes have used cannot be one again.
        let copies = format!("DELETE FROM routing WHERE NOT livemode AND {}", has_mode("routing", true));
        run(manager, &copies).await?;
        run(manager, "UPDATE idempotency_keys SET operation = substr(operation, 6) WHERE operation LIKE 'test:%'")
            .await?;
        for index in INDEXES {
            manager.drop_index(Index::drop().name(index.name).table(index.table).to_owned()).await?;
            index.create(manager, index.before).await?;
        }
        if is_postgres {
            run(manager, "DROP TRIGGER idempotency_keys_of_test ON idempotency_keys").await?;
            for table in WITHOUT_MODE {
                run(manager, &format!("DROP TRIGGER {table}_mode ON {table}")).await?;
            }
            for function in ["interlock_key_of_test", "interlock_mode_of_row"] {
                run(manager, &format!("DROP FUNCTION {function}()")).await?;
            }
        }
        for table in WITHOUT_MODE {
            manager.alter_table(Table::alter().table(table).drop_column("livemode").to_owned()).await?;
        }
        Ok(())
    }
}

async fn run(manager: &SchemaManager<'_>, sql: &str) -> Result<(), DbErr> {
    manager.get_connection().execute_unprepared(sql).await.map(|_| ())
}

fn has_mode(row: &str, live: bool) -> String {
    HAS_MODE.replace("{row}", row).replace("{mode}", if live { "TRUE" } else { "FALSE" })
}

/// Without a default on PostgreSQL: a row that comes without its mode is noticed, and filled in, by that.
async fn columns(manager: &SchemaManager<'_>, is_postgres: bool) -> Result<(), DbErr> {
    for table in WITHOUT_MODE {
        let mut column = match is_postgres {
            true => ColumnDef::new("livemode").boolean().null().to_owned(),
            false => boolean("livemode").default(false).to_owned(),
        };
        manager.alter_table(Table::alter().table(table).add_column(&mut column).to_owned()).await?;
    }
    Ok(())
}

/// The mode of the rows that are there. What is about no payment and no account was about the merchant: as live as it is.
async fn fill(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    let subject = SUBJECT_IS_LIVE.replace("{row}", "operations");
    for sql in [
        "UPDATE refunds SET livemode = (SELECT p.livemode FROM payments p WHERE p.id = refunds.payment_id)".to_owned(),
        format!("UPDATE operations SET livemode = COALESCE({subject}, {})", has_mode("operations", true)),
        format!("UPDATE routing SET livemode = {}", has_mode("routing", true)),
        // A test payment's key is no live payment's: its name says so from now on.
        "UPDATE idempotency_keys SET operation = 'test:' || operation WHERE EXISTS \
         (SELECT 1 FROM payments p WHERE p.id = idempotency_keys.payment_id AND NOT p.livemode)"
            .to_owned(),
    ] {
        run(manager, &sql).await?;
    }
    Ok(())
}

/// A merchant that is somebody in both modes goes on in each with the rules that it had, all versions of them. Accounts of
/// the other mode that they name are no candidates, as before. In the order of the versions: the newest has the largest
/// number.
async fn copy_routings(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    let columns = "merchant_id, version, rules, changed_by, changed_at, restored_from";
    let copy = format!(
        "INSERT INTO routing (livemode, {columns}) SELECT FALSE, {columns} FROM routing WHERE livemode AND {} ORDER BY seq",
        has_mode("routing", false)
    );
    run(manager, &copy).await
}

async fn triggers(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    let functions = format!(
        "CREATE FUNCTION interlock_mode_of_row() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF NEW.livemode IS NOT NULL THEN
                RETURN NEW;
            END IF;
            IF TG_TABLE_NAME = 'refunds' THEN
                SELECT p.livemode INTO NEW.livemode FROM payments p WHERE p.id = NEW.payment_id;
            ELSIF TG_TABLE_NAME = 'operations' THEN
                NEW.livemode := COALESCE({subject}, {live});
            ELSE
                NEW.livemode := {live};
            END IF;
            RETURN NEW;
        END $$;
        CREATE FUNCTION interlock_key_of_test() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF EXISTS (SELECT 1 FROM idempotency_keys k JOIN payments p ON p.id = k.payment_id
                WHERE k.merchant_id = NEW.merchant_id AND k.operation = substr(NEW.operation, 6) AND k.key = NEW.key
                AND NOT p.livemode)
            THEN
                RETURN NULL;
            END IF;
            RETURN NEW;
        END $$;
        CREATE TRIGGER idempotency_keys_of_test BEFORE INSERT ON idempotency_keys
            FOR EACH ROW WHEN (NEW.operation LIKE 'test:%') EXECUTE FUNCTION interlock_key_of_test();",
        subject = SUBJECT_IS_LIVE.replace("{row}", "NEW"),
        live = has_mode("NEW", true),
    );
    run(manager, &functions).await?;
    for table in WITHOUT_MODE {
        let trigger = format!(
            "CREATE TRIGGER {table}_mode BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION interlock_mode_of_row()"
        );
        run(manager, &trigger).await?;
    }
    Ok(())
}

/// An index that takes the mode from now on.
struct Changed {
    name: &'static str,
    table: &'static str,
    before: &'static [&'static str],
    columns: &'static [&'static str],
    unique: bool,
    only: Only,
}

/// Which rows an index holds.
#[derive(Clone, Copy)]
enum Only {
    All,
    HoldingOrders,
    Where(&'static str),
    WithoutEnd(&'static str),
}

const INDEXES: &[Changed] = &[
    Changed {
        name: "payments_order",
        table: "payments",
        before: &["merchant_id", "order_id"],
        columns: &["merchant_id", "livemode", "order_id"],
        unique: true,
        only: Only::HoldingOrders,
    },
    Changed {
        name: "payments_list",
        table: "payments",
        before: &["merchant_id", "created_at", "id"],
        columns: &["merchant_id", "livemode", "created_at", "id"],
        unique: false,
        only: Only::All,
    },
    Changed {
        name: "payments_parked",
        table: "payments",
        before: &["merchant_id", "flow", "parked_at"],
        columns: &["merchant_id", "livemode", "flow", "parked_at"],
        unique: false,
        only: Only::Where("parked_at"),
    },
    Changed {
        name: "refunds_merchant_no",
        table: "refunds",
        before: &["merchant_id", "merchant_refund_no"],
        columns: &["merchant_id", "livemode", "merchant_refund_no"],
        unique: true,
        only: Only::All,
    },
    Changed {
        name: "ledger_entries_list",
        table: "ledger_entries",
        before: &["merchant_id", "at", "payment_id", "seq"],
        columns: &["merchant_id", "livemode", "at", "payment_id", "seq"],
        unique: false,
        only: Only::All,
    },
    Changed {
        name: "deliveries_list",
        table: "deliveries",
        before: &["merchant_id", "created_at", "id"],
        columns: &["merchant_id", "livemode", "created_at", "id"],
        unique: false,
        only: Only::All,
    },
    Changed {
        name: "deliveries_waiting",
        table: "deliveries",
        before: &["created_at"],
        columns: &["livemode", "created_at"],
        unique: false,
        only: Only::Where("next_try_at"),
    },
    Changed {
        name: "events_list",
        table: "events",
        before: &["merchant_id", "created_at", "id"],
        columns: &["merchant_id", "livemode", "created_at", "id"],
        unique: false,
        only: Only::All,
    },
    Changed {
        name: "operations_open",
        table: "operations",
        before: &["kind", "subject_id"],
        columns: &["merchant_id", "livemode", "kind", "subject_id"],
        unique: true,
        only: Only::WithoutEnd("resolved_at"),
    },
    Changed {
        name: "operations_list",
        table: "operations",
        before: &["merchant_id", "created_at", "id"],
        columns: &["merchant_id", "livemode", "created_at", "id"],
        unique: false,
        only: Only::All,
    },
    Changed {
        name: "accounts_merchant_provider_identity",
        table: "accounts",
        before: &["merchant_id", "provider", "identity"],
        columns: &["merchant_id", "livemode", "provider", "identity"],
        unique: true,
        only: Only::All,
    },
    Changed {
        name: "routing_merchant_version",
        table: "routing",
        before: &["merchant_id", "version"],
        columns: &["merchant_id", "livemode", "version"],
        unique: true,
        only: Only::All,
    },
];

impl Changed {
    async fn create(&self, manager: &SchemaManager<'_>, columns: &[&'static str]) -> Result<(), DbErr> {
        let mut index = Index::create().name(self.name).table(self.table).to_owned();
        for column in columns {
            index.col(*column);
        }
        if self.unique {
            index.unique();
        }
        match self.only {
            Only::All => {}
            Only::HoldingOrders => {
                let holding = ["created", "requires_action", "processing", "succeeded"];
                index.cond_where(Expr::col("status").is_in(holding));
            }
            Only::Where(column) => {
                index.cond_where(Expr::col(column).is_not_null());
            }
            Only::WithoutEnd(column) => {
                index.cond_where(Expr::col(column).is_null());
            }
        }
        manager.create_index(index).await
    }
}
