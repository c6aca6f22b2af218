//! Writes whole lives of payments at once, for measurements: a million in the time that group
//! commit takes for some tens of thousands. What is written is what the changes of each life would
//! have left behind one by one, made from the same [`Change`]s by the same conversions, with every
//! unique index in place; the ledger's entries are sealed as they come. No gateway may be at work
//! on the database meanwhile.

use std::collections::HashMap;

use sea_orm::sea_query::{OnConflict, Query};
use sea_orm::{
    ActiveModelTrait, ConnectionTrait as _, DatabaseConnection, DatabaseTransaction, DbBackend,
    EntityTrait, IntoActiveModel as _, Iterable as _, QueryOrder as _, Set, Statement,
    TransactionTrait as _, Value, Values,
};

use super::Error;
use super::change::{Change, Key, KeyWrite, StoredAnswer};
use super::{OpenError, beside, connect, prepare, writer};
use crate::domain::Timestamp;
use crate::domain::id::PaymentId;
use crate::store::installation;
use crate::store::ledger::entity::{ledger_block, ledger_entry};
use crate::store::ledger::entries as ledger;
use crate::store::ledger::entries::Block;
use crate::store::payment::entity::{attempt, idempotency_key, payment, refund};
use crate::store::payment::rows;
use crate::store::review::entity::operation;
use crate::store::review::operations;
use crate::store::review::operations::OperationRow;
use crate::store::webhook::delivery_rows::{self, DeliveryRow};
use crate::store::webhook::entity::{delivery, delivery_try, event};

/// Rows of one statement, the largest that are left first: a few texts for each table, which stay
/// prepared.
const ROWS_AT_ONCE: [usize; 3] = [256, 16, 1];
/// The fact that says which indexes are missing while lives are written.
const SET_ASIDE: &str = "indexes_set_aside";
/// What is filled.
const TABLES: [&str; 8] = [
    "payments",
    "attempts",
    "refunds",
    "events",
    "deliveries",
    "delivery_tries",
    "ledger_entries",
    "operations",
];
/// What SQLite may keep in memory while it is filled, in KiB, and how long its log grows, in pages.
/// What is lost when the machine fails is what the next run finds missing.
const SQLITE: &str =
    "PRAGMA cache_size = -524288; PRAGMA wal_autocheckpoint = 40000; PRAGMA synchronous = NORMAL;";

/// Everything that was committed about one payment, in order, and what became of its webhooks.
#[derive(Debug, Clone)]
pub struct Life {
    /// The first one makes it.
    pub changes: Vec<Change>,
    /// Deliveries of the events that the changes tell of.
    pub deliveries: Vec<DeliveryRow>,
    /// Entries of the work list about it.
    pub operations: Vec<OperationRow>,
    /// Whether what need not be kept for long is still there: its idempotency keys, and each try of
    /// its webhooks.
    pub is_recent: bool,
}

impl Life {
    /// The last of its changes.
    #[must_use]
    pub fn end(&self) -> Option<&Change> {
        self.changes.last()
    }

    /// When that was.
    #[must_use]
    pub fn ends_at(&self) -> Timestamp {
        self.end().map_or(Timestamp(0), |change| change.at)
    }
}

/// Lives that are ready to be written together.
#[derive(Debug)]
pub struct Batch {
    statements: Vec<Statement>,
}

/// Makes batches of lives, one after the other.
#[derive(Debug)]
pub struct Batches {
    backend: DbBackend,
    sealed: Option<Block>,
    texts: HashMap<(&'static str, usize), String>,
}

/// The way into a database for batches.
#[derive(Debug)]
pub struct Bulk {
    db: DatabaseConnection,
}

/// Batches that are committed together.
#[derive(Debug)]
pub struct BulkTransaction {
    tx: DatabaseTransaction,
}

impl Bulk {
    /// Opens the database at `url`, brings its tables up to date, and sets the indexes aside that
    /// refuse nothing: they are made in one go when everything is written.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open(url: &str) -> Result<Self, OpenError> {
        prepare(url).await?;
        Ok(Self {
            db: connect(url, 1).await?,
        })
    }

