//! A shop with an account at the face, a payer, and a clock that stands still.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use providers::alipay::PROTOCOL;
use providers::money::Money;
use providers::order::{Call, Flow, Order, OrderRef, RefundOrder};
use providers::outcome::{Answer, CreateOutcome, NextAction};
use providers::provider::Provider;
use providers::sandbox::book::{OrderKey, SharedBook};
use providers::sandbox::simulated;
use providers::sandbox::simulator::{Alteration, Request, Response, Simulator, SimulatorContext};
use serde_json::Value;
use tokio::net::TcpListener;

pub const NUMBER: &str = "il00000000000001";

/// How the server behaves.
#[derive(Debug, Clone, Copy)]
pub enum Mode {
    Simulator(Alteration),
    RateLimited,
    Http500,
    /// Reads the request, acts, and hangs up.
    HangUp,
    /// Reads the request and says nothing.
    Silence,
}

#[derive(Debug)]
struct Server {
    face: Arc<dyn Simulator>,
    book: SharedBook,
    moment: Mutex<(DateTime<Utc>, Mode)>,
}

impl Server {
    fn respond(&self, request: &Request) -> Option<Response> {
        let (now, mode) = *self.moment.lock();
        let act = |alteration| {
            self.face.handle(
                request,
                &SimulatorContext {
                    book: &self.book,
                    now,
                    alteration,
                    spaces_refunds: false,
                },
            )
        };

        match mode {
            Mode::Simulator(alteration) => Some(act(alteration)),
            Mode::RateLimited => Some(self.face.rate_limited(request, now)),
            Mode::Http500 => Some(self.face.http_500(request, now)),
            Mode::HangUp => {
                act(Alteration::None);
                None
            }
            Mode::Silence => None,
        }
    }

    fn is_silent(&self) -> bool {
        matches!(self.moment.lock().1, Mode::Silence)
    }
}

/// The keys of one sandbox merchant, made once for all tests.
pub fn keys() -> &'static Value {
    static KEYS: OnceLock<Value> = OnceLock::new();
    KEYS.get_or_init(|| (simulated("alipay").unwrap().make_keys)().unwrap())
}

pub fn face() -> Arc<dyn Simulator> {
    (simulated("alipay").unwrap().open)(keys()).unwrap()
}

/// An account with the face's credentials at `base_url`; `change` may spoil them.
pub fn account(base_url: &str, change: impl FnOnce(&mut Value)) -> Arc<dyn Provider> {
    let mut settings = face().credentials();
    settings["base_url"] = base_url.into();
    change(&mut settings);
    (PROTOCOL.open)(settings, &providers::http::Way::Open).unwrap()
}

pub struct Shop {
    pub alipay: Arc<dyn Provider>,
    pub base_url: String,
    server: Arc<Server>,
}

impl Shop {
    pub async fn open() -> Self {
        let now = DateTime::parse_from_rfc3339("2026-03-01T02:00:00Z")
            .unwrap()
            .to_utc();
        let moment = Mutex::new((now, Mode::Simulator(Alteration::None)));
        let server = Arc::new(Server {
            face: face(),
            book: SharedBook::default(),
            moment,
        });

        let address = serve(Arc::clone(&server)).await;
        let base_url = format!("http://{address}");

        Self {
            alipay: account(&base_url, |_| {}),
            base_url,
            server,
        }
    }

    pub fn now(&self) -> DateTime<Utc> {
        self.server.moment.lock().0
    }

    pub fn advance(&self, by: TimeDelta) {
        self.server.moment.lock().0 += by;
    }

    pub fn mode(&self, mode: Mode) {
        self.server.moment.lock().1 = mode;
    }

    pub fn face(&self) -> &dyn Simulator {
        self.server.face.as_ref()
    }

    pub fn book(&self) -> &SharedBook {
        &self.server.book
    }

    pub fn call(&self) -> Call {
        Call {
            now: self.now(),
            timeout: Duration::from_secs(5),
        }
    }

