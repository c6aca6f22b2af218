//! API keys: which there are, made, used and revoked. Whatever lets a key in or out changes the
//! directory's version in the same transaction: no gateway can miss it because another one died in
//! between.

use sea_orm::sea_query::{Expr, ExprTrait as _, OnConflict};
use sea_orm::{
    ActiveModelTrait as _, ColumnTrait as _, Condition, EntityTrait as _, IntoActiveModel as _,
    PaginatorTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _,
};

use crate::domain::{AllOwners, Owner, Timestamp};
use crate::store::Error;
use crate::store::Store;
use crate::store::connection::Tx;
use crate::store::directory::entity::api_key;
use crate::store::installation;
use crate::store::lists::older_than;

/// The installation fact that changes whenever anything in the directory does.
pub const DIRECTORY_VERSION: &str = "directory_version";

/// Statements of one transaction that writes when keys were used.
const AT_ONCE: usize = 200;

/// An API key as it is stored: its digest, never the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRow {
    /// `key_…`.
    pub id: String,
    /// Whose.
    pub owner: Owner,
    /// Of the key's text.
    pub digest: String,
    /// What people call it; none for one of old.
    pub name: Option<String>,
    /// What it may do, separated by blanks.
    pub scopes: String,
    /// The fingerprint of the first in the chain of keys that made this one; none for what an
    /// operator made.
    pub root: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last used, within a minute or so.
    pub last_used_at: Option<Timestamp>,
    /// Since when it is worth nothing.
    pub revoked_at: Option<Timestamp>,
}

/// Which of an owner's keys are listed.
#[derive(Debug, Clone, Default)]
pub struct KeyFilter {
    /// Only those made before this one.
    pub starting_after: Option<KeyRow>,
    /// At most so many.
    pub limit: u64,
}

impl From<api_key::Model> for KeyRow {
    fn from(m: api_key::Model) -> Self {
        Self {
            id: m.id,
            owner: Owner::of(m.merchant_id, m.livemode),
            digest: m.digest,
            name: m.name,
            scopes: m.scopes,
            root: m.root,
            created_at: Timestamp(m.created_at),
            last_used_at: m.last_used_at.map(Timestamp),
            revoked_at: m.revoked_at.map(Timestamp),
        }
    }
}

fn of(owner: &Owner) -> Condition {
    Condition::all()
        .add(api_key::Column::MerchantId.eq(&owner.merchant))
        .add(api_key::Column::Livemode.eq(owner.is_live()))
}

/// Tells every gateway that something in the directory has changed, as part of what changes it.
async fn tell(tx: &Tx, version: &str) -> Result<(), Error> {
    let row = installation::Model {
        name: DIRECTORY_VERSION.to_owned(),
        value: version.to_owned(),
    };
    let newest = OnConflict::column(installation::Column::Name)
        .update_column(installation::Column::Value)
        .to_owned();
    installation::Entity::insert(row.into_active_model().reset_all())
        .on_conflict(newest)
        .exec_without_returning(tx)
        .await?;
    Ok(())
}

impl Store {
    /// Stores a new key; `version` is the directory's next one.
    ///
    /// # Errors
    /// The database's.
    pub async fn add_key(&self, new: &KeyRow, version: &str) -> Result<(), Error> {
        let row = api_key::Model {
            id: new.id.clone(),
            merchant_id: new.owner.merchant.clone(),
            digest: new.digest.clone(),
            scopes: new.scopes.clone(),
            livemode: new.owner.is_live(),
            created_at: new.created_at.0,
            revoked_at: None,
            name: new.name.clone(),
            last_used_at: None,
            root: new.root.clone(),
        };
        let tx = self.db.write().await?;
        api_key::Entity::insert(row.into_active_model().reset_all())
            .exec_without_returning(&tx)
            .await?;
        tell(&tx, version).await?;

        Ok(tx.commit().await?)
    }

    /// Revokes a key, for good; `version` is the directory's next one. Returns its row, or `None`
    /// when there is no such key among those of `owner`; an operator may revoke anybody's.
    ///
    /// # Errors
    /// The database's.
    pub async fn revoke_key(
        &self,
        owner: Option<&Owner>,
        id: &str,
        now: Timestamp,
        version: &str,
    ) -> Result<Option<KeyRow>, Error> {
        let mut which = Condition::all().add(api_key::Column::Id.eq(id));
        if let Some(owner) = owner {
            which = which.add(of(owner));
        }
        let tx = self.db.write().await?;
        api_key::Entity::update_many()
            .col_expr(api_key::Column::RevokedAt, Expr::value(now.0))
            .filter(which.clone())
            .filter(api_key::Column::RevokedAt.is_null())
            .exec(&tx)
            .await?;
        let row = api_key::Entity::find().filter(which).one(&tx).await?;
        tell(&tx, version).await?;
        tx.commit().await?;
        Ok(row.map(KeyRow::from))
    }

