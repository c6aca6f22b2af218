//! How merchants are told: their endpoints, and what became of each event at each of them.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{
    big_integer, big_integer_null, boolean, integer, integer_null, string, string_null, text, text_null, var_binary,
    var_binary_null,
};

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        events(manager).await?;
        endpoints(manager).await?;
        deliveries(manager).await?;
        delivery_tries(manager).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in ["delivery_tries", "deliveries", "notify_secrets", "webhook_endpoints"] {
            manager.drop_table(Table::drop().table(table).to_owned()).await?;
        }
        for index in ["events_fan_out", "events_list"] {
            manager.drop_index(Index::drop().name(index).table("events").to_owned()).await?;
        }
        for column in ["fan_out_at", "livemode"] {
            manager.alter_table(Table::alter().table("events").drop_column(column).to_owned()).await?;
        }
        Ok(())
    }
}

/// An event is its own job until its deliveries are made. Events from before nobody waits for.
async fn events(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    for column in [boolean("livemode").default(false).to_owned(), big_integer_null("fan_out_at")] {
        manager.alter_table(Table::alter().table("events").add_column(column).to_owned()).await?;
    }
    manager
        .create_index(
            Index::create()
                .name("events_fan_out")
                .table("events")
                .col("fan_out_at")
                .cond_where(Expr::col("fan_out_at").is_not_null())
                .to_owned(),
        )
        .await?;
    let list =
        Index::create().name("events_list").table("events").col("merchant_id").col("created_at").col("id").to_owned();
    manager.create_index(list).await
}

async fn endpoints(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    manager
        .create_table(
            Table::create()
                .table("webhook_endpoints")
                .col(string("id").primary_key())
                .col(string("merchant_id"))
                .col(text("url"))
                // Kinds of events, separated by blanks; none: all of them.
                .col(text("events"))
                .col(string("mode"))
                .col(text("description"))
                .col(boolean("livemode"))
                // Null: it is enabled.
                .col(string_null("disabled_reason"))
                .col(var_binary("secret", 256))
                .col(var_binary_null("old_secret", 256))
                .col(big_integer_null("old_secret_until"))
                .col(big_integer_null("failing_since"))
                .col(integer("version"))
                .col(big_integer("created_at"))
                .foreign_key(ForeignKey::create().from("webhook_endpoints", "merchant_id").to("merchants", "id"))
                .to_owned(),
        )
        .await?;
    let of_merchant =
        Index::create().name("webhook_endpoints_list").table("webhook_endpoints").col("merchant_id").to_owned();
    manager.create_index(of_merchant).await?;
    manager
        .create_table(
            Table::create()
                .table("notify_secrets")
                .col(string("merchant_id"))
                .col(boolean("livemode"))
                .col(var_binary("secret", 256))
                .col(var_binary_null("old_secret", 256))
                .col(big_integer_null("old_secret_until"))
                .col(integer("version"))
                .col(big_integer("created_at"))
                .primary_key(Index::create().col("merchant_id").col("livemode"))
                .to_owned(),
        )
        .await
}

async fn deliveries(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    manager
        .create_table(
            Table::create()
                .table("deliveries")
                // Made of the event's id and the endpoint's: an event has one delivery to an endpoint, ever.
                .col(string("id").primary_key())
                .col(string("event_id"))
                .col(string("merchant_id"))
                .col(string("payment_id"))
                .col(boolean("livemode"))
                // Null: to the payment's own notify_url, which is then in `url`.
                .col(string_null("endpoint_id"))
                .col(text_null("url"))
                // What shares a receiver's patience: the endpoint, or the merchant and the origin of the notify_url.
                .col(text("lane"))
                .col(string("status"))
                .col(integer("tries"))
                .col(integer("fence"))
                .col(big_integer_null("next_try_at"))
                .col(big_integer("created_at"))
                .col(big_integer_null("delivered_at"))
                .col(big_integer_null("last_try_at"))
                .col(string_null("last_end"))
                .col(integer_null("last_status"))
                .col(big_integer_null("last_latency_ms"))
                .col(text_null("last_answer"))
                .to_owned(),
        )
        .await?;
    manager
        .create_index(
            Index::create()
                .name("deliveries_due")
                .table("deliveries")
                .col("lane")
                .col("next_try_at")
                .cond_where(Expr::col("next_try_at").is_not_null())
                .to_owned(),
        )
        .await?;
    manager
        .create_index(
            Index::create()
                .name("deliveries_waiting")
                .table("deliveries")
                .col("created_at")
                .cond_where(Expr::col("next_try_at").is_not_null())
                .to_owned(),
        )
        .await?;
    for (name, columns) in [
        ("deliveries_list", ["merchant_id", "created_at", "id"].as_slice()),
        ("deliveries_payment", &["payment_id"]),
        ("deliveries_endpoint", &["endpoint_id", "created_at"]),
        ("deliveries_age", &["created_at"]),
    ] {
        let mut index = Index::create().name(name).table("deliveries").to_owned();
        for column in columns {
            index.col(*column);
        }
        manager.create_index(index).await?;
    }
    Ok(())
}

async fn delivery_tries(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    manager
        .create_table(
            Table::create()
                .table("delivery_tries")
                .col(string("delivery_id"))
                .col(integer("fence"))
                .col(big_integer("tried_at"))
                .col(string("end"))
                .col(integer_null("status"))
                .col(big_integer("latency_ms"))
                .col(text_null("answer"))
                .primary_key(Index::create().col("delivery_id").col("fence"))
                .to_owned(),
        )
        .await?;
    let age = Index::create().name("delivery_tries_age").table("delivery_tries").col("tried_at").to_owned();
    manager.create_index(age).await
}
