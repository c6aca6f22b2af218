//! Traces as a collector gets them, decoded by a library that is not ours
//! (`tests/observability/collector.py`).

use std::process::Stdio;
use std::time::{Duration, Instant};

use interlock::domain::id;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Child;

use super::{in_repository, python};
use crate::helpers::facts::Facts;
use crate::helpers::process::Process;
use crate::helpers::{Ground, PATIENCE, TestApp, attempts, barcode, fresh, order};

/// A collector.
struct Collector {
    _child: Child,
    url: String,
    http: reqwest::Client,
}

impl Collector {
    async fn start() -> Self {
        crate::helpers::install_crypto();
        let program = in_repository("tests/observability/collector.py");
        let mut child = python(program.to_str().unwrap())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 starts");
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let first = tokio::time::timeout(PATIENCE, lines.next_line())
            .await
            .unwrap()
            .unwrap();

        let url = format!(
            "http://127.0.0.1:{}",
            first.expect("the collector says its port").trim()
        );
        let http = providers::http::plain_client_builder().build().unwrap();

        Self {
            _child: child,
            url,
            http,
        }
    }

    async fn set(&self, how: Value) {
        let answer = self
            .http
            .post(format!("{}/control", self.url))
            .body(how.to_string())
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 200);
    }

    async fn all(&self) -> Value {
        let answer = self
            .http
            .get(format!("{}/spans", self.url))
            .send()
            .await
            .unwrap();
        serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
    }

    /// The spans of a payment's trace, once they are as wanted.
    async fn trace(&self, payment_id: &str, wanted: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let trace = trace_of(payment_id);
        let began = Instant::now();
        loop {
            let mut spans = self.all().await["spans"].as_array().unwrap().clone();
            spans.retain(|span| span["trace"] == trace);
            spans.sort_by_key(|span| span["start"].as_u64());
            if wanted(&spans) {
                return spans;
            }
            assert!(began.elapsed() < PATIENCE, "{payment_id}: {spans:#?}");
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }
}

/// The payment id's own bits.
fn trace_of(payment_id: &str) -> String {
    format!("{:032x}", id::bits(payment_id).unwrap())
}

fn named<'a>(spans: &'a [Value], name: &str) -> Vec<&'a Value> {
    spans.iter().filter(|span| span["name"] == name).collect()
}

fn has(spans: &[Value], name: &str, count: usize) -> bool {
    named(spans, name).len() >= count
}

/// The provider calls below this span.
fn calls<'a>(spans: &'a [Value], above: &Value) -> Vec<&'a Value> {
    named(spans, "provider call")
        .into_iter()
        .filter(|call| call["parent"] == above["span"])
        .collect()
}

async fn traced(collector: &Collector, more: &[(&str, &str)]) -> TestApp {
    TestApp::with(
        &[
            &[
                ("traces.otlp_url", collector.url.as_str()),
                ("traces.interval_ms", "50"),
            ],
            more,
        ]
        .concat(),
    )
    .await
}

