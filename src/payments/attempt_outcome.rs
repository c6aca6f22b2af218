//! What asking about an attempt has brought, and what a notification tells of it. They may speak of different moments, and one
//! of them may be wrong: where they do not agree, nothing ends until they do, or a person has decided.

use providers::outcome::{Capture, Queried};

use super::{Trouble, capture, close, schedule};
#[cfg(feature = "testing")]
use crate::broken::{Rule, breaks};
use crate::directory::Account;
use crate::domain::attempt::{Event as AttemptEvent, Reversal, State};
use crate::domain::id::{self, Kind};
use crate::domain::payment::Event;
use crate::domain::{Aggregate, Attempt, Timestamp};
use crate::store::change::Operation;

/// So often an attempt is asked about on which somebody tells of money, while no answer confirms it: for half an hour.
const WOKEN_QUESTIONS: i32 = 10;
/// After this long without certainty a person is told.
const UNRESOLVED_AFTER_S: i64 = 24 * 3_600;

/// What asking has brought.
pub(super) struct Findings {
    pub queried: Queried,
    pub request_id: Option<String>,
    /// When it was asked. An answer says nothing about what came later, however late it is written down.
    pub asked_at: Timestamp,
}

/// What an answer about an attempt means for it and its payment.
///
/// # Errors
/// [`Trouble`].
pub(super) fn found(
    after: &mut Aggregate,
    asked: &Attempt,
    findings: &Findings,
    account: &Account,
    now: Timestamp,
) -> Result<Option<Vec<Operation>>, Trouble> {
    let attempt_id = asked.id.as_str();
    let Some(attempt) = after.attempt_mut(attempt_id) else { return Ok(None) };
    if attempt.status != asked.status {
        // Somebody else wrote down something newer than this answer.
        return Ok(None);
    }
    attempt.questions = attempt.questions.saturating_add(1);
    let was_woken_since = attempt.next_check_at != asked.next_check_at;
    #[cfg(feature = "testing")]
    let was_woken_since = was_woken_since && !breaks(Rule::BelieveTheLastWord);
    if findings.request_id.is_some() {
        attempt.provider_request_id.clone_from(&findings.request_id);
    }
    after.payment.lease_until = None;

    let mut operations = Vec::new();
    match &findings.queried {
        Queried::Paid(money) => return capture::book(after, attempt_id, money, now).map(Some),
        Queried::Reversed => {
            reversed(after, attempt_id, now)?;
            return Ok(Some(operations));
        }
        // Something happened after it was asked, of which this answer cannot know.
        Queried::NotFound | Queried::Payable | Queried::Closed | Queried::Unknown(_) if was_woken_since => {
            return Ok(Some(operations));
        }
        Queried::NotFound | Queried::Payable | Queried::Closed | Queried::Unknown(_) => {
            if is_disputed(after, attempt_id, &findings.queried) {
                if is_asked_again(after, attempt_id, &findings.queried, now) {
                    return Ok(Some(operations));
                }
                operations.push(to_be_resolved("money_unconfirmed", after, attempt_id, now)?);
            }
        }
    }

    match &findings.queried {
        Queried::Paid(_) | Queried::Reversed => {}
        Queried::Closed => died(after, attempt_id, now)?,
        Queried::NotFound | Queried::Payable | Queried::Unknown(_) if asked.status == State::Dead => {
            if let Some(attempt) = after.attempt_mut(attempt_id) {
                attempt.next_check_at = None;
            }
        }
        Queried::NotFound => {
            if is_over(after, attempt_id, findings.asked_at) {
                died(after, attempt_id, now)?
            } else {
                again(after, attempt_id, account, now)
            }
        }
        Queried::Payable | Queried::Unknown(_) => again(after, attempt_id, account, now),
    }
    operations.extend(unresolved(after, attempt_id, now)?.unwrap_or_default());
    Ok(Some(operations))
}

/// Whether what was told and an answer that there is no money do not agree. They do when a reversal lies in between.
pub(super) fn is_contradicted(attempt: &Attempt) -> bool {
    #[cfg(feature = "testing")]
    if breaks(Rule::BelieveTheLastWord) {
        return false;
    }
    attempt.told_paid && attempt.reversal != Some(Reversal::Done)
}

/// Whether somebody has told of money on an attempt, and this answer does not confirm it: one of them speaks of the past, or
/// lies. An attempt that was proved dead is asked about only because of such news, which may have named no money.
fn is_disputed(aggregate: &Aggregate, attempt_id: &str, queried: &Queried) -> bool {
    let is_news = |a: &Attempt| a.status == State::Dead && *queried != Queried::Closed;
    aggregate.attempt(attempt_id).is_some_and(|a| is_contradicted(a) || is_news(a))
}

/// Asks once more who is right. That may take the provider a while; in the end a person decides, and this says no. Whoever
/// does not answer denies nothing.
fn is_asked_again(after: &mut Aggregate, attempt_id: &str, queried: &Queried, now: Timestamp) -> bool {
    let Some(attempt) = after.attempt_mut(attempt_id) else { return false };
    let most = if matches!(queried, Queried::Unknown(_)) { schedule::MAX_QUESTIONS } else { WOKEN_QUESTIONS };
    if attempt.questions >= most {
        attempt.told_paid = false;
        return false;
    }
    attempt.next_check_at = Some(now.plus_s(schedule::backoff_s(attempt.questions, 3_600)));
    true
}

