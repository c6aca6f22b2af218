//! Identifiers: a prefix that says what it names, and 128 random bits.

use std::fmt;
use std::ops::Deref;
use std::str::FromStr;
use std::sync::Arc;

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use sha2::{Digest as _, Sha256};

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
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| NoRandomness)?;
    Ok(bytes)
}

/// Base 62; a token begins with its lowest digit.
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// So many of them hold 128 bits.
const TOKEN: usize = 22;

/// 128 random bits in base 62, always 22 characters of `[0-9A-Za-z]`.
///
/// # Errors
/// [`NoRandomness`].
pub fn token() -> Result<String, NoRandomness> {
    Ok(digits(u128::from_be_bytes(random::<16>()?)))
}

fn digits(bits: u128) -> String {
    let mut rest = bits;
    let mut text = String::with_capacity(TOKEN);
    for _ in 0..TOKEN {
        let digit = usize::try_from(rest % 62).unwrap_or(0);
        text.push(DIGITS.get(digit).copied().map_or('0', char::from));
        rest /= 62;
    }
    text
}

/// The 128 random bits of an id, with its prefix or without; `None` for what [`token`] cannot have
/// made, and for 0.
#[must_use]
pub fn bits(id: &str) -> Option<u128> {
    let token = id.rsplit('_').next().filter(|token| token.len() == TOKEN)?;
    let digit = |byte: u8| {
        DIGITS
            .iter()
            .position(|digit| *digit == byte)
            .and_then(|at| u128::try_from(at).ok())
    };
    let mut digits = token.bytes().rev().map(digit);
    let bits = digits.try_fold(0_u128, |bits, digit| {
        bits.checked_mul(62)?.checked_add(digit?)
    })?;
    (bits != 0).then_some(bits)
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
    /// A person's word on such an entry.
    #[strum(serialize = "ops")]
    OperationStep,
    /// A place where a merchant wants to be told of events.
    #[strum(serialize = "we")]
    WebhookEndpoint,
    /// An incident.
    #[strum(serialize = "inc")]
    Incident,
    /// An API key's public part.
    #[strum(serialize = "key")]
    Key,
}

/// A text that is not what it is read as.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} does not begin like {like:?}")]
pub struct NotAnId {
    /// The text.
    pub text: String,
    /// What it should have begun with: `pay_`.
    pub like: &'static str,
}

