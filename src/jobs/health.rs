//! Keeps what is known of routes' health fresh: time goes by on the board, routes that are taken
//! out are probed, and gateways tell each other through Redis what they have learned. No payment
//! waits for any of it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use strum::IntoEnumIterator as _;
use tokio::task::JoinSet;

use crate::app::App;
use crate::domain::id;
use crate::mutate;
use crate::routing::budget;
use crate::routing::health::Verdict;
use crate::routing::health::key::HealthKey;
use crate::routing::health::monitor;
use crate::routing::health::record::{FORMAT, HealthRecord};
use crate::routing::health::redis::{
    Life, NoExchange, Place, RestartReason, Seen, Shared, Stored, Write,
};
use crate::routing::health::registry::{Adopted, Change, Probe};
use crate::routing::proof;

use super::{Failed, Job, Next, periodic};

/// How often time goes by on the board.
const TICK: Duration = Duration::from_millis(100);
/// While the store is away, it is tried again after pauses that double up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// The fact that names this installation in Redis.
pub const INSTALLATION: &str = "health";
/// After so many exchanges in which the store has said nothing of what was written to it, it has to
/// begin anew.
const MISSED: u32 = 15;
/// For so long a store's clock may show the same.
const STANDS_STILL: Duration = Duration::from_secs(3);
/// Of one thing that is not believed the log speaks so often.
const SAID_EVERY: Duration = Duration::from_secs(60);
/// So much is removed in one exchange; the rest in the next ones.
const REMOVED_AT_ONCE: usize = 1_000;

/// Lets time go by and probes, until the gateway drains.
pub async fn run(app: Arc<App>) {
    periodic(app, TICK, "probes", Probing(JoinSet::new())).await;
}

/// Probes that are under way. Nobody waits for them when the gateway drains.
struct Probing(JoinSet<()>);

impl Job for Probing {
    const FOLLOWS_JUMPS: bool = false;

    async fn step(&mut self, app: &Arc<App>) -> Result<Next, Failed> {
        app.health.tick();
        for due in app.health.probes_due() {
            self.0.spawn(probe(Arc::clone(app), due));
        }
        while self.0.try_join_next().is_some() {}
        Ok(Next::Pause)
    }
}

/// A signed question about an order that does not exist: nobody's payment is the one that finds
/// out.
async fn probe(app: Arc<App>, due: Probe) {
    let answer = match app.directory.account(&due.route.account_id) {
        Some(account) => {
            let timeout = app.config.health.probe_timeout;
            proof::ask(
                account.provider.as_ref(),
                &app.hold.prefix(),
                app.clock.now().utc(),
                timeout,
            )
            .await
        }
        None => None,
    };
    let verdict = answer
        .as_ref()
        .map_or(Verdict::Nothing, monitor::probe_verdict);
    tracing::debug!(subject = %due.subject, ?verdict, "probed");

    app.health.probed(&due, verdict);
}

/// Exchanges what is known with the other gateways, until this one drains.
pub async fn share(app: Arc<App>, place: Place) {
    let config = &app.config;
    let interval = config.health.interval;
    let Some(installation) = installation(&app).await else {
        return;
    };
    let sharing = Sharing {
        shared: Shared::new(place, &installation, config.redis.timeout),
        seen: Seen::default(),
        word: id::token().unwrap_or_default(),
        anew: false,
        moved: None,
        removals: Vec::new(),
        complaints: Complaints::default(),
        interval,
        pause: interval,
        is_up: None,
    };

    periodic(app, interval, "shared health", sharing).await;
}

impl Job for Sharing {
    const FOLLOWS_JUMPS: bool = false;

