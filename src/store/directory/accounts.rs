//! Who uses the installation: merchants, API keys, accounts, routing rules. Read rarely and kept in
//! memory by [`crate::directory`]; written by people.

use sea_orm::sea_query::{Expr, OnConflict, Query};
use sea_orm::{
    ActiveModelTrait as _, ColumnTrait as _, EntityTrait as _, IntoActiveModel as _, NotSet,
    QueryFilter as _, QueryOrder as _, QuerySelect as _, Select, SqlErr,
};

use crate::domain::id::{AccountId, MerchantId};
use crate::domain::{AllOwners, Owner, Timestamp};
use crate::store::Error;
use crate::store::Store;
use crate::store::directory::entity::{account, merchant, routing};
use crate::store::installation;

/// An account as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountRow {
    /// `acct_…`.
    pub id: AccountId,
    /// Whose.
    pub owner: Owner,
    /// At which provider.
    pub provider: String,
    /// Who the merchant is there; never changes.
    pub identity: String,
    /// What people call it.
    pub name: String,
    /// Takes no new payments; still resolves, refunds and receives.
    pub disabled: bool,
    /// Basis points of the provider's fee.
    pub fee_bps: i32,
    /// Sealed settings.
    pub credentials: Vec<u8>,
    /// Until then the provider's refusal keeps it out of new payments.
    pub set_aside_until: Option<Timestamp>,
    /// What the provider said.
    pub set_aside_reason: Option<String>,
    /// Its limits and maintenance windows, if it has any.
    pub terms: Option<serde_json::Value>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// An account that is being made.
pub type NewAccount = AccountRow;

/// One version of an owner's routing.
#[derive(Debug, Clone, PartialEq)]
pub struct RoutingRow {
    /// From 1; 0 means that no rule was ever set.
    pub version: i32,
    /// The rules, as they were set.
    pub rules: serde_json::Value,
    /// Which key changed it.
    pub changed_by: String,
    /// When.
    pub changed_at: Timestamp,
    /// The version whose rules these are, when a rollback took them up again.
    pub restored_from: Option<i32>,
}

impl From<routing::Model> for RoutingRow {
    fn from(m: routing::Model) -> Self {
        Self {
            version: m.version,
            rules: m.rules,
            changed_by: m.changed_by,
            changed_at: Timestamp(m.changed_at),
            restored_from: m.restored_from,
        }
    }
}

impl From<account::Model> for AccountRow {
    fn from(m: account::Model) -> Self {
        Self {
            id: m.id,
            owner: Owner::of(m.merchant_id, m.livemode),
            provider: m.provider,
            identity: m.identity,
            name: m.name,
            disabled: m.disabled,
            fee_bps: m.fee_bps,
            credentials: m.credentials,
            set_aside_until: m.set_aside_until.map(Timestamp),
            set_aside_reason: m.set_aside_reason,
            terms: m.terms,
            created_at: Timestamp(m.created_at),
        }
    }
}

impl Store {
    /// A fact about this installation, made now if it was never made. Two gateways that ask
    /// together get the same.
    ///
    /// # Errors
    /// The database's.
    pub async fn installation(&self, name: &str, value_if_new: &str) -> Result<String, Error> {
        let row = installation::Model {
            name: name.to_owned(),
            value: value_if_new.to_owned(),
        };
        installation::Entity::insert(row.into_active_model().reset_all())
            .on_conflict(OnConflict::new().do_nothing().to_owned())
            .exec_without_returning(&self.db)
            .await?;
        let stored = installation::Entity::find_by_id(name).one(&self.db).await?;
        stored
            .map(|row| row.value)
            .ok_or_else(|| Error::Missing(format!("installation {name}")))
    }

    /// A fact about this installation, if it was ever made.
    ///
    /// # Errors
    /// The database's.
    pub async fn installation_fact(&self, name: &str) -> Result<Option<String>, Error> {
        Ok(installation::Entity::find_by_id(name)
            .one(&self.db)
            .await?
            .map(|row| row.value))
    }

    /// Sets a fact about this installation.
    ///
    /// # Errors
    /// The database's.
    pub async fn set_installation(&self, name: &str, value: &str) -> Result<(), Error> {
        let row = installation::Model {
            name: name.to_owned(),
            value: value.to_owned(),
        };
        installation::Entity::insert(row.into_active_model().reset_all())
            .on_conflict(
                OnConflict::column(installation::Column::Name)
                    .update_column(installation::Column::Value)
                    .to_owned(),
            )
            .exec_without_returning(&self.db)
            .await?;
        Ok(())
    }

