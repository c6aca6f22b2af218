//! Table `incidents`: outages that people are told of.

use sea_orm::entity::prelude::*;

/// One row.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "incidents")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    pub subject: String,
    pub cause: String,
    pub severity: String,
    pub first_severity: String,
    pub phase: String,
    pub detail: Json,
    pub beats: i64,
    pub version: i32,
    pub reminders: i32,
    pub reminded_at: i64,
    pub began_at: i64,
    pub opened_at: i64,
    pub raised_at: Option<i64>,
    pub closed_at: Option<i64>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
