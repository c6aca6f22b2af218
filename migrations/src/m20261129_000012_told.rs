//! What a provider has told by itself and does not confirm when it is asked: the two disagree until it does. A gateway of the
//! program before does not know of it, and takes the answer to its next question for the end of the matter, as it always did.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::boolean;

const COLUMNS: [(&str, &str); 2] = [("attempts", "told_paid"), ("refunds", "told_done")];

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for (table, name) in COLUMNS {
            let column = boolean(name).default(false).to_owned();
            manager.alter_table(Table::alter().table(table).add_column(column).to_owned()).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for (table, name) in COLUMNS {
            manager.alter_table(Table::alter().table(table).drop_column(name).to_owned()).await?;
        }
        Ok(())
    }
}
