//! The work list: what a person says about an entry, and entries whose cause has gone. The first
//! person proposes, a second one with another key confirms; only then is it done, in one
//! transaction with the end of the entry. So of two confirmations at once one does it, and the
//! other finds it done.

use std::sync::Arc;

use super::commit::{Beside, commit, decided};
use super::transition::Conditions;
use super::transition::console_refund::NUMBERS;
use super::transition::decision::{Undecided, decide};
use super::{Error, conditions};
use crate::app::App;
use crate::domain::attempt::{Disposition, State};
use crate::domain::id::{self, AccountId, Kind, ReviewId};
use crate::domain::operation::{Action, PROPOSAL_S, ReviewKind, StepKind, actions};
use crate::domain::{Aggregate, AllOwners, Owner, Refund, Timestamp, refund};
use crate::routing::account::Account;
use crate::store::change::{DecisionStep, Resolution};
use crate::store::{self, CommitError, OperationRow};

/// Entries that are looked at in one go, to see whether their cause has gone.
const PAGE: u64 = 200;

/// What a person says about an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// What is to be done.
    pub action: Action,
    /// What shows that it is right.
    pub evidence: String,
    /// Anything else.
    pub note: Option<String>,
    /// The key that it is said with.
    pub key_name: String,
    /// The names of keys that the same person may have: made with the same key, or the one that
    /// made it.
    pub kin: Vec<String>,
}

impl Decision {
    /// Whether the person with this key may be who says it.
    fn may_be_of(&self, key_name: &str) -> bool {
        self.key_name == key_name || self.kin.iter().any(|kin| kin == key_name)
    }
}

/// Why a word changed nothing.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The merchant has no such entry.
    #[error("no such entry")]
    NotFound,
    /// It has ended.
    #[error("the entry has ended")]
    Ended(Box<OperationRow>),
    /// This trouble has other remedies.
    #[error("this is no remedy for {0}")]
    NotForThis(String),
    /// The rows do not allow it.
    #[error("{0}")]
    NotPossible(String),
    /// The same key has proposed it.
    #[error("a second person has to confirm it")]
    SamePerson,
    /// Anything else.
    #[error(transparent)]
    Other(#[from] Error),
}

impl From<store::Error> for Refusal {
    fn from(error: store::Error) -> Self {
        Self::Other(error.into())
    }
}

impl From<Undecided> for Refusal {
    fn from(undecided: Undecided) -> Self {
        match undecided {
            Undecided::NotPossible(why) => Self::NotPossible(why),
            Undecided::Other(trouble) => trouble.into(),
        }
    }
}

/// The proposal that waits for a second person, unless its time is over.
#[must_use]
pub fn standing<'a>(
    entry: &OperationRow,
    steps: &'a [DecisionStep],
    now: Timestamp,
) -> Option<&'a DecisionStep> {
    let proposal = steps
        .iter()
        .find(|step| entry.proposal_id.as_ref() == Some(&step.id))?;
    (entry.resolved_at.is_none() && now < proposal.at.plus_s(PROPOSAL_S)).then_some(proposal)
}

/// Whether an action can be done about an entry now.
///
/// # Errors
/// [`Refusal`] says why not.
pub fn possible(
    app: &App,
    entry: &OperationRow,
    about: Option<&Aggregate>,
    action: Action,
    now: Timestamp,
) -> Result<(), Refusal> {
    if !actions(entry.review_kind()).contains(&action) {
        return Err(Refusal::NotForThis(entry.kind.clone()));
    }

    match (action, about) {
        (Action::Acknowledge, _) => Ok(()),
        (Action::AccountOk, _) => {
            match account_of(app, entry).is_some_and(|account| account.owner == entry.owner) {
                true => Ok(()),
                false => Err(Refusal::NotPossible(
                    "This account cannot be opened.".to_owned(),
                )),
            }
        }
        (_, Some(about)) => Ok(decide(
            of_subject(app, about, &entry.subject_id),
            &mut about.clone(),
            &entry.subject_id,
            action,
            now,
        )
        .map(|_| ())?),
        (_, None) => Err(Refusal::NotPossible(
            "There is no payment that this is about.".to_owned(),
        )),
    }
}

/// A person's word on an entry: a proposal, or the confirmation of somebody else's, which does it.
/// Returns the entry as it is then.
///
/// # Errors
/// [`Refusal`]; nothing was changed.
pub async fn submit(
    app: &App,
    owner: &Owner,
    id: &ReviewId,
    word: &Decision,
) -> Result<OperationRow, Refusal> {
    decided!({
        let said = submit_once(app, owner, id, word).await;
        match said {
            Err(Refusal::Other(trouble)) => Err(trouble),
            said => Ok(said),
        }
    })?
}

