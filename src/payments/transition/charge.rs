//! What asking about a charge and reversing it prove: a charge in doubt is never sent elsewhere,
//! and only the final answer of its reversal and a query after that decide. Money that is seen
//! before that announces nothing.

use providers::Capabilities;
use providers::outcome::{Capture, CloseOutcome, Failure, FailureKind, QueryOutcome};
use providers::provider::Charging;

use super::super::Error;
use super::ending::{died, reversed, unresolved};
use super::query::{disputed_charge, is_contradicted};
use super::reversal::begin;
use super::{Conditions, capture, schedule};
use crate::domain::attempt::{Event as AttemptEvent, Reversal, State};
use crate::domain::id::AttemptId;
use crate::domain::{Aggregate, Attempt, Timestamp};
use crate::store::change::ReviewItem;

/// A reversal without an answer that has done nothing so long after its call will not: a "no" and a
/// query after that include it. Calls live for seconds, and providers carry reversals out at once
/// or within minutes.
const DOUBT_LASTS_S: i64 = 600;

/// What a query found about a charge that waits or is in doubt.
pub fn apply_charge_query(
    after: &mut Aggregate,
    asked: &Attempt,
    queried: &QueryOutcome,
    capabilities: &Capabilities,
    charging: &Charging,
    now: Timestamp,
) -> Result<Option<Vec<ReviewItem>>, Error> {
    let Some(attempt) = after.attempt_mut(&asked.id) else {
        return Ok(None);
    };
    if attempt.status != asked.status {
        // Somebody else wrote down something newer than this answer.
        return Ok(None);
    }
    attempt.query_count = attempt.query_count.saturating_add(1);
    let was_woken_since = attempt.next_check_at != asked.next_check_at;
    let impatient = now >= schedule::patient_until(attempt, charging, now);

    match queried {
        QueryOutcome::Paid(money) => return capture::book(after, &asked.id, money, now).map(Some),
        // Something happened after it was asked, of which this answer cannot know: it is asked
        // again at once.
        QueryOutcome::Closed
        | QueryOutcome::NotFound
        | QueryOutcome::Payable
        | QueryOutcome::Unknown(_)
            if was_woken_since => {}
        // Nobody has ended it here, so the provider is asked to: an answer that is old or wrong
        // must not leave behind a charge that can still be confirmed.
        QueryOutcome::Closed | QueryOutcome::Reversed => {
            fail(after, &asked.id);
            begin(after, &asked.id, now)?;
        }
        QueryOutcome::NotFound | QueryOutcome::Payable | QueryOutcome::Unknown(_) if impatient => {
            fail(after, &asked.id);
            begin(after, &asked.id, now)?;
        }
        QueryOutcome::NotFound | QueryOutcome::Payable | QueryOutcome::Unknown(_) => {
            if attempt.status == State::Unknown && *queried == QueryOutcome::Payable {
                attempt.apply(AttemptEvent::Shown)?;
            }
            attempt.next_check_at = schedule::next_check(attempt, capabilities, now);
        }
    }

    after.payment.lease_until = None;
    Ok(Some(Vec::new()))
}

/// Why the payment will have failed, unless its money turns up after all.
fn fail(after: &mut Aggregate, attempt_id: &AttemptId) {
    let unanswered = || {
        Failure::new(
            FailureKind::Declined,
            "not_confirmed",
            "the payer did not confirm in time",
        )
    };
    let failure = after
        .attempt(attempt_id)
        .and_then(|a| a.failure.clone())
        .unwrap_or_else(unanswered);
    if after.payment.status.is_open() {
        after.payment.failure.get_or_insert(failure);
    }
}

/// Whether an earlier reversal that had no answer may still be carried out.
pub fn is_in_doubt(attempt: &Attempt, now: Timestamp) -> bool {
    attempt.reversal_in_doubt && now < attempt.call_deadline.plus_s(DOUBT_LASTS_S)
}

/// The planned call was not made: it leaves no doubt behind.
pub fn not_sent(
    after: &mut Aggregate,
    attempt_id: &AttemptId,
    told: &ReversalResult,
) -> Option<Vec<ReviewItem>> {
    let attempt = after.attempt_mut(attempt_id)?;
    if attempt.status != State::Reversing || attempt.call_deadline != told.fence {
        return None;
    }
    attempt.reversal_in_doubt = told.doubted_before;
    Some(Vec::new())
}

