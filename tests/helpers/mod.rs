//! What tests share: a gateway with its sandbox on free ports, in this process or as the real binary, on the
//! database that `INTERLOCK_TEST_DATABASE` names (`sqlite`, or `postgres` with `INTERLOCK_TEST_POSTGRES`). Every
//! test starts its own and ends it.

#![allow(dead_code, reason = "each test file uses some of it")]

pub mod contract;
pub mod facts;
pub mod front;
pub mod guarded;
pub mod load;
pub mod postgres;
pub mod process;
pub mod redis;
pub mod rows;
pub mod wire;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use interlock::app::App;
use interlock::config::Config;
use interlock::domain::id::{self, Kind};
use interlock::domain::{AllOwners, Owner};
use interlock::server::{self, Running};
use interlock::store::AccountRow;
use providers::sandbox::keys::Keys;
use providers::sandbox::{LOG, Options, Sandbox};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

/// How long a test waits for something that has to happen by itself.
pub const PATIENCE: Duration = Duration::from_secs(20);

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
        assert_eq!(self.status.as_u16(), status, "{}", String::from_utf8_lossy(&self.bytes));
        self.json()
    }

    /// Asserts a problem+json with this status, code and member; returns it.
    #[track_caller]
    pub fn problem(&self, status: u16, code: &str, param: Option<&str>) -> Value {
        let body = self.expect(status);
        assert_eq!(self.headers["content-type"], "application/problem+json");
        assert_eq!(body["code"], code, "{body}");
        assert_eq!(body["param"].as_str(), param, "{body}");
        assert!(body["request_id"].is_string() && body["detail"].is_string(), "{body}");
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
        let http = providers::http::plain_client_builder().timeout(Duration::from_secs(30)).build().unwrap();
        Self { base: base.to_owned(), key: key.to_owned(), http }
    }

    pub async fn send(&self, method: Method, path: &str, key: Option<&str>, body: Option<Vec<u8>>) -> Answer {
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
        let mut request = self.http.request(method, format!("{}{path}", self.base)).bearer_auth(&self.key);
        if let Some(key) = key {
            request = request.header("Idempotency-Key", key);
        }
        if let Some(body) = body {
            request = request.header("Content-Type", "application/json").body(body);
        }
        let response = request.send().await?;
        let (status, headers) = (response.status(), response.headers().clone());
        Ok(Answer { status, headers, bytes: response.bytes().await?.to_vec() })
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, None, None).await
    }

    pub async fn post(&self, path: &str, key: &str, body: &Value) -> Answer {
        self.send(Method::POST, path, Some(key), Some(body.to_string().into_bytes())).await
    }

    /// As `post`, for gateways that may die meanwhile.
    pub async fn try_post(&self, path: &str, key: &str, body: &Value) -> Result<Answer, reqwest::Error> {
        self.try_send(Method::POST, path, Some(key), Some(body.to_string().into_bytes())).await
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
        let body = json!({"amount": amount, "merchant_refund_no": fresh("rf"), "reason": "returned"});
        self.post(&format!("/v1/payments/{payment}/refunds"), &fresh("key"), &body).await
    }

    /// `PUT /v1/routing` with one rule: these accounts, in this order.
    pub async fn route(&self, accounts: &[&str]) -> Answer {
        let accounts: Vec<Value> = accounts.iter().map(|id| json!({"id": id})).collect();
        let body = json!({"rules": [{"strategy": "priority", "accounts": accounts}]});
        self.send(Method::PUT, "/v1/routing", None, Some(body.to_string().into_bytes())).await
    }

    /// Waits until a payment is as wanted.
    #[track_caller]
    pub fn until<'a>(&'a self, id: &'a str, wanted: impl Fn(&Value) -> bool + 'a) -> impl Future<Output = Value> + 'a {
        let at = std::panic::Location::caller();
        async move {
            let began = Instant::now();
            loop {
                let payment = self.payment(id).await;
                if wanted(&payment) {
                    return payment;
                }
                assert!(began.elapsed() < PATIENCE, "{at}: still not as wanted: {payment:#}");
                tokio::time::sleep(Duration::from_millis(25)).await;
            }
        }
    }

    /// Waits until a payment has this status.
    #[track_caller]
    pub fn until_status<'a>(&'a self, id: &'a str, status: &'a str) -> impl Future<Output = Value> + 'a {
        self.until(id, move |p| p["status"] == status)
    }
}

/// How long a test waits between two steps of the clock, and how often. Ever longer: on a busy machine, what is under way
/// has to get done before its time is over.
pub fn pauses() -> impl Iterator<Item = Duration> {
    (0..120).map(|step| Duration::from_millis(60 + 4 * step))
}

