//! Incidents: rows that survive whoever wrote them, one open one for each subject over all
//! gateways. Every change is a compare-and-set of the version, and makes its entry of the timeline
//! in the same transaction: of many gateways that see the same, one writes it down.

use sea_orm::sea_query::{Expr, ExprTrait as _, OnConflict};
use sea_orm::{
    ActiveModelTrait as _, ColumnTrait as _, Condition, EntityTrait as _, IntoActiveModel as _,
    QueryFilter as _, QueryOrder as _, QuerySelect as _,
};
use serde_json::Value;

use crate::domain::Timestamp;
use crate::domain::incident::{Baseline, Cause, Entry, Phase, Severity, Subject};
use crate::store::Error;
use crate::store::Store;
use crate::store::connection::Tx;
use crate::store::convert::word;
use crate::store::incident::entity::{incident, incident_entry, incident_norm};
use crate::store::lists::older_than;

/// What is usual is learned by a sample in so long.
const SAMPLE_EVERY_MS: i64 = 60_000;
/// Open and lately closed incidents: never more than this are looked at.
const AT_ONCE: u64 = 500;

/// An incident as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct IncidentRow {
    /// `inc_…`.
    pub id: String,
    /// What it is about.
    pub subject: Subject,
    /// What is wrong; of what got worse, the worst.
    pub cause: Cause,
    /// Whether somebody is to be woken.
    pub severity: Severity,
    /// The severity with which it was opened.
    pub first_severity: Severity,
    /// Where it stands.
    pub phase: Phase,
    /// What was seen when it opened: `{count, oldest_s, limit_s, …}`.
    pub detail: Value,
    /// Counts sightings of the trouble by any gateway.
    pub beats: i64,
    /// Counts changes, for compare-and-set.
    pub version: i32,
    /// How many reminders there were.
    pub reminders: i32,
    /// When the last one was, or when it was opened.
    pub reminded_at: Timestamp,
    /// When the trouble began, as far as is known.
    pub began_at: Timestamp,
    /// When it was noticed.
    pub opened_at: Timestamp,
    /// When it got worse, if it did.
    pub raised_at: Option<Timestamp>,
    /// When it was over; `None`: it lasts.
    pub closed_at: Option<Timestamp>,
}

/// An entry of the timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryRow {
    /// What happened.
    pub kind: Entry,
    /// When.
    pub at: Timestamp,
}

/// What becomes of an incident.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IncidentChange {
    /// It stands elsewhere. Whether that is an entry of its timeline is for the phases to say.
    Moved(Phase),
    /// It got worse.
    Raised(Cause, Phase),
    /// It lasts, and people are reminded.
    Reminded,
    /// It is over.
    Closed,
}

/// Which incidents a list shows, newest first.
#[derive(Debug, Clone, Default)]
pub struct IncidentFilter {
    /// Only those that last, or only those that are over.
    pub open: Option<bool>,
    /// Only those older than this one.
    pub starting_after: Option<String>,
    /// At most so many.
    pub limit: u64,
}

impl TryFrom<incident::Model> for IncidentRow {
    type Error = Error;

    fn try_from(m: incident::Model) -> Result<Self, Error> {
        const T: &str = "incident";

        Ok(Self {
            subject: word(T, &m.id, "subject", &m.subject)?,
            cause: word(T, &m.id, "cause", &m.cause)?,
            severity: word(T, &m.id, "severity", &m.severity)?,
            first_severity: word(T, &m.id, "first_severity", &m.first_severity)?,
            phase: word(T, &m.id, "phase", &m.phase)?,
            id: m.id,
            detail: m.detail,
            beats: m.beats,
            version: m.version,
            reminders: m.reminders,
            reminded_at: Timestamp(m.reminded_at),
            began_at: Timestamp(m.began_at),
            opened_at: Timestamp(m.opened_at),
            raised_at: m.raised_at.map(Timestamp),
            closed_at: m.closed_at.map(Timestamp),
        })
    }
}

fn row(i: &IncidentRow) -> incident::ActiveModel {
    incident::Model {
        id: i.id.clone(),
        subject: i.subject.to_string(),
        cause: i.cause.to_string(),
        severity: i.severity.to_string(),
        first_severity: i.first_severity.to_string(),
        phase: i.phase.to_string(),
        detail: i.detail.clone(),
        beats: i.beats,
        version: i.version,
        reminders: i.reminders,
        reminded_at: i.reminded_at.0,
        began_at: i.began_at.0,
        opened_at: i.opened_at.0,
        raised_at: i.raised_at.map(|t| t.0),
        closed_at: i.closed_at.map(|t| t.0),
    }
    .into_active_model()
    .reset_all()
}

