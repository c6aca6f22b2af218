//! Table `operations`: the list of what needs a person.

use sea_orm::entity::prelude::*;

use crate::domain::id::{MerchantId, ReviewId};

/// One row.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "operations")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: ReviewId,
    pub merchant_id: MerchantId,
    pub livemode: bool,
    pub kind: String,
    pub subject_id: String,
    pub detail: String,
    pub created_at: i64,
    pub resolved_at: Option<i64>,
    pub proposal_id: Option<String>,
    pub resolution: Option<String>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
