//! Outcomes that are known and could not be written down. Each is kept in memory and written as soon as that is possible;
//! until then this gateway asks no provider for money: the next payer would be charged without anybody knowing of it.
//!
//! If the process dies meanwhile, the attempt's row still says `sending`, and the resolver asks what became of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use providers::outcome::{Answer, Created};

use super::Trouble;
use super::pay::{self, Asker, Settled};
use crate::app::App;
use crate::domain::Aggregate;
use crate::store::CommitError;

/// The pauses between two tries.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// After so long the resolver has asked the provider itself.
const KEPT_FOR: Duration = Duration::from_secs(600);

/// What a call has brought.
#[derive(Debug, Clone)]
pub(super) struct Brought {
    pub(super) attempt_id: String,
    pub(super) answer: Answer<Created>,
    pub(super) latency_ms: i64,
}

/// Whether it failed because the database did, which may be over soon.
pub(super) const fn may_be_written_later(trouble: &Trouble) -> bool {
    matches!(trouble, Trouble::Commit(CommitError::Unavailable(_)) | Trouble::Database(_))
}

/// Writes it down later, and goes on with the payment from there.
pub(super) fn keep(app: &Arc<App>, before: Aggregate, brought: Brought, asker: Asker) {
    let kept = app.unwritten.one_more();
    let worker = Arc::clone(app);
    let work: std::pin::Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(async move {
        let payment_id = before.payment.id.clone();
        tracing::error!(payment_id, "what a provider has answered cannot be written down; it is kept until it can");
        match write(&worker, before, &brought, &asker).await {
            // Whoever stood at the till was told something by now: his code is not used behind his back. Nothing is sent, and
            // the resolver ends the attempt.
            Ok(Some(Settled::Switching(planned))) if planned.payment.flow.takes_money() => {
                tracing::warn!(payment_id, "too late for another charge; the resolver ends it");
            }
            Ok(Some(Settled::Switching(planned))) => {
                drop(kept);
                if let Err(error) = pay::run(&worker, planned, asker).await {
                    tracing::warn!(payment_id, %error, "the resolver goes on with this payment");
                }
            }
            Ok(Some(Settled::Over(_))) => tracing::info!(payment_id, "what a provider had answered is written down"),
            Ok(None) => tracing::error!(payment_id, "given up; the resolver asks the provider"),
            Err(error) => tracing::error!(payment_id, %error, "the resolver asks the provider"),
        }
    });
    app.spawn(work);
}

async fn write(
    app: &Arc<App>,
    before: Aggregate,
    brought: &Brought,
    asker: &Asker,
) -> Result<Option<Settled>, Trouble> {
    let (began, mut pause) = (Instant::now(), FIRST_PAUSE);
    while began.elapsed() < KEPT_FOR && !app.draining.is_cancelled() {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
        match pay::settle(app, before.clone(), brought, asker.key.as_ref()).await {
            Err(trouble) if may_be_written_later(&trouble) => {}
            settled => return settled.map(Some),
        }
    }
    Ok(None)
}