/// A name that no other test uses.
pub fn fresh(prefix: &str) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("{prefix}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// A good request for a payment, with an order number of its own.
pub fn order() -> Value {
    json!({"amount": 8888, "currency": "CNY", "order_id": fresh("order"), "description": "Two cups of tea", "flow": "qr"})
}

/// The providers that make charges.
pub fn charging_providers() -> Vec<&'static str> {
    let charging = providers::PROTOCOLS.iter().filter(|p| p.capabilities.charge.is_some());
    charging.map(|p| p.name.as_str()).collect()
}

/// A good request for a charge over a code of this provider. Its last digit is the payer's mood: 0 to 6 pays at once,
/// 7 has to confirm, 8 has no money, 9 shows an old code.
pub fn barcode(provider: &str, mood: u8) -> Value {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let code = match provider {
        "alipay" => format!("28{number:015}{mood}"),
        "wechatpay" => format!("13{number:015}{mood}"),
        "unionpay" => format!("62{number:016}{mood}"),
        other => panic!("{other} has no codes"),
    };
    let mut body = order();
    body["flow"] = "barcode".into();
    body["auth_code"] = code.into();
    body
}

pub fn install_crypto() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// Databases that the tests share on one PostgreSQL, each with a schema of its own.
const SHARDS: usize = 32;

/// The address of a fresh database: a file in `folder`, or a schema of its own in the run's PostgreSQL.
pub async fn database(folder: &Path) -> String {
    match std::env::var("INTERLOCK_TEST_DATABASE").as_deref() {
        Ok("postgres") => {
            let server = std::env::var("INTERLOCK_TEST_POSTGRES").expect("tests/run starts a PostgreSQL and names it");
            // By chance, not by process: ids of processes come again.
            let token = interlock::domain::id::token().unwrap().to_lowercase();
            let schema = format!("test_{token}");
            // Gateways that start in one database wait for each other's migrations: so there are several.
            let shard = format!("shard_{}", token.bytes().map(usize::from).sum::<usize>() % SHARDS);
            let db = connect(&server).await;
            // Another test may have made it.
            let _ = sea_orm::ConnectionTrait::execute_unprepared(&db, &format!("CREATE DATABASE {shard}")).await;
            db.close().await.unwrap();
            let server = format!("{}/{shard}", server.rsplit_once('/').unwrap().0);
            let db = connect(&server).await;
            sea_orm::ConnectionTrait::execute_unprepared(&db, &format!("CREATE SCHEMA {schema}")).await.unwrap();
            db.close().await.unwrap();
            format!("{server}?options=-c%20search_path%3D{schema}")
        }
        Ok("sqlite") | Err(_) => format!("sqlite://{}", folder.join("interlock.db").display()),
        Ok(other) => panic!("INTERLOCK_TEST_DATABASE={other}: sqlite or postgres"),
    }
}

/// Says in a fresh database of which installation it is: the gateways of one share their health.
pub async fn name_installation(database: &str, name: &str) {
    let store = interlock::store::Store::open(database, 1, PATIENCE).await.unwrap();
    store.installation(interlock::jobs::health::INSTALLATION, name).await.unwrap();
    store.close().await.unwrap();
}

/// A second way to a database, past the gateway's code. Without the timeouts whose task may spin for ever: see
/// `src/store/mod.rs`.
pub async fn connect(url: &str) -> sea_orm::DatabaseConnection {
    let mut options = sea_orm::ConnectOptions::new(url);
    options.idle_timeout(None).max_lifetime(None).sqlx_logging(false);
    sea_orm::Database::connect(options).await.unwrap()
}

/// A sandbox of this test's own, on free ports. Its keys are the same for the whole process: making them is slow.
pub async fn sandbox() -> Sandbox {
    install_crypto();
    let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let faces = providers::PROTOCOLS.iter().map(|p| (p.name, any)).collect();
    Sandbox::start(Options { control: any, faces, keys: keys(), book: None, log: LOG }).await.unwrap()
}

/// The sandbox's own keys, for answers that it would not give.
pub fn keys() -> Keys {
    static KEYS: std::sync::OnceLock<Keys> = std::sync::OnceLock::new();
    KEYS.get_or_init(kept_keys).clone()
}

