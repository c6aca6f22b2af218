//! Keeps what is in memory true: the directory, how much of their day accounts have used, and the clock's distance from
//! the database's.

use std::sync::Arc;
use std::time::Duration;

use crate::app::App;

/// A skew beyond this is worth waking somebody for.
const ALARMING_SKEW_MS: i64 = 30_000;
/// A change made on another gateway shows here within a second, its reading included.
const PAUSE: Duration = Duration::from_millis(500);
/// The clock is compared after so many pauses: every 30 seconds.
const CLOCK_EVERY: u32 = 60;

/// Runs until the gateway drains.
pub async fn run(app: Arc<App>) {
    let mut pauses: u32 = 0;
    loop {
        if let Err(error) = app.directory.refresh().await {
            tracing::error!(%error, "accounts and routing could not be read again");
        }
        if let Err(error) = app.directory.refresh_usage(app.clock.now()).await {
            tracing::error!(%error, "the sums of the day could not be read");
        }
        tokio::select! {
            () = app.draining.cancelled() => return,
            () = tokio::time::sleep(PAUSE) => {}
        }
        pauses = pauses.wrapping_add(1);
        if pauses.is_multiple_of(CLOCK_EVERY) {
            compare_clocks(&app).await;
        }
    }
}

/// Takes over the database's time.
pub async fn compare_clocks(app: &App) {
    match app.store.time().await {
        Ok((database, round_trip)) => {
            let skew_ms = app.clock.follow(database, round_trip);
            if skew_ms.abs() > ALARMING_SKEW_MS {
                tracing::error!(skew_ms, "this machine's clock and the database's are far apart");
            }
        }
        Err(error) => tracing::error!(%error, "the database's time could not be read"),
    }
}
