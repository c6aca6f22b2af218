//! What becomes of each event at each receiver. The rows are the jobs: an event waits until its
//! deliveries are made ([`Store::fan_out`]), a delivery until it is received or given up.
//! `next_try_at` is when it is due; whoever claims it moves that to the end of its lease, and
//! `fence` tells a worker that woke up too late from its successor.
//!
//! An event's deliveries are made apart from the payment's commit, which so reads and writes
//! nothing more than the event itself; one that is not made yet is found in the row, whatever dies
//! in between. A delivery's id is made of the event's and the receiver's, so that making it twice
//! makes it once.

use std::collections::{HashMap, HashSet};

use sea_orm::sea_query::{
    Expr, ExprTrait as _, IntoColumnRef as _, LockBehavior, LockType, OnConflict, Query, SimpleExpr,
};
use sea_orm::{
    ColumnTrait as _, EntityTrait as _, FromQueryResult as _, Iterable as _, QueryFilter as _,
    QueryOrder as _, QuerySelect as _, Statement,
};

use crate::domain::id::{EventId, MerchantId, PaymentId};
use crate::domain::webhook::{End, State};
use crate::domain::{AllOwners, Mode, Owner, Timestamp};
use crate::store::Error;
use crate::store::Store;
use crate::store::connection::Tx;
use crate::store::payment::entity::payment;
use crate::store::webhook::delivery_rows::{DeliveryRow, EventRow, row, try_row};
use crate::store::webhook::endpoints::{EndpointRow, stop_waiting};
use crate::store::webhook::entity::{delivery, delivery_try, event, webhook_endpoint as endpoint};

/// Rows of one statement: SQLite takes 32,766 parameters.
const ROWS_AT_ONCE: usize = 500;
/// A clock that is set, on a machine or at the database, is put right within so long.
const CLOCKS_DIFFER_S: i64 = 2 * 86_400;
/// What removed rows of one statement at most.
const PRUNED_AT_ONCE: u64 = 1_000;

/// Lanes with something that waits, each with its earliest time. Jumps from lane to lane through an
/// index: a lane with a million waiting rows costs as much as one with a single row.
const LANES: &str = "WITH RECURSIVE lanes(lane) AS (SELECT MIN(lane) FROM deliveries WHERE \
                     next_try_at IS NOT NULL UNION ALL SELECT (SELECT MIN(d.lane) FROM deliveries \
                     d WHERE d.next_try_at IS NOT NULL AND d.lane > lanes.lane) FROM lanes WHERE \
                     lanes.lane IS NOT NULL) SELECT lane, (SELECT MIN(d.next_try_at) FROM \
                     deliveries d WHERE d.next_try_at IS NOT NULL AND d.lane = lanes.lane) AS due, \
                     (SELECT d.merchant_id || CASE WHEN d.livemode THEN ' live' ELSE ' test' END \
                     FROM deliveries d WHERE d.next_try_at IS NOT NULL AND d.lane = lanes.lane \
                     LIMIT 1) AS owner FROM lanes WHERE lane IS NOT NULL";

/// Which events a list shows, newest first.
#[derive(Debug, Clone, Default)]
pub struct EventFilter {
    /// Only of this kind.
    pub kind: Option<String>,
    /// Only about this payment. Whoever asks may name none.
    pub payment_id: Option<String>,
    /// Happened then or later.
    pub created_from: Option<Timestamp>,
    /// Only those older than this event.
    pub starting_after: Option<EventId>,
    /// At most so many.
    pub limit: u64,
}

/// Which deliveries a list shows, newest first.
#[derive(Debug, Clone, Default)]
pub struct DeliveryFilter {
    /// Only of this event. Whoever asks may name none.
    pub event_id: Option<String>,
    /// Only to this endpoint.
    pub endpoint_id: Option<String>,
    /// Only in this state.
    pub status: Option<State>,
    /// Only those older than this delivery.
    pub starting_after: Option<String>,
    /// At most so many.
    pub limit: u64,
}