async fn submit_once(
    app: &App,
    owner: &Owner,
    id: &ReviewId,
    word: &Decision,
) -> Result<OperationRow, Refusal> {
    let entry = app
        .store
        .operation_of(owner, id)
        .await?
        .ok_or(Refusal::NotFound)?;
    let about = app.store.payment_of_subject(&entry).await?;
    let now = app.clock.now();
    if entry.resolved_at.is_some() {
        return Err(Refusal::Ended(Box::new(entry)));
    }
    if has_gone(app, &entry, about.as_ref(), now).await? {
        app.store.ended_by_itself(id, now).await?;
        return Err(Error::from(CommitError::ReviewItemChanged).into());
    }
    possible(app, &entry, about.as_ref(), word.action, now)?;

    let steps = app.store.operation_steps(id).await?;
    let proposal = standing(&entry, &steps, now).filter(|proposal| proposal.action == word.action);
    let is_done = match proposal {
        Some(proposal) if word.may_be_of(&proposal.key_name) => return Err(Refusal::SamePerson),
        Some(proposal) => {
            let step = step(&entry, word, StepKind::Confirmed, now)?;
            let resolution = Resolution {
                proposal_id: proposal.id.clone(),
                step,
            };
            carry_out(app, &entry, about, resolution, now).await?
        }
        None => {
            app.store
                .propose(&entry, &step(&entry, word, StepKind::Proposed, now)?)
                .await?
        }
    };
    if !is_done {
        return Err(Error::from(CommitError::ReviewItemChanged).into());
    }

    let (action, by) = (word.action.to_string(), &word.key_name);
    tracing::info!(
        operation_id = %id,
        kind = entry.kind,
        action,
        by,
        "a person's word on the work list"
    );
    app.store
        .operation_of(owner, id)
        .await?
        .ok_or(Refusal::NotFound)
}

/// What a decision about a subject has to know of its attempt.
fn of_subject<'a>(app: &'a App, about: &Aggregate, subject_id: &str) -> Conditions<'a> {
    conditions::of(app, about, about.attempt_of(subject_id))
}

/// The account that an entry is about, if it can be opened.
fn account_of(app: &App, entry: &OperationRow) -> Option<Arc<Account>> {
    let id = entry.subject_id.parse().ok()?;
    app.directory.account(&id)
}

fn step(
    entry: &OperationRow,
    word: &Decision,
    kind: StepKind,
    now: Timestamp,
) -> Result<DecisionStep, Error> {
    Ok(DecisionStep {
        id: id::new(Kind::OperationStep)?,
        operation_id: entry.id.clone(),
        kind,
        action: word.action,
        evidence: word.evidence.clone(),
        note: word.note.clone(),
        key_name: word.key_name.clone(),
        at: now,
    })
}

/// Does what two persons want. `false`: something has changed meanwhile, and has to be looked at
/// again.
async fn carry_out(
    app: &App,
    entry: &OperationRow,
    about: Option<Aggregate>,
    resolution: Resolution,
    now: Timestamp,
) -> Result<bool, Refusal> {
    let action = resolution.step.action;
    let before = match (action, about) {
        (Action::AccountOk | Action::Acknowledge, _) | (_, None) => {
            let subject = entry.subject_id.parse::<AccountId>().ok();
            let account_id = subject.filter(|_| action == Action::AccountOk);
            let done = app
                .store
                .resolve_alone(&resolution, account_id.as_ref())
                .await?;
            if done && account_id.is_some() {
                app.directory
                    .changed()
                    .await
                    .map_err(|e| Error::Missing(e.to_string()))?;
            }
            return Ok(done);
        }
        (_, Some(before)) => before,
    };

    let mut after = before.clone();
    let operations = decide(
        of_subject(app, &before, &entry.subject_id),
        &mut after,
        &entry.subject_id,
        action,
        now,
    )?;

    let beside = Beside {
        operations,
        resolution: Some(resolution),
        ..Beside::default()
    };

    match commit(app, &before, after, now, beside).await {
        Ok(_) => Ok(true),
        // An index: money of this payment is kept already, or another payment holds its order
        // number.
        Err(Error::Commit(CommitError::Refused(_))) => {
            let why = "Another payment holds this order number by now, or other money of this \
                       payment is kept.";
            Err(Refusal::NotPossible(why.to_owned()))
        }
        Err(Error::Commit(broken @ CommitError::Broken(_))) => {
            Err(Refusal::NotPossible(format!("Nothing was done: {broken}.")))
        }
        Err(trouble) => Err(trouble.into()),
    }
}

