//! Tells merchants what happened, as insistently as the provider does: until it is acknowledged in
//! the provider's own way or its schedule is over. Every sending is written down. It never changes
//! the book.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::join;
use http::StatusCode;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::book::{Event, Order};
use super::charset::Charset;
use super::clock::Clock;
use super::fault::{Faults, NotificationFault};
use super::simulator::{Alteration, Notice, Outgoing, Simulator};
use crate::http::client_builder;
use crate::money::Money;
use crate::signing::sha256_hex;

/// A merchant has this long to answer (WeChat Pay 5.2: 5 s).
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// No provider's acknowledgement is longer; the rest is not read.
const MAX_ANSWER_BYTES: usize = 4 << 10;
/// How many are on the wire at once.
const MAX_IN_FLIGHT: usize = 128;
/// How long a notification is held for another one to overtake it, when nobody says.
const REORDER_HOLD: Duration = Duration::from_secs(5);

/// Sends notifications and remembers them.
pub(super) struct Notifier {
    http: reqwest::Client,
    clock: Clock,
    faults: Arc<Faults>,
    log: Mutex<Log>,
    remembers: usize,
    /// How many went out so far: whoever is held waits for it to change.
    gone_out: watch::Sender<u64>,
    in_flight: Semaphore,
    deliveries: Mutex<JoinSet<()>>,
}

/// What was sent.
#[derive(Debug, Default)]
struct Log {
    /// The last ones.
    entries: VecDeque<Value>,
    /// All of them.
    sent: u64,
}

/// One notification, sent once or often.
#[derive(Debug)]
pub(super) struct Delivery {
    pub(super) face: Arc<dyn Simulator>,
    pub(super) event: Event,
    /// As it was when it happened: a later refund does not change what is told.
    pub(super) order: Order,
    pub(super) id: String,
}

impl std::fmt::Debug for Notifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Notifier")
    }
}

impl Notifier {
    pub(super) fn new(clock: Clock, faults: Arc<Faults>, remembers: usize) -> Result<Self, String> {
        let http = client_builder()?
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .http1_only()
            // A copy of a notification comes over another connection, and so to another gateway.
            .pool_max_idle_per_host(0)
            .timeout(ANSWER_TIMEOUT)
            .build()
            .map_err(|e| e.to_string())?;

        Ok(Self {
            http,
            clock,
            faults,
            log: Mutex::default(),
            remembers,
            gone_out: watch::Sender::new(0),
            in_flight: Semaphore::new(MAX_IN_FLIGHT),
            deliveries: Mutex::default(),
        })
    }

    /// Begins to deliver.
    pub(super) fn start(self: &Arc<Self>, delivery: Delivery) {
        let mut deliveries = self.deliveries.lock();
        while deliveries.try_join_next().is_some() {}
        let this = Arc::clone(self);
        deliveries.spawn(async move { this.deliver(&delivery).await });
    }

    /// Ends all deliveries where they stand.
    pub(super) fn stop(&self) {
        self.deliveries.lock().abort_all();
    }

    /// How many are being delivered: not taken yet, and to be sent again.
    pub(super) fn pending(&self) -> usize {
        let mut deliveries = self.deliveries.lock();
        while deliveries.try_join_next().is_some() {}
        deliveries.len()
    }

    /// What was sent, oldest first; how much that was in all; and how much is still to be sent
    /// again.
    pub(super) fn told(&self) -> Value {
        let log = self.log.lock();
        let data: Vec<Value> = log.entries.iter().cloned().collect();
        json!({"data": data, "sent": log.sent, "pending": self.pending()})
    }

    async fn deliver(&self, delivery: &Delivery) {
        let mut waits = delivery.face.retry_schedule_s(&delivery.order).iter();
        while !self.send_under_faults(delivery).await {
            let Some(wait) = waits.next() else { return };
            self.clock
                .sleep_until(self.clock.now() + TimeDelta::seconds(i64::from(*wait)))
                .await;
        }
    }

