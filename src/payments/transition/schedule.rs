//! When to ask a provider next. Ladders belong to adapters; how many questions there are belongs
//! here. Pure.

use providers::Capabilities;
use providers::provider::Charging;

use crate::domain::attempt::State;
use crate::domain::id::AttemptId;
use crate::domain::{Aggregate, Attempt, Timestamp};

/// At most so many questions about one attempt; then a person looks at it. It is counted per
/// attempt, not per payment: a payment that was parked for long has many abandoned attempts, and
/// the questions about those must not use up the ones about the offer that its payer has seen.
pub const MAX_QUESTIONS: i32 = 30;
/// An offer counts as alive this long after its deadline: clocks differ, and a payer may be in the
/// last dialog.
pub const OFFER_MARGIN_S: i64 = 120;
/// A call that is over by its deadline is judged this much later, by whoever comes first.
const GRACE_MS: i64 = 1_000;
/// Beijing is so far ahead of UTC.
const BEIJING_S: i64 = 8 * 3_600;
const DAY_S: i64 = 86_400;
/// The longest pause between two questions.
const LONGEST_PAUSE_S: i64 = 3_600;
/// What would ask a provider that is out is put off so long, the longer the longer it has been out.
const SHORTEST_PUT_OFF_MS: i64 = 3_000;
const LONGEST_PUT_OFF_MS: i64 = 30_000;
/// The longest pause between two rounds through the routes of a parked payment.
const LONGEST_PARKING_S: i64 = 30;

/// From then on an offer that nobody knows at its provider can never be paid.
#[must_use]
pub fn dead_from(attempt: &Attempt) -> Timestamp {
    attempt.offer_deadline.plus_s(OFFER_MARGIN_S)
}

/// When an offer that nobody was shown is asked about: once it cannot be paid any more, or at once
/// if it is said to be paid.
#[must_use]
pub fn watched_from(attempt: &Attempt, now: Timestamp) -> Timestamp {
    if attempt.told_paid {
        now
    } else {
        dead_from(attempt)
    }
}

/// So long a provider is given to say what became of a call from before a restore …
const ASKED_FIRST_S: i64 = 60;
/// … and it is asked again after this long while it cannot.
pub const ASKED_AGAIN_S: i64 = 10;

/// An abandoned attempt from before a restore may have been shown and paid: it is asked about at
/// `at`, and until its provider has said something its payer is offered nothing else.
pub fn ask_first(aggregate: &mut Aggregate, attempt_id: &AttemptId, at: Timestamp, now: Timestamp) {
    let Some(attempt) = aggregate
        .attempt_mut(attempt_id)
        .filter(|a| a.status == State::Abandoned)
    else {
        return;
    };
    attempt.next_check_at = Some(at);
    if aggregate.payment.resume_at.is_some() {
        aggregate.payment.resume_at =
            Some(now.plus_s(ASKED_FIRST_S).min(aggregate.payment.expires_at));
    }
}

/// When an attempt is looked at next, given that nothing more is known about it than its row says.
#[must_use]
pub fn next_check(
    attempt: &Attempt,
    capabilities: &Capabilities,
    now: Timestamp,
) -> Option<Timestamp> {
    let dead_from = dead_from(attempt);
    if let (true, Some(charging)) = (attempt.flow.is_charge(), &capabilities.charge) {
        return next_charge_check(attempt, charging, now);
    }

    match attempt.status {
        State::Sending => Some(attempt.call_deadline.plus_ms(GRACE_MS)),
        State::AwaitingPayer => next_rung(attempt, capabilities.awaiting_ladder_s, now)
            .filter(|at| *at < attempt.offer_deadline),
        // It was never shown, so nobody can be in a hurry to pay it.
        State::Abandoned if now < dead_from => Some(dead_from),
        State::Closing | State::Superseded | State::Abandoned => {
            let pause = now.plus_s(backoff_s(attempt.query_count, LONGEST_PAUSE_S));
            Some(if now < dead_from {
                pause.min(dead_from)
            } else {
                pause
            })
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
            let patient_until = patient_until(attempt, charging, now);
            Some(
                next_rung(attempt, charging.ladder_s, now)
                    .unwrap_or(patient_until)
                    .min(patient_until)
                    .max(now),
            )
        }
        State::Reversing => {
            let pause = backoff_s(attempt.query_count, LONGEST_PAUSE_S)
                .max(i64::from(charging.reverse_pause_s));
            Some(
                now.plus_s(pause)
                    .max(reversible_from(attempt, charging, now)),
            )
        }
        // A charge is none of these while it lives.
        State::Abandoned
        | State::Closing
        | State::Superseded
        | State::Captured
        | State::Dead
        | State::Reversed => None,
    }
}