/// What a worker has brought back from a reversal.
#[derive(Debug)]
pub struct ReversalResult {
    /// What its own call was told; `None` when the charge had been reversed before, and was only
    /// asked about.
    pub ended: Option<CloseOutcome>,
    /// The deadline that its own commit wrote. Another one in the row means that somebody else has
    /// gone on since.
    pub fence: Timestamp,
    /// Whether an earlier reversal ended without an answer: then a "no" to this one says nothing
    /// about that one.
    pub doubted_before: bool,
    /// When the query after it was made: that is how far its answer reaches, however late it is
    /// written down.
    pub asked_at: Timestamp,
}

/// Notes until when a reversal may be on its way. `None` when somebody else has noted that already
/// or the charge has ended; `Some(false)` when it is too early.
pub fn plan(
    conditions: Conditions<'_>,
    after: &mut Aggregate,
    attempt_id: &AttemptId,
    charging: &Charging,
    now: Timestamp,
) -> Option<bool> {
    let attempt = after.attempt_mut(attempt_id)?;
    if attempt.status != State::Reversing || attempt.next_check_at.is_none_or(|at| at > now) {
        return None;
    }
    let reversible_from = schedule::reversible_from(attempt, charging, now);

    if now < reversible_from {
        attempt.next_check_at = Some(reversible_from);
        after.payment.lease_until = None;
        return Some(false);
    }

    let config = conditions.payments;
    attempt.call_deadline = now.plus(config.reverse_timeout).plus(config.call_grace);
    attempt.next_check_at = Some(attempt.call_deadline.plus(config.query_timeout));
    attempt.reversal_in_doubt = true;

    Some(true)
}

/// What a reversal was told for good; `None` while it has to be asked for again.
fn for_good(ended: &CloseOutcome) -> Option<Reversal> {
    match ended {
        CloseOutcome::Closed | CloseOutcome::Reversed => Some(Reversal::Done),
        CloseOutcome::NotFound => Some(Reversal::NothingThere),
        CloseOutcome::AlreadyPaid | CloseOutcome::Impossible(_) => Some(Reversal::Impossible),
        CloseOutcome::Retry(_) | CloseOutcome::Unknown(_) => None,
    }
}

/// Whether the provider has taken up a reversal, and has nothing to say to it.
fn says_nothing(ended: &CloseOutcome) -> bool {
    let is_answer = |failure: &Failure| match failure.kind {
        FailureKind::Network | FailureKind::Timeout | FailureKind::RateLimited => false,
        FailureKind::ServerError
        | FailureKind::Incompatible
        | FailureKind::Account
        | FailureKind::Request
        | FailureKind::Declined => true,
    };
    matches!(ended, CloseOutcome::Unknown(failure) if is_answer(failure))
}

/// What a charge has come to.
#[derive(Debug, PartialEq, Eq)]
enum Verdict<'a> {
    /// No money, now or later.
    Dead,
    /// Money came in and went back.
    WentBack,
    /// The money is here to stay.
    Captured(&'a Capture),
    /// The provider does not find it, or has ended it by itself. Once may be too early.
    NotFoundYet,
    /// Nothing is certain.
    Open,
}

/// What is known of a charge's reversals once this one is over, and whether one of them is still in
/// doubt. A "no" says nothing about an earlier call without an answer, and does not take back an
/// earlier "yes".
fn after_call(
    earlier: Option<Reversal>,
    told: &ReversalResult,
    queried: &QueryOutcome,
) -> (Option<Reversal>, bool) {
    let Some(ended) = &told.ended else {
        return (earlier, told.doubted_before);
    };
    let earlier_yes = earlier.filter(|r| *r != Reversal::Impossible);
    match for_good(ended) {
        Some(yes @ (Reversal::Done | Reversal::NothingThere)) => (Some(yes), false),
        Some(Reversal::Impossible)
            if earlier_yes.is_some() && *queried == QueryOutcome::NotFound =>
        {
            (earlier_yes, told.doubted_before)
        }
        Some(Reversal::Impossible) => (Some(Reversal::Impossible), told.doubted_before),
        None => (
            earlier_yes,
            told.doubted_before || !matches!(ended, CloseOutcome::Retry(_)),
        ),
    }
}