/// Those that the file named by `INTERLOCK_TEST_KEYS` keeps for all processes of a run, or new ones.
fn kept_keys() -> Keys {
    let Some(path) = std::env::var_os("INTERLOCK_TEST_KEYS").map(std::path::PathBuf::from) else {
        return Keys::generate().unwrap();
    };
    let kept = std::fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok());
    kept.unwrap_or_else(|| {
        let keys = Keys::generate().unwrap();
        // Whole or not at all: others read it meanwhile.
        let mut file = tempfile::NamedTempFile::new_in(path.parent().unwrap()).unwrap();
        std::io::Write::write_all(&mut file, &serde_json::to_vec(&keys).unwrap()).unwrap();
        file.persist(&path).unwrap();
        keys
    })
}

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
        Self { url: format!("http://{}", sandbox.control()), http }
    }

    pub async fn call(&self, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
        let mut request = self.http.request(method, format!("{}{path}", self.url));
        if let Some(body) = body {
            request = request.body(body.to_string());
        }
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        (status, serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or(Value::Null))
    }

    /// The payer scans this code and pays.
    #[track_caller]
    pub fn pay<'a>(&'a self, payment: &'a Value) -> impl Future<Output = Value> + 'a {
        let code = payment["next_action"]["qr"].as_str().expect("a QR code to scan").to_owned();
        self.pay_code(code)
    }

    pub async fn pay_code(&self, code: String) -> Value {
        let (status, body) = self.call(Method::POST, "/pay", Some(json!({"code": code, "result": "paid"}))).await;
        assert_eq!(status, 200, "{body}");
        body
    }

    /// The payer pays this order, whatever is shown.
    pub async fn pay_order(&self, order_no: &str) -> (u16, Value) {
        self.call(Method::POST, "/pay", Some(json!({"order_no": order_no, "result": "paid"}))).await
    }

    /// The payer whose code was read takes it like this.
    pub async fn pay_as(&self, auth_code: &str, result: &str) -> (u16, Value) {
        self.call(Method::POST, "/pay", Some(json!({"code": auth_code, "result": result}))).await
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

    /// Moves the sandbox's time.
    pub async fn advance(&self, seconds: i64) {
        let (status, body) = self.call(Method::POST, "/clock", Some(json!({"advance_s": seconds}))).await;
        assert_eq!(status, 200, "{body}");
    }
}

/// What outlives a gateway: its sandbox, its folder, its database.
pub struct Ground {
    pub sandbox: Sandbox,
    pub folder: TempDir,
    pub database: String,
}

impl Ground {
    pub async fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let database = database(folder.path()).await;
        Self { sandbox: sandbox().await, folder, database }
    }
}

/// A gateway in this process, its sandbox, and a client with the demo merchant's key.
pub struct TestApp {
    pub client: Client,
    pub control: Control,
    pub alipay: String,
    pub wechatpay: String,
    /// `(provider, account)` of the demo merchant.
    pub accounts: Vec<(String, String)>,
    pub unionpay: String,
    pub merchant: String,
    pub database: String,
    running: Option<Running>,
    sandbox: Option<Sandbox>,
    pub folder: TempDir,
}

impl TestApp {
    pub async fn start() -> Self {
        Self::with(&[]).await
    }

    /// With other values for some configuration keys.
    pub async fn with(flags: &[(&str, &str)]) -> Self {
        Self::on(Ground::new().await, flags).await
    }

    /// One that asks every route whatever it has seen of it, for who counts calls.
    pub async fn without_breakers() -> Self {
        Self::with(&[("health.breakers", "false")]).await
    }

    /// On a ground on which another gateway may have been before.
    pub async fn on(ground: Ground, flags: &[(&str, &str)]) -> Self {
        let Ground { sandbox, folder, database } = ground;
        let control = Control::new(&sandbox);
        let mut all = vec![
            ("server.listen", "127.0.0.1:0".to_owned()),
            ("server.workers", "1".to_owned()),
            ("data.dir", folder.path().display().to_string()),
            ("database.url", database.clone()),
            ("database.connections", "4".to_owned()),
            // How busy the machine is decides no test.
            ("payments.call_grace_ms", "10000".to_owned()),
            ("admission.max_commit_wait_ms", "20000".to_owned()),
            ("server.body_timeout_s", "60".to_owned()),
            ("sandbox.listen", control.url.clone()),
            ("resolver.interval_ms", "50".to_owned()),
            ("webhooks.interval_ms", "50".to_owned()),
            ("webhooks.allow_http", "true".to_owned()),
            ("webhooks.allow_networks", "127.0.0.0/8".to_owned()),
            // Answers that the sandbox would not give come from servers of the tests' own.
            ("providers.allow_networks", "127.0.0.0/8".to_owned()),
        ];
        all.extend(flags.iter().map(|(key, value)| (*key, (*value).to_owned())));
        let config = Config::load(None, &all).unwrap();
        if std::env::var_os("INTERLOCK_TEST_LOG").is_some() {
            interlock::telemetry::log("info").unwrap();
        }
        let running = server::start(config).await.unwrap();
        let demo = running.demo.clone().unwrap();
        let account =
            |provider: &str| demo.accounts.iter().find(|a| a.provider == provider).map(|a| a.id.clone()).unwrap();
        Self {
            client: Client::new(&demo.base_url, &demo.api_key),
            control,
            alipay: account("alipay"),
            wechatpay: account("wechatpay"),
            accounts: demo.accounts.iter().map(|a| (a.provider.clone(), a.id.clone())).collect(),
            unionpay: account("unionpay"),
            merchant: demo.merchant,
            database,
            running: Some(running),
            sandbox: Some(sandbox),
            folder,
        }
    }