/// Who receives an event.
#[derive(Debug, Clone, Copy)]
pub enum Receiver<'a> {
    /// An endpoint, by its id.
    Endpoint(&'a str),
    /// The payment's own address.
    NotifyUrl(&'a str),
}

/// An endpoint that has received nothing for long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failing {
    /// Which.
    pub endpoint_id: String,
    /// Whose.
    pub owner: Owner,
    /// Since then.
    pub since: Timestamp,
}

impl Store {
    /// Makes the deliveries of up to `limit` events that have none yet, and returns how many events
    /// that were. `before_commit` is called at the last moment at which nothing is written: a drill
    /// kills the process there.
    ///
    /// # Errors
    /// The database's.
    pub async fn fan_out(
        &self,
        now: Timestamp,
        limit: u64,
        before_commit: fn(),
    ) -> Result<usize, Error> {
        let waiting = event::Entity::find().filter(event::Column::FanOutAt.is_not_null());
        // Mostly there is nothing: then nobody's lock on the database is waited for.
        if waiting
            .clone()
            .select_only()
            .column(event::Column::Id)
            .limit(1)
            .into_tuple::<String>()
            .one(&self.db)
            .await?
            .is_none()
        {
            return Ok(0);
        }
        let tx = self.db.write().await?;
        let mut waiting = waiting.order_by_asc(event::Column::FanOutAt).limit(limit);
        if self.is_postgres() {
            waiting = waiting.lock_with_behavior(LockType::Update, LockBehavior::SkipLocked);
        }

        let mut events: Vec<EventRow> = waiting
            .clone()
            .all(&tx)
            .await?
            .into_iter()
            .map(EventRow::from)
            .collect();

        // Whoever has made most of what waits does not make the others wait behind all of it.
        if let Some(crowd) = most_of(&events, limit) {
            let is_another = event::Column::MerchantId
                .ne(&crowd.merchant)
                .or(event::Column::Livemode.ne(crowd.is_live()));
            let others = waiting.filter(is_another).limit(limit);
            let known: HashSet<EventId> = events.iter().map(|event| event.id.clone()).collect();
            let others = others.all(&tx).await?.into_iter().map(EventRow::from);
            events.extend(others.filter(|event| !known.contains(&event.id)));
        }

        let endpoints = enabled_endpoints(&tx, &events).await?;
        let notify_urls = notify_urls(&tx, &events).await?;
        let mut rows = Vec::new();

        for event in &events {
            // An endpoint that was made later has not asked for what was before. Clocks may have
            // been wrong when either was made: better one that it has not asked for than one that
            // nobody is told of.
            let theirs = endpoints.iter().filter(|e| {
                e.owner == event.owner
                    && e.created_at <= event.created_at.plus_s(CLOCKS_DIFFER_S)
                    && e.wants(&event.kind)
            });
            rows.extend(theirs.map(|e| new_row(event, Receiver::Endpoint(&e.id), now)));
            if let Some(url) = notify_urls.get(&event.payment_id) {
                rows.push(new_row(event, Receiver::NotifyUrl(url), now));
            }
        }

        insert(&tx, rows, &OnConflict::new().do_nothing().to_owned()).await?;
        event::Entity::update_many()
            .col_expr(event::Column::FanOutAt, Expr::value(None::<i64>))
            .filter(event::Column::Id.is_in(events.iter().map(|event| event.id.clone())))
            .exec(&tx)
            .await?;

        before_commit();
        tx.commit().await?;
        Ok(events.len())
    }

    /// Lanes in which something is due, each with its owner, the longest waiting first.
    ///
    /// # Errors
    /// The database's.
    pub async fn due_lanes(&self, now: Timestamp) -> Result<Vec<(String, String)>, Error> {
        #[derive(sea_orm::FromQueryResult)]
        struct Lane {
            lane: String,
            due: i64,
            owner: Option<String>,
        }
        let statement = Statement::from_string(self.db.backend(), LANES);
        let mut lanes = Lane::find_by_statement(statement).all(&self.db).await?;
        lanes.retain(|lane| lane.due <= now.0);
        lanes.sort_by_key(|lane| lane.due);
        // Nobody's, when the last of them was received between two looks.
        Ok(lanes
            .into_iter()
            .map(|lane| (lane.lane, lane.owner.unwrap_or_default()))
            .collect())
    }

