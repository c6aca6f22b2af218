//! Closes entries of the work list whose cause has gone by itself, and says so in their rows.
//! Decides nothing.

use std::sync::Arc;
use std::time::Duration;

use crate::app::App;
use crate::payments::work_list::close_gone;
use crate::store;

use super::{Failed, Job, Next, periodic};

/// Pause between two looks through the list.
const PAUSE: Duration = Duration::from_secs(5);

/// Runs until the gateway drains.
pub async fn run(app: Arc<App>) {
    periodic(app, PAUSE, "work list", LookThrough).await;
}

struct LookThrough;

impl Job for LookThrough {
    const FOLLOWS_JUMPS: bool = true;

    async fn step(&mut self, app: &Arc<App>) -> Result<Next, Failed> {
        step(app).await?;
        Ok(Next::Pause)
    }
}

/// One look through the whole list.
///
/// # Errors
/// The database's.
pub async fn step(app: &App) -> Result<(), store::Error> {
    let mut after = None;
    while let Some(last) = close_gone(app, after.as_ref()).await? {
        after = Some(last);
        if app.draining.is_cancelled() {
            break;
        }
    }
    Ok(())
}