    /// The gateway's parts.
    pub fn app(&self) -> &Arc<App> {
        &self.running.as_ref().unwrap().app
    }

    /// The demo merchant in test mode, which owns what the client makes.
    pub fn owner(&self) -> Owner {
        Owner::of(&self.merchant, false)
    }

    /// The demo merchant's account at this provider.
    pub fn account(&self, provider: &str) -> String {
        self.accounts.iter().find(|(name, _)| name == provider).map(|(_, id)| id.clone()).unwrap()
    }

    pub fn sandbox(&self) -> &Sandbox {
        self.sandbox.as_ref().unwrap()
    }

    /// Where the gateway listens, whatever its public address is.
    pub fn address(&self) -> std::net::SocketAddr {
        self.running.as_ref().unwrap().address
    }

    /// Where administration answers, if it has an address of its own.
    pub fn admin(&self) -> Option<std::net::SocketAddr> {
        self.running.as_ref().unwrap().admin
    }

    /// Moves the gateway's and the sandbox's time together.
    #[cfg(feature = "testing")]
    pub async fn advance(&self, seconds: i64) {
        self.control.advance(seconds).await;
        self.app().clock.jump(Duration::from_secs(seconds.unsigned_abs()));
    }

    /// A second connection to the gateway's database, past its code.
    pub async fn db(&self) -> sea_orm::DatabaseConnection {
        connect(&self.database).await
    }

    /// Another merchant, and a client with a key of its own.
    pub async fn other_merchant(&self, scopes: &[interlock::api::auth::Scope]) -> Client {
        let store = &self.app().store;
        let merchant = interlock::directory::issue::merchant(store, &fresh("shop")).await.unwrap();
        let key = interlock::directory::issue::new_key(store, &Owner::of(merchant, false), scopes).await.unwrap();
        Client::new(&self.client.base, &key)
    }

    /// The demo merchant in live mode: a client with a key of its own.
    pub async fn live(&self, scopes: &[interlock::api::auth::Scope]) -> Client {
        let owner = Owner::of(&self.merchant, true);
        let key = interlock::directory::issue::new_key(&self.app().store, &owner, scopes).await.unwrap();
        Client::new(&self.client.base, &key)
    }

    /// Gives this owner an account at each provider: the sandbox's own, so that all owners' money is in one book.
    pub async fn accounts_for(&self, owner: &Owner) -> Vec<String> {
        let app = self.app();
        let known = app.store.accounts(AllOwners).await.unwrap();
        let mut made = Vec::new();
        for row in known.into_iter().filter(|row| row.owner == self.owner()) {
            let plain = app.directory.vault().open(&row.id, &row.credentials).unwrap();
            let id = id::new(Kind::Account).unwrap();
            let credentials = app.directory.vault().seal(&id, &plain).unwrap();
            let account = AccountRow { id: id.clone(), owner: owner.clone(), credentials, ..row };
            assert!(app.store.add_account(&account).await.unwrap(), "an identity is unique in an owner alone");
            made.push(id);
        }
        app.directory.changed().await.unwrap();
        made
    }

    /// A paid payment of the demo merchant.
    pub async fn paid(&self) -> Value {
        let payment = self.client.pay(&order()).await.expect(201);
        self.control.pay(&payment).await;
        self.client.until_status(payment["id"].as_str().unwrap(), "succeeded").await
    }

    /// Stops the gateway and leaves the ground to the next one.
    pub async fn leave(mut self) -> Ground {
        if let Some(running) = self.running.take() {
            running.stop().await;
        }
        Ground { sandbox: self.sandbox.take().unwrap(), folder: self.folder, database: self.database }
    }

    /// Stops everything; every test ends with it, so that a gateway that cannot stop is noticed.
    pub async fn stop(mut self) {
        if let Some(running) = self.running.take() {
            running.stop().await;
        }
        if let Some(sandbox) = self.sandbox.take() {
            sandbox.stop().await;
        }
    }
}

/// The attempts' `(provider, status)`, in order.
pub fn attempts(payment: &Value) -> Vec<(String, String)> {
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    payment["attempts"].as_array().unwrap().iter().map(|a| (text(&a["provider"]), text(&a["status"]))).collect()
}

/// How many attempts are alive.
pub fn live(payment: &Value) -> usize {
    let alive = ["sending", "unknown", "awaiting_payer", "closing", "reversing"];
    attempts(payment).iter().filter(|(_, status)| alive.contains(&status.as_str())).count()
}
