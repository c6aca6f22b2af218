//! Identifiers: a prefix that says what it names, and 128 random bits.

use std::fmt;

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};

/// The system has no randomness to give; nothing that needs an id can go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the system gives no random bytes")]
pub struct NoRandomness;

/// Random bytes from the operating system.
///
/// # Errors
/// [`NoRandomness`] when the operating system gives none.
pub fn random<const N: usize>() -> Result<[u8; N], NoRandomness> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| NoRandomness)?;
    Ok(bytes)
}

/// 128 random bits in base 62, always 22 characters of `[0-9A-Za-z]`.
///
/// # Errors
/// [`NoRandomness`].
pub fn token() -> Result<String, NoRandomness> {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut rest = u128::from_be_bytes(random::<16>()?);
    let mut text = String::with_capacity(22);
    for _ in 0..22 {
        let digit = usize::try_from(rest % 62).unwrap_or(0);
        text.push(DIGITS.get(digit).copied().map_or('0', char::from));
        rest /= 62;
    }
    Ok(text)
}

/// A random number, to tell a few of something apart.
///
/// # Errors
/// [`NoRandomness`].
pub fn number() -> Result<u32, NoRandomness> {
    Ok(u32::from_be_bytes(random::<4>()?))
}

/// What an id can name. The prefix is part of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub enum Kind {
    /// A merchant.
    #[strum(serialize = "mer")]
    Merchant,
    /// A merchant's contract with a provider.
    #[strum(serialize = "acct")]
    Account,
    /// A payment.
    #[strum(serialize = "pay")]
    Payment,
    /// An attempt.
    #[strum(serialize = "att")]
    Attempt,
    /// A refund.
    #[strum(serialize = "re")]
    Refund,
    /// An event.
    #[strum(serialize = "evt")]
    Event,
    /// An entry of the operators' work list.
    #[strum(serialize = "op")]
    Operation,
    /// A place where a merchant wants to be told of events.
    #[strum(serialize = "we")]
    WebhookEndpoint,
    /// An API key's public part.
    #[strum(serialize = "key")]
    Key,
}

/// A new id: `pay_` and 22 characters.
///
/// # Errors
/// [`NoRandomness`].
pub fn new(kind: Kind) -> Result<String, NoRandomness> {
    let prefix: &'static str = kind.into();
    Ok(format!("{prefix}_{}", token()?))
}

/// A number for an order or a refund at a provider: the installation's prefix and 22 random characters, in all at
/// most 32 of `[0-9A-Za-z]`, never reused.
///
/// # Errors
/// [`NoRandomness`].
pub fn provider_no(prefix: &InstallationPrefix) -> Result<String, NoRandomness> {
    Ok(format!("{prefix}{}", token()?))
}

/// Tells the numbers of this installation from those of others on the same merchant account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstallationPrefix(String);

impl InstallationPrefix {
    /// 1 to 8 of `[0-9A-Za-z]`, or `None`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let fits = (1..=8).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric());
        fits.then(|| Self(text.to_owned()))
    }
}

impl fmt::Display for InstallationPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn provider_numbers_fit_every_provider() {
        let prefix = InstallationPrefix::parse("IL").unwrap();
        let no = provider_no(&prefix).unwrap();
        assert_eq!(no.len(), 24);
        assert!(no.bytes().all(|b| b.is_ascii_alphanumeric()));
        assert!(InstallationPrefix::parse("").is_none());
        assert!(InstallationPrefix::parse("too-long!").is_none());
    }

    #[test]
    fn ids_name_what_they_are() {
        assert!(new(Kind::Payment).unwrap().starts_with("pay_"));
        assert_eq!(new(Kind::Refund).unwrap().len(), 3 + 22);
        assert_ne!(token().unwrap(), token().unwrap());
    }
}
