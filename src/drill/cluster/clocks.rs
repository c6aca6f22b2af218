//! The time of a stage: one for all that goes on, gateways that stand still meanwhile, and clocks
//! that are wrong.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use super::parts::{Stage, in_vain};
use crate::drill::control_socket::{self, Command};
use crate::drill::error::Error;

impl Stage {
    /// Moves all clocks by so many seconds.
    pub async fn advance(&self, seconds: u64) {
        if seconds == 0 {
            return;
        }
        let _ = self
            .tell("POST", "/clock", Some(json!({"advance_s": seconds})))
            .await;
        let mut ahead_s = self.ahead_s.lock().await;
        *ahead_s += seconds;
        let stopped = self.stopped.lock().await.clone();
        for (number, gateway) in self.gateways.iter().enumerate() {
            if !stopped.contains(&number) {
                let _ = control_socket::command(&gateway.door(), &Command::Ahead(*ahead_s)).await;
            }
        }
    }

    /// Stops a gateway for so many milliseconds, while a minute goes by for everybody else; then it
    /// goes on.
    pub async fn freeze(&self, number: usize, during: Duration) {
        let _alone = self.at_freezing.lock().await;
        self.stopped.lock().await.insert(number);
        self.signal(number, Signal::STOP).await;
        self.advance(60).await;
        tokio::time::sleep(during).await;
        self.thaw(number).await;
    }

    pub(super) async fn thaw(&self, number: usize) {
        self.signal(number, Signal::CONT).await;
        self.stopped.lock().await.remove(&number);
        let ahead_s = *self.ahead_s.lock().await;
        if let Some(gateway) = self.gateways.get(number) {
            let _ = control_socket::command(&gateway.door(), &Command::Ahead(ahead_s)).await;
        }
    }

    /// The clock of one gateway is wrong by so many seconds.
    pub async fn skew(&self, number: usize, seconds: i64) {
        if let Some(gateway) = self.gateways.get(number) {
            let _ = control_socket::command(&gateway.door(), &Command::Skew(seconds)).await;
        }
    }

    /// Sets the clock of a gateway's machine, in seconds ahead of the right time.
    ///
    /// # Errors
    /// [`Error`].
    pub fn set_clock(&self, number: usize, ahead_s: i64) -> Result<(), Error> {
        let Some(gateway) = self.gateways.get(number) else {
            return Ok(());
        };
        // Whole or not at all: it is read all the time.
        let (file, new) = (gateway.wrong_clock(), gateway.folder.join("clock.new"));
        std::fs::write(&new, format!("{ahead_s:+}\n")).map_err(in_vain("clock"))?;
        std::fs::rename(&new, &file).map_err(in_vain("clock"))
    }
}
