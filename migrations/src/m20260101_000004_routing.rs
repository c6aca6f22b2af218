//! What accounts may be asked to take, and where a routing came from.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{integer_null, json_binary_null};

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // Limits and maintenance windows; null: none.
        add(manager, "accounts", json_binary_null("terms")).await?;
        // The version whose rules a rollback took up again.
        add(manager, "routing", integer_null("restored_from")).await?;
        // What accounts with a daily limit have taken today is summed up all the time.
        manager
            .create_index(
                Index::create()
                    .name("attempts_paid")
                    .table("attempts")
                    .col("account_id")
                    .col("paid_at")
                    .cond_where(Expr::col("paid_at").is_not_null())
                    .to_owned(),
            )
            .await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_index(Index::drop().name("attempts_paid").table("attempts").to_owned()).await?;
        manager.alter_table(Table::alter().table("routing").drop_column("restored_from").to_owned()).await?;
        manager.alter_table(Table::alter().table("accounts").drop_column("terms").to_owned()).await
    }
}

async fn add(manager: &SchemaManager<'_>, table: &'static str, column: ColumnDef) -> Result<(), DbErr> {
    manager.alter_table(Table::alter().table(table).add_column(column).to_owned()).await
}
