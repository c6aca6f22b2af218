//! Lets payments that wait for a route go on when one is able again: oldest first, and gently, so
//! that a provider that has just come back is not the next one to fall over. A payment that this
//! forgets goes on by itself, later: its row says when. Merchants share what goes on at once.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};

use crate::app::App;
use crate::domain::id::PaymentId;
use crate::domain::payment::WaitQueue;
use crate::domain::{AllOwners, time};
use crate::payments::{self, queue};
use crate::routing::share::Shares;
use crate::store;

use super::{Failed, Job, Next, periodic};

/// How often the lines are looked at.
const PAUSE: Duration = Duration::from_millis(300);
/// So many of a line are looked through for some that have a route.
const LOOKED_THROUGH: u64 = 64;
/// So many go on at the same time, of all lines.
const AT_ONCE: usize = 128;

/// Runs until the gateway drains.
pub async fn run(app: Arc<App>) {
    periodic(app, PAUSE, "queue", GoingOn::default()).await;
}

/// The batches that are under way, one for each line at the most, each with how many payments it
/// has.
#[derive(Default)]
struct GoingOn {
    batches: HashMap<WaitQueue, (JoinHandle<()>, u64)>,
    ended: Arc<Notify>,
}

impl Job for GoingOn {
    const FOLLOWS_JUMPS: bool = false;

    async fn step(&mut self, app: &Arc<App>) -> Result<Next, Failed> {
        self.batches.retain(|_, (batch, _)| !batch.is_finished());
        step(app, self).await?;
        Ok(Next::Pause)
    }

    /// A line whose batch is over sends its next one.
    async fn woken(&mut self) {
        self.ended.notified().await;
    }

    async fn end(&mut self, _app: &Arc<App>) {
        for (_, (batch, _)) in self.batches.drain() {
            let _ = batch.await;
        }
    }
}

/// Each line that has somebody with a route sends its next batch, once its last one is over.
async fn step(app: &Arc<App>, going_on: &mut GoingOn) -> Result<(), payments::Error> {
    let lines = app.store.lines(AllOwners).await?;
    app.queue.keep(&lines);
    let mut shares = Shares::new(AT_ONCE);
    for (line, (_, batch)) in &going_on.batches {
        shares.hold(&line.owner, *batch);
    }
    for (line, _) in lines {
        if going_on.batches.contains_key(&line) {
            continue;
        }
        let may = app.queue.may_go_on(&line, app.health.now_ms());
        let batch = (0..may).take_while(|_| shares.take(&line.owner)).count();
        let batch = u64::try_from(batch).unwrap_or(0);
        if batch == 0 {
            continue;
        }
        let claimed = claim(app, &line, batch).await?;
        if !claimed.is_empty() {
            let length = u64::try_from(claimed.len()).unwrap_or(u64::MAX);
            let (sending, ended) = (
                send(Arc::clone(app), line.clone(), claimed),
                Arc::clone(&going_on.ended),
            );
            let batch = app.spawn(async move {
                sending.await;
                ended.notify_one();
            });
            going_on.batches.insert(line, (batch, length));
        }
    }

    Ok(())
}

/// Takes the oldest of a line that have a route.
async fn claim(app: &App, line: &WaitQueue, batch: u64) -> Result<Vec<PaymentId>, payments::Error> {
    let now = app.clock.now();
    let mut ready = Vec::new();
    let head = app.store.head_of_line(line, now, LOOKED_THROUGH).await?;
    let first = head.first().cloned();

    for aggregate in head {
        if u64::try_from(ready.len()).unwrap_or(u64::MAX) >= batch {
            break;
        }
        if queue::has_route(app, &aggregate, now)? {
            ready.push(aggregate.payment.id);
        }
    }

    if let (true, Some(first)) = (ready.is_empty(), first) {
        match queue::waits_for(app, &first, now)? {
            Some((wait, since_ms)) => app.queue.waits(line, wait, since_ms, app.health.now_ms()),
            None => app.queue.waits_for_the_clock(line),
        }
    }

    Ok(claim_parked(app, ready).await?)
}

async fn claim_parked(app: &App, ready: Vec<PaymentId>) -> Result<Vec<PaymentId>, store::Error> {
    if ready.is_empty() {
        return Ok(ready);
    }
    let now = app.clock.now();
    app.store
        .claim_parked(&ready, now, now.plus(app.config.resolver.lease))
        .await
}

async fn send(app: Arc<App>, line: WaitQueue, claimed: Vec<PaymentId>) {
    let began_ms = app.health.now_ms();
    let batch = u64::try_from(claimed.len()).unwrap_or(u64::MAX);
    let mut going_on = JoinSet::new();

    for payment_id in claimed {
        let app = Arc::clone(&app);
        going_on.spawn(async move {
            let released = queue::go_on(&app, &payment_id).await;
            if let Err(error) = &released {
                tracing::warn!(%payment_id, %error, "a payment that waited for a route could not go \
                                                    on");
            }
            released.unwrap_or(false)
        });
    }

    let mut found = 0;
    while let Some(ended) = going_on.join_next().await {
        found += u64::from(ended.unwrap_or(false));
    }
    let now_ms = app.health.now_ms();

    app.queue.released(
        &line,
        batch,
        found,
        now_ms
            .saturating_sub(began_ms)
            .saturating_add(time::ms(PAUSE)),
        now_ms,
    );
}
