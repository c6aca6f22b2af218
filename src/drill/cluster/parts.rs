//! The parts of a stage, and what each of them is asked and told by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use providers::sandbox::Sandbox;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::net::TcpSocket;
use tokio::process::Child;
use tokio::sync::Mutex;

use crate::drill::control_socket::{self, Command, Reply};
use crate::drill::disk::SmallDisk;
use crate::drill::error::Error;
use crate::drill::proxy::Proxy;
use crate::server::demo::Demo;
use crate::store::trouble::OwnDatabase;

/// Every gateway on a database needs the same one. It seals nothing but the sandbox's credentials.
pub const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
/// How long a gateway may take to start or to stop.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// Where a run takes place.
#[derive(Debug)]
pub struct Ground {
    /// For everything that the run leaves behind.
    pub folder: PathBuf,
    /// A PostgreSQL database of this run's own; none: the embedded one.
    pub postgres: Option<OwnDatabase>,
    /// A Redis, and a database in it that no other run uses at the same time.
    pub redis: Option<String>,
    /// The small disk that the database lies on, if it does.
    pub disk: Option<SmallDisk>,
    /// The library through which gateways see the machine's clock, when that is to be set.
    pub faketime: Option<PathBuf>,
}

/// One gateway.
#[derive(Debug)]
pub(super) struct Gateway {
    pub(super) address: SocketAddr,
    pub(super) folder: PathBuf,
    pub(super) child: Mutex<Option<Child>>,
    /// Keeps the port for a gateway that was killed and comes back.
    pub(super) _port: TcpSocket,
}

impl Gateway {
    pub(super) fn door(&self) -> PathBuf {
        self.folder.join("door")
    }

    /// Says how wrong its machine's clock is.
    pub(super) fn wrong_clock(&self) -> PathBuf {
        self.folder.join("clock")
    }
}

/// The stage.
#[derive(Debug)]
pub struct Stage {
    /// The sandbox's control.
    pub control: String,
    /// Between providers and gateways; merchants come this way, too.
    pub front: Proxy,
    /// Between gateways and their PostgreSQL.
    pub database: Option<Proxy>,
    /// Between gateways and Redis.
    pub redis: Option<Proxy>,
    /// Between gateways and each provider.
    pub providers: BTreeMap<&'static str, Proxy>,
    pub(super) sandbox: Sandbox,
    pub(super) gateways: Vec<Gateway>,
    pub(super) ground: Ground,
    pub(super) env: Vec<(String, String)>,
    pub(super) ahead_s: Mutex<u64>,
    /// Gateways that stand still: they would not answer.
    pub(super) stopped: Mutex<BTreeSet<usize>>,
    /// One trouble of the database at a time, and one gateway that stands still: the end of one
    /// would end the other.
    pub(super) at_database: Mutex<()>,
    pub(super) at_freezing: Mutex<()>,
    pub(super) http: reqwest::Client,
}

pub(super) fn in_vain(what: &str) -> impl FnOnce(std::io::Error) -> Error {
    let what = what.to_owned();
    move |error| Error(format!("{what}: {error}"))
}

impl Stage {
    /// Whether a gateway has died.
    pub async fn is_dead(&self, number: usize) -> bool {
        let Some(gateway) = self.gateways.get(number) else {
            return false;
        };
        match gateway.child.lock().await.as_mut() {
            Some(child) => !matches!(child.try_wait(), Ok(None)),
            None => true,
        }
    }

    /// Sends a signal to a gateway.
    pub async fn signal(&self, number: usize, signal: Signal) {
        let Some(gateway) = self.gateways.get(number) else {
            return;
        };
        let id = gateway.child.lock().await.as_ref().and_then(Child::id);
        if let Some(pid) = id
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw)
        {
            let _ = kill_process(pid, signal);
        }
    }

    /// Arms a kill point.
    pub async fn arm(&self, number: usize, point: &str) {
        if let Some(gateway) = self.gateways.get(number) {
            let _ = control_socket::command(&gateway.door(), &Command::Arm(point.to_owned())).await;
        }
    }

    /// What a gateway waits for.
    pub async fn due(&self, number: usize) -> Option<Reply> {
        let gateway = self.gateways.get(number)?;
        control_socket::command(&gateway.door(), &Command::Due)
            .await
            .ok()
    }

    /// How many gateways there are.
    #[must_use]
    pub fn gateways(&self) -> usize {
        self.gateways.len()
    }

    /// Asks the sandbox's control.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn tell(
        &self,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> Result<Value, Error> {
        let method =
            reqwest::Method::from_bytes(method.as_bytes()).map_err(|e| Error(e.to_string()))?;
        let is_put = method == reqwest::Method::PUT;
        let mut request = self.http.request(method, format!("{}{path}", self.control));
        if let Some(body) = body {
            request = request.body(body.to_string());
        }
        let answer = request
            .send()
            .await
            .map_err(|e| Error(format!("sandbox: {e}")))?;
        let status = answer.status();

        let text = answer
            .bytes()
            .await
            .map_err(|e| Error(format!("sandbox: {e}")))?;

        // What cannot be paid is an answer like others; a fault that is not taken would never
        // strike.
        if is_put && !status.is_success() {
            return Err(Error(format!(
                "sandbox: {path}: {}",
                String::from_utf8_lossy(&text)
            )));
        }

        Ok(serde_json::from_slice(&text).unwrap_or(Value::Null))
    }

    /// The demo merchant.
    ///
    /// # Errors
    /// [`Error`].
    pub fn demo(&self) -> Result<Demo, Error> {
        let gateway = self
            .gateways
            .first()
            .ok_or_else(|| Error("no gateway".to_owned()))?;
        let text = std::fs::read(gateway.folder.join("demo.json")).map_err(in_vain("demo.json"))?;
        serde_json::from_slice(&text).map_err(|e| Error(format!("demo.json: {e}")))
    }

    /// Where a gateway listens.
    #[must_use]
    pub fn address(&self, number: usize) -> Option<SocketAddr> {
        self.gateways.get(number).map(|gateway| gateway.address)
    }

    /// Where each gateway listens.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.gateways
            .iter()
            .map(|gateway| gateway.address)
            .collect()
    }

    /// Where a provider is called by gateways.
    #[must_use]
    pub fn face(&self, provider: &str) -> Option<SocketAddr> {
        self.providers.get(provider).map(|proxy| proxy.address)
    }

    /// How a gateway's jobs get on.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn jobs(&self, number: usize) -> Result<Vec<(String, u64)>, Error> {
        let Some(gateway) = self.gateways.get(number) else {
            return Ok(Vec::new());
        };
        let reply = control_socket::command(&gateway.door(), &Command::Jobs)
            .await
            .map_err(in_vain("a gateway's jobs"))?;
        Ok(reply.overdue_ms)
    }

    /// Everything that the gateways have logged.
    #[must_use]
    pub fn logs(&self) -> Vec<String> {
        self.gateways
            .iter()
            .map(|g| std::fs::read_to_string(g.folder.join("log")).unwrap_or_default())
            .collect()
    }
}
