//! A sandbox with one small face, a merchant's endpoint, and a client that sees what happens at the
//! socket.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use providers::ProviderName;
use providers::money::Money;
use providers::order::Flow;
use providers::sandbox::book::{
    Code, Event, NewRefund, Order, OrderKey, Refusal, SharedBook, State,
};
use providers::sandbox::simulator::{
    Alteration, CallKind, Notice, Outgoing, Peculiarity, Request, Response, ScriptedRefusal,
    Simulator, SimulatorContext,
};
use providers::sandbox::{LOG, Sandbox};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Silence that lasts this long is silence.
const SILENCE: Duration = Duration::from_secs(1);
const RETRIES_S: &[u32] = &[60, 600];
const SIGNATURE: &str = "signature";

pub(crate) fn any() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

pub(crate) fn alipay() -> ProviderName {
    "alipay".parse().unwrap()
}

/// A face with targets `/create/NO`, `/query/NO`, `/close/NO`, `/refund/NO/REFUND_NO` and
/// signatures that say what they are. The address for notifications comes in the header
/// `notify-url`.
#[derive(Debug)]
pub(crate) struct SmallFace;

impl SmallFace {
    fn act(request: &Request, context: &SimulatorContext<'_>) -> Result<String, Refusal> {
        let mut parts = request.path().split('/').skip(1);
        let (call, order_no) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
        let key = OrderKey::new("alipay", "small", order_no);
        let mut book = context.book.lock();

        match call {
            "create" => {
                book.insert(order(key, request.header("notify-url"), context.now))?;
                Ok(format!("code:{order_no}"))
            }
            "close" => book.close(&key, context.now).map(|()| "closed".to_owned()),
            "query" => book
                .order(&key)
                .map(|o| o.state.to_string())
                .ok_or(Refusal::Unknown),
            "refund" => {
                let refund_no = parts.next().unwrap_or("").to_owned();
                let refund_id = book.next_number().to_string();
                let amount = Money::fen(30).unwrap();
                let due_at = context.now + TimeDelta::days(1);
                let new = NewRefund {
                    refund_no,
                    refund_id,
                    amount,
                    reason: None,
                    notify_url: None,
                    due_at,
                    details: Value::Null,
                };
                book.refund(&key, new, context.now)
                    .map(|_| "accepted".to_owned())
            }
            _ => Err(Refusal::Unknown),
        }
    }
}

fn order(key: OrderKey, notify_url: Option<&str>, now: DateTime<Utc>) -> Order {
    let expires_at = now + TimeDelta::minutes(15);
    let code = Code {
        text: format!("code:{}", key.order_no),
        dies_at: expires_at,
    };

    Order {
        key,
        amount: Money::fen(100).unwrap(),
        description: "tea".to_owned(),
        flow: Flow::Qr,
        notify_url: notify_url.map(str::to_owned),
        passback: None,
        details: Value::Null,
        created_at: now,
        expires_at,
        codes: vec![code],
        state: State::Payable,
        transaction_id: None,
        paid_at: None,
        ended_at: None,
        declined_at: None,
        paid_as: Default::default(),
        refunds: BTreeMap::new(),
    }
}

fn signed(status: StatusCode, body: impl Into<Bytes>, alteration: Alteration) -> Response {
    Response {
        status,
        headers: signature(alteration),
        body: body.into(),
    }
}

fn signature(alteration: Alteration) -> HeaderMap {
    let text = match alteration {
        Alteration::None | Alteration::Undecided | Alteration::Charset(_) => "good",
        Alteration::BadSignature | Alteration::UnknownKey | Alteration::Probe => "bad",
        Alteration::Unsigned => return HeaderMap::new(),
    };
    HeaderMap::from_iter([(
        HeaderName::from_static(SIGNATURE),
        HeaderValue::from_static(text),
    )])
}

impl Simulator for SmallFace {
    fn provider(&self) -> ProviderName {
        alipay()
    }

    fn call_of(&self, request: &Request, _: &SharedBook) -> Option<CallKind> {
        request.path().split('/').nth(1)?.parse().ok()
    }

    fn handle(&self, request: &Request, context: &SimulatorContext<'_>) -> Response {
        match Self::act(request, context) {
            Ok(said) => signed(StatusCode::OK, said, context.alteration),
            Err(refusal) => signed(
                StatusCode::BAD_REQUEST,
                refusal.to_string(),
                context.alteration,
            ),
        }
    }

    fn rate_limited(&self, _: &Request, _: DateTime<Utc>) -> Response {
        signed(StatusCode::TOO_MANY_REQUESTS, "slow down", Alteration::None)
    }

