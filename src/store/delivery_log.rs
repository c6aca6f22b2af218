//! What merchants read about events and their deliveries. Every read names the merchant and the mode.

use std::collections::HashMap;

use sea_orm::{
    ColumnTrait as _, Condition, DbErr, EntityTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _,
};

use super::Store;
use super::deliveries::{DeliveryFilter, EventFilter};
use super::delivery_rows::{DeliveryRow, EventRow, TryRow};
use super::entity::{delivery, delivery_try, event};
use crate::domain::Timestamp;

impl Store {
    /// These events, whoever's they are: for workers.
    ///
    /// # Errors
    /// The database's.
    pub async fn events_by_id(&self, ids: Vec<String>) -> Result<HashMap<String, EventRow>, DbErr> {
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let rows = event::Entity::find().filter(event::Column::Id.is_in(ids)).all(&self.db).await?;
        Ok(rows.into_iter().map(|m| (m.id.clone(), EventRow::from(m))).collect())
    }

    /// A merchant's event.
    ///
    /// # Errors
    /// The database's.
    pub async fn event_of(&self, merchant_id: &str, livemode: bool, id: &str) -> Result<Option<EventRow>, DbErr> {
        let row = event::Entity::find_by_id(id)
            .filter(event::Column::MerchantId.eq(merchant_id))
            .filter(event::Column::Livemode.eq(livemode))
            .one(&self.db)
            .await?;
        Ok(row.map(EventRow::from))
    }

    /// A merchant's events, newest first.
    ///
    /// # Errors
    /// The database's.
    pub async fn events(
        &self,
        merchant_id: &str,
        livemode: bool,
        filter: &EventFilter,
    ) -> Result<Vec<EventRow>, DbErr> {
        use event::Column as C;
        let mut query = event::Entity::find().filter(C::MerchantId.eq(merchant_id)).filter(C::Livemode.eq(livemode));
        if let Some(kind) = &filter.kind {
            query = query.filter(C::Type.eq(kind));
        }
        if let Some(payment_id) = &filter.payment_id {
            query = query.filter(C::PaymentId.eq(payment_id));
        }
        if let Some(from) = filter.created_from {
            query = query.filter(C::CreatedAt.gte(from.0));
        }
        if let Some(after) = &filter.starting_after {
            let Some(last) = event::Entity::find_by_id(after).one(&self.db).await? else { return Ok(Vec::new()) };
            query = query.filter(
                Condition::any()
                    .add(C::CreatedAt.lt(last.created_at))
                    .add(Condition::all().add(C::CreatedAt.eq(last.created_at)).add(C::Id.lt(last.id))),
            );
        }
        let rows = query.order_by_desc(C::CreatedAt).order_by_desc(C::Id).limit(filter.limit).all(&self.db).await?;
        Ok(rows.into_iter().map(EventRow::from).collect())
    }

    /// Up to `limit` of a merchant's events from `since` on, oldest first, after the one that `after` names by its
    /// time and id; only of these kinds, if there are any.
    ///
    /// # Errors
    /// The database's.
    pub async fn events_since(
        &self,
        (merchant_id, livemode): (&str, bool),
        kinds: &[String],
        since: Timestamp,
        after: Option<(Timestamp, String)>,
        limit: u64,
    ) -> Result<Vec<EventRow>, DbErr> {
        use event::Column as C;
        let mut query = event::Entity::find()
            .filter(C::MerchantId.eq(merchant_id))
            .filter(C::Livemode.eq(livemode))
            .filter(C::CreatedAt.gte(since.0));
        if !kinds.is_empty() {
            query = query.filter(C::Type.is_in(kinds));
        }
        if let Some((at, id)) = after {
            query = query.filter(
                Condition::any()
                    .add(C::CreatedAt.gt(at.0))
                    .add(Condition::all().add(C::CreatedAt.eq(at.0)).add(C::Id.gt(id))),
            );
        }
        let rows = query.order_by_asc(C::CreatedAt).order_by_asc(C::Id).limit(limit).all(&self.db).await?;
        Ok(rows.into_iter().map(EventRow::from).collect())
    }

    /// A merchant's deliveries, newest first.
    ///
    /// # Errors
    /// The database's.
    pub async fn deliveries(
        &self,
        merchant_id: &str,
        livemode: bool,
        filter: &DeliveryFilter,
    ) -> Result<Vec<DeliveryRow>, DbErr> {
        use delivery::Column as C;
        let mut query = delivery::Entity::find().filter(C::MerchantId.eq(merchant_id)).filter(C::Livemode.eq(livemode));
        if let Some(event_id) = &filter.event_id {
            query = query.filter(C::EventId.eq(event_id));
        }
        if let Some(endpoint_id) = &filter.endpoint_id {
            query = query.filter(C::EndpointId.eq(endpoint_id));
        }
        if let Some(status) = filter.status {
            query = query.filter(C::Status.eq(status.to_string()));
        }
        if let Some(after) = &filter.starting_after {
            let Some(last) = delivery::Entity::find_by_id(after).one(&self.db).await? else { return Ok(Vec::new()) };
            query = query.filter(
                Condition::any()
                    .add(C::CreatedAt.lt(last.created_at))
                    .add(Condition::all().add(C::CreatedAt.eq(last.created_at)).add(C::Id.lt(last.id))),
            );
        }
        let rows = query.order_by_desc(C::CreatedAt).order_by_desc(C::Id).limit(filter.limit).all(&self.db).await?;
        rows.into_iter().map(DeliveryRow::try_from).collect()
    }

    /// Whether a merchant has this delivery.
    ///
    /// # Errors
    /// The database's.
    pub async fn has_delivery(&self, merchant_id: &str, id: &str) -> Result<bool, DbErr> {
        let row = delivery::Entity::find_by_id(id).filter(delivery::Column::MerchantId.eq(merchant_id));
        Ok(row.one(&self.db).await?.is_some())
    }

    /// Every try of these deliveries that is still remembered, oldest first.
    ///
    /// # Errors
    /// The database's.
    pub async fn tries_of(&self, ids: Vec<String>) -> Result<HashMap<String, Vec<TryRow>>, DbErr> {
        let mut tries: HashMap<String, Vec<TryRow>> = HashMap::new();
        if ids.is_empty() {
            return Ok(tries);
        }
        let rows = delivery_try::Entity::find()
            .filter(delivery_try::Column::DeliveryId.is_in(ids))
            .order_by_asc(delivery_try::Column::Fence)
            .all(&self.db)
            .await?;
        for m in rows {
            let row = TryRow {
                at: Timestamp(m.tried_at),
                end: super::rows::word("delivery_try", &m.delivery_id, "end", &m.end)?,
                status: m.status.and_then(|status| u16::try_from(status).ok()),
                latency_ms: m.latency_ms,
                answer: m.answer,
            };
            tries.entry(m.delivery_id).or_default().push(row);
        }
        Ok(tries)
    }
}
