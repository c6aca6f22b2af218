//! What providers' answers say of the time. When all of them differ from this gateway's clock it is
//! this gateway's, or its database's, that is wrong: requests are signed by it, and providers
//! refuse them as too old or from the future.

use std::sync::Arc;
use std::time::{Duration, Instant};

use metrics::gauge;

use super::gauges::seconds;
use super::{Failed, Job, Next, periodic};
use crate::app::App;
use crate::domain::Mode;

const LOOK_EVERY: Duration = Duration::from_secs(2);
/// A skew beyond this is worth waking somebody for.
const ALARMING_MS: i64 = 30_000;
/// It is said again so often while it lasts.
const SAID_EVERY: Duration = Duration::from_secs(60);

/// Runs until the gateway drains.
pub async fn run(app: Arc<App>) {
    periodic(app, LOOK_EVERY, "provider clocks", Clocks { said: None }).await;
}

struct Clocks {
    said: Option<Instant>,
}

impl Job for Clocks {
    const FOLLOWS_JUMPS: bool = false;

    async fn step(&mut self, app: &Arc<App>) -> Result<Next, Failed> {
        let ahead = app.directory.provider_clocks(&app.clock);
        for mode in [Mode::Live, Mode::Test] {
            for protocol in providers::PROTOCOLS {
                let skew = ahead
                    .get(&(mode, protocol.name))
                    .map_or(f64::NAN, |ms| seconds(*ms));
                let (mode, provider) = (mode.as_str(), protocol.name.as_str());
                gauge!("interlock_provider_clock_skew_seconds", "mode" => mode,
                    "provider" => provider)
                .set(skew);
            }
        }

        let ahead_ms = app.directory.providers_ahead_ms(&app.clock);
        app.clock.note_providers(ahead_ms);
        if ahead_ms.saturating_abs() > ALARMING_MS
            && self.said.is_none_or(|at| at.elapsed() >= SAID_EVERY)
        {
            self.said = Some(Instant::now());
            tracing::error!(
                ahead_ms,
                "every provider's clock is far from this gateway's: mend the time service of the \
                database's machine, or of this one if its database is embedded"
            );
        }

        Ok(Next::Pause)
    }
}