    fn again(&self, _: &Request, _: DateTime<Utc>) -> Response {
        signed(StatusCode::OK, "call again", Alteration::None)
    }

    fn says(&self, _: &Request, word: &ScriptedRefusal, _: DateTime<Utc>) -> Response {
        signed(
            StatusCode::BAD_REQUEST,
            format!("{}: {}", word.code, word.message),
            Alteration::None,
        )
    }

    fn http_500(&self, _: &Request, _: DateTime<Utc>) -> Response {
        signed(
            StatusCode::INTERNAL_SERVER_ERROR,
            "broken",
            Alteration::Unsigned,
        )
    }

    fn transaction_id(&self, number: u64, _: DateTime<Utc>) -> String {
        format!("T{number}")
    }

    fn notification(&self, notice: &Notice<'_>) -> Option<Outgoing> {
        let said = match notice.event {
            Event::Paid { .. } => json!({"paid": notice.order.amount.minor()}),
            Event::RefundEnded { refund_no, .. } => {
                json!({"refunded": notice.order.refunds[refund_no].amount.minor()})
            }
            Event::Closed { .. } => return None,
        };
        let body = json!({"id": notice.id, "order_no": notice.order.key.order_no, "said": said});
        let url = notice.order.notify_url.clone()?;
        Some(Outgoing {
            url,
            headers: signature(notice.alteration),
            body: body.to_string().into(),
        })
    }

    fn acknowledged(&self, status: StatusCode, body: &[u8]) -> bool {
        status == StatusCode::OK && body == b"ok"
    }

    fn retry_schedule_s(&self, _: &Order) -> &'static [u32] {
        RETRIES_S
    }

    fn late_money_returns_s(&self) -> Option<u32> {
        None
    }

    fn has(&self, _: Peculiarity) -> bool {
        false
    }

    fn credentials(&self) -> Value {
        json!({"who": "small"})
    }
}

/// The sandbox under test.
pub(crate) struct Lab {
    pub(crate) sandbox: Sandbox,
    pub(crate) face: SocketAddr,
    http: reqwest::Client,
}

impl Lab {
    pub(crate) async fn start() -> Self {
        Self::with(None).await
    }

    pub(crate) async fn with(stored: Option<Value>) -> Self {
        let faces: Vec<(Arc<dyn Simulator>, SocketAddr)> = vec![(Arc::new(SmallFace), any())];
        let sandbox = Sandbox::with_faces(any(), faces, stored, LOG)
            .await
            .unwrap();
        let face = sandbox.face(alipay()).unwrap();
        Self {
            sandbox,
            face,
            http: providers::http::plain_client_builder().build().unwrap(),
        }
    }

    /// A call of the control API: status and body.
    pub(crate) async fn control(&self, method: &str, target: &str, body: &Value) -> (u16, Value) {
        let url = format!("http://{}{target}", self.sandbox.control());
        let mut request = self.http.request(method.parse().unwrap(), url);
        if !body.is_null() {
            request = request.body(body.to_string());
        }
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        (
            status,
            serde_json::from_slice(&response.bytes().await.unwrap()).unwrap(),
        )
    }

    pub(crate) async fn fault(&self, fault: Value) {
        let (status, said) = self.control("PUT", "/faults", &fault).await;
        assert_eq!(status, 200, "{said}");
    }

    pub(crate) async fn heal(&self) {
        self.control("DELETE", "/faults", &Value::Null).await;
    }

    /// Where an order stands in the book; `None` when nothing was done.
    pub(crate) fn state(&self, order_no: &str) -> Option<State> {
        self.sandbox
            .book()
            .lock()
            .by_order_no(order_no)
            .map(|o| o.state)
    }

    pub(crate) async fn create(&self, order_no: &str, notify_url: &str) {
        let created = ask_with(self.face, &format!("/create/{order_no}"), notify_url).await;
        assert_eq!(created.text(), format!("code:{order_no}"));
    }

    pub(crate) async fn pay(&self, order_no: &str) -> (u16, Value) {
        self.control(
            "POST",
            "/pay",
            &json!({"order_no": order_no, "result": "paid"}),
        )
        .await
    }
}

/// What a client saw of one request on a connection of its own.
#[derive(Debug)]
pub(crate) enum Seen {
    Refused,
    Reset,
    Silence,
    /// The connection was closed without a word.
    Hangup,
    Answer(Answer),
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    status: u16,
    signature: Option<String>,
    body: Vec<u8>,
    /// When pieces came in, since the request was sent.
    arrivals: Vec<Duration>,
}