    /// A merchant's id by name; made under `id` when there is none.
    ///
    /// # Errors
    /// The database's.
    pub async fn merchant(
        &self,
        name: &str,
        id: &MerchantId,
        now: Timestamp,
    ) -> Result<MerchantId, Error> {
        let row = merchant::Model {
            id: id.clone(),
            name: name.to_owned(),
            created_at: now.0,
        };

        merchant::Entity::insert(row.into_active_model().reset_all())
            .on_conflict(OnConflict::new().do_nothing().to_owned())
            .exec_without_returning(&self.db)
            .await?;
        let stored = merchant::Entity::find()
            .filter(merchant::Column::Name.eq(name))
            .one(&self.db)
            .await?;

        stored
            .map(|row| row.id)
            .ok_or_else(|| Error::Missing(format!("merchant {name}")))
    }

    /// Every merchant: id and name.
    ///
    /// # Errors
    /// The database's.
    pub async fn merchants(&self) -> Result<Vec<(MerchantId, String)>, Error> {
        let rows = merchant::Entity::find()
            .order_by_asc(merchant::Column::CreatedAt)
            .all(&self.db)
            .await?;
        Ok(rows.into_iter().map(|row| (row.id, row.name)).collect())
    }

    /// All accounts, oldest first: for the directory, which keeps them apart.
    ///
    /// # Errors
    /// The database's.
    pub async fn accounts(&self, _: AllOwners) -> Result<Vec<AccountRow>, Error> {
        let rows = account::Entity::find()
            .order_by_asc(account::Column::CreatedAt)
            .order_by_asc(account::Column::Id)
            .all(&self.db)
            .await?;
        Ok(rows.into_iter().map(AccountRow::from).collect())
    }

    /// The ids of an owner's accounts.
    ///
    /// # Errors
    /// The database's.
    pub async fn account_ids_of(&self, owner: &Owner) -> Result<Vec<AccountId>, Error> {
        Ok(account::Entity::find()
            .select_only()
            .column(account::Column::Id)
            .filter(account::Column::MerchantId.eq(&owner.merchant))
            .filter(account::Column::Livemode.eq(owner.is_live()))
            .into_tuple()
            .all(&self.db)
            .await?)
    }

    /// An owner's account.
    ///
    /// # Errors
    /// The database's.
    pub async fn account_of(
        &self,
        owner: &Owner,
        id: &AccountId,
    ) -> Result<Option<AccountRow>, Error> {
        let row = account::Entity::find_by_id(id.clone())
            .filter(account::Column::MerchantId.eq(&owner.merchant))
            .filter(account::Column::Livemode.eq(owner.is_live()))
            .one(&self.db)
            .await?;
        Ok(row.map(AccountRow::from))
    }

    /// Stores a new account. `false` when the owner has this identity at this provider already.
    ///
    /// # Errors
    /// The database's.
    pub async fn add_account(&self, new: &NewAccount) -> Result<bool, Error> {
        let row = account::Model {
            id: new.id.clone(),
            merchant_id: new.owner.merchant.clone(),
            provider: new.provider.clone(),
            identity: new.identity.clone(),
            name: new.name.clone(),
            disabled: new.disabled,
            fee_bps: new.fee_bps,
            credentials: new.credentials.clone(),
            livemode: new.owner.is_live(),
            set_aside_until: None,
            set_aside_reason: None,
            created_at: new.created_at.0,
            terms: new.terms.clone(),
        };

        match account::Entity::insert(row.into_active_model().reset_all())
            .exec_without_returning(&self.db)
            .await
        {
            Ok(_) => Ok(true),
            Err(e) if matches!(e.sql_err(), Some(SqlErr::UniqueConstraintViolation(_))) => {
                Ok(false)
            }
            Err(e) => Err(e.into()),
        }
    }

    /// Changes what may change on an account: name, switch, fee, sealed settings, terms. False, and
    /// nothing was changed, when somebody else has changed any of it since `before` was read.
    ///
    /// # Errors
    /// The database's.
    pub async fn change_account(
        &self,
        before: &AccountRow,
        after: &AccountRow,
    ) -> Result<bool, Error> {
        use account::Column as C;

        let terms = match &before.terms {
            Some(terms) => C::Terms.eq(terms.clone()),
            None => C::Terms.is_null(),
        };
        let done = account::Entity::update_many()
            .col_expr(C::Name, Expr::value(after.name.clone()))
            .col_expr(C::Disabled, Expr::value(after.disabled))
            .col_expr(C::FeeBps, Expr::value(after.fee_bps))
            .col_expr(C::Credentials, Expr::value(after.credentials.clone()))
            .col_expr(C::Terms, Expr::value(after.terms.clone()))
            .filter(C::Id.eq(&after.id))
            .filter(C::Name.eq(&before.name))
            .filter(C::Disabled.eq(before.disabled))
            .filter(C::FeeBps.eq(before.fee_bps))
            .filter(C::Credentials.eq(before.credentials.clone()))
            .filter(terms)
            .exec(&self.db)
            .await?;
        Ok(done.rows_affected == 1)
    }

