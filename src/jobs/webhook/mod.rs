//! Tells merchants: makes deliveries of new events, sends those that are due, and writes down what
//! came of it.
//!
//! The rows decide what is sent. What is kept in memory here is only politeness towards receivers
//! ([`per_receiver`]): after a restart it is learned again. A delivery whose result cannot be
//! written is sent again: at least once, never less.

mod per_receiver;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use strum::{IntoEnumIterator as _, VariantNames as _};
use tokio::task::{Id, JoinError, JoinSet};

use crate::app::App;
use crate::domain::id;
use crate::domain::operation::ReviewKind;
use crate::domain::webhook::{self, End, Mode, State};
use crate::domain::{self, AllOwners, Owner, Timestamp};
use crate::kill_point;
use crate::routing::share::Shares;
use crate::store::change::ReviewItem;
use crate::store::{self, DeliveryAttempt, DeliveryRow, EndpointRow, EventRow};
use crate::webhooks::client::{SignedRequest, Try};
use crate::webhooks::message::Message;
use crate::webhooks::sign::{self, Secret, Secrets};

use per_receiver::{Lanes, Waiting, divide};

use super::{Failed, Job, Next, periodic};

/// A worker has its delivery for itself for so much longer than a try can take.
const LEASE_GRACE: Duration = Duration::from_secs(15);
/// Metrics, alerts and the log's end are looked after so often.
const UPKEEP_EVERY: Duration = Duration::from_secs(10);
const DAY_S: i64 = 86_400;
/// So many times events are taken before what is due is sent.
const FAN_OUTS: u32 = 8;

/// Runs until the gateway drains; what is under way then is finished and written down.
pub async fn run(app: Arc<App>) {
    let every = app.config.webhooks.interval;
    tokio::join!(
        periodic(Arc::clone(&app), every, "webhooks", Dispatcher::default()),
        periodic(
            Arc::clone(&app),
            UPKEEP_EVERY,
            "webhooks looked after",
            Upkeep
        ),
    );
}

impl Job for Dispatcher {
    const FOLLOWS_JUMPS: bool = true;

    async fn step(&mut self, app: &Arc<App>) -> Result<Next, Failed> {
        for done in std::mem::take(&mut self.back) {
            self.take_back(app, done);
        }
        self.record(app).await;
        let set_back_ms = app.clock.set_back_ms();
        if set_back_ms > self.brought_back_ms {
            app.store
                .bring_back_tries(app.clock.now(), set_back_ms - self.brought_back_ms)
                .await?;
            self.brought_back_ms = set_back_ms;
        }
        let claimed = self.round(app).await?;
        Ok(if claimed > 0 { Next::More } else { Next::Pause })
    }

    async fn woken(&mut self) {
        match self.working.join_next_with_id().await {
            Some(done) => self.back.push(done),
            None => std::future::pending().await,
        }
    }

    async fn end(&mut self, app: &Arc<App>) {
        for done in std::mem::take(&mut self.back) {
            self.take_back(app, done);
        }
        while let Some(done) = self.working.join_next_with_id().await {
            self.take_back(app, done);
        }
        self.record(app).await;
    }
}

struct Upkeep;

impl Job for Upkeep {
    const FOLLOWS_JUMPS: bool = true;

    async fn step(&mut self, app: &Arc<App>) -> Result<Next, Failed> {
        upkeep(app).await?;
        Ok(Next::Pause)
    }
}

/// Does everything that is due now, and returns how many tries that were. For tests and drills.
///
/// # Errors
/// The database's.
pub async fn step(app: &Arc<App>) -> Result<usize, store::Error> {
    let mut dispatcher = Dispatcher::default();
    dispatcher.round(app).await?;
    let mut count = 0;
    while let Some(done) = dispatcher.working.join_next_with_id().await {
        dispatcher.take_back(app, done);
        count += 1;
    }
    dispatcher.record(app).await;
    Ok(count)
}

/// A delivery that came back from its receiver.
struct Returned {
    row: DeliveryRow,
    done: Try,
}

