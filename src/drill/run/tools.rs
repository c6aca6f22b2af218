//! What a run works with: the tools that all runs share, and what belongs to this one alone.
#![expect(
    clippy::indexing_slicing,
    reason = "a JSON value gives null for what it has not"
)]

use std::net::SocketAddr;
use std::sync::Arc;

use providers::sandbox::keys::Keys;

use crate::domain::Timestamp;
use crate::drill::cluster::Stage;
use crate::drill::error::Error;
use crate::drill::lies::Liar;
use crate::drill::options::Options;
use crate::drill::receiver::Boxes;
use crate::drill::scenario::Plan;

/// What all runs share.
#[derive(Debug)]
pub struct Tools {
    pub wanted: Options,
    pub keys: Keys,
    pub webhooks: SocketAddr,
    pub boxes: Boxes,
}

pub(super) struct Run<'a> {
    pub(super) tools: &'a Tools,
    pub(super) plan: Plan,
    pub(super) stage: Arc<Stage>,
    pub(super) redis: Option<String>,
    pub(super) liar: Option<Liar>,
    pub(super) name: String,
}

impl Run<'_> {
    /// In milliseconds since 1970.
    pub(super) async fn sandbox_time(&self) -> Result<Timestamp, Error> {
        let clock = self.stage.tell("GET", "/clock", None).await?;
        let now = clock["now"]
            .as_str()
            .and_then(|now| now.parse::<chrono::DateTime<chrono::Utc>>().ok());
        now.map(|now| Timestamp(now.timestamp_millis()))
            .ok_or_else(|| Error("the sandbox has no time".to_owned()))
    }

    pub(super) fn hanging(&self) -> String {
        format!("{}-hangs", self.name)
    }
}