    /// What makes batches, from the last block on.
    ///
    /// # Errors
    /// The database's.
    pub async fn batches(&self) -> Result<Batches, Error> {
        let last = ledger_block::Entity::find()
            .order_by_desc(ledger_block::Column::Height)
            .one(&self.db)
            .await?;
        let backend = self.db.get_database_backend();
        Ok(Batches {
            backend,
            sealed: last.map(Block::from),
            texts: HashMap::new(),
        })
    }

    /// Begins: from now on until [`Bulk::end`] only unique indexes are there. Beginning again goes
    /// on.
    ///
    /// # Errors
    /// The database's.
    pub async fn begin(&self) -> Result<(), Error> {
        if self.is_sqlite() {
            self.db.execute_unprepared(SQLITE).await?;
        }
        let tx = self.db.begin().await?;
        let mut known = self.set_aside(&tx).await?;
        for (name, made_by) in self.indexes(&tx).await? {
            tx.execute_unprepared(&format!("DROP INDEX {name}")).await?;
            known.push(made_by);
        }
        let known =
            serde_json::to_string(&known).map_err(|error| Error::Other(error.to_string()))?;
        tx.execute(&fact(SET_ASIDE, &known)).await?;
        Ok(tx.commit().await?)
    }

    /// Whether it was begun and has not ended.
    ///
    /// # Errors
    /// The database's.
    pub async fn is_begun(&self) -> Result<bool, Error> {
        Ok(!self.set_aside(&self.db).await?.is_empty())
    }

    /// Begins a transaction, for as many batches as one likes.
    ///
    /// # Errors
    /// The database's.
    pub async fn transaction(&self) -> Result<BulkTransaction, Error> {
        Ok(BulkTransaction {
            tx: self.db.begin().await?,
        })
    }

    /// Makes the indexes again that were set aside.
    ///
    /// # Errors
    /// The database's.
    pub async fn end(&self) -> Result<(), Error> {
        for made_by in self.set_aside(&self.db).await? {
            // One that is there was made by a run that did not come to its end.
            let again = made_by.replacen("CREATE INDEX ", "CREATE INDEX IF NOT EXISTS ", 1);
            self.db.execute_unprepared(&again).await?;
        }
        self.db.execute(&fact(SET_ASIDE, "[]")).await?;
        // PostgreSQL looks at what has changed by itself, a minute later.
        let analyze = match self.is_sqlite() {
            true => "PRAGMA wal_checkpoint(TRUNCATE)".to_owned(),
            false => format!("ANALYZE {}", TABLES.join(", ")),
        };
        Ok(self.db.execute_unprepared(&analyze).await.map(|_| ())?)
    }

    /// Closes the connection.
    ///
    /// # Errors
    /// The database's.
    pub async fn close(self) -> Result<(), Error> {
        Ok(self.db.close().await?)
    }

    fn is_sqlite(&self) -> bool {
        self.db.get_database_backend() == DbBackend::Sqlite
    }

    async fn set_aside(&self, db: &impl sea_orm::ConnectionTrait) -> Result<Vec<String>, Error> {
        let stored = installation::Entity::find_by_id(SET_ASIDE).one(db).await?;
        let texts = stored.map_or(Ok(Vec::new()), |row| serde_json::from_str(&row.value));
        texts.map_err(|error| Error::Other(error.to_string()))
    }