/// What is under way.
#[derive(Default)]
struct Dispatcher {
    working: JoinSet<Option<Returned>>,
    /// Each with its receiver's lane and its owner.
    running: HashMap<Id, (String, String)>,
    /// What came back while nothing else was to be done.
    back: Vec<Result<(Id, Option<Returned>), JoinError>>,
    lanes: Lanes,
    /// What waits has been brought back by so much since this gateway began.
    brought_back_ms: i64,
    unrecorded: Vec<DeliveryRow>,
}

impl Dispatcher {
    /// Makes deliveries of new events, and sends what is due and has room. Returns how much that
    /// was.
    async fn round(&mut self, app: &Arc<App>) -> Result<usize, store::Error> {
        let config = &app.config.webhooks;
        // Somebody who makes events faster than this keeps nobody from being told of theirs.
        for _ in 0..FAN_OUTS {
            if app
                .store
                .fan_out(app.clock.now(), config.batch, before_fan_out_commit)
                .await?
                == 0
            {
                break;
            }
            kill_point!("webhook_after_fan_out_commit");
        }

        let (now, steady) = (app.clock.now(), app.clock.steady_ms());
        let due = app.store.due_lanes(now).await?;
        if due.is_empty() {
            return Ok(0);
        }
        let mut shares = Shares::new(config.concurrency);
        self.running
            .values()
            .for_each(|(_, owner)| shares.hold(owner, 1));

        let lanes = due.into_iter().map(|(lane, owner)| {
            let busy = self
                .running
                .values()
                .filter(|(running, _)| *running == lane)
                .count();
            let room = self.lanes.room(&lane, busy, config.per_receiver, steady);
            Waiting { lane, owner, room }
        });
        let wanted = divide(lanes.collect(), &mut shares);
        let lease_until = now.plus(config.timeout).plus(LEASE_GRACE);

        let claimed = app
            .store
            .claim_deliveries(&wanted, now, lease_until)
            .await?;
        if claimed.is_empty() {
            return Ok(0);
        }
        kill_point!("webhook_after_claim");
        let count = claimed.len();
        self.send(app, claimed).await?;

        Ok(count)
    }

    async fn send(
        &mut self,
        app: &Arc<App>,
        claimed: Vec<DeliveryRow>,
    ) -> Result<(), store::Error> {
        let events = app
            .store
            .events_by_id(
                AllOwners,
                claimed.iter().map(|row| row.event_id.clone()).collect(),
            )
            .await?;
        let endpoints = app
            .store
            .endpoints(
                AllOwners,
                claimed
                    .iter()
                    .filter_map(|row| row.endpoint_id.clone())
                    .collect(),
            )
            .await?;

        let endpoints: HashMap<String, EndpointRow> =
            endpoints.into_iter().map(|e| (e.id.clone(), e)).collect();
        for row in claimed {
            let Some(event) = events.get(&row.event_id).cloned() else {
                continue;
            };
            let endpoint = row
                .endpoint_id
                .as_ref()
                .and_then(|id| endpoints.get(id))
                .cloned();
            let of = (row.lane.clone(), row.owner.to_string());
            let work = app
                .tasks
                .track_future(deliver(Arc::clone(app), row, event, endpoint));
            let task = self.working.spawn_on(work, &app.runtime);
            self.running.insert(task.id(), of);
        }

        Ok(())
    }

    /// Takes back this one and all others that are done.
    fn take_back(&mut self, app: &App, done: Result<(Id, Option<Returned>), JoinError>) {
        let mut next = Some(done);

        while let Some(done) = next {
            let (id, returned) = match done {
                Ok((id, returned)) => (id, returned),
                // It is claimed again when its lease is over.
                Err(error) => (error.id(), None),
            };
            self.running.remove(&id);
            if let Some(Returned { row, done }) = returned {
                let now = app.clock.now();
                self.lanes.note(
                    &row.lane,
                    &done,
                    app.config.webhooks.failing_pace,
                    app.clock.steady_ms(),
                );
                self.unrecorded.push(judged(app, row, done, now));
            }
            next = self.working.try_join_next_with_id();
        }
    }

