//! Table `accounts`: merchants’ contracts with providers, their credentials sealed.

use sea_orm::entity::prelude::*;

use crate::domain::id::{AccountId, MerchantId};

/// One row.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "accounts")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: AccountId,
    pub merchant_id: MerchantId,
    pub provider: String,
    pub identity: String,
    pub name: String,
    pub disabled: bool,
    pub fee_bps: i32,
    pub credentials: Vec<u8>,
    pub livemode: bool,
    pub set_aside_until: Option<i64>,
    pub set_aside_reason: Option<String>,
    pub created_at: i64,
    pub terms: Option<Json>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
