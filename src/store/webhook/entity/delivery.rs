//! Table `deliveries`: what became of an event at one receiver; the row is the job.

use sea_orm::entity::prelude::*;

use crate::domain::id::{EventId, MerchantId, PaymentId};

/// One row.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "deliveries")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    pub event_id: EventId,
    pub merchant_id: MerchantId,
    pub payment_id: PaymentId,
    pub livemode: bool,
    pub endpoint_id: Option<String>,
    pub url: Option<String>,
    pub lane: String,
    pub status: String,
    pub tries: i32,
    pub fence: i32,
    pub next_try_at: Option<i64>,
    pub created_at: i64,
    pub delivered_at: Option<i64>,
    pub last_try_at: Option<i64>,
    pub last_end: Option<String>,
    pub last_status: Option<i32>,
    pub last_latency_ms: Option<i64>,
    pub last_answer: Option<String>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
