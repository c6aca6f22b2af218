//! Keeps what is in memory true: the directory, how much of their day accounts have used, and the
//! clock's distance from the database's. Says loudly which accounts are barred.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Failed, Job, Next, clocks, periodic, proofs};
use crate::app::App;
use crate::domain::AllOwners;
use crate::domain::id::AccountId;
use crate::domain::operation::ReviewKind;
use crate::lines;
use crate::store;
use crate::store::change::ReviewItem;

/// A skew beyond this is worth waking somebody for.
const ALARMING_SKEW_MS: i64 = 30_000;
/// A change made on another gateway shows here within a second, its reading included.
const PAUSE: Duration = Duration::from_millis(500);
/// The machine's clock is looked at so often, and compared with the database's at once when it was
/// set.
const LOOK_AT_CLOCK_EVERY: Duration = Duration::from_millis(250);
/// It is compared so often in any case: the database's clock may be set, too, and both drift.
const COMPARE_EVERY: Duration = Duration::from_secs(10);

/// What was left out of the log is told after so many pauses: every 10 seconds.
const LINES_EVERY: u32 = 20;

/// Runs until the gateway drains.
pub async fn run(app: Arc<App>) {
    let clock = ClockWatch {
        compared: Instant::now(),
    };
    tokio::join!(
        periodic(
            Arc::clone(&app),
            PAUSE,
            "housekeeping",
            Housekeeping::default()
        ),
        periodic(Arc::clone(&app), LOOK_AT_CLOCK_EVERY, "clock", clock),
        clocks::run(Arc::clone(&app)),
        proofs::run(Arc::clone(&app)),
    );
}

#[derive(Default)]
struct Housekeeping {
    /// Accounts that were said to be barred.
    said: HashSet<AccountId>,
    rounds: u32,
}

impl Job for Housekeeping {
    const FOLLOWS_JUMPS: bool = false;

    async fn step(&mut self, app: &Arc<App>) -> Result<Next, Failed> {
        let directory = app.directory.refresh().await;
        say_who_is_barred(app, &mut self.said).await;
        let usage = app.directory.refresh_usage(app.clock.now()).await;

        self.rounds = self.rounds.wrapping_add(1);
        if self.rounds.is_multiple_of(LINES_EVERY) {
            lines::report();
        }
        directory?;
        usage?;
        Ok(Next::Pause)
    }
}

/// Whoever notices that a clock was set.
struct ClockWatch {
    compared: Instant,
}

impl Job for ClockWatch {
    const FOLLOWS_JUMPS: bool = false;

    async fn step(&mut self, app: &Arc<App>) -> Result<Next, Failed> {
        let was_set = app.clock.was_set();
        if was_set || self.compared.elapsed() >= COMPARE_EVERY {
            compare_clocks(app).await?;
            self.compared = Instant::now();
        }
        if was_set {
            tracing::warn!(
                skew_ms = app.clock.skew_ms(),
                now = app.clock.now().rfc3339(),
                "this machine's clock was set"
            );
        }
        Ok(Next::Pause)
    }
}

/// An account whose address is not allowed is an attack, or an operator's mistake: both need a
/// person.
async fn say_who_is_barred(app: &App, said: &mut HashSet<AccountId>) {
    let barred: Vec<_> = app
        .directory
        .accounts(AllOwners)
        .into_iter()
        .filter(|account| account.barred.is_some())
        .collect();
    said.retain(|id| barred.iter().any(|account| account.id == *id));

    for account in barred
        .iter()
        .filter(|account| !said.contains(&account.id))
        .collect::<Vec<_>>()
    {
        let why = account.barred.as_deref().unwrap_or_default();
        tracing::error!(
            account_id = %account.id,
            why,
            "the account is barred: nothing is sent for it"
        );

        let detail = format!("Nothing is sent for this account. Its address {why}");
        let Ok(entry) = ReviewItem::new(
            &account.owner,
            ReviewKind::AccountBarred,
            &account.id,
            detail,
            app.clock.now(),
        ) else {
            return;
        };
        match app.store.raise(&entry).await {
            Ok(()) => drop(said.insert(account.id.clone())),
            Err(error) => {
                tracing::error!(%error, "barred accounts could not be put on the work list")
            }
        }
    }
}

/// Takes over the database's time.
///
/// # Errors
/// The database's; the time goes on from what it said last.
pub async fn compare_clocks(app: &App) -> Result<(), store::Error> {
    let (database, round_trip) = app.store.time().await?;
    let skew_ms = app.clock.follow(database, round_trip);
    if skew_ms.abs() > ALARMING_SKEW_MS {
        tracing::error!(
            skew_ms,
            "this machine's clock and the database's are far apart"
        );
    }
    Ok(())
}
