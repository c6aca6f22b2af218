//! Table `attempts`: one try over one route.

use sea_orm::entity::prelude::*;

use crate::domain::id::{AccountId, AttemptId, OrderNo, PaymentId};

/// One row.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "attempts")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: AttemptId,
    pub payment_id: PaymentId,
    pub seq: i32,
    pub round: i32,
    pub account_id: AccountId,
    pub provider: String,
    pub flow: String,
    pub status: String,
    pub disposition: Option<String>,
    pub provider_order_no: OrderNo,
    pub provider_transaction_id: Option<String>,
    pub provider_request_id: Option<String>,
    pub amount: i64,
    pub currency: String,
    pub captured: Option<i64>,
    pub payer_amount: Option<i64>,
    pub payer: Option<String>,
    pub paid_at: Option<i64>,
    pub outcome: Option<String>,
    pub failure: Option<Json>,
    pub next_action: Option<Json>,
    pub reason: Json,
    pub started_at: i64,
    pub call_deadline: i64,
    pub offer_deadline: i64,
    pub latency_ms: Option<i64>,
    pub next_check_at: Option<i64>,
    pub questions: i32,
    pub reversal: Option<String>,
    pub reversal_in_doubt: bool,
    pub not_found_since: Option<i64>,
    pub returning: bool,
    pub told_paid: bool,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
