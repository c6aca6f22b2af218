//! The one loop that all jobs run in. It keeps its pace on a clock that nobody sets, looks at least
//! once a second whether it is time, goes on at once while there is more, and notes how each step
//! ended. Does nothing by itself.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::app::App;
use crate::mutate;

/// No sleep is longer without a look.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A job that goes on failing says so again after so long.
const SAY_AGAIN: Duration = Duration::from_secs(30);

/// How a job goes on after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// There is more to do: at once.
    More,
    /// After the usual pause.
    Pause,
    /// After this pause.
    After(Duration),
}

/// Why a step did not do what it should; it is said, and tried again after a pause.
#[derive(Debug)]
pub struct Failed(String);

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<E: std::error::Error> From<E> for Failed {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

/// What runs beside requests.
pub trait Job: Send {
    /// Whether a drill's jump past the end of a pause ends it: where rows say when something is
    /// due.
    const FOLLOWS_JUMPS: bool;

    /// Does what is there to be done now.
    fn step(&mut self, app: &Arc<App>) -> impl Future<Output = Result<Next, Failed>> + Send;

    /// Ends when there is something to do before the pause is over. May be dropped at any time.
    /// Most jobs have nothing that would tell them.
    fn woken(&mut self) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }

    /// The gateway drains: what is under way is finished. Most jobs have nothing under way between
    /// two steps.
    fn end(&mut self, _app: &Arc<App>) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }
}

/// Runs a job until the gateway drains.
pub async fn periodic<J: Job>(app: Arc<App>, every: Duration, name: &str, mut job: J) {
    app.jobs.begin(name, every);
    let mut failing: Option<Instant> = None;
    while !app.draining.is_cancelled() {
        let done = job.step(&app).await;
        app.jobs.ended(name, done.is_ok());

        let next = match done {
            Ok(next) => {
                if failing.take().is_some() {
                    tracing::info!(job = name, "it works again");
                }
                next
            }
            Err(error) => {
                if failing.is_none_or(|said| said.elapsed() >= SAY_AGAIN) {
                    tracing::error!(job = name, %error, "what this job is there for could not be \
                                                         done");
                    failing = Some(Instant::now());
                }
                Next::Pause
            }
        };

        match next {
            // Others have their turn all the same.
            Next::More => tokio::task::yield_now().await,
            Next::Pause => pause(&app, every, &mut job).await,
            Next::After(longer) => pause(&app, longer, &mut job).await,
        }
    }
    job.end(&app).await;
}

async fn pause<J: Job>(app: &App, length: Duration, job: &mut J) {
    mutate!(SleepByTheWallClock => return pause_by_the_wall_clock(app, length, job).await);
    let until = app.clock.steady().saturating_add(length);
    let mut jumps = app.clock.jumps();

    loop {
        let left = until.saturating_sub(app.clock.steady());
        if left.is_zero() {
            return;
        }
        tokio::select! {
            () = app.draining.cancelled() => return,
            () = tokio::time::sleep(left.min(LOOK_EVERY)) => {}
            _ = jumps.changed(), if J::FOLLOWS_JUMPS => {}
            () = job.woken() => return,
        }
    }
}

/// `sleep_by_the_wall_clock`: as long as the wall clock says, and nothing wakes it when that is set
/// back.
#[cfg(feature = "testing")]
async fn pause_by_the_wall_clock<J: Job>(app: &App, length: Duration, job: &mut J) {
    let until = app
        .clock
        .wall()
        .plus_ms(i64::try_from(length.as_millis()).unwrap_or(i64::MAX));
    loop {
        let left = until.since(app.clock.wall());
        let Some(left) = u64::try_from(left).ok().filter(|left| *left > 0) else {
            return;
        };
        tokio::select! {
            () = app.draining.cancelled() => return,
            () = tokio::time::sleep(Duration::from_millis(left)) => {}
            () = job.woken() => return,
        }
    }
}
