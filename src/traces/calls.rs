//! Makes a span of every call to a provider that is made for a payment. Forwards everything and
//! changes nothing; of an answer it tells the outcome and the code, never what the provider wrote.

#![deny(clippy::missing_trait_methods)]

use std::future::Future;
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use providers::http::TimeTold;
use providers::layer::Label;
use providers::notification::{
    Acknowledgement, AcknowledgementBody, Notification, RawNotification, Rejection, Verified,
};
use providers::order::{Call, Order, OrderRef, RefundOrder};
use providers::outcome::{
    Answer, CloseOutcome, CreateOutcome, QueryOutcome, RefundOutcome, RefundQueryOutcome,
};
use providers::{Capabilities, Provider, ProviderName};

use super::Traces;

impl Traces {
    /// A provider whose calls are spans of whatever is traced around them.
    #[must_use]
    pub fn around(&self, provider: Arc<dyn providers::Provider>) -> Arc<dyn providers::Provider> {
        match self.on {
            Some(_) => Arc::new(Calls::around(provider, self.clone())),
            None => provider,
        }
    }
}

#[derive(Debug)]
struct Calls {
    inner: Arc<dyn Provider>,
    traces: Traces,
}

impl Calls {
    fn around(inner: Arc<dyn Provider>, traces: Traces) -> Self {
        Self { inner, traces }
    }

    async fn traced<T: Label>(
        &self,
        call: &'static str,
        order_no: &str,
        answer: impl Future<Output = Answer<T>> + Send,
    ) -> Answer<T> {
        let span = self.traces.call("provider call");
        span.set("provider", self.inner.name().as_str());
        span.set("call", call);
        span.set("provider_order_no", order_no.to_owned());
        let answer = span.around(answer).await;
        span.set("outcome", answer.outcome.label());
        if let Some(id) = &answer.request_id {
            span.set("provider_request_id", id.clone());
        }
        if let Some(failure) = answer.outcome.failure() {
            span.set("failure.kind", failure.kind.to_string());
            span.set("failure.code", failure.code.clone());
            span.failed(&failure.code);
        }
        answer
    }
}

#[async_trait]
impl Provider for Calls {
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
        self.traced("create", &order.order_no, self.inner.create(order, call))
            .await
    }

    async fn query(&self, order: &OrderRef, call: &Call) -> Answer<QueryOutcome> {
        self.traced("query", &order.order_no, self.inner.query(order, call))
            .await
    }

    async fn close(&self, order: &OrderRef, call: &Call) -> Answer<CloseOutcome> {
        self.traced("close", &order.order_no, self.inner.close(order, call))
            .await
    }

    async fn reverse(&self, order: &OrderRef, call: &Call) -> Answer<CloseOutcome> {
        self.traced("reverse", &order.order_no, self.inner.reverse(order, call))
            .await
    }

    async fn refund(&self, refund: &RefundOrder, call: &Call) -> Answer<RefundOutcome> {
        self.traced(
            "refund",
            &refund.order.order_no,
            self.inner.refund(refund, call),
        )
        .await
    }

    async fn query_refund(&self, refund: &RefundOrder, call: &Call) -> Answer<RefundQueryOutcome> {
        self.traced(
            "query_refund",
            &refund.order.order_no,
            self.inner.query_refund(refund, call),
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
