//! Writes down when API keys were used: once a minute and at the end, never on the path of a
//! payment.

use std::sync::Arc;
use std::time::Duration;

use super::{Failed, Job, Next, periodic};
use crate::app::App;

/// Between two writings.
const PAUSE: Duration = Duration::from_secs(60);

/// Runs until the gateway drains; what is known then is written, too.
pub async fn run(app: Arc<App>) {
    periodic(app, PAUSE, "keys", Uses).await;
}

struct Uses;

impl Job for Uses {
    const FOLLOWS_JUMPS: bool = false;

    async fn step(&mut self, app: &Arc<App>) -> Result<Next, Failed> {
        app.directory.note_uses().await?;
        Ok(Next::Pause)
    }

    async fn end(&mut self, app: &Arc<App>) {
        if let Err(error) = app.directory.note_uses().await {
            tracing::error!(%error, "when API keys were used could not be written down");
        }
    }
}
