//! Measures what can be read from rows or the board alone, so that it is there although nothing
//! happens: breakers, scores, accounts, what waits for a route, what is in doubt, what needs a
//! person. Changes nothing.
//!
//! It also makes the series of all that is counted elsewhere ([`register`]), so that the first
//! event is an increase.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use metrics::{counter, gauge};
use providers::provider::ProviderName;
use strum::IntoEnumIterator as _;

use crate::app::App;
use crate::domain::{AllOwners, Mode, Timestamp};
use crate::lines;
use crate::payments::notify;
use crate::payments::transition::schedule;
use crate::routing::health::key::HealthKey;
use crate::routing::health::{BreakerState, RouteId, RouteView};
use crate::store::{self, Backlog, Waiting, counters};
use crate::telemetry;

use super::{Failed, Job, Next, periodic};

/// How often it measures.
const PAUSE: Duration = Duration::from_secs(2);
/// The work list is counted after so many pauses: it is long, and changes slowly.
const WORK_LIST_EVERY: u32 = 5;
/// Routes of accounts that are shown one by one: there may be thousands, and each is a series.
const SHOWN_ROUTES: usize = 60;
/// Ages, in seconds, above which attempts in doubt are counted.
const AGES_S: [i64; 4] = [60, 600, 3_600, 86_400];

