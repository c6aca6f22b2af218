//! Keeps what is in memory true: the directory, and the clock's distance from the database's.

use std::sync::Arc;
use std::time::Duration;

use crate::app::App;

/// A skew beyond this is worth waking somebody for.
const ALARMING_SKEW_MS: i64 = 30_000;
/// The clock is compared every so many seconds.
const CLOCK_EVERY: u32 = 30;

/// Runs until the gateway drains.
pub async fn run(app: Arc<App>) {
    let mut second: u32 = 0;
    loop {
        tokio::select! {
            () = app.draining.cancelled() => return,
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
        second = second.wrapping_add(1);
        if let Err(error) = app.directory.refresh().await {
            tracing::error!(%error, "accounts and routing could not be read again");
        }
        if second.is_multiple_of(CLOCK_EVERY) {
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
