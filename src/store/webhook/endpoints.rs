//! Merchants' webhook endpoints, and the secrets that webhooks are signed with, sealed.

use sea_orm::sea_query::{Expr, OnConflict};
use sea_orm::{
    ActiveModelTrait as _, ColumnTrait as _, EntityTrait as _, IntoActiveModel as _,
    QueryFilter as _, QueryOrder as _,
};

use crate::domain::webhook::{Mode, State};
use crate::domain::{AllOwners, Owner, Timestamp};
use crate::store::Error;
use crate::store::Store;
use crate::store::connection::Tx;
use crate::store::convert::word;
use crate::store::webhook::entity::{delivery, notify_secret, webhook_endpoint as endpoint};

/// A secret and the one before it, both sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedSecrets {
    /// Signs.
    pub secret: Vec<u8>,
    /// Signs as well, until `old_until`.
    pub old: Option<Vec<u8>>,
    /// Until then.
    pub old_until: Option<Timestamp>,
}

/// An endpoint as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointRow {
    /// `we_…`.
    pub id: String,
    /// Whose.
    pub owner: Owner,
    /// Where events go.
    pub url: String,
    /// Which kinds of events; all if there are none.
    pub events: Vec<String>,
    /// What counts as received.
    pub mode: Mode,
    /// For people.
    pub description: String,
    /// Why it is disabled; `None`: it is not.
    pub disabled_reason: Option<String>,
    /// What it signs with.
    pub secrets: SealedSecrets,
    /// Since then nothing was received.
    pub failing_since: Option<Timestamp>,
    /// Counts changes, for compare-and-set.
    pub version: i32,
    /// Events from before are not its business.
    pub created_at: Timestamp,
}

impl EndpointRow {
    /// Whether events of this kind go there.
    #[must_use]
    pub fn wants(&self, kind: &str) -> bool {
        self.events.is_empty() || self.events.iter().any(|wanted| wanted == kind)
    }
}

/// The secret of the webhooks to a merchant's `notify_url`s.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotifySecretRow {
    /// Sealed.
    pub secrets: SealedSecrets,
    /// Counts changes, for compare-and-set.
    pub version: i32,
}

impl TryFrom<endpoint::Model> for EndpointRow {
    type Error = Error;

    fn try_from(m: endpoint::Model) -> Result<Self, Error> {
        Ok(Self {
            mode: word("webhook_endpoint", &m.id, "mode", &m.mode)?,
            id: m.id,
            owner: Owner::of(m.merchant_id, m.livemode),
            url: m.url,
            events: m.events.split_whitespace().map(str::to_owned).collect(),
            description: m.description,
            disabled_reason: m.disabled_reason,
            secrets: SealedSecrets {
                secret: m.secret,
                old: m.old_secret,
                old_until: m.old_secret_until.map(Timestamp),
            },
            failing_since: m.failing_since.map(Timestamp),
            version: m.version,
            created_at: Timestamp(m.created_at),
        })
    }
}

fn row(e: &EndpointRow) -> endpoint::ActiveModel {
    endpoint::Model {
        id: e.id.clone(),
        merchant_id: e.owner.merchant.clone(),
        url: e.url.clone(),
        events: e.events.join(" "),
        mode: e.mode.to_string(),
        description: e.description.clone(),
        livemode: e.owner.is_live(),
        disabled_reason: e.disabled_reason.clone(),
        secret: e.secrets.secret.clone(),
        old_secret: e.secrets.old.clone(),
        old_secret_until: e.secrets.old_until.map(|t| t.0),
        failing_since: e.failing_since.map(|t| t.0),
        version: e.version,
        created_at: e.created_at.0,
    }
    .into_active_model()
    .reset_all()
}

impl Store {
    /// Stores a new endpoint.
    ///
    /// # Errors
    /// The database's.
    pub async fn add_endpoint(&self, new: &EndpointRow) -> Result<(), Error> {
        endpoint::Entity::insert(row(new))
            .exec_without_returning(&self.db)
            .await?;
        Ok(())
    }

    /// An owner's endpoints, newest first.
    ///
    /// # Errors
    /// The database's.
    pub async fn endpoints_of(&self, owner: &Owner) -> Result<Vec<EndpointRow>, Error> {
        let rows = endpoint::Entity::find()
            .filter(endpoint::Column::MerchantId.eq(&owner.merchant))
            .filter(endpoint::Column::Livemode.eq(owner.is_live()))
            .order_by_desc(endpoint::Column::CreatedAt)
            .order_by_desc(endpoint::Column::Id)
            .all(&self.db)
            .await?;
        rows.into_iter().map(EndpointRow::try_from).collect()
    }

    /// An owner's endpoint.
    ///
    /// # Errors
    /// The database's.
    pub async fn endpoint_of(&self, owner: &Owner, id: &str) -> Result<Option<EndpointRow>, Error> {
        let row = endpoint::Entity::find_by_id(id)
            .filter(endpoint::Column::MerchantId.eq(&owner.merchant))
            .filter(endpoint::Column::Livemode.eq(owner.is_live()))
            .one(&self.db)
            .await?;
        row.map(EndpointRow::try_from).transpose()
    }

