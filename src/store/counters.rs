//! Counts what committed changes made true, read off the difference between two shapes of a
//! payment: no code path can end a payment and forget to count it. Counts kinds only, by mode;
//! never names a payment, an order, an account or a merchant.

use providers::order::Flow;
use providers::provider::ProviderName;
use strum::IntoEnumIterator as _;

use crate::domain::attempt::{Disposition, State};
use crate::domain::payment::{BrokenInvariant, State as PaymentState};
use crate::domain::refund::State as RefundState;
use crate::domain::{Aggregate, Attempt, Mode};

/// Something that became true.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Count {
    /// A payment was made.
    Made(Flow),
    /// A payment came into this state.
    Payment(Flow, PaymentState),
    /// A payment goes on over another route: from this provider, to that one.
    Switched(ProviderName, ProviderName),
    /// Money came in, and this is what becomes of it.
    Captured(ProviderName, Flow, Disposition),
    /// A refund came into this state.
    Refund(ProviderName, RefundState),
}

/// What became true between `before` (`None` for a new payment) and `after`.
pub(super) fn between(before: Option<&Aggregate>, after: &Aggregate) -> Vec<Count> {
    let mut facts: Vec<Count> = before
        .is_none()
        .then_some(Count::Made(after.payment.flow))
        .into_iter()
        .collect();

    if before.map(|b| b.payment.status) != Some(after.payment.status) {
        facts.push(Count::Payment(after.payment.flow, after.payment.status));
    }
    let mut last: Option<&Attempt> = None;

    for attempt in &after.attempts {
        let known = before.and_then(|b| b.attempt(&attempt.id));
        // One that the payer asked for is no failure of the route before.
        let gave_way = last.filter(|last| matches!(last.status, State::Dead | State::Abandoned));
        if let (Some(last), None) = (gave_way, known) {
            facts.push(Count::Switched(last.provider, attempt.provider));
        }
        if let (None, Some(disposition)) = (known.and_then(|a| a.disposition), attempt.disposition)
        {
            facts.push(Count::Captured(attempt.provider, attempt.flow, disposition));
        }
        last = Some(attempt);
    }

    for refund in &after.refunds {
        let known = before
            .and_then(|b| b.refunds.iter().find(|r| r.id == refund.id))
            .map(|r| r.status);
        if known != Some(refund.status)
            && let Some(attempt) = after.attempt(&refund.attempt_id)
        {
            facts.push(Count::Refund(attempt.provider, refund.status));
        }
    }

    facts
}

impl Count {
    /// Counts it `times`; 0 only makes its series.
    fn count(self, mode: Mode, times: u64) {
        let mode = mode.as_str();

        match self {
            Self::Made(flow) => {
                metrics::counter!("interlock_payments_made_total", "mode" => mode,
                    "flow" => name(flow))
                .increment(times);
            }
            Self::Payment(flow, status) => {
                let status: &'static str = status.into();
                metrics::counter!("interlock_payments_total", "mode" => mode, "flow" => name(flow),
                    "status" => status)
                .increment(times);
            }
            Self::Switched(from, to) => {
                metrics::counter!("interlock_switches_total", "mode" => mode,
                    "from" => from.as_str(), "to" => to.as_str())
                .increment(times);
            }
            Self::Captured(provider, flow, disposition) => metrics::counter!(
                "interlock_captures_total",
                "mode" => mode, "provider" => provider.as_str(), "flow" => name(flow),
                "disposition" => word(disposition)
            )
            .increment(times),
            Self::Refund(provider, status) => {
                let status: &'static str = status.into();
                metrics::counter!("interlock_refunds_total", "mode" => mode,
                    "provider" => provider.as_str(), "status" => status)
                .increment(times);
            }
        }
    }
}

fn name(flow: Flow) -> &'static str {
    flow.into()
}

fn word(disposition: Disposition) -> &'static str {
    disposition.into()
}

/// Counts what a commit made true.
pub(super) fn count(mode: Mode, facts: &[Count]) {
    facts.iter().for_each(|fact| fact.count(mode, 1));
}

/// Makes the series of everything that can be counted: an increase from nothing to 1 is none to
/// Prometheus.
pub fn register() {
    Mode::iter().for_each(register_mode);
    for which in BrokenInvariant::iter() {
        metrics::counter!("interlock_broken_invariants_total", "which" => <&str>::from(which))
            .increment(0);
    }
}

fn register_mode(mode: Mode) {
    let names = || providers::PROTOCOLS.iter().map(|protocol| protocol.name);
    let served = |flow| {
        providers::PROTOCOLS
            .iter()
            .any(|p| p.capabilities.flows.iter().any(|f| f.flow == flow))
    };

    for flow in Flow::iter().filter(|flow| served(*flow)) {
        Count::Made(flow).count(mode, 0);
        PaymentState::iter().for_each(|state| Count::Payment(flow, state).count(mode, 0));
    }

    for protocol in providers::PROTOCOLS {
        names().for_each(|to| Count::Switched(protocol.name, to).count(mode, 0));
        RefundState::iter().for_each(|state| Count::Refund(protocol.name, state).count(mode, 0));
        for flow in protocol.capabilities.flows {
            for disposition in Disposition::iter() {
                Count::Captured(protocol.name, flow.flow, disposition).count(mode, 0);
            }
        }
    }
}
