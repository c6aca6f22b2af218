//! Another way to pay: the payer wants one, and what was shown before is superseded.

use std::time::Instant;

use providers::ProviderName;
use providers::order::Flow;

use super::commit::{Beside, commit, decided};
use super::{Error, plan};
use crate::app::App;
use crate::domain::attempt::{Event as AttemptEvent, State};
use crate::domain::id::PaymentId;
use crate::domain::payment::{Event, State as PaymentState};
use crate::domain::{Aggregate, Owner, Timestamp};
use crate::kill_point;
use crate::mutated;
use crate::store::CommitError;
use crate::store::change::{Key, KeyScope, KeyWrite};

/// An offer as it was asked for, checked.
#[derive(Debug, Clone)]
pub struct NewOffer {
    /// How the payer wants to pay now.
    pub flow: Flow,
    /// Only these providers; empty means any.
    pub providers: Vec<ProviderName>,
}

/// An offer whose attempt is planned.
#[derive(Debug)]
pub struct Planned {
    /// The payment as it was committed.
    pub aggregate: Aggregate,
    /// The key of the request.
    pub key: Key,
    /// Taken before the attempt was planned.
    pub planned_at: Instant,
}

/// Why there is no other offer. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum OfferError {
    /// The merchant has no such payment.
    #[error("no such payment")]
    NoPayment,
    /// It takes none now.
    #[error("this payment takes no other offer now")]
    NotOpen {
        /// `pay_…`
        id: PaymentId,
        /// Where it stands.
        status: PaymentState,
    },
    /// None of the merchant's accounts serves it.
    #[error("no account serves this offer")]
    NotServed,
    /// Anything else.
    #[error(transparent)]
    Other(#[from] Error),
}

/// Supersedes what is shown and plans the attempt of another offer, in one commit with its
/// idempotency key.
///
/// # Errors
/// [`OfferError`]; `Commit(KeyTaken)` tells that another request has this key.
pub async fn open(
    app: &App,
    owner: &Owner,
    payment_id: &PaymentId,
    new: &NewOffer,
    scope: KeyScope,
    fingerprint: String,
) -> Result<Planned, OfferError> {
    decided!({
        let Some(stored) = app.store.payment_of(owner, payment_id).await? else {
            return Ok(Err(OfferError::NoPayment));
        };
        if app.store.key(&scope).await?.is_some() {
            return Err(CommitError::KeyTaken.into());
        }

        let (now, planned_at) = (app.clock.now(), Instant::now());
        let mut wanted = stored.clone();
        wanted.payment.flow = new.flow;
        wanted.payment.providers.clone_from(&new.providers);
        let Some((after, served)) = replace(app, &wanted, now)? else {
            return Ok(Err(OfferError::NotOpen {
                id: stored.payment.id,
                status: stored.payment.status,
            }));
        };
        if !served {
            return Ok(Err(OfferError::NotServed));
        }

        let (scope, fingerprint) = (scope.clone(), fingerprint.clone());
        let key = Key {
            scope,
            fingerprint,
            resource_id: stored.payment.id.to_string(),
            created_at: now,
        };
        let claim = Beside::key(Some(KeyWrite::Claim(key.clone())));
        let aggregate = commit(app, &stored, after, now, claim).await?;
        kill_point!("offer_after_commit");
        Ok(Ok(Planned {
            aggregate,
            key,
            planned_at,
        }))
    })?
}

/// The payer wants to pay another way: the shown offer is superseded (it is closed in the
/// background, and money on it is still recognised) and a new attempt is planned. `Ok(None)` when
/// the payment cannot get another offer now.
///
/// # Errors
/// [`Error`].
pub fn replace(
    app: &App,
    before: &Aggregate,
    now: Timestamp,
) -> Result<Option<(Aggregate, bool)>, Error> {
    let mut after = before.clone();
    let payment = &after.payment;
    if !payment.status.is_open()
        || payment.cancel_requested_at.is_some()
        || now >= payment.expires_at
    {
        return Ok(None);
    }

    match after
        .live()
        .filter(|a| !a.flow.is_charge())
        .map(|a| (a.id.clone(), a.status))
    {
        None if after.live().is_some() => return Ok(None),
        Some((_, State::AwaitingPayer)) if mutated!(NoUniqueLiveAttempt) => {
            after.payment.apply(Event::OfferGone)?;
        }
        Some((id, State::AwaitingPayer)) => {
            if let Some(attempt) = after.attempt_mut(&id) {
                attempt.apply(AttemptEvent::Supersede)?;
                attempt.next_check_at = Some(now);
            }
            after.payment.apply(Event::OfferGone)?;
        }
        None => {}
        // Something is under way that has to end first.
        Some((
            _,
            State::Sending
            | State::Unknown
            | State::Abandoned
            | State::Closing
            | State::Superseded
            | State::Reversing
            | State::Captured
            | State::Dead
            | State::Reversed,
        )) => return Ok(None),
    }

    after.payment.round = after.payment.round.saturating_add(1);
    after.payment.failure = None;
    let planned = plan::next(app, &mut after, now)?;
    Ok(Some((after, planned.served)))
}
