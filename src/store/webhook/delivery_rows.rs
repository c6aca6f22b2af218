//! Events, deliveries and tries between rows and values.

use sea_orm::{ActiveModelTrait as _, IntoActiveModel as _};

use crate::domain::id::{EventId, PaymentId};
use crate::domain::webhook::{End, State};
use crate::domain::{Owner, Timestamp};
use crate::store::Error;
use crate::store::convert::word;
use crate::store::webhook::entity::{delivery, delivery_try, event};

/// An event as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct EventRow {
    /// `evt_…`.
    pub id: EventId,
    /// Whose.
    pub owner: Owner,
    /// About which payment.
    pub payment_id: PaymentId,
    /// The payment's version that it tells of.
    pub version: i64,
    /// `payment.succeeded`, …
    pub kind: String,
    /// What it says.
    pub data: serde_json::Value,
    /// When.
    pub created_at: Timestamp,
}

/// A delivery as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryRow {
    /// Made of the event's id and the receiver's.
    pub id: String,
    /// Of which event.
    pub event_id: EventId,
    /// Whose.
    pub owner: Owner,
    /// About which payment.
    pub payment_id: PaymentId,
    /// To which endpoint; `None`: to the payment's `notify_url`.
    pub endpoint_id: Option<String>,
    /// That `notify_url`.
    pub url: Option<String>,
    /// What shares a receiver's patience.
    pub lane: String,
    /// Where it stands.
    pub status: State,
    /// How often it was tried since it was made or replayed.
    pub tries: i32,
    /// Who may write: the worker of the newest claim.
    pub fence: i32,
    /// When it is due, or when its worker's lease ends.
    pub next_try_at: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was received.
    pub delivered_at: Option<Timestamp>,
    /// The newest try.
    pub last: Option<DeliveryAttempt>,
}

/// One try of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryAttempt {
    /// When it began.
    pub at: Timestamp,
    /// How it ended.
    pub end: End,
    /// HTTP status.
    pub status: Option<u16>,
    /// How long it took.
    pub latency_ms: i64,
    /// The beginning of the answer, or what went wrong.
    pub answer: Option<String>,
}

impl From<event::Model> for EventRow {
    fn from(m: event::Model) -> Self {
        Self {
            id: m.id,
            owner: Owner::of(m.merchant_id, m.livemode),
            payment_id: m.payment_id,
            version: m.version,
            kind: m.r#type,
            data: m.data,
            created_at: Timestamp(m.created_at),
        }
    }
}

impl TryFrom<delivery::Model> for DeliveryRow {
    type Error = Error;

    fn try_from(m: delivery::Model) -> Result<Self, Error> {
        const T: &str = "delivery";
        let last = match (&m.last_try_at, &m.last_end) {
            (Some(at), Some(end)) => Some(DeliveryAttempt {
                at: Timestamp(*at),
                end: word(T, &m.id, "last_end", end)?,
                status: m.last_status.and_then(|status| u16::try_from(status).ok()),
                latency_ms: m.last_latency_ms.unwrap_or(0),
                answer: m.last_answer,
            }),
            (None, _) | (_, None) => None,
        };

        Ok(Self {
            status: word(T, &m.id, "status", &m.status)?,
            id: m.id,
            event_id: m.event_id,
            owner: Owner::of(m.merchant_id, m.livemode),
            payment_id: m.payment_id,
            endpoint_id: m.endpoint_id,
            url: m.url,
            lane: m.lane,
            tries: m.tries,
            fence: m.fence,
            next_try_at: m.next_try_at.map(Timestamp),
            created_at: Timestamp(m.created_at),
            delivered_at: m.delivered_at.map(Timestamp),
            last,
        })
    }
}

/// The delivery's row.
pub(in crate::store) fn row(d: &DeliveryRow) -> delivery::ActiveModel {
    let last = d.last.as_ref();

    delivery::Model {
        id: d.id.clone(),
        event_id: d.event_id.clone(),
        merchant_id: d.owner.merchant.clone(),
        payment_id: d.payment_id.clone(),
        livemode: d.owner.is_live(),
        endpoint_id: d.endpoint_id.clone(),
        url: d.url.clone(),
        lane: d.lane.clone(),
        status: d.status.to_string(),
        tries: d.tries,
        fence: d.fence,
        next_try_at: d.next_try_at.map(|t| t.0),
        created_at: d.created_at.0,
        delivered_at: d.delivered_at.map(|t| t.0),
        last_try_at: last.map(|t| t.at.0),
        last_end: last.map(|t| t.end.to_string()),
        last_status: last.and_then(|t| t.status).map(i32::from),
        last_latency_ms: last.map(|t| t.latency_ms),
        last_answer: last.and_then(|t| t.answer.clone()),
    }
    .into_active_model()
    .reset_all()
}

/// The row of its newest try.
pub(in crate::store) fn try_row(d: &DeliveryRow) -> Option<delivery_try::ActiveModel> {
    let last = d.last.as_ref()?;
    let row = delivery_try::Model {
        delivery_id: d.id.clone(),
        fence: d.fence,
        tried_at: last.at.0,
        end: last.end.to_string(),
        status: last.status.map(i32::from),
        latency_ms: last.latency_ms,
        answer: last.answer.clone(),
    };
    Some(row.into_active_model().reset_all())
}
