//! The hands of payers and of whoever breaks providers: calls of the sandbox's control.

use std::time::{Duration, Instant};

use providers::sandbox::Sandbox;
use reqwest::Method;
use serde_json::{Value, json};

use super::{PATIENCE, install_crypto};

/// The sandbox's control API.
#[derive(Debug, Clone)]
pub struct Control {
    pub url: String,
    http: reqwest::Client,
}

impl Control {
    pub fn new(sandbox: &Sandbox) -> Self {
        install_crypto();
        let http = providers::http::plain_client_builder().build().unwrap();
        Self {
            url: format!("http://{}", sandbox.control()),
            http,
        }
    }

    pub async fn call(&self, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
        let mut request = self.http.request(method, format!("{}{path}", self.url));
        if let Some(body) = body {
            request = request.body(body.to_string());
        }
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        (
            status,
            serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or(Value::Null),
        )
    }

    /// The payer scans this code and pays.
    #[track_caller]
    pub fn pay<'a>(&'a self, payment: &'a Value) -> impl Future<Output = Value> + 'a {
        let code = payment["next_action"]["qr"]
            .as_str()
            .expect("a QR code to scan")
            .to_owned();
        self.pay_code(code)
    }

    pub async fn pay_code(&self, code: String) -> Value {
        let (status, body) = self
            .call(
                Method::POST,
                "/pay",
                Some(json!({"code": code, "result": "paid"})),
            )
            .await;
        assert_eq!(status, 200, "{body}");
        body
    }

    /// The payer pays this order, whatever is shown.
    pub async fn pay_order(&self, order_no: &str) -> (u16, Value) {
        self.call(
            Method::POST,
            "/pay",
            Some(json!({"order_no": order_no, "result": "paid"})),
        )
        .await
    }

    /// The payer whose code was read takes it like this.
    pub async fn pay_as(&self, auth_code: &str, result: &str) -> (u16, Value) {
        self.call(
            Method::POST,
            "/pay",
            Some(json!({"code": auth_code, "result": result})),
        )
        .await
    }

    /// Breaks something: `{"provider", "kind", "call"?, …}`.
    pub async fn fault(&self, fault: Value) -> Value {
        let (status, body) = self.call(Method::PUT, "/faults", Some(fault)).await;
        assert_eq!(status, 200, "{body}");
        body
    }

    /// Mends everything.
    pub async fn mend(&self) {
        self.call(Method::DELETE, "/faults", None).await;
    }

    /// The truth about money: every order.
    pub async fn orders(&self) -> Vec<Value> {
        let (_, books) = self.call(Method::GET, "/books", None).await;
        books["orders"].as_array().cloned().unwrap_or_default()
    }

    /// What has been sent to the gateway, and what came back.
    pub async fn notifications(&self) -> Vec<Value> {
        let (_, log) = self.call(Method::GET, "/notifications", None).await;
        log["data"].as_array().cloned().unwrap_or_default()
    }

    /// The notifications, as soon as so many were answered: what they tell is known before.
    pub async fn told(&self, count: usize) -> Vec<Value> {
        let began = Instant::now();
        loop {
            let told = self.notifications().await;
            if told.len() >= count {
                return told;
            }
            assert!(began.elapsed() < PATIENCE, "{count} of {told:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Moves the sandbox's time.
    pub async fn advance(&self, seconds: i64) {
        let (status, body) = self
            .call(Method::POST, "/clock", Some(json!({"advance_s": seconds})))
            .await;
        assert_eq!(status, 200, "{body}");
    }
}
