//! A gateway in the test's own process, with everything that it stands on.

use std::sync::Arc;
use std::time::Duration;

use interlock::app::App;
use interlock::config::Config;
use interlock::domain::id::{AccountId, MerchantId};
use interlock::domain::{AllOwners, Owner};
use interlock::server::{self, Running};
use interlock::store::AccountRow;
use providers::sandbox::Sandbox;
use serde_json::Value;
use tempfile::TempDir;

use super::{Client, Control, connect, database, fresh, order, sandbox};

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
        Self {
            sandbox: sandbox().await,
            folder,
            database,
        }
    }
}

/// A gateway in this process, its sandbox, and a client with the demo merchant's key.
pub struct TestApp {
    pub client: Client,
    pub control: Control,
    pub alipay: AccountId,
    pub wechatpay: AccountId,
    /// `(provider, account)` of the demo merchant.
    pub accounts: Vec<(String, String)>,
    pub unionpay: AccountId,
    pub merchant: MerchantId,
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
        let Ground {
            sandbox,
            folder,
            database,
        } = ground;
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
        let account = |provider: &str| {
            demo.accounts
                .iter()
                .find(|a| a.provider == provider)
                .map(|a| a.id.parse().unwrap())
                .unwrap()
        };

        Self {
            client: Client::new(&demo.base_url, &demo.api_key),
            control,
            alipay: account("alipay"),
            wechatpay: account("wechatpay"),
            accounts: demo
                .accounts
                .iter()
                .map(|a| (a.provider.clone(), a.id.clone()))
                .collect(),
            unionpay: account("unionpay"),
            merchant: demo.merchant.parse().unwrap(),
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
        Owner::of(self.merchant.clone(), false)
    }

    /// The demo merchant's account at this provider.
    pub fn account(&self, provider: &str) -> String {
        self.accounts
            .iter()
            .find(|(name, _)| name == provider)
            .map(|(_, id)| id.clone())
            .unwrap()
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

    /// Moves the gateway's and the sandbox's time together. Calls that are under way may end first:
    /// a busy machine takes longer for them, and none is out of time for that.
    #[cfg(feature = "testing")]
    pub async fn advance(&self, seconds: i64) {
        for _ in 0..50 {
            if self.app().limiters.in_flight() == 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.control.advance(seconds).await;
        self.app()
            .clock
            .jump(Duration::from_secs(seconds.unsigned_abs()));
    }

    /// A second connection to the gateway's database, past its code.
    pub async fn db(&self) -> sea_orm::DatabaseConnection {
        connect(&self.database).await
    }

    /// Another merchant, and a client with a key of its own.
    pub async fn other_merchant(&self, scopes: &[interlock::api::auth::Scope]) -> Client {
        let store = &self.app().store;
        let merchant = interlock::directory::issue::merchant(store, &fresh("shop"))
            .await
            .unwrap();
        let key = interlock::directory::issue::new_key(store, &Owner::of(merchant, false), scopes)
            .await
            .unwrap();
        Client::new(&self.client.base, &key)
    }

    /// The demo merchant in live mode: a client with a key of its own.
    pub async fn live(&self, scopes: &[interlock::api::auth::Scope]) -> Client {
        let owner = Owner::of(self.merchant.clone(), true);
        let key = interlock::directory::issue::new_key(&self.app().store, &owner, scopes)
            .await
            .unwrap();
        Client::new(&self.client.base, &key)
    }

    /// Gives this owner an account at each provider: the sandbox's own, so that all owners' money
    /// is in one book.
    pub async fn accounts_for(&self, owner: &Owner) -> Vec<AccountId> {
        let app = self.app();
        let known = app.store.accounts(AllOwners).await.unwrap();
        let mut made = Vec::new();

        for row in known.into_iter().filter(|row| row.owner == self.owner()) {
            let plain = app
                .directory
                .vault()
                .open(&row.id, &row.credentials)
                .unwrap();
            let id = AccountId::new().unwrap();
            let credentials = app.directory.vault().seal(&id, &plain).unwrap();
            let account = AccountRow {
                id: id.clone(),
                owner: owner.clone(),
                credentials,
                ..row
            };
            assert!(
                app.store.add_account(&account).await.unwrap(),
                "an identity is unique in an owner alone"
            );
            made.push(id);
        }

        app.directory.changed().await.unwrap();
        made
    }

    /// A paid payment of the demo merchant.
    pub async fn paid(&self) -> Value {
        let payment = self.client.pay(&order()).await.expect(201);
        self.control.pay(&payment).await;
        self.client
            .until_status(payment["id"].as_str().unwrap(), "succeeded")
            .await
    }

    /// Stops the gateway and leaves the ground to the next one.
    pub async fn leave(mut self) -> Ground {
        if let Some(running) = self.running.take() {
            running.stop().await;
        }
        Ground {
            sandbox: self.sandbox.take().unwrap(),
            folder: self.folder,
            database: self.database,
        }
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
