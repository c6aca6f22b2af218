//! Table `ledger_blocks`: what seals entries into one chain.

use sea_orm::entity::prelude::*;

/// One row.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "ledger_blocks")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub height: i64,
    pub entries: i64,
    pub entries_hash: String,
    pub previous: String,
    pub hash: String,
    pub sealed_at: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