/// A charge that is said to be paid, and whose reversal and questions say otherwise, until they do not, or for too long:
/// then it is dead, and for a person.
///
/// # Errors
/// [`Trouble`].
pub(super) fn disputed_charge(
    after: &mut Aggregate,
    attempt_id: &str,
    queried: &Queried,
    now: Timestamp,
) -> Result<Vec<Operation>, Trouble> {
    if is_asked_again(after, attempt_id, queried, now) {
        return Ok(Vec::new());
    }
    let entry = to_be_resolved("money_unconfirmed", after, attempt_id, now)?;
    died(after, attempt_id, now)?;
    Ok(vec![entry])
}

fn is_over(aggregate: &Aggregate, attempt_id: &str, at: Timestamp) -> bool {
    aggregate.attempt(attempt_id).is_some_and(|a| at >= schedule::dead_from(a))
}

/// It is asked about again, by the adapter's ladder.
fn again(after: &mut Aggregate, attempt_id: &str, account: &Account, now: Timestamp) {
    let Some(attempt) = after.attempt_mut(attempt_id) else { return };
    let next = schedule::next_check(attempt, account.provider.capabilities(), now);
    attempt.next_check_at = next.filter(|_| !schedule::exhausted(attempt));
}

/// Nobody can pay it, now or later.
pub(super) fn died(after: &mut Aggregate, attempt_id: &str, now: Timestamp) -> Result<(), Trouble> {
    let was_live = after.attempt(attempt_id).is_some_and(|a| a.status.is_live());
    let Some(attempt) = after.attempt_mut(attempt_id) else { return Ok(()) };
    attempt.apply(AttemptEvent::Die)?;
    (attempt.next_check_at, attempt.told_paid) = (None, false);
    lost(after, was_live, now)
}

/// Money came in and went back at the provider: both are written down, and there is nothing to keep.
pub(super) fn reversed(after: &mut Aggregate, attempt_id: &str, now: Timestamp) -> Result<(), Trouble> {
    let was_live = after.attempt(attempt_id).is_some_and(|a| a.status.is_live());
    let Some(attempt) = after.attempt_mut(attempt_id) else { return Ok(()) };
    if attempt.status.on(AttemptEvent::Reversed).is_err() {
        attempt.apply(AttemptEvent::Capture)?;
    }
    attempt.apply(AttemptEvent::Reversed)?;
    (attempt.next_check_at, attempt.told_paid) = (None, false);
    lost(after, was_live, now)
}

/// An attempt is over without money: its payment ends, if it was waiting for that, or goes on over other routes.
pub(super) fn lost(after: &mut Aggregate, was_live: bool, now: Timestamp) -> Result<(), Trouble> {
    close::conclude(after, now)?;
    let payment = &after.payment;
    let is_ending = payment.cancel_requested_at.is_some() || payment.failure.is_some() || now >= payment.expires_at;
    if was_live && payment.status.is_open() && !is_ending {
        after.payment.apply(Event::OfferGone)?;
        after.payment.resume_at = Some(now);
    }
    Ok(())
}

/// Whether a person has to look at it: the questions are used up, or a day has passed without certainty.
pub(super) fn unresolved(
    after: &mut Aggregate,
    attempt_id: &str,
    now: Timestamp,
) -> Result<Option<Vec<Operation>>, Trouble> {
    let Some(attempt) = after.attempt(attempt_id) else { return Ok(None) };
    let in_doubt = match attempt.status {
        State::Sending | State::Captured | State::Dead | State::Reversed => false,
        State::AwaitingPayer
        | State::Unknown
        | State::Abandoned
        | State::Closing
        | State::Superseded
        | State::Reversing => true,
    };
    if !in_doubt || !(schedule::exhausted(attempt) || now.since(attempt.offer_deadline) > UNRESOLVED_AFTER_S * 1_000) {
        return Ok(Some(Vec::new()));
    }
    Ok(Some(vec![to_be_resolved("unresolved", after, attempt_id, now)?]))
}

fn to_be_resolved(
    kind: &'static str,
    aggregate: &Aggregate,
    attempt_id: &str,
    now: Timestamp,
) -> Result<Operation, Trouble> {
    let gone = || Trouble::Gone(format!("attempt {attempt_id}"));
    let attempt = aggregate.attempt(attempt_id).ok_or_else(gone)?;
    Ok(Operation {
        id: id::new(Kind::Operation)?,
        owner: aggregate.payment.owner.clone(),
        kind,
        subject_id: attempt_id.to_owned(),
        detail: format!(
            "order {} at {} is {} after {} questions; look it up in the provider's console",
            attempt.provider_order_no, attempt.provider, attempt.status, attempt.questions
        ),
        created_at: now,
    })
}

/// Money on an attempt: booked at once on the live one, asked about first on one that was given up. On one whose
/// money is in the books already it is old news: asking about that again would never end.
///
/// # Errors
/// [`Trouble`].
pub(super) fn money_seen(
    after: &mut Aggregate,
    attempt_id: &str,
    money: &Capture,
    now: Timestamp,
) -> Result<Vec<Operation>, Trouble> {
    let Some(attempt) = after.attempt_mut(attempt_id) else { return Ok(Vec::new()) };
    match attempt.status {
        State::Sending | State::AwaitingPayer | State::Closing | State::Unknown => {
            capture::book(after, attempt_id, money, now)
        }
        State::Abandoned | State::Superseded | State::Dead => {
            attempt.tell_paid();
            attempt.next_check_at = Some(now);
            Ok(Vec::new())
        }
        // A reversal that is on its way ends first.
        State::Reversing => {
            attempt.tell_paid();
            attempt.next_check_at = Some(attempt.call_deadline.max(now));
            Ok(Vec::new())
        }
        State::Captured | State::Reversed => Ok(Vec::new()),
    }
}
