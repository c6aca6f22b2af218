//! What health is kept of, and how it is written down: the name under which it is stored.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use providers::order::Flow;
use providers::provider::ProviderName;

use super::RouteId;
use crate::domain::Mode;

/// A provider's flow at one address, as far as merchants share it: those who call another address,
/// or with money of the other kind, learn nothing from each other.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Whole {
    /// Which provider.
    pub provider: ProviderName,
    /// How payers pay.
    pub flow: Flow,
    /// Whether the money is real.
    pub mode: Mode,
    /// Where it is called: scheme, host and port. Empty where nobody has said.
    pub address: Arc<str>,
}

/// What health is kept of.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HealthKey {
    /// One account's route.
    Route(RouteId),
    /// A provider's flow, over all accounts that call it at one address in one mode.
    Provider(Whole),
}

/// This names no subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no subject that health is kept of")]
pub struct UnknownSubject;

impl fmt::Display for HealthKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Route(route) => write!(
                f,
                "route/{}/{}/{}",
                route.provider, route.flow, route.account_id
            ),
            Self::Provider(Whole {
                provider,
                flow,
                mode,
                address,
            }) => {
                write!(f, "provider/{provider}/{flow}/{mode}/{address}")
            }
        }
    }
}

impl FromStr for HealthKey {
    type Err = UnknownSubject;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let mut parts = s.splitn(4, '/');
        let mut next = || parts.next().ok_or(UnknownSubject);
        let kind = next()?;
        let provider = next()?.parse().map_err(|_| UnknownSubject)?;
        let flow = next()?.parse().map_err(|_| UnknownSubject)?;
        let rest = next()?;

        match kind {
            "provider" => {
                let (mode, address) = rest.split_once('/').ok_or(UnknownSubject)?;
                let mode = mode.parse().map_err(|_| UnknownSubject)?;
                Ok(Self::Provider(Whole {
                    provider,
                    flow,
                    mode,
                    address: address.into(),
                }))
            }
            "route" => Ok(Self::Route(RouteId {
                account_id: rest.parse().map_err(|_| UnknownSubject)?,
                provider,
                flow,
            })),
            _ => Err(UnknownSubject),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let provider = "alipay".parse().unwrap();
        let route = RouteId {
            account_id: "acct_1".parse().unwrap(),
            provider,
            flow: Flow::Qr,
        };

        let whole = |mode, address: &str| Whole {
            provider,
            flow: Flow::H5,
            mode,
            address: address.into(),
        };
        let wholes = [
            whole(Mode::Live, "https://openapi.alipay.com"),
            whole(Mode::Test, ""),
        ];

        for subject in wholes
            .into_iter()
            .map(HealthKey::Provider)
            .chain([HealthKey::Route(route)])
        {
            assert_eq!(subject.to_string().parse(), Ok(subject));
        }
    }

    #[test]
    fn what_is_no_subject_is_none() {
        for text in [
            "",
            "route",
            "route/alipay/qr",
            "route/alipay/qr/",
            "provider/alipay",
            "provider/alipay/qr",
            "provider/alipay/qr/live",
            "provider/alipay/qr/real/https://a",
            "provider/nobody/qr/live/https://a",
        ] {
            assert_eq!(text.parse::<HealthKey>(), Err(UnknownSubject), "{text}");
        }
    }
}
