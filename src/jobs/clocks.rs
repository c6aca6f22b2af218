//! What providers' answers say of the time. When all of them differ from this gateway's clock it is this gateway's, or its
//! database's, that is wrong: requests are signed by it, and providers refuse them as too old or from the future.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use metrics::gauge;
use providers::ProviderName;

use super::{Failed, Job, Next, periodic};
use crate::app::App;
use crate::domain::AllOwners;
use crate::domain::Mode;

const LOOK_EVERY: Duration = Duration::from_secs(2);
/// What was heard longer ago than this is not spoken of any more.
const HEARD_WITHIN: Duration = Duration::from_secs(300);
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
        let ahead = heard(app);
        for mode in [Mode::Live, Mode::Test] {
            for protocol in providers::PROTOCOLS {
                let skew = ahead.get(&(mode, protocol.name)).map_or(f64::NAN, |ms| ms_as_seconds(*ms));
                let (mode, provider) = (mode.as_str(), protocol.name.as_str());
                gauge!("interlock_provider_clock_skew_seconds", "mode" => mode, "provider" => provider).set(skew);
            }
        }
        let spoken = app.directory.spoken_mode();
        let all = ahead.iter().filter(|((mode, _), _)| *mode == spoken).map(|(_, ms)| *ms);
        let ahead_ms = all.min_by_key(|ms| ms.saturating_abs()).unwrap_or(0);
        app.clock.note_providers(ahead_ms);
        if ahead_ms.saturating_abs() > ALARMING_MS && self.said.is_none_or(|at| at.elapsed() >= SAID_EVERY) {
            self.said = Some(Instant::now());
            tracing::error!(
                ahead_ms,
                "every provider's clock is far from this gateway's: mend the time service of the database's machine, or of \
                 this one if its database is embedded"
            );
        }
        Ok(Next::Pause)
    }
}

/// How far each provider's clock is ahead of ours, in milliseconds: the middle one of what its accounts have heard.
fn heard(app: &App) -> BTreeMap<(Mode, ProviderName), i64> {
    let now = app.clock.now().utc();
    let mut heard: BTreeMap<(Mode, ProviderName), Vec<i64>> = BTreeMap::new();
    for account in app.directory.accounts(AllOwners) {
        if let Some(told) = account.provider.time_told().filter(|told| told.heard.elapsed() < HEARD_WITHIN) {
            let key = (account.owner.mode, account.provider.name());
            heard.entry(key).or_default().push(told.ahead(now).num_milliseconds());
        }
    }
    let middle = |mut all: Vec<i64>| {
        all.sort_unstable();
        all.get(all.len() / 2).copied().unwrap_or(0)
    };
    heard.into_iter().map(|(key, all)| (key, middle(all))).collect()
}

#[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "a skew of less than 285,000 years")]
fn ms_as_seconds(ms: i64) -> f64 {
    ms as f64 / 1_000.0
}
