//! How urgent it is to look at a payment, whom that will ask, and when its due time was written. A gateway of the program
//! before writes none of them: what stands there is then what stood there before, or the defaults, and only the order
//! in which payments are taken depends on it.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{big_integer_null, small_integer, string};

/// Offers that are awaited.
const USUAL: i16 = 4;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let columns = [
            // 1 is the most urgent.
            small_integer("urgency").default(USUAL).to_owned(),
            string("due_provider").default("").to_owned(),
            // A time that lies ahead: all time was set back since.
            big_integer_null("scheduled_at"),
        ];
        for column in columns {
            manager.alter_table(Table::alter().table("payments").add_column(column).to_owned()).await?;
        }
        manager
            .create_index(
                Index::create()
                    .name("payments_urgent")
                    .table("payments")
                    .col("due_provider")
                    .col("urgency")
                    .col("next_check_at")
                    .cond_where(Expr::col("next_check_at").is_not_null())
                    .to_owned(),
            )
            .await?;
        // Charges in doubt need not wait until they are written next.
        manager
            .get_connection()
            .execute_unprepared(
                "UPDATE payments SET urgency = 1 WHERE next_check_at IS NOT NULL AND id IN \
                 (SELECT payment_id FROM attempts WHERE status IN ('unknown', 'reversing'))",
            )
            .await?;
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_index(Index::drop().name("payments_urgent").table("payments").to_owned()).await?;
        for column in ["scheduled_at", "due_provider", "urgency"] {
            manager.alter_table(Table::alter().table("payments").drop_column(column).to_owned()).await?;
        }
        Ok(())
    }
}
