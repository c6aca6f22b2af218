//! Counts calls by outcome and measures how long they take. It changes no outcome.
//!
//! `interlock_provider_calls_total{mode,provider,call,flow,outcome,failure}` and
//! `interlock_provider_call_seconds{mode,provider,call}`. `mode` is what the layer was made with,
//! `flow` is `none` for calls that do not depend on it, `failure` is `none` where there was none.
//! Accounts are no label: their number has no bound.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use tokio::time::Instant;

use super::secret::struck_out;
use crate::http::TimeTold;
use crate::notification::{
    Acknowledgement, AcknowledgementBody, Notification, RawNotification, Rejection, Verified,
};
use crate::order::{Call, Flow, Order, OrderRef, RefundOrder};
use crate::outcome::{
    Answer, CloseOutcome, CreateOutcome, Failure, FailureKind, QueryOutcome, RefundOutcome,
    RefundQueryOutcome, Refusal,
};
use crate::provider::{Capabilities, Provider, ProviderName};

/// The value of a label that does not apply.
const NONE: &str = "none";
/// How creating can end, and with which failure; for the series that must be there before it has
/// happened.
const CREATED: &[(&str, Option<FailureKind>)] = &[
    ("accepted", None),
    ("captured", None),
    ("waiting", None),
    ("not_sent", Some(FailureKind::Network)),
    ("not_sent", Some(FailureKind::Timeout)),
    ("refused_provider", Some(FailureKind::RateLimited)),
    ("refused_provider", Some(FailureKind::ServerError)),
    ("refused_account", Some(FailureKind::Account)),
    ("refused_route", Some(FailureKind::Account)),
    ("refused_route", Some(FailureKind::Request)),
    ("refused_route", Some(FailureKind::Declined)),
    ("refused_request", Some(FailureKind::Request)),
    ("declined", Some(FailureKind::Declined)),
    ("unknown", Some(FailureKind::Network)),
    ("unknown", Some(FailureKind::Timeout)),
    ("unknown", Some(FailureKind::ServerError)),
    ("unknown", Some(FailureKind::Incompatible)),
];

/// Makes the series of creating at every provider, in this mode: an increase from nothing to 1 is
/// none to Prometheus.
pub fn register(mode: &'static str) {
    for protocol in crate::PROTOCOLS {
        let place = Place {
            mode,
            provider: protocol.name,
            call: "create",
        };
        for flow in protocol.capabilities.flows {
            for (outcome, failure) in CREATED {
                place.count(Some(flow.flow), outcome, *failure, 0);
            }
        }
    }
}

/// Where something was called.
#[derive(Debug, Clone, Copy)]
struct Place {
    mode: &'static str,
    provider: ProviderName,
    call: &'static str,
}

impl Place {
    fn count(
        self,
        flow: Option<Flow>,
        outcome: &'static str,
        failure: Option<FailureKind>,
        times: u64,
    ) {
        let flow: &'static str = flow.map_or(NONE, Into::into);
        let failure: &'static str = failure.map_or(NONE, Into::into);
        ::metrics::counter!(
            "interlock_provider_calls_total",
            "mode" => self.mode, "provider" => self.provider.as_str(), "call" => self.call,
            "flow" => flow,
            "outcome" => outcome, "failure" => failure
        )
        .increment(times);
    }

    fn took(self, time: Duration) {
        ::metrics::histogram!(
            "interlock_provider_call_seconds",
            "mode" => self.mode, "provider" => self.provider.as_str(), "call" => self.call
        )
        .record(time);
    }
}

#[derive(Debug)]
pub(super) struct Metrics {
    inner: Arc<dyn Provider>,
    mode: &'static str,
}

impl Metrics {
    pub(super) fn around(inner: Arc<dyn Provider>, mode: &'static str) -> Self {
        Self { inner, mode }
    }

    async fn measured<T: Label>(
        &self,
        call: &'static str,
        flow: Option<Flow>,
        answer: impl Future<Output = Answer<T>> + Send,
    ) -> Answer<T> {
        let place = Place {
            mode: self.mode,
            provider: self.inner.name(),
            call,
        };
        let began = Instant::now();
        let answer = answer.await;

        place.took(began.elapsed());
        let (outcome, failure) = (&answer.outcome, answer.outcome.failure());
        place.count(
            flow,
            outcome.label(),
            failure.map(|failure| failure.kind),
            1,
        );
        answer
    }
}

