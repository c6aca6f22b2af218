//! What one look shows: each subject that can be in trouble, and whether it is. Looks at the board,
//! at queues in the database and at the directory; writes nothing but what is usual.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::app::App;
use crate::config::Alerts;
use crate::domain::incident::{Baseline, Cause, Phase, Sight, Subject, failing_limit, late};
use crate::domain::{AllOwners, Timestamp, time};
use crate::payments::transition::schedule;
use crate::routing::health::BreakerState;
use crate::routing::health::key::HealthKey as Watched;
use crate::routing::health::registry::HealthStatus;
use crate::store::{self, Backlog, IncidentRow, Waiting};

/// Redis has so long to be reached for the first time.
const FIRST_EXCHANGE_MS: i64 = 5_000;
/// What is usual is read again, and learned, so often.
const LEARN_EVERY_MS: i64 = 60_000;
/// The clock was set when it went by so much more or less than time did.
const JUMP_MS: i64 = 1_000;

/// What one look shows of a subject.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Finding {
    pub(super) subject: Subject,
    pub(super) cause: Cause,
    pub(super) sight: Sight,
    pub(super) phase: Phase,
    /// What was seen, for people.
    pub(super) detail: Value,
    /// Since when, where rows tell.
    pub(super) began_at: Option<Timestamp>,
}

/// What the database knows at one moment.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) rows: Vec<IncidentRow>,
    backlog: Backlog,
    undelivered: Option<Timestamp>,
    work_list: Waiting,
}

/// Incidents that have closed since `then` are facts, too.
pub(super) async fn facts(
    app: &App,
    now: Timestamp,
    then: Timestamp,
) -> Result<Facts, store::Error> {
    let mode = app.directory.spoken_mode();
    Ok(Facts {
        rows: app.store.incidents_since(then).await?,
        backlog: app
            .store
            .backlog(mode, now.plus_s(-schedule::OFFER_MARGIN_S))
            .await?,
        undelivered: app.store.oldest_undelivered(mode).await?,
        work_list: app.store.work_list(mode).await?,
    })
}

pub(super) type Open<'a> = HashMap<&'a Subject, &'a IncidentRow>;

/// How providers' flows and accounts' routes are. A route is nobody's news while its whole provider
/// is out, or has only just come back.
pub(super) fn of_routes(app: &App, open: &Open<'_>) -> Vec<Finding> {
    let board = app.health.board();
    let mode = app.directory.spoken_mode();
    let mut standings = board.standings(mode);
    let routes = open.keys().filter_map(|subject| match subject {
        Subject::Route(provider, flow, account_id) => {
            let route = crate::routing::health::RouteId {
                account_id: account_id.clone(),
                provider: *provider,
                flow: *flow,
            };
            board.standing(&Watched::Route(route))
        }
        Subject::Provider(..)
        | Subject::Account(..)
        | Subject::InDoubt(_)
        | Subject::Parked
        | Subject::Webhooks
        | Subject::Redis
        | Subject::WorkList => None,
    });

    for standing in routes {
        if !standings
            .iter()
            .any(|known| known.subject == standing.subject)
        {
            standings.push(standing);
        }
    }

    let finding = |standing: &HealthStatus| match &standing.subject {
        Watched::Provider(whole) => of_provider(
            &app.config.alerts,
            Subject::Provider(whole.provider, whole.flow),
            standing,
        ),
        Watched::Route(route) => {
            let subject = Subject::Route(route.provider, route.flow, route.account_id.clone());
            let finding = by_gate(subject, Cause::RouteDown, standing);
            let told = open.contains_key(&Subject::Provider(route.provider, route.flow));
            if told || standing.with_provider {
                Finding {
                    sight: Sight::Unknown,
                    ..finding
                }
            } else {
                finding
            }
        }
    };

    // What becomes of tests is nobody's outage where there are live accounts.
    let spoken = app.directory.spoken_mode();
    let is_spoken_of = |standing: &&HealthStatus| match &standing.subject {
        Watched::Route(route) => app
            .directory
            .account(&route.account_id)
            .is_none_or(|account| account.owner.mode == spoken),
        Watched::Provider(..) => true,
    };

    standings.iter().filter(is_spoken_of).map(finding).collect()
}

