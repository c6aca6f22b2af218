//! What merchants read about events and their deliveries. Every read names the owner, that of a
//! cursor's row too.

use std::collections::HashMap;

use sea_orm::{
    ColumnTrait as _, Condition, EntityTrait as _, QueryFilter as _, QueryOrder as _,
    QuerySelect as _,
};

use crate::domain::id::EventId;
use crate::domain::{AllOwners, Owner, Timestamp};
use crate::store::Error;
use crate::store::Store;
use crate::store::lists::{beside, beside_one_of, is, newer_than, older_than};
use crate::store::webhook::deliveries::{DeliveryFilter, EventFilter};
use crate::store::webhook::delivery_rows::{DeliveryAttempt, DeliveryRow, EventRow};
use crate::store::webhook::entity::{delivery, delivery_try, event};

impl Store {
    /// These events: for workers.
    ///
    /// # Errors
    /// The database's.
    pub async fn events_by_id(
        &self,
        _: AllOwners,
        ids: Vec<EventId>,
    ) -> Result<HashMap<EventId, EventRow>, Error> {
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let rows = event::Entity::find()
            .filter(event::Column::Id.is_in(ids))
            .all(&self.db)
            .await?;
        Ok(rows
            .into_iter()
            .map(|m| (m.id.clone(), EventRow::from(m)))
            .collect())
    }

    /// An owner's event.
    ///
    /// # Errors
    /// The database's.
    pub async fn event_of(&self, owner: &Owner, id: &EventId) -> Result<Option<EventRow>, Error> {
        let row = event::Entity::find_by_id(id.clone())
            .filter(event::Column::MerchantId.eq(&owner.merchant))
            .filter(event::Column::Livemode.eq(owner.is_live()))
            .one(&self.db)
            .await?;
        Ok(row.map(EventRow::from))
    }

    /// An owner's events, newest first.
    ///
    /// # Errors
    /// The database's.
    pub async fn events(
        &self,
        owner: &Owner,
        filter: &EventFilter,
    ) -> Result<Vec<EventRow>, Error> {
        use event::Column as C;

        // A payment has few, and one owner.
        let mut query = match &filter.payment_id {
            Some(payment_id) => event::Entity::find()
                .filter(C::PaymentId.eq(payment_id))
                .filter(beside("merchant_id", owner.merchant.as_str())),
            None => event::Entity::find().filter(C::MerchantId.eq(&owner.merchant)),
        };

        query = query.filter(C::Livemode.eq(owner.is_live()));
        if let Some(kind) = &filter.kind {
            query = query.filter(is(self.db.backend(), C::Type, kind.as_str()));
        }
        if let Some(from) = filter.created_from {
            query = query.filter(C::CreatedAt.gte(from.0));
        }
        if let Some(after) = &filter.starting_after {
            let Some(last) = self.event_of(owner, after).await? else {
                return Ok(Vec::new());
            };
            query = query.filter(older_than(
                [C::CreatedAt, C::Id],
                [last.created_at.0.into(), last.id.into()],
            ));
        }

        let rows = query
            .order_by_desc(C::CreatedAt)
            .order_by_desc(C::Id)
            .limit(filter.limit)
            .all(&self.db)
            .await?;

        Ok(rows.into_iter().map(EventRow::from).collect())
    }

    /// Up to `limit` of an owner's events from `since` on, oldest first, after the one that `after`
    /// names by its time and id; only of these kinds, if there are any.
    ///
    /// # Errors
    /// The database's.
    pub async fn events_since(
        &self,
        owner: &Owner,
        kinds: &[String],
        since: Timestamp,
        after: Option<(Timestamp, EventId)>,
        limit: u64,
    ) -> Result<Vec<EventRow>, Error> {
        use event::Column as C;

        let mut query = event::Entity::find()
            .filter(C::MerchantId.eq(&owner.merchant))
            .filter(C::Livemode.eq(owner.is_live()))
            .filter(C::CreatedAt.gte(since.0));
        if !kinds.is_empty() {
            query = query.filter(beside_one_of("type", kinds));
        }
        if let Some((at, id)) = after {
            query = query.filter(newer_than([C::CreatedAt, C::Id], [at.0.into(), id.into()]));
        }

        let rows = query
            .order_by_asc(C::CreatedAt)
            .order_by_asc(C::Id)
            .limit(limit)
            .all(&self.db)
            .await?;

        Ok(rows.into_iter().map(EventRow::from).collect())
    }