    /// The key with this digest, unless it was revoked.
    ///
    /// # Errors
    /// The database's.
    pub async fn key_by_digest(&self, digest: &str) -> Result<Option<KeyRow>, Error> {
        let row = api_key::Entity::find()
            .filter(api_key::Column::Digest.eq(digest))
            .filter(api_key::Column::RevokedAt.is_null())
            .one(&self.db)
            .await?;
        Ok(row.map(KeyRow::from))
    }

    /// All keys that were not revoked: for the directory.
    ///
    /// # Errors
    /// The database's.
    pub async fn keys_in_use(&self, _: AllOwners) -> Result<Vec<KeyRow>, Error> {
        let rows = api_key::Entity::find()
            .filter(api_key::Column::RevokedAt.is_null())
            .all(&self.db)
            .await?;
        Ok(rows.into_iter().map(KeyRow::from).collect())
    }

    /// How many that are.
    ///
    /// # Errors
    /// The database's.
    pub async fn count_keys_in_use(&self, _: AllOwners) -> Result<u64, Error> {
        Ok(api_key::Entity::find()
            .filter(api_key::Column::RevokedAt.is_null())
            .count(&self.db)
            .await?)
    }

    /// How many of an owner's keys were not revoked.
    ///
    /// # Errors
    /// The database's.
    pub async fn count_keys_of(&self, owner: &Owner) -> Result<u64, Error> {
        Ok(api_key::Entity::find()
            .filter(of(owner))
            .filter(api_key::Column::RevokedAt.is_null())
            .count(&self.db)
            .await?)
    }

    /// An owner's keys, revoked ones too, newest first.
    ///
    /// # Errors
    /// The database's.
    pub async fn keys_of(&self, owner: &Owner, filter: &KeyFilter) -> Result<Vec<KeyRow>, Error> {
        use api_key::Column as C;
        let mut query = api_key::Entity::find().filter(of(owner));
        if let Some(last) = &filter.starting_after {
            query = query.filter(older_than(
                [C::CreatedAt, C::Id],
                [last.created_at.0.into(), last.id.clone().into()],
            ));
        }
        let rows = query
            .order_by_desc(C::CreatedAt)
            .order_by_desc(C::Id)
            .limit(filter.limit)
            .all(&self.db)
            .await?;
        Ok(rows.into_iter().map(KeyRow::from).collect())
    }

    /// An owner's key by its id, revoked or not.
    ///
    /// # Errors
    /// The database's.
    pub async fn key_of(&self, owner: &Owner, id: &str) -> Result<Option<KeyRow>, Error> {
        let row = api_key::Entity::find_by_id(id)
            .filter(of(owner))
            .one(&self.db)
            .await?;
        Ok(row.map(KeyRow::from))
    }

    /// The digests of the keys that one person may have: those that came from the key with this
    /// fingerprint, and itself.
    ///
    /// # Errors
    /// The database's.
    pub async fn kin(&self, owner: &Owner, root: &str) -> Result<Vec<String>, Error> {
        let of_one = Condition::any()
            .add(api_key::Column::Root.eq(root))
            .add(api_key::Column::Digest.starts_with(root));
        let rows = api_key::Entity::find().filter(of(owner)).filter(of_one);
        Ok(rows
            .all(&self.db)
            .await?
            .into_iter()
            .map(|row| row.digest)
            .collect())
    }

    /// Notes when keys were last used. What another gateway has noted of a later use stays.
    ///
    /// # Errors
    /// The database's; some may be noted then.
    pub async fn keys_used(&self, used: &[(String, Timestamp)]) -> Result<(), Error> {
        for part in used.chunks(AT_ONCE) {
            let tx = self.db.write().await?;
            for (id, at) in part {
                let earlier = api_key::Column::LastUsedAt
                    .is_null()
                    .or(api_key::Column::LastUsedAt.lt(at.0));
                api_key::Entity::update_many()
                    .col_expr(api_key::Column::LastUsedAt, Expr::value(at.0))
                    .filter(api_key::Column::Id.eq(id))
                    .filter(earlier)
                    .exec(&tx)
                    .await?;
            }
            tx.commit().await?;
        }

        Ok(())
    }
}
