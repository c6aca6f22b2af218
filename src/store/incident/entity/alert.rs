//! Table `alerts`: what one receiver has to be told of one change of one incident; the row is the
//! job.

use sea_orm::entity::prelude::*;

/// One row.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "alerts")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    pub incident_id: String,
    pub receiver: String,
    pub change: String,
    pub status: String,
    pub tries: i32,
    pub fence: i32,
    pub created_at: i64,
    pub next_try_at: Option<i64>,
    pub sent_at: Option<i64>,
    pub last_end: Option<String>,
    pub last_answer: Option<String>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