    /// Takes deliveries that are due, at most so many of each lane, and leases them until
    /// `lease_until`.
    ///
    /// # Errors
    /// The database's.
    pub async fn claim_deliveries(
        &self,
        lanes: &[(String, u64)],
        now: Timestamp,
        lease_until: Timestamp,
    ) -> Result<Vec<DeliveryRow>, Error> {
        use delivery::Column as C;

        let mut ids: Vec<String> = Vec::new();
        for (lane, limit) in lanes {
            let due = delivery::Entity::find()
                .select_only()
                .column(C::Id)
                .filter(C::Lane.eq(lane))
                .filter(C::NextTryAt.lte(now.0))
                .order_by_asc(C::NextTryAt)
                .limit(*limit);
            ids.extend(due.into_tuple::<String>().all(&self.db).await?);
        }

        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut due = Query::select();

        due.column(C::Id)
            .from(delivery::Entity)
            .cond_where(C::Id.is_in(ids))
            .cond_where(C::NextTryAt.lte(now.0));
        if self.is_postgres() {
            due.lock_with_behavior(LockType::Update, LockBehavior::SkipLocked);
        }
        let rows = delivery::Entity::update_many()
            .col_expr(C::NextTryAt, Expr::value(lease_until.0))
            .col_expr(C::Fence, Expr::col(C::Fence).add(1))
            .filter(C::Id.in_subquery(due))
            .exec_with_returning(&self.db)
            .await?;

        rows.into_iter().map(DeliveryRow::try_from).collect()
    }

    /// Writes what came of tries, in one commit: each row as it is given here, unless somebody has
    /// claimed it since.
    ///
    /// # Errors
    /// The database's; nothing is written then.
    pub async fn record_tries(&self, tried: &[DeliveryRow]) -> Result<(), Error> {
        let tx = self.db.write().await?;
        let stored: SimpleExpr =
            Expr::col((delivery::Entity, delivery::Column::Fence).into_column_ref());
        let own: SimpleExpr = Expr::col(("excluded", delivery::Column::Fence).into_column_ref());
        let mine = OnConflict::column(delivery::Column::Id)
            .update_columns(delivery::Column::iter().filter(|c| !matches!(c, delivery::Column::Id)))
            .action_and_where(stored.eq(own))
            .to_owned();
        let gone = gone(&tx, tried).await?;
        insert(&tx, latest(tried).into_iter().map(row).collect(), &mine).await?;
        let tries: Vec<_> = tried.iter().filter_map(try_row).collect();

        for rows in tries.chunks(ROWS_AT_ONCE) {
            delivery_try::Entity::insert_many(rows.to_vec())
                .on_conflict(OnConflict::new().do_nothing().to_owned())
                .exec_without_returning(&tx)
                .await?;
        }

        stop_for_the_gone(&tx, &gone).await?;
        note_health(&tx, tried).await?;
        Ok(tx.commit().await?)
    }

    /// Endpoints that have received nothing since `then` or longer: for the worker that says so.
    ///
    /// # Errors
    /// The database's.
    pub async fn failing_endpoints(
        &self,
        _: AllOwners,
        then: Timestamp,
    ) -> Result<Vec<Failing>, Error> {
        let rows = endpoint::Entity::find()
            .filter(endpoint::Column::FailingSince.lte(then.0))
            .filter(endpoint::Column::DisabledReason.is_null())
            .all(&self.db)
            .await?;

        Ok(rows
            .into_iter()
            .filter_map(|m| {
                let since = m.failing_since.map(Timestamp)?;
                Some(Failing {
                    endpoint_id: m.id,
                    owner: Owner::of(m.merchant_id, m.livemode),
                    since,
                })
            })
            .collect())
    }

