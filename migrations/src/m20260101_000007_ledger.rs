//! The ledger: entries, each payment's a chain of its own, and the blocks that seal them into one chain.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{big_integer, big_integer_null, boolean, integer, integer_null, string, string_null};

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // The end of the payment's chain; null: it was there before the ledger, and is opened by a gateway.
        for column in [integer_null("ledger_entries"), string_null("ledger_hash")] {
            manager.alter_table(Table::alter().table("payments").add_column(column).to_owned()).await?;
        }
        // Without money there is nothing to open.
        let captured = Query::select()
            .expr(Expr::val(1))
            .from("attempts")
            .and_where(Expr::col(("attempts", "payment_id")).equals(("payments", "id")))
            .and_where(Expr::col(("attempts", "captured")).is_not_null())
            .to_owned();
        let begin = Query::update()
            .table("payments")
            .values([("ledger_entries", 0.into()), ("ledger_hash", "".into())])
            .and_where(Expr::exists(captured).not())
            .to_owned();
        manager.exec_stmt(begin).await?;
        manager
            .create_index(
                Index::create()
                    .name("payments_not_in_ledger")
                    .table("payments")
                    .col("created_at")
                    .cond_where(Expr::col("ledger_hash").is_null())
                    .to_owned(),
            )
            .await?;
        entries(manager).await?;
        manager
            .create_table(
                Table::create()
                    .table("ledger_blocks")
                    .col(big_integer("height").primary_key())
                    .col(big_integer("entries"))
                    .col(string("entries_hash"))
                    .col(string("previous"))
                    .col(string("hash"))
                    .col(big_integer("sealed_at"))
                    .to_owned(),
            )
            .await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in ["ledger_blocks", "ledger_entries"] {
            manager.drop_table(Table::drop().table(table).to_owned()).await?;
        }
        manager.drop_index(Index::drop().name("payments_not_in_ledger").table("payments").to_owned()).await?;
        for column in ["ledger_hash", "ledger_entries"] {
            manager.alter_table(Table::alter().table("payments").drop_column(column).to_owned()).await?;
        }
        Ok(())
    }
}

async fn entries(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    manager
        .create_table(
            Table::create()
                .table("ledger_entries")
                .col(string("payment_id"))
                .col(integer("seq"))
                .col(string("merchant_id"))
                .col(boolean("livemode"))
                .col(string("cause"))
                .col(string("attempt_id"))
                .col(string_null("refund_id"))
                .col(string("account_id"))
                .col(string("debit"))
                .col(string("credit"))
                .col(big_integer("amount"))
                .col(string("currency"))
                .col(big_integer("at"))
                .col(string("previous"))
                .col(string("hash"))
                // The block that seals it; null until then.
                .col(big_integer_null("block"))
                .primary_key(Index::create().col("payment_id").col("seq"))
                .foreign_key(ForeignKey::create().from("ledger_entries", "payment_id").to("payments", "id"))
                .to_owned(),
        )
        .await?;
    manager
        .create_index(
            Index::create()
                .name("ledger_entries_list")
                .table("ledger_entries")
                .col("merchant_id")
                .col("at")
                .col("payment_id")
                .col("seq")
                .to_owned(),
        )
        .await?;
    manager
        .create_index(
            Index::create()
                .name("ledger_entries_unsealed")
                .table("ledger_entries")
                .col("at")
                .cond_where(Expr::col("block").is_null())
                .to_owned(),
        )
        .await?;
    manager
        .create_index(
            Index::create()
                .name("ledger_entries_block")
                .table("ledger_entries")
                .col("block")
                .cond_where(Expr::col("block").is_not_null())
                .to_owned(),
        )
        .await
}
