//! An incident: an outage that people are told of. What it can be about, how bad it is, and what
//! can happen in it. Pure values; who looks, and who is told, is decided elsewhere.

mod baseline;
mod debounce;

use std::fmt;
use std::str::FromStr;

use providers::order::Flow;
use providers::provider::ProviderName;

use crate::domain::id::AccountId;

pub use baseline::{Baseline, failing_limit};
pub use debounce::{Debounce, Sight, late};

/// What an incident is about. Of each there is one open incident at a time.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Subject {
    /// A provider's flow, over all accounts.
    Provider(ProviderName, Flow),
    /// One account's route.
    Route(ProviderName, Flow, AccountId),
    /// An account that its provider refuses.
    Account(ProviderName, AccountId),
    /// Outcomes at a provider that nobody knows.
    InDoubt(ProviderName),
    /// Payments that wait for a route.
    Parked,
    /// What merchants have still to be told.
    Webhooks,
    /// The health that gateways share.
    Redis,
    /// What waits for a person.
    WorkList,
}

/// This names no subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("nothing that incidents are about")]
pub struct UnknownSubject;

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Provider(provider, flow) => write!(f, "provider/{provider}/{flow}"),
            Self::Route(provider, flow, account) => write!(f, "route/{provider}/{flow}/{account}"),
            Self::Account(provider, account) => write!(f, "account/{provider}/{account}"),
            Self::InDoubt(provider) => write!(f, "in_doubt/{provider}"),
            Self::Parked => f.write_str("parked"),
            Self::Webhooks => f.write_str("webhooks"),
            Self::Redis => f.write_str("redis"),
            Self::WorkList => f.write_str("work_list"),
        }
    }
}

impl FromStr for Subject {
    type Err = UnknownSubject;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let parts: Vec<&str> = s.split('/').collect();
        let provider = |text: &str| text.parse::<ProviderName>().map_err(|_| UnknownSubject);
        let flow = |text: &str| text.parse::<Flow>().map_err(|_| UnknownSubject);
        let account = |text: &str| text.parse::<AccountId>().map_err(|_| UnknownSubject);

        match parts.as_slice() {
            ["provider", p, f] => Ok(Self::Provider(provider(p)?, flow(f)?)),
            ["route", p, f, a] => Ok(Self::Route(provider(p)?, flow(f)?, account(a)?)),
            ["account", p, a] => Ok(Self::Account(provider(p)?, account(a)?)),
            ["in_doubt", p] => Ok(Self::InDoubt(provider(p)?)),
            ["parked"] => Ok(Self::Parked),
            ["webhooks"] => Ok(Self::Webhooks),
            ["redis"] => Ok(Self::Redis),
            ["work_list"] => Ok(Self::WorkList),
            _ => Err(UnknownSubject),
        }
    }
}

impl Subject {
    /// The provider that it is about, if it is about one.
    #[must_use]
    pub const fn provider(&self) -> Option<ProviderName> {
        match self {
            Self::Provider(provider, _)
            | Self::Route(provider, _, _)
            | Self::Account(provider, _)
            | Self::InDoubt(provider) => Some(*provider),
            Self::Parked | Self::Webhooks | Self::Redis | Self::WorkList => None,
        }
    }

    /// The flow that it is about, if it is about one.
    #[must_use]
    pub const fn flow(&self) -> Option<Flow> {
        match self {
            Self::Provider(_, flow) | Self::Route(_, flow, _) => Some(*flow),
            Self::Account(..)
            | Self::InDoubt(_)
            | Self::Parked
            | Self::Webhooks
            | Self::Redis
            | Self::WorkList => None,
        }
    }

    /// The account that it is about, if it is about one.
    #[must_use]
    pub fn account(&self) -> Option<&AccountId> {
        match self {
            Self::Route(_, _, account) | Self::Account(_, account) => Some(account),
            Self::Provider(..)
            | Self::InDoubt(_)
            | Self::Parked
            | Self::Webhooks
            | Self::Redis
            | Self::WorkList => None,
        }
    }
}

/// Whether somebody is to be woken.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    strum::Display,
    strum::EnumString,
    strum::IntoStaticStr,
    serde::Serialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
#[schema(as = IncidentSeverity)]
pub enum Severity {
    /// Worth knowing; it can wait until morning.
    Notice,
    /// Worth waking somebody.
    Page,
}

/// What is wrong.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    strum::Display,
    strum::EnumString,
    strum::EnumIter,
    strum::IntoStaticStr,
    serde::Serialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
#[schema(as = IncidentCause)]
pub enum Cause {
    /// A provider's flow takes no payments: its breaker is open.
    ProviderDown,
    /// Far more calls fail there than usual; it still takes payments.
    ProviderFailing,
    /// One account's route takes no payments, while its provider works.
    RouteDown,
    /// A provider refuses an account, which is set aside.
    AccountRefused,
    /// Nobody has known for long whether money was taken.
    OutcomesInDoubt,
    /// Payments wait for a route.
    PaymentsParked,
    /// Merchants are told late.
    WebhooksLate,
    /// Gateways cannot share what they know of the health of routes.
    RedisAway,
    /// Something has waited for a person for long.
    WorkListWaiting,
}

impl Cause {
    /// Whether somebody is to be woken for it.
    #[must_use]
    pub const fn severity(self) -> Severity {
        match self {
            Self::ProviderDown
            | Self::AccountRefused
            | Self::OutcomesInDoubt
            | Self::PaymentsParked
            | Self::WorkListWaiting => Severity::Page,
            Self::ProviderFailing | Self::RouteDown | Self::WebhooksLate | Self::RedisAway => {
                Severity::Notice
            }
        }
    }
}

