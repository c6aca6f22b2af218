//! Table `webhook_endpoints`: where merchants want to be told, their secrets sealed.

use sea_orm::entity::prelude::*;

use crate::domain::id::MerchantId;

/// One row.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "webhook_endpoints")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    pub merchant_id: MerchantId,
    pub url: String,
    pub events: String,
    pub mode: String,
    pub description: String,
    pub livemode: bool,
    pub disabled_reason: Option<String>,
    pub secret: Vec<u8>,
    pub old_secret: Option<Vec<u8>>,
    pub old_secret_until: Option<i64>,
    pub failing_since: Option<i64>,
    pub version: i32,
    pub created_at: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
