//! Table `idempotency_keys`: which request made what, and what it was answered.

use sea_orm::entity::prelude::*;

use crate::domain::id::{AttemptId, MerchantId, PaymentId};

/// One row.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "idempotency_keys")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub merchant_id: MerchantId,
    #[sea_orm(primary_key, auto_increment = false)]
    pub operation: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub key: String,
    pub fingerprint: String,
    pub payment_id: PaymentId,
    pub resource_id: String,
    pub created_at: i64,
    pub answer_status: Option<i32>,
    pub answer_body: Option<Vec<u8>>,
    pub answered_state: Option<String>,
    pub answered_attempt: Option<AttemptId>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