    /// An owner's deliveries, newest first.
    ///
    /// # Errors
    /// The database's.
    pub async fn deliveries(
        &self,
        owner: &Owner,
        filter: &DeliveryFilter,
    ) -> Result<Vec<DeliveryRow>, Error> {
        use delivery::Column as C;

        // An event has few, and an endpoint has one owner.
        let mut query = match (&filter.event_id, &filter.endpoint_id) {
            (None, None) => delivery::Entity::find().filter(C::MerchantId.eq(&owner.merchant)),
            (None, Some(endpoint_id)) => delivery::Entity::find()
                .filter(C::EndpointId.eq(endpoint_id))
                .filter(beside("merchant_id", owner.merchant.as_str())),
            (Some(event_id), endpoint_id) => {
                let Ok(event_id) = event_id.parse() else {
                    return Ok(Vec::new());
                };
                let Some(event) = self.event_of(owner, &event_id).await? else {
                    return Ok(Vec::new());
                };
                delivery::Entity::find()
                    .filter(C::PaymentId.eq(event.payment_id))
                    .filter(C::EventId.eq(event_id))
                    .filter(beside("merchant_id", owner.merchant.as_str()))
                    .filter(
                        Condition::all()
                            .add_option(endpoint_id.as_deref().map(|id| beside("endpoint_id", id))),
                    )
            }
        };

        query = query.filter(C::Livemode.eq(owner.is_live()));
        if let Some(status) = filter.status {
            query = query.filter(is(self.db.backend(), C::Status, status.to_string()));
        }
        if let Some(after) = &filter.starting_after {
            let Some(last) = self.delivery_of(owner, after).await? else {
                return Ok(Vec::new());
            };
            query = query.filter(older_than(
                [C::CreatedAt, C::Id],
                [last.created_at.0.into(), last.id.into()],
            ));
        }

        let rows = query
            .order_by_desc(C::CreatedAt)
            .order_by_desc(C::Id)
            .limit(filter.limit)
            .all(&self.db)
            .await?;

        rows.into_iter().map(DeliveryRow::try_from).collect()
    }

    /// An owner's delivery.
    ///
    /// # Errors
    /// The database's.
    pub async fn delivery_of(&self, owner: &Owner, id: &str) -> Result<Option<DeliveryRow>, Error> {
        let row = delivery::Entity::find_by_id(id)
            .filter(delivery::Column::MerchantId.eq(&owner.merchant))
            .filter(delivery::Column::Livemode.eq(owner.is_live()))
            .one(&self.db)
            .await?;
        row.map(DeliveryRow::try_from).transpose()
    }

    /// Every try of these deliveries that is still remembered, oldest first.
    ///
    /// # Errors
    /// The database's.
    pub async fn tries_of(
        &self,
        ids: Vec<String>,
    ) -> Result<HashMap<String, Vec<DeliveryAttempt>>, Error> {
        let mut tries: HashMap<String, Vec<DeliveryAttempt>> = HashMap::new();
        if ids.is_empty() {
            return Ok(tries);
        }
        let rows = delivery_try::Entity::find()
            .filter(delivery_try::Column::DeliveryId.is_in(ids))
            .order_by_asc(delivery_try::Column::Fence)
            .all(&self.db)
            .await?;

        for m in rows {
            let row = DeliveryAttempt {
                at: Timestamp(m.tried_at),
                end: crate::store::convert::word("delivery_try", &m.delivery_id, "end", &m.end)?,
                status: m.status.and_then(|status| u16::try_from(status).ok()),
                latency_ms: m.latency_ms,
                answer: m.answer,
            };
            tries.entry(m.delivery_id).or_default().push(row);
        }

        Ok(tries)
    }
}
