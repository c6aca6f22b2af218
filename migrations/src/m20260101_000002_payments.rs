//! Payments and everything that belongs to one. The indexes here are the last line of defence: even code that
//! is wrong cannot write a second live attempt or a second kept one.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{
    big_integer, big_integer_null, boolean, integer, json_binary, json_binary_null, string, string_null, text,
    text_null, var_binary, var_binary_null,
};

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        payments(manager).await?;
        attempts(manager).await?;
        refunds(manager).await?;
        idempotency_keys(manager).await?;
        notifications(manager).await?;
        events(manager).await?;
        operations(manager).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in ["operations", "events", "notifications", "idempotency_keys", "refunds", "attempts", "payments"] {
            manager.drop_table(Table::drop().table(table).to_owned()).await?;
        }
        Ok(())
    }
}

async fn payments(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    manager
        .create_table(
            Table::create()
                .table("payments")
                .col(string("id").primary_key())
                .col(string("merchant_id"))
                .col(string("order_id"))
                .col(big_integer("amount"))
                .col(string("currency"))
                .col(string("description"))
                .col(string("flow"))
                .col(string("providers"))
                .col(string("status"))
                .col(json_binary_null("failure"))
                .col(text_null("return_url"))
                .col(text_null("notify_url"))
                .col(string_null("client_ip"))
                .col(json_binary_null("store"))
                .col(json_binary("metadata"))
                .col(boolean("livemode"))
                .col(integer("round"))
                .col(big_integer("version"))
                .col(big_integer_null("resume_at"))
                .col(big_integer_null("next_check_at"))
                .col(big_integer_null("lease_until"))
                .col(big_integer_null("cancel_requested_at"))
                .col(big_integer_null("paid_at"))
                .col(big_integer("created_at"))
                .col(big_integer("expires_at"))
                .foreign_key(ForeignKey::create().from("payments", "merchant_id").to("merchants", "id"))
                .to_owned(),
        )
        .await?;
    // An order number names one payment, unless that one ended without money.
    manager
        .create_index(
            Index::create()
                .name("payments_order")
                .table("payments")
                .col("merchant_id")
                .col("order_id")
                .unique()
                .cond_where(Expr::col("status").is_in(["created", "requires_action", "processing", "succeeded"]))
                .to_owned(),
        )
        .await?;
    manager
        .create_index(
            Index::create()
                .name("payments_list")
                .table("payments")
                .col("merchant_id")
                .col("created_at")
                .col("id")
                .to_owned(),
        )
        .await?;
    manager
        .create_index(
            Index::create()
                .name("payments_due")
                .table("payments")
                .col("next_check_at")
                .cond_where(Expr::col("next_check_at").is_not_null())
                .to_owned(),
        )
        .await
}

async fn attempts(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    manager
        .create_table(
            Table::create()
                .table("attempts")
                .col(string("id").primary_key())
                .col(string("payment_id"))
                .col(integer("seq"))
                .col(integer("round"))
                .col(string("account_id"))
                .col(string("provider"))
                .col(string("flow"))
                .col(string("status"))
                .col(string_null("disposition"))
                .col(string("provider_order_no").unique_key())
                .col(string_null("provider_transaction_id"))
                .col(string_null("provider_request_id"))
                .col(big_integer("amount"))
                .col(string("currency"))
                .col(big_integer_null("captured"))
                .col(big_integer_null("payer_amount"))
                .col(string_null("payer"))
                .col(big_integer_null("paid_at"))
                .col(string_null("outcome"))
                .col(json_binary_null("failure"))
                .col(json_binary_null("next_action"))
                .col(json_binary("reason"))
                .col(big_integer("started_at"))
                .col(big_integer("call_deadline"))
                .col(big_integer("offer_deadline"))
                .col(big_integer_null("latency_ms"))
                .col(big_integer_null("next_check_at"))
                .col(integer("questions"))
                .col(string_null("reversal"))
                .col(boolean("reversal_in_doubt"))
                .col(big_integer_null("not_found_since"))
                .col(boolean("returning"))
                .foreign_key(ForeignKey::create().from("attempts", "payment_id").to("payments", "id"))
                .foreign_key(ForeignKey::create().from("attempts", "account_id").to("accounts", "id"))
                .to_owned(),
        )
        .await?;
    manager
        .create_index(
            Index::create().name("attempts_seq").table("attempts").col("payment_id").col("seq").unique().to_owned(),
        )
        .await?;
    manager
        .create_index(
            Index::create()
                .name("attempts_one_live")
                .table("attempts")
                .col("payment_id")
                .unique()
                .cond_where(Expr::col("status").is_in(["sending", "unknown", "awaiting_payer", "closing", "reversing"]))
                .to_owned(),
        )
        .await?;
    manager
        .create_index(
            Index::create()
                .name("attempts_one_kept")
                .table("attempts")
                .col("payment_id")
                .unique()
                .cond_where(Expr::col("disposition").eq("kept"))
                .to_owned(),
        )
        .await?;
    manager
        .create_index(
            Index::create().name("attempts_transaction").table("attempts").col("provider_transaction_id").to_owned(),
        )
        .await
}

