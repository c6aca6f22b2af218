//! What waits: payments for a route, attempts for certainty.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::big_integer_null;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // Since when a payment waits for a route; null: it does not.
        manager
            .alter_table(Table::alter().table("payments").add_column(big_integer_null("parked_at")).to_owned())
            .await?;
        manager
            .create_index(
                Index::create()
                    .name("payments_parked")
                    .table("payments")
                    .col("merchant_id")
                    .col("flow")
                    .col("parked_at")
                    .cond_where(Expr::col("parked_at").is_not_null())
                    .to_owned(),
            )
            .await?;
        // Few at any time, and counted all the time.
        manager
            .create_index(
                Index::create()
                    .name("attempts_in_doubt")
                    .table("attempts")
                    .col("provider")
                    .col("started_at")
                    .cond_where(Expr::col("status").is_in([
                        "unknown",
                        "closing",
                        "reversing",
                        "abandoned",
                        "superseded",
                    ]))
                    .to_owned(),
            )
            .await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_index(Index::drop().name("attempts_in_doubt").table("attempts").to_owned()).await?;
        manager.drop_index(Index::drop().name("payments_parked").table("payments").to_owned()).await?;
        manager.alter_table(Table::alter().table("payments").drop_column("parked_at").to_owned()).await
    }
}
