//! Incidents: outages that people are told of, what happened in each, and who was told.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{
    big_integer, big_integer_null, integer, json_binary, string, string_null, text, text_null,
};

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        incidents(manager).await?;
        entries(manager).await?;
        alerts(manager).await?;
        norms(manager).await?;
        figures(manager).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_index(Index::drop().name("attempts_failed").table("attempts").to_owned()).await?;
        manager.drop_index(Index::drop().name("payments_went_on").table("payments").to_owned()).await?;
        for table in ["incident_norms", "alerts", "incident_entries", "incidents"] {
            manager.drop_table(Table::drop().table(table).to_owned()).await?;
        }
        Ok(())
    }
}

async fn incidents(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    manager
        .create_table(
            Table::create()
                .table("incidents")
                .col(string("id").primary_key())
                // `provider/alipay/qr`, `route/alipay/qr/acct_…`, `redis`, …
                .col(string("subject"))
                .col(string("cause"))
                .col(string("severity"))
                // The severity with which it was opened.
                .col(string("first_severity"))
                .col(string("phase"))
                // What was seen when it opened: counts, ages, limits.
                .col(json_binary("detail"))
                // Counts every sighting of the trouble by any gateway: while it moves, nobody closes.
                .col(big_integer("beats"))
                .col(integer("version"))
                .col(integer("reminders"))
                .col(big_integer("reminded_at"))
                .col(big_integer("began_at"))
                .col(big_integer("opened_at"))
                .col(big_integer_null("raised_at"))
                .col(big_integer_null("closed_at"))
                .to_owned(),
        )
        .await?;
    // Many gateways see the same trouble: it is one incident.
    manager
        .create_index(
            Index::create()
                .name("incidents_open")
                .table("incidents")
                .col("subject")
                .unique()
                .cond_where(Expr::col("closed_at").is_null())
                .to_owned(),
        )
        .await?;
    for (name, column) in [("incidents_list", "opened_at"), ("incidents_closed", "closed_at")] {
        let index = Index::create().name(name).table("incidents").col(column).col("id").to_owned();
        manager.create_index(index).await?;
    }
    Ok(())
}

async fn entries(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    manager
        .create_table(
            Table::create()
                .table("incident_entries")
                .col(string("incident_id"))
                // The version of the incident that it made.
                .col(integer("version"))
                .col(string("kind"))
                .col(big_integer("at"))
                .primary_key(Index::create().col("incident_id").col("version"))
                .foreign_key(ForeignKey::create().from("incident_entries", "incident_id").to("incidents", "id"))
                .to_owned(),
        )
        .await
}

async fn alerts(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    manager
        .create_table(
            Table::create()
                .table("alerts")
                // Made of the incident's id, the change and the receiver: each is told of each change once.
                .col(string("id").primary_key())
                .col(string("incident_id"))
                .col(string("receiver"))
                .col(string("change"))
                .col(string("status"))
                .col(integer("tries"))
                .col(integer("fence"))
                .col(big_integer("created_at"))
                .col(big_integer_null("next_try_at"))
                .col(big_integer_null("sent_at"))
                .col(string_null("last_end"))
                .col(text_null("last_answer"))
                .foreign_key(ForeignKey::create().from("alerts", "incident_id").to("incidents", "id"))
                .to_owned(),
        )
        .await?;
    manager
        .create_index(
            Index::create()
                .name("alerts_due")
                .table("alerts")
                .col("receiver")
                .col("created_at")
                .cond_where(Expr::col("next_try_at").is_not_null())
                .to_owned(),
        )
        .await?;
    for (name, columns) in [("alerts_incident", ["incident_id", "receiver"]), ("alerts_sent", ["receiver", "sent_at"])]
    {
        let mut index = Index::create().name(name).table("alerts").to_owned();
        for column in columns {
            index.col(column);
        }
        manager.create_index(index).await?;
    }
    Ok(())
}

async fn norms(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    // What is usual, learned while all is well.
    manager
        .create_table(
            Table::create()
                .table("incident_norms")
                .col(text("subject").primary_key())
                .col(big_integer("mean_ms"))
                .col(big_integer("spread_ms"))
                .col(big_integer("samples"))
                .col(big_integer("updated_at"))
                .to_owned(),
        )
        .await
}

/// What an incident's figures are read by. Few rows are in either index while all is well.
async fn figures(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    manager
        .create_index(
            Index::create()
                .name("attempts_failed")
                .table("attempts")
                .col("provider")
                .col("started_at")
                .cond_where(Expr::col("outcome").is_in(["not_sent", "refused_provider", "refused_account", "unknown"]))
                .to_owned(),
        )
        .await?;
    manager
        .create_index(
            Index::create()
                .name("payments_went_on")
                .table("payments")
                .col("created_at")
                .cond_where(Expr::col("round").gt(0))
                .to_owned(),
        )
        .await
}
