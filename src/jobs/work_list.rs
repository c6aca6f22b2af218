//! Closes entries of the work list whose cause has gone by itself, and says so in their rows. Decides nothing.

use std::sync::Arc;

use sea_orm::DbErr;

use crate::app::App;
use crate::payments::work_list::close_gone;

/// Pause between two looks through the list, in milliseconds.
const PAUSE_MS: i64 = 5_000;

/// Runs until the gateway drains.
pub async fn run(app: Arc<App>) {
    while !app.draining.is_cancelled() {
        if let Err(error) = step(&app).await {
            tracing::error!(%error, "the work list could not be looked through");
        }
        let next = app.clock.now().plus_ms(PAUSE_MS);
        tokio::select! {
            () = app.draining.cancelled() => {}
            () = app.clock.sleep_until(next) => {}
        }
    }
}

/// One look through the whole list.
///
/// # Errors
/// The database's.
pub async fn step(app: &App) -> Result<(), DbErr> {
    let mut after = String::new();
    while let Some(last) = close_gone(app, &after).await? {
        after = last;
        if app.draining.is_cancelled() {
            break;
        }
    }
    Ok(())
}