    /// Writes down what came back. What cannot be written is kept for the next time; if there is
    /// none, it is sent again.
    async fn record(&mut self, app: &App) {
        if self.unrecorded.is_empty() {
            return;
        }
        match app.store.record_tries(&self.unrecorded).await {
            Ok(()) => {
                kill_point!("webhook_after_record");
                for row in self.unrecorded.drain(..) {
                    report(app, &row).await;
                }
            }
            Err(error) => tracing::error!(%error, "results of webhooks could not be written"),
        }
    }
}

fn before_fan_out_commit() {
    kill_point!("webhook_before_fan_out_commit");
}

/// One try. `None` when it could not even be begun: the lease ends, and it is claimed again.
async fn deliver(
    app: Arc<App>,
    row: DeliveryRow,
    event: EventRow,
    endpoint: Option<EndpointRow>,
) -> Option<Returned> {
    let now = app.clock.now();
    let signed = match (&row.url, endpoint) {
        (Some(url), _) => signed_for_notify_url(&app, &row, url, event.into(), now).await,
        (None, Some(endpoint)) if endpoint.disabled_reason.is_none() => {
            SignedRequest::to_endpoint(app.directory.vault(), &endpoint, &event.into(), now)
                .map_err(|e| e.to_string())
        }
        (None, Some(_) | None) => {
            let done = Try {
                end: End::EndpointDisabled,
                status: None,
                latency_ms: 0,
                answer: None,
                retry_after_s: None,
            };
            return Some(Returned { row, done });
        }
    };

    let signed = signed
        .inspect_err(|error| {
            tracing::error!(
                delivery_id = row.id,
                error,
                "a webhook could not be written"
            )
        })
        .ok()?;
    let trace = app.traces.outgoing(&row.payment_id, "webhook");
    trace.set("event.id", row.event_id.to_string());
    trace.set("delivery.id", row.id.clone());
    trace.set("try", i64::from(row.tries.saturating_add(1)));

    // Whatever it says, the receiver may have the event from here on; only a good answer proves it.
    let done = trace.around(app.webhooks.send(signed)).await;
    let end: &'static str = done.end.into();
    trace.set("end", end);
    if done.end != End::Delivered {
        trace.failed(end);
    }
    kill_point!("webhook_after_call");

    Some(Returned { row, done })
}

async fn signed_for_notify_url(
    app: &App,
    row: &DeliveryRow,
    url: &str,
    message: Message,
    now: Timestamp,
) -> Result<SignedRequest, String> {
    let (vault, owner) = (app.directory.vault(), sign::notify_owner(&row.owner));
    let new = Secret::new()
        .map_err(|e| e.to_string())?
        .sealed(vault, &owner)
        .map_err(|e| e.to_string())?;
    let stored = app
        .store
        .notify_secret(&row.owner, new, now)
        .await
        .map_err(|e| e.to_string())?;

    let secrets = Secrets::open(vault, &owner, &stored.secrets, now).map_err(|e| e.to_string())?;
    Ok(SignedRequest::signed(
        &secrets,
        url.to_owned(),
        Mode::Standard,
        &message,
        now,
    ))
}

/// The row after this try.
fn judged(app: &App, row: DeliveryRow, done: Try, now: Timestamp) -> DeliveryRow {
    let tries = row.tries.saturating_add(1);
    let spread = id::random::<4>().map_or(0, u32::from_be_bytes);
    let (status, next_try_at) = webhook::after_try(
        done.end,
        tries,
        &app.config.webhooks.ladder,
        spread,
        done.retry_after_s,
        now,
    );

    let last = DeliveryAttempt {
        at: now.plus_ms(done.latency_ms.saturating_neg()),
        end: done.end,
        status: done.status,
        latency_ms: done.latency_ms,
        answer: done.answer,
    };

    DeliveryRow {
        status,
        tries,
        next_try_at,
        delivered_at: (status == State::Delivered).then_some(now),
        last: Some(last),
        ..row
    }
}