impl Seen {
    fn answer(&self) -> &Answer {
        let Self::Answer(answer) = self else {
            panic!("no answer: {self:?}")
        };
        answer
    }

    pub(crate) fn status(&self) -> u16 {
        self.answer().status
    }

    pub(crate) fn signature(&self) -> Option<&str> {
        self.answer().signature.as_deref()
    }

    pub(crate) fn body(&self) -> &[u8] {
        &self.answer().body
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(self.body()).into_owned()
    }

    pub(crate) fn arrivals(&self) -> &[Duration] {
        &self.answer().arrivals
    }
}

pub(crate) async fn ask(face: SocketAddr, target: &str) -> Seen {
    ask_with(face, target, "").await
}

async fn ask_with(face: SocketAddr, target: &str, notify_url: &str) -> Seen {
    match TcpStream::connect(face).await {
        Ok(mut stream) => ask_on(&mut stream, target, notify_url).await,
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Seen::Refused,
        Err(error) => panic!("{error}"),
    }
}

/// Sends one request on a connection that stands, and watches.
pub(crate) async fn ask_on(stream: &mut TcpStream, target: &str, notify_url: &str) -> Seen {
    let sent = Instant::now();
    let notify_url = if notify_url.is_empty() {
        String::new()
    } else {
        format!("Notify-Url: {notify_url}\r\n")
    };

    let request = format!(
        "POST {target} HTTP/1.1\r\nHost: face\r\n{notify_url}Content-Length: 2\r\n\r\n{{}}"
    );
    if stream.write_all(request.as_bytes()).await.is_err() {
        return Seen::Reset;
    }
    let mut raw = Vec::new();
    let mut arrivals = Vec::new();

    loop {
        let mut piece = [0; 4096];
        let wait = if raw.is_empty() {
            SILENCE
        } else {
            Duration::from_secs(5)
        };
        match tokio::time::timeout(wait, stream.read(&mut piece)).await {
            Err(_) => return Seen::Silence,
            Ok(Ok(0)) => return Seen::Hangup,
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionReset => return Seen::Reset,
            Ok(Err(error)) => panic!("{error}"),
            Ok(Ok(n)) => {
                raw.extend_from_slice(&piece[..n]);
                arrivals.push(sent.elapsed());
            }
        }
        if let Some(answer) = whole(&raw, &arrivals) {
            return answer;
        }
    }
}

/// The answer, once all of it is there.
fn whole(raw: &[u8], arrivals: &[Duration]) -> Option<Seen> {
    let head_end = raw.windows(4).position(|w| w == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&raw[..head_end]).to_lowercase();
    let header = |name: &str| {
        let line = head
            .lines()
            .find_map(|l| l.strip_prefix(&format!("{name}: ")))?;
        Some(line.trim().to_owned())
    };

    let length: usize = header("content-length").map_or(0, |l| l.parse().unwrap());
    let body = raw.get(head_end..head_end + length)?.to_vec();
    let status = head[9..12].parse().unwrap();

    Some(Seen::Answer(Answer {
        status,
        signature: header(SIGNATURE),
        body,
        arrivals: arrivals.to_vec(),
    }))
}

/// What a merchant was told.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    pub(crate) signature: Option<String>,
    pub(crate) body: Value,
}

/// A merchant's endpoint: says `no` to as many notifications as it is told, then `ok`.
pub(crate) async fn merchant(refusals: usize) -> (String, mpsc::UnboundedReceiver<Told>) {
    let listener = TcpListener::bind(any()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, received) = mpsc::unbounded_channel();

    tokio::spawn(async move {
        let mut count = 0;
        while let Ok((mut stream, _)) = listener.accept().await {
            count += 1;
            let (headers, body) = crate::raw_server::read_request(&mut stream).await;
            let signature = headers
                .lines()
                .find_map(|l| l.strip_prefix("signature: "))
                .map(str::to_owned);
            let _ = sender.send(Told {
                signature,
                body: serde_json::from_slice(&body).unwrap(),
            });
            let said = if count <= refusals { "no" } else { "ok" };
            let answer =
                format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{said}");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });

    (format!("http://{address}/n"), received)
}

/// The next thing the merchant is told.
pub(crate) async fn next(received: &mut mpsc::UnboundedReceiver<Told>) -> Told {
    tokio::time::timeout(Duration::from_secs(10), received.recv())
        .await
        .unwrap()
        .unwrap()
}
