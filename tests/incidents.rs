//! Outages as people are told of them: by chat, by the API and the command line, on the public
//! page. Real gateways, real faults at the sandbox, real Redis; the chats are a server that answers
//! as their robots do.

mod alerts;
mod instances;
mod report;
mod status;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use interlock::domain::Mode;
use providers::order::Flow;
use serde_json::{Value, json};
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate};

use crate::helpers::{PATIENCE, TestApp, order};

/// Payments that have waited for a second are late; likewise unknown outcomes, and webhooks. Only
/// where a test is about them: a machine that is busy is late as well.
pub const PARKED: [(&str, &str); 2] = [
    ("alerts.parked_least_s", "1"),
    ("alerts.parked_most_s", "1"),
];
pub const IN_DOUBT: [(&str, &str); 2] = [
    ("alerts.in_doubt_least_s", "1"),
    ("alerts.in_doubt_most_s", "1"),
];
pub const WEBHOOKS: [(&str, &str); 2] = [
    ("alerts.webhooks_least_s", "1"),
    ("alerts.webhooks_most_s", "1"),
];
/// The breakers would have a word in what is about something else.
pub const NO_BREAKERS: (&str, &str) = ("health.breakers", "false");

const ROBOTS: [&str; 4] = ["wecom", "dingtalk", "feishu", "slack"];

/// The robots of four chats, and a shop that can be told to take no webhooks.
pub struct Chat {
    server: MockServer,
    /// So many of the next messages to a robot are refused, as it refuses: status 200, and an error
    /// in the body.
    refusing: [Arc<AtomicU32>; 4],
    hook_status: Arc<AtomicU32>,
}

struct Robot {
    name: &'static str,
    refusing: Arc<AtomicU32>,
}

impl Respond for Robot {
    fn respond(&self, _: &Request) -> ResponseTemplate {
        let refuses = self
            .refusing
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                left.checked_sub(1)
            })
            .is_ok();

        match (self.name, refuses) {
            ("slack", false) => ResponseTemplate::new(200).set_body_string("ok"),
            ("slack", true) => ResponseTemplate::new(429).set_body_string("rate_limited"),
            ("feishu", false) => {
                ResponseTemplate::new(200).set_body_json(json!({"code": 0, "msg": "success"}))
            }
            ("feishu", true) => ResponseTemplate::new(200)
                .set_body_json(json!({"code": 11232, "msg": "frequency limited"})),
            (_, false) => {
                ResponseTemplate::new(200).set_body_json(json!({"errcode": 0, "errmsg": "ok"}))
            }
            (_, true) => ResponseTemplate::new(200)
                .set_body_json(json!({"errcode": 45009, "errmsg": "api freq out of limit"})),
        }
    }
}

struct Hook(Arc<AtomicU32>);

impl Respond for Hook {
    fn respond(&self, _: &Request) -> ResponseTemplate {
        ResponseTemplate::new(u16::try_from(self.0.load(Ordering::SeqCst)).unwrap())
    }
}

impl Chat {
    pub async fn start() -> Self {
        let server = MockServer::start().await;
        let refusing: [Arc<AtomicU32>; 4] = std::array::from_fn(|_| Arc::default());

        for (name, refusing) in ROBOTS.into_iter().zip(&refusing) {
            let robot = Robot {
                name,
                refusing: Arc::clone(refusing),
            };
            Mock::given(method("POST"))
                .and(path(format!("/{name}")))
                .respond_with(robot)
                .mount(&server)
                .await;
        }

        let hook_status = Arc::new(AtomicU32::new(200));
        let hook = Hook(Arc::clone(&hook_status));

        Mock::given(method("POST"))
            .and(path("/hook"))
            .respond_with(hook)
            .mount(&server)
            .await;

        Self {
            server,
            refusing,
            hook_status,
        }
    }

    /// All four of them, as they are configured: two read Chinese, two English, and two want
    /// signatures.
    pub fn receivers(&self) -> String {
        let url = self.server.uri();
        format!(
            "wecom {url}/wecom, dingtalk {url}/dingtalk?access_token=t secret=SEC1, \
             feishu {url}/feishu secret=SEC2 language=en, slack {url}/slack language=en"
        )
    }

    /// The configuration of a gateway that looks often and waits briefly.
    pub fn flags(&self) -> Vec<(&'static str, String)> {
        let mut flags = vec![("alerts.receivers", self.receivers())];
        let quick = [
            ("alerts.interval_ms", "50"),
            ("alerts.open_after_ms", "200"),
            ("alerts.close_after_ms", "800"),
            ("alerts.retry_s", "1,1,1,1,1,1,1,1,1,1"),
            (
                "webhooks.ladder_s",
                "1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1",
            ),
        ];
        flags.extend(quick.map(|(key, value)| (key, value.to_owned())));
        flags
    }

