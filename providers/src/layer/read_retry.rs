//! Asks a failed question once more, within the call's own time. Only questions: whatever can make,
//! end, take or give back is passed on exactly once.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::Instant;

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

/// With less time left than this, a second question would only time out.
const LEAST_TIME: Duration = Duration::from_millis(200);

#[derive(Debug)]
pub(super) struct ReadRetry {
    inner: Arc<dyn Provider>,
}

impl ReadRetry {
    pub(super) fn around(inner: Arc<dyn Provider>) -> Self {
        Self { inner }
    }
}

/// The frame of a second question: what the first one left of the time. `None` when that is too
/// little, or when asking again cannot help: a provider that asks us to slow down, or a contract
/// that does not allow it.
fn second(call: &Call, asked_at: Instant, failure: &Failure) -> Option<Call> {
    let worth_it = match failure.kind {
        FailureKind::Network
        | FailureKind::Timeout
        | FailureKind::ServerError
        | FailureKind::Incompatible => true,
        FailureKind::RateLimited
        | FailureKind::Account
        | FailureKind::Request
        | FailureKind::Declined => false,
    };
    let spent = asked_at.elapsed();

    let timeout = call
        .timeout
        .checked_sub(spent)
        .filter(|left| worth_it && *left >= LEAST_TIME)?;

    Some(Call {
        now: call.now + TimeDelta::from_std(spent).ok()?,
        timeout,
    })
}

#[async_trait]
impl Provider for ReadRetry {
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
        self.inner.create(order, call).await
    }

    async fn query(&self, order: &OrderRef, call: &Call) -> Answer<QueryOutcome> {
        let asked_at = Instant::now();
        let answer = self.inner.query(order, call).await;
        let again = match &answer.outcome {
            QueryOutcome::Unknown(failure) => second(call, asked_at, failure),
            QueryOutcome::NotFound
            | QueryOutcome::Payable
            | QueryOutcome::Paid(_)
            | QueryOutcome::Closed
            | QueryOutcome::Reversed => None,
        };
        match again {
            Some(call) => self.inner.query(order, &call).await,
            None => answer,
        }
    }

    async fn close(&self, order: &OrderRef, call: &Call) -> Answer<CloseOutcome> {
        self.inner.close(order, call).await
    }

    async fn reverse(&self, order: &OrderRef, call: &Call) -> Answer<CloseOutcome> {
        self.inner.reverse(order, call).await
    }

    async fn refund(&self, refund: &RefundOrder, call: &Call) -> Answer<RefundOutcome> {
        self.inner.refund(refund, call).await
    }

    async fn query_refund(&self, refund: &RefundOrder, call: &Call) -> Answer<RefundQueryOutcome> {
        let asked_at = Instant::now();
        let answer = self.inner.query_refund(refund, call).await;
        let again = match &answer.outcome {
            RefundQueryOutcome::Unknown(failure) => second(call, asked_at, failure),
            RefundQueryOutcome::NotFound
            | RefundQueryOutcome::Accepted
            | RefundQueryOutcome::Done
            | RefundQueryOutcome::Rejected(_)
            | RefundQueryOutcome::Abnormal(_) => None,
        };
        match again {
            Some(call) => self.inner.query_refund(refund, &call).await,
            None => answer,
        }
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