    /// Redis is a hint: without it the job has done what it can.
    async fn step(&mut self, app: &Arc<App>) -> Result<Next, Failed> {
        let exchanged = self.exchange(app).await;
        if self.is_up != Some(exchanged.is_ok()) {
            self.is_up = Some(exchanged.is_ok());
            match &exchanged {
                Ok(()) => tracing::info!("health is shared with the other gateways"),
                Err(error) => {
                    tracing::error!(%error, "Redis is away: health is this gateway's own until it \
                                             is back");
                }
            }
        }

        app.health.board().set_shared(exchanged.is_ok());
        metrics::gauge!("interlock_shared_health_up").set(if exchanged.is_ok() {
            1.0
        } else {
            0.0
        });

        self.pause = if exchanged.is_ok() {
            self.interval
        } else {
            (self.pause * 2).min(LONGEST_PAUSE)
        };

        Ok(Next::After(self.pause))
    }
}

/// The name of this installation in a Redis that others may use as well: by chance, and the same
/// for all gateways on one database. `None` when the gateway drains before the database has said
/// it.
async fn installation(app: &App) -> Option<String> {
    while !app.draining.is_cancelled() {
        let new = id::token().ok()?;
        match app.store.installation(INSTALLATION, &new).await {
            // It becomes part of a key: whatever somebody has made of that row, it stays one word.
            Ok(name) => {
                return Some(
                    name.chars()
                        .filter(char::is_ascii_alphanumeric)
                        .take(64)
                        .collect(),
                );
            }
            Err(error) => {
                tracing::error!(%error, "health is not shared: this installation's name cannot be \
                                         read")
            }
        }
        tokio::select! {
            () = app.draining.cancelled() => {}
            () = tokio::time::sleep(LONGEST_PAUSE) => {}
        }
    }

    None
}