fn of_provider(config: &Alerts, subject: Subject, standing: &HealthStatus) -> Finding {
    let finding = by_gate(subject, Cause::ProviderDown, standing);
    let (least, most) = (
        config.failing_least_percent * 10,
        config.failing_most_percent * 10,
    );
    let fails = standing.has_recent_calls
        && standing.failing >= failing_limit(standing.usually_failing, least, most);
    if standing.gate != BreakerState::Closed || !fails {
        return finding;
    }
    let detail =
        json!({"failing_permille": standing.failing, "usual_permille": standing.usually_failing});

    Finding {
        cause: Cause::ProviderFailing,
        sight: Sight::Bad,
        phase: Phase::Ongoing,
        detail,
        ..finding
    }
}

fn by_gate(subject: Subject, cause: Cause, standing: &HealthStatus) -> Finding {
    let (sight, phase) = match standing.gate {
        BreakerState::Open if standing.answering => (Sight::Bad, Phase::Answering),
        BreakerState::Open => (Sight::Bad, Phase::Out),
        BreakerState::Trial => (Sight::Bad, Phase::Trial),
        // Payments are made over it again.
        BreakerState::Ramping => (Sight::Well, Phase::Ramping),
        BreakerState::Closed if standing.has_recent_calls => (Sight::Well, Phase::Back),
        BreakerState::Closed => (Sight::Unknown, Phase::Back),
    };

    Finding {
        subject,
        cause,
        sight,
        phase,
        detail: json!({}),
        began_at: None,
    }
}

/// Remembers what one look alone does not show.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// When the clock and the time that nobody sets were last compared.
    last: Option<(Timestamp, i64)>,
    /// Since when something was seen waiting.
    waiting_since: HashMap<Subject, i64>,
    usual: HashMap<Subject, (Baseline, i64)>,
    redis_seen: bool,
}

impl Memory {
    /// Notices a clock that was set: what was seen waiting before says nothing about ages any more.
    pub(super) fn compare(&mut self, now: Timestamp, own_ms: i64) {
        let jumped = self
            .last
            .is_some_and(|(then, own)| (now.since(then) - (own_ms - own)).abs() > JUMP_MS);
        if jumped {
            self.waiting_since
                .values_mut()
                .for_each(|since| *since = own_ms);
        }
        self.last = Some((now, own_ms));
    }

    /// The health that gateways share.
    pub(super) fn redis(&mut self, app: &App, own_ms: i64) -> Option<Finding> {
        if app.config.redis.url.is_empty() {
            return None;
        }
        let shared = app.health.board().is_shared();
        self.redis_seen |= shared;
        let sight = match (shared, self.redis_seen || own_ms > FIRST_EXCHANGE_MS) {
            (true, _) => Sight::Well,
            (false, true) => Sight::Bad,
            (false, false) => Sight::Unknown,
        };
        Some(ongoing(Subject::Redis, Cause::RedisAway, sight))
    }