    /// Sends once, with what faults make of it. Says whether it is settled.
    async fn send_under_faults(&self, delivery: &Delivery) -> bool {
        let Some(strike) = self
            .faults
            .strike_notification(delivery.face.provider(), self.clock.now())
        else {
            return self.send(delivery, None).await;
        };
        let fault = Some(strike.kind);

        match strike.kind {
            NotificationFault::Drop => {
                // Nobody sees the signature of what is lost, and making one takes longer than all
                // the rest.
                let Some(lost) = self.render(delivery, &delivery.order, Alteration::Unsigned)
                else {
                    return true;
                };
                self.remember(delivery, &lost, fault, &Value::Null);
                false
            }
            NotificationFault::Delay => {
                self.clock.sleep_until(self.later(strike.lateness())).await;
                self.send(delivery, fault).await
            }
            NotificationFault::Duplicate => {
                let (first, second) =
                    join(self.send(delivery, fault), self.send(delivery, fault)).await;
                first || second
            }
            NotificationFault::Reorder => {
                let mut others = self.gone_out.subscribe();
                let held_until = self.later(strike.latency.unwrap_or(REORDER_HOLD));
                tokio::select! {
                    // The sender lives in `self`.
                    _ = others.changed() => {}
                    () = self.clock.sleep_until(held_until) => {}
                }
                self.send(delivery, fault).await
            }
            NotificationFault::Misstate => {
                self.send_as(delivery, &forged(delivery), Alteration::None, fault)
                    .await
            }
            NotificationFault::Gbk => self.send_in(delivery, Charset::Gbk, fault).await,
            NotificationFault::Gb18030 => self.send_in(delivery, Charset::Gb18030, fault).await,
            NotificationFault::UnknownKey => {
                self.send_as(delivery, &delivery.order, Alteration::UnknownKey, fault)
                    .await
            }
            NotificationFault::Probe => {
                for alteration in [Alteration::Probe, Alteration::UnknownKey] {
                    self.send_as(delivery, &delivery.order, alteration, fault)
                        .await;
                }
                self.send(delivery, None).await
            }
            NotificationFault::Forge => {
                self.send_as(delivery, &forged(delivery), Alteration::BadSignature, fault)
                    .await;
                self.send(delivery, None).await
            }
        }
    }

    async fn send(&self, delivery: &Delivery, fault: Option<NotificationFault>) -> bool {
        self.send_as(delivery, &delivery.order, Alteration::None, fault)
            .await
    }

    async fn send_in(
        &self,
        delivery: &Delivery,
        charset: Charset,
        fault: Option<NotificationFault>,
    ) -> bool {
        self.send_as(
            delivery,
            &delivery.order,
            Alteration::Charset(charset),
            fault,
        )
        .await
    }

    async fn send_as(
        &self,
        delivery: &Delivery,
        order: &Order,
        alteration: Alteration,
        fault: Option<NotificationFault>,
    ) -> bool {
        // Never closed.
        let _permit = self.in_flight.acquire().await;
        let Some(outgoing) = self.render(delivery, order, alteration) else {
            return true;
        };
        let answer = self.post(&outgoing).await;
        self.gone_out.send_modify(|n| *n += 1);
        let (shown, settled) = match &answer {
            Ok((status, body)) => {
                let text: String = String::from_utf8_lossy(body).chars().take(200).collect();
                let taken = delivery.face.acknowledged(*status, body);
                (
                    json!({"status": status.as_u16(), "body": text, "acknowledged": taken}),
                    taken,
                )
            }
            Err(error) => (json!({"error": error.to_string()}), false),
        };

        self.remember(delivery, &outgoing, fault, &shown);
        settled
    }

    fn render(
        &self,
        delivery: &Delivery,
        order: &Order,
        alteration: Alteration,
    ) -> Option<Outgoing> {
        let notice = Notice {
            event: &delivery.event,
            order,
            id: &delivery.id,
            now: self.clock.now(),
            alteration,
        };
        delivery.face.notification(&notice)
    }

    async fn post(&self, outgoing: &Outgoing) -> Result<(StatusCode, Bytes), reqwest::Error> {
        let request = self
            .http
            .post(&outgoing.url)
            .headers(outgoing.headers.clone())
            .body(outgoing.body.clone());
        let mut response = request.send().await?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            body.extend_from_slice(&chunk);
            if body.len() > MAX_ANSWER_BYTES {
                break;
            }
        }
        Ok((response.status(), body.into()))
    }

    fn remember(
        &self,
        delivery: &Delivery,
        sent: &Outgoing,
        fault: Option<NotificationFault>,
        answer: &Value,
    ) {
        let mut log = self.log.lock();
        if log.entries.len() >= self.remembers {
            log.entries.pop_front();
        }
        log.sent += 1;

        log.entries.push_back(json!({
            "id": delivery.id,
            "provider": delivery.face.provider().as_str(),
            "event": delivery.event,
            "order_no": delivery.order.key.order_no,
            "url": sent.url,
            "body_sha256": sha256_hex(&sent.body),
            "at": self.clock.now(),
            "fault": fault.map(|f| f.to_string()),
            "answer": answer,
        }));
    }

    fn later(&self, by: Duration) -> DateTime<Utc> {
        self.clock.now() + TimeDelta::from_std(by).unwrap_or(TimeDelta::zero())
    }
}

/// The order as somebody without the key would tell it: with another amount.
fn forged(delivery: &Delivery) -> Order {
    let another = |amount: Money| Money::fen(amount.minor().saturating_add(1)).unwrap_or(amount);
    let mut order = delivery.order.clone();
    order.amount = another(order.amount);
    for refund in order.refunds.values_mut() {
        refund.amount = another(refund.amount);
    }
    order
}
