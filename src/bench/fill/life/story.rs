//! A life while it is told: how it begins, and how each decision is committed.

use providers::money::Money;
use providers::order::Flow;
use rand::RngExt as _;
use rand::rngs::Xoshiro256PlusPlus as Rng;
use serde_json::json;

use super::fate::Fate;
use crate::bench::fill::error::FillError;
use crate::bench::fill::world::{Shop, World};
use crate::domain::attempt::State as AttemptState;
use crate::domain::id::{self, AttemptId, EventId, PaymentId};
use crate::domain::payment::State;
use crate::domain::{Aggregate, Attempt, Payment, Timestamp, ledger};
use crate::payments::pay;
use crate::payments::view::events;
use crate::store::Life;
use crate::store::change::{Change, Inbox, Key, KeyScope, KeyWrite};

/// A payer who has not paid until then does not.
pub(super) const EXPIRES_IN_S: i64 = 900;
/// Keys and tries of webhooks are kept for a month.
const KEPT_S: i64 = 30 * 86_400;

/// A life while it is told.
pub(super) struct Story<'a> {
    pub(super) world: &'a World,
    pub(super) shop: &'a Shop,
    pub(super) rng: Rng,
    pub(super) now: Timestamp,
    pub(super) aggregate: Aggregate,
    pub(super) key: Key,
    pub(super) is_answered: bool,
    pub(super) life: Life,
}

impl<'a> Story<'a> {
    pub(super) fn begin(
        world: &'a World,
        shop: &'a Shop,
        mut rng: Rng,
        now: Timestamp,
        n: u64,
        fate: Fate,
    ) -> Result<Self, FillError> {
        let flow = if matches!(fate, Fate::Charged | Fate::Declined | Fate::InDoubt) {
            Flow::Barcode
        } else {
            Flow::Qr
        };
        let payment = Payment {
            id: PaymentId::of(rng.random()),
            owner: shop.owner.clone(),
            order_id: order_id(n),
            amount: Money::fen(rng.random_range(100..100_000))?,
            description: "Two cups of tea".to_owned(),
            flow,
            providers: Vec::new(),
            status: State::Created,
            failure: None,
            return_url: None,
            notify_url: None,
            client_ip: None,
            store: None,
            metadata: json!({"till": rng.random_range(1..40)}),
            round: 0,
            version: 0,
            resume_at: Some(now.plus_s(EXPIRES_IN_S)),
            parked_at: None,
            lease_until: None,
            cancel_requested_at: None,
            paid_at: None,
            created_at: now,
            expires_at: now.plus_s(EXPIRES_IN_S),
            ledger: None,
        };

        let scope = KeyScope {
            owner: shop.owner.clone(),
            endpoint: "payments".to_owned(),
            key: format!("key-{}", order_id(n)),
        };
        let fingerprint = ledger::sha256(&[payment.order_id.as_bytes()]);
        let key = Key {
            scope,
            fingerprint,
            resource_id: payment.id.to_string(),
            created_at: now,
        };

        let is_recent = now >= Timestamp(world.plan.until_ms).plus_s(-KEPT_S);
        let life = Life {
            changes: Vec::new(),
            deliveries: Vec::new(),
            operations: Vec::new(),
            is_recent,
        };

        let aggregate = Aggregate {
            payment,
            attempts: Vec::new(),
            refunds: Vec::new(),
        };
        let mut story = Self {
            world,
            shop,
            rng,
            now,
            aggregate,
            key,
            is_answered: false,
            life,
        };

        let first = story.sending()?;
        story.aggregate.attempts.push(first);
        Ok(story)
    }

    /// An attempt over the next of the merchant's accounts.
    pub(super) fn sending(&mut self) -> Result<Attempt, FillError> {
        let accounts = &self.shop.accounts;
        let seq = self.aggregate.attempts.len();
        let at = self
            .aggregate
            .attempts
            .first()
            .and_then(|a| accounts.iter().position(|(id, _)| *id == a.account_id));

        let at = at.map_or_else(
            || self.rng.random_range(0..accounts.len().max(1)),
            |at| at.saturating_add(seq),
        );
        let (account_id, provider) = accounts
            .iter()
            .cycle()
            .nth(at)
            .cloned()
            .ok_or(FillError::Nobody)?;

        let prefix = self.world.prefix.as_ref().ok_or(FillError::Nobody)?;
        let number = self.rng.random::<u128>();
        Ok(Attempt {
            id: AttemptId::of(self.rng.random()),
            payment_id: self.aggregate.payment.id.clone(),
            seq: i32::try_from(seq).unwrap_or(i32::MAX).saturating_add(1),
            round: 0,
            account_id,
            provider,
            flow: self.aggregate.payment.flow,
            status: AttemptState::Sending,
            disposition: None,
            provider_order_no: id::order_no_of(prefix, number),
            provider_transaction_id: None,
            provider_request_id: None,
            amount: self.aggregate.payment.amount,
            captured: None,
            payer_amount: None,
            payer: None,
            paid_at: None,
            outcome: None,
            failure: None,
            next_action: None,
            reason: json!({"strategy": "priority", "position": seq + 1}),
            started_at: self.now,
            call_deadline: self.now.plus_s(8),
            offer_deadline: self.aggregate.payment.expires_at,
            latency_ms: None,
            next_check_at: Some(self.now.plus_s(9)),
            query_count: 0,
            reversal: None,
            reversal_in_doubt: false,
            not_found_since: None,
            returning: false,
            told_paid: false,
        })
    }

    /// One decision, `after_ms` after the one before; the first one makes the payment.
    pub(super) fn commit(
        &mut self,
        after_ms: Option<i64>,
        decide: impl FnOnce(&mut Aggregate, &mut Told) -> Result<(), FillError>,
    ) -> Result<(), FillError> {
        self.now = self.now.plus_ms(after_ms.unwrap_or(0));
        let mut after = self.aggregate.clone();
        let mut told = Told {
            now: self.now,
            inbox: None,
        };
        decide(&mut after, &mut told)?;
        let before = after_ms.map(|_| &self.aggregate);
        let change = match before {
            None => Change::create(after),
            Some(before) => Change::update(before, after, self.now),
        };

        let mut events = events::between(before, change.after(), self.now)?;
        for event in &mut events {
            event.id = EventId::of(self.rng.random());
        }
        let key = match before {
            None => Some(KeyWrite::Claim(self.key.clone())),
            Some(_) if self.is_answered => None,
            Some(_) => {
                pay::answer(change.after()).map(|answer| KeyWrite::Answer(self.key.clone(), answer))
            }
        };
        self.is_answered |= matches!(key, Some(KeyWrite::Answer(..)));
        self.aggregate = change.after().clone();
        self.life.changes.push(
            change
                .with_events(events)
                .with_key(key)
                .with_inbox(told.inbox),
        );
        Ok(())
    }
}

/// When something is decided, and what came in with it.
pub(super) struct Told {
    pub(super) now: Timestamp,
    pub(super) inbox: Option<Inbox>,
}

/// The merchant's own number of payment `n`.
#[must_use]
pub fn order_id(n: u64) -> String {
    format!("bench-{n:09}")
}