/// Rows that this version cannot read belong to another one: they are left to it.
fn readable(rows: Vec<incident::Model>) -> Vec<IncidentRow> {
    let read = rows.into_iter().map(IncidentRow::try_from);
    read.filter_map(|row| {
        row.inspect_err(|error| tracing::warn!(%error, "an incident is left out"))
            .ok()
    })
    .collect()
}

impl Store {
    /// Opens an incident, unless one is open for its subject. True: this one is it.
    ///
    /// # Errors
    /// The database's.
    pub async fn open_incident(&self, new: &IncidentRow) -> Result<bool, Error> {
        let tx = self.db.write().await?;
        let made = incident::Entity::insert(row(new))
            .on_conflict(OnConflict::new().do_nothing().to_owned())
            .exec_without_returning(&tx)
            .await?;
        if made == 0 {
            tx.rollback().await?;
            return Ok(false);
        }
        enter(&tx, &new.id, new.version, Entry::Opened, new.opened_at).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Changes an incident that lasts, if it is still as it was read. True: it was this that
    /// changed it.
    ///
    /// # Errors
    /// The database's.
    pub async fn change_incident(
        &self,
        before: &IncidentRow,
        change: IncidentChange,
        now: Timestamp,
    ) -> Result<bool, Error> {
        use incident::Column as C;

        let version = before.version.saturating_add(1);
        let update = incident::Entity::update_many()
            .col_expr(C::Version, Expr::value(version))
            .filter(C::Id.eq(&before.id))
            .filter(C::Version.eq(before.version))
            .filter(C::ClosedAt.is_null());

        let (update, entry) = match change {
            IncidentChange::Moved(phase) => (
                update.col_expr(C::Phase, Expr::value(phase.to_string())),
                before.phase.entry_of(phase),
            ),
            IncidentChange::Raised(cause, phase) => {
                let severity = before.severity.max(cause.severity());
                let update = update
                    .col_expr(C::Phase, Expr::value(phase.to_string()))
                    .col_expr(C::Cause, Expr::value(cause.to_string()))
                    .col_expr(C::Severity, Expr::value(severity.to_string()))
                    .col_expr(C::RaisedAt, Expr::value(now.0));
                (update, Some(Entry::Worse))
            }
            IncidentChange::Reminded => {
                let update = update
                    .col_expr(
                        C::Reminders,
                        Expr::value(before.reminders.saturating_add(1)),
                    )
                    .col_expr(C::RemindedAt, Expr::value(now.0));
                (update, None)
            }
            // Nobody may have seen the trouble since it was read.
            IncidentChange::Closed => (
                update
                    .col_expr(C::ClosedAt, Expr::value(now.0))
                    .filter(C::Beats.eq(before.beats)),
                Some(Entry::Closed),
            ),
        };
        let tx = self.db.write().await?;
        let changed = update.exec(&tx).await?.rows_affected == 1;
        if let Some(entry) = entry.filter(|_| changed) {
            enter(&tx, &before.id, version, entry, now).await?;
        }
        tx.commit().await?;

        Ok(changed)
    }

    /// This gateway sees the trouble: nobody is to believe that it is over.
    ///
    /// # Errors
    /// The database's.
    pub async fn beat_incident(&self, id: &str) -> Result<(), Error> {
        use incident::Column as C;
        incident::Entity::update_many()
            .col_expr(C::Beats, Expr::col(C::Beats).add(1))
            .filter(C::Id.eq(id))
            .filter(C::ClosedAt.is_null())
            .exec(&self.db)
            .await?;
        Ok(())
    }

    /// Incidents that last, and those that have closed since `then`, newest first.
    ///
    /// # Errors
    /// The database's.
    pub async fn incidents_since(&self, then: Timestamp) -> Result<Vec<IncidentRow>, Error> {
        use incident::Column as C;

        let rows = incident::Entity::find()
            .filter(
                Condition::any()
                    .add(C::ClosedAt.is_null())
                    .add(C::ClosedAt.gte(then.0)),
            )
            // Whatever there is no room for, what lasts is there.
            .order_by_desc(C::ClosedAt.is_null())
            .order_by_desc(C::OpenedAt)
            .limit(AT_ONCE)
            .all(&self.db)
            .await?;
        let mut rows = readable(rows);
        rows.sort_by(|a, b| (b.opened_at, &b.id).cmp(&(a.opened_at, &a.id)));

        Ok(rows)
    }

    /// An incident, whoever it concerns.
    ///
    /// # Errors
    /// The database's.
    pub async fn incident(&self, id: &str) -> Result<Option<IncidentRow>, Error> {
        let row = incident::Entity::find_by_id(id).one(&self.db).await?;
        row.map(IncidentRow::try_from).transpose()
    }

    /// Incidents, newest first: those about one of these subjects; `None`: all of them.
    ///
    /// # Errors
    /// The database's.
    pub async fn incidents(
        &self,
        subjects: Option<&[String]>,
        filter: &IncidentFilter,
    ) -> Result<Vec<IncidentRow>, Error> {
        use incident::Column as C;

        let mut query = incident::Entity::find();
        if let Some(subjects) = subjects {
            query = query.filter(C::Subject.is_in(subjects));
        }
        match filter.open {
            Some(true) => query = query.filter(C::ClosedAt.is_null()),
            Some(false) => query = query.filter(C::ClosedAt.is_not_null()),
            None => {}
        }

        if let Some(after) = &filter.starting_after {
            let Some(last) = incident::Entity::find_by_id(after).one(&self.db).await? else {
                return Ok(Vec::new());
            };
            query = query.filter(older_than(
                [C::OpenedAt, C::Id],
                [last.opened_at.into(), last.id.into()],
            ));
        }

        let rows = query
            .order_by_desc(C::OpenedAt)
            .order_by_desc(C::Id)
            .limit(filter.limit)
            .all(&self.db)
            .await?;

        Ok(readable(rows))
    }

    /// What happened in an incident, in order.
    ///
    /// # Errors
    /// The database's.
    pub async fn timeline(&self, incident_id: &str) -> Result<Vec<EntryRow>, Error> {
        let rows = incident_entry::Entity::find()
            .filter(incident_entry::Column::IncidentId.eq(incident_id))
            .order_by_asc(incident_entry::Column::Version)
            .all(&self.db)
            .await?;
        let entry = |m: incident_entry::Model| {
            word("incident_entry", &m.incident_id, "kind", &m.kind).map(|kind| EntryRow {
                kind,
                at: Timestamp(m.at),
            })
        };
        rows.into_iter().map(entry).collect()
    }

    /// What is usual for a subject.
    ///
    /// # Errors
    /// The database's.
    pub async fn usual(&self, subject: &Subject) -> Result<Baseline, Error> {
        let row = incident_norm::Entity::find_by_id(subject.to_string())
            .one(&self.db)
            .await?;
        Ok(row
            .map(|m| Baseline {
                mean_ms: m.mean_ms,
                spread_ms: m.spread_ms,
                samples: m.samples,
            })
            .unwrap_or_default())
    }

    /// Learns one more sample of what is usual; of those that many gateways take, one a minute
    /// counts.
    ///
    /// # Errors
    /// The database's.
    pub async fn learn_usual(
        &self,
        subject: &Subject,
        sample_ms: i64,
        now: Timestamp,
    ) -> Result<(), Error> {
        use incident_norm::Column as C;

        let before = self.usual(subject).await?;
        let after = before.learned(sample_ms);
        let row = incident_norm::Model {
            subject: subject.to_string(),
            mean_ms: after.mean_ms,
            spread_ms: after.spread_ms,
            samples: after.samples,
            updated_at: now.0,
        };

        let own = |column: C| Expr::col((incident_norm::Entity, column));
        let due = own(C::UpdatedAt)
            .lte(now.0.saturating_sub(SAMPLE_EVERY_MS))
            // The clock was set back.
            .or(own(C::UpdatedAt).gt(now.0.saturating_add(SAMPLE_EVERY_MS)));
        let on_conflict = OnConflict::column(C::Subject)
            .update_columns([C::MeanMs, C::SpreadMs, C::Samples, C::UpdatedAt])
            .action_and_where(due)
            .to_owned();

        incident_norm::Entity::insert(row.into_active_model().reset_all())
            .on_conflict(on_conflict)
            .exec_without_returning(&self.db)
            .await?;

        Ok(())
    }
}

async fn enter(tx: &Tx, id: &str, version: i32, kind: Entry, at: Timestamp) -> Result<(), Error> {
    let row = incident_entry::Model {
        incident_id: id.to_owned(),
        version,
        kind: kind.to_string(),
        at: at.0,
    };
    incident_entry::Entity::insert(row.into_active_model().reset_all())
        .exec_without_returning(tx)
        .await?;
    Ok(())
}
