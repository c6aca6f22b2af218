//! Looks for payments whose time has come, and has them advanced.

use std::sync::Arc;

use sea_orm::DbErr;
use tokio::task::JoinSet;
use tracing::Instrument as _;

use crate::app::App;
use crate::payments::resolve;

/// Runs until the gateway drains; what is under way then is finished.
pub async fn run(app: Arc<App>) {
    let mut working = JoinSet::new();
    loop {
        while working.try_join_next().is_some() {}
        let free = app.config.resolver.batch.saturating_sub(working.len());
        match claim(&app, free).await {
            Ok(claimed) => {
                for payment_id in claimed {
                    let work = app.tasks.track_future(advance(Arc::clone(&app), payment_id));
                    working.spawn_on(work, &app.runtime);
                }
            }
            Err(error) => tracing::error!(%error, "due payments could not be looked for"),
        }
        let next = app.clock.now().plus_ms(app.config.resolver.interval_ms);
        tokio::select! {
            () = app.draining.cancelled() => break,
            () = app.clock.sleep_until(next) => {}
        }
    }
    while working.join_next().await.is_some() {}
}

/// Does everything that is due now, and returns how many payments that were. For tests and drills.
///
/// # Errors
/// The database's.
pub async fn step(app: &Arc<App>) -> Result<usize, DbErr> {
    let claimed = claim(app, app.config.resolver.batch).await?;
    let count = claimed.len();
    let mut working = JoinSet::new();
    for payment_id in claimed {
        working.spawn_on(advance(Arc::clone(app), payment_id), &app.runtime);
    }
    while working.join_next().await.is_some() {}
    Ok(count)
}

async fn claim(app: &App, limit: usize) -> Result<Vec<String>, DbErr> {
    let Some(limit) = u64::try_from(limit).ok().filter(|limit| *limit > 0) else { return Ok(Vec::new()) };
    let now = app.clock.now();
    app.store.claim_due(now, now.plus_s(app.config.resolver.lease_s), limit).await
}

async fn advance(app: Arc<App>, payment_id: String) {
    let span = tracing::info_span!("resolve", payment_id);
    if let Err(error) = resolve::advance(&app, &payment_id).instrument(span).await {
        tracing::warn!(payment_id, %error, "a payment could not be advanced");
        if let Err(error) = resolve::stuck(&app, &payment_id, &error).await {
            tracing::error!(payment_id, %error, "work list not written");
        }
    }
}