/// Makes the series of everything that can be wrong with what is read.
pub fn register() {
    for what in Refused::iter() {
        metrics::counter!("interlock_shared_health_refused_total",
            "what" => <&'static str>::from(what))
        .increment(0);
    }
}

/// What of the shared health is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, strum::EnumIter, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
enum Refused {
    /// A value that no gateway can have written.
    Value,
    /// A name that stands for nothing.
    Subject,
    /// Keys that do not fit together, an old state, or one that keeps nothing: it was emptied.
    Store,
    /// A time of day that is hours off, or does not move.
    Clock,
}

/// Counts what is not believed, and says so now and then: a store that lies does so five times a
/// second.
#[derive(Debug, Default)]
struct Complaints(HashMap<Refused, (Instant, u64)>);

impl Complaints {
    fn note(&mut self, what: Refused, detail: &str) {
        let name: &'static str = what.into();
        metrics::counter!("interlock_shared_health_refused_total", "what" => name).increment(1);
        let (said_at, unsaid) = self.0.entry(what).or_insert_with(|| (Instant::now(), 0));
        if *unsaid > 0 && said_at.elapsed() < SAID_EVERY {
            *unsaid = unsaid.saturating_add(1);
            return;
        }
        tracing::warn!(
            what = name,
            detail,
            unsaid = unsaid.saturating_sub(1),
            "what Redis says of health is not believed"
        );
        (*said_at, *unsaid) = (Instant::now(), 1);
    }
}

struct Sharing {
    shared: Shared,
    seen: Seen,
    /// Makes the name of a life of the store that this gateway begins unlike all others.
    word: String,
    /// The store has kept silent about what was written to it for too long: it is to begin anew.
    anew: bool,
    /// What its clock showed when it last moved, and when that was.
    moved: Option<(i64, Instant)>,
    /// Names that stand for nothing, or for what has left.
    removals: Vec<(String, u64)>,
    complaints: Complaints,
    interval: Duration,
    pause: Duration,
    is_up: Option<bool>,
}

impl Sharing {
    async fn exchange(&mut self, app: &App) -> Result<(), NoExchange> {
        let board = app.health.board();
        let mut writes: Vec<Write> = board
            .take_changes()
            .into_iter()
            .filter_map(written)
            .collect();
        writes.extend(app.budget.take_write().map(|(expected, value)| Write {
            subject: budget::SUBJECT.to_owned(),
            expected,
            value,
        }));
        self.removals.extend(
            board
                .take_removals()
                .into_iter()
                .map(|r| (r.subject.to_string(), r.version)),
        );
        let removed = self.removals.len().min(REMOVED_AT_ONCE);
        let removals = self.removals.iter().take(removed).cloned();
        writes.extend(removals.map(|(subject, expected)| Write {
            subject,
            expected,
            value: String::new(),
        }));
        let exchanged = self
            .shared
            .exchange(&self.word, &self.seen, self.anew, &writes)
            .await?;
        self.check_clock(app, exchanged.now_ms)?;
        self.anew = false;
        self.removals.drain(..removed);

        match exchanged.life {
            Life::Known => {}
            Life::Other => self.reseed(app),
            Life::New(why) => {
                if why != RestartReason::Empty {
                    self.complaints.note(Refused::Store, why.into());
                }
                self.reseed(app);
            }
        }
        for stored in exchanged.changed {
            self.take_over(app, stored);
        }
        self.seen = exchanged.seen;
        if board.exchanged() >= MISSED {
            // What is written to it is neither kept nor written over: whoever claims to be it is
            // none.
            self.anew = true;
        }
        Ok(())
    }

    /// A new life, or another one: whatever it lacks is written anew.
    fn reseed(&self, app: &App) {
        app.health.board().reseed();
        app.budget.reseed();
    }

    /// A store that says the same again and again, its time included, is none.
    fn check_clock(&mut self, app: &App, now_ms: i64) -> Result<(), NoExchange> {
        match self.moved {
            Some((last, at)) if last == now_ms => {
                if at.elapsed() >= STANDS_STILL {
                    self.complaints.note(Refused::Clock, "it stands still");
                    return Err(NoExchange::Frozen);
                }
            }
            Some(_) | None => self.moved = Some((now_ms, Instant::now())),
        }
        if !app.health.follow(now_ms) {
            self.complaints.note(Refused::Clock, "it is minutes off");
        }
        Ok(())
    }

    fn take_over(&mut self, app: &App, stored: Stored) {
        if stored.subject == budget::SUBJECT {
            return self.take_over_budget(app, &stored);
        }
        let board = app.health.board();
        let Ok(subject) = stored.subject.parse::<HealthKey>() else {
            if stored.version > 0 {
                self.complaints
                    .note(Refused::Subject, "a name that stands for nothing");
                self.removals.push((stored.subject, stored.version));
            }
            return;
        };

        if stored.version == 0 {
            board.forgotten(&subject);
            return;
        }
        let read = serde_json::from_str::<Written>(&stored.value).ok();
        let read = read.filter(|read| read.format == FORMAT && read.of == stored.subject);
        mutate!(BelieveRedis => if let Ok(read) = serde_json::from_str::<Written>(&stored.value) {
            board.believe(&subject, read.vital, stored.version, app.health.now_ms());
            return;
        });
        let adopted = match read {
            Some(read) => board.adopt(&subject, read.vital, stored.version, app.health.now_ms()),
            None => board.refuse(&subject, stored.version),
        };

        match adopted {
            Adopted::Taken | Adopted::NotOurs => {}
            Adopted::Refused => self
                .complaints
                .note(Refused::Value, "of a route or a provider"),
        }
    }

    fn take_over_budget(&mut self, app: &App, stored: &Stored) {
        if stored.version == 0 {
            app.budget.reseed();
        } else if !app.budget.adopt(stored.version, &stored.value) {
            self.complaints.note(Refused::Value, "of the retry budget");
            app.budget.write_over(stored.version);
        }
    }
}

/// As it lies in the store.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    format: u32,
    /// The name that it lies under: one that was put under another name says nothing.
    of: String,
    vital: HealthRecord,
}

fn written(change: Change) -> Option<Write> {
    let subject = change.subject.to_string();
    let written = Written {
        format: FORMAT,
        of: subject.clone(),
        vital: change.vital,
    };
    Some(Write {
        subject,
        expected: change.version,
        value: serde_json::to_string(&written).ok()?,
    })
}
