//! When to ask a provider next. Ladders belong to adapters; how many questions there are belongs here. Pure.

use providers::Capabilities;
use providers::provider::Charging;

use crate::domain::attempt::State;
use crate::domain::{Aggregate, Attempt, Timestamp};

/// At most so many questions about one attempt; then a person looks at it. It is counted per attempt, not per
/// payment: a payment that was parked for long has many abandoned attempts, and the questions about those must not
/// use up the ones about the offer that its payer has seen.
pub const MAX_QUESTIONS: i32 = 30;
/// An offer counts as alive this long after its deadline: clocks differ, and a payer may be in the last dialog.
pub const OFFER_MARGIN_S: i64 = 120;
/// A call that is over by its deadline is judged this much later, by whoever comes first.
const GRACE_MS: i64 = 1_000;
/// The longest pause between two questions.
const LONGEST_PAUSE_S: i64 = 3_600;
/// The longest pause between two rounds through the routes of a parked payment.
const LONGEST_PARKING_S: i64 = 30;

/// From then on an offer that nobody knows at its provider can never be paid.
#[must_use]
pub fn dead_from(attempt: &Attempt) -> Timestamp {
    attempt.offer_deadline.plus_s(OFFER_MARGIN_S)
}

/// When an attempt is looked at next, given that nothing more is known about it than its row says.
#[must_use]
pub fn next_check(attempt: &Attempt, capabilities: &Capabilities, now: Timestamp) -> Option<Timestamp> {
    let dead_from = dead_from(attempt);
    if let (true, Some(charging)) = (attempt.flow.takes_money(), &capabilities.charge) {
        return next_charge_check(attempt, charging, now);
    }
    match attempt.status {
        State::Sending => Some(attempt.call_deadline.plus_ms(GRACE_MS)),
        State::AwaitingPayer => capabilities
            .awaiting_ladder_s
            .iter()
            .map(|s| attempt.started_at.plus_s(i64::from(*s)))
            .find(|at| *at > now && *at < attempt.offer_deadline),
        // It was never shown, so nobody can be in a hurry to pay it.
        State::Abandoned if now < dead_from => Some(dead_from),
        State::Closing | State::Superseded | State::Abandoned => {
            let pause = now.plus_s(backoff_s(attempt.questions, LONGEST_PAUSE_S));
            Some(if now < dead_from { pause.min(dead_from) } else { pause })
        }
        // An offer is never in doubt or reversed.
        State::Unknown | State::Reversing | State::Captured | State::Dead | State::Reversed => None,
    }
}

/// As [`next_check`], for a charge: fast, since somebody stands at a till.
fn next_charge_check(attempt: &Attempt, charging: &Charging, now: Timestamp) -> Option<Timestamp> {
    match attempt.status {
        State::Sending => Some(attempt.call_deadline.plus_ms(GRACE_MS)),
        State::Unknown | State::AwaitingPayer => {
            let patient_until = patient_until(attempt, charging);
            let mut ladder = charging.ladder_s.iter().map(|s| attempt.started_at.plus_s(i64::from(*s)));
            Some(ladder.find(|at| *at > now).unwrap_or(patient_until).min(patient_until).max(now))
        }
        State::Reversing => {
            let pause = backoff_s(attempt.questions, LONGEST_PAUSE_S).max(i64::from(charging.reverse_pause_s));
            Some(now.plus_s(pause).max(reversible_from(attempt, charging)))
        }
        // A charge is none of these while it lives.
        State::Abandoned | State::Closing | State::Superseded | State::Captured | State::Dead | State::Reversed => None,
    }
}

/// Until then a charge may wait for its payer, or for its provider's word; then it is reversed.
#[must_use]
pub fn patient_until(attempt: &Attempt, charging: &Charging) -> Timestamp {
    attempt.started_at.plus_s(i64::from(charging.patience_s.max(charging.reverse_from_s)))
}

/// No reversal of a charge before then.
#[must_use]
pub fn reversible_from(attempt: &Attempt, charging: &Charging) -> Timestamp {
    attempt.started_at.plus_s(i64::from(charging.reverse_from_s))
}

/// Whether the questions about this attempt are used up.
#[must_use]
pub fn exhausted(attempt: &Attempt) -> bool {
    attempt.questions >= MAX_QUESTIONS
}

/// When a parked payment goes through its routes again, or expires if that is earlier.
#[must_use]
pub fn next_round(aggregate: &Aggregate, now: Timestamp) -> Timestamp {
    let pause = backoff_s(aggregate.payment.round, LONGEST_PARKING_S);
    now.plus_s(pause).min(aggregate.payment.expires_at).max(now)
}

/// 2, 4, 8 … seconds for n = 0, 1, 2 …, at most `longest`.
#[must_use]
pub fn backoff_s(n: i32, longest: i64) -> i64 {
    let exponent = u32::try_from(n.clamp(0, 30)).unwrap_or(0).saturating_add(1);
    2_i64.saturating_pow(exponent).min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_their_limit_and_thirty_of_them_span_most_of_a_day() {
        assert_eq!([0, 1, 2, 20, -5].map(|n| backoff_s(n, 3_600)), [2, 4, 8, 3_600, 2]);
        let total: i64 = (0..MAX_QUESTIONS).map(|n| backoff_s(n, LONGEST_PAUSE_S)).sum();
        assert!(total > 18 * 3_600, "{total}");
    }
}