    /// Indexes of these tables that refuse nothing, by name, and what makes each.
    async fn indexes(
        &self,
        db: &impl sea_orm::ConnectionTrait,
    ) -> Result<Vec<(String, String)>, Error> {
        let tables = TABLES.map(|table| format!("'{table}'")).join(", ");
        let asked = if self.is_sqlite() {
            format!(
                "SELECT name, sql AS made_by FROM sqlite_master \
                 WHERE type = 'index' AND tbl_name IN ({tables}) AND sql LIKE 'CREATE INDEX %'"
            )
        } else {
            format!(
                "SELECT CAST(indexname AS text) AS name, indexdef AS made_by FROM pg_indexes WHERE \
                schemaname = current_schema() AND tablename IN ({tables}) AND indexdef LIKE \
                'CREATE INDEX %'"
            )
        };

        let found = db
            .query_all_raw(Statement::from_string(
                self.db.get_database_backend(),
                asked,
            ))
            .await?;

        found
            .iter()
            .map(|row| Ok((row.try_get("", "name")?, row.try_get("", "made_by")?)))
            .collect()
    }
}

impl BulkTransaction {
    /// Writes a batch.
    ///
    /// # Errors
    /// The database's.
    pub async fn write(&self, batch: Batch) -> Result<(), Error> {
        for statement in batch.statements {
            self.tx.execute_raw(statement).await?;
        }
        Ok(())
    }

    /// Notes how far the work has come, and commits that together with what was written.
    ///
    /// # Errors
    /// The database's.
    pub async fn commit(self, name: &str, progress: &str) -> Result<(), Error> {
        self.tx.execute(&fact(name, progress)).await?;
        Ok(self.tx.commit().await?)
    }
}

fn fact(name: &str, value: &str) -> sea_orm::sea_query::InsertStatement {
    let changed = OnConflict::column(installation::Column::Name)
        .update_column(installation::Column::Value)
        .to_owned();
    Query::insert()
        .into_table(installation::Entity)
        .columns([installation::Column::Name, installation::Column::Value])
        .values_panic([name.into(), value.into()])
        .on_conflict(changed)
        .to_owned()
}

impl Batches {
    /// The next one. What it books is sealed at `now`.
    ///
    /// # Errors
    /// When a statement cannot be written.
    pub fn next(&mut self, lives: &[Life], now: Timestamp) -> Result<Batch, Error> {
        let mut statements = Vec::new();
        let out = &mut statements;
        let ends = || lives.iter().filter_map(|life| life.changes.last());
        let changes = || lives.iter().flat_map(|life| &life.changes);

        self.insert::<payment::Entity>(
            out,
            ends()
                .map(|end| rows::payment_row(&end.after, end.at))
                .collect(),
        )?;
        let attempts = ends()
            .flat_map(|end| &end.after.attempts)
            .map(rows::attempt_row);
        self.insert::<attempt::Entity>(out, attempts.collect())?;
        let refunds = ends()
            .flat_map(|end| &end.after.refunds)
            .map(rows::refund_row);
        self.insert::<refund::Entity>(out, refunds.collect())?;
        let recent = || lives.iter().filter(|life| life.is_recent);
        self.insert::<idempotency_key::Entity>(out, recent().flat_map(keys).collect())?;

        let events = changes()
            .flat_map(writer::event_rows)
            .map(|row| event::Model {
                fan_out_at: None,
                ..row
            });
        let events = events.map(|row| row.into_active_model().reset_all());
        self.insert::<event::Entity>(out, events.collect())?;
        let deliveries = || lives.iter().flat_map(|life| &life.deliveries);
        self.insert::<delivery::Entity>(out, deliveries().map(delivery_rows::row).collect())?;
        let tries = recent()
            .flat_map(|life| &life.deliveries)
            .filter_map(delivery_rows::try_row);
        self.insert::<delivery_try::Entity>(out, tries.collect())?;

        let raised = changes()
            .flat_map(|change| &change.operations)
            .map(beside::operation_row);
        let listed = lives
            .iter()
            .flat_map(|life| &life.operations)
            .map(operations::row);
        self.insert::<operation::Entity>(out, raised.chain(listed).collect())?;
        self.seal(
            out,
            &changes()
                .flat_map(|change| &change.entries)
                .collect::<Vec<_>>(),
            now,
        )?;
        Ok(Batch { statements })
    }

