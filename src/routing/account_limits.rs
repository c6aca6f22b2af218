//! What an account may be asked to take: its limits, and when it is in maintenance. Facts about a
//! contract, so they stand on the account (`PATCH /v1/accounts/{id}`) and a rollback of routing
//! leaves them alone.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::time_windows::{self, MAX_WINDOWS, Window};
use super::validation_error::ValidationError;
use crate::domain::Timestamp;

/// What is said of a limit of 0.
const NOTHING: &str = "A limit is at least 1; an account that takes nothing is disabled.";

/// Amounts in fen, from `min` to `max`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AmountRange {
    /// The smallest, in fen. None: no matter how small.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<i64>,
    /// The largest, in fen. None: no matter how large.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<i64>,
}

impl AmountRange {
    /// Whether so many fen are in it.
    #[must_use]
    pub fn holds(&self, fen: i64) -> bool {
        self.min.is_none_or(|min| min <= fen) && self.max.is_none_or(|max| fen <= max)
    }

    /// What is wrong with it; `at` is its path.
    ///
    /// # Errors
    /// The member and what is wrong with it.
    pub fn check(&self, at: &str) -> Result<(), ValidationError> {
        for (name, value) in [("min", self.min), ("max", self.max)] {
            if value.is_some_and(|fen| fen < 0) {
                return Err(ValidationError::new(
                    format!("{at}.{name}"),
                    "An amount in fen is not negative.",
                ));
            }
        }
        match (self.min, self.max) {
            (Some(min), Some(max)) if min > max => Err(ValidationError::new(
                format!("{at}.max"),
                "max must not be less than min.",
            )),
            (Some(_) | None, Some(_) | None) => Ok(()),
        }
    }
}

/// A part of a day's limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, ToSchema)]
#[schema(as = UsedToday)]
pub struct Used {
    /// Fen.
    pub amount: i64,
    /// Payments.
    pub count: i64,
}

impl Used {
    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            amount: self.amount.saturating_add(other.amount),
            count: self.count.saturating_add(other.count),
        }
    }

    /// What is left of it without the other, never less than nothing.
    pub(super) fn beyond(self, other: Self) -> Self {
        Self {
            amount: self.amount.saturating_sub(other.amount).max(0),
            count: self.count.saturating_sub(other.count).max(0),
        }
    }
}

/// How much an account takes on one business day (Beijing).
///
/// Counted are its attempts that took money on that day, whatever was given back later, and those
/// that are alive now and may still take some: offers that wait for their payer, charges in doubt.
/// See [`super::usage`] for how exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DayLimit {
    /// So much in all, in fen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount: Option<i64>,
    /// So many payments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<i64>,
}

impl DayLimit {
    /// Whether a payment of so many fen still has a place on a day on which so much is used.
    #[must_use]
    pub fn leaves_room(&self, used: Used, fen: i64) -> bool {
        self.amount
            .is_none_or(|limit| used.amount.saturating_add(fen) <= limit)
            && self.count.is_none_or(|limit| used.count < limit)
    }
}

/// How often an account's provider may be asked for an offer or a charge.
///
/// Each gateway counts its own calls: with three of them, give a third of what the contract allows.
/// Without a limit, a provider that complains of too many calls is asked less often by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SecondLimit {
    /// So many calls a second, from each gateway.
    pub count: u32,
}

/// What an account's contract allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Of each payment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payment: Option<AmountRange>,
    /// Of each business day in Beijing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub day: Option<DayLimit>,
    /// Of each second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub second: Option<SecondLimit>,
}

impl Limits {
    /// Whether a payment of so many fen could ever be taken.
    #[must_use]
    pub fn allow(&self, fen: i64) -> bool {
        self.payment.is_none_or(|range| range.holds(fen))
            && self
                .day
                .is_none_or(|day| day.leaves_room(Used::default(), fen))
    }

    /// What is wrong with them.
    ///
    /// # Errors
    /// The member and what is wrong with it.
    pub fn check(&self) -> Result<(), ValidationError> {
        if let Some(range) = &self.payment {
            range.check("limits.payment")?;
        }
        if let Some(day) = &self.day {
            for (name, value) in [("amount", day.amount), ("count", day.count)] {
                if value.is_some_and(|value| value < 1) {
                    return Err(ValidationError::new(format!("limits.day.{name}"), NOTHING));
                }
            }
        }
        if self.second.is_some_and(|second| second.count < 1) {
            return Err(ValidationError::new("limits.second.count", NOTHING));
        }
        Ok(())
    }
}

/// The terms of an account, as they are stored.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Terms {
    /// How much.
    #[serde(default)]
    pub limits: Limits,
    /// When not.
    #[serde(default)]
    pub maintenance: Vec<Window>,
}

impl Terms {
    /// Whether the account is in maintenance.
    #[must_use]
    pub fn in_maintenance(&self, now: Timestamp) -> bool {
        self.maintenance.iter().any(|window| window.holds(now))
    }

    /// For how many seconds the account is still in maintenance, by its own windows; `None` when it
    /// is not.
    #[must_use]
    pub fn maintained_for_s(&self, now: Timestamp) -> Option<i64> {
        self.maintenance
            .iter()
            .filter(|window| window.holds(now))
            .map(|window| window.left_s(now))
            .max()
    }

    /// What is wrong with them.
    ///
    /// # Errors
    /// The member and what is wrong with it.
    pub fn check(&self) -> Result<(), ValidationError> {
        self.limits.check()?;
        if self.maintenance.len() > MAX_WINDOWS {
            return Err(ValidationError::new(
                "maintenance",
                format!("At most {MAX_WINDOWS} windows."),
            ));
        }
        let named: Vec<_> = self
            .maintenance
            .iter()
            .enumerate()
            .map(|(n, window)| (*window, format!("maintenance[{n}]")))
            .collect();
        time_windows::check_windows(&named)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_hold_up_to_their_last_fen() {
        let limits: Limits = serde_json::from_str(
            r#"{"payment":{"min":100,"max":500},"day":{"amount":400,"count":2}}"#,
        )
        .unwrap();
        for (fen, allowed) in [
            (99, false),
            (100, true),
            (400, true),
            (401, false),
            (500, false),
        ] {
            assert_eq!(limits.allow(fen), allowed, "{fen}");
        }

        let day = limits.day.unwrap();
        assert!(day.leaves_room(
            Used {
                amount: 300,
                count: 1
            },
            100
        ));

        assert!(
            !day.leaves_room(
                Used {
                    amount: 301,
                    count: 1
                },
                100
            ),
            "one fen too much"
        );

        assert!(
            !day.leaves_room(
                Used {
                    amount: 1,
                    count: 2
                },
                1
            ),
            "one payment too many"
        );

        assert!(Limits::default().allow(i64::MAX));
    }
}