/// Whether the trouble of an entry is over, whoever ended it.
///
/// # Errors
/// The database's.
pub async fn has_gone(
    app: &App,
    entry: &OperationRow,
    about: Option<&Aggregate>,
    now: Timestamp,
) -> Result<bool, store::Error> {
    let refund = about.and_then(|a| a.refunds.iter().find(|r| r.id == entry.subject_id));
    let attempt = about.and_then(|a| a.attempt_of(&entry.subject_id));
    let disposed = |wanted| {
        attempt.is_some_and(|a| a.disposition != Some(wanted) || a.status != State::Captured)
    };
    let refund_ended = |open: &[refund::State]| refund.is_some_and(|r| !open.contains(&r.status));
    let attempt_ended = attempt
        .is_some_and(|a| matches!(a.status, State::Captured | State::Dead | State::Reversed));

    let Some(kind) = entry.review_kind() else {
        return Ok(false);
    };
    Ok(match kind {
        ReviewKind::CaptureMismatch | ReviewKind::CaptureReturning => disposed(Disposition::Held),
        ReviewKind::AutomaticRefundFailed => {
            let again =
                |r: &Refund| refund.is_some_and(|f| f.attempt_id == r.attempt_id) && r.automatic;
            let is_tried_again = about.is_some_and(|a| {
                a.refunds
                    .iter()
                    .any(|r| again(r) && r.status != refund::State::Failed)
            });
            disposed(Disposition::RefundDue) || is_tried_again
        }
        ReviewKind::RefundAbnormal => refund_ended(&[refund::State::Abnormal]),
        ReviewKind::RefundUnresolved => {
            refund_ended(&[refund::State::Pending, refund::State::Abnormal])
        }
        // Until it is done: it may be sent again and again in vain.
        ReviewKind::RefundNeedsFunds => refund_ended(&[refund::State::Pending]),
        ReviewKind::Unresolved => attempt_ended,
        ReviewKind::ConsoleRefundUnconfirmed => {
            let is_booked = |r: &Refund| {
                r.merchant_refund_no.starts_with(NUMBERS) && r.created_at >= entry.created_at
            };
            about.is_some_and(|a| {
                a.refunds
                    .iter()
                    .any(|r| r.attempt_id == entry.subject_id && is_booked(r))
            })
        }
        ReviewKind::MoneyUnconfirmed => {
            attempt.is_some_and(|a| matches!(a.status, State::Captured | State::Reversed))
        }
        ReviewKind::PaymentStuck => {
            about.is_some_and(|a| a.due(now).is_none_or(|due| due.at > now))
        }
        ReviewKind::AccountUnavailable => {
            let opens = attempt.is_some_and(|a| app.directory.account(&a.account_id).is_some());
            let is_over = if refund.is_some() {
                refund_ended(&[refund::State::Pending, refund::State::Abnormal])
            } else {
                attempt_ended
            };
            opens || is_over
        }
        ReviewKind::AccountRefused => account_of(app, entry)
            .is_some_and(|account| account.set_aside_until.is_none_or(|until| until <= now)),
        ReviewKind::AccountBarred => {
            account_of(app, entry).is_some_and(|account| account.barred.is_none())
        }
        ReviewKind::WebhookFailing if entry.subject_id.starts_with("we_") => {
            let endpoint = app
                .store
                .endpoints(AllOwners, vec![entry.subject_id.clone()])
                .await?
                .pop();
            endpoint.is_none_or(|e| e.disabled_reason.is_some() || e.failing_since.is_none())
        }
        ReviewKind::AccountFlowRefused
        | ReviewKind::NotificationMismatch
        | ReviewKind::NotificationOtherAccount
        | ReviewKind::RefundDoneAfterFailed
        | ReviewKind::WebhookFailing => false,
    })
}

/// Closes entries whose cause has gone, of those behind `after`. Returns the last one that was
/// looked at, or `None` when there are no more.
///
/// # Errors
/// The database's.
pub async fn close_gone(
    app: &App,
    after: Option<&ReviewId>,
) -> Result<Option<ReviewId>, store::Error> {
    let entries = app
        .store
        .unresolved_operations(AllOwners, after, PAGE)
        .await?;
    for entry in &entries {
        let about = app.store.payment_of_subject(entry).await?;
        let now = app.clock.now();
        if has_gone(app, entry, about.as_ref(), now).await? {
            app.store.ended_by_itself(&entry.id, now).await?;
            tracing::info!(
                operation_id = %entry.id,
                kind = entry.kind,
                "what this was about has ended by itself"
            );
        }
    }

    Ok(entries.into_iter().next_back().map(|entry| entry.id))
}
