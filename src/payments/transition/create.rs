//! What a creating call means for its payment: the table of the outcomes, in code. Which states
//! follow, whether the next route may be tried, and what a person has to hear of. Nothing is called
//! or written here.

use providers::outcome::{CreateOutcome, Failure, NOT_GIVEN, NextAction, Refusal};

use super::super::Error;
use super::{Conditions, capture, ending, reversal, schedule};
use crate::domain::attempt::Event as AttemptEvent;
use crate::domain::id::AttemptId;
use crate::domain::operation::ReviewKind;
use crate::domain::payment::Event;
use crate::domain::{Aggregate, Timestamp};
use crate::mutate;
use crate::store::change::ReviewItem;

/// What an outcome asks for beside the change of states.
#[derive(Debug, Default)]
pub struct CreateEffects {
    /// Whether the next route may be tried.
    pub try_next: bool,
    /// Why the account is to be kept out of new payments.
    pub suspend: Option<Failure>,
    /// What a person has to hear of.
    pub operations: Vec<ReviewItem>,
}

/// An account that was never given a call serves its other flows: it is not set aside, and a person
/// has it enabled.
fn not_given(
    aggregate: &Aggregate,
    attempt_id: &AttemptId,
    failure: &Failure,
    now: Timestamp,
) -> Result<Vec<ReviewItem>, Error> {
    let Some(attempt) = aggregate
        .attempt(attempt_id)
        .filter(|_| failure.code == NOT_GIVEN)
    else {
        return Ok(Vec::new());
    };
    let detail = format!(
        "{} was never given {} payments ({}): have its provider enable them, or leave it out of \
        their rule",
        attempt.provider, attempt.flow, failure.message
    );

    Ok(vec![ReviewItem::new(
        &aggregate.payment.owner,
        ReviewKind::AccountFlowRefused,
        &attempt.account_id,
        detail,
        now,
    )?])
}

/// Judges the end of a creating call.
///
/// # Errors
/// [`Error`]; `after` must not be written then.
pub fn apply_create_outcome(
    conditions: Conditions<'_>,
    after: &mut Aggregate,
    attempt_id: &AttemptId,
    outcome: &CreateOutcome,
    now: Timestamp,
) -> Result<CreateEffects, Error> {
    let gone = || Error::Missing(format!("attempt {attempt_id}"));
    after.payment.lease_until = None;
    let attempt = after.attempt_mut(attempt_id).ok_or_else(gone)?;
    attempt.outcome = Some(outcome.into());
    attempt.failure = failure(outcome).cloned();

    // What its call says against that is one word against another.
    attempt.next_check_at = attempt.told_paid.then_some(now);
    let is_charge = attempt.flow.is_charge();
    let charging = conditions
        .capabilities
        .and_then(|c| c.charge)
        .filter(|_| is_charge);
    mutate!(SwitchOnUnknownCharge if is_charge && matches!(outcome, CreateOutcome::Unknown(_)) => {
        super::mutations::give_up(after, attempt_id)?;
        return Ok(CreateEffects { try_next: true, ..CreateEffects::default() });
    });

    match outcome {
        CreateOutcome::Accepted(action) => {
            shown(conditions, after, attempt_id, action, now)?;
            Ok(CreateEffects::default())
        }
        CreateOutcome::Captured(money) => {
            let operations = capture::book(after, attempt_id, money, now)?;
            Ok(CreateEffects {
                operations,
                ..CreateEffects::default()
            })
        }
        CreateOutcome::NotSent(failure)
        | CreateOutcome::Refused(Refusal::Provider | Refusal::Route, failure) => {
            let operations = not_given(after, attempt_id, failure, now)?;
            let attempt = after.attempt_mut(attempt_id).ok_or_else(gone)?;
            attempt.apply(AttemptEvent::Die)?;
            after.payment.apply(Event::OfferGone)?;
            ending::conclude(after, now)?;
            Ok(CreateEffects {
                try_next: true,
                operations,
                ..CreateEffects::default()
            })
        }
        CreateOutcome::Refused(Refusal::Account, failure) => {
            attempt.apply(AttemptEvent::Die)?;
            after.payment.apply(Event::OfferGone)?;
            ending::conclude(after, now)?;
            Ok(CreateEffects {
                try_next: true,
                suspend: Some(failure.clone()),
                ..CreateEffects::default()
            })
        }
        // It may have left something behind that the payer can still pay.
        CreateOutcome::Declined(failure) if charging.is_some_and(|c| c.declined_is_reversed) => {
            after.payment.failure = Some(failure.clone());
            reversal::begin(after, attempt_id, now)?;
            Ok(CreateEffects::default())
        }
        CreateOutcome::Refused(Refusal::Request, failure) | CreateOutcome::Declined(failure) => {
            attempt.apply(AttemptEvent::Die)?;
            after.payment.failure = Some(failure.clone());
            ending::conclude(after, now)?;
            Ok(CreateEffects::default())
        }
        CreateOutcome::Waiting | CreateOutcome::Unknown(_) if is_charge => {
            let is_waiting = matches!(outcome, CreateOutcome::Waiting);
            attempt.apply(if is_waiting {
                AttemptEvent::Shown
            } else {
                AttemptEvent::Doubt
            })?;
            attempt.next_check_at = conditions
                .capabilities
                .and_then(|c| schedule::next_check(attempt, c, now));
            reversal::await_outcome(after, attempt_id, now)?;
            Ok(CreateEffects::default())
        }
        // Never shown, so nobody can pay it; it is ended at its deadline, and money on it is still
        // recognised.
        CreateOutcome::Waiting | CreateOutcome::Unknown(_) => {
            attempt.apply(AttemptEvent::Abandon)?;
            attempt.next_check_at = Some(schedule::watched_from(attempt, now));
            ending::conclude(after, now)?;
            Ok(CreateEffects {
                try_next: true,
                ..CreateEffects::default()
            })
        }
    }
}

/// An offer exists: it is shown, unless the merchant has asked to cancel meanwhile.
fn shown(
    conditions: Conditions<'_>,
    after: &mut Aggregate,
    attempt_id: &AttemptId,
    action: &NextAction,
    now: Timestamp,
) -> Result<(), Error> {
    let canceled = after.payment.cancel_requested_at.is_some();
    let Some(attempt) = after.attempt_mut(attempt_id) else {
        return Ok(());
    };
    attempt.next_action = Some(action.clone());
    attempt.apply(AttemptEvent::Shown)?;
    if canceled {
        attempt.apply(AttemptEvent::Close)?;
        attempt.next_check_at = Some(now);
        after.payment.apply(Event::Doubt)?;
        return Ok(());
    }

    attempt.next_check_at = conditions
        .capabilities
        .and_then(|c| schedule::next_check(attempt, c, now));
    if attempt.told_paid {
        attempt.next_check_at = Some(now);
    }
    after.payment.apply(Event::OfferShown)?;
    after.payment.resume_at = Some(after.payment.expires_at);

    Ok(())
}

/// Why it brought no offer and no money.
#[must_use]
pub fn failure(outcome: &CreateOutcome) -> Option<&Failure> {
    match outcome {
        CreateOutcome::NotSent(f)
        | CreateOutcome::Refused(_, f)
        | CreateOutcome::Declined(f)
        | CreateOutcome::Unknown(f) => Some(f),
        CreateOutcome::Accepted(_) | CreateOutcome::Captured(_) | CreateOutcome::Waiting => None,
    }
}
