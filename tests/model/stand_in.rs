//! A provider without a network whose every call stops its worker until the model says what becomes
//! of it. It has the capabilities of a real provider, and decides nothing by itself.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "an answer to another question is a mistake of the test, whichever it is"
)]

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use providers::http::TimeTold;
use providers::memory::Memory;
use providers::notification::{
    Acknowledgement, AcknowledgementBody, Notification, RawNotification, Rejection, Verified,
};
use providers::order::{Call as Frame, Order, OrderRef, RefundOrder};
use providers::outcome::{
    Answer, CloseOutcome, CreateOutcome, QueryOutcome, RefundOutcome, RefundQueryOutcome,
};
use providers::provider::{Capabilities, Provider, ProviderName};

use super::seat;
use super::shop::{Asks, Call, Said};

/// One account's provider.
#[derive(Debug)]
pub struct StandIn {
    capabilities: &'static Capabilities,
    /// Signs and verifies notifications.
    notifier: Arc<Memory>,
}

impl StandIn {
    pub fn new(capabilities: &'static Capabilities, notifier: Arc<Memory>) -> Self {
        Self {
            capabilities,
            notifier,
        }
    }

    async fn ask(&self, asks: Asks, frame: &Frame) -> Said {
        seat::call(Call {
            capabilities: self.capabilities,
            asks,
            now: frame.now,
        })
        .await
    }
}

fn unfit(said: &Said) -> ! {
    panic!("an answer to another question: {said:?}")
}

#[async_trait]
impl Provider for StandIn {
    fn name(&self) -> ProviderName {
        self.notifier.name()
    }

    fn identity(&self) -> &str {
        self.notifier.identity()
    }

    fn address(&self) -> &str {
        self.notifier.address()
    }

    fn time_told(&self) -> Option<TimeTold> {
        None
    }

    fn capabilities(&self) -> &'static Capabilities {
        self.capabilities
    }

    async fn create(&self, order: &Order, frame: &Frame) -> Answer<CreateOutcome> {
        match self.ask(Asks::Create(order.clone()), frame).await {
            Said::Created(said) => Answer::new(said),
            said => unfit(&said),
        }
    }

    async fn query(&self, order: &OrderRef, frame: &Frame) -> Answer<QueryOutcome> {
        match self.ask(Asks::Query(order.clone()), frame).await {
            Said::Queried(said) => Answer::new(said),
            said => unfit(&said),
        }
    }

    async fn close(&self, order: &OrderRef, frame: &Frame) -> Answer<CloseOutcome> {
        match self.ask(Asks::Close(order.clone()), frame).await {
            Said::Ended(said) => Answer::new(said),
            said => unfit(&said),
        }
    }

    async fn reverse(&self, order: &OrderRef, frame: &Frame) -> Answer<CloseOutcome> {
        match self.ask(Asks::Reverse(order.clone()), frame).await {
            Said::Ended(said) => Answer::new(said),
            said => unfit(&said),
        }
    }

    async fn refund(&self, refund: &RefundOrder, frame: &Frame) -> Answer<RefundOutcome> {
        match self.ask(Asks::Refund(refund.clone()), frame).await {
            Said::Refunded(said) => Answer::new(said),
            said => unfit(&said),
        }
    }

    async fn query_refund(
        &self,
        refund: &RefundOrder,
        frame: &Frame,
    ) -> Answer<RefundQueryOutcome> {
        match self.ask(Asks::QueryRefund(refund.clone()), frame).await {
            Said::RefundQueried(said) => Answer::new(said),
            said => unfit(&said),
        }
    }

    fn notification(
        &self,
        raw: &RawNotification,
        now: DateTime<Utc>,
    ) -> Result<Verified<Notification>, Rejection> {
        self.notifier.notification(raw, now)
    }

    fn acknowledge(&self, what: Acknowledgement) -> AcknowledgementBody {
        self.notifier.acknowledge(what)
    }
}