    /// What waits too long: payments, certainty, merchants, decisions.
    pub(super) async fn queues(
        &mut self,
        app: &App,
        facts: &Facts,
        now: Timestamp,
        own_ms: i64,
    ) -> Result<Vec<Finding>, store::Error> {
        let config = &app.config.alerts;
        let mut queues = vec![
            (
                Subject::Parked,
                Cause::PaymentsParked,
                facts.backlog.parked,
                (config.parked_least, config.parked_most),
            ),
            (
                Subject::Webhooks,
                Cause::WebhooksLate,
                Waiting {
                    count: 0,
                    oldest: facts.undelivered,
                },
                (config.webhooks_least, config.webhooks_most),
            ),
            (
                Subject::WorkList,
                Cause::WorkListWaiting,
                facts.work_list,
                (config.work_list, config.work_list),
            ),
        ];

        for protocol in providers::PROTOCOLS {
            let found = facts
                .backlog
                .in_doubt
                .iter()
                .find(|(provider, _)| *provider == protocol.name);
            let waiting = found.map(|(_, waiting)| *waiting).unwrap_or_default();
            let limits = (config.in_doubt_least, config.in_doubt_most);
            queues.push((
                Subject::InDoubt(protocol.name),
                Cause::OutcomesInDoubt,
                waiting,
                limits,
            ));
        }

        let mut findings = Vec::new();
        for (subject, cause, waiting, (least, most)) in queues {
            let usual = self.usual(app, &subject, own_ms).await?;
            let limit_ms = usual.limit_ms(time::ms(least), time::ms(most));
            let waited_ms = self.waited(&subject, waiting.oldest.is_some(), own_ms);
            let age_ms = waiting.oldest.map(|oldest| now.since(oldest));
            let sight = late(age_ms, waited_ms, limit_ms);
            if sight == Sight::Well {
                self.learn(app, &subject, age_ms.unwrap_or(0), now, own_ms)
                    .await?;
            }
            let count = Some(waiting.count).filter(|count| *count > 0);
            let detail = json!({"count": count, "oldest_s": age_ms.unwrap_or(0) / 1_000,
                "limit_s": limit_ms / 1_000});
            findings.push(Finding {
                detail,
                began_at: waiting.oldest,
                ..ongoing(subject, cause, sight)
            });
        }

        Ok(findings)
    }

    fn waited(&mut self, subject: &Subject, waits: bool, own_ms: i64) -> i64 {
        if !waits {
            self.waiting_since.remove(subject);
            return 0;
        }
        own_ms - *self.waiting_since.entry(subject.clone()).or_insert(own_ms)
    }

    async fn usual(
        &mut self,
        app: &App,
        subject: &Subject,
        own_ms: i64,
    ) -> Result<Baseline, store::Error> {
        match self.usual.get(subject) {
            Some((usual, _)) => Ok(*usual),
            None => {
                let usual = app.store.usual(subject).await?;
                // A sample is due at once: the row knows when the last one was taken.
                self.usual
                    .insert(subject.clone(), (usual, own_ms - LEARN_EVERY_MS));
                Ok(usual)
            }
        }
    }

    /// One sample a minute, shared by all gateways.
    async fn learn(
        &mut self,
        app: &App,
        subject: &Subject,
        age_ms: i64,
        now: Timestamp,
        own_ms: i64,
    ) -> Result<(), store::Error> {
        let is_due = self
            .usual
            .get(subject)
            .is_none_or(|(_, read)| own_ms - read >= LEARN_EVERY_MS);
        if is_due {
            app.store.learn_usual(subject, age_ms, now).await?;
            self.usual
                .insert(subject.clone(), (app.store.usual(subject).await?, own_ms));
        }
        Ok(())
    }
}

/// Accounts that their providers refuse. One that is tried again is well once it was heard of.
pub(super) fn of_accounts(app: &App, open: &Open<'_>, now: Timestamp) -> Vec<Finding> {
    let accounts = app.directory.accounts(AllOwners);
    let spoken = app.directory.spoken_mode();
    let of_mode = accounts
        .iter()
        .filter(|account| account.owner.mode == spoken);
    let findings = of_mode.filter_map(|account| {
        let subject = Subject::Account(account.provider.name(), account.id.clone());
        let is_out = !account.disabled && account.set_aside_until.is_some_and(|until| until > now);
        if !is_out && !open.contains_key(&subject) {
            return None;
        }
        let heard = || {
            account
                .provider
                .capabilities()
                .flows
                .iter()
                .any(|capability| {
                    let route = crate::routing::health::RouteId {
                        account_id: account.id.clone(),
                        provider: account.provider.name(),
                        flow: capability.flow,
                    };
                    let standing = app.health.board().standing(&Watched::Route(route));
                    standing.is_some_and(|s| {
                        s.has_recent_calls
                            && matches!(s.gate, BreakerState::Closed | BreakerState::Ramping)
                    })
                })
        };
        let sight = match is_out {
            true => Sight::Bad,
            false if heard() => Sight::Well,
            false => Sight::Unknown,
        };
        Some(ongoing(subject, Cause::AccountRefused, sight))
    });

    findings.collect()
}

