//! API keys get names, say when they were last used, and whose word made them. A gateway of the program before goes on
//! beside it: it neither reads nor writes these columns.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{big_integer_null, string_null};

#[derive(DeriveMigrationName)]
pub struct Migration;

const COLUMNS: [&str; 3] = ["name", "last_used_at", "root"];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // `root` is the name in the history of changes of the key at the beginning of the chain of keys that made this
        // one; none for what an operator made.
        let columns = [string_null("name"), big_integer_null("last_used_at"), string_null("root")];
        for column in columns {
            manager.alter_table(Table::alter().table("api_keys").add_column(column).to_owned()).await?;
        }
        manager
            .create_index(
                Index::create()
                    .name("api_keys_merchant")
                    .table("api_keys")
                    .col("merchant_id")
                    .col("created_at")
                    .col("id")
                    .to_owned(),
            )
            .await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_index(Index::drop().name("api_keys_merchant").table("api_keys").to_owned()).await?;
        for column in COLUMNS {
            manager.alter_table(Table::alter().table("api_keys").drop_column(column).to_owned()).await?;
        }
        Ok(())
    }
}
