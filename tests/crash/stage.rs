//! The stage of a crash: what outlives a gateway that is killed, the gateway that dies on it, and
//! the next one.
//!
//! The next one runs in the test's own process, so that its clock can be moved: nothing here waits
//! in real time.

use std::ops::Deref;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use interlock::testing::kill;
use providers::Capabilities;
use providers::order::Flow;
use providers::provider::Ending;
use serde_json::{Value, json};

use crate::helpers::front::Front;
use crate::helpers::process::{self, Process};
use crate::helpers::{Control, Ground, TestApp, charging_providers, on_postgres};

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

/// Of these providers those that a point is tried with. Rows, and what is done with them, are the
/// same whoever is asked: so on PostgreSQL it is one, another one for each point.
fn tried<'a>(point: &str, providers: Vec<&'a str>) -> Vec<&'a str> {
    if !on_postgres() {
        return providers;
    }
    let place = kill::POINTS.iter().position(|each| *each == point);
    let place = place.expect("a point that is listed");
    vec![providers[place % providers.len()]]
}

impl Run {
    fn over(point: &'static str, providers: Vec<&'static str>, clients: &[bool]) -> Vec<Self> {
        let runs = |first| {
            clients.iter().map(move |client_returns| Self {
                point,
                nth: 1,
                first,
                client_returns: *client_returns,
            })
        };
        tried(point, providers).into_iter().flat_map(runs).collect()
    }

    /// Over every provider, with a client that comes back and with one that does not.
    pub fn all(point: &'static str) -> Vec<Self> {
        Self::over(point, names(|_| true), &[false, true])
    }

    /// Over every provider whose offers can be closed.
    pub fn closing(point: &'static str) -> Vec<Self> {
        Self::over(point, names(can_close), &[false, true])
    }

    /// Over every provider that makes charges, with a client that comes back and with one that does
    /// not.
    pub fn charging(point: &'static str) -> Vec<Self> {
        Self::over(point, charging_providers(), &[false, true])
    }

    /// Over every provider whose offers can be closed, with a client that never comes back.
    pub fn unattended(point: &'static str) -> Vec<Self> {
        Self::over(point, names(can_close), &[false])
    }

    pub fn env(self) -> (&'static str, String) {
        println!("{self:?}");
        (
            "INTERLOCK_KILL_POINT",
            format!("{}:{}", self.point, self.nth),
        )
    }
}

fn names(is_wanted: impl Fn(&Capabilities) -> bool) -> Vec<&'static str> {
    providers::PROTOCOLS
        .iter()
        .filter(|protocol| is_wanted(protocol.capabilities))
        .map(|protocol| protocol.name.as_str())
        .collect()
}

fn can_close(capabilities: &Capabilities) -> bool {
    capabilities
        .flow(Flow::Qr)
        .is_some_and(|flow| flow.ending != Ending::Expire)
}

/// What outlives a gateway.
pub struct Stage {
    pub ground: Ground,
    pub control: Control,
    front: Front,
    ahead_s: AtomicI64,
}

impl Stage {
    pub async fn new() -> Self {
        let ground = Ground::new().await;
        let control = Control::new(&ground.sandbox);
        Self {
            ground,
            control,
            front: Front::start().await,
            ahead_s: AtomicI64::new(0),
        }
    }

    /// A gateway as a process of its own.
    pub async fn gateway(&self, env: &[(&str, String)]) -> Process {
        let mut all = vec![
            ("INTERLOCK__SERVER__PUBLIC_URL", self.front.url.clone()),
            self.clock(),
        ];
        all.extend(env.iter().cloned());
        let process = Process::with(
            self.ground.folder.path(),
            &self.ground.database,
            &self.control.url,
            &all,
        )
        .await;
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
        let (first, others): (Vec<_>, Vec<_>) = process
            .demo
            .accounts
            .iter()
            .partition(|a| a.provider == provider);
        let order: Vec<&str> = first.iter().chain(&others).map(|a| a.id.as_str()).collect();
        process.client.route(&order).await.expect(200);
        process
    }

    /// Runs a gateway that finds something to do by itself, and is killed doing it.
    pub async fn killed_by_itself(&self, run: Run) {
        let env = [
            ("INTERLOCK__SERVER__PUBLIC_URL", self.front.url.clone()),
            self.clock(),
            run.env(),
        ];
        process::dies(
            self.ground.folder.path(),
            &self.ground.database,
            &self.control.url,
            &env,
        )
        .await;
    }

    /// Nobody runs for so long: the next gateway finds all clocks moved on.
    pub async fn age(&self, seconds: i64) {
        self.age_apart(seconds, seconds).await;
    }

    /// The same, with a gateway whose clock runs ahead of its providers'.
    pub async fn age_apart(&self, gateway_s: i64, sandbox_s: i64) {
        self.ahead_s.fetch_add(gateway_s, Ordering::Relaxed);
        self.control.advance(sandbox_s).await;
    }

    fn clock(&self) -> (&'static str, String) {
        (
            "INTERLOCK_CLOCK_AHEAD_S",
            self.ahead_s.load(Ordering::Relaxed).to_string(),
        )
    }

    /// The same folder, the same database, the same address: the next gateway, with nothing armed.
    pub async fn restart(self) -> Restarted {
        let app = TestApp::on(
            self.ground,
            &[("server.public_url", self.front.url.as_str())],
        )
        .await;
        app.app().clock.jump(Duration::from_secs(
            self.ahead_s.into_inner().unsigned_abs(),
        ));
        self.front.lead_to(app.address());
        Restarted {
            app,
            _front: self.front,
        }
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

    /// The client sends the same request again, until it is not told any more that it is still
    /// being worked on.
    pub async fn repeat(&self, path: &str, key: &str, body: &Value) -> Value {
        for pause in crate::helpers::pauses() {
            let answer = self.client.post(path, key, body).await;
            match answer.status.as_u16() {
                200 | 201 => return answer.json(),
                202 => {}
                _ => drop(answer.problem(409, "request_in_progress", None)),
            }
            self.advance(5).await;
            tokio::time::sleep(pause).await;
        }
        panic!("it is still being worked on");
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
            let (status, answer) = self
                .control
                .pay_order(order["order_no"].as_str().unwrap())
                .await;
            assert!([200, 409].contains(&status), "{answer}");
        }
    }
}

/// The payer scans the code and finds the purse empty: the order exists at the provider, and can be
/// closed.
pub async fn scan_without_paying(control: &Control, payment: &Value) {
    let body = json!({"code": payment["next_action"]["qr"], "result": "declined"});
    let (status, answer) = control
        .call(reqwest::Method::POST, "/pay", Some(body))
        .await;
    assert_eq!(status, 200, "{answer}");
}
