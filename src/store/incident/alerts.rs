//! What receivers of alerts have to be told; the rows are the jobs. A row's id is made of incident,
//! change and receiver, so that gateways that make it together make it once. `next_try_at` is when
//! it is due; whoever claims it moves that to the end of the lease, and `fence` tells a worker that
//! woke up too late from its successor.

use sea_orm::sea_query::{Expr, ExprTrait as _, OnConflict};
use sea_orm::{
    ActiveModelTrait as _, ColumnTrait as _, EntityTrait as _, IntoActiveModel as _,
    PaginatorTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _, QueryTrait as _,
};

use crate::domain::Timestamp;
use crate::domain::incident::Change;
use crate::domain::webhook::State;
use crate::store::Error;
use crate::store::Store;
use crate::store::convert::word;
use crate::store::incident::entity::alert;

/// 1 for what is about one merchant's account, 0 for what is about all. A chat takes a message
/// every few seconds: a merchant whose hundred accounts are refused must not keep anybody from
/// hearing that a provider is down.
const ABOUT_ONE_MERCHANT: &str = "(SELECT CASE WHEN incidents.subject LIKE 'route/%' OR \
                                  incidents.subject LIKE 'account/%' THEN 1 ELSE 0 END FROM \
                                  incidents WHERE incidents.id = alerts.incident_id)";

/// Which messages are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// Any.
    Anybody,
    /// Those about what all merchants meet.
    All,
}

/// What one receiver has to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertRow {
    /// Made of the three that follow.
    pub id: String,
    /// Of which incident.
    pub incident_id: String,
    /// Who.
    pub receiver: String,
    /// What has changed.
    pub change: Change,
    /// How often it was tried.
    pub tries: i32,
    /// Counts claims.
    pub fence: i32,
    /// When it came to be.
    pub created_at: Timestamp,
}

/// What came of one try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertTry {
    /// Where it stands now.
    pub status: State,
    /// When it is tried again.
    pub next_try_at: Option<Timestamp>,
    /// How the try ended, in a word.
    pub end: &'static str,
    /// The beginning of the receiver's answer.
    pub answer: Option<String>,
}

impl TryFrom<alert::Model> for AlertRow {
    type Error = Error;

    fn try_from(m: alert::Model) -> Result<Self, Error> {
        Ok(Self {
            change: word("alert", &m.id, "change", &m.change)?,
            id: m.id,
            incident_id: m.incident_id,
            receiver: m.receiver,
            tries: m.tries,
            fence: m.fence,
            created_at: Timestamp(m.created_at),
        })
    }
}

impl Store {
    /// Makes what these receivers have to be told of these changes of an incident, unless it is
    /// there.
    ///
    /// # Errors
    /// The database's.
    pub async fn tell(
        &self,
        incident_id: &str,
        changes: &[Change],
        receivers: &[&str],
        now: Timestamp,
    ) -> Result<(), Error> {
        let mut rows = Vec::new();
        for receiver in receivers {
            // Told in this order.
            for (change, at) in changes.iter().zip(now.0..) {
                let row = alert::Model {
                    id: format!("{incident_id}_{receiver}_{change}"),
                    incident_id: incident_id.to_owned(),
                    receiver: (*receiver).to_owned(),
                    change: change.to_string(),
                    status: State::Pending.to_string(),
                    tries: 0,
                    fence: 0,
                    created_at: at,
                    next_try_at: Some(now.0),
                    sent_at: None,
                    last_end: None,
                    last_answer: None,
                };
                rows.push(row.into_active_model().reset_all());
            }
        }

        if rows.is_empty() {
            return Ok(());
        }
        alert::Entity::insert_many(rows)
            .on_conflict(OnConflict::new().do_nothing().to_owned())
            .exec_without_returning(&self.db)
            .await?;

        Ok(())
    }

