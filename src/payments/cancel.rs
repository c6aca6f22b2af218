//! Canceling: the merchant wants a payment ended; it is once nothing shown can be paid any more.

use std::sync::Arc;

use super::Error;
use super::commit::{Beside, commit, decided};
use super::transition::ending;
use crate::app::App;
use crate::domain::id::PaymentId;
use crate::domain::{Aggregate, Owner};
use crate::kill_point;

/// Notes that the merchant wants a payment canceled, and begins to end its offer. Asking again
/// changes nothing. `None` when the merchant has no such payment.
///
/// # Errors
/// [`Error`].
pub async fn cancel(
    app: &Arc<App>,
    owner: &Owner,
    payment_id: &PaymentId,
) -> Result<Option<Aggregate>, Error> {
    decided!({
        let Some(before) = app.store.payment_of(owner, payment_id).await? else {
            return Ok(None);
        };
        if !before.payment.status.is_open() || before.payment.cancel_requested_at.is_some() {
            return Ok(Some(before));
        }

        let now = app.clock.now();
        let mut after = before.clone();
        after.payment.cancel_requested_at = Some(now);
        ending::begin(&mut after, now)?;

        let written = commit(app, &before, after, now, Beside::default()).await?;
        kill_point!("cancel_after_commit");
        Ok(Some(written))
    })
}