/// When a ladder leads to next. One that begins in the future was begun before all time was set
/// back: then what was asked counts, and the pauses between its rungs.
fn next_rung(attempt: &Attempt, ladder_s: &[u32], now: Timestamp) -> Option<Timestamp> {
    if attempt.started_at <= now {
        return ladder_s
            .iter()
            .map(|s| attempt.started_at.plus_s(i64::from(*s)))
            .find(|at| *at > now);
    }
    let asked = usize::try_from(attempt.query_count).unwrap_or(0);
    let before = asked
        .checked_sub(1)
        .and_then(|last| ladder_s.get(last))
        .copied()
        .unwrap_or(0);
    ladder_s
        .get(asked)
        .map(|s| now.plus_s(i64::from(s.saturating_sub(before))))
}

/// Until then a charge may wait for its payer, or for its provider's word; then it is reversed.
/// Sooner where the hour comes after which it could not be.
#[must_use]
pub fn patient_until(attempt: &Attempt, charging: &Charging, now: Timestamp) -> Timestamp {
    if attempt.started_at <= now {
        return patience_ends(attempt.started_at, attempt.status, charging);
    }
    // All time was set back since: its patience is over when its ladder is.
    let asked = usize::try_from(attempt.query_count).unwrap_or(0);
    if asked < charging.ladder_s.len() {
        patience_ends(now, attempt.status, charging)
    } else {
        now
    }
}

fn patience_ends(started_at: Timestamp, status: State, charging: &Charging) -> Timestamp {
    let patient = started_at.plus_s(i64::from(
        charging.reverse_after_s.max(charging.reverse_from_s),
    ));
    let Some(last) = charging.last_reversals else {
        return patient;
    };
    let of_day_s = (started_at.0 / 1_000 + BEIJING_S).rem_euclid(DAY_S);
    let from_s = if status == State::Unknown {
        last.in_doubt_from_s
    } else {
        last.waiting_from_s
    };
    if of_day_s >= last.until_s {
        return patient;
    }
    patient.min(started_at.plus_s((from_s - of_day_s).max(i64::from(charging.reverse_from_s))))
}

/// No reversal of a charge before then.
#[must_use]
pub fn reversible_from(attempt: &Attempt, charging: &Charging, now: Timestamp) -> Timestamp {
    // One that began in the future began before all time was set back; a provider that finds it too
    // early says so.
    if attempt.started_at > now {
        now
    } else {
        attempt
            .started_at
            .plus_s(i64::from(charging.reverse_from_s))
    }
}

/// Takes back by how far all time was set back what is to be waited for: `ahead_ms` is how far in
/// the future that was written. Each wait is then as long as it was to be. Times of day stay:
/// deadlines that a provider knows, and the end of the payment.
pub fn bring_back(aggregate: &mut Aggregate, ahead_ms: i64, now: Timestamp) {
    let back =
        |at: &mut Option<Timestamp>| *at = at.map(|at| at.plus_ms(ahead_ms.saturating_neg()));
    aggregate
        .attempts
        .iter_mut()
        .for_each(|attempt| back(&mut attempt.next_check_at));
    aggregate.refunds.iter_mut().for_each(|refund| {
        back(&mut refund.next_check_at);
        // How long ago it was sent is counted from there, too.
        if refund.sent_at.is_some_and(|at| at > now) {
            back(&mut refund.sent_at);
        }
    });
    back(&mut aggregate.payment.lease_until);

    if aggregate
        .payment
        .resume_at
        .is_some_and(|at| at != aggregate.payment.expires_at)
    {
        back(&mut aggregate.payment.resume_at);
    }
}