    /// What was made for receivers of these incidents: incident, receiver and change.
    ///
    /// # Errors
    /// The database's.
    pub async fn told(
        &self,
        incident_ids: &[String],
    ) -> Result<Vec<(String, String, String)>, Error> {
        Ok(alert::Entity::find()
            .select_only()
            .columns([
                alert::Column::IncidentId,
                alert::Column::Receiver,
                alert::Column::Change,
            ])
            .filter(alert::Column::IncidentId.is_in(incident_ids))
            .into_tuple()
            .all(&self.db)
            .await?)
    }

    /// Takes what a receiver has to be told next, if that is due, and leases it until
    /// `lease_until`. What comes after it waits: the end of an outage is not told before its
    /// beginning.
    ///
    /// # Errors
    /// The database's.
    pub async fn claim_alert(
        &self,
        receiver: &str,
        whose: About,
        now: Timestamp,
        lease_until: Timestamp,
    ) -> Result<Option<AlertRow>, Error> {
        use alert::Column as C;

        let about_all = Expr::cust(ABOUT_ONE_MERCHANT).eq(0);
        let first = alert::Entity::find()
            .apply_if(
                (whose == About::All).then_some(about_all),
                |query, wanted| query.filter(wanted),
            )
            .filter(C::Receiver.eq(receiver))
            .filter(C::NextTryAt.is_not_null())
            .order_by_asc(Expr::cust(ABOUT_ONE_MERCHANT))
            .order_by_asc(C::CreatedAt)
            .order_by_asc(C::Id)
            .limit(1)
            .one(&self.db)
            .await?;
        let Some(first) = first.filter(|row| row.next_try_at.is_some_and(|at| at <= now.0)) else {
            return Ok(None);
        };

        let claimed = alert::Entity::update_many()
            .col_expr(C::NextTryAt, Expr::value(lease_until.0))
            .col_expr(C::Fence, Expr::col(C::Fence).add(1))
            .filter(C::Id.eq(&first.id))
            .filter(C::Fence.eq(first.fence))
            .filter(C::NextTryAt.lte(now.0))
            .exec(&self.db)
            .await?;
        let fence = first.fence.saturating_add(1);

        (claimed.rows_affected == 1)
            .then(|| AlertRow::try_from(alert::Model { fence, ..first }))
            .transpose()
    }

    /// Writes what came of a try, unless somebody has claimed it since.
    ///
    /// # Errors
    /// The database's.
    pub async fn record_alert(
        &self,
        tried: &AlertRow,
        done: &AlertTry,
        now: Timestamp,
    ) -> Result<(), Error> {
        use alert::Column as C;
        let sent_at = (done.status == State::Delivered).then_some(now.0);
        alert::Entity::update_many()
            .col_expr(C::Status, Expr::value(done.status.to_string()))
            .col_expr(C::Tries, Expr::value(tried.tries.saturating_add(1)))
            .col_expr(C::NextTryAt, Expr::value(done.next_try_at.map(|t| t.0)))
            .col_expr(C::SentAt, Expr::value(sent_at))
            .col_expr(C::LastEnd, Expr::value(done.end))
            .col_expr(C::LastAnswer, Expr::value(done.answer.clone()))
            .filter(C::Id.eq(&tried.id))
            .filter(C::Fence.eq(tried.fence))
            .exec(&self.db)
            .await?;
        Ok(())
    }

    /// How many messages a receiver has had since `then`.
    ///
    /// # Errors
    /// The database's.
    pub async fn alerts_sent(
        &self,
        receiver: &str,
        then: Timestamp,
        now: Timestamp,
    ) -> Result<u64, Error> {
        Ok(alert::Entity::find()
            .filter(alert::Column::Receiver.eq(receiver))
            .filter(alert::Column::SentAt.gt(then.0))
            // One in the future was sent before all time was set back.
            .filter(alert::Column::SentAt.lte(now.0))
            .count(&self.db)
            .await?)
    }
}
