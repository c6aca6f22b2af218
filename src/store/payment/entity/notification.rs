//! Table `notifications`: the inbox of genuine notifications.

use sea_orm::entity::prelude::*;

use crate::domain::id::{AccountId, PaymentId};

/// One row.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "notifications")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub account_id: AccountId,
    #[sea_orm(primary_key, auto_increment = false)]
    pub notification_id: String,
    pub verdict: String,
    pub payment_id: Option<PaymentId>,
    pub body: Vec<u8>,
    pub received_at: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
