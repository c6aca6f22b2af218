//! Whom something belongs to: a merchant in a mode. A shop's test payments and its live ones are as
//! strange to each other as two shops' are, so nothing below the API knows a merchant without its
//! mode, and what reads over all owners says so.

use std::fmt;

use super::Mode;
use super::id::MerchantId;

/// A merchant in a mode: what is stored belongs to one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner {
    /// `mer_…`
    pub merchant: MerchantId,
    /// Whether its money is real.
    pub mode: Mode,
}

impl Owner {
    /// The owner that the columns `merchant_id` and `livemode` of a row name.
    #[must_use]
    pub fn of(merchant: MerchantId, livemode: bool) -> Self {
        Self {
            merchant,
            mode: Mode::of(livemode),
        }
    }

    /// Real money?
    #[must_use]
    pub const fn is_live(&self) -> bool {
        self.mode.is_live()
    }
}

/// `mer_… live`: for log lines, and for what is kept in memory under a text.
impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.merchant, self.mode)
    }
}

/// Says that a read is meant to see what belongs to anybody: for workers, which go on with whatever
/// is due, and for operators. Never for an answer to a merchant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AllOwners;

/// Whose rows are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose<'a> {
    /// One owner's.
    One(&'a Owner),
    /// Everybody's in a mode: for operators and the public page.
    AllIn(Mode),
}

/// The mode that public pages, incidents and alerts speak of: live as soon as there is a live
/// account, and test only until then. `owners` are those of all accounts.
pub fn spoken_mode<'a>(mut owners: impl Iterator<Item = &'a Owner>) -> Mode {
    Mode::of(owners.any(Owner::is_live))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_live_account_is_enough_to_be_spoken_of() {
        let merchant: MerchantId = "mer_1".parse().unwrap();
        let (test, live) = (
            Owner::of(merchant.clone(), false),
            Owner::of(merchant, true),
        );
        assert_ne!(test, live, "a merchant's modes are two owners");
        assert_eq!(
            (test.to_string(), live.to_string()),
            ("mer_1 test".to_owned(), "mer_1 live".to_owned())
        );
        for (owners, mode) in [
            (vec![], Mode::Test),
            (vec![&test], Mode::Test),
            (vec![&test, &live, &test], Mode::Live),
            (vec![&live], Mode::Live),
        ] {
            assert_eq!(spoken_mode(owners.into_iter()), mode);
        }
    }
}
