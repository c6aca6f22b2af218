//! Outcomes that are known and could not be written down. Each is kept in memory and written as
//! soon as that is possible; until then this gateway asks no provider for money: the next payer
//! would be charged without anybody knowing of it.
//!
//! If the process dies meanwhile, the attempt's row still says `sending`, and the resolver asks
//! what became of it.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Error;
use super::settle::{Brought, NextStep, settle};
use crate::app::App;
use crate::domain::Aggregate;
use crate::store::CommitError;
use crate::store::change::Key;

/// The pauses between two tries.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// After so long the resolver has asked the provider itself.
const KEPT_FOR: Duration = Duration::from_secs(600);

/// Whether it failed because the database did, which may be over soon.
pub(super) const fn may_be_written_later(trouble: &Error) -> bool {
    matches!(
        trouble,
        Error::Commit(CommitError::Unavailable(_)) | Error::Database(_)
    )
}

/// How a payment goes on over another route.
pub(super) type GoOn =
    Box<dyn FnOnce(Aggregate) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// Writes it down later, and goes on with the payment from there.
pub(super) fn keep(
    app: &Arc<App>,
    before: Aggregate,
    brought: Brought,
    key: Option<Key>,
    go_on: GoOn,
) {
    let kept = app.unwritten.one_more();
    let worker = Arc::clone(app);
    let work = async move {
        let payment_id = before.payment.id.clone();
        tracing::error!(
            %payment_id,
            "what a provider has answered cannot be written down; it is kept until it can"
        );
        match write(&worker, before, &brought, key.as_ref()).await {
            // Whoever stood at the till was told something by now: his code is not used behind his
            // back. Nothing is sent, and the resolver ends the attempt.
            Ok(Some(NextStep::Switching(planned))) if planned.payment.flow.is_charge() => {
                tracing::warn!(
                    %payment_id,
                    "too late for another charge; the resolver ends it"
                );
            }
            Ok(Some(NextStep::Switching(planned))) => {
                drop(kept);
                go_on(planned).await;
            }
            Ok(Some(NextStep::Over(_))) => {
                tracing::info!(%payment_id, "what a provider had answered is written down")
            }
            Ok(None) => tracing::error!(%payment_id, "given up; the resolver asks the provider"),
            Err(error) => tracing::error!(%payment_id, %error, "the resolver asks the provider"),
        }
    };

    app.spawn(work);
}

async fn write(
    app: &Arc<App>,
    before: Aggregate,
    brought: &Brought,
    key: Option<&Key>,
) -> Result<Option<NextStep>, Error> {
    let (began, mut pause) = (Instant::now(), FIRST_PAUSE);
    while began.elapsed() < KEPT_FOR && !app.draining.is_cancelled() {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
        match settle(app, before.clone(), brought, key).await {
            Err(trouble) if may_be_written_later(&trouble) => {}
            settled => return settled.map(Some),
        }
    }
    Ok(None)
}
