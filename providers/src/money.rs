//! Amounts: integer minor units and a currency. Nothing here, or anywhere near money, is a float.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An ISO 4217 currency that a provider can settle.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    strum::Display,
    strum::EnumString,
    strum::AsRefStr,
)]
#[serde(rename_all = "UPPERCASE")]
#[strum(serialize_all = "UPPERCASE")]
pub enum Currency {
    /// Renminbi, minor unit fen (1/100 yuan).
    Cny,
}

/// An amount that is never negative: fen and their currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Money {
    minor: i64,
    currency: Currency,
}

/// Why a text or number is not an amount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// Below zero, or beyond what 64 bits hold.
    #[error("amount out of range")]
    OutOfRange,
    /// Not a decimal number of yuan with at most two decimals.
    #[error("not an amount of yuan: {0:?}")]
    Malformed(String),
}

impl Money {
    /// Fen of Renminbi.
    ///
    /// # Errors
    /// `OutOfRange` when `fen` is negative.
    pub fn fen(fen: i64) -> Result<Self, MoneyError> {
        if fen < 0 {
            return Err(MoneyError::OutOfRange);
        }
        Ok(Self {
            minor: fen,
            currency: Currency::Cny,
        })
    }

    /// Reads a decimal amount of yuan as Alipay writes it: `1`, `1.1` and `1.10` are 100, 110 and
    /// 110 fen.
    ///
    /// # Errors
    /// `Malformed` for signs, exponents, separators and more than two decimals; `OutOfRange` beyond
    /// 64 bits.
    pub fn from_yuan(text: &str) -> Result<Self, MoneyError> {
        let malformed = || MoneyError::Malformed(text.chars().take(32).collect());
        let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(part) || part.len() > 2 {
            return Err(malformed());
        }
        let whole: i64 = whole.parse().map_err(|_| MoneyError::OutOfRange)?;
        let mut fen: i64 = part.parse().map_err(|_| malformed())?;
        if part.len() == 1 {
            fen *= 10;
        }

        let minor = whole
            .checked_mul(100)
            .and_then(|w| w.checked_add(fen))
            .ok_or(MoneyError::OutOfRange)?;

        Self::fen(minor)
    }

    /// Minor units: fen.
    #[must_use]
    pub fn minor(self) -> i64 {
        self.minor
    }

    /// Its currency.
    #[must_use]
    pub fn currency(self) -> Currency {
        self.currency
    }

    /// The amount in yuan with two decimals: `88.80`.
    #[must_use]
    pub fn to_yuan(self) -> String {
        format!("{}.{:02}", self.minor / 100, self.minor % 100)
    }

    /// The sum, or `None` when currencies differ or 64 bits overflow.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        if self.currency != other.currency {
            return None;
        }
        Some(Self {
            minor: self.minor.checked_add(other.minor)?,
            currency: self.currency,
        })
    }

    /// The difference, or `None` when currencies differ or it would be negative.
    #[must_use]
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        if self.currency != other.currency || self.minor < other.minor {
            return None;
        }
        Some(Self {
            minor: self.minor - other.minor,
            currency: self.currency,
        })
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.to_yuan(), self.currency)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yuan_are_read_and_written_exactly() {
        for (text, fen) in [
            ("0.01", 1),
            ("1", 100),
            ("1.1", 110),
            ("1.10", 110),
            ("100000000.00", 10_000_000_000),
        ] {
            assert_eq!(Money::from_yuan(text).map(Money::minor), Ok(fen), "{text}");
        }
        assert_eq!(Money::fen(8888).map(Money::to_yuan), Ok("88.88".to_owned()));
        assert_eq!(Money::fen(5).map(Money::to_yuan), Ok("0.05".to_owned()));
    }

    #[test]
    fn what_is_not_an_amount_is_refused() {
        for text in [
            "",
            ".",
            "1.",
            ".5",
            "-1",
            "+1",
            "1e2",
            "1,000",
            "1.005",
            "1 ",
            "٣",
            "99999999999999999999",
        ] {
            assert!(Money::from_yuan(text).is_err(), "{text}");
        }

        assert_eq!(Money::fen(-1), Err(MoneyError::OutOfRange));
    }
}
