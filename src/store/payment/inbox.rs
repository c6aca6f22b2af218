//! Genuine notifications, each kept once, and the list of what needs a person.

use sea_orm::EntityTrait as _;
use sea_orm::sea_query::OnConflict;

use crate::store::Error;
use crate::store::Store;
use crate::store::beside::{notification_row, operation_row};
use crate::store::change::{Inbox, ReviewItem};
use crate::store::payment::entity::notification;
use crate::store::review::entity::operation;

use crate::domain::id::AccountId;

impl Store {
    /// Whether this notification is in the inbox already.
    ///
    /// # Errors
    /// The database's.
    pub async fn has_notification(
        &self,
        account_id: &AccountId,
        notification_id: &str,
    ) -> Result<bool, Error> {
        let key = (account_id.clone(), notification_id.to_owned());
        Ok(notification::Entity::find_by_id(key)
            .one(&self.db)
            .await?
            .is_some())
    }

    /// Keeps a genuine notification that changes no payment. Keeping it again changes nothing.
    ///
    /// # Errors
    /// The database's.
    pub async fn keep_notification(&self, inbox: &Inbox) -> Result<(), Error> {
        notification::Entity::insert(notification_row(inbox, None))
            .on_conflict(OnConflict::new().do_nothing().to_owned())
            .exec_without_returning(&self.db)
            .await?;
        Ok(())
    }

    /// Puts something on the work list, unless it stands there already.
    ///
    /// # Errors
    /// The database's.
    pub async fn raise(&self, entry: &ReviewItem) -> Result<(), Error> {
        operation::Entity::insert(operation_row(entry))
            .on_conflict(OnConflict::new().do_nothing().to_owned())
            .exec_without_returning(&self.db)
            .await?;
        Ok(())
    }
}
