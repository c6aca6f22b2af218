//! Webhooks as their receivers see them. The receiver is a program of its own, in another language,
//! that verifies signatures with a library that is not ours (`tests/webhooks/receiver.py`).

mod api;
mod guard;
mod life;
mod retries;

use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::helpers::{Client, PATIENCE, TestApp};

/// A merchant's server.
pub struct Receiver {
    child: Child,
    pub port: u16,
    http: reqwest::Client,
}

impl Receiver {
    pub async fn start() -> Self {
        Self::at(0).await
    }

    /// On this port, or on a free one.
    pub async fn at(port: u16) -> Self {
        crate::helpers::install_crypto();
        let packages = std::env::var("INTERLOCK_TEST_PYTHONPATH").expect(
            "INTERLOCK_TEST_PYTHONPATH must name a folder with the Python package \
            standardwebhooks; tests/run makes one, or: python3 -m pip install --target FOLDER \
            standardwebhooks",
        );

        let mut child = Command::new("python3")
            .args([
                concat!(env!("CARGO_MANIFEST_DIR"), "/tests/webhooks/receiver.py"),
                &port.to_string(),
            ])
            .env("PYTHONPATH", packages)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("python3 starts");
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();

        let first = tokio::time::timeout(PATIENCE, lines.next_line())
            .await
            .unwrap()
            .unwrap();
        let port = first
            .expect("the receiver says its port")
            .trim()
            .parse()
            .unwrap();

        let http = providers::http::plain_client_builder().build().unwrap();
        Self { child, port, http }
    }

    /// The address of one of its hooks.
    pub fn url(&self, hook: &str) -> String {
        format!("http://127.0.0.1:{}/{hook}", self.port)
    }

    /// Says how a hook answers: `secret`, `status`, `body`, `headers`, `delay_ms`, `careless`.
    pub async fn set(&self, hook: &str, mut how: Value) {
        how["hook"] = json!(hook);
        let answer = self
            .http
            .post(self.url("control"))
            .body(how.to_string())
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 200);
    }

    /// Moves its time as far from ours as the gateway's is.
    pub async fn shift(&self, seconds: i64) {
        self.set("", json!({"shift_s": seconds})).await;
    }

    /// What came to a hook, in order.
    pub async fn log(&self, hook: &str) -> Vec<Value> {
        let answer = self.http.get(self.url("log")).send().await.unwrap();
        let mut log: Vec<Value> = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
        log.retain(|entry| entry["hook"] == hook);
        log
    }

    /// Waits until what came to a hook is as wanted.
    #[track_caller]
    pub fn until<'a>(
        &'a self,
        hook: &'a str,
        wanted: impl Fn(&[Value]) -> bool + 'a,
    ) -> impl Future<Output = Vec<Value>> + 'a {
        let at = std::panic::Location::caller();
        async move {
            let began = Instant::now();
            loop {
                let log = self.log(hook).await;
                if wanted(&log) {
                    return log;
                }
                assert!(began.elapsed() < PATIENCE, "{at}: {hook} got {log:#?}");
                tokio::time::sleep(Duration::from_millis(25)).await;
            }
        }
    }

    /// Waits until so many have come, and returns them.
    #[track_caller]
    pub fn got<'a>(&'a self, hook: &'a str, count: usize) -> impl Future<Output = Vec<Value>> + 'a {
        self.until(hook, move |log| log.len() >= count)
    }

    /// Goes down.
    pub async fn stop(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Makes an endpoint for this hook, and has the hook verify with its secret.
    pub async fn endpoint(&self, client: &Client, hook: &str, more: Value) -> Value {
        let mut body = json!({"url": self.url(hook)});
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let made = client
            .post("/v1/webhook_endpoints", "unused", &body)
            .await
            .expect(201);
        self.set(hook, json!({"secret": made["secret"]})).await;
        made
    }
}

/// What an entry of the log says.
pub fn said(entry: &Value) -> Value {
    serde_json::from_str(entry["text"].as_str().unwrap()).unwrap()
}

/// The kinds of events in a log.
pub fn kinds(log: &[Value]) -> Vec<String> {
    log.iter()
        .map(|entry| said(entry)["type"].as_str().unwrap().to_owned())
        .collect()
}

#[track_caller]
pub fn all_verified(log: &[Value]) {
    let refused: Vec<_> = log
        .iter()
        .filter(|entry| !entry["error"].is_null())
        .collect();
    assert!(refused.is_empty(), "{refused:#?}");
}

/// Waits until the delivery log, asked like this, is as wanted.
pub async fn deliveries(
    app: &TestApp,
    query: &str,
    wanted: impl Fn(&[Value]) -> bool,
) -> Vec<Value> {
    let began = Instant::now();
    loop {
        let list = app
            .client
            .get(&format!("/v1/deliveries?limit=100&{query}"))
            .await
            .expect(200);
        let list = list["data"].as_array().unwrap().clone();
        if wanted(&list) {
            return list;
        }
        assert!(began.elapsed() < PATIENCE, "{list:#?}");
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}
