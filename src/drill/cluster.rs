//! The stage of a drill: a sandbox, gateways as processes of their own, the proxies between them,
//! and one time for all that a controller moves. Starts, kills, stops and continues; judges
//! nothing.

mod clocks;
mod database;
mod parts;
mod processes;
mod ways;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use providers::http::plain_client_builder;
use providers::sandbox::keys::Keys;
use providers::sandbox::{Options, Sandbox};
use tokio::sync::Mutex;

pub use self::database::DatabaseTrouble;
use self::parts::{Gateway, PATIENCE, in_vain};
pub use self::parts::{Ground, KEY, Stage};
use self::ways::proxied;
use super::error::Error;
use super::proxy::{self, LinkState, Proxy};
use crate::store::trouble::OwnDatabase;

impl Stage {
    /// Builds it, with everything running.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn build(
        ground: Ground,
        keys: Keys,
        gateways: usize,
        env: Vec<(String, String)>,
    ) -> Result<Self, Error> {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let faces = providers::PROTOCOLS.iter().map(|p| (p.name, any)).collect();
        let sandbox = Sandbox::start(Options {
            control: any,
            faces,
            keys,
            book: None,
            log: usize::MAX,
        })
        .await
        .map_err(|e| Error(format!("sandbox: {e}")))?;

        let (mut before, mut advertised) = (BTreeMap::new(), Vec::new());
        for (name, face) in sandbox.faces() {
            let proxy = Proxy::start_before(*face).await.map_err(in_vain("proxy"))?;
            advertised.push((*name, proxy.address));
            before.insert(name.as_str(), proxy);
        }

        sandbox.advertise(advertised);
        let front = Proxy::start().await.map_err(in_vain("front"))?;
        let database = proxied(ground.postgres.as_ref().map(OwnDatabase::url)).await?;
        let redis = proxied(ground.redis.as_deref()).await?;
        let mut all = Vec::new();

        for number in 0..gateways {
            let folder = ground.folder.join(format!("gateway-{number}"));
            std::fs::create_dir_all(&folder).map_err(in_vain("folder"))?;
            let port = proxy::bind(any).map_err(in_vain("port"))?;
            let address = port.local_addr().map_err(in_vain("port"))?;
            all.push(Gateway {
                address,
                folder,
                child: Mutex::new(None),
                _port: port,
            });
        }

        front.lead_to(all.iter().map(|gateway| gateway.address).collect());
        // A connection that was kept may be closed by the other side just as it is used again.
        let http = plain_client_builder()
            .pool_max_idle_per_host(0)
            .timeout(PATIENCE)
            .build();

        let stage = Self {
            control: format!("http://{}", sandbox.control()),
            front,
            database,
            redis,
            providers: before,
            sandbox,
            gateways: all,
            ground,
            env,
            ahead_s: Mutex::new(0),
            stopped: Mutex::default(),
            at_database: Mutex::default(),
            at_freezing: Mutex::default(),
            http: http.map_err(|e| Error(e.to_string()))?,
        };

        for number in 0..gateways {
            stage.set_clock(number, 0)?;
            stage.start(number).await?;
        }

        Ok(stage)
    }

    /// Ways are open, clocks are right, and the database is as it should be.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn mend(&self) -> Result<(), Error> {
        let ways = [&self.database, &self.redis]
            .into_iter()
            .flatten()
            .chain(self.providers.values());
        for proxy in ways.chain([&self.front]) {
            proxy.set(LinkState::Open);
        }
        if let Some(disk) = &self.ground.disk {
            disk.free();
        }
        self.limit_files(None).await;
        if let Some(own) = &self.ground.postgres {
            own.mend().await.map_err(|e| Error(e.to_string()))?;
        }

        for number in 0..self.gateways.len() {
            // One that was stopped, when the trouble was over before it went on.
            self.thaw(number).await;
            self.skew(number, 0).await;
        }

        Ok(())
    }

    /// Ends it.
    pub async fn strike(self) {
        self.sandbox.stop().await;
        if let Some(own) = self.ground.postgres
            && let Err(error) = own.remove().await
        {
            tracing::warn!(%error, "a drill's database was left behind");
        }
    }
}