/// Asks for a payment out of somebody's own trace.
async fn pay_from(app: &TestApp, traceparent: &str, body: &Value) -> Value {
    let request = app
        .client
        .http
        .post(format!("{}/v1/payments", app.client.base))
        .bearer_auth(&app.client.key);
    let request = request
        .header("Idempotency-Key", fresh("key"))
        .header("traceparent", traceparent);
    let answer = request.body(body.to_string()).send().await.unwrap();
    assert_eq!(answer.status(), 201);
    serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_trace_tells_a_payment_from_its_request_to_its_refund() {
    let collector = Collector::start().await;
    let app = traced(&collector, &[]).await;
    app.client
        .route(&[&app.alipay, &app.wechatpay])
        .await
        .expect(200);
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let hook = json!({"url": format!("http://{nobody}/hook"), "events": ["payment.succeeded"]});
    app.client
        .post("/v1/webhook_endpoints", "unused", &hook)
        .await
        .expect(201);
    app.control
        .fault(json!({"provider": "alipay", "call": "create", "kind": "http_500"}))
        .await;
    let caller = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let payment = pay_from(&app, caller, &order()).await;
    assert_eq!(attempts(&payment).len(), 2, "{payment:#}");
    let payment_id = payment["id"].as_str().unwrap();
    app.control.pay(&payment).await;
    app.client.until_status(payment_id, "succeeded").await;
    app.client.refund(payment_id, 100).await.expect(201);

    let complete = |spans: &[Value]| {
        let once = [
            "payment",
            "notification",
            "refund request",
            "refund",
            "webhook",
        ];
        once.iter().all(|name| has(spans, name, 1)) && has(spans, "attempt", 2)
    };
    let spans = collector.trace(payment_id, complete).await;
    let roots: Vec<&Value> = spans.iter().filter(|span| span["parent"] == "").collect();
    assert_eq!(roots.len(), 1, "{spans:#?}");
    let root = roots[0];
    assert_eq!(
        (&root["name"], &root["kind"]),
        (&json!("payment"), &json!(2))
    );
    assert_eq!(
        root["links"],
        json!([{"trace": &caller[3..35], "span": &caller[36..52]}])
    );
    assert_eq!(root["attributes"]["payment.status"], "requires_action");
    // Nobody hangs in the air, and each stands where it belongs.
    assert!(
        spans
            .iter()
            .all(|s| s["parent"] == "" || spans.iter().any(|p| p["span"] == s["parent"])),
        "{spans:#?}"
    );
    for name in ["attempt", "notification", "refund request", "webhook"] {
        assert!(
            named(&spans, name)
                .iter()
                .all(|span| span["parent"] == root["span"]),
            "{name}: {spans:#?}"
        );
    }
    let [first, second] = named(&spans, "attempt")[..] else {
        panic!("{spans:#?}")
    };
    for (attempt, shown) in [first, second]
        .into_iter()
        .zip(payment["attempts"].as_array().unwrap())
    {
        assert_eq!(attempt["attributes"]["attempt.id"], shown["id"]);
        assert_eq!(attempt["attributes"]["provider"], shown["provider"]);
        let [call] = calls(&spans, attempt)[..] else {
            panic!("{spans:#?}")
        };
        assert_eq!(call["attributes"]["call"], "create");
        assert_eq!(call["attributes"]["outcome"], shown["outcome"]);
        assert!(
            call["ns"].as_i64().unwrap() > 0 && attempt["ns"].as_i64() >= call["ns"].as_i64(),
            "{call:#}"
        );
    }
    let failed = calls(&spans, first)[0];
    assert_eq!(
        (
            &first["status"],
            &failed["status"],
            &calls(&spans, second)[0]["status"]
        ),
        (&json!(2), &json!(2), &json!(0))
    );
    assert_eq!(failed["attributes"]["failure.kind"], "server_error");
    let (asked, sent) = (
        named(&spans, "refund request")[0],
        named(&spans, "refund")[0],
    );
    assert_eq!(
        (
            &sent["parent"],
            &calls(&spans, sent)[0]["attributes"]["call"]
        ),
        (&asked["span"], &json!("refund"))
    );
    assert_eq!(
        named(&spans, "webhook")[0]["attributes"]["end"],
        "unreachable"
    );

    // Nobody else's trace has anything of it, and probes are in none.
    let all = collector.all().await["spans"].as_array().unwrap().clone();
    let strange = all
        .iter()
        .find(|s| s["attributes"]["payment.id"] == payment_id && s["trace"] != spans[0]["trace"]);
    assert_eq!(strange, None);
    assert!(
        all.iter()
            .all(|span| span["resource"]["service.name"] == "interlock"),
        "{all:#?}"
    );
    app.stop().await;
}

/// Whatever a payer, a merchant or a provider would not want to see in there.
#[tokio::test(flavor = "multi_thread")]
async fn no_secret_and_nothing_of_the_payer_is_in_a_trace() {
    let collector = Collector::start().await;
    let app = traced(&collector, &[]).await;
    let mut body = barcode("wechatpay", 8);
    body["payer"] = json!({"client_ip": "203.0.113.77"});
    body["description"] = "A very private thing".into();
    body["metadata"] = json!({"customer": "Li Lei"});
    body["wait"] = 0.into();
    let declined = app.client.pay(&body).await.json();
    let declined_id = declined["id"].as_str().unwrap();
    let paid = app.paid().await;
    let (paid_id, shown) = (paid["id"].as_str().unwrap(), paid.to_string());
    collector
        .trace(declined_id, |spans| has(spans, "provider call", 1))
        .await;
    let spans = collector
        .trace(paid_id, |spans| has(spans, "notification", 1))
        .await;

    assert!(spans.iter().all(|span| span["events"] == 0), "{spans:#?}");
    let text = collector.all().await.to_string();
    let qr = paid["attempts"][0]["next_action"]["qr"]
        .as_str()
        .unwrap_or("weixin://");
    let payer = paid["payer"].as_str().unwrap_or("no payer");
    let private = [
        body["auth_code"].as_str().unwrap(),
        body["order_id"].as_str().unwrap(),
        "203.0.113.77",
        "A very private thing",
        "Li Lei",
        &app.client.key,
        qr,
        payer,
    ];

    for secret in private {
        assert!(
            !text.contains(secret),
            "{secret} is in a trace; the payment: {shown}"
        );
    }

    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_that_another_gateway_goes_on_with_stays_in_its_trace() {
    let collector = Collector::start().await;
    let app = traced(&collector, &[]).await;
    let payment = app.client.pay(&order()).await.expect(201);
    let payment_id = payment["id"].as_str().unwrap();
    let ground = app.leave().await;
    let app = TestApp::on(
        ground,
        &[
            ("traces.otlp_url", &collector.url),
            ("traces.interval_ms", "50"),
        ],
    )
    .await;

    // The notification goes to a gateway that is no more: this one has to ask.
    app.control.pay(&payment).await;
    app.advance(60).await;
    app.client.until_status(payment_id, "succeeded").await;
    let found = |spans: &[Value]| has(spans, "payment", 1) && has(spans, "resolve", 1);
    let spans = collector.trace(payment_id, found).await;
    let (root, resolved) = (named(&spans, "payment")[0], named(&spans, "resolve")[0]);

    assert_eq!(resolved["parent"], root["span"]);
    assert_ne!(
        resolved["resource"]["service.instance.id"],
        root["resource"]["service.instance.id"]
    );

    let asked = calls(&spans, resolved);
    assert!(
        asked
            .iter()
            .any(|call| call["attributes"]["outcome"] == "paid"),
        "{spans:#?}"
    );

    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_whose_gateway_was_killed_goes_on_in_its_trace() {
    let collector = Collector::start().await;
    let ground = Ground::new().await;
    let url = format!("http://{}", ground.sandbox.control());
    let env = [
        ("INTERLOCK_KILL_POINT", "pay_after_call".to_owned()),
        ("INTERLOCK__TRACES__OTLP_URL", collector.url.clone()),
    ];
    let mut doomed = Process::with(ground.folder.path(), &ground.database, &url, &env).await;
    let body = order().to_string().into_bytes();

    let _ = doomed
        .client
        .try_send(
            Method::POST,
            "/v1/payments",
            Some(&fresh("key")),
            Some(body),
        )
        .await;

    doomed.died().await;
    let app = TestApp::on(
        ground,
        &[
            ("traces.otlp_url", &collector.url),
            ("traces.interval_ms", "50"),
        ],
    )
    .await;

    let payments = Facts::of(&app).await.rows("SELECT id FROM payments").await;
    let payment_id = payments[0]["id"].as_str().unwrap().to_owned();
    app.advance(30).await;
    app.client
        .until_status(&payment_id, "requires_action")
        .await;
    let spans = collector
        .trace(&payment_id, |spans| {
            has(spans, "attempt", 1) && has(spans, "resolve", 1)
        })
        .await;

    let (attempt, resolve) = (named(&spans, "attempt")[0], named(&spans, "resolve")[0]);
    // The root died with its gateway; whoever goes on stands below it all the same.
    let bits = id::bits(&payment_id).unwrap();
    let root = format!(
        "{:016x}",
        u64::try_from((bits >> 64) ^ (bits & u128::from(u64::MAX))).unwrap()
    );

    assert_eq!(
        (&attempt["parent"], &resolve["parent"]),
        (&resolve["span"], &json!(root)),
        "{spans:#?}"
    );

    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_in_trouble_is_one_line_in_the_log_and_no_payments_business() {
    let collector = Collector::start().await;
    collector.set(json!({"status": 503})).await;
    let ground = Ground::new().await;
    let url = format!("http://{}", ground.sandbox.control());
    let env = [
        ("INTERLOCK__TRACES__OTLP_URL", collector.url.clone()),
        ("INTERLOCK__TRACES__INTERVAL_MS", "20".to_owned()),
        ("INTERLOCK__TRACES__QUEUE", "16".to_owned()),
        ("INTERLOCK__TRACES__TIMEOUT_MS", "2000".to_owned()),
    ];

    let gateway = Process::with(ground.folder.path(), &ground.database, &url, &env).await;
    let lines = |what: &str| {
        let log = std::fs::read_to_string(ground.folder.path().join("stderr.log")).unwrap();
        log.lines().filter(|line| line.contains(what)).count()
    };
    let pay = async || gateway.client.pay(&order()).await.expect(201);
    let until = async |what: &str, holds: &dyn Fn(&Value) -> bool| {
        let began = Instant::now();
        while !holds(&collector.all().await) {
            assert!(began.elapsed() < PATIENCE, "{what}");
            pay().await;
        }
    };

    // Batch after batch is refused.
    until("three batches are refused", &|all| {
        all["refused"].as_u64() >= Some(3)
    })
    .await;

    assert_eq!(lines("the collector takes no traces"), 1);
    // It hangs: the queue is full in no time, and payments go on.
    collector
        .set(json!({"status": 200, "delay_ms": 60_000}))
        .await;
    for _ in 0..20 {
        pay().await;
    }
    collector.set(json!({"delay_ms": 0})).await;

    until("it takes them again", &|all| {
        !all["spans"].as_array().unwrap().is_empty()
    })
    .await;
    assert_eq!(lines("the collector takes no traces"), 1);

    let began = Instant::now();
    while lines("the collector takes traces again") == 0 {
        assert!(began.elapsed() < PATIENCE, "nobody says that it is mended");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    gateway.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_of_payments_is_traced_by_their_ids() {
    let collector = Collector::start().await;
    let app = traced(&collector, &[("traces.percent", "30")]).await;
    let mut ids = Vec::new();

    for _ in 0..40 {
        ids.push(
            app.client.pay(&order()).await.expect(201)["id"]
                .as_str()
                .unwrap()
                .to_owned(),
        );
    }

    let is_in = |id: &String| id::bits(id).unwrap() % 100 < 30;
    for traced in ids.iter().filter(|id| is_in(id)) {
        collector
            .trace(traced, |spans| has(spans, "payment", 1))
            .await;
    }

    let all = collector.all().await.to_string();
    assert!(
        ids.iter()
            .filter(|id| !is_in(id))
            .all(|id| !all.contains(&trace_of(id)))
    );

    app.stop().await;
}