    /// Sends these events to a receiver, whether it has had them or not: a new delivery, or the old
    /// one from the beginning. Whoever is sending it now does not decide any more what becomes of
    /// it.
    ///
    /// # Errors
    /// The database's.
    pub async fn deliver_again(
        &self,
        to: &[(&EventRow, Receiver<'_>)],
        now: Timestamp,
    ) -> Result<(), Error> {
        use delivery::Column as C;

        let fence: SimpleExpr = Expr::col((delivery::Entity, C::Fence).into_column_ref());
        let from_the_beginning = OnConflict::column(C::Id)
            .update_columns([
                C::Status,
                C::Tries,
                C::NextTryAt,
                C::Url,
                C::Lane,
                C::DeliveredAt,
            ])
            .value(C::Fence, fence.add(1))
            .to_owned();

        let rows = to
            .iter()
            .map(|(event, receiver)| new_row(event, *receiver, now))
            .collect();
        let tx = self.db.write().await?;
        insert(&tx, rows, &from_the_beginning).await?;

        Ok(tx.commit().await?)
    }

    /// When the oldest event of a mode happened that somebody has still to receive.
    ///
    /// # Errors
    /// The database's.
    pub async fn oldest_undelivered(&self, mode: Mode) -> Result<Option<Timestamp>, Error> {
        let delivery: Option<Option<i64>> = delivery::Entity::find()
            .select_only()
            .column_as(delivery::Column::CreatedAt.min(), "at")
            .filter(delivery::Column::NextTryAt.is_not_null())
            .filter(delivery::Column::Livemode.eq(mode.is_live()))
            .into_tuple()
            .one(&self.db)
            .await?;

        let event: Option<Option<i64>> = event::Entity::find()
            .select_only()
            .column_as(event::Column::FanOutAt.min(), "at")
            .filter(event::Column::FanOutAt.is_not_null())
            .filter(event::Column::Livemode.eq(mode.is_live()))
            .into_tuple()
            .one(&self.db)
            .await?;

        Ok(delivery
            .flatten()
            .into_iter()
            .chain(event.flatten())
            .min()
            .map(Timestamp))
    }

    /// Forgets deliveries that ended, and tries, from before `then`; some of them at a time. Events
    /// stay.
    ///
    /// # Errors
    /// The database's.
    pub async fn prune_deliveries(&self, then: Timestamp) -> Result<(), Error> {
        let mut old = Query::select();
        old.column(delivery::Column::Id)
            .from(delivery::Entity)
            .cond_where(delivery::Column::CreatedAt.lt(then.0))
            .cond_where(delivery::Column::NextTryAt.is_null())
            .limit(PRUNED_AT_ONCE);

        delivery::Entity::delete_many()
            .filter(delivery::Column::Id.in_subquery(old))
            .exec(&self.db)
            .await?;
        let mut old = Query::select();

        old.column(delivery_try::Column::DeliveryId)
            .from(delivery_try::Entity)
            .cond_where(delivery_try::Column::TriedAt.lt(then.0))
            .limit(PRUNED_AT_ONCE);
        delivery_try::Entity::delete_many()
            .filter(delivery_try::Column::DeliveryId.in_subquery(old))
            .filter(delivery_try::Column::TriedAt.lt(then.0))
            .exec(&self.db)
            .await?;

        Ok(())
    }
}

/// The owner of more than half of a full batch.
fn most_of(events: &[EventRow], limit: u64) -> Option<Owner> {
    let mut by_owner: HashMap<&Owner, u64> = HashMap::new();
    events
        .iter()
        .for_each(|event| *by_owner.entry(&event.owner).or_default() += 1);
    let is_full = by_owner.values().sum::<u64>() >= limit;
    let most = by_owner.into_iter().max_by_key(|(_, count)| *count)?;
    (is_full && most.1 > limit / 2).then(|| most.0.clone())
}

async fn enabled_endpoints(tx: &Tx, events: &[EventRow]) -> Result<Vec<EndpointRow>, Error> {
    // Whose they are, mode and all, is compared event by event.
    let merchants: HashSet<&MerchantId> =
        events.iter().map(|event| &event.owner.merchant).collect();
    let rows = endpoint::Entity::find()
        .filter(endpoint::Column::MerchantId.is_in(merchants))
        .filter(endpoint::Column::DisabledReason.is_null())
        .all(tx)
        .await?;
    rows.into_iter().map(EndpointRow::try_from).collect()
}

/// The `notify_url`s of these events' payments, but for those that have answered that they want no
/// more.
async fn notify_urls(tx: &Tx, events: &[EventRow]) -> Result<HashMap<PaymentId, String>, Error> {
    let payments: HashSet<&PaymentId> = events.iter().map(|event| &event.payment_id).collect();
    let with_url: Vec<(PaymentId, Option<String>)> = payment::Entity::find()
        .select_only()
        .columns([payment::Column::Id, payment::Column::NotifyUrl])
        .filter(payment::Column::Id.is_in(payments))
        .filter(payment::Column::NotifyUrl.is_not_null())
        .into_tuple()
        .all(tx)
        .await?;

    let mut urls: HashMap<PaymentId, String> = with_url
        .into_iter()
        .filter_map(|(id, url)| Some((id, url?)))
        .collect();
    if urls.is_empty() {
        return Ok(urls);
    }
    let gone: Vec<PaymentId> = delivery::Entity::find()
        .select_only()
        .column(delivery::Column::PaymentId)
        .filter(delivery::Column::PaymentId.is_in(urls.keys()))
        .filter(delivery::Column::EndpointId.is_null())
        .filter(delivery::Column::LastEnd.eq(End::Gone.to_string()))
        .into_tuple()
        .all(tx)
        .await?;

    urls.retain(|payment_id, _| !gone.contains(payment_id));
    Ok(urls)
}

/// A delivery that is due at once.
fn new_row(event: &EventRow, receiver: Receiver<'_>, now: Timestamp) -> delivery::ActiveModel {
    let (endpoint_id, url, lane) = match receiver {
        Receiver::Endpoint(id) => (Some(id.to_owned()), None, id.to_owned()),
        // A shop with a `notify_url` for each payment is one receiver all the same: scheme, host
        // and port.
        Receiver::NotifyUrl(url) => {
            let origin: Vec<&str> = url.split('/').take(3).collect();
            (
                None,
                Some(url.to_owned()),
                format!("{} {}", event.owner, origin.join("/")),
            )
        }
    };

    row(&DeliveryRow {
        id: format!(
            "{}_{}",
            event.id,
            endpoint_id.as_deref().unwrap_or("notify_url")
        ),
        event_id: event.id.clone(),
        owner: event.owner.clone(),
        payment_id: event.payment_id.clone(),
        endpoint_id,
        url,
        lane,
        status: State::Pending,
        tries: 0,
        fence: 0,
        next_try_at: Some(now),
        created_at: now,
        delivered_at: None,
        last: None,
    })
}

async fn insert(
    tx: &Tx,
    rows: Vec<delivery::ActiveModel>,
    on_conflict: &OnConflict,
) -> Result<(), Error> {
    for rows in rows.chunks(ROWS_AT_ONCE) {
        delivery::Entity::insert_many(rows.to_vec())
            .on_conflict(on_conflict.clone())
            .exec_without_returning(tx)
            .await?;
    }
    Ok(())
}

/// The newest claim of each delivery: one statement must not meet a row twice. In the order of
/// their ids, in which everybody locks rows.
fn latest(tried: &[DeliveryRow]) -> Vec<&DeliveryRow> {
    let mut rows: Vec<&DeliveryRow> = tried.iter().collect();
    rows.sort_by(|a, b| (&a.id, b.fence).cmp(&(&b.id, a.fence)));
    rows.dedup_by(|later, first| later.id == first.id);
    rows
}

/// Tries that were answered with 410 and have not been stopped or begun anew meanwhile: who has
/// enabled an endpoint again has not heard what one says of before.
async fn gone<'a>(tx: &Tx, tried: &'a [DeliveryRow]) -> Result<Vec<&'a DeliveryRow>, Error> {
    use delivery::Column as C;

