//! What breaking a rule takes where that is more than a condition. Only under the `testing`
//! feature; see [`crate::testing`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use providers::outcome::{Answer, CreateOutcome};

use super::Error;
use super::call::{self, RequestContext};
use crate::app::App;
use crate::domain::id::{AttemptId, PaymentId};
use crate::domain::{Aggregate, id};
use crate::mutated;
use crate::store::change::Change;

/// Payments that are written only after their first call.
static PUT_OFF: Mutex<BTreeMap<PaymentId, Change>> = Mutex::new(BTreeMap::new());

/// `send_before_commit`: keeps a payment's first change in memory instead.
pub(super) fn put_off(change: &Change) {
    let id = change.after().payment.id.clone();
    PUT_OFF.lock().insert(id, change.clone());
}

/// `send_before_commit`: writes what was put off.
pub(super) async fn catch_up(app: &Arc<App>, payment_id: &PaymentId) -> Result<(), Error> {
    let change = PUT_OFF.lock().remove(payment_id);
    match change {
        Some(change) => Ok(app.store.commit(change).await?),
        None => Ok(()),
    }
}

/// `new_number_on_repeat`: sends what has no answer once more, and forgets the number under which
/// it was sent first.
pub(super) async fn repeated(
    app: &App,
    aggregate: &mut Aggregate,
    attempt_id: &AttemptId,
    answer: Answer<CreateOutcome>,
    planned_at: Instant,
    context: &RequestContext,
) -> Result<Answer<CreateOutcome>, Error> {
    let in_doubt = matches!(answer.outcome, CreateOutcome::Unknown(_));
    let Some(attempt) = aggregate
        .attempt_mut(attempt_id)
        .filter(|_| in_doubt && mutated!(NewNumberOnRepeat))
    else {
        return Ok(answer);
    };
    attempt.provider_order_no = id::order_no(&app.hold.prefix())?;
    let again = attempt.clone();
    match app.directory.account(&again.account_id) {
        Some(account) => Ok(call::create(
            app,
            &account,
            &aggregate.payment,
            &again,
            planned_at,
            context,
        )
        .await),
        None => Ok(answer),
    }
}
