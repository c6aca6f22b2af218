//! The stage of a crash: what outlives a gateway that is killed, the gateway that dies on it, and the next one.
//!
//! The next one runs in the test's own process, so that its clock can be moved: nothing here waits in real time.

use std::ops::Deref;

use serde_json::{Value, json};

use crate::helpers::facts::Facts;
use crate::helpers::front::Front;
use crate::helpers::process::{self, Process};
use crate::helpers::{Control, Ground, TestApp};

/// After so many seconds every lease and every call of a dead worker is over.
pub const ALL_LEASES_ARE_OVER_S: i64 = 61;

/// One way through a scenario.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    /// Where the gateway is killed.
    pub point: &'static str,
    /// By which worker that comes there.
    pub nth: u64,
    /// The provider that is asked first.
    pub first: &'static str,
    /// Whether the client asks again after the restart, or nobody does.
    pub client_returns: bool,
}

impl Run {
    /// Over either provider, with a client that comes back and with one that does not.
    pub fn all(point: &'static str) -> Vec<Self> {
        let one = |first, client_returns| Self { point, nth: 1, first, client_returns };
        vec![one("alipay", false), one("alipay", true), one("wechatpay", false), one("wechatpay", true)]
    }

    /// Over either provider, with a client that never comes back.
    pub fn unattended(point: &'static str) -> Vec<Self> {
        Self::all(point).into_iter().filter(|run| !run.client_returns).collect()
    }

    fn env(self) -> (&'static str, String) {
        println!("{self:?}");
        ("INTERLOCK_KILL_POINT", format!("{}:{}", self.point, self.nth))
    }
}

/// What outlives a gateway.
pub struct Stage {
    pub ground: Ground,
    pub control: Control,
    front: Front,
}

impl Stage {
    pub async fn new() -> Self {
        let ground = Ground::new().await;
        let control = Control::new(&ground.sandbox);
        Self { ground, control, front: Front::start().await }
    }

    /// A gateway as a process of its own.
    pub async fn gateway(&self, env: &[(&str, String)]) -> Process {
        let mut all = vec![("INTERLOCK__SERVER__PUBLIC_URL", self.front.url.clone())];
        all.extend(env.iter().cloned());
        let process = Process::with(self.ground.folder.path(), &self.ground.database, &self.control.url, &all).await;
        self.front.lead_to(process.address);
        process
    }

    /// One that will be killed, and asks `run.first` first.
    pub async fn doomed(&self, run: Run) -> Process {
        self.asking(run.first, &[run.env()]).await
    }

    /// One that asks this provider first.
    pub async fn asking(&self, provider: &str, env: &[(&str, String)]) -> Process {
        let process = self.gateway(env).await;
        let (first, others): (Vec<_>, Vec<_>) = process.demo.accounts.iter().partition(|a| a.provider == provider);
        let order: Vec<&str> = first.iter().chain(&others).map(|a| a.id.as_str()).collect();
        process.client.route(&order).await.expect(200);
        process
    }

    /// Runs a gateway that finds something to do by itself, and is killed doing it.
    pub async fn killed_by_itself(&self, run: Run) {
        let env = [("INTERLOCK__SERVER__PUBLIC_URL", self.front.url.clone()), run.env()];
        process::dies(self.ground.folder.path(), &self.ground.database, &self.control.url, &env).await;
    }

    /// Makes everything in the database older, as if nobody had run for so long.
    pub async fn age(&self, seconds: i64) {
        let db = sea_orm::Database::connect(&self.ground.database).await.unwrap();
        let facts = Facts(db);
        for (table, columns) in [
            ("payments", ["resume_at", "next_check_at", "lease_until", "created_at", "expires_at"].as_slice()),
            ("attempts", &["started_at", "call_deadline", "offer_deadline", "next_check_at"]),
            ("refunds", &["created_at", "sent_at", "next_check_at"]),
        ] {
            let set: Vec<String> = columns.iter().map(|c| format!("{c} = {c} - {}", seconds * 1000)).collect();
            facts.execute(&format!("UPDATE {table} SET {}", set.join(", "))).await.unwrap();
        }
        facts.0.close().await.unwrap();
    }

    /// The same folder, the same database, the same address: the next gateway, with nothing armed.
    pub async fn restart(self) -> Restarted {
        let app = TestApp::on(self.ground, &[("server.public_url", self.front.url.as_str())]).await;
        self.front.lead_to(app.address());
        Restarted { app, _front: self.front }
    }
}

/// Sends a request that the gateway does not survive: no answer leaves it.
pub async fn killed_by(mut doomed: Process, path: &str, key: &str, body: &Value) {
    let answer = doomed.client.try_post(path, key, body).await;
    assert!(answer.is_err(), "{answer:?}");
    doomed.died().await;
}

/// The gateway after the crash.
pub struct Restarted {
    app: TestApp,
    _front: Front,
}

impl Deref for Restarted {
    type Target = TestApp;

    fn deref(&self) -> &TestApp {
        &self.app
    }
}

impl Restarted {
    pub async fn stop(self) {
        self.app.stop().await;
    }

    /// The client sends the same request again, until it is not told any more that it is still being worked on.
    pub async fn repeat(&self, path: &str, key: &str, body: &Value) -> Value {
        for _ in 0..20 {
            let answer = self.client.post(path, key, body).await;
            match answer.status.as_u16() {
                200 | 201 => return answer.json(),
                202 => {}
                _ => drop(answer.problem(409, "request_in_progress", None)),
            }
            self.advance(5).await;
        }
        panic!("after 100 s it is still being worked on");
    }

    /// The ids of all payments, oldest first.
    pub async fn payments(&self) -> Vec<String> {
        let list = self.client.get("/v1/payments?limit=100").await.expect(200);
        let ids = list["data"].as_array().unwrap().iter().rev();
        ids.map(|p| p["id"].as_str().unwrap().to_owned()).collect()
    }

    /// The payer tries to pay whatever there is to pay at any provider, shown or not.
    pub async fn pay_everything(&self) {
        for order in self.control.orders().await {
            let (status, answer) = self.control.pay_order(order["order_no"].as_str().unwrap()).await;
            assert!([200, 409].contains(&status), "{answer}");
        }
    }
}

/// The payer scans the code and finds the purse empty: the order exists at the provider, and can be closed.
pub async fn scan_without_paying(control: &Control, payment: &Value) {
    let body = json!({"code": payment["next_action"]["qr"], "result": "declined"});
    let (status, answer) = control.call(reqwest::Method::POST, "/pay", Some(body)).await;
    assert_eq!(status, 200, "{answer}");
}