    let mut gone: Vec<&DeliveryRow> = tried
        .iter()
        .filter(|row| row.last.as_ref().is_some_and(|last| last.end == End::Gone))
        .collect();
    if gone.is_empty() {
        return Ok(gone);
    }
    let waiting = delivery::Entity::find()
        .select_only()
        .columns([C::Id, C::Fence])
        .filter(C::Id.is_in(gone.iter().map(|row| row.id.clone())))
        .filter(C::Status.eq(State::Pending.to_string()));

    let waiting: HashSet<(String, i32)> = waiting.into_tuple().all(tx).await?.into_iter().collect();
    gone.retain(|row| waiting.contains(&(row.id.clone(), row.fence)));
    Ok(gone)
}

/// Who answered 410 gets no more: an endpoint is disabled, and of a payment's own address nothing
/// waits any longer.
async fn stop_for_the_gone(tx: &Tx, gone: &[&DeliveryRow]) -> Result<(), Error> {
    for row in gone {
        match &row.endpoint_id {
            Some(id) => {
                endpoint::Entity::update_many()
                    .col_expr(
                        endpoint::Column::DisabledReason,
                        Expr::value(End::Gone.to_string()),
                    )
                    .col_expr(
                        endpoint::Column::Version,
                        Expr::col(endpoint::Column::Version).add(1),
                    )
                    .filter(endpoint::Column::Id.eq(id))
                    .filter(endpoint::Column::DisabledReason.is_null())
                    .exec(tx)
                    .await?;
                stop_waiting(tx, id).await?;
            }
            None => {
                delivery::Entity::update_many()
                    .col_expr(
                        delivery::Column::Status,
                        Expr::value(State::Stopped.to_string()),
                    )
                    .col_expr(delivery::Column::NextTryAt, Expr::value(None::<i64>))
                    .filter(delivery::Column::PaymentId.eq(&row.payment_id))
                    .filter(delivery::Column::EndpointId.is_null())
                    .filter(delivery::Column::NextTryAt.is_not_null())
                    .exec(tx)
                    .await?;
            }
        }
    }

    Ok(())
}

