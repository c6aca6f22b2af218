//! What one decision writes: the new shape of an aggregate and everything that must become durable
//! with it. A change is written whole or not at all, and only if nobody else changed the payment
//! since it was read.

use super::counters::{self, Count};
use crate::domain::id::{AccountId, AttemptId, EventId, NoRandomness, ReviewId};
use crate::domain::ledger::{self, Entry};
use crate::domain::operation::{Action, ReviewKind, StepKind};
use crate::domain::payment::BrokenInvariant;
use crate::domain::{Aggregate, Attempt, Owner, Refund, Timestamp};

/// What a merchant is told, stored in the transaction that made it true.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// `evt_…`.
    pub id: EventId,
    /// `payment.succeeded`, …
    pub kind: &'static str,
    /// What it says.
    pub data: serde_json::Value,
    /// When.
    pub created_at: Timestamp,
}

/// Names a request of a merchant: the scope of an idempotency key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyScope {
    /// Whose.
    pub owner: Owner,
    /// Which call: `payments`, `refunds`, …
    pub endpoint: String,
    /// The key as the merchant sent it.
    pub key: String,
}

/// An idempotency key and the request that it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Its scope.
    pub scope: KeyScope,
    /// What tells this request from others; the API knows how.
    pub fingerprint: String,
    /// The payment or refund made under it.
    pub resource_id: String,
    /// When it was claimed.
    pub created_at: Timestamp,
}

/// What happens to an idempotency key together with a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyWrite {
    /// This change is what the key stands for; refused when the key is taken.
    Claim(Key),
    /// The request under this key is answered; the first answer stays.
    Answer(Key, StoredAnswer),
}

/// An answer that a repeated request gets again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredAnswer {
    /// HTTP status.
    pub status: u16,
    /// The body, byte for byte.
    pub body: Vec<u8>,
    /// The payment's or refund's state that it told.
    pub state: String,
    /// The attempt that it told to act on, if any.
    pub attempt_id: Option<AttemptId>,
}

/// A genuine notification, kept once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inbox {
    /// Which account it came to.
    pub account_id: AccountId,
    /// The provider's id of it.
    pub notification_id: String,
    /// What we made of it.
    pub verdict: &'static str,
    /// The raw body.
    pub body: Vec<u8>,
    /// When.
    pub received_at: Timestamp,
}

/// Something that needs a person. The same trouble stands on the list once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReviewItem {
    /// `op_…`.
    pub id: ReviewId,
    /// Whose.
    pub owner: Owner,
    /// Which trouble.
    pub kind: ReviewKind,
    /// The attempt, refund or account.
    pub subject_id: String,
    /// What a person should know.
    pub detail: String,
    /// When it was seen.
    pub created_at: Timestamp,
}

impl ReviewItem {
    /// An entry about `subject_id`, with an id of its own.
    ///
    /// # Errors
    /// [`NoRandomness`].
    pub fn new(
        owner: &Owner,
        kind: ReviewKind,
        subject_id: impl Into<String>,
        detail: impl Into<String>,
        now: Timestamp,
    ) -> Result<Self, NoRandomness> {
        Ok(Self {
            id: ReviewId::new()?,
            owner: owner.clone(),
            kind,
            subject_id: subject_id.into(),
            detail: detail.into(),
            created_at: now,
        })
    }
}

/// A person's word on an entry of the work list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecisionStep {
    /// `ops_…`.
    pub id: String,
    /// The entry.
    pub operation_id: ReviewId,
    /// What was said.
    pub kind: StepKind,
    /// What is to be done.
    pub action: Action,
    /// What shows that it is right.
    pub evidence: String,
    /// Anything else.
    pub note: Option<String>,
    /// The key that it was said with.
    pub key_name: String,
    /// When.
    pub at: Timestamp,
}

/// The end of an entry of the work list: the second person's word on the proposal that stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolution {
    /// The proposal that is confirmed. Another one standing there meanwhile, or an end, refuses the
    /// change.
    pub proposal_id: String,
    /// The confirmation.
    pub step: DecisionStep,
}

