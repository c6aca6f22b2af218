//! Looks whether the database was brought back from a backup, beneath a running gateway even, and
//! whether a person has said go, perhaps to another gateway.

use std::sync::Arc;
use std::time::Duration;

use super::{Failed, Job, Next, periodic};
use crate::app::App;
use crate::restored::Restored;

/// Between two looks.
const PAUSE: Duration = Duration::from_secs(1);

/// Runs until the gateway drains.
pub async fn run(app: Arc<App>) {
    periodic(app, PAUSE, "restored", Look).await;
}

struct Look;

impl Job for Look {
    const FOLLOWS_JUMPS: bool = false;

    async fn step(&mut self, app: &Arc<App>) -> Result<Next, Failed> {
        let restored = Restored::read(&app.store).await?;
        match app.hold.set(restored.as_ref()) {
            Some(true) => tracing::error!(
                "the database was brought back from a backup: live payments are held"
            ),
            Some(false) => {
                tracing::warn!("live payments go on after the restore: a person has said go")
            }
            None => {}
        }
        Ok(Next::Pause)
    }
}
