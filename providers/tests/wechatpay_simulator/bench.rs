//! The adapter, a socket, the face and its book. The clock stands still until a test moves it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use http::{HeaderMap, Method, Response};
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use providers::money::Money;
use providers::notification::RawNotification;
use providers::order::{Call, Flow, Order, OrderRef, RefundOrder};
use providers::provider::Provider;
use providers::sandbox::book::{Event, OrderKey, SharedBook};
use providers::sandbox::simulator::{
    Alteration, Notice, Outgoing, Request, Simulator, SimulatorContext,
};
use providers::wechatpay::PROTOCOL;
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// What the server does instead of asking the face.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    Well,
    Busy,
    Broken,
}

#[derive(Debug)]
pub struct Shared {
    pub now: DateTime<Utc>,
    pub alteration: Alteration,
    pub mood: Mood,
    /// What came in last.
    pub seen: Option<(Method, String, HeaderMap, Bytes)>,
}

pub struct Bench {
    pub face: Arc<dyn Simulator>,
    pub book: SharedBook,
    pub shared: Arc<Mutex<Shared>>,
    pub credentials: Value,
}

impl Bench {
    pub async fn start() -> Self {
        Self::with(&vector_keys()).await
    }

    pub async fn with(keys: &Value) -> Self {
        let face = (providers::sandbox::simulated("wechatpay").unwrap().open)(keys).unwrap();
        let shared = Shared {
            now: DateTime::from_timestamp(1_767_578_400, 0).unwrap(),
            alteration: Alteration::None,
            mood: Mood::Well,
            seen: None,
        };

        let (book, shared) = (SharedBook::default(), Arc::new(Mutex::new(shared)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut credentials = face.credentials();
        credentials["base_url"] = json!(format!("http://{}", listener.local_addr().unwrap()));
        tokio::spawn(serve(
            listener,
            Arc::clone(&face),
            book.clone(),
            Arc::clone(&shared),
        ));

        Self {
            face,
            book,
            shared,
            credentials,
        }
    }

    pub fn adapter(&self) -> Arc<dyn Provider> {
        (PROTOCOL.open)(self.credentials.clone(), &providers::http::Way::Open).unwrap()
    }

    /// The adapter with one setting changed.
    pub fn adapter_with(&self, member: &str, value: Value) -> Arc<dyn Provider> {
        let mut credentials = self.credentials.clone();
        credentials[member] = value;
        (PROTOCOL.open)(credentials, &providers::http::Way::Open).unwrap()
    }

    pub fn now(&self) -> DateTime<Utc> {
        self.shared.lock().now
    }

    pub fn call(&self) -> Call {
        Call {
            now: self.now(),
            timeout: Duration::from_secs(5),
        }
    }

    pub fn pass(&self, time: TimeDelta) {
        let now = self.now() + time;
        self.shared.lock().now = now;
        self.book.lock().end_due_refunds(now);
    }

    pub fn set(&self, alteration: Alteration, mood: Mood) {
        let mut shared = self.shared.lock();
        (shared.alteration, shared.mood) = (alteration, mood);
    }

    pub fn order(&self, order_no: &str) -> Order {
        Order {
            order_no: order_no.to_owned(),
            payment_id: "pay_0123456789abcdef".to_owned(),
            flow: Flow::Qr,
            amount: Money::fen(100).unwrap(),
            description: "测试商品".to_owned(),
            txn_time: self.now(),
            expires_at: self.now() + TimeDelta::minutes(15),
            notify_url: "http://127.0.0.1:9/notifications/acct_1".to_owned(),
            client_ip: None,
            auth_code: None,
            store: None,
        }
    }

    pub fn refund(&self, order_no: &str, refund_no: &str, fen: i64) -> RefundOrder {
        RefundOrder {
            order: self.reference(order_no),
            transaction_id: None,
            refund_no: refund_no.to_owned(),
            txn_time: self.reference(order_no).txn_time,
            renumbered: false,
            amount: Money::fen(fen).unwrap(),
            total: Money::fen(100).unwrap(),
            reason: Some("商品已售完".to_owned()),
            notify_url: "http://127.0.0.1:9/notifications/acct_1/refund".to_owned(),
        }
    }

    pub fn reference(&self, order_no: &str) -> OrderRef {
        OrderRef {
            order_no: order_no.to_owned(),
            txn_time: self.now(),
            expires_at: self.now(),
        }
    }

    pub fn key(&self, order_no: &str) -> OrderKey {
        OrderKey::new(
            "wechatpay",
            self.credentials["mchid"].as_str().unwrap(),
            order_no,
        )
    }

    /// The payer pays.
    pub fn pay(&self, order_no: &str) {
        let mut book = self.book.lock();
        let number = book.next_number();
        let id = self.face.transaction_id(number, self.now());
        book.pay(&self.key(order_no), &id, self.now()).unwrap();
    }

    /// What the face sends for everything that happened since it was last asked.
    pub fn outgoing(&self, alteration: Alteration) -> Vec<Outgoing> {
        let events = self.book.lock().take_events();
        events
            .iter()
            .filter_map(|event| self.send(event, alteration))
            .collect()
    }

    pub fn send(&self, event: &Event, alteration: Alteration) -> Option<Outgoing> {
        let order = self.book.lock().order(event.order()).cloned().unwrap();
        let id = "00112233445566778899aabbccddeeff";
        self.face.notification(&Notice {
            event,
            order: &order,
            id,
            now: self.now(),
            alteration,
        })
    }
}

pub fn raw(outgoing: &Outgoing) -> RawNotification {
    RawNotification {
        headers: outgoing.headers.clone(),
        body: outgoing.body.clone(),
    }
}

/// The keys of the recorded requests, in the form that the face stores.
pub fn vector_keys() -> Value {
    let vectors: Value = serde_json::from_str(include_str!("../vectors/wechatpay.json")).unwrap();
    let keys = &vectors["keys"];
    json!({
        "mchid": keys["mchid"], "appid": keys["appid"], "serial": keys["merchant_serial"],
        "private_key": keys["merchant_private_key_pem"], "platform_serial": keys["platform_serial"],
        "platform_private_key": keys["platform_private_key_pem"],
        "platform_certificate": keys["platform_cert_pem"],
        "public_key_id": keys["wechatpay_pubkey_id"],
        "public_key_private": keys["wechatpay_pubkey_private_key_pem"],
        "apiv3_key": keys["apiv3_key"], "apiv2_key": keys["apiv3_key"],
    })
}

async fn serve(
    listener: TcpListener,
    face: Arc<dyn Simulator>,
    book: SharedBook,
    shared: Arc<Mutex<Shared>>,
) {
    while let Ok((stream, _)) = listener.accept().await {
        let (face, book, shared) = (Arc::clone(&face), book.clone(), Arc::clone(&shared));
        let service = service_fn(move |request| {
            answer(
                request,
                Arc::clone(&face),
                book.clone(),
                Arc::clone(&shared),
            )
        });
        tokio::spawn(
            hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service),
        );
    }
}

async fn answer(
    request: http::Request<hyper::body::Incoming>,
    face: Arc<dyn Simulator>,
    book: SharedBook,
    shared: Arc<Mutex<Shared>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let target = parts.uri.path_and_query().unwrap().to_string();
    let request = Request {
        method: parts.method,
        target,
        headers: parts.headers,
        body,
    };

    let (now, alteration, mood) = {
        let mut shared = shared.lock();
        shared.seen = Some((
            request.method.clone(),
            request.target.clone(),
            request.headers.clone(),
            request.body.clone(),
        ));
        (shared.now, shared.alteration, shared.mood)
    };

    let answered = match mood {
        Mood::Well => face.handle(
            &request,
            &SimulatorContext {
                book: &book,
                now,
                alteration,
                spaces_refunds: false,
            },
        ),
        Mood::Busy => face.rate_limited(&request, now),
        Mood::Broken => face.http_500(&request, now),
    };
    let mut response = Response::new(Full::new(answered.body));
    *response.status_mut() = answered.status;
    *response.headers_mut() = answered.headers;

    Ok(response)
}
