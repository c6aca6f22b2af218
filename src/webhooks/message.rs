//! What a webhook says. The same bytes at each try: they are made of the stored event and nothing
//! else.

use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::Timestamp;
use crate::store::EventRow;

/// The kind of event that `POST /v1/webhook_endpoints/{id}/test` sends. It is about no payment and
/// not stored.
pub const TEST: &str = "webhook.test";

/// An event as merchants get it, by webhook and by `/v1/events` alike.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = Event)]
pub struct Message {
    /// `evt_…`; also the `webhook-id`. Telling the same event twice, we use the same one.
    pub id: String,
    /// Always `event`.
    pub object: &'static str,
    /// `payment.succeeded`, `refund.failed`, …
    pub r#type: String,
    /// The payment that it is about; empty for `webhook.test`.
    pub payment: String,
    /// The payment's version: of two events of one payment the one with the higher version is the
    /// newer one.
    pub version: i64,
    /// When it happened.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// Real money?
    pub livemode: bool,
    /// The payment or refund as it was then.
    #[schema(value_type = Object)]
    pub data: serde_json::Value,
}

impl From<EventRow> for Message {
    fn from(row: EventRow) -> Self {
        Self {
            id: row.id.into(),
            object: "event",
            r#type: row.kind,
            payment: row.payment_id.into(),
            version: row.version,
            created_at: row.created_at,
            livemode: row.owner.is_live(),
            data: row.data,
        }
    }
}

impl Message {
    /// The body.
    #[must_use]
    pub fn body(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}
