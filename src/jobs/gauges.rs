//! Measures what can be read from rows or the board alone, so that it is there although nothing happens: breakers,
//! scores, what waits for a route, what is in doubt. Changes nothing.

use std::sync::Arc;
use std::time::Duration;

use metrics::gauge;
use providers::provider::ProviderName;

use crate::app::App;
use crate::domain::Timestamp;
use crate::payments::schedule;
use crate::store::Waiting;

/// How often it measures.
const PAUSE: Duration = Duration::from_secs(2);

/// Runs until the gateway drains.
pub async fn run(app: Arc<App>) {
    while !app.draining.is_cancelled() {
        backlog(&app).await;
        tokio::select! {
            () = app.draining.cancelled() => {}
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

async fn backlog(app: &App) {
    let now = app.clock.now();
    match app.store.backlog(now.plus_s(-schedule::OFFER_MARGIN_S)).await {
        Ok(backlog) => {
            gauge!("interlock_parked_payments").set(number(backlog.parked.count));
            gauge!("interlock_parked_oldest_seconds").set(age_s(backlog.parked, now));
            for protocol in providers::PROTOCOLS {
                let found = backlog.in_doubt.iter().find(|(provider, _)| *provider == protocol.name);
                in_doubt(protocol.name, found.map(|(_, waiting)| *waiting).unwrap_or_default(), now);
            }
        }
        Err(error) => tracing::error!(%error, "what waits could not be counted"),
    }
}

fn in_doubt(provider: ProviderName, waiting: Waiting, now: Timestamp) {
    gauge!("interlock_attempts_in_doubt", "provider" => provider.as_str()).set(number(waiting.count));
    gauge!("interlock_attempts_in_doubt_oldest_seconds", "provider" => provider.as_str()).set(age_s(waiting, now));
}

fn number(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

/// How long the oldest one waits; 0 when none does.
fn age_s(waiting: Waiting, now: Timestamp) -> f64 {
    let age_ms = waiting.oldest.map_or(0, |oldest| now.since(oldest).max(0));
    number(u64::try_from(age_ms / 1_000).unwrap_or(0))
}