pub(super) fn ongoing(subject: Subject, cause: Cause, sight: Sight) -> Finding {
    Finding {
        subject,
        cause,
        sight,
        phase: Phase::Ongoing,
        detail: json!({}),
        began_at: None,
    }
}

#[cfg(test)]
mod tests {
    use providers::order::Flow;

    use super::*;
    use crate::domain::Mode;
    use crate::routing::health::key::Whole;

    fn standing(gate: BreakerState, heard: bool, failing: i64) -> HealthStatus {
        let provider = "alipay".parse().unwrap();
        let subject = Watched::Provider(Whole {
            provider,
            flow: Flow::Qr,
            mode: Mode::Live,
            address: "".into(),
        });

        let usually_failing = 10;
        HealthStatus {
            subject,
            gate,
            since_ms: 0,
            answering: false,
            has_recent_calls: heard,
            failing,
            usually_failing,
            with_provider: false,
        }
    }

    #[test]
    fn a_provider_is_in_trouble_when_it_is_out_or_fails_far_more_often_than_usual() {
        let config = crate::config::Config::load(None, &[]).unwrap().alerts;

        for (gate, heard, failing, sight, cause) in [
            (
                BreakerState::Closed,
                true,
                10,
                Sight::Well,
                Cause::ProviderDown,
            ),
            (
                BreakerState::Closed,
                true,
                69,
                Sight::Well,
                Cause::ProviderDown,
            ),
            (
                BreakerState::Closed,
                true,
                70,
                Sight::Bad,
                Cause::ProviderFailing,
            ),
            (
                BreakerState::Closed,
                false,
                900,
                Sight::Unknown,
                Cause::ProviderDown,
            ),
            (
                BreakerState::Open,
                false,
                0,
                Sight::Bad,
                Cause::ProviderDown,
            ),
            (
                BreakerState::Trial,
                true,
                0,
                Sight::Bad,
                Cause::ProviderDown,
            ),
            (
                BreakerState::Ramping,
                true,
                0,
                Sight::Well,
                Cause::ProviderDown,
            ),
        ] {
            let subject = Subject::Provider("alipay".parse().unwrap(), Flow::Qr);
            let found = of_provider(&config, subject, &standing(gate, heard, failing));
            assert_eq!(
                (found.sight, found.cause),
                (sight, cause),
                "{gate:?} {heard} {failing}"
            );
        }
    }

    #[test]
    fn a_clock_that_is_set_starts_the_watching_of_queues_anew() {
        let mut memory = Memory::default();
        let at = |s: i64| Timestamp(1_000_000 + s * 1_000);
        memory.compare(at(0), 0);
        assert_eq!(memory.waited(&Subject::Parked, true, 0), 0);

        memory.compare(at(10), 10_000);
        assert_eq!(memory.waited(&Subject::Parked, true, 10_000), 10_000);
        memory.compare(at(700), 10_500);
        assert_eq!(
            memory.waited(&Subject::Parked, true, 10_500),
            0,
            "an hour on the clock is no hour"
        );

        assert_eq!(memory.waited(&Subject::Parked, false, 11_000), 0);
        assert_eq!(
            memory.waited(&Subject::Parked, true, 12_000),
            0,
            "it begins when something waits again"
        );
    }
}