/// Makes the series of everything that can become of a try and of a delivery.
pub fn register() {
    for mode in domain::Mode::iter().map(domain::Mode::as_str) {
        for end in End::VARIANTS {
            metrics::counter!("interlock_webhook_tries_total", "mode" => mode, "result" => *end)
                .increment(0);
        }
        for status in State::VARIANTS
            .iter()
            .filter(|status| **status != <&'static str>::from(State::Pending))
        {
            metrics::counter!("interlock_webhook_deliveries_total", "mode" => mode,
                "status" => *status)
            .increment(0);
        }
    }
}

/// Counts a try, and says what a person should know.
async fn report(app: &App, row: &DeliveryRow) {
    let Some(last) = &row.last else { return };
    let (end, status): (&'static str, &'static str) = (last.end.into(), row.status.into());
    let mode = row.owner.mode.as_str();
    metrics::counter!("interlock_webhook_tries_total", "mode" => mode, "result" => end)
        .increment(1);
    let seconds =
        std::time::Duration::from_millis(u64::try_from(last.latency_ms).unwrap_or(0)).as_secs_f64();
    metrics::histogram!("interlock_webhook_try_seconds", "mode" => mode).record(seconds);

    tracing::info!(
        delivery_id = row.id,
        payment_id = %row.payment_id,
        end,
        http_status = last.status,
        ms = last.latency_ms,
        tries = row.tries,
        status,
        "webhook tried"
    );

    if row.status == State::Pending {
        return;
    }
    metrics::counter!("interlock_webhook_deliveries_total", "mode" => mode, "status" => status)
        .increment(1);
    if last.end == End::Gone {
        let endpoint_id = row.endpoint_id.as_deref();
        tracing::warn!(
            endpoint_id,
            payment_id = %row.payment_id,
            "a receiver wants no more webhooks: 410"
        );
    }

    if row.status == State::Failed && row.endpoint_id.is_none() {
        let detail = format!(
            "Webhooks to {} are given up, last of payment {}.",
            row.lane, row.payment_id
        );
        raise(app, &row.owner, &row.owner.merchant, detail).await;
    }
}

async fn upkeep(app: &App) -> Result<(), store::Error> {
    let (now, config) = (app.clock.now(), &app.config.webhooks);
    for mode in domain::Mode::iter() {
        let oldest = app
            .store
            .oldest_undelivered(mode)
            .await?
            .map_or(0, |at| now.since(at).max(0).div_euclid(1000));
        metrics::gauge!("interlock_webhook_oldest_undelivered_seconds", "mode" => mode.as_str())
            .set(f64::from(i32::try_from(oldest).unwrap_or(i32::MAX)));
    }

    let failing = app
        .store
        .failing_endpoints(AllOwners, now.minus(config.alert_after))
        .await?;
    for mode in domain::Mode::iter() {
        let count = failing
            .iter()
            .filter(|endpoint| endpoint.owner.mode == mode)
            .count();
        metrics::gauge!("interlock_webhook_endpoints_failing", "mode" => mode.as_str())
            .set(f64::from(u32::try_from(count).unwrap_or(u32::MAX)));
    }

    for endpoint in failing {
        let detail = format!(
            "This endpoint has received nothing since {}.",
            endpoint.since.rfc3339()
        );
        raise(app, &endpoint.owner, &endpoint.endpoint_id, detail).await;
    }

    app.store
        .prune_deliveries(now.plus_s(config.log_days.saturating_mul(DAY_S).saturating_neg()))
        .await
}

async fn raise(app: &App, owner: &Owner, subject_id: &str, detail: String) {
    let Ok(entry) = ReviewItem::new(
        owner,
        ReviewKind::WebhookFailing,
        subject_id,
        detail,
        app.clock.now(),
    ) else {
        return;
    };
    if let Err(error) = app.store.raise(&entry).await {
        tracing::error!(%error, subject_id, "failing webhooks could not be put on the work list");
    }
}