/// Remembers since when an endpoint has received nothing.
async fn note_health(tx: &Tx, tried: &[DeliveryRow]) -> Result<(), Error> {
    use endpoint::Column as C;

    let mut well: HashSet<&String> = HashSet::new();
    let mut failing: HashMap<&String, i64> = HashMap::new();

    for row in tried {
        let (Some(id), Some(last)) = (&row.endpoint_id, &row.last) else {
            continue;
        };
        match last.end {
            End::Delivered => drop(well.insert(id)),
            // Nobody has tried.
            End::EndpointDisabled => {}
            End::Gone
            | End::HttpStatus
            | End::WrongBody
            | End::ForbiddenAddress
            | End::Unreachable
            | End::Timeout
            | End::Broken => drop(failing.insert(id, last.at.0)),
        }
    }

    if !well.is_empty() {
        endpoint::Entity::update_many()
            .col_expr(C::FailingSince, Expr::value(None::<i64>))
            .filter(C::Id.is_in(well.iter().copied()))
            .filter(C::FailingSince.is_not_null())
            .exec(tx)
            .await?;
    }

    for (id, since) in failing.into_iter().filter(|(id, _)| !well.contains(id)) {
        endpoint::Entity::update_many()
            .col_expr(C::FailingSince, Expr::value(since))
            .filter(C::Id.eq(id))
            .filter(C::FailingSince.is_null())
            .exec(tx)
            .await?;
    }

    Ok(())
}
