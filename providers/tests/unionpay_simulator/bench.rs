//! A sandbox with UnionPay alone, the adapter, and a merchant's endpoint that passes on what it is
//! told.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, NaiveTime, TimeDelta, Utc};
use http_body_util::{BodyExt as _, Full};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use providers::money::Money;
use providers::notification::{Notice, RawNotification};
use providers::order::{Call, Flow, Order, OrderRef, RefundOrder};
use providers::outcome::{QueryOutcome, RefundOutcome, RefundQueryOutcome};
use providers::provider::Provider;
use providers::sandbox::keys::Keys;
use providers::sandbox::{LOG, Options, Sandbox};
use providers::unionpay::PROTOCOL;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

pub const QR: &str = "IL20260701QR000001";
pub const SCAN: &str = "IL20260701SC000001";

pub struct Bench {
    pub sandbox: Sandbox,
    pub adapter: Arc<dyn Provider>,
    pub settings: Value,
    told: mpsc::UnboundedReceiver<RawNotification>,
    address: SocketAddr,
}

/// How long it is to ten in the morning in Beijing: what a test is about happens within one clearing
/// day, whenever the test is run.
fn until_morning(now: DateTime<Utc>) -> TimeDelta {
    let ten = NaiveTime::from_hms_opt(2, 0, 0).unwrap();
    let today = now.date_naive().and_time(ten).and_utc();
    if today > now {
        today - now
    } else {
        today + TimeDelta::days(1) - now
    }
}

impl Bench {
    pub async fn start() -> Self {
        Self::with(&json!({})).await
    }

    pub async fn with(change: &Value) -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let keys = (providers::sandbox::simulated("unionpay").unwrap().make_keys)().unwrap();
        let keys: Keys = serde_json::from_value(json!({ "unionpay": keys })).unwrap();
        let options = Options {
            control: any,
            faces: vec![(PROTOCOL.name, any)],
            keys,
            book: None,
            log: LOG,
        };

        let sandbox = Sandbox::start(options).await.unwrap();
        let clock = sandbox.clock();
        clock.advance(until_morning(clock.now())).unwrap();
        let mut settings = sandbox.credentials()["unionpay"].clone();
        settings["base_url"] = json!(format!("http://{}", sandbox.face(PROTOCOL.name).unwrap()));
        settings
            .as_object_mut()
            .unwrap()
            .extend(change.as_object().unwrap().clone());
        let adapter = (PROTOCOL.open)(settings.clone(), &providers::http::Way::Open).unwrap();
        let (address, told) = receiver().await;

        Self {
            sandbox,
            adapter,
            settings,
            told,
            address,
        }
    }

    pub fn call(&self) -> Call {
        Call {
            now: self.sandbox.clock().now(),
            timeout: Duration::from_secs(5),
        }
    }

    pub fn pass(&self, time: TimeDelta) {
        self.sandbox.clock().advance(time).unwrap();
    }

    pub fn qr(&self) -> Order {
        let now = self.sandbox.clock().now();
        Order {
            order_no: QR.to_owned(),
            payment_id: "pay_0123456789abcdef".to_owned(),
            flow: Flow::Qr,
            amount: Money::fen(1000).unwrap(),
            description: "测试商品".to_owned(),
            txn_time: now,
            expires_at: now + TimeDelta::minutes(15),
            notify_url: format!("http://{}/n", self.address),
            client_ip: None,
            auth_code: None,
            store: None,
        }
    }

    pub fn scan(&self, auth_code: &str) -> Order {
        let auth_code = Some(auth_code.to_owned());
        Order {
            order_no: SCAN.to_owned(),
            flow: Flow::Barcode,
            auth_code,
            ..self.qr()
        }
    }

    pub fn refund_of(&self, order: &Order, refund_no: &str, fen: i64) -> RefundOrder {
        RefundOrder {
            order: reference(order),
            transaction_id: None,
            refund_no: refund_no.to_owned(),
            txn_time: self.sandbox.clock().now(),
            renumbered: false,
            amount: Money::fen(fen).unwrap(),
            total: order.amount,
            reason: None,
            notify_url: format!("http://{}/r", self.address),
        }
    }

    pub async fn query(&self, order: &Order) -> QueryOutcome {
        self.adapter
            .query(&reference(order), &self.call())
            .await
            .outcome
    }

    pub async fn refund(&self, refund: &RefundOrder) -> RefundOutcome {
        self.adapter.refund(refund, &self.call()).await.outcome
    }

    pub async fn query_refund(&self, refund: &RefundOrder) -> RefundQueryOutcome {
        self.adapter
            .query_refund(refund, &self.call())
            .await
            .outcome
    }

    /// The next thing that the merchant is told, read by the adapter.
    pub async fn told(&mut self) -> Notice {
        let raw = self.told.recv().await.unwrap();
        self.adapter
            .notification(&raw, self.sandbox.clock().now())
            .unwrap()
            .into_inner()
            .notice
    }

    /// Whether the merchant was told anything more.
    pub fn is_told_more(&mut self) -> bool {
        self.told.try_recv().is_ok()
    }

    /// What the book of truth says was taken and given back.
    pub fn money(&self, order_no: &str) -> (i64, i64) {
        let book = self.sandbox.book().lock();
        book.by_order_no(order_no)
            .map_or((0, 0), |o| (o.captured_fen(), o.refunded_fen()))
    }
}

pub fn reference(order: &Order) -> OrderRef {
    OrderRef {
        order_no: order.order_no.clone(),
        txn_time: order.txn_time,
        expires_at: order.expires_at,
    }
}

/// Acknowledges every notification and passes it on.
async fn receiver() -> (SocketAddr, mpsc::UnboundedReceiver<RawNotification>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, inbox) = mpsc::unbounded_channel();

    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let sender = sender.clone();
            let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                let sender = sender.clone();
                async move {
                    let (parts, body) = request.into_parts();
                    let body = body.collect().await.unwrap().to_bytes();
                    let _ = sender.send(RawNotification {
                        headers: parts.headers,
                        body,
                    });
                    Ok::<_, Infallible>(http::Response::new(Full::new(bytes::Bytes::from_static(
                        b"ok",
                    ))))
                }
            });
            tokio::spawn(
                hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service),
            );
        }
    });

    (address, inbox)
}
