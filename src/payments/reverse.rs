//! Finding out what became of a charge, and reversing it when that takes too long. A charge in
//! doubt is never sent elsewhere: its payer's code names one wallet and works once. What decides is
//! the answer to the reversal and a query after it; money that is seen before that announces
//! nothing.
//!
//! A reversal can move money, so it is planned like a charge: the commit that says until when it
//! may be on its way comes before the call, and only the worker whose commit that was makes it. If
//! that worker dies, the reversal is made again after that time: at every provider a second one
//! changes nothing.

use std::sync::Arc;
use std::time::Instant;

use providers::outcome::QueryOutcome;
use providers::provider::Charging;

use super::commit::update;
use super::transition::charge::{
    ReversalResult, apply_charge_query, conclude, is_in_doubt, not_sent, plan,
};
use super::transition::ending::put_off;
use super::{Error, call, conditions};
use crate::app::App;
use crate::domain::attempt::{Reversal, State};
use crate::domain::{Aggregate, Attempt};
use crate::kill_point;
use crate::routing::account::Account;

/// Does what is due for a charge: asks about it, or reverses it.
///
/// # Errors
/// [`Error`]; the rows tell the next worker how to go on.
pub(super) async fn step(
    app: &Arc<App>,
    before: Aggregate,
    attempt: &Attempt,
) -> Result<Aggregate, Error> {
    let opened = app.directory.account(&attempt.account_id);
    let charging = opened
        .as_ref()
        .and_then(|account| account.provider.capabilities().charge);
    let (Some(account), Some(charging)) = (opened, charging) else {
        return update(app, before, |after, now| put_off(after, &attempt.id, now)).await;
    };
    if attempt.status == State::Reversing {
        return undo(app, before, attempt, &account, &charging).await;
    }
    let queried = ask(app, &account, attempt).await;
    let capabilities = account.provider.capabilities();

    update(app, before, |after, now| {
        apply_charge_query(after, attempt, &queried, capabilities, &charging, now)
    })
    .await
}

async fn ask(app: &App, account: &Account, attempt: &Attempt) -> QueryOutcome {
    let queried = call::query(app, account, attempt).await.outcome;
    kill_point!("charge_after_query");
    if let QueryOutcome::Unknown(failure) = &queried {
        tracing::warn!(
            attempt_id = %attempt.id,
            code = failure.code,
            message = failure.message,
            "asking brought no certainty"
        );
    }
    queried
}

/// Reverses a charge, unless that is done, and asks what it has come to.
async fn undo(
    app: &Arc<App>,
    before: Aggregate,
    attempt: &Attempt,
    account: &Account,
    charging: &Charging,
) -> Result<Aggregate, Error> {
    let mut planned = before;
    let mut told = ReversalResult {
        ended: None,
        fence: attempt.call_deadline,
        doubted_before: is_in_doubt(attempt, app.clock.now()),
        asked_at: app.clock.now(),
    };

    if attempt.reversal != Some(Reversal::Done) {
        let planned_at = Instant::now();
        let mut is_ours = false;
        let conditions = conditions::of(app, &planned, Some(attempt));
        planned = update(app, planned, |after, now| {
            is_ours = false;
            told.doubted_before = after
                .attempt(&attempt.id)
                .is_some_and(|a| is_in_doubt(a, now));
            let Some(planned) = plan(conditions, after, &attempt.id, charging, now) else {
                return Ok(None);
            };
            is_ours = planned;
            Ok(Some(Vec::new()))
        })
        .await?;
        kill_point!("reverse_after_plan_commit");
        if !is_ours {
            return Ok(planned);
        }
        told.fence = planned
            .attempt(&attempt.id)
            .map_or(attempt.call_deadline, |a| a.call_deadline);
        told.ended = call::reverse(app, account, attempt, planned_at, told.fence).await;
        if told.ended.is_none() {
            return update(app, planned, |after, _| {
                Ok(not_sent(after, &attempt.id, &told))
            })
            .await;
        }
    }

    told.asked_at = app.clock.now();
    let queried = ask(app, account, attempt).await;
    let capabilities = account.provider.capabilities();

    update(app, planned, |after, now| {
        conclude(
            after,
            &attempt.id,
            &told,
            &queried,
            capabilities,
            charging,
            now,
        )
    })
    .await
}