/// One decision, ready to be written.
#[derive(Debug, Clone)]
pub struct Change {
    pub(super) after: Aggregate,
    /// When it was decided.
    pub(super) at: Timestamp,
    pub(super) is_new: bool,
    pub(super) attempts: Vec<Attempt>,
    pub(super) refunds: Vec<Refund>,
    pub(super) events: Vec<Event>,
    pub(super) key: Option<KeyWrite>,
    pub(super) inbox: Option<Inbox>,
    pub(super) operations: Vec<ReviewItem>,
    pub(super) resolution: Option<Resolution>,
    pub(super) entries: Vec<Entry>,
    pub(super) facts: Vec<Count>,
    /// What cannot be true of it and was not so before.
    pub(super) broken: Option<BrokenInvariant>,
}

impl Change {
    /// A payment that did not exist. Its version becomes 1.
    #[must_use]
    pub fn create(after: Aggregate) -> Self {
        let now = after.payment.created_at;
        let (attempts, refunds) = (after.attempts.clone(), after.refunds.clone());
        Self::of(None, after, now, attempts, refunds)
    }

    /// From `before`, as it was read, to `after`. Only attempts and refunds that differ are
    /// written; what it moves is booked in the ledger at `now`.
    #[must_use]
    pub fn update(before: &Aggregate, after: Aggregate, now: Timestamp) -> Self {
        let attempts = after
            .attempts
            .iter()
            .filter(|a| !before.attempts.contains(a))
            .cloned()
            .collect();
        let refunds = after
            .refunds
            .iter()
            .filter(|r| !before.refunds.contains(r))
            .cloned()
            .collect();
        Self::of(Some(before), after, now, attempts, refunds)
    }

    fn of(
        before: Option<&Aggregate>,
        mut after: Aggregate,
        now: Timestamp,
        attempts: Vec<Attempt>,
        refunds: Vec<Refund>,
    ) -> Self {
        after.payment.version = before.map_or(0, |b| b.payment.version).saturating_add(1);
        let (entries, head) = ledger::entries(before, &after, now);
        after.payment.ledger = Some(head);

        Self {
            attempts,
            refunds,
            is_new: before.is_none(),
            facts: counters::between(before, &after),
            broken: after.broken_since(before),
            after,
            at: now,
            events: Vec::new(),
            key: None,
            inbox: None,
            operations: Vec::new(),
            resolution: None,
            entries,
        }
    }

    /// With these events.
    #[must_use]
    pub fn with_events(mut self, events: Vec<Event>) -> Self {
        self.events = events;
        self
    }

    /// With this key.
    #[must_use]
    pub fn with_key(mut self, key: Option<KeyWrite>) -> Self {
        self.key = key;
        self
    }

    /// With this notification.
    #[must_use]
    pub fn with_inbox(mut self, inbox: Option<Inbox>) -> Self {
        self.inbox = inbox;
        self
    }

    /// With these entries of the work list.
    #[must_use]
    pub fn with_operations(mut self, operations: Vec<ReviewItem>) -> Self {
        self.operations = operations;
        self
    }

    /// With an entry of the work list that two persons have decided, and that is done by this.
    #[must_use]
    pub fn with_resolution(mut self, resolution: Option<Resolution>) -> Self {
        self.resolution = resolution;
        self
    }

    /// What merchants are told.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// What it books.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// What will be read after it was written.
    #[must_use]
    pub fn after(&self) -> &Aggregate {
        &self.after
    }
}

/// Why a change was not written. Nothing of it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// Somebody else changed the payment first: read again, decide again.
    #[error("the payment has changed meanwhile")]
    VersionConflict,
    /// Another request has this idempotency key.
    #[error("the idempotency key is taken")]
    KeyTaken,
    /// Another open or successful payment of the merchant has this order number.
    #[error("the order number is taken")]
    OrderTaken,
    /// This notification is in the inbox already.
    #[error("the notification was stored before")]
    NotificationStored,
    /// An index refuses the change: a second live or kept attempt, a refund number used before.
    #[error("refused by the database: {0}")]
    Refused(String),
    /// What it would leave behind cannot be: a defect of ours.
    #[error("a payment cannot be like that: {0}")]
    Broken(BrokenInvariant),
    /// The entry of the work list is not as it was: it has ended, or another proposal stands there.
    #[error("the entry of the work list has changed meanwhile")]
    ReviewItemChanged,
    /// The database does not answer; whether it wrote is not known. Read again.
    #[error("the database is in trouble: {0}")]
    Unavailable(String),
}
