//! Who uses the installation: merchants, their API keys, their accounts at providers, their routing.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{
    big_integer, big_integer_null, boolean, integer, json_binary, pk_auto, string, string_null, text, var_binary,
};

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        merchants(manager).await?;
        accounts(manager).await?;
        routing(manager).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in ["routing", "accounts", "api_keys", "merchants", "installation"] {
            manager.drop_table(Table::drop().table(table).to_owned()).await?;
        }
        Ok(())
    }
}

async fn merchants(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    manager
        .create_table(
            Table::create().table("installation").col(string("name").primary_key()).col(text("value")).to_owned(),
        )
        .await?;
    manager
        .create_table(
            Table::create()
                .table("merchants")
                .col(string("id").primary_key())
                .col(string("name").unique_key())
                .col(big_integer("created_at"))
                .to_owned(),
        )
        .await?;
    manager
        .create_table(
            Table::create()
                .table("api_keys")
                .col(string("id").primary_key())
                .col(string("merchant_id"))
                .col(string("digest").unique_key())
                .col(string("scopes"))
                .col(boolean("livemode"))
                .col(big_integer("created_at"))
                .col(big_integer_null("revoked_at"))
                .foreign_key(ForeignKey::create().from("api_keys", "merchant_id").to("merchants", "id"))
                .to_owned(),
        )
        .await
}

async fn accounts(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    manager
        .create_table(
            Table::create()
                .table("accounts")
                .col(string("id").primary_key())
                .col(string("merchant_id"))
                .col(string("provider"))
                .col(string("identity"))
                .col(string("name"))
                .col(boolean("disabled"))
                .col(integer("fee_bps"))
                .col(var_binary("credentials", 65536))
                .col(boolean("livemode"))
                .col(big_integer_null("set_aside_until"))
                .col(string_null("set_aside_reason"))
                .col(big_integer("created_at"))
                .foreign_key(ForeignKey::create().from("accounts", "merchant_id").to("merchants", "id"))
                .to_owned(),
        )
        .await?;
    manager
        .create_index(
            Index::create()
                .name("accounts_merchant_provider_identity")
                .table("accounts")
                .col("merchant_id")
                .col("provider")
                .col("identity")
                .unique()
                .to_owned(),
        )
        .await
}

async fn routing(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    manager
        .create_table(
            Table::create()
                .table("routing")
                .col(pk_auto("seq"))
                .col(string("merchant_id"))
                .col(integer("version"))
                .col(json_binary("rules"))
                .col(string("changed_by"))
                .col(big_integer("changed_at"))
                .foreign_key(ForeignKey::create().from("routing", "merchant_id").to("merchants", "id"))
                .to_owned(),
        )
        .await?;
    // One row per version: two people who change version 3 at once cannot both make version 4.
    manager
        .create_index(
            Index::create()
                .name("routing_merchant_version")
                .table("routing")
                .col("merchant_id")
                .col("version")
                .unique()
                .to_owned(),
        )
        .await
}
