//! Table `ledger_entries`: what moved, each payment's a chain.

use sea_orm::entity::prelude::*;

use crate::domain::id::{AccountId, AttemptId, MerchantId, PaymentId, RefundId};

/// One row.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "ledger_entries")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub payment_id: PaymentId,
    #[sea_orm(primary_key, auto_increment = false)]
    pub seq: i32,
    pub merchant_id: MerchantId,
    pub livemode: bool,
    pub cause: String,
    pub attempt_id: AttemptId,
    pub refund_id: Option<RefundId>,
    pub account_id: AccountId,
    pub debit: String,
    pub credit: String,
    pub amount: i64,
    pub currency: String,
    pub at: i64,
    pub previous: String,
    pub hash: String,
    pub block: Option<i64>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
