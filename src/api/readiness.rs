//! Whether this gateway can take payments, and if not, why: for whoever balances the load and for
//! people. It is looked at anew at most twice a second, however many ask.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use crate::app::App;

/// Beyond this skew between this machine and the database nothing may be decided by time.
const MAX_SKEW_MS: i64 = 120_000;
/// No step of a job takes so long. One that fails again and again ends all the same, and is no
/// reason: it would fail on every gateway.
const STANDS_STILL: Duration = Duration::from_secs(30);
/// How long a look is good for.
const GOOD_FOR: Duration = Duration::from_millis(500);

/// Why a gateway takes no payments.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    strum::Display,
    strum::IntoStaticStr,
    serde::Serialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
#[schema(as = ReadinessReason)]
pub enum Reason {
    /// The database does not answer.
    DatabaseDown,
    /// The embedded database's file is damaged: a backup has to be brought back.
    DatabaseDamaged,
    /// The database takes no commits: its disk is full, it is read-only, a permission is missing.
    CommitsFail,
    /// A commit has been waited for too long.
    CommitsWait,
    /// What a provider has answered could not be written down.
    OutcomesUnwritten,
    /// A synchronous standby that was there is gone: a lost machine would lose payments that were
    /// sent.
    StandbyGone,
    /// One of its own jobs has not ended a step for long: it waits for something without an end.
    JobStandsStill,
    /// This machine's clock and the database's are too far apart.
    ClockSkew,
    /// It is stopping.
    Draining,
}

/// What was seen last.
#[derive(Debug, Default)]
pub struct Readiness {
    last: Mutex<Option<(Instant, Vec<Reason>)>>,
    had_standby: AtomicBool,
}

impl Readiness {
    /// Why this gateway takes no payments; nothing: it does.
    pub async fn reasons(&self, app: &App) -> Vec<Reason> {
        let mut last = self.last.lock().await;
        let mut reasons = match &*last {
            Some((at, reasons)) if at.elapsed() < GOOD_FOR => reasons.clone(),
            _ => {
                let reasons = self.look(app).await;
                *last = Some((Instant::now(), reasons.clone()));
                reasons
            }
        };
        if app.leaving.is_cancelled() || app.draining.is_cancelled() {
            reasons.push(Reason::Draining);
        }
        reasons
    }

    async fn look(&self, app: &App) -> Vec<Reason> {
        let max_wait = app.config.admission.max_commit_wait;
        let standbys = app.store.synchronous_standbys().await;
        let is_down = match standbys {
            // SQLite has none to ask about.
            Ok(None) => app.store.time().await.is_err(),
            Ok(Some(_)) => false,
            Err(_) => true,
        };

        let count = standbys.ok().flatten();
        let is_gone = count == Some(0) && self.had_standby.load(Ordering::Relaxed);
        self.had_standby
            .fetch_or(count.is_some_and(|count| count > 0), Ordering::Relaxed);
        let found = [
            (is_down, Reason::DatabaseDown),
            (app.store.is_damaged(), Reason::DatabaseDamaged),
            (app.store.commits_failing().is_some(), Reason::CommitsFail),
            (app.store.commit_wait() > max_wait, Reason::CommitsWait),
            (app.unwritten.any(), Reason::OutcomesUnwritten),
            (is_gone, Reason::StandbyGone),
            (
                app.jobs
                    .ages()
                    .iter()
                    .any(|age| age.overdue() > STANDS_STILL),
                Reason::JobStandsStill,
            ),
            (app.clock.skew_ms().abs() > MAX_SKEW_MS, Reason::ClockSkew),
        ];

        found
            .into_iter()
            .filter(|(is_so, _)| *is_so)
            .map(|(_, reason)| reason)
            .collect()
    }
}
