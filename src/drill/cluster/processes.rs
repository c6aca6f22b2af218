//! Gateways as processes: what they are started with, when they serve, and how they stop.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;

use super::parts::{Gateway, KEY, PATIENCE, Stage, in_vain};
use super::ways::through;
use crate::drill::control_socket::{self, Command};
use crate::drill::disk;
use crate::drill::error::Error;
use crate::testing::kill::DIES_WITH_PARENT;
#[cfg(feature = "testing")]
use crate::testing::mutation;

/// How long gateways wait for calls in flight when they are told to stop, and how much longer that
/// may take.
const DRAIN_S: u64 = 5;
const STOPS_WITHIN: Duration = Duration::from_secs(5);

impl Stage {
    fn settings(&self, gateway: &Gateway, ahead_s: u64) -> Vec<(String, String)> {
        let front = format!("http://{}", self.front.address);
        let door = gateway.door().display().to_string();
        let mut all: Vec<(String, String)> = [
            ("INTERLOCK__SERVER__PUBLIC_URL", front.as_str()),
            ("INTERLOCK__SERVER__WORKERS", "1"),
            ("INTERLOCK__SERVER__DRAIN_S", &DRAIN_S.to_string()),
            ("INTERLOCK__CREDENTIALS__KEY", KEY),
            ("INTERLOCK__DATABASE__CONNECTIONS", "4"),
            ("INTERLOCK__RESOLVER__INTERVAL_MS", "50"),
            ("INTERLOCK__WEBHOOKS__INTERVAL_MS", "50"),
            ("INTERLOCK__WEBHOOKS__ALLOW_HTTP", "true"),
            ("INTERLOCK__WEBHOOKS__ALLOW_NETWORKS", "127.0.0.0/8"),
            ("INTERLOCK__PROVIDERS__ALLOW_NETWORKS", "127.0.0.0/8"),
            ("INTERLOCK__WEBHOOKS__TIMEOUT_MS", "700"),
            // Networks stay real; nobody needs a minute to find out that a sandbox on this machine
            // says nothing.
            ("INTERLOCK__PAYMENTS__OFFER_TIMEOUT_MS", "400"),
            ("INTERLOCK__PAYMENTS__CHARGE_TIMEOUT_MS", "500"),
            ("INTERLOCK__PAYMENTS__QUERY_TIMEOUT_MS", "400"),
            ("INTERLOCK__PAYMENTS__REVERSE_TIMEOUT_MS", "500"),
            ("INTERLOCK__PAYMENTS__REFUND_TIMEOUT_MS", "500"),
            ("INTERLOCK__PAYMENTS__CALL_GRACE_MS", "300"),
            ("INTERLOCK__PAYMENTS__ANSWER_WITHIN_MS", "5000"),
            (control_socket::VARIABLE, door.as_str()),
            (DIES_WITH_PARENT, "1"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();

        all.push(("INTERLOCK_CLOCK_AHEAD_S".to_owned(), ahead_s.to_string()));
        if let Some(library) = &self.ground.faketime {
            let (library, file) = (
                library.display().to_string(),
                gateway.wrong_clock().display().to_string(),
            );
            let faked = [
                ("LD_PRELOAD", library.as_str()),
                ("FAKETIME_TIMESTAMP_FILE", file.as_str()),
                ("FAKETIME_NO_CACHE", "1"),
                ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
                ("DONT_FAKE_MONOTONIC", "1"),
            ];
            all.extend(faked.map(|(name, value)| (name.to_owned(), value.to_owned())));
        }

        if let (Some(url), Some(proxy)) = (&self.ground.redis, &self.redis) {
            all.push(("INTERLOCK__REDIS__URL".to_owned(), through(url, proxy)));
        }
        #[cfg(feature = "testing")]
        all.extend(
            std::env::var(mutation::VARIABLE)
                .ok()
                .map(|rule| (mutation::VARIABLE.to_owned(), rule)),
        );

        all.extend(self.env.iter().cloned());
        all
    }

    /// Starts a gateway that does not run, and waits until it serves.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn start(&self, number: usize) -> Result<(), Error> {
        let Some(gateway) = self.gateways.get(number) else {
            return Ok(());
        };
        let mut child = gateway.child.lock().await;
        if child
            .as_mut()
            .is_some_and(|child| matches!(child.try_wait(), Ok(None)))
        {
            return Ok(());
        }
        let ahead_s = *self.ahead_s.lock().await;

        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(gateway.folder.join("log"));
        let program = std::env::current_exe().map_err(in_vain("the program"))?;
        let mut command = disk::program(&program, self.ground.disk.as_ref());

        command
            .args([
                "serve",
                "--listen",
                &gateway.address.to_string(),
                "--sandbox",
                &self.control,
            ])
            .args(["--database", &self.database_url(gateway), "--data"])
            .arg(&gateway.folder)
            .env_clear()
            .envs(self.settings(gateway, ahead_s))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.map_err(in_vain("log"))?)
            .kill_on_drop(true);

        *child = Some(command.spawn().map_err(in_vain("a gateway"))?);
        drop(child);
        self.until_ready(number).await
    }

    async fn until_ready(&self, number: usize) -> Result<(), Error> {
        let Some(gateway) = self.gateways.get(number) else {
            return Ok(());
        };
        let began = std::time::Instant::now();
        let url = format!("http://{}/healthz", gateway.address);

        loop {
            if self
                .http
                .get(&url)
                .timeout(Duration::from_millis(500))
                .send()
                .await
                .is_ok()
            {
                // Time went on while it started.
                let ahead_s = *self.ahead_s.lock().await;
                let _ = control_socket::command(&gateway.door(), &Command::Ahead(ahead_s)).await;
                return Ok(());
            }
            let dead = match gateway.child.lock().await.as_mut() {
                Some(child) => !matches!(child.try_wait(), Ok(None)),
                None => true,
            };
            // One that was killed while it started is started again by whoever looks after it.
            if dead {
                return Ok(());
            }
            if began.elapsed() > PATIENCE {
                return Err(Error(format!(
                    "gateway {number} does not start: {}",
                    tail(&gateway.folder.join("log"))
                )));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Stops all gateways as an operator would, and says which of them did not stop well.
    pub async fn stop_gateways(&self) -> Vec<String> {
        let mut trouble = Vec::new();
        for (number, gateway) in self.gateways.iter().enumerate() {
            let began = std::time::Instant::now();
            self.signal(number, Signal::TERM).await;
            let Some(mut child) = gateway.child.lock().await.take() else {
                continue;
            };
            match tokio::time::timeout(PATIENCE, child.wait()).await {
                Ok(Ok(status)) if status.success() => {
                    if began.elapsed() > Duration::from_secs(DRAIN_S) + STOPS_WITHIN {
                        trouble.push(format!(
                            "gateway {number} took {} ms to stop",
                            began.elapsed().as_millis()
                        ));
                    }
                }
                Ok(Ok(status)) => trouble.push(format!("gateway {number} stopped with {status}")),
                Ok(Err(error)) => trouble.push(format!("gateway {number}: {error}")),
                Err(_) => trouble.push(format!("gateway {number} does not stop")),
            }
        }

        trouble
    }
}

fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().rev().take(3).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join(" / ")
}