/// How long what would ask a provider is put off that is known to be out, and has been for so long.
/// `draw` spreads it.
#[must_use]
pub fn put_off_ms(out_for_ms: i64, draw: u32) -> i64 {
    let pause = (out_for_ms / 4).clamp(SHORTEST_PUT_OFF_MS, LONGEST_PUT_OFF_MS);
    pause + pause * i64::from(draw % 1_000) / 4_000
}

/// Whether the questions about this attempt are used up.
#[must_use]
pub fn exhausted(attempt: &Attempt) -> bool {
    attempt.query_count >= MAX_QUESTIONS
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
    use providers::provider::LastReversals;

    use super::*;

    #[test]
    fn a_charge_is_reversed_sooner_when_the_hour_comes_after_which_it_could_not_be() {
        let at = |time: &str| {
            let time = format!("2026-11-26T{time}+08:00")
                .parse::<chrono::DateTime<chrono::Utc>>()
                .unwrap();
            Timestamp(time.timestamp_millis())
        };
        let unionpay = Charging {
            is_code: |_| true,
            timeout_ms: 10_000,
            ladder_s: &[1, 2, 4],
            reverse_after_s: 65,
            reverse_from_s: 0,
            reverse_pause_s: 5,
            declined_is_reversed: false,
            confirm_not_found_after_s: Some(30),
            last_reversals: Some(LastReversals {
                in_doubt_from_s: 82_500,
                waiting_from_s: 82_740,
                until_s: 82_800,
            }),
        };

        let until = |started: &str, status| patience_ends(at(started), status, &unionpay);
        assert_eq!(
            until("22:50:00", State::Unknown),
            at("22:51:05"),
            "the usual patience"
        );

        assert_eq!(
            until("22:54:30", State::Unknown),
            at("22:55:00"),
            "no later than this"
        );

        assert_eq!(until("22:57:00", State::Unknown), at("22:57:00"), "at once");
        assert_eq!(
            until("22:57:00", State::AwaitingPayer),
            at("22:58:05"),
            "a payer has his time"
        );

        assert_eq!(
            until("22:58:30", State::AwaitingPayer),
            at("22:59:00"),
            "as long as the day has"
        );

        assert_eq!(
            until("23:00:00", State::Unknown),
            at("23:01:05"),
            "the next day has begun"
        );

        assert_eq!(until("00:00:10", State::Unknown), at("00:01:15"));
        let without = Charging {
            last_reversals: None,
            ..unionpay
        };

        assert_eq!(
            patience_ends(at("22:57:00"), State::Unknown, &without),
            at("22:58:05")
        );
    }

    #[test]
    fn what_is_put_off_while_a_provider_is_out_is_looked_at_soon_and_not_all_at_once() {
        assert_eq!(
            [0, 40_000, 3_600_000].map(|out_ms| put_off_ms(out_ms, 0)),
            [3_000, 10_000, 30_000]
        );
        assert_eq!(put_off_ms(0, 999), 3_749);
        assert!((0..9).all(|draw| put_off_ms(3_600_000, u32::MAX - draw) < 37_500));
    }

    #[test]
    fn pauses_double_up_to_their_limit_and_thirty_of_them_span_most_of_a_day() {
        assert_eq!(
            [0, 1, 2, 20, -5].map(|n| backoff_s(n, 3_600)),
            [2, 4, 8, 3_600, 2]
        );
        let total: i64 = (0..MAX_QUESTIONS)
            .map(|n| backoff_s(n, LONGEST_PAUSE_S))
            .sum();
        assert!(total > 18 * 3_600, "{total}");
    }
}