/// A text of one kind, shared by whoever has it: one kind is never taken for another.
macro_rules! names {
    ($($(#[$doc:meta])* $name:ident)+) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// As it was stored: what it is, the column says.
            pub(crate) fn stored(text: String) -> Self {
                Self(text.into())
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl Deref for $name {
            type Target = str;

            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl PartialEq<str> for $name {
            fn eq(&self, text: &str) -> bool {
                &*self.0 == text
            }
        }

        impl PartialEq<&str> for $name {
            fn eq(&self, text: &&str) -> bool {
                &*self.0 == *text
            }
        }

        impl PartialEq<String> for $name {
            fn eq(&self, text: &String) -> bool {
                &*self.0 == text.as_str()
            }
        }

        impl PartialEq<$name> for String {
            fn eq(&self, name: &$name) -> bool {
                self.as_str() == &*name.0
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.as_ref().to_owned()
            }
        }

        impl From<&$name> for String {
            fn from(name: &$name) -> Self {
                name.0.as_ref().to_owned()
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(&self.0)
            }
        }
    )+};
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident: $kind:ident)+) => {
        names! { $($(#[$doc])* $name)+ }

        $(impl $name {
            /// A new one.
            ///
            /// # Errors
            /// [`NoRandomness`].
            pub fn new() -> Result<Self, NoRandomness> {
                Ok(Self(new(Kind::$kind)?.into()))
            }

            /// The one that is made of these bits.
            #[must_use]
            pub fn of(bits: u128) -> Self {
                Self(of(Kind::$kind, bits).into())
            }
        }

        impl FromStr for $name {
            type Err = NotAnId;

            fn from_str(text: &str) -> Result<Self, NotAnId> {
                let like: &'static str = Kind::$kind.into();
                let token = text.strip_prefix(like).and_then(|rest| rest.strip_prefix('_'));
                match token {
                    Some(token) if !token.is_empty() => Ok(Self(text.into())),
                    Some(_) | None => Err(NotAnId {
                        text: text.to_owned(),
                        like,
                    }),
                }
            }
        })+
    };
}

ids! {
    /// A merchant's.
    MerchantId: Merchant
    /// That of a merchant's contract with a provider.
    AccountId: Account
    /// A payment's.
    PaymentId: Payment
    /// An attempt's.
    AttemptId: Attempt
    /// A refund's.
    RefundId: Refund
    /// An event's.
    EventId: Event
    /// That of an entry of the operators' work list.
    ReviewId: Operation
}

macro_rules! numbers {
    ($($(#[$doc:meta])* $name:ident)+) => {
        names! { $($(#[$doc])* $name)+ }

        $(impl FromStr for $name {
            type Err = NotAnId;

            fn from_str(text: &str) -> Result<Self, NotAnId> {
                if text.is_empty() {
                    return Err(NotAnId {
                        text: String::new(),
                        like: "",
                    });
                }
                Ok(Self(text.into()))
            }
        })+
    };
}

numbers! {
    /// That of an attempt's order at its provider.
    OrderNo
    /// That of a refund at its provider.
    RefundNo
}

/// The identifier that is made of these bits.
#[must_use]
pub fn of(kind: Kind, bits: u128) -> String {
    let prefix: &'static str = kind.into();
    format!("{prefix}_{}", digits(bits))
}

/// A new id: `pay_` and 22 characters.
///
/// # Errors
/// [`NoRandomness`].
pub fn new(kind: Kind) -> Result<String, NoRandomness> {
    Ok(of(kind, u128::from_be_bytes(random::<16>()?)))
}

/// The number of an order that is made of these bits.
#[must_use]
pub fn order_no_of(prefix: &InstallationPrefix, bits: u128) -> OrderNo {
    OrderNo(format!("{prefix}{}", digits(bits)).into())
}

/// A number for an order at a provider: the installation's prefix and 22 random characters, in all
/// at most 32 of `[0-9A-Za-z]`, never reused.
///
/// # Errors
/// [`NoRandomness`].
pub fn order_no(prefix: &InstallationPrefix) -> Result<OrderNo, NoRandomness> {
    Ok(order_no_of(prefix, u128::from_be_bytes(random::<16>()?)))
}

/// The number of a refund at its provider: it begins as the number of the order does, or as that
/// which was given up before it, and follows from that, the merchant's number and how many were
/// given up. So a refund that is asked for again after its row was lost, by a restore, is the same
/// refund to the provider. As hard to guess as the order's number.
#[must_use]
pub fn refund_no(after: &str, merchant_refund_no: &str, given_up: usize) -> RefundNo {
    let digest = Sha256::digest(format!("refund\0{after}\0{merchant_refund_no}\0{given_up}"));
    let bits = digest
        .iter()
        .take(16)
        .fold(0_u128, |bits, byte| (bits << 8) | u128::from(*byte));
    let prefix = after
        .len()
        .checked_sub(TOKEN)
        .and_then(|end| after.get(..end))
        .unwrap_or_default();
    RefundNo(format!("{prefix}{}", digits(bits)).into())
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

    /// The prefix of numbers that are made after a restore: two characters longer, so that they
    /// still fit.
    #[must_use]
    pub fn in_turn(&self, turn: &str) -> Self {
        Self(format!("{self}{turn}"))
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
        let no = order_no(&prefix).unwrap();
        assert_eq!(no.len(), 24);
        assert!(no.bytes().all(|b| b.is_ascii_alphanumeric()));
        assert!(InstallationPrefix::parse("").is_none());
        assert!(InstallationPrefix::parse("too-long!").is_none());
    }

    #[test]
    fn a_refund_that_is_asked_for_again_has_the_number_that_it_had() {
        let order_no =
            order_no(&InstallationPrefix::parse("SHOP2026").unwrap().in_turn("Zz")).unwrap();
        let no = refund_no(&order_no, "rf-1", 0);
        assert_eq!((no.len(), &no[..10]), (32, "SHOP2026Zz"));
        assert!(no.bytes().all(|b| b.is_ascii_alphanumeric()));
        assert_eq!(no, refund_no(&order_no, "rf-1", 0));
        let others = [
            refund_no(&order_no, "rf-1", 1),
            refund_no(&order_no, "rf-2", 0),
            refund_no("SHOP2026Zz", "rf-1", 0),
        ];
        assert!(!others.contains(&no), "{others:?}");
        assert!(others.iter().all(|no| *no != *order_no), "{others:?}");
    }

    #[test]
    fn the_bits_of_an_id_are_those_that_it_was_made_of() {
        assert_eq!(bits("pay_1000000000000000000000"), Some(1));
        assert_eq!(bits("0100000000000000000000"), Some(62));
        let (one, other) = (PaymentId::new().unwrap(), PaymentId::new().unwrap());
        assert!(bits(&one).is_some() && bits(&one) != bits(&other));
        for text in [
            "",
            "pay_",
            "pay_1",
            "pay_0000000000000000000000",
            "pay_zzzzzzzzzzzzzzzzzzzzzz",
            "pay_-0000000000000000000001",
        ] {
            assert_eq!(bits(text), None, "{text}");
        }
    }

    #[test]
    fn ids_name_what_they_are() {
        assert!(PaymentId::new().unwrap().starts_with("pay_"));
        assert_eq!(RefundId::new().unwrap().len(), 3 + 22);
        assert_ne!(token().unwrap(), token().unwrap());
    }
}