/// How outcomes are named where they are counted.
pub trait Label {
    /// Its name.
    fn label(&self) -> &'static str;
    /// What went wrong, if anything did.
    fn failure(&self) -> Option<&Failure>;
}

impl Label for CreateOutcome {
    fn label(&self) -> &'static str {
        match self {
            Self::Accepted(_) => "accepted",
            Self::Captured(_) => "captured",
            Self::Waiting => "waiting",
            Self::NotSent(_) => "not_sent",
            Self::Refused(Refusal::Provider, _) => "refused_provider",
            Self::Refused(Refusal::Account, _) => "refused_account",
            Self::Refused(Refusal::Route, _) => "refused_route",
            Self::Refused(Refusal::Request, _) => "refused_request",
            Self::Declined(_) => "declined",
            Self::Unknown(_) => "unknown",
        }
    }

    fn failure(&self) -> Option<&Failure> {
        match self {
            Self::NotSent(failure)
            | Self::Refused(_, failure)
            | Self::Declined(failure)
            | Self::Unknown(failure) => Some(failure),
            Self::Accepted(_) | Self::Captured(_) | Self::Waiting => None,
        }
    }
}

impl Label for QueryOutcome {
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

    fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Unknown(failure) => Some(failure),
            Self::NotFound | Self::Payable | Self::Paid(_) | Self::Closed | Self::Reversed => None,
        }
    }
}

impl Label for CloseOutcome {
    fn label(&self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Reversed => "reversed",
            Self::AlreadyPaid => "already_paid",
            Self::NotFound => "not_found",
            Self::Impossible(_) => "impossible",
            Self::Retry(_) => "again",
            Self::Unknown(_) => "unknown",
        }
    }

    fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Impossible(failure) | Self::Retry(failure) | Self::Unknown(failure) => {
                Some(failure)
            }
            Self::Closed | Self::Reversed | Self::AlreadyPaid | Self::NotFound => None,
        }
    }
}

impl Label for RefundOutcome {
    fn label(&self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Done => "done",
            Self::Rejected(_) => "terminal_no",
            Self::RetryWithNewNumber(_) => "another_number",
            Self::Abnormal(_) => "abnormal",
            Self::NeedsFunds(_) => "needs_funds",
            Self::RetryLater(_) => "later",
            Self::Unknown(_) => "unknown",
        }
    }

    fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Rejected(failure)
            | Self::RetryWithNewNumber(failure)
            | Self::Abnormal(failure)
            | Self::NeedsFunds(failure)
            | Self::RetryLater(failure)
            | Self::Unknown(failure) => Some(failure),
            Self::Accepted | Self::Done => None,
        }
    }
}

impl Label for RefundQueryOutcome {
    fn label(&self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::Accepted => "accepted",
            Self::Done => "done",
            Self::Rejected(_) => "terminal_no",
            Self::Abnormal(_) => "abnormal",
            Self::Unknown(_) => "unknown",
        }
    }

    fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Rejected(failure) | Self::Abnormal(failure) | Self::Unknown(failure) => {
                Some(failure)
            }
            Self::NotFound | Self::Accepted | Self::Done => None,
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
        let answer = self
            .measured("create", Some(order.flow), self.inner.create(order, call))
            .await;
        struck_out(answer, order.auth_code.as_deref())
    }

    async fn query(&self, order: &OrderRef, call: &Call) -> Answer<QueryOutcome> {
        self.measured("query", None, self.inner.query(order, call))
            .await
    }

    async fn close(&self, order: &OrderRef, call: &Call) -> Answer<CloseOutcome> {
        self.measured("close", None, self.inner.close(order, call))
            .await
    }

    async fn reverse(&self, order: &OrderRef, call: &Call) -> Answer<CloseOutcome> {
        self.measured("reverse", None, self.inner.reverse(order, call))
            .await
    }

    async fn refund(&self, refund: &RefundOrder, call: &Call) -> Answer<RefundOutcome> {
        self.measured("refund", None, self.inner.refund(refund, call))
            .await
    }

    async fn query_refund(&self, refund: &RefundOrder, call: &Call) -> Answer<RefundQueryOutcome> {
        self.measured("query_refund", None, self.inner.query_refund(refund, call))
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
