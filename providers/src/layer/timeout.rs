//! Ends every call a little after its time, even when the adapter hangs. It only ever says
//! "unknown": what the adapter has sent by then, nobody knows.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use crate::http::TimeTold;
use crate::notification::{
    Acknowledgement, AcknowledgementBody, Notification, RawNotification, Rejection, Verified,
};
use crate::order::{Call, Order, OrderRef, RefundOrder};
use crate::outcome::{
    Answer, CloseOutcome, CreateOutcome, Failure, FailureKind, QueryOutcome, RefundOutcome,
    RefundQueryOutcome,
};
use crate::provider::{Capabilities, Provider, ProviderName};

/// Adapters keep `call.timeout` themselves and know more when they do: whether anything was sent.
const GRACE: Duration = Duration::from_millis(250);

#[derive(Debug)]
pub(super) struct Timeout {
    inner: Arc<dyn Provider>,
}

impl Timeout {
    pub(super) fn around(inner: Arc<dyn Provider>) -> Self {
        Self { inner }
    }
}

async fn bounded<T>(
    call: &Call,
    answer: impl Future<Output = Answer<T>> + Send,
    unknown: impl FnOnce(Failure) -> T + Send,
) -> Answer<T> {
    let limit = call.timeout.saturating_add(GRACE);
    match tokio::time::timeout(limit, answer).await {
        Ok(answer) => answer,
        Err(_) => {
            let message = format!("the adapter did not answer within {limit:?}");
            Answer::new(unknown(Failure::new(
                FailureKind::Timeout,
                "timeout",
                message,
            )))
        }
    }
}

#[async_trait]
impl Provider for Timeout {
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
        bounded(call, self.inner.create(order, call), CreateOutcome::Unknown).await
    }

    async fn query(&self, order: &OrderRef, call: &Call) -> Answer<QueryOutcome> {
        bounded(call, self.inner.query(order, call), QueryOutcome::Unknown).await
    }

    async fn close(&self, order: &OrderRef, call: &Call) -> Answer<CloseOutcome> {
        bounded(call, self.inner.close(order, call), CloseOutcome::Unknown).await
    }

    async fn reverse(&self, order: &OrderRef, call: &Call) -> Answer<CloseOutcome> {
        bounded(call, self.inner.reverse(order, call), CloseOutcome::Unknown).await
    }

    async fn refund(&self, refund: &RefundOrder, call: &Call) -> Answer<RefundOutcome> {
        bounded(
            call,
            self.inner.refund(refund, call),
            RefundOutcome::Unknown,
        )
        .await
    }

    async fn query_refund(&self, refund: &RefundOrder, call: &Call) -> Answer<RefundQueryOutcome> {
        bounded(
            call,
            self.inner.query_refund(refund, call),
            RefundQueryOutcome::Unknown,
        )
        .await
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
