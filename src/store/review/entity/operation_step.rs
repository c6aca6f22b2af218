//! Table `operation_steps`: what people said on entries of the work list.

use sea_orm::entity::prelude::*;

use crate::domain::id::ReviewId;

/// One row.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "operation_steps")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    pub operation_id: ReviewId,
    pub kind: String,
    pub action: String,
    pub evidence: String,
    pub note: Option<String>,
    pub key_name: String,
    pub at: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