async fn refunds(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    manager
        .create_table(
            Table::create()
                .table("refunds")
                .col(string("id").primary_key())
                .col(string("payment_id"))
                .col(string("attempt_id"))
                .col(string("merchant_id"))
                .col(string("merchant_refund_no"))
                .col(string("provider_refund_no"))
                // Numbers that the provider has ended without moving money, oldest first, with blanks between them.
                .col(text("earlier_nos"))
                .col(big_integer("amount"))
                .col(string("currency"))
                .col(string("status"))
                .col(string_null("reason"))
                .col(boolean("automatic"))
                .col(json_binary_null("failure"))
                .col(boolean("needs_funds"))
                .col(big_integer("created_at"))
                .col(big_integer_null("completed_at"))
                .col(big_integer_null("txn_time"))
                .col(big_integer_null("sent_at"))
                .col(boolean("in_doubt"))
                .col(big_integer_null("next_check_at"))
                .col(integer("questions"))
                .foreign_key(ForeignKey::create().from("refunds", "payment_id").to("payments", "id"))
                .foreign_key(ForeignKey::create().from("refunds", "attempt_id").to("attempts", "id"))
                .to_owned(),
        )
        .await?;
    manager
        .create_index(
            Index::create()
                .name("refunds_merchant_no")
                .table("refunds")
                .col("merchant_id")
                .col("merchant_refund_no")
                .unique()
                .to_owned(),
        )
        .await?;
    // Ours are unique by themselves; numbers made in a provider's console are unique in one trade.
    manager
        .create_index(
            Index::create()
                .name("refunds_provider_no")
                .table("refunds")
                .col("attempt_id")
                .col("provider_refund_no")
                .unique()
                .to_owned(),
        )
        .await?;
    // Money that came twice goes back by itself, once.
    manager
        .create_index(
            Index::create()
                .name("refunds_one_automatic")
                .table("refunds")
                .col("attempt_id")
                .unique()
                .cond_where(Expr::col("automatic").eq(true).and(Expr::col("status").is_in(["pending", "abnormal"])))
                .to_owned(),
        )
        .await?;
    manager.create_index(Index::create().name("refunds_payment").table("refunds").col("payment_id").to_owned()).await
}

async fn idempotency_keys(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    manager
        .create_table(
            Table::create()
                .table("idempotency_keys")
                .col(string("merchant_id"))
                .col(string("operation"))
                .col(string("key"))
                .col(string("fingerprint"))
                .col(string("payment_id"))
                .col(string("resource_id"))
                .col(big_integer("created_at"))
                // The stored answer, and what it spoke of; all empty while the request runs.
                .col(ColumnDef::new("answer_status").integer().null())
                .col(var_binary_null("answer_body", 262_144))
                .col(string_null("answered_state"))
                .col(string_null("answered_attempt"))
                .primary_key(Index::create().col("merchant_id").col("operation").col("key"))
                .to_owned(),
        )
        .await
}

async fn notifications(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    manager
        .create_table(
            Table::create()
                .table("notifications")
                .col(string("account_id"))
                .col(string("notification_id"))
                .col(string("verdict"))
                .col(string_null("payment_id"))
                .col(var_binary("body", 65536))
                .col(big_integer("received_at"))
                .primary_key(Index::create().col("account_id").col("notification_id"))
                .to_owned(),
        )
        .await
}

async fn events(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    manager
        .create_table(
            Table::create()
                .table("events")
                .col(string("id").primary_key())
                .col(string("merchant_id"))
                .col(string("payment_id"))
                .col(big_integer("version"))
                .col(string("type"))
                .col(json_binary("data"))
                .col(big_integer("created_at"))
                .to_owned(),
        )
        .await?;
    manager
        .create_index(
            Index::create().name("events_payment").table("events").col("payment_id").col("version").to_owned(),
        )
        .await
}

async fn operations(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    manager
        .create_table(
            Table::create()
                .table("operations")
                .col(string("id").primary_key())
                .col(string("merchant_id"))
                .col(string("kind"))
                // What it is about: a payment, attempt, refund or account.
                .col(string("subject_id"))
                .col(text("detail"))
                .col(big_integer("created_at"))
                .col(big_integer_null("resolved_at"))
                .to_owned(),
        )
        .await?;
    // The same trouble stands on the list once, however often it is seen.
    manager
        .create_index(
            Index::create()
                .name("operations_open")
                .table("operations")
                .col("kind")
                .col("subject_id")
                .unique()
                .cond_where(Expr::col("resolved_at").is_null())
                .to_owned(),
        )
        .await
}