    /// Books entries, and seals them into a block of their own.
    fn seal(
        &mut self,
        out: &mut Vec<Statement>,
        entries: &[&crate::domain::ledger::Entry],
        now: Timestamp,
    ) -> Result<(), Error> {
        let mut named: Vec<_> = entries
            .iter()
            .map(|e| (e.payment_id.clone(), e.seq, e.hash.clone()))
            .collect();
        if named.is_empty() {
            return Ok(());
        }
        named.sort();
        let block = Block::after(self.sealed.as_ref(), &named, now);

        self.insert::<ledger_block::Entity>(out, vec![ledger::block_row(&block)])?;
        let sealed = |entry: &&crate::domain::ledger::Entry| ledger_entry::ActiveModel {
            block: Set(Some(block.height)),
            ..beside::entry_row(entry)
        };
        self.insert::<ledger_entry::Entity>(out, entries.iter().map(sealed).collect())?;
        self.sealed = Some(block);
        Ok(())
    }

    fn insert<E: EntityTrait>(
        &mut self,
        out: &mut Vec<Statement>,
        rows: Vec<E::ActiveModel>,
    ) -> Result<(), Error>
    where
        E::ActiveModel: ActiveModelTrait<Entity = E>,
    {
        let mut rows = rows.into_iter().peekable();
        let mut left = rows.len();
        while rows.peek().is_some() {
            let length = ROWS_AT_ONCE
                .into_iter()
                .find(|length| *length <= left)
                .unwrap_or(1);
            left = left.saturating_sub(length);
            let values: Vec<Vec<Value>> = rows.by_ref().take(length).map(values::<E>).collect();
            out.push(self.statement::<E>(values)?);
        }
        Ok(())
    }

    fn statement<E: EntityTrait>(&mut self, rows: Vec<Vec<Value>>) -> Result<Statement, Error> {
        let key = (E::default().as_str(), rows.len());
        if let Some(text) = self.texts.get(&key) {
            let values = rows.into_iter().flatten().collect();
            return Ok(Statement {
                sql: text.clone(),
                values: Some(Values(values)),
                db_backend: self.backend,
            });
        }

        let mut insert = Query::insert()
            .into_table(E::default())
            .columns(E::Column::iter())
            .to_owned();
        for row in rows {
            insert
                .values(row.into_iter().map(Into::into))
                .map_err(|error| Error::Other(error.to_string()))?;
        }

        let statement = self.backend.build(&insert);
        self.texts.insert(key, statement.sql.clone());
        Ok(statement)
    }
}

/// A row's values in the order of its columns.
fn values<E: EntityTrait>(mut row: E::ActiveModel) -> Vec<Value>
where
    E::ActiveModel: ActiveModelTrait<Entity = E>,
{
    E::Column::iter()
        .filter_map(|column| row.take(column).into_value())
        .collect()
}

/// A life's idempotency keys, each as its last change has left it.
fn keys(life: &Life) -> Vec<idempotency_key::ActiveModel> {
    let mut stored: Vec<(&Key, &PaymentId, Option<&StoredAnswer>)> = Vec::new();
    for change in &life.changes {
        match &change.key {
            Some(KeyWrite::Claim(key)) => stored.push((key, &change.after.payment.id, None)),
            Some(KeyWrite::Answer(key, answer)) => {
                let claimed = stored
                    .iter_mut()
                    .find(|(claimed, _, _)| claimed.scope == key.scope);
                if let Some((_, _, answered)) = claimed {
                    *answered = Some(answer);
                }
            }
            None => {}
        }
    }

    stored
        .into_iter()
        .map(|(key, payment_id, answer)| beside::key_row(key, payment_id, answer))
        .collect()
}
