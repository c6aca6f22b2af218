//! Whether an account's credentials can be right: what its provider signs must hold under the key
//! that was entered. One that nothing has ever held under is the account's trouble, and no
//! provider's.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use providers::http::TimeTold;
use providers::layer::Label;
use providers::notification::{
    Acknowledgement, AcknowledgementBody, Notification, RawNotification, Rejection, Verified,
};
use providers::order::{Call, Order, OrderRef, RefundOrder};
use providers::outcome::{
    Answer, CloseOutcome, CreateOutcome, Failure, QueryOutcome, RefundOutcome, RefundQueryOutcome,
    WRONGLY_SIGNED,
};
use providers::{Capabilities, Provider, ProviderName};

use crate::domain::id::{self, InstallationPrefix};

/// After so many wrongly signed answers, and none that was signed rightly, it is the key.
const ENOUGH: u32 = 3;
/// A provider that cannot be reached is asked so often whether what it signs holds; then payments
/// tell.
const MOST_QUESTIONS: u32 = 30;

/// What has been seen of an account's credentials since they were opened.
#[derive(Debug, Default)]
pub struct Proof {
    holds: AtomicBool,
    wrong: AtomicU32,
    asked: AtomicU32,
}

impl Proof {
    /// An answer has come, with this failure if it was one.
    fn note(&self, failure: Option<&Failure>) {
        match failure {
            Some(failure) if failure.code == WRONGLY_SIGNED => {
                self.wrong.fetch_add(1, Ordering::Relaxed);
            }
            // A "no" may have come without a signature, or from nowhere.
            Some(_) => {}
            None => self.holds.store(true, Ordering::Relaxed),
        }
    }

    /// Whether it is to be asked about once more, since nothing is known of it yet.
    pub fn is_to_be_asked(&self) -> bool {
        !self.holds() && self.asked.fetch_add(1, Ordering::Relaxed) < MOST_QUESTIONS
    }

    /// Whether something was signed as it has to be.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.holds.load(Ordering::Relaxed)
    }

    /// Whether several answers were signed wrongly, and none rightly.
    #[must_use]
    pub fn is_hopeless(&self) -> bool {
        !self.holds() && self.wrong.load(Ordering::Relaxed) >= ENOUGH
    }

    /// The account was set aside for it: when it serves again, it is looked at anew.
    pub fn begin_anew(&self) {
        self.wrong.store(0, Ordering::Relaxed);
    }
}

/// Asks about an order that does not exist: signed, and harmless. `None`: there is no randomness
/// for its number.
pub async fn ask(
    provider: &dyn Provider,
    prefix: &InstallationPrefix,
    now: DateTime<Utc>,
    timeout: Duration,
) -> Option<QueryOutcome> {
    let nobodys = OrderRef {
        order_no: id::order_no(prefix).ok()?.to_string(),
        txn_time: now,
        expires_at: now,
    };
    Some(
        provider
            .query(&nobodys, &Call { now, timeout })
            .await
            .outcome,
    )
}

/// Sees what an account is answered. Forwards everything and changes nothing.
#[derive(Debug)]
pub struct Proving {
    inner: Arc<dyn Provider>,
    proof: Arc<Proof>,
}

impl Proving {
    /// Around an account's adapter, to note what it sees in `proof`.
    #[must_use]
    pub fn around(inner: Arc<dyn Provider>, proof: Arc<Proof>) -> Arc<dyn Provider> {
        Arc::new(Self { inner, proof })
    }

    async fn seen<T: Label>(&self, answer: impl Future<Output = Answer<T>> + Send) -> Answer<T> {
        let answer = answer.await;
        self.proof.note(answer.outcome.failure());
        answer
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Provider for Proving {
    fn name(&self) -> ProviderName {
        self.inner.name()
    }

    fn identity(&self) -> &str {
        self.inner.identity()
    }

    fn address(&self) -> &str {
        self.inner.address()
    }

    fn time_told(&self) -> Option<TimeTold> {
        self.inner.time_told()
    }

    fn capabilities(&self) -> &'static Capabilities {
        self.inner.capabilities()
    }

    async fn create(&self, order: &Order, call: &Call) -> Answer<CreateOutcome> {
        self.seen(self.inner.create(order, call)).await
    }

    async fn query(&self, order: &OrderRef, call: &Call) -> Answer<QueryOutcome> {
        self.seen(self.inner.query(order, call)).await
    }

    async fn close(&self, order: &OrderRef, call: &Call) -> Answer<CloseOutcome> {
        self.seen(self.inner.close(order, call)).await
    }

    async fn reverse(&self, order: &OrderRef, call: &Call) -> Answer<CloseOutcome> {
        self.seen(self.inner.reverse(order, call)).await
    }

    async fn refund(&self, refund: &RefundOrder, call: &Call) -> Answer<RefundOutcome> {
        self.seen(self.inner.refund(refund, call)).await
    }

    async fn query_refund(&self, refund: &RefundOrder, call: &Call) -> Answer<RefundQueryOutcome> {
        self.seen(self.inner.query_refund(refund, call)).await
    }

    fn notification(
        &self,
        raw: &RawNotification,
        now: DateTime<Utc>,
    ) -> Result<Verified<Notification>, Rejection> {
        self.inner.notification(raw, now)
    }

    fn acknowledge(&self, what: Acknowledgement) -> AcknowledgementBody {
        self.inner.acknowledge(what)
    }
}
