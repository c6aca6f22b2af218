//! What a creating call means for its payment: the table of the outcomes, in code. Which states
//! follow, whether the next route may be tried, and what a person has to hear of. Nothing is called
//! or written here.

use providers::outcome::{Created, Failure, NOT_GIVEN, NextAction, Refusal};

use super::super::Trouble;
use super::{Conditions, capture, ending, reversal, schedule};
#[cfg(feature = "testing")]
use crate::broken::{Rule, breaks};
use crate::domain::attempt::Event as AttemptEvent;
use crate::domain::payment::Event;
use crate::domain::{Aggregate, Timestamp};
use crate::routing::choose::{REFUSED_ACCOUNT, REFUSED_ROUTE};
use crate::store::change::Operation;

/// What an outcome asks for beside the change of states.
#[derive(Debug, Default)]
pub struct Judged {
    /// Whether the next route may be tried.
    pub try_next: bool,
    /// Why the account is to be kept out of new payments.
    pub set_aside: Option<Failure>,
    /// What a person has to hear of.
    pub operations: Vec<Operation>,
}

/// An account that was never given a call serves its other flows: it is not set aside, and a person
/// has it enabled.
fn not_given(
    aggregate: &Aggregate,
    attempt_id: &str,
    failure: &Failure,
    now: Timestamp,
) -> Result<Vec<Operation>, Trouble> {
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

    Ok(vec![Operation::new(
        &aggregate.payment.owner,
        "account_flow_refused",
        &attempt.account_id,
        detail,
        now,
    )?])
}

/// Judges the end of a creating call.
///
/// # Errors
/// [`Trouble`]; `after` must not be written then.
pub fn judge(
    conditions: Conditions<'_>,
    after: &mut Aggregate,
    attempt_id: &str,
    outcome: &Created,
    now: Timestamp,
) -> Result<Judged, Trouble> {
    let gone = || Trouble::Gone(format!("attempt {attempt_id}"));
    after.payment.lease_until = None;
    let attempt = after.attempt_mut(attempt_id).ok_or_else(gone)?;
    attempt.outcome = Some(name(outcome).to_owned());
    attempt.failure = failure(outcome).cloned();

    // What its call says against that is one word against another.
    attempt.next_check_at = attempt.told_paid.then_some(now);
    let charging = conditions
        .capabilities
        .and_then(|c| c.charge)
        .filter(|_| attempt.flow.takes_money());

    match outcome {
        Created::Accepted(action) => {
            shown(conditions, after, attempt_id, action, now)?;
            Ok(Judged::default())
        }
        Created::Captured(money) => {
            let operations = capture::book(after, attempt_id, money, now)?;
            Ok(Judged {
                operations,
                ..Judged::default()
            })
        }
        Created::NotSent(failure)
        | Created::Refused(Refusal::Provider | Refusal::Route, failure) => {
            let operations = not_given(after, attempt_id, failure, now)?;
            let attempt = after.attempt_mut(attempt_id).ok_or_else(gone)?;
            attempt.apply(AttemptEvent::Die)?;
            after.payment.apply(Event::OfferGone)?;
            ending::conclude(after, now)?;
            Ok(Judged {
                try_next: true,
                operations,
                ..Judged::default()
            })
        }
        Created::Refused(Refusal::Account, failure) => {
            attempt.apply(AttemptEvent::Die)?;
            after.payment.apply(Event::OfferGone)?;
            ending::conclude(after, now)?;
            Ok(Judged {
                try_next: true,
                set_aside: Some(failure.clone()),
                ..Judged::default()
            })
        }
        // It may have left something behind that the payer can still pay.
        Created::Declined(failure) if charging.is_some_and(|c| c.declined_is_reversed) => {
            after.payment.failure = Some(failure.clone());
            reversal::begin(after, attempt_id, now)?;
            Ok(Judged::default())
        }
        Created::Refused(Refusal::Request, failure) | Created::Declined(failure) => {
            attempt.apply(AttemptEvent::Die)?;
            after.payment.failure = Some(failure.clone());
            ending::conclude(after, now)?;
            Ok(Judged::default())
        }
        #[cfg(feature = "testing")]
        Created::Unknown(_)
            if attempt.flow.takes_money() && breaks(Rule::SwitchOnUnknownCharge) =>
        {
            super::mutations::give_up(after, attempt_id)?;
            Ok(Judged {
                try_next: true,
                ..Judged::default()
            })
        }
        Created::Waiting | Created::Unknown(_) if attempt.flow.takes_money() => {
            let is_waiting = matches!(outcome, Created::Waiting);
            attempt.apply(if is_waiting {
                AttemptEvent::Shown
            } else {
                AttemptEvent::Doubt
            })?;
            attempt.next_check_at = conditions
                .capabilities
                .and_then(|c| schedule::next_check(attempt, c, now));
            reversal::doubt(after, attempt_id, now)?;
            Ok(Judged::default())
        }
        // Never shown, so nobody can pay it; it is ended at its deadline, and money on it is still
        // recognised.
        Created::Waiting | Created::Unknown(_) => {
            attempt.apply(AttemptEvent::Abandon)?;
            attempt.next_check_at = Some(schedule::watched_from(attempt, now));
            ending::conclude(after, now)?;
            Ok(Judged {
                try_next: true,
                ..Judged::default()
            })
        }
    }
}

/// An offer exists: it is shown, unless the merchant has asked to cancel meanwhile.
fn shown(
    conditions: Conditions<'_>,
    after: &mut Aggregate,
    attempt_id: &str,
    action: &NextAction,
    now: Timestamp,
) -> Result<(), Trouble> {
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

/// An outcome's name in tables, metrics and the API.
#[must_use]
pub fn name(outcome: &Created) -> &'static str {
    match outcome {
        Created::Accepted(_) => "accepted",
        Created::Captured(_) => "captured",
        Created::Waiting => "waiting",
        Created::NotSent(_) => "not_sent",
        Created::Refused(Refusal::Provider, _) => "refused_provider",
        Created::Refused(Refusal::Account, _) => REFUSED_ACCOUNT,
        Created::Refused(Refusal::Route, _) => REFUSED_ROUTE,
        Created::Refused(Refusal::Request, _) => "refused_request",
        Created::Declined(_) => "declined",
        Created::Unknown(_) => "unknown",
    }
}

/// Why it brought no offer and no money.
#[must_use]
pub fn failure(outcome: &Created) -> Option<&Failure> {
    match outcome {
        Created::NotSent(f)
        | Created::Refused(_, f)
        | Created::Declined(f)
        | Created::Unknown(f) => Some(f),
        Created::Accepted(_) | Created::Captured(_) | Created::Waiting => None,
    }
}
