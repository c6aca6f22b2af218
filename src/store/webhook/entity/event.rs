//! Table `events`: what merchants are told.

use sea_orm::entity::prelude::*;

use crate::domain::id::{EventId, MerchantId, PaymentId};

/// One row.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "events")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: EventId,
    pub merchant_id: MerchantId,
    pub payment_id: PaymentId,
    pub version: i64,
    pub r#type: String,
    pub data: Json,
    pub created_at: i64,
    pub livemode: bool,
    pub fan_out_at: Option<i64>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
