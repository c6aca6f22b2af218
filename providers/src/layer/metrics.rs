//! Counts calls by outcome and measures how long they take. It changes no outcome.
//!
//! `interlock_provider_calls_total{provider,call,outcome}` and `interlock_provider_call_seconds{provider,call}`.
//! Accounts are no label: their number has no bound.

use std::future::Future;
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use tokio::time::Instant;

use crate::notification::{Acknowledgement, AcknowledgementBody, Notification, RawNotification, Rejection, Verified};
use crate::order::{Call, Order, OrderRef, RefundOrder};
use crate::outcome::{Answer, Created, Ended, Queried, RefundQueried, Refunded, Refusal};
use crate::provider::{Capabilities, Provider, ProviderName};

#[derive(Debug)]
pub(super) struct Metrics {
    inner: Arc<dyn Provider>,
}

impl Metrics {
    pub(super) fn around(inner: Arc<dyn Provider>) -> Self {
        Self { inner }
    }

    async fn measured<T: Label>(
        &self,
        call: &'static str,
        answer: impl Future<Output = Answer<T>> + Send,
    ) -> Answer<T> {
        let provider = self.inner.name().as_str();
        let began = Instant::now();
        let answer = answer.await;
        ::metrics::histogram!("interlock_provider_call_seconds", "provider" => provider, "call" => call)
            .record(began.elapsed());
        let outcome = answer.outcome.label();
        ::metrics::counter!(
            "interlock_provider_calls_total", "provider" => provider, "call" => call, "outcome" => outcome
        )
        .increment(1);
        answer
    }
}

/// The value of the label `outcome`.
trait Label {
    fn label(&self) -> &'static str;
}

impl Label for Created {
    fn label(&self) -> &'static str {
        match self {
            Self::Accepted(_) => "accepted",
            Self::Captured(_) => "captured",
            Self::Waiting => "waiting",
            Self::NotSent(_) => "not_sent",
            Self::Refused(Refusal::Provider, _) => "refused_provider",
            Self::Refused(Refusal::Account, _) => "refused_account",
            Self::Refused(Refusal::Request, _) => "refused_request",
            Self::Declined(_) => "declined",
            Self::Unknown(_) => "unknown",
        }
    }
}

impl Label for Queried {
    fn label(&self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::Payable => "payable",
            Self::Paid(_) => "paid",
            Self::Closed => "closed",
            Self::Reversed => "reversed",
            Self::Unknown(_) => "unknown",
        }
    }
}

impl Label for Ended {
    fn label(&self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Reversed => "reversed",
            Self::AlreadyPaid => "already_paid",
            Self::NotFound => "not_found",
            Self::Impossible(_) => "impossible",
            Self::Again(_) => "again",
            Self::Unknown(_) => "unknown",
        }
    }
}

impl Label for Refunded {
    fn label(&self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Done => "done",
            Self::TerminalNo(_) => "terminal_no",
            Self::AnotherNumber(_) => "another_number",
            Self::Abnormal(_) => "abnormal",
            Self::NeedsFunds(_) => "needs_funds",
            Self::Later(_) => "later",
            Self::Unknown(_) => "unknown",
        }
    }
}

impl Label for RefundQueried {
    fn label(&self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::Accepted => "accepted",
            Self::Done => "done",
            Self::TerminalNo(_) => "terminal_no",
            Self::Abnormal(_) => "abnormal",
            Self::Unknown(_) => "unknown",
        }
    }
}

#[async_trait]
impl Provider for Metrics {
    fn name(&self) -> ProviderName {
        self.inner.name()
    }

    fn identity(&self) -> &str {
        self.inner.identity()
    }

    fn capabilities(&self) -> &'static Capabilities {
        self.inner.capabilities()
    }

    async fn create(&self, order: &Order, call: &Call) -> Answer<Created> {
        self.measured("create", self.inner.create(order, call)).await
    }

    async fn query(&self, order: &OrderRef, call: &Call) -> Answer<Queried> {
        self.measured("query", self.inner.query(order, call)).await
    }

    async fn close(&self, order: &OrderRef, call: &Call) -> Answer<Ended> {
        self.measured("close", self.inner.close(order, call)).await
    }

    async fn reverse(&self, order: &OrderRef, call: &Call) -> Answer<Ended> {
        self.measured("reverse", self.inner.reverse(order, call)).await
    }

    async fn refund(&self, refund: &RefundOrder, call: &Call) -> Answer<Refunded> {
        self.measured("refund", self.inner.refund(refund, call)).await
    }

    async fn query_refund(&self, refund: &RefundOrder, call: &Call) -> Answer<RefundQueried> {
        self.measured("query_refund", self.inner.query_refund(refund, call)).await
    }

    fn notification(&self, raw: &RawNotification, now: DateTime<Utc>) -> Result<Verified<Notification>, Rejection> {
        self.inner.notification(raw, now)
    }

    fn acknowledge(&self, what: Acknowledgement) -> AcknowledgementBody {
        self.inner.acknowledge(what)
    }
}
