//! The real binary as a child process, so that it can be killed.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use interlock::server::demo::Demo;
use rustix::process::{Pid, Signal};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use super::{Client, PATIENCE};

/// A gateway as a process of its own.
pub struct Process {
    pub child: Child,
    /// Where it listens, whatever its public address is.
    pub address: SocketAddr,
    pub client: Client,
    pub demo: Demo,
    /// What it printed for whoever started it, line by line.
    pub greeting: Vec<String>,
}

/// The binary with a clean environment, ready for arguments.
pub fn interlock() -> Command {
    let mut command = program(env!("CARGO_BIN_EXE_interlock"));
    command.env("INTERLOCK__PROVIDERS__ALLOW_NETWORKS", "127.0.0.0/8");
    command
}

/// As [`interlock`], for another version's binary: with settings alone that all versions know.
pub fn program(path: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(path);
    command
        .env_clear()
        .env("RUST_BACKTRACE", "1")
        .env("INTERLOCK_DIES_WITH_PARENT", "1")
        .env("INTERLOCK__RESOLVER__INTERVAL_MS", "50")
        .env("INTERLOCK__DATABASE__CONNECTIONS", "4")
        .env("INTERLOCK__WEBHOOKS__INTERVAL_MS", "50")
        .env("INTERLOCK__WEBHOOKS__ALLOW_HTTP", "true")
        .env("INTERLOCK__WEBHOOKS__ALLOW_NETWORKS", "127.0.0.0/8")
        .kill_on_drop(true)
        .stdin(Stdio::null());
    command
}

/// `interlock serve` on a free port against a sandbox that runs elsewhere; what it logs lies in the
/// folder.
fn serve(folder: &Path, database: &str, sandbox_url: &str, env: &[(&str, String)]) -> Command {
    let mut command = interlock();
    command
        .args([
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--sandbox",
            sandbox_url,
            "--database",
            database,
            "--data",
        ])
        .arg(folder)
        .envs(env.iter().map(|(name, value)| (name, value)))
        .stdout(Stdio::null())
        .stderr(Stdio::from(log_file(folder)));

    command
}

fn log_file(folder: &Path) -> std::fs::File {
    std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(folder.join("stderr.log"))
        .unwrap()
}

/// The log of gateways in this folder, as soon as this is in it: nobody waits for a line to be
/// written.
pub async fn logged(folder: &Path, what: &str) -> String {
    let log = || std::fs::read_to_string(folder.join("stderr.log")).unwrap();
    let began = Instant::now();
    while !log().contains(what) {
        assert!(began.elapsed() < PATIENCE, "not logged: {what}: {}", log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    log()
}

/// Runs a gateway that dies of a kill point by itself, perhaps before it has said a word.
pub async fn dies(folder: &Path, database: &str, sandbox_url: &str, env: &[(&str, String)]) {
    let mut child = serve(folder, database, sandbox_url, env).spawn().unwrap();
    killed(&mut child).await;
}

/// Waits until SIGKILL has ended it, and nothing else.
async fn killed(child: &mut Child) {
    let status = tokio::time::timeout(PATIENCE, child.wait())
        .await
        .expect("the kill point is reached")
        .unwrap();
    assert_eq!(
        std::os::unix::process::ExitStatusExt::signal(&status),
        Some(9),
        "{status}"
    );
}

impl Process {
    /// Starts `interlock serve` on a free port against a sandbox that runs elsewhere; `kill_point`
    /// arms one.
    pub async fn start(
        folder: &Path,
        database: &str,
        sandbox_url: &str,
        kill_point: Option<&str>,
    ) -> Self {
        let env: Vec<_> = kill_point
            .map(|point| ("INTERLOCK_KILL_POINT", point.to_owned()))
            .into_iter()
            .collect();
        Self::with(folder, database, sandbox_url, &env).await
    }

    /// As `start`, with these environment variables.
    pub async fn with(
        folder: &Path,
        database: &str,
        sandbox_url: &str,
        env: &[(&str, String)],
    ) -> Self {
        Self::launch(serve(folder, database, sandbox_url, env), folder).await
    }

    /// Starts `interlock serve` as `command` says, with a sandbox and its data in `folder`, and
    /// waits until it serves.
    pub async fn launch(mut command: Command, folder: &Path) -> Self {
        std::fs::create_dir_all(folder).unwrap();
        command
            .stdout(Stdio::piped())
            .stderr(Stdio::from(log_file(folder)));
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut greeting = Vec::new();
        let greeted = tokio::time::timeout(PATIENCE, async {
            while let Some(line) = lines.next_line().await.unwrap() {
                greeting.push(line);
                if greeting
                    .iter()
                    .filter(|line| line.starts_with("curl "))
                    .count()
                    == 2
                {
                    return true;
                }
            }
            false
        });

        let greeted = greeted.await.unwrap_or(false);
        let log = || std::fs::read_to_string(folder.join("stderr.log")).unwrap_or_default();
        assert!(greeted, "the gateway did not start: {}", log());

        let listens = greeting
            .iter()
            .find_map(|line| line.trim_start().strip_prefix("listens on"));
        let address = listens
            .and_then(|text| text.trim().parse().ok())
            .expect("the greeting names the address");

        // Whoever prints into a closed pipe dies of it.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let demo: Demo =
            serde_json::from_slice(&std::fs::read(folder.join("demo.json")).unwrap()).unwrap();
        let client = Client::new(&demo.base_url, &demo.api_key);

        Self {
            child,
            address,
            client,
            demo,
            greeting,
        }
    }

    /// Waits until the process has died of its kill point.
    pub async fn died(&mut self) {
        killed(&mut self.child).await;
    }

    /// Ends it as an operator would, and expects exit code 0.
    pub async fn terminate(mut self) {
        signal(&self.child, Signal::TERM);
        let began = Instant::now();
        let status = tokio::time::timeout(PATIENCE, self.child.wait())
            .await
            .expect("it drains")
            .unwrap();
        assert!(status.success(), "{status} after {:?}", began.elapsed());
    }
}

/// Sends a signal to a process that this test has started.
pub fn signal(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}
