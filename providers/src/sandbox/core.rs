//! What all tasks of a sandbox share, and what can happen in it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use chrono::TimeDelta;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tokio::sync::{Mutex, Notify};

use super::book::{NewRefund, Order, OrderKey, Refusal, SharedBook};
use super::clock::Clock;
use super::fault::Faults;
use super::notify::{Delivery, Notifier};
use super::payer::{self, Holding, Wish};
use super::server::{Door, Gate};
use super::simulator::{CallKind, Request, Simulator};
use crate::money::Money;
use crate::provider::ProviderName;

/// Whose time goes with the sandbox's. It is given how far ahead of the machine's time the
/// sandbox's will be; when it does not go along, it says why, and nothing is moved.
pub type Companion = Box<dyn Fn(TimeDelta) -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// What all of its tasks share.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) faces: Vec<(Arc<dyn Simulator>, Door)>,
    pub(super) book: SharedBook,
    pub(super) clock: Clock,
    pub(super) faults: Arc<Faults>,
    pub(super) notifier: Arc<Notifier>,
    /// Tells the timers that something may be due earlier than they know.
    pub(super) due_changed: Notify,
    /// One at a time looks at the faults and opens or closes listeners.
    pub(super) gates: Mutex<()>,
    /// Where clients find the faces, once they listen.
    pub(super) addresses: parking_lot::Mutex<Vec<(ProviderName, SocketAddr)>>,
    pub(super) companion: OnceLock<Together>,
    /// One at a time moves the clock.
    pub(super) moving: Mutex<()>,
    /// How often each provider was called, answered or not.
    pub(super) calls: parking_lot::Mutex<BTreeMap<ProviderName, BTreeMap<String, u64>>>,
}

pub(super) struct Together(pub(super) Companion);

impl std::fmt::Debug for Together {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Companion")
    }
}

impl Core {
    pub(super) fn count(&self, provider: ProviderName, call: Option<CallKind>) {
        let Some(call) = call else { return };
        let mut calls = self.calls.lock();
        *calls
            .entry(provider)
            .or_default()
            .entry(call.to_string())
            .or_default() += 1;
    }

    /// How often each provider was called: `{"alipay": {"create": 3, "query": 1}}`.
    pub(super) fn calls(&self) -> Value {
        let calls = self.calls.lock();
        calls
            .iter()
            .map(|(provider, calls)| (provider.to_string(), json!(calls)))
            .collect()
    }

    pub(super) fn providers(&self) -> Vec<ProviderName> {
        self.faces.iter().map(|(face, _)| face.provider()).collect()
    }

    pub(super) fn face_of(&self, key: &OrderKey) -> Option<&Arc<dyn Simulator>> {
        self.faces
            .iter()
            .map(|(face, _)| face)
            .find(|face| face.provider().as_str() == key.provider)
    }

    pub(super) fn credentials(&self) -> Value {
        let blocks = self
            .faces
            .iter()
            .map(|(face, _)| (face.provider().to_string(), face.credentials()));
        Value::Object(blocks.collect())
    }

    /// Where clients find each provider: `{"alipay": "http://127.0.0.1:8091"}`.
    pub(super) fn face_urls(&self) -> Value {
        let faces = self.addresses.lock();
        Value::Object(
            faces
                .iter()
                .map(|(name, address)| (name.to_string(), format!("http://{address}").into()))
                .collect(),
        )
    }

    pub(super) fn pay(&self, holding: &Holding, wish: Wish) -> Result<Order, Refusal> {
        let order = payer::act(
            &self.book,
            |key| self.face_of(key),
            holding,
            wish,
            self.clock.now(),
        );
        self.dispatch();
        // Late money goes back when its time comes.
        self.due_changed.notify_one();
        order
    }

    /// The payer of the order that a request is about pays, where that can still be paid. Numbers
    /// of orders are letters and digits: in every protocol they stand in a request as they are.
    pub(super) fn pay_what_is_asked_about(&self, provider: ProviderName, request: &Request) {
        let now = self.clock.now();
        let body = String::from_utf8_lossy(&request.body);
        let is_named = |number: &str| request.target.contains(number) || body.contains(number);
        let order_no = self
            .book
            .lock()
            .orders()
            .into_iter()
            .filter(|order| order.key.provider == provider.as_str() && order.is_payable(now))
            .map(|order| order.key.order_no.clone())
            .find(|number| is_named(number));

        if let Some(order_no) = order_no {
            // Its code may have died since: then there is nobody who could pay.
            let _ = self.pay(&Holding::OrderNo(order_no), Wish::Paid);
        }
    }

    /// Somebody gives money back in the provider's own console: under a number of its own, and done
    /// at once.
    pub(super) fn refund_by_hand(&self, order_no: &str, amount: Money) -> Result<Order, Refusal> {
        let now = self.clock.now();
        let mut book = self.book.lock();
        let order = book.by_order_no(order_no).ok_or(Refusal::Unknown)?.clone();
        let number = book.next_number();
        let refund_id = self
            .face_of(&order.key)
            .map(|face| face.transaction_id(number, now));
        let new = NewRefund {
            refund_no: format!("{}{number:012}", now.format("%Y%m%d")),
            refund_id: refund_id.ok_or(Refusal::Unknown)?,
            amount,
            reason: None,
            notify_url: order.notify_url.clone(),
            due_at: now,
            details: Value::Null,
        };

        book.refund(&order.key, new, now)?;
        let order = book.order(&order.key).cloned().ok_or(Refusal::Unknown);
        drop(book);
        self.dispatch();

        order
    }

    /// Begins to tell merchants of what happened in the book.
    pub(super) fn dispatch(&self) {
        let mut book = self.book.lock();
        for event in book.take_events() {
            let id = format!("{:032x}", book.next_number());
            let Some(order) = book.order(event.order()).cloned() else {
                continue;
            };
            if let Some(face) = self.face_of(&order.key) {
                self.notifier.start(Delivery {
                    face: Arc::clone(face),
                    event,
                    order,
                    id,
                });
            }
        }
    }

    /// Opens and closes listeners as the faults say, and lets the timers look again.
    pub(super) async fn faults_changed(&self) {
        self.due_changed.notify_one();
        self.set_gates().await;
    }

    pub(super) async fn set_gates(&self) {
        let _alone = self.gates.lock().await;
        let now = self.clock.now();
        for (face, door) in &self.faces {
            door.set(if self.faults.refuses(face.provider(), now) {
                Gate::Refusing
            } else {
                Gate::Open
            })
            .await;
        }
    }
}
