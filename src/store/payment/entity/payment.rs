//! Table `payments`: what merchants asked for.

use sea_orm::entity::prelude::*;

use crate::domain::id::{MerchantId, PaymentId};

/// One row.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "payments")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: PaymentId,
    pub merchant_id: MerchantId,
    pub order_id: String,
    pub amount: i64,
    pub currency: String,
    pub description: String,
    pub flow: String,
    pub providers: String,
    pub status: String,
    pub failure: Option<Json>,
    pub return_url: Option<String>,
    pub notify_url: Option<String>,
    pub client_ip: Option<String>,
    pub store: Option<Json>,
    pub metadata: Json,
    pub livemode: bool,
    pub round: i32,
    pub version: i64,
    pub resume_at: Option<i64>,
    pub parked_at: Option<i64>,
    pub next_check_at: Option<i64>,
    pub lease_until: Option<i64>,
    pub cancel_requested_at: Option<i64>,
    pub paid_at: Option<i64>,
    pub created_at: i64,
    pub expires_at: i64,
    pub ledger_entries: Option<i32>,
    pub ledger_hash: Option<String>,
    pub urgency: i16,
    pub due_provider: String,
    pub scheduled_at: Option<i64>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