/// The table of what an answered reversal and the query after it prove together. Pure.
fn verdict<'a>(
    answer: Option<Reversal>,
    in_doubt: bool,
    says_nothing: bool,
    queried: &'a QueryOutcome,
    not_found_since: Option<Timestamp>,
    charging: &Charging,
    asked_at: Timestamp,
) -> Verdict<'a> {
    match (queried, answer) {
        (QueryOutcome::Closed, Some(_)) => Verdict::Dead,
        (QueryOutcome::Reversed, Some(_)) => Verdict::WentBack,
        (QueryOutcome::Paid(money), Some(Reversal::Impossible)) if !in_doubt => {
            Verdict::Captured(money)
        }
        // A provider that has refused a charge for good may have nothing to say to its reversal.
        (QueryOutcome::Closed, None) if !says_nothing => Verdict::Open,
        (QueryOutcome::NotFound, Some(Reversal::Done | Reversal::NothingThere))
        | (QueryOutcome::Closed, None) => match charging.confirm_not_found_after_s {
            Some(apart)
                if not_found_since
                    .is_some_and(|since| asked_at >= since.plus_s(i64::from(apart))) =>
            {
                Verdict::Dead
            }
            Some(_) => Verdict::NotFoundYet,
            None => Verdict::Open,
        },
        // Paid, and said to be reversed, or perhaps being reversed by an earlier call: they do not
        // agree yet.
        (QueryOutcome::Paid(_), _)
        | (QueryOutcome::Reversed, None)
        | (QueryOutcome::NotFound, Some(Reversal::Impossible) | None)
        | (QueryOutcome::Payable | QueryOutcome::Unknown(_), _) => Verdict::Open,
    }
}