    /// An order of 88.88 yuan that lives for 15 minutes.
    pub fn order(&self) -> Order {
        Order {
            order_no: NUMBER.to_owned(),
            payment_id: "pay_0123/é".to_owned(),
            flow: Flow::Qr,
            amount: Money::fen(8888).unwrap(),
            description: "茶 & 杯 \"}{\\\" 100%+".to_owned(),
            txn_time: self.now(),
            expires_at: self.now() + TimeDelta::minutes(15),
            notify_url: "http://127.0.0.1:9/notifications/acct_1".to_owned(),
            client_ip: None,
            auth_code: None,
            store: None,
        }
    }

    pub fn reference(&self) -> OrderRef {
        OrderRef {
            order_no: NUMBER.to_owned(),
            txn_time: self.now(),
            expires_at: self.now(),
        }
    }

    pub fn refund(&self, refund_no: &str, fen: i64) -> RefundOrder {
        RefundOrder {
            order: self.reference(),
            transaction_id: None,
            refund_no: refund_no.to_owned(),
            txn_time: self.now(),
            renumbered: false,
            amount: Money::fen(fen).unwrap(),
            total: Money::fen(8888).unwrap(),
            reason: Some("坏了".to_owned()),
            notify_url: String::new(),
        }
    }

    pub fn key(&self) -> OrderKey {
        OrderKey::new("alipay", keys()["seller_id"].as_str().unwrap(), NUMBER)
    }

    /// Makes the order and returns its code.
    pub async fn create(&self) -> String {
        match self.alipay.create(&self.order(), &self.call()).await {
            Answer {
                outcome: CreateOutcome::Accepted(NextAction::DisplayQr { qr }),
                request_id: Some(_),
            } => qr,
            other => panic!("{other:?}"),
        }
    }

    fn transaction_id(&self) -> String {
        let number = self.book().lock().next_number();
        self.face().transaction_id(number, self.now())
    }

    /// The payer scans the code and looks at it.
    pub fn scan(&self) {
        let id = self.transaction_id();
        self.book()
            .lock()
            .open_trade(&self.key(), &id, self.now())
            .unwrap();
    }

    /// The payer scans, if that was not done, and pays.
    pub fn pay(&self) {
        let id = self.transaction_id();
        self.book()
            .lock()
            .pay(&self.key(), &id, self.now())
            .unwrap();
    }
}

async fn serve(server: Arc<Server>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let server = Arc::clone(&server);
            let service = service_fn(move |request| answer(Arc::clone(&server), request));
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    address
}

async fn answer(
    server: Arc<Server>,
    request: hyper::Request<Incoming>,
) -> Result<hyper::Response<Full<Bytes>>, std::io::Error> {
    let (parts, body) = request.into_parts();
    let body = body
        .collect()
        .await
        .map_err(std::io::Error::other)?
        .to_bytes();

    let request = Request {
        method: parts.method,
        target: parts.uri.to_string(),
        headers: parts.headers,
        body,
    };

    match server.respond(&request) {
        Some(response) => {
            let mut answer = hyper::Response::new(Full::new(response.body));
            *answer.status_mut() = response.status;
            *answer.headers_mut() = response.headers;
            Ok(answer)
        }
        None if server.is_silent() => {
            let never: Result<_, Infallible> = std::future::pending().await;
            Ok(never.unwrap())
        }
        None => Err(std::io::ErrorKind::ConnectionReset.into()),
    }
}

/// The text that is signed, built here a second time so that the adapter is not its own witness.
pub fn signed_text(fields: &BTreeMap<String, String>) -> String {
    let fields = fields
        .iter()
        .filter(|(name, value)| *name != "sign" && !value.is_empty());
    fields
        .map(|(name, value)| format!("{name}={value}"))
        .collect::<Vec<_>>()
        .join("&")
}

pub fn form(fields: &BTreeMap<String, String>) -> String {
    form_urlencoded::Serializer::new(String::new())
        .extend_pairs(fields)
        .finish()
}
