//! What all cases share: one database with one merchant, and two gateways on it for each case. The
//! gateways have neither a server nor jobs: nothing happens in them but what a case does.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use interlock::app::{App, Turns};
use interlock::clock::Clock;
use interlock::config::Config;
use interlock::directory::Directory;
use interlock::directory::addresses::Addresses;
use interlock::domain::Owner;
use interlock::domain::id::{self, AccountId, InstallationPrefix};
use interlock::guard::{Guard, Lookup, System};
use interlock::incidents::status_cache::Recent;
use interlock::progress::Progress;
use interlock::progress::Unwritten;
use interlock::restored::Hold;
use interlock::routing::budget::Budget;
use interlock::routing::health::monitor::HealthMonitor;
use interlock::routing::health::registry::Settings;
use interlock::routing::limiter::Limiters;
use interlock::routing::queue::Queue;
use interlock::server::demo;
use interlock::server::sandbox_side::SandboxSide;
use interlock::store::Store;
use interlock::traces::Traces;
use interlock::vault::Vault;
use interlock::webhooks::client::Client;
use parking_lot::Mutex;
use providers::memory::Memory;
use providers::provider::Ending;
use providers::{Provider, ProviderName};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::seat;
use super::stand_in::StandIn;
use crate::helpers;
use crate::helpers::facts::Facts;

pub struct Ground {
    pub owner: Owner,
    pub facts: Facts,
    store: Store,
    vault_key: String,
    accounts: Vec<(AccountId, ProviderName)>,
    folder: TempDir,
    /// Gateways of cases that are over.
    left: Mutex<Vec<[App; 2]>>,
}

/// One account with what stands in for its provider.
#[derive(Debug, Clone)]
pub struct Account {
    pub id: AccountId,
    pub provider: ProviderName,
    pub notifier: Arc<Memory>,
}

/// Where everything runs.
pub fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    let build = || tokio::runtime::Builder::new_multi_thread();
    RUNTIME.get_or_init(|| {
        build()
            .worker_threads(4)
            .thread_stack_size(64 << 20)
            .enable_all()
            .build()
            .unwrap()
    })
}

/// The ground of this process.
pub fn ground() -> &'static Ground {
    static GROUND: OnceLock<Ground> = OnceLock::new();
    GROUND.get_or_init(|| runtime().block_on(Ground::new()))
}

/// Memory where there is some: a disk would only make every commit slower, and nothing here is
/// about disks.
fn folder() -> TempDir {
    TempDir::new_in("/dev/shm").unwrap_or_else(|_| TempDir::new().unwrap())
}

impl Ground {
    async fn new() -> Self {
        seat::take_the_points();
        let folder = folder();
        let database = helpers::database(folder.path()).await;

        // Only its credentials are needed: accounts have some.
        let sandbox = helpers::sandbox().await;
        let members = |value: serde_json::Value| value.as_object().cloned().unwrap();
        let side = SandboxSide {
            control_url: format!("http://{}", sandbox.control()),
            faces: members(sandbox.face_urls()),
            credentials: members(sandbox.credentials()),
        };

        let store = Store::open(&database, 8, crate::helpers::PATIENCE)
            .await
            .unwrap();
        let vault_key = Vault::new_key().unwrap();
        let app = gateway(&store, &vault_key, &Clock::new(), folder.path()).await;
        let made = demo::set_up(&app, &side, folder.path()).await.unwrap();
        sandbox.stop().await;
        let accounts = made
            .accounts
            .into_iter()
            .map(|a| (a.id.parse().unwrap(), a.provider.parse().unwrap()))
            .collect();

        let facts = Facts(helpers::connect(&database).await);
        Self {
            owner: Owner::of(made.merchant.parse().unwrap(), false),
            facts,
            store,
            vault_key,
            accounts,
            folder,
            left: Mutex::default(),
        }
    }

    /// Two gateways with one clock, and the accounts that they share.
    pub async fn gateways(&self) -> ([Arc<App>; 2], Vec<Account>) {
        let left = self.left.lock().pop();
        let gateways = match left {
            Some(gateways) => gateways,
            None => {
                let clock = Clock::new();
                let open = || gateway(&self.store, &self.vault_key, &clock, self.folder.path());
                [open().await, open().await]
            }
        };

        let account = |(id, provider): &(AccountId, ProviderName)| {
            let notifier = Arc::new(Memory::new(*provider, Ending::Close));
            Account {
                id: id.clone(),
                provider: *provider,
                notifier,
            }
        };
        let accounts: Vec<Account> = self.accounts.iter().map(account).collect();

        for account in &accounts {
            let capabilities = providers::protocol(account.provider.as_str())
                .unwrap()
                .capabilities;
            let stand_in: Arc<dyn Provider> =
                Arc::new(StandIn::new(capabilities, Arc::clone(&account.notifier)));
            gateways
                .iter()
                .for_each(|app| app.directory.stand_in(&account.id, &stand_in));
        }

        (gateways.map(Arc::new), accounts)
    }

    /// Takes gateways back for the next case: opening accounts is slow. What they keep in memory is
    /// made anew.
    pub fn take_back(&self, gateways: [Arc<App>; 2]) {
        let [one, other] = gateways.map(Arc::into_inner);
        let (Some(one), Some(other)) = (one, other) else {
            return;
        };
        let anew = |app: App| App {
            limiters: Limiters::default(),
            jobs: Progress::default(),
            budget: Budget::new(0),
            queue: Queue::default(),
            unwritten: Unwritten::default(),
            hold: Hold::new(InstallationPrefix::parse("MO").unwrap()),
            incidents: Recent::default(),
            refund_turns: Turns::default(),
            settings_turns: Turns::default(),
            ..app
        };

        self.left.lock().push([anew(one), anew(other)]);
    }
}

async fn gateway(store: &Store, vault_key: &str, clock: &Clock, folder: &Path) -> App {
    // No breakers: what a case has seen of a route must not depend on the cases before.
    let flags = [
        ("data.dir", folder.display().to_string()),
        ("health.breakers", "false".to_owned()),
        ("providers.allow_networks", "127.0.0.0/8".to_owned()),
    ];
    let config = Config::load(None, &flags).unwrap();
    let number = id::number().unwrap();
    let lookup: Arc<dyn Lookup> = Arc::new(System);
    let addresses = Addresses::new(&config.providers, &lookup).unwrap();

    let webhooks = Client::new(
        Guard::new(Vec::new(), false),
        Arc::new(System),
        Duration::from_secs(1),
        Duration::from_secs(1),
    );

    App {
        directory: Directory::open(
            store.clone(),
            Vault::new(vault_key).unwrap(),
            Traces::off(),
            addresses,
        )
        .await
        .unwrap(),
        webhooks: webhooks.unwrap(),
        health: HealthMonitor::new(
            Settings {
                gateway: number,
                ..Settings::default()
            },
            Arc::default(),
            false,
            clock.now(),
        ),
        limiters: Limiters::default(),
        jobs: Progress::default(),
        budget: Budget::new(number),
        queue: Queue::default(),
        unwritten: Unwritten::default(),
        hold: Hold::new(InstallationPrefix::parse("MO").unwrap()),
        incidents: Recent::default(),
        clock: clock.clone(),
        store: store.clone(),
        traces: Traces::off(),
        public_url: "http://127.0.0.1:1".to_owned(),
        tasks: TaskTracker::new(),
        runtime: tokio::runtime::Handle::current(),
        refund_turns: Turns::default(),
        settings_turns: Turns::default(),
        leaving: CancellationToken::new(),
        draining: CancellationToken::new(),
        config,
    }
}