    /// These endpoints: for workers.
    ///
    /// # Errors
    /// The database's.
    pub async fn endpoints(
        &self,
        _: AllOwners,
        ids: Vec<String>,
    ) -> Result<Vec<EndpointRow>, Error> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let rows = endpoint::Entity::find()
            .filter(endpoint::Column::Id.is_in(ids))
            .all(&self.db)
            .await?;
        rows.into_iter().map(EndpointRow::try_from).collect()
    }

    /// Overwrites what may change on an endpoint. What waited for a disabled one waits no longer.
    /// `false` when somebody else changed it since `changed` was read.
    ///
    /// # Errors
    /// The database's.
    pub async fn change_endpoint(&self, changed: &EndpointRow) -> Result<bool, Error> {
        use endpoint::Column as C;

        let tx = self.db.write().await?;
        let done = endpoint::Entity::update_many()
            .col_expr(C::Url, Expr::value(changed.url.clone()))
            .col_expr(C::Events, Expr::value(changed.events.join(" ")))
            .col_expr(C::Mode, Expr::value(changed.mode.to_string()))
            .col_expr(C::Description, Expr::value(changed.description.clone()))
            .col_expr(
                C::DisabledReason,
                Expr::value(changed.disabled_reason.clone()),
            )
            .col_expr(
                C::FailingSince,
                Expr::value(changed.failing_since.map(|t| t.0)),
            )
            .col_expr(C::Secret, Expr::value(changed.secrets.secret.clone()))
            .col_expr(C::OldSecret, Expr::value(changed.secrets.old.clone()))
            .col_expr(
                C::OldSecretUntil,
                Expr::value(changed.secrets.old_until.map(|t| t.0)),
            )
            .col_expr(C::Version, Expr::value(changed.version.saturating_add(1)))
            .filter(C::Id.eq(&changed.id))
            .filter(C::Version.eq(changed.version))
            .exec(&tx)
            .await?;

        if changed.disabled_reason.is_some() {
            stop_waiting(&tx, &changed.id).await?;
        }
        tx.commit().await?;

        Ok(done.rows_affected == 1)
    }

    /// Removes an endpoint. What waited for it waits no longer; the log of what it got stays.
    ///
    /// # Errors
    /// The database's.
    pub async fn remove_endpoint(&self, id: &str) -> Result<(), Error> {
        let tx = self.db.write().await?;
        endpoint::Entity::delete_by_id(id).exec(&tx).await?;
        stop_waiting(&tx, id).await?;
        Ok(tx.commit().await?)
    }

    /// The secret of the webhooks to an owner's `notify_url`s; `new`, if there is none yet.
    ///
    /// # Errors
    /// The database's.
    pub async fn notify_secret(
        &self,
        owner: &Owner,
        new: Vec<u8>,
        now: Timestamp,
    ) -> Result<NotifySecretRow, Error> {
        let key = (owner.merchant.clone(), owner.is_live());
        let mut stored = notify_secret::Entity::find_by_id(key.clone())
            .one(&self.db)
            .await?;

        if stored.is_none() {
            let row = notify_secret::Model {
                merchant_id: key.0.clone(),
                livemode: key.1,
                secret: new,
                old_secret: None,
                old_secret_until: None,
                version: 1,
                created_at: now.0,
            };
            notify_secret::Entity::insert(row.into_active_model().reset_all())
                .on_conflict(OnConflict::new().do_nothing().to_owned())
                .exec_without_returning(&self.db)
                .await?;
            stored = notify_secret::Entity::find_by_id(key).one(&self.db).await?;
        }

        let m = stored.ok_or_else(|| Error::Missing(format!("notify secret of {owner}")))?;
        Ok(NotifySecretRow {
            secrets: SealedSecrets {
                secret: m.secret,
                old: m.old_secret,
                old_until: m.old_secret_until.map(Timestamp),
            },
            version: m.version,
        })
    }

    /// Replaces that secret. `false` when somebody else did since `changed` was read.
    ///
    /// # Errors
    /// The database's.
    pub async fn change_notify_secret(
        &self,
        owner: &Owner,
        changed: &NotifySecretRow,
    ) -> Result<bool, Error> {
        use notify_secret::Column as C;
        let done = notify_secret::Entity::update_many()
            .col_expr(C::Secret, Expr::value(changed.secrets.secret.clone()))
            .col_expr(C::OldSecret, Expr::value(changed.secrets.old.clone()))
            .col_expr(
                C::OldSecretUntil,
                Expr::value(changed.secrets.old_until.map(|t| t.0)),
            )
            .col_expr(C::Version, Expr::value(changed.version.saturating_add(1)))
            .filter(C::MerchantId.eq(&owner.merchant))
            .filter(C::Livemode.eq(owner.is_live()))
            .filter(C::Version.eq(changed.version))
            .exec(&self.db)
            .await?;
        Ok(done.rows_affected == 1)
    }
}

/// What waits for an endpoint waits no longer. One that is being sent right now is told by its
/// sender.
pub(in crate::store) async fn stop_waiting(tx: &Tx, endpoint_id: &str) -> Result<(), Error> {
    delivery::Entity::update_many()
        .col_expr(
            delivery::Column::Status,
            Expr::value(State::Stopped.to_string()),
        )
        .col_expr(delivery::Column::NextTryAt, Expr::value(None::<i64>))
        .filter(delivery::Column::EndpointId.eq(endpoint_id))
        .filter(delivery::Column::NextTryAt.is_not_null())
        .exec(tx)
        .await?;
    Ok(())
}