/// What a reversal and the query after it have brought, written into the payment.
///
/// # Errors
/// [`Error`].
pub fn conclude(
    after: &mut Aggregate,
    attempt_id: &AttemptId,
    told: &ReversalResult,
    queried: &QueryOutcome,
    capabilities: &Capabilities,
    charging: &Charging,
    now: Timestamp,
) -> Result<Option<Vec<ReviewItem>>, Error> {
    let Some(attempt) = after.attempt_mut(attempt_id) else {
        return Ok(None);
    };
    if attempt.status != State::Reversing || attempt.call_deadline != told.fence {
        return Ok(None);
    }
    attempt.query_count = attempt.query_count.saturating_add(1);
    let (answer, in_doubt) = after_call(attempt.reversal, told, queried);

    if answer.is_some() != attempt.reversal.is_some() {
        // What was said twice is to be about the same.
        attempt.not_found_since = None;
    }
    (attempt.reversal, attempt.reversal_in_doubt) = (answer, in_doubt);
    let says_nothing = told.ended.as_ref().is_some_and(says_nothing);
    let verdict = verdict(
        answer,
        in_doubt,
        says_nothing,
        queried,
        attempt.not_found_since,
        charging,
        told.asked_at,
    );

    let is_contradicted = is_contradicted(attempt);
    after.payment.lease_until = None;
    match verdict {
        Verdict::Dead if is_contradicted => {
            fail(after, attempt_id);
            return disputed_charge(after, attempt_id, queried, now).map(Some);
        }
        Verdict::Dead => {
            fail(after, attempt_id);
            died(after, attempt_id, now)?;
        }
        Verdict::WentBack => {
            fail(after, attempt_id);
            reversed(after, attempt_id, now)?;
        }
        Verdict::Captured(money) => return capture::book(after, attempt_id, money, now).map(Some),
        Verdict::NotFoundYet => {
            let Some(attempt) = after.attempt_mut(attempt_id) else {
                return Ok(None);
            };
            // One in the future was written before all time was set back.
            let since = attempt
                .not_found_since
                .filter(|since| *since <= now)
                .unwrap_or(now);
            attempt.not_found_since = Some(since);
            let apart = charging.confirm_not_found_after_s.unwrap_or(0);
            attempt.next_check_at = Some(since.plus_s(i64::from(apart)).max(now.plus_s(1)));
        }
        Verdict::Open => {
            let Some(attempt) = after.attempt_mut(attempt_id) else {
                return Ok(None);
            };
            attempt.not_found_since = None;
            // A reversal that was made and does not show is made again.
            let does_not_show = matches!(queried, QueryOutcome::Paid(_) | QueryOutcome::Payable);
            attempt.reversal = attempt.reversal.filter(|_| !does_not_show);
            attempt.next_check_at = schedule::next_check(attempt, capabilities, now)
                .filter(|_| !schedule::exhausted(attempt));
        }
    }

    unresolved(after, attempt_id, now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use providers::money::Money;

    const NOW: Timestamp = Timestamp(1_000_000);

    fn charging(confirm_not_found_after_s: Option<u32>) -> Charging {
        Charging {
            is_code: |_| true,
            timeout_ms: 10_000,
            ladder_s: &[5],
            reverse_after_s: 30,
            reverse_from_s: 0,
            reverse_pause_s: 5,
            declined_is_reversed: false,
            confirm_not_found_after_s,
            last_reversals: None,
        }
    }

    fn money() -> Capture {
        Capture {
            transaction_id: "1".to_owned(),
            amount: Money::fen(1).unwrap(),
            payer_amount: None,
            payer: None,
            paid_at: None,
            payment_id: None,
            foreign_account: None,
            returns_by_itself: false,
        }
    }

    #[test]
    fn the_table_of_reversals() {
        let queries = [
            ("not_found", QueryOutcome::NotFound),
            ("payable", QueryOutcome::Payable),
            ("paid", QueryOutcome::Paid(money())),
            ("closed", QueryOutcome::Closed),
            ("reversed", QueryOutcome::Reversed),
            (
                "unknown",
                QueryOutcome::Unknown(Failure::new(FailureKind::Timeout, "timeout", "")),
            ),
        ];

        let answers = [
            None,
            Some(Reversal::Done),
            Some(Reversal::NothingThere),
            Some(Reversal::Impossible),
        ];
        let mut table = String::new();

        for (asked, queried) in &queries {
            for answer in answers {
                let told = answer.map_or_else(|| "-".to_owned(), |a| a.to_string());
                let mut row = format!("{asked:10} {told:14}");
                for (twice, since) in [
                    (None, None),
                    (Some(30), None),
                    (Some(30), Some(29)),
                    (Some(30), Some(30)),
                ] {
                    let since = since.map(|s: i64| NOW.plus_s(-s));
                    let verdict =
                        match verdict(answer, false, true, queried, since, &charging(twice), NOW) {
                            Verdict::Dead => "dead",
                            Verdict::WentBack => "went back",
                            Verdict::Captured(_) => "captured",
                            Verdict::NotFoundYet => "once more",
                            Verdict::Open => "open",
                        };
                    row.push_str(&format!(" {verdict:10}"));
                }
                table.push_str(row.trim_end());
                table.push('\n');
            }
        }

        insta::assert_snapshot!(table);
    }

    #[test]
    fn a_no_says_nothing_about_an_earlier_call_without_an_answer() {
        let told = |ended, doubted_before| ReversalResult {
            ended: Some(ended),
            fence: NOW,
            doubted_before,
            asked_at: NOW,
        };
        let no = || CloseOutcome::Impossible(Failure::new(FailureKind::Request, "no", ""));
        let lost = || CloseOutcome::Unknown(Failure::new(FailureKind::Timeout, "timeout", ""));
        let paid = QueryOutcome::Paid(money());

        let decided = |earlier, ended, doubted_before, queried: &QueryOutcome| {
            let (answer, in_doubt) = after_call(earlier, &told(ended, doubted_before), queried);
            (
                answer,
                in_doubt,
                matches!(
                    verdict(answer, in_doubt, false, queried, None, &charging(None), NOW),
                    Verdict::Captured(_)
                ),
            )
        };
        let impossible = Some(Reversal::Impossible);

        assert_eq!(decided(None, no(), false, &paid), (impossible, false, true));
        assert_eq!(
            decided(None, no(), true, &paid),
            (impossible, true, false),
            "an earlier one may still work"
        );

        assert_eq!(
            decided(impossible, lost(), false, &paid),
            (None, true, false),
            "this one may"
        );

        assert_eq!(
            decided(None, CloseOutcome::Closed, true, &paid),
            (Some(Reversal::Done), false, false)
        );

        // A call that was not sent, or turned away, leaves things as they were.
        let turned_away = || CloseOutcome::Retry(Failure::new(FailureKind::Network, "refused", ""));
        assert_eq!(
            decided(None, turned_away(), false, &paid),
            (None, false, false)
        );
        assert_eq!(
            decided(None, turned_away(), true, &paid),
            (None, true, false)
        );

        let there = Some(Reversal::NothingThere);
        assert_eq!(
            decided(there, no(), false, &QueryOutcome::NotFound),
            (there, false, false)
        );

        assert_eq!(
            decided(there, lost(), false, &QueryOutcome::NotFound),
            (there, true, false)
        );
    }
}
