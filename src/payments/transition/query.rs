//! What asking about an attempt has brought, and what a notification tells of it. They may speak of
//! different moments, and one of them may be wrong: where they do not agree, nothing ends until
//! they do, or a person has decided.

use providers::Capabilities;
use providers::outcome::QueryOutcome;

use super::super::Error;
use super::ending::{died, reversed, to_be_resolved, unresolved};
use super::{capture, schedule};
use crate::domain::attempt::{Reversal, State};
use crate::domain::id::AttemptId;
use crate::domain::operation::ReviewKind;
use crate::domain::{Aggregate, Attempt, Timestamp};
use crate::store::change::ReviewItem;
use crate::{mutate, mutated};

/// So often an attempt is asked about on which somebody tells of money, while no answer confirms
/// it: for half an hour.
const WOKEN_QUESTIONS: i32 = 10;
/// What asking has brought.
#[derive(Debug)]
pub struct Findings {
    /// The answer.
    pub queried: QueryOutcome,
    /// The provider's id of the question.
    pub request_id: Option<String>,
    /// When it was asked. An answer says nothing about what came later, however late it is written
    /// down.
    pub asked_at: Timestamp,
}

/// What an answer about an attempt means for it and its payment.
///
/// # Errors
/// [`Error`].
pub fn apply_query(
    after: &mut Aggregate,
    asked: &Attempt,
    findings: &Findings,
    capabilities: &Capabilities,
    now: Timestamp,
) -> Result<Option<Vec<ReviewItem>>, Error> {
    let attempt_id = &asked.id;
    let Some(attempt) = after.attempt_mut(attempt_id) else {
        return Ok(None);
    };
    if attempt.status != asked.status {
        // Somebody else wrote down something newer than this answer.
        return Ok(None);
    }
    attempt.query_count = attempt.query_count.saturating_add(1);
    let was_woken_since = attempt.next_check_at != asked.next_check_at;
    let was_woken_since = was_woken_since && !mutated!(BelieveTheLastWord);
    if findings.request_id.is_some() {
        attempt.provider_request_id.clone_from(&findings.request_id);
    }
    after.payment.lease_until = None;

    let mut operations = Vec::new();
    match &findings.queried {
        QueryOutcome::Paid(money) => return capture::book(after, attempt_id, money, now).map(Some),
        QueryOutcome::Reversed => {
            reversed(after, attempt_id, now)?;
            return Ok(Some(operations));
        }
        // Something happened after it was asked, of which this answer cannot know.
        QueryOutcome::NotFound
        | QueryOutcome::Payable
        | QueryOutcome::Closed
        | QueryOutcome::Unknown(_)
            if was_woken_since =>
        {
            return Ok(Some(operations));
        }
        QueryOutcome::NotFound
        | QueryOutcome::Payable
        | QueryOutcome::Closed
        | QueryOutcome::Unknown(_) => {
            if is_disputed(after, attempt_id, &findings.queried) {
                if is_asked_again(after, attempt_id, &findings.queried, now) {
                    return Ok(Some(operations));
                }
                operations.push(to_be_resolved(
                    ReviewKind::MoneyUnconfirmed,
                    after,
                    attempt_id,
                    now,
                )?);
            }
        }
    }

    match &findings.queried {
        QueryOutcome::Paid(_) | QueryOutcome::Reversed => {}
        QueryOutcome::Closed => died(after, attempt_id, now)?,
        QueryOutcome::NotFound | QueryOutcome::Payable | QueryOutcome::Unknown(_)
            if asked.status == State::Dead =>
        {
            if let Some(attempt) = after.attempt_mut(attempt_id) {
                attempt.next_check_at = None;
            }
        }
        QueryOutcome::NotFound => {
            if is_over(after, attempt_id, findings.asked_at) {
                died(after, attempt_id, now)?
            } else {
                again(after, attempt_id, capabilities, now)
            }
        }
        QueryOutcome::Payable | QueryOutcome::Unknown(_) => {
            again(after, attempt_id, capabilities, now)
        }
    }
    operations.extend(unresolved(after, attempt_id, now)?.unwrap_or_default());
    Ok(Some(operations))
}

/// Whether what was told and an answer that there is no money do not agree. They do when a reversal
/// lies in between.
pub fn is_contradicted(attempt: &Attempt) -> bool {
    mutate!(BelieveTheLastWord => return false);
    attempt.told_paid && attempt.reversal != Some(Reversal::Done)
}

/// Whether somebody has told of money on an attempt, and this answer does not confirm it: one of
/// them speaks of the past, or lies. An attempt that was proved dead is asked about only because of
/// such news, which may have named no money.
fn is_disputed(aggregate: &Aggregate, attempt_id: &AttemptId, queried: &QueryOutcome) -> bool {
    let is_news = |a: &Attempt| a.status == State::Dead && *queried != QueryOutcome::Closed;
    aggregate
        .attempt(attempt_id)
        .is_some_and(|a| is_contradicted(a) || is_news(a))
}

/// Asks once more who is right. That may take the provider a while; in the end a person decides,
/// and this says no. Whoever does not answer denies nothing.
fn is_asked_again(
    after: &mut Aggregate,
    attempt_id: &AttemptId,
    queried: &QueryOutcome,
    now: Timestamp,
) -> bool {
    let Some(attempt) = after.attempt_mut(attempt_id) else {
        return false;
    };
    let most = if matches!(queried, QueryOutcome::Unknown(_)) {
        schedule::MAX_QUESTIONS
    } else {
        WOKEN_QUESTIONS
    };
    if attempt.query_count >= most {
        attempt.told_paid = false;
        return false;
    }
    attempt.next_check_at = Some(now.plus_s(schedule::backoff_s(attempt.query_count, 3_600)));
    true
}

/// A charge that is said to be paid, and whose reversal and questions say otherwise, until they do
/// not, or for too long: then it is dead, and for a person.
///
/// # Errors
/// [`Error`].
pub fn disputed_charge(
    after: &mut Aggregate,
    attempt_id: &AttemptId,
    queried: &QueryOutcome,
    now: Timestamp,
) -> Result<Vec<ReviewItem>, Error> {
    if is_asked_again(after, attempt_id, queried, now) {
        return Ok(Vec::new());
    }
    let entry = to_be_resolved(ReviewKind::MoneyUnconfirmed, after, attempt_id, now)?;
    died(after, attempt_id, now)?;
    Ok(vec![entry])
}

fn is_over(aggregate: &Aggregate, attempt_id: &AttemptId, at: Timestamp) -> bool {
    aggregate
        .attempt(attempt_id)
        .is_some_and(|a| at >= schedule::dead_from(a))
}

/// It is asked about again, by the adapter's ladder.
fn again(
    after: &mut Aggregate,
    attempt_id: &AttemptId,
    capabilities: &Capabilities,
    now: Timestamp,
) {
    let Some(attempt) = after.attempt_mut(attempt_id) else {
        return;
    };
    let next = schedule::next_check(attempt, capabilities, now);
    attempt.next_check_at = next.filter(|_| !schedule::exhausted(attempt));
}
