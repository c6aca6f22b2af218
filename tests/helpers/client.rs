//! A merchant's side of the API: a client with a key, and the answers that it gets.

use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{PATIENCE, fresh, install_crypto};

/// An HTTP answer, read.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: reqwest::header::HeaderMap,
    pub bytes: Vec<u8>,
}

impl Answer {
    /// The body as JSON, or null.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or(Value::Null)
    }

    /// Asserts the status and returns the body.
    #[track_caller]
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(
            self.status.as_u16(),
            status,
            "{}",
            String::from_utf8_lossy(&self.bytes)
        );
        self.json()
    }

    /// Asserts a problem+json with this status, code and member; returns it.
    #[track_caller]
    pub fn problem(&self, status: u16, code: &str, param: Option<&str>) -> Value {
        let body = self.expect(status);
        assert_eq!(self.headers["content-type"], "application/problem+json");
        assert_eq!(body["code"], code, "{body}");
        assert_eq!(body["param"].as_str(), param, "{body}");
        assert!(
            body["request_id"].is_string() && body["detail"].is_string(),
            "{body}"
        );
        body
    }
}

/// Talks to a gateway with a merchant's key.
#[derive(Debug, Clone)]
pub struct Client {
    pub base: String,
    pub key: String,
    pub http: reqwest::Client,
}

impl Client {
    pub fn new(base: &str, key: &str) -> Self {
        install_crypto();
        let http = providers::http::plain_client_builder()
            .timeout(Duration::from_secs(30))
            .build()
            .unwrap();
        Self {
            base: base.to_owned(),
            key: key.to_owned(),
            http,
        }
    }

    pub async fn send(
        &self,
        method: Method,
        path: &str,
        key: Option<&str>,
        body: Option<Vec<u8>>,
    ) -> Answer {
        self.try_send(method, path, key, body).await.unwrap()
    }

    /// As `send`, for gateways that may die meanwhile.
    pub async fn try_send(
        &self,
        method: Method,
        path: &str,
        key: Option<&str>,
        body: Option<Vec<u8>>,
    ) -> Result<Answer, reqwest::Error> {
        let mut request = self
            .http
            .request(method, format!("{}{path}", self.base))
            .bearer_auth(&self.key);
        if let Some(key) = key {
            request = request.header("Idempotency-Key", key);
        }
        if let Some(body) = body {
            request = request
                .header("Content-Type", "application/json")
                .body(body);
        }

        let response = request.send().await?;
        let (status, headers) = (response.status(), response.headers().clone());

        Ok(Answer {
            status,
            headers,
            bytes: response.bytes().await?.to_vec(),
        })
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, None, None).await
    }

    pub async fn post(&self, path: &str, key: &str, body: &Value) -> Answer {
        self.send(
            Method::POST,
            path,
            Some(key),
            Some(body.to_string().into_bytes()),
        )
        .await
    }

    /// As `post`, for gateways that may die meanwhile.
    pub async fn try_post(
        &self,
        path: &str,
        key: &str,
        body: &Value,
    ) -> Result<Answer, reqwest::Error> {
        self.try_send(
            Method::POST,
            path,
            Some(key),
            Some(body.to_string().into_bytes()),
        )
        .await
    }

    /// `POST /v1/payments` under a fresh key.
    pub async fn pay(&self, body: &Value) -> Answer {
        self.post("/v1/payments", &fresh("key"), body).await
    }

    /// A payment as it is now.
    pub async fn payment(&self, id: &str) -> Value {
        self.get(&format!("/v1/payments/{id}")).await.expect(200)
    }

    /// `POST /v1/payments/{id}/refunds` under a fresh key and number.
    pub async fn refund(&self, payment: &str, amount: i64) -> Answer {
        let body =
            json!({"amount": amount, "merchant_refund_no": fresh("rf"), "reason": "returned"});
        self.post(
            &format!("/v1/payments/{payment}/refunds"),
            &fresh("key"),
            &body,
        )
        .await
    }

    /// `PUT /v1/routing` with one rule: these accounts, in this order.
    pub async fn route(&self, accounts: &[&str]) -> Answer {
        let accounts: Vec<Value> = accounts.iter().map(|id| json!({"id": id})).collect();
        let body = json!({"rules": [{"strategy": "priority", "accounts": accounts}]});
        self.send(
            Method::PUT,
            "/v1/routing",
            None,
            Some(body.to_string().into_bytes()),
        )
        .await
    }

    /// Waits until a payment is as wanted.
    #[track_caller]
    pub fn until<'a>(
        &'a self,
        id: &'a str,
        wanted: impl Fn(&Value) -> bool + 'a,
    ) -> impl Future<Output = Value> + 'a {
        let at = std::panic::Location::caller();
        async move {
            let began = Instant::now();
            loop {
                let payment = self.payment(id).await;
                if wanted(&payment) {
                    return payment;
                }
                assert!(
                    began.elapsed() < PATIENCE,
                    "{at}: still not as wanted: {payment:#}"
                );
                tokio::time::sleep(Duration::from_millis(25)).await;
            }
        }
    }

    /// Waits until a payment has this status.
    #[track_caller]
    pub fn until_status<'a>(
        &'a self,
        id: &'a str,
        status: &'a str,
    ) -> impl Future<Output = Value> + 'a {
        self.until(id, move |p| p["status"] == status)
    }
}