/// Where an incident stands.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    strum::Display,
    strum::EnumString,
    strum::EnumIter,
    strum::IntoStaticStr,
    serde::Serialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
#[schema(as = IncidentPhase)]
pub enum Phase {
    /// It goes on; there is no breaker that would say more.
    Ongoing,
    /// The breaker is open.
    Out,
    /// The breaker is open, and probes are answered.
    Answering,
    /// One payment at a time tries it.
    Trial,
    /// It takes a growing share.
    Ramping,
    /// It takes all payments again; for a while it is watched.
    Back,
}

/// What happened in an incident.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    strum::Display,
    strum::EnumString,
    strum::EnumIter,
    strum::IntoStaticStr,
    serde::Serialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
#[schema(as = IncidentEntryKind)]
pub enum Entry {
    /// It was noticed.
    Opened,
    /// It got worse: what only failed often is out now.
    Worse,
    /// What had come back failed again.
    TrippedAgain,
    /// Probes are answered.
    Answering,
    /// One payment at a time tries it.
    Trial,
    /// It takes a growing share.
    Ramping,
    /// It takes all payments again.
    Back,
    /// It is over.
    Closed,
}

impl Phase {
    /// What a change of phase is in the timeline. A probe that failed after good ones is nothing
    /// new.
    #[must_use]
    pub const fn entry_of(self, next: Self) -> Option<Entry> {
        match (self, next) {
            (Self::Ongoing, Self::Ongoing)
            | (Self::Out | Self::Answering, Self::Out)
            | (Self::Answering, Self::Answering)
            | (Self::Trial, Self::Trial)
            | (Self::Ramping, Self::Ramping)
            | (Self::Back, Self::Back)
            | (_, Self::Ongoing) => None,
            (Self::Ongoing, Self::Out) => Some(Entry::Worse),
            (Self::Trial | Self::Ramping | Self::Back, Self::Out) => Some(Entry::TrippedAgain),
            (
                Self::Ongoing | Self::Out | Self::Trial | Self::Ramping | Self::Back,
                Self::Answering,
            ) => Some(Entry::Answering),
            (
                Self::Ongoing | Self::Out | Self::Answering | Self::Ramping | Self::Back,
                Self::Trial,
            ) => Some(Entry::Trial),
            (
                Self::Ongoing | Self::Out | Self::Answering | Self::Trial | Self::Back,
                Self::Ramping,
            ) => Some(Entry::Ramping),
            (
                Self::Ongoing | Self::Out | Self::Answering | Self::Trial | Self::Ramping,
                Self::Back,
            ) => Some(Entry::Back),
        }
    }
}

/// A change of an incident that people are told of: `opened`, `worse`, `reminder_3`, `closed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It was noticed.
    Opened,
    /// It got worse.
    Worse,
    /// It lasts: the n-th reminder.
    Reminder(i32),
    /// It is over.
    Closed,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Opened => f.write_str("opened"),
            Self::Worse => f.write_str("worse"),
            Self::Reminder(n) => write!(f, "reminder_{n}"),
            Self::Closed => f.write_str("closed"),
        }
    }
}

impl FromStr for Change {
    type Err = UnknownSubject;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        match s {
            "opened" => Ok(Self::Opened),
            "worse" => Ok(Self::Worse),
            "closed" => Ok(Self::Closed),
            other => {
                let number = other.strip_prefix("reminder_").and_then(|n| n.parse().ok());
                number.map(Self::Reminder).ok_or(UnknownSubject)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use strum::IntoEnumIterator as _;

    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let alipay: ProviderName = "alipay".parse().unwrap();
        for subject in [
            Subject::Provider(alipay, Flow::Qr),
            Subject::Route(alipay, Flow::Barcode, "acct_1".parse().unwrap()),
            Subject::Account(alipay, "acct_1".parse().unwrap()),
            Subject::InDoubt(alipay),
            Subject::Parked,
            Subject::Webhooks,
            Subject::Redis,
            Subject::WorkList,
        ] {
            assert_eq!(subject.to_string().parse(), Ok(subject));
        }

        for text in [
            "",
            "provider",
            "provider/nobody/qr",
            "route/alipay/qr/",
            "in_doubt",
            "parked/x",
        ] {
            assert_eq!(text.parse::<Subject>(), Err(UnknownSubject), "{text}");
        }

        for change in [
            Change::Opened,
            Change::Worse,
            Change::Reminder(3),
            Change::Closed,
        ] {
            assert_eq!(change.to_string().parse(), Ok(change));
        }

        assert_eq!("reminder_".parse::<Change>(), Err(UnknownSubject));
    }

    #[test]
    fn a_timeline_tells_each_step_and_no_step_twice() {
        use Phase as P;

        for phase in Phase::iter() {
            assert_eq!(phase.entry_of(phase), None);
        }
        let steps = [
            P::Ongoing,
            P::Out,
            P::Answering,
            P::Trial,
            P::Out,
            P::Answering,
            P::Out,
            P::Answering,
            P::Trial,
        ];

        let told: Vec<_> = steps
            .windows(2)
            .filter_map(|pair| pair[0].entry_of(pair[1]))
            .collect();
        let expected = [
            Entry::Worse,
            Entry::Answering,
            Entry::Trial,
            Entry::TrippedAgain,
            Entry::Answering,
            Entry::Answering,
            Entry::Trial,
        ];

        assert_eq!(told, expected);
        assert_eq!(
            (P::Trial.entry_of(P::Ramping), P::Ramping.entry_of(P::Back)),
            (Some(Entry::Ramping), Some(Entry::Back))
        );
    }
}
