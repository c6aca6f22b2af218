//! Table `api_keys`: digests of API keys; the keys themselves are stored nowhere.

use sea_orm::entity::prelude::*;

use crate::domain::id::MerchantId;

/// One row.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "api_keys")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    pub merchant_id: MerchantId,
    pub digest: String,
    pub scopes: String,
    pub livemode: bool,
    pub created_at: i64,
    pub revoked_at: Option<i64>,
    pub name: Option<String>,
    pub last_used_at: Option<i64>,
    pub root: Option<String>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
