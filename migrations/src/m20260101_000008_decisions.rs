//! What people say on entries of the work list, and how each entry ended.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{big_integer, string, string_null, text, text_null};

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // The step that waits for a second person, and what ended the entry: an action, or `by_itself`.
        for column in [string_null("proposal_id"), string_null("resolution")] {
            manager.alter_table(Table::alter().table("operations").add_column(column).to_owned()).await?;
        }
        manager
            .create_index(
                Index::create()
                    .name("operations_list")
                    .table("operations")
                    .col("merchant_id")
                    .col("created_at")
                    .col("id")
                    .to_owned(),
            )
            .await?;
        manager
            .create_table(
                Table::create()
                    .table("operation_steps")
                    .col(string("id").primary_key())
                    .col(string("operation_id"))
                    .col(string("kind"))
                    .col(string("action"))
                    .col(text("evidence"))
                    .col(text_null("note"))
                    .col(string("key_name"))
                    .col(big_integer("at"))
                    .foreign_key(ForeignKey::create().from("operation_steps", "operation_id").to("operations", "id"))
                    .to_owned(),
            )
            .await?;
        manager
            .create_index(
                Index::create()
                    .name("operation_steps_operation")
                    .table("operation_steps")
                    .col("operation_id")
                    .col("at")
                    .to_owned(),
            )
            .await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table("operation_steps").to_owned()).await?;
        manager.drop_index(Index::drop().name("operations_list").table("operations").to_owned()).await?;
        for column in ["resolution", "proposal_id"] {
            manager.alter_table(Table::alter().table("operations").drop_column(column).to_owned()).await?;
        }
        Ok(())
    }
}
