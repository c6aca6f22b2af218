//! What health is kept of, and how it is written down: part of the key under which it is stored.

use std::fmt;
use std::str::FromStr;

use providers::order::Flow;
use providers::provider::ProviderName;

use super::RouteId;

/// What health is kept of.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Subject {
    /// One account's route.
    Route(RouteId),
    /// A provider's flow, over all accounts.
    Provider(ProviderName, Flow),
}

/// This names no subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no subject that health is kept of")]
pub struct UnknownSubject;

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Route(route) => write!(f, "route/{}/{}/{}", route.provider, route.flow, route.account_id),
            Self::Provider(provider, flow) => write!(f, "provider/{provider}/{flow}"),
        }
    }
}

impl FromStr for Subject {
    type Err = UnknownSubject;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let mut parts = s.splitn(4, '/');
        let mut next = || parts.next().ok_or(UnknownSubject);
        let kind = next()?;
        let provider = next()?.parse().map_err(|_| UnknownSubject)?;
        let flow = next()?.parse().map_err(|_| UnknownSubject)?;
        match (kind, parts.next()) {
            ("provider", None) => Ok(Self::Provider(provider, flow)),
            ("route", Some(account)) if !account.is_empty() => {
                Ok(Self::Route(RouteId { account_id: account.to_owned(), provider, flow }))
            }
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
        let route = RouteId { account_id: "acct_1".to_owned(), provider, flow: Flow::Qr };
        for subject in [Subject::Route(route), Subject::Provider(provider, Flow::H5)] {
            assert_eq!(subject.to_string().parse(), Ok(subject));
        }
    }

    #[test]
    fn what_is_no_subject_is_none() {
        for text in ["", "route", "route/alipay/qr", "route/alipay/qr/", "provider/alipay", "provider/nobody/qr"] {
            assert_eq!(text.parse::<Subject>(), Err(UnknownSubject), "{text}");
        }
        assert_eq!("provider/alipay/qr/x".parse::<Subject>(), Err(UnknownSubject));
    }
}
