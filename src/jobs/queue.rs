//! Lets payments that wait for a route go on when one is able again: oldest first, and gently, so that a provider that
//! has just come back is not the next one to fall over. A payment that this forgets goes on by itself, later: its row
//! says when.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use sea_orm::DbErr;
use tokio::task::{JoinHandle, JoinSet};

use crate::app::App;
use crate::domain::payment::Line;
use crate::payments::{Trouble, queue};

/// How often the lines are looked at.
const PAUSE: Duration = Duration::from_millis(300);
/// So many of a line are looked through for some that have a route.
const LOOKED_THROUGH: u64 = 64;

/// Runs until the gateway drains.
pub async fn run(app: Arc<App>) {
    let mut going_on: HashMap<Line, JoinHandle<()>> = HashMap::new();
    while !app.draining.is_cancelled() {
        going_on.retain(|_, batch| !batch.is_finished());
        if let Err(error) = step(&app, &mut going_on).await {
            tracing::error!(%error, "payments that wait for a route could not be looked for");
        }
        tokio::select! {
            () = app.draining.cancelled() => {}
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
    for (_, batch) in going_on {
        let _ = batch.await;
    }
}

/// Each line that has somebody with a route sends its next batch, once its last one is over.
async fn step(app: &Arc<App>, going_on: &mut HashMap<Line, JoinHandle<()>>) -> Result<(), Trouble> {
    let lines = app.store.lines().await?;
    app.queue.keep(&lines);
    for (line, _) in lines {
        let batch = app.queue.may_go_on(&line, app.health.now_ms());
        if batch == 0 || going_on.contains_key(&line) {
            continue;
        }
        let claimed = claim(app, &line, batch).await?;
        if !claimed.is_empty() {
            going_on.insert(line.clone(), app.spawn(send(Arc::clone(app), line, claimed)));
        }
    }
    Ok(())
}

/// Takes the oldest of a line that have a route.
async fn claim(app: &App, line: &Line, batch: u64) -> Result<Vec<String>, Trouble> {
    let now = app.clock.now();
    let mut ready = Vec::new();
    for aggregate in app.store.head_of_line(line, now, LOOKED_THROUGH).await? {
        if u64::try_from(ready.len()).unwrap_or(u64::MAX) >= batch {
            break;
        }
        if queue::has_route(app, &aggregate, now)? {
            ready.push(aggregate.payment.id);
        }
    }
    Ok(call_up(app, ready).await?)
}

async fn call_up(app: &App, ready: Vec<String>) -> Result<Vec<String>, DbErr> {
    if ready.is_empty() {
        return Ok(ready);
    }
    let now = app.clock.now();
    app.store.call_up(&ready, now, now.plus_s(app.config.resolver.lease_s)).await
}

async fn send(app: Arc<App>, line: Line, claimed: Vec<String>) {
    let began_ms = app.health.now_ms();
    let batch = u64::try_from(claimed.len()).unwrap_or(u64::MAX);
    let mut going_on = JoinSet::new();
    for payment_id in claimed {
        let app = Arc::clone(&app);
        going_on.spawn(async move {
            let went_on = queue::go_on(&app, &payment_id).await;
            if let Err(error) = &went_on {
                tracing::warn!(payment_id, %error, "a payment that waited for a route could not go on");
            }
            went_on.unwrap_or(false)
        });
    }
    let mut found = 0;
    while let Some(ended) = going_on.join_next().await {
        found += u64::from(ended.unwrap_or(false));
    }
    let now_ms = app.health.now_ms();
    app.queue.went_on(&line, batch, found, now_ms.saturating_sub(began_ms).saturating_add(millis(PAUSE)), now_ms);
}

fn millis(pause: Duration) -> i64 {
    i64::try_from(pause.as_millis()).unwrap_or(i64::MAX)
}
