//! What is written beside the changes of a life: entries of the work list, and deliveries of its
//! events.

use rand::RngExt as _;

use super::story::Story;
use crate::bench::fill::world::Shop;
use crate::domain::Timestamp;
use crate::domain::id::{EventId, PaymentId, ReviewId};
use crate::domain::operation::ReviewKind;
use crate::domain::webhook::{End, State as DeliveryState};
use crate::store::{DeliveryAttempt, DeliveryRow, OperationRow};

/// What people have to look at beside all that: of a thousand payments.
const LOOKED_AT: u32 = 10;

impl Story<'_> {
    /// What stood on the work list for a while, and is over.
    pub(super) fn look_at(&mut self, n: u64) {
        if self.world.is_open(n) || self.rng.random_range(0..1_000) >= LOOKED_AT {
            return;
        }
        let kind = if self.rng.random_bool(0.5) {
            ReviewKind::Unresolved
        } else {
            ReviewKind::PaymentStuck
        };
        let subject = self.aggregate.payment.id.to_string();
        self.list(
            kind,
            subject,
            "nobody has answered for a day",
            Some("by_itself"),
        );
    }

    pub(super) fn list(
        &mut self,
        kind: ReviewKind,
        subject_id: String,
        detail: &str,
        resolution: Option<&str>,
    ) {
        self.life.operations.push(OperationRow {
            id: ReviewId::of(self.rng.random()),
            owner: self.shop.owner.clone(),
            kind: kind.to_string(),
            subject_id,
            detail: detail.to_owned(),
            created_at: self.now,
            resolved_at: resolution.map(|_| self.now.plus_s(600)),
            resolution: resolution.map(str::to_owned),
            proposal_id: None,
        });
    }

    /// Each event goes to whom it is the business of.
    pub(super) fn deliver(&mut self) {
        let payment_id = self.aggregate.payment.id.clone();

        for change in &self.life.changes {
            for event in change.events() {
                let endpoint = match event.kind {
                    "payment.requires_action" | "payment.action_changed" | "payment.processing" => {
                        continue;
                    }
                    kind if kind.starts_with("refund.") => &self.shop.refunds_endpoint,
                    _ => &self.shop.endpoint,
                };
                let draw = self.rng.random_range(0..1_000);
                let delivery = delivery(
                    event.id.clone(),
                    &payment_id,
                    self.shop,
                    endpoint,
                    event.created_at,
                    draw,
                );
                self.life.deliveries.push(delivery);
            }
        }
    }
}

/// Most are received at once; `draw` of a thousand says how this one fared.
fn delivery(
    event_id: EventId,
    payment_id: &PaymentId,
    shop: &Shop,
    endpoint: &str,
    at: Timestamp,
    draw: u32,
) -> DeliveryRow {
    let (status, end, http) = match draw {
        0..20 => (DeliveryState::Failed, End::HttpStatus, Some(500)),
        20..30 => (DeliveryState::Stopped, End::EndpointDisabled, None),
        _ => (DeliveryState::Delivered, End::Delivered, Some(200)),
    };
    let tried_at = at.plus_ms(150);

    DeliveryRow {
        id: format!("{event_id}_{endpoint}"),
        event_id,
        owner: shop.owner.clone(),
        payment_id: payment_id.clone(),
        endpoint_id: Some(endpoint.to_owned()),
        url: None,
        lane: endpoint.to_owned(),
        status,
        tries: 1,
        fence: 1,
        next_try_at: None,
        created_at: at.plus_ms(100),
        delivered_at: (status == DeliveryState::Delivered).then(|| tried_at.plus_ms(30)),
        last: Some(DeliveryAttempt {
            at: tried_at,
            end,
            status: http,
            latency_ms: 30,
            answer: None,
        }),
    }
}