/// Makes every series that an alert or a dashboard needs before the first event. To be called once
/// the recorder is there.
pub fn register() {
    gauge!("interlock_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    Mode::iter().for_each(|mode| providers::layer::register_metrics(mode.as_str()));
    counters::register();
    notify::register();
    lines::register();
    counter!("interlock_log_lines_dropped_total").absolute(telemetry::dropped_lines());
    super::webhook::register();
    super::health::register();
    counter!("interlock_commits_unknown_total").increment(0);
    for (mode, protocol) in
        Mode::iter().flat_map(|mode| providers::PROTOCOLS.iter().map(move |each| (mode, each)))
    {
        let (mode, provider) = (mode.as_str(), protocol.name.as_str());
        counter!("interlock_accounts_set_aside_total", "mode" => mode, "provider" => provider)
            .increment(0);
    }
}

/// Runs until the gateway drains.
pub async fn run(app: Arc<App>) {
    periodic(app, PAUSE, "gauges", Gauges::default()).await;
}

/// Whoever measures.
#[derive(Default)]
struct Gauges {
    rounds: u32,
    work: WorkList,
}

impl Job for Gauges {
    const FOLLOWS_JUMPS: bool = false;

    async fn step(&mut self, app: &Arc<App>) -> Result<Next, Failed> {
        let counted = backlog(app).await;
        breakers(app);
        accounts(app, app.clock.now());
        spoken(app);
        counter!("interlock_log_lines_dropped_total").absolute(telemetry::dropped_lines());
        gauge!("interlock_clock_skew_seconds").set(seconds(app.clock.skew_ms()));
        if self.rounds.is_multiple_of(WORK_LIST_EVERY) {
            self.work.measure(app).await?;
        }
        self.rounds = self.rounds.wrapping_add(1);
        counted?;
        Ok(Next::Pause)
    }
}

/// Which mode alerts and dashboards speak of: they keep to the one that is 1.
fn spoken(app: &App) {
    let spoken = app.directory.spoken_mode();
    for mode in Mode::iter() {
        gauge!("interlock_spoken_mode", "mode" => mode.as_str()).set(if mode == spoken {
            1.0
        } else {
            0.0
        });
    }
}

async fn backlog(app: &App) -> Result<(), store::Error> {
    let now = app.clock.now();
    let overdue = now.plus_s(-schedule::OFFER_MARGIN_S);
    let mut counted = Ok(());
    for mode in Mode::iter() {
        let found = async {
            let ages = app.store.doubts_by_age(mode, overdue, now, AGES_S).await?;
            Ok((app.store.backlog(mode, overdue).await?, ages))
        };
        match found.await {
            Ok((backlog, ages)) => waiting(mode, &backlog, &ages, now),
            Err(error) => counted = Err(error),
        }
    }
    gauge!("interlock_database_up").set(if counted.is_ok() { 1.0 } else { 0.0 });
    counted
}

fn waiting(
    mode: Mode,
    backlog: &Backlog,
    ages: &[(ProviderName, [u64; AGES_S.len()])],
    now: Timestamp,
) {
    gauge!("interlock_parked_payments", "mode" => mode.as_str()).set(number(backlog.parked.count));
    gauge!("interlock_parked_oldest_seconds", "mode" => mode.as_str())
        .set(age_s(backlog.parked, now));

    for protocol in providers::PROTOCOLS {
        let found = backlog
            .in_doubt
            .iter()
            .find(|(provider, _)| *provider == protocol.name);
        in_doubt(
            mode,
            protocol.name,
            found.map(|(_, waiting)| *waiting).unwrap_or_default(),
            now,
        );
        let older = ages.iter().find(|(provider, _)| *provider == protocol.name);
        in_doubt_by_age(
            mode,
            protocol.name,
            older.map(|(_, counts)| *counts).unwrap_or_default(),
        );
    }
}

fn in_doubt(mode: Mode, provider: ProviderName, waiting: Waiting, now: Timestamp) {
    let (mode, provider) = (mode.as_str(), provider.as_str());
    gauge!("interlock_attempts_in_doubt", "mode" => mode, "provider" => provider)
        .set(number(waiting.count));
    gauge!("interlock_attempts_in_doubt_oldest_seconds", "mode" => mode, "provider" => provider)
        .set(age_s(waiting, now));
}

fn in_doubt_by_age(mode: Mode, provider: ProviderName, counts: [u64; AGES_S.len()]) {
    for (age_s, count) in AGES_S.into_iter().zip(counts) {
        gauge!(
            "interlock_attempts_in_doubt_older",
            "mode" => mode.as_str(), "provider" => provider.as_str(),
            "than_seconds" => age_s.to_string()
        )
        .set(number(count));
    }
}

/// Over all accounts: one series for each provider, flow and mode, as it is where most merchants
/// call that provider. A provider's flow that was never used is as good as any.
fn breakers(app: &App) {
    for (protocol, mode) in providers::PROTOCOLS
        .iter()
        .flat_map(|p| Mode::iter().map(move |mode| (p, mode)))
    {
        for flow in protocol.capabilities.flows {
            let vital = app
                .health
                .board()
                .peek_provider(protocol.name, flow.flow, mode);
            let (gate, score) = vital.map_or((BreakerState::Closed, 1.0), |vital| {
                (vital.gate(), vital.score().mean())
            });
            let (provider, mode, flow): (_, &'static str, &'static str) =
                (protocol.name.as_str(), mode.into(), flow.flow.into());
            gauge!("interlock_breaker_state", "provider" => provider, "flow" => flow,
                "mode" => mode)
            .set(state(gate));
            gauge!("interlock_route_score", "provider" => provider, "flow" => flow, "mode" => mode)
                .set(score);
        }
    }
}

/// A breaker's state as a number: the worse, the higher.
const fn state(gate: BreakerState) -> f64 {
    match gate {
        BreakerState::Closed => 0.0,
        BreakerState::Ramping => 1.0,
        BreakerState::Trial => 2.0,
        BreakerState::Open => 3.0,
    }
}

/// How many accounts are able, and the routes of the first ones by themselves.
fn accounts(app: &App, now: Timestamp) {
    let mut accounts = app.directory.accounts(AllOwners);
    accounts.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
    for (protocol, mode) in providers::PROTOCOLS
        .iter()
        .flat_map(|p| Mode::iter().map(move |mode| (p, mode)))
    {
        let (mut able, mut aside, mut disabled) = (0, 0, 0);
        let theirs = accounts
            .iter()
            .filter(|account| account.provider.name() == protocol.name);
        for account in theirs.filter(|account| account.owner.mode == mode) {
            if account.disabled {
                disabled += 1;
            } else if account.set_aside_until.is_some_and(|until| until > now) {
                aside += 1;
            } else {
                able += 1;
            }
        }
        for (state, count) in [("able", able), ("set_aside", aside), ("disabled", disabled)] {
            let (provider, mode): (_, &'static str) = (protocol.name.as_str(), mode.into());
            gauge!("interlock_accounts", "provider" => provider, "state" => state, "mode" => mode)
                .set(number(count));
        }
    }

    let routes = accounts
        .iter()
        .filter(|account| !account.disabled)
        .flat_map(|account| {
            let flows = account.provider.capabilities().flows.iter();
            let (id, provider, mode) = (&account.id, account.provider.name(), account.owner.mode);
            flows.map(move |flow| {
                (
                    RouteId {
                        account_id: id.clone(),
                        provider,
                        flow: flow.flow,
                    },
                    mode,
                )
            })
        });

    // A look at a route that nobody has used would put it on the board.
    let known: HashSet<HealthKey> = app
        .health
        .board()
        .versions()
        .into_iter()
        .map(|(subject, _)| subject)
        .collect();

    for (route, mode) in routes.take(SHOWN_ROUTES) {
        let is_known = known.contains(&HealthKey::Route(route.clone()));
        let view = if is_known {
            app.health.snapshot(&route)
        } else {
            RouteView::unknown()
        };
        let flow: &'static str = route.flow.into();
        let labels = [
            ("account", route.account_id.to_string()),
            ("provider", route.provider.as_str().to_owned()),
            ("flow", flow.to_owned()),
            ("mode", mode.to_string()),
        ];
        gauge!("interlock_account_breaker_state", &labels).set(state(view.gate));
        gauge!("interlock_account_calls_in_flight", &labels).set(f64::from(view.in_flight));
    }
}

/// What needs a person, by kind.
#[derive(Default)]
struct WorkList {
    /// Kinds that were ever on it: one that is done is 0, and not what it was last.
    kinds: Vec<String>,
}

impl WorkList {
    async fn measure(&mut self, app: &App) -> Result<(), store::Error> {
        for mode in Mode::iter() {
            let found = app.store.open_operations(mode).await?;
            self.show(mode, &found);
        }
        Ok(())
    }

    fn show(&mut self, mode: Mode, found: &[(String, u64)]) {
        self.kinds
            .extend(found.iter().map(|(kind, _)| kind.clone()));
        self.kinds.sort();
        self.kinds.dedup();
        let count = |kind: &String| {
            found
                .iter()
                .find(|(found, _)| found == kind)
                .map_or(0, |(_, count)| *count)
        };

        let mode = mode.as_str();
        for kind in &self.kinds {
            gauge!("interlock_work_list_entries", "mode" => mode, "kind" => kind.clone())
                .set(number(count(kind)));
        }
        let all = found.iter().map(|(_, count)| *count).sum();

        gauge!("interlock_work_list_entries", "mode" => mode, "kind" => "any").set(number(all));
    }
}

fn number(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

/// How long the oldest one waits; 0 when none does.
fn age_s(waiting: Waiting, now: Timestamp) -> f64 {
    let age_ms = waiting.oldest.map_or(0, |oldest| now.since(oldest).max(0));
    number(u64::try_from(age_ms / 1_000).unwrap_or(0))
}

/// Signed, to the millisecond.
#[expect(
    clippy::float_arithmetic,
    reason = "a measurement, shown in seconds as all of them are"
)]
pub(super) fn seconds(ms: i64) -> f64 {
    f64::from(i32::try_from(ms).unwrap_or(i32::MAX)) / 1_000.0
}
