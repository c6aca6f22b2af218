//! Table `refunds`: money on its way back.

use sea_orm::entity::prelude::*;

use crate::domain::id::{AttemptId, MerchantId, PaymentId, RefundId, RefundNo};

/// One row.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "refunds")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: RefundId,
    pub payment_id: PaymentId,
    pub attempt_id: AttemptId,
    pub merchant_id: MerchantId,
    pub livemode: bool,
    pub merchant_refund_no: String,
    pub provider_refund_no: RefundNo,
    pub earlier_nos: String,
    pub amount: i64,
    pub currency: String,
    pub status: String,
    pub reason: Option<String>,
    pub automatic: bool,
    pub failure: Option<Json>,
    pub needs_funds: bool,
    pub created_at: i64,
    pub completed_at: Option<i64>,
    pub txn_time: Option<i64>,
    pub sent_at: Option<i64>,
    pub in_doubt: bool,
    pub next_check_at: Option<i64>,
    pub questions: i32,
    pub told_done: bool,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
