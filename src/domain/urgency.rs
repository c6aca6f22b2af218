//! What a payment waits for next: when, how urgent that is, and which provider will be asked. Read
//! off the aggregate in this one place and written beside its row, so that the resolver can take
//! what is urgent first. Pure.

use providers::ProviderName;

use super::attempt::{Disposition, State};
use super::{Aggregate, Attempt, Timestamp};

/// How urgent it is, most urgent first. The numbers stand in rows.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    strum::Display,
    strum::EnumIter,
    strum::FromRepr,
)]
#[strum(serialize_all = "snake_case")]
#[repr(i16)]
pub enum Urgency {
    /// A charge whose outcome nobody knows: somebody stands at a till.
    Doubt = 1,
    /// Somebody has told of money, or wants an offer ended that a payer holds: it was made due at
    /// once.
    Told = 2,
    /// Money that has to go back.
    GiveBack = 3,
    /// An offer that its payer may pay, its end, another round of routes for a payment that waits.
    Awaited = 4,
    /// What is given up, and watched until it is provably dead.
    Watched = 5,
}

impl Urgency {
    /// What rows say that no program has written that knows of it.
    pub const DEFAULT: Self = Self::Awaited;
}

/// What a payment waits for next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// The earliest time at which something has to be done.
    pub at: Timestamp,
    /// Of all that is to be done for it, how urgent the most urgent is: what comes first must not
    /// keep that waiting.
    pub urgency: Urgency,
    /// Who will be asked first, if it is known who that is.
    pub provider: Option<ProviderName>,
}

impl Aggregate {
    /// What is waited for, as things stand at `now`. Nothing: the payment has come to rest.
    #[must_use]
    pub fn due(&self, now: Timestamp) -> Option<Due> {
        let of_attempts = self.attempts.iter().filter_map(|attempt| {
            let at = attempt.next_check_at?;
            Some(Due {
                at,
                urgency: urgency(attempt, at <= now),
                provider: Some(attempt.provider),
            })
        });

        let of_refunds = self.refunds.iter().filter_map(|refund| {
            let provider = self
                .attempt(&refund.attempt_id)
                .map(|attempt| attempt.provider);
            Some(Due {
                at: refund.next_check_at?,
                urgency: Urgency::GiveBack,
                provider,
            })
        });

        let itself = self.payment.resume_at.map(|at| {
            let urgency = if self.payment.status.is_open() {
                Urgency::Awaited
            } else {
                Urgency::Watched
            };
            Due {
                at,
                urgency,
                provider: self.live().map(|attempt| attempt.provider),
            }
        });

        of_attempts
            .chain(of_refunds)
            .chain(itself)
            .reduce(|one, other| {
                let first = if other.at < one.at { other } else { one };
                Due {
                    urgency: one.urgency.min(other.urgency),
                    ..first
                }
            })
    }
}

/// How urgent it is to look at an attempt. One that is due at the moment at which that is written
/// down was made due by somebody's word; ladders lead into the future.
fn urgency(attempt: &Attempt, at_once: bool) -> Urgency {
    let is_charge = attempt.flow.is_charge();
    match attempt.status {
        State::Sending | State::AwaitingPayer if is_charge => Urgency::Doubt,
        // An offer never is.
        State::Unknown | State::Reversing => Urgency::Doubt,
        State::Sending => Urgency::Awaited,
        State::AwaitingPayer if at_once => Urgency::Told,
        State::AwaitingPayer | State::Closing => Urgency::Awaited,
        State::Superseded | State::Abandoned if at_once => Urgency::Told,
        State::Superseded | State::Abandoned => Urgency::Watched,
        State::Captured if attempt.disposition == Some(Disposition::RefundDue) => Urgency::GiveBack,
        // Nobody looks at these again unless there is news of money.
        State::Captured | State::Dead | State::Reversed => Urgency::Told,
    }
}

#[cfg(test)]
mod tests {
    use strum::IntoEnumIterator as _;

    use super::*;

    /// Whoever adds a state has to say how urgent it is, and rows of older programs keep their
    /// meaning.
    #[test]
    fn the_numbers_in_rows_stay_what_they_are() {
        let numbers: Vec<(i16, String)> = (0..9)
            .filter_map(|n| Urgency::from_repr(n).map(|urgency| (n, urgency.to_string())))
            .collect();
        let expected = [
            (1, "doubt"),
            (2, "told"),
            (3, "give_back"),
            (4, "awaited"),
            (5, "watched"),
        ];
        assert_eq!(numbers, expected.map(|(n, name)| (n, name.to_owned())));
        assert!(Urgency::iter().is_sorted());
        assert_eq!(Urgency::DEFAULT, Urgency::Awaited);
    }
}