    /// Keeps an account out of new payments until `until`; `None` lets it in again.
    ///
    /// # Errors
    /// The database's.
    pub async fn set_account_aside(
        &self,
        id: &AccountId,
        until: Option<Timestamp>,
        reason: &str,
    ) -> Result<(), Error> {
        account::Entity::update_many()
            .col_expr(
                account::Column::SetAsideUntil,
                Expr::value(until.map(|t| t.0)),
            )
            .col_expr(
                account::Column::SetAsideReason,
                Expr::value(until.map(|_| reason.to_owned())),
            )
            .filter(account::Column::Id.eq(id))
            .exec(&self.db)
            .await?;
        Ok(())
    }

    /// The newest routing of every owner that ever set one.
    ///
    /// # Errors
    /// The database's.
    pub async fn routings(&self, _: AllOwners) -> Result<Vec<(Owner, RoutingRow)>, Error> {
        // A version is stored after the one before it, so the newest one has the largest number of
        // all.
        let newest = Query::select()
            .expr(routing::Column::Seq.max())
            .from(routing::Entity)
            .group_by_col(routing::Column::MerchantId)
            .group_by_col(routing::Column::Livemode)
            .to_owned();

        let rows = routing::Entity::find()
            .filter(routing::Column::Seq.in_subquery(newest))
            .all(&self.db)
            .await?;

        Ok(rows
            .into_iter()
            .map(|m| {
                (
                    Owner::of(m.merchant_id.clone(), m.livemode),
                    RoutingRow::from(m),
                )
            })
            .collect())
    }

    /// The versions of an owner's routing, newest first, only those before a version if one is
    /// given.
    ///
    /// # Errors
    /// The database's.
    pub async fn routing_versions(
        &self,
        owner: &Owner,
        before: Option<i32>,
        limit: u64,
    ) -> Result<Vec<RoutingRow>, Error> {
        let mut query = routings_of(owner);
        if let Some(before) = before {
            query = query.filter(routing::Column::Version.lt(before));
        }
        let rows = query
            .order_by_desc(routing::Column::Version)
            .limit(limit)
            .all(&self.db)
            .await?;
        Ok(rows.into_iter().map(RoutingRow::from).collect())
    }

    /// One version of an owner's routing.
    ///
    /// # Errors
    /// The database's.
    pub async fn routing_version(
        &self,
        owner: &Owner,
        version: i32,
    ) -> Result<Option<RoutingRow>, Error> {
        let row = routings_of(owner)
            .filter(routing::Column::Version.eq(version))
            .one(&self.db)
            .await?;
        Ok(row.map(RoutingRow::from))
    }

    /// Stores the next version of an owner's routing. `false` when somebody else made that version
    /// first.
    ///
    /// # Errors
    /// The database's.
    pub async fn add_routing(&self, owner: &Owner, new: &RoutingRow) -> Result<bool, Error> {
        let row = routing::ActiveModel {
            seq: NotSet,
            merchant_id: sea_orm::Set(owner.merchant.clone()),
            livemode: sea_orm::Set(owner.is_live()),
            version: sea_orm::Set(new.version),
            rules: sea_orm::Set(new.rules.clone()),
            changed_by: sea_orm::Set(new.changed_by.clone()),
            changed_at: sea_orm::Set(new.changed_at.0),
            restored_from: sea_orm::Set(new.restored_from),
        };

        match routing::Entity::insert(row)
            .exec_without_returning(&self.db)
            .await
        {
            Ok(_) => Ok(true),
            Err(e) if matches!(e.sql_err(), Some(SqlErr::UniqueConstraintViolation(_))) => {
                Ok(false)
            }
            Err(e) => Err(e.into()),
        }
    }
}

fn routings_of(owner: &Owner) -> Select<routing::Entity> {
    routing::Entity::find()
        .filter(routing::Column::MerchantId.eq(&owner.merchant))
        .filter(routing::Column::Livemode.eq(owner.is_live()))
}
