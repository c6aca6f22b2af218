//! Table `routing`: merchants’ routing rules, every version.

use sea_orm::entity::prelude::*;

use crate::domain::id::MerchantId;

/// One row.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "routing")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub seq: i32,
    pub merchant_id: MerchantId,
    pub livemode: bool,
    pub version: i32,
    pub rules: Json,
    pub changed_by: String,
    pub changed_at: i64,
    pub restored_from: Option<i32>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
