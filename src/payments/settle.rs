//! Writing down what a creating call meant, and planning the next attempt in the same commit when
//! there is to be one. An outcome that comes after its attempt was judged is dropped, unless it
//! tells of money.

use std::sync::Arc;

use providers::outcome::{Answer, CreateOutcome};

use super::commit::{Beside, commit, decided, read, update};
use super::suspend::suspend;
use super::transition::capture::money_seen;
use super::transition::create::{CreateEffects, apply_create_outcome};
use super::{Error, conditions, plan, view};
use crate::app::App;
use crate::domain::Aggregate;
use crate::domain::attempt::State;
use crate::domain::id::AttemptId;
use crate::domain::payment::State as PaymentState;
use crate::kill_point;
use crate::store::change::{Key, KeyWrite, StoredAnswer};

/// What a call has brought.
#[derive(Debug, Clone)]
pub(super) struct Brought {
    pub(super) attempt_id: AttemptId,
    pub(super) answer: Answer<CreateOutcome>,
    pub(super) latency_ms: i64,
}

/// How far a worker has brought a payment.
#[derive(Debug)]
pub struct RunResult {
    /// The payment as it was committed last.
    pub aggregate: Aggregate,
    /// What stands under the request's key, if this worker knows it.
    pub answer: Option<StoredAnswer>,
}

impl RunResult {
    /// Nothing is known of the key.
    #[must_use]
    pub const fn unanswered(aggregate: Aggregate) -> Self {
        Self {
            aggregate,
            answer: None,
        }
    }
}

/// How a payment goes on after a call.
pub(super) enum NextStep {
    /// This worker's commit planned another attempt: it calls that one too.
    Switching(Aggregate),
    /// Nothing is left to do for this worker.
    Over(RunResult),
}

/// Writes down what a creating call meant, and plans the next attempt in the same commit when there
/// is to be one.
pub(super) async fn settle(
    app: &Arc<App>,
    before: Aggregate,
    brought: &Brought,
    key: Option<&Key>,
) -> Result<NextStep, Error> {
    let Brought {
        attempt_id,
        answer,
        latency_ms,
    } = brought;
    let payment_id = before.payment.id.clone();
    let mut known = Some(before);
    decided!({
        let before = read(app, &mut known, &payment_id).await?;
        if before
            .attempt(attempt_id)
            .is_none_or(|a| a.status != State::Sending)
        {
            // A notification or the resolver was first; what they wrote stands, and what comes next
            // is theirs to do.
            return too_late(app, before, attempt_id, &answer.outcome, key)
                .await
                .map(NextStep::Over);
        }

        let now = app.clock.now();
        let mut after = before.clone();
        if let Some(attempt) = after.attempt_mut(attempt_id) {
            attempt.latency_ms = Some(*latency_ms);
            attempt.provider_request_id.clone_from(&answer.request_id);
        }
        let conditions = conditions::of(app, &before, before.attempt(attempt_id));
        let CreateEffects {
            try_next,
            suspend,
            operations,
        } = apply_create_outcome(conditions, &mut after, attempt_id, &answer.outcome, now)?;
        if try_next && after.payment.status == PaymentState::Created && after.live().is_none() {
            plan::next(app, &mut after, now)?;
        }
        let switching = after.live().is_some_and(|a| a.status == State::Sending);

        let answered = key
            .filter(|_| !switching)
            .and_then(|key| Some((key, self::answer(&after)?)));
        // A payment that had ended by then may have been told of under this key already.
        let told = answered
            .as_ref()
            .filter(|_| before.payment.status.is_open())
            .map(|(_, answer)| answer.clone());
        let key = answered.map(|(key, answer)| KeyWrite::Answer(key.clone(), answer));
        let written = commit(
            app,
            &before,
            after,
            now,
            Beside {
                key,
                operations,
                ..Beside::default()
            },
        )
        .await?;
        if switching {
            kill_point!("pay_after_switch_commit");
        }
        if !switching {
            kill_point!("pay_after_outcome_commit");
        }

        if let Some(failure) = suspend {
            let attempt = written.attempt(attempt_id);
            if let Some(account) = attempt.and_then(|a| app.directory.account(&a.account_id)) {
                self::suspend(app, &account, &failure).await;
            }
        }
        let over = RunResult {
            aggregate: written,
            answer: told,
        };
        Ok(if switching {
            NextStep::Switching(over.aggregate)
        } else {
            NextStep::Over(over)
        })
    })
}

/// An answer that came after its attempt was judged changes nothing, unless it tells of money: that
/// is never dropped. The client gets what the others have made of its payment; its key keeps that.
async fn too_late(
    app: &Arc<App>,
    stored: Aggregate,
    attempt_id: &AttemptId,
    outcome: &CreateOutcome,
    key: Option<&Key>,
) -> Result<RunResult, Error> {
    let aggregate = match outcome {
        CreateOutcome::Captured(money) => {
            update(app, stored, |after, now| {
                money_seen(after, attempt_id, money, now).map(Some)
            })
            .await?
        }
        CreateOutcome::Accepted(_)
        | CreateOutcome::Waiting
        | CreateOutcome::NotSent(_)
        | CreateOutcome::Refused(..)
        | CreateOutcome::Declined(_)
        | CreateOutcome::Unknown(_) => stored,
    };

    if let (Some(key), Some(answer)) = (key, answer(&aggregate)) {
        app.store.answer_key(&key.scope, answer).await?;
    }
    Ok(RunResult::unanswered(aggregate))
}

/// How a request for this payment is answered: 201 once the payer can act or the payment has ended.
/// A payment that is still being worked on has no final answer, and none is stored for it.
#[must_use]
pub fn answer(aggregate: &Aggregate) -> Option<StoredAnswer> {
    match aggregate.payment.status {
        PaymentState::Created | PaymentState::Processing => None,
        PaymentState::RequiresAction
        | PaymentState::Succeeded
        | PaymentState::Failed
        | PaymentState::Canceled
        | PaymentState::Expired => Some(StoredAnswer {
            status: 201,
            body: serde_json::to_vec(&view::payment(aggregate)).unwrap_or_default(),
            state: aggregate.payment.status.to_string(),
            attempt_id: aggregate.live().map(|a| a.id.clone()),
        }),
    }
}