    pub async fn gateway(&self, more: &[(&'static str, &str)]) -> TestApp {
        let flags = self.flags();
        let mut all: Vec<(&str, &str)> = flags
            .iter()
            .map(|(key, value)| (*key, value.as_str()))
            .collect();
        all.extend(more);
        TestApp::with(&all).await
    }

    /// This robot refuses so many of the next messages.
    pub fn refuse(&self, robot: &str, count: u32) {
        let place = ROBOTS.iter().position(|name| *name == robot).unwrap();
        self.refusing[place].store(count, Ordering::SeqCst);
    }

    /// How the shop answers webhooks.
    pub fn hook_answers(&self, status: u32) {
        self.hook_status.store(status, Ordering::SeqCst);
    }

    pub fn hook(&self) -> String {
        format!("{}/hook", self.server.uri())
    }

    /// Every request that came to a robot.
    pub async fn requests(&self, robot: &str) -> Vec<Request> {
        let mut all = self.server.received_requests().await.unwrap();
        all.retain(|request| request.url.path() == format!("/{robot}"));
        all
    }

    /// What came to a robot: title and whole text.
    pub async fn heard(&self, robot: &str) -> Vec<(String, String)> {
        let read = |request: &Request| {
            let body: Value = serde_json::from_slice(&request.body).unwrap();
            let title = match robot {
                "wecom" => body["markdown"]["content"]
                    .as_str()
                    .unwrap()
                    .lines()
                    .next()
                    .unwrap()
                    .to_owned(),
                "dingtalk" => body["markdown"]["title"].as_str().unwrap().to_owned(),
                "feishu" => body["card"]["header"]["title"]["content"]
                    .as_str()
                    .unwrap()
                    .to_owned(),
                _ => body["blocks"][0]["text"]["text"]
                    .as_str()
                    .unwrap()
                    .to_owned(),
            };
            (title, body.to_string())
        };

        self.requests(robot).await.iter().map(read).collect()
    }

    /// Waits until each robot has heard so many messages, meanwhile doing this again and again.
    #[track_caller]
    pub fn until<'a>(
        &'a self,
        count: usize,
        meanwhile: impl AsyncFn() + 'a,
    ) -> impl Future<Output = ()> + 'a {
        let at = std::panic::Location::caller();

        async move {
            let began = Instant::now();
            loop {
                let mut counts = Vec::new();
                for robot in ROBOTS {
                    counts.push(self.heard(robot).await.len());
                }
                if counts.iter().all(|heard| *heard >= count) {
                    return;
                }
                assert!(
                    began.elapsed() < PATIENCE * 2,
                    "{at}: not {count} but {counts:?}"
                );
                meanwhile().await;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }

    /// Each robot has heard of the beginning once and of the end once, and of nothing else.
    pub async fn heard_beginning_and_end(&self, zh: &str, en: &str) {
        for robot in ROBOTS {
            let heard = self.heard(robot).await;
            let (subject, over) = if matches!(robot, "wecom" | "dingtalk") {
                (zh, "已恢复")
            } else {
                (en, "over")
            };
            let titles: Vec<&String> = heard.iter().map(|(title, _)| title).collect();
            assert_eq!(titles.len(), 2, "{robot}: {titles:#?}");
            assert!(
                titles.iter().all(|title| title.contains(subject)),
                "{robot}: {titles:#?}"
            );
            assert!(
                !titles[0].contains(over) && titles[1].contains(over),
                "{robot}: {titles:#?}"
            );
        }
    }
}

/// Nothing to do while waiting.
pub async fn nothing() {}

/// A payment, whatever becomes of it.
pub async fn pay(app: &TestApp) -> Value {
    let answer = app.client.pay(&order()).await;
    assert!(answer.status.is_success(), "{answer:?}");
    answer.json()
}

pub fn gate(app: &TestApp, provider: &str) -> &'static str {
    let vital =
        app.app()
            .health
            .board()
            .peek_provider(provider.parse().unwrap(), Flow::Qr, Mode::Test);
    vital.map_or("unknown", |vital| vital.gate().into())
}

/// Payments while Alipay cannot be reached, until its breaker opens; each of them is offered by
/// somebody else.
pub async fn break_alipay(app: &TestApp) -> Vec<Value> {
    app.control
        .fault(json!({"provider": "alipay", "kind": "refuse"}))
        .await;
    let mut payments = Vec::new();
    while gate(app, "alipay") != "open" {
        assert!(payments.len() < 20, "its breaker never opens");
        let payment = pay(app).await;
        assert_eq!(payment["status"], "requires_action");
        payments.push(payment);
    }
    payments
}

/// Nobody is able: payments wait.
pub async fn break_all(app: &TestApp) {
    for protocol in providers::PROTOCOLS {
        app.control
            .fault(json!({"provider": protocol.name.as_str(), "kind": "refuse"}))
            .await;
    }
}

/// Waits until this is so.
pub async fn wait(what: &str, holds: impl AsyncFn() -> bool) {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < PATIENCE, "not so: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
