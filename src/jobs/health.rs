//! Keeps what is known of routes' health fresh: time goes by on the board, routes that are taken out are probed, and
//! gateways tell each other through Redis what they have learned. No payment waits for any of it.

use std::sync::Arc;
use std::time::Duration;

use providers::order::{Call, OrderRef};
use tokio::task::JoinSet;

use crate::app::App;
use crate::domain::id;
use crate::routing::budget;
use crate::routing::health::Verdict;
use crate::routing::health::board::{Change, Probe};
use crate::routing::health::redis::{Exchanged, NoExchange, Place, Seen, Shared, Write};
use crate::routing::health::vital::Vital;
use crate::routing::health::watch;

/// How often time goes by on the board.
const TICK: Duration = Duration::from_millis(100);
/// While the store is away, it is tried again after pauses that double up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Lets time go by and probes, until the gateway drains.
pub async fn run(app: Arc<App>) {
    let mut probing = JoinSet::new();
    while !app.draining.is_cancelled() {
        app.health.tick();
        for due in app.health.probes_due(|route| app.directory.account(&route.account_id).is_some()) {
            probing.spawn(probe(Arc::clone(&app), due));
        }
        while probing.try_join_next().is_some() {}
        tokio::select! {
            () = app.draining.cancelled() => {}
            () = tokio::time::sleep(TICK) => {}
        }
    }
}

/// A signed question about an order that does not exist: nobody's payment is the one that finds out.
async fn probe(app: Arc<App>, due: Probe) {
    let verdict = match (app.directory.account(&due.route.account_id), id::provider_no(&app.prefix)) {
        (Some(account), Ok(order_no)) => {
            let now = app.clock.now().utc();
            let call = Call { now, timeout: Duration::from_millis(app.config.health.probe_timeout_ms) };
            let nobodys = OrderRef { order_no, txn_time: now, expires_at: now };
            let answer = account.provider.query(&nobodys, &call).await;
            watch::probe_verdict(&answer.outcome)
        }
        // Nothing was asked.
        (None, _) | (_, Err(_)) => Verdict::Nothing,
    };
    tracing::debug!(subject = %due.subject, ?verdict, "probed");
    app.health.probed(&due, verdict);
}

/// Exchanges what is known with the other gateways, until this one drains.
pub async fn share(app: Arc<App>, place: Place) {
    let config = &app.config;
    let mut sharing = Sharing {
        shared: Shared::new(place, Duration::from_millis(config.redis.timeout_ms)),
        seen: Seen::default(),
        epoch: id::token().unwrap_or_default(),
    };
    let interval = Duration::from_millis(config.health.interval_ms);
    let mut pause = interval;
    let mut is_up = None;
    while !app.draining.is_cancelled() {
        let exchanged = sharing.exchange(&app).await;
        if is_up != Some(exchanged.is_ok()) {
            is_up = Some(exchanged.is_ok());
            match &exchanged {
                Ok(()) => tracing::info!("health is shared with the other gateways"),
                Err(error) => {
                    tracing::error!(%error, "Redis is away: health is this gateway's own until it is back");
                }
            }
        }
        app.health.board().set_shared(exchanged.is_ok());
        metrics::gauge!("interlock_shared_health_up").set(if exchanged.is_ok() { 1.0 } else { 0.0 });
        pause = if exchanged.is_ok() { interval } else { (pause * 2).min(LONGEST_PAUSE) };
        tokio::select! {
            () = app.draining.cancelled() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

struct Sharing {
    shared: Shared,
    seen: Seen,
    /// Names the store's life if this gateway is the first to write to an empty one.
    epoch: String,
}

impl Sharing {
    async fn exchange(&mut self, app: &App) -> Result<(), NoExchange> {
        let changes = app.health.board().take_changes();
        let mut writes: Vec<Write> = changes.into_iter().filter_map(written).collect();
        let budget = app.budget.take_write();
        writes.extend(budget.map(|(expected, value)| Write { subject: budget::SUBJECT.to_owned(), expected, value }));
        let exchanged = self.shared.exchange(&self.epoch, &self.seen, &writes).await?;
        app.health.follow(exchanged.now_ms);
        if !exchanged.known {
            // It was emptied, or a replica that lags has taken over: whatever it lacks is written anew.
            app.health.board().reseed();
            app.budget.reseed();
        }
        self.take_over(app, exchanged);
        Ok(())
    }

    fn take_over(&mut self, app: &App, exchanged: Exchanged) {
        for stored in exchanged.changed {
            if stored.subject == budget::SUBJECT {
                if !app.budget.adopt(stored.version, &stored.value) {
                    tracing::warn!("somebody has written what is no budget of retries");
                }
                continue;
            }
            let read = stored.subject.parse().ok().zip(serde_json::from_str::<Vital>(&stored.value).ok());
            let adopted = read.is_some_and(|(subject, vital)| {
                app.health.board().adopt(&subject, vital, stored.version, app.health.now_ms())
            });
            if !adopted {
                tracing::warn!(subject = stored.subject, "somebody has written what is no health");
            }
        }
        self.seen = exchanged.seen;
    }
}

fn written(change: Change) -> Option<Write> {
    let value = serde_json::to_string(&change.vital).ok()?;
    Some(Write { subject: change.subject.to_string(), expected: change.version, value })
}
