//! Watches over health, queues and the work list, and writes incidents: opened once trouble has
//! held for a while, closed once it was gone for a while, both by a clock that nobody sets. Any
//! number of gateways do so on one database: the rows say who was first, and nobody closes what
//! another one still sees. Also makes, from those rows, what receivers have to be told; sending it
//! is [`super::alerts`]. No payment waits for any of it.

mod signals;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use crate::app::App;
use crate::config::Receiver;
use crate::domain::id::{self, Kind};
use crate::domain::incident::{Cause, Change, Debounce, Phase, Severity, Sight, Subject};
use crate::domain::{Timestamp, time};
use crate::incidents::{chat, status};
use crate::store::{self, IncidentChange, IncidentRow};
use signals::{Finding, Memory, Open};

use super::{Failed, Job, Next, periodic};

/// While trouble is seen, it is said so many times in the time after which others would close.
const BEATS: u32 = 4;
/// The database is away when it did not answer so many times in a row.
const AWAY_AFTER: u32 = 2;
/// The end of an incident is told of for so long, should all gateways have been down meanwhile.
const TELL_S: i64 = 86_400;

/// Runs until the gateway drains.
pub async fn run(app: Arc<App>) {
    let every = app.config.alerts.interval;
    periodic(app, every, "incidents", Watcher::new()).await;
}

impl Job for Watcher {
    const FOLLOWS_JUMPS: bool = false;

    async fn step(&mut self, app: &Arc<App>) -> Result<Next, Failed> {
        let looked = self.look(app).await;
        // One that can be read and not written takes no payments either.
        self.unanswered = if looked.is_ok() && app.store.commits_failing().is_none() {
            0
        } else {
            self.unanswered.saturating_add(1)
        };
        if self.unanswered >= AWAY_AFTER {
            app.incidents.database_is_away();
        }
        looked?;
        Ok(Next::Pause)
    }
}

/// What this gateway has seen of one subject.
#[derive(Debug, Default)]
struct Watched {
    hold: Debounce,
    /// The phase at the last look that showed anything.
    phase: Option<Phase>,
    /// The incident's beats at the last look.
    beats: Option<i64>,
    /// When this gateway last said that it sees the trouble.
    beaten: Option<i64>,
}

struct Watcher {
    began: Instant,
    memory: Memory,
    watched: HashMap<Subject, Watched>,
    /// What receivers have to be told, and is in the database already.
    told: HashSet<(String, String, String)>,
    /// Looks in a row at which the database could not be used.
    unanswered: u32,
}

impl Watcher {
    fn new() -> Self {
        Self {
            began: Instant::now(),
            memory: Memory::default(),
            watched: HashMap::new(),
            told: HashSet::new(),
            unanswered: 0,
        }
    }

    async fn look(&mut self, app: &App) -> Result<(), store::Error> {
        let own_ms = i64::try_from(self.began.elapsed().as_millis()).unwrap_or(i64::MAX);
        let now = app.clock.now();
        self.memory.compare(now, own_ms);
        let facts = signals::facts(app, now, now.plus_s(-status::HISTORY_S)).await?;
        app.incidents.learn(facts.rows.clone());
        let open: Open<'_> = facts
            .rows
            .iter()
            .filter(|i| i.closed_at.is_none())
            .map(|i| (&i.subject, i))
            .collect();

        for severity in [Severity::Notice, Severity::Page] {
            let count = open
                .values()
                .filter(|incident| incident.severity == severity)
                .count();
            let name: &'static str = severity.into();
            metrics::gauge!("interlock_incidents_open", "severity" => name)
                .set(f64::from(u32::try_from(count).unwrap_or(u32::MAX)));
        }

        let mut findings = signals::of_routes(app, &open);
        findings.extend(signals::of_accounts(app, &open, now));
        findings.extend(self.memory.redis(app, own_ms));
        findings.extend(self.memory.queues(app, &facts, now, own_ms).await?);

        // What nobody looks at any more is over at some time.
        let seen: HashSet<&Subject> = findings.iter().map(|finding| &finding.subject).collect();
        let unseen = open
            .values()
            .filter(|incident| !seen.contains(&incident.subject));
        let unseen: Vec<Finding> = unseen
            .map(|i| signals::ongoing(i.subject.clone(), i.cause, Sight::Unknown))
            .collect();
        findings.extend(unseen);
        self.watched
            .retain(|subject, _| findings.iter().any(|finding| finding.subject == *subject));

        for finding in &findings {
            match open.get(&finding.subject) {
                Some(incident) => self.go_on(app, finding, incident, now, own_ms).await?,
                None => self.open(app, finding, now, own_ms).await?,
            }
        }

        self.tell(app, &facts.rows, now).await
    }

    /// There is no incident about it; perhaps there is to be one.
    async fn open(
        &mut self,
        app: &App,
        finding: &Finding,
        now: Timestamp,
        own_ms: i64,
    ) -> Result<(), store::Error> {
        let watched = self.watched.entry(finding.subject.clone()).or_default();
        watched.hold.see(finding.sight, own_ms);
        (watched.phase, watched.beats) = (Some(finding.phase), None);
        let after = match finding.cause {
            Cause::ProviderFailing => app.config.alerts.failing_after,
            Cause::ProviderDown
            | Cause::RouteDown
            | Cause::AccountRefused
            | Cause::OutcomesInDoubt
            | Cause::PaymentsParked
            | Cause::WebhooksLate
            | Cause::RedisAway
            | Cause::WorkListWaiting => app.config.alerts.open_after,
        };

        let Some(lasted_ms) = watched.hold.bad_for(time::ms(after), own_ms) else {
            return Ok(());
        };
        let Ok(id) = id::new(Kind::Incident) else {
            return Ok(());
        };
        let severity = finding.cause.severity();
        let incident = IncidentRow {
            id,
            subject: finding.subject.clone(),
            cause: finding.cause,
            severity,
            first_severity: severity,
            phase: finding.phase,
            detail: finding.detail.clone(),
            beats: 0,
            version: 1,
            reminders: 0,
            reminded_at: now,
            began_at: finding.began_at.unwrap_or_else(|| now.plus_ms(-lasted_ms)),
            opened_at: now,
            raised_at: None,
            closed_at: None,
        };

        if app.store.open_incident(&incident).await? {
            metrics::counter!("interlock_incidents_total", "cause" => cause_name(finding.cause))
                .increment(1);
            tracing::error!(incident_id = incident.id, subject = %finding.subject,
                cause = %finding.cause, "incident");
        }

        Ok(())
    }

    /// There is an incident about it.
    async fn go_on(
        &mut self,
        app: &App,
        finding: &Finding,
        incident: &IncidentRow,
        now: Timestamp,
        own_ms: i64,
    ) -> Result<(), store::Error> {
        let config = &app.config.alerts;
        let watched = self.watched.entry(finding.subject.clone()).or_default();
        watched.hold.see(finding.sight, own_ms);
        if watched.beats != Some(incident.beats) {
            watched.beats = Some(incident.beats);
            watched.hold.stir();
            watched.hold.see(finding.sight, own_ms);
        }

        let beat_every_ms = time::ms(config.close_after / BEATS);
        if finding.sight == Sight::Bad
            && watched.beaten.is_none_or(|at| own_ms - at >= beat_every_ms)
        {
            app.store.beat_incident(&incident.id).await?;
            watched.beaten = Some(own_ms);
        }
        let change = change(watched, finding, incident, now, own_ms, config);
        if finding.sight != Sight::Unknown {
            watched.phase = Some(finding.phase);
        }
        let Some(change) = change else { return Ok(()) };
        if app.store.change_incident(incident, change, now).await?
            && change == IncidentChange::Closed
        {
            let lasted_ms = now.since(incident.began_at);
            tracing::info!(incident_id = incident.id, subject = %incident.subject, lasted_ms,
                "incident is over");
        }

        Ok(())
    }

    /// Makes what receivers have to be told of: by whoever sees it first, once.
    async fn tell(
        &mut self,
        app: &App,
        rows: &[IncidentRow],
        now: Timestamp,
    ) -> Result<(), store::Error> {
        let receivers = &app.config.alerts.receivers;
        let fresh: Vec<&IncidentRow> = rows
            .iter()
            .filter(|i| i.closed_at.is_none_or(|end| end >= now.plus_s(-TELL_S)))
            .collect();

        if receivers.is_empty() || fresh.is_empty() {
            self.told.clear();
            return Ok(());
        }
        let known = |told: &HashSet<_>, incident: &IncidentRow, receiver: &str, change: Change| {
            told.contains(&(incident.id.clone(), receiver.to_owned(), change.to_string()))
        };
        let named: Vec<(String, &Receiver)> = receivers.iter().map(|r| (chat::id(r), r)).collect();

        // An incident that is over and was told of to its end needs no second look; nor does one
        // nobody was told of.
        let unknown: Vec<String> = fresh
            .iter()
            .filter(|i| {
                named.iter().any(|(name, r)| {
                    changes(i, r)
                        .into_iter()
                        .any(|c| !known(&self.told, i, name, c))
                })
            })
            .map(|i| i.id.clone())
            .collect();

        if unknown.is_empty() {
            return Ok(());
        }
        self.told
            .retain(|(id, _, _)| fresh.iter().any(|i| i.id == *id));
        self.told.extend(app.store.told(&unknown).await?);
        for incident in fresh {
            for (name, receiver) in &named {
                let was_told = self
                    .told
                    .iter()
                    .any(|(id, who, _)| *id == incident.id && who == name);
                let wanted = changes(incident, receiver);
                let (due, not): (Vec<Change>, Vec<Change>) = wanted
                    .into_iter()
                    .filter(|change| !known(&self.told, incident, name, *change))
                    // The end is told to those who were told of the beginning.
                    .partition(|change| *change != Change::Closed || was_told);
                app.store
                    .tell(&incident.id, &due, &[name.as_str()], now)
                    .await?;
                let mark = |change: Change| (incident.id.clone(), name.clone(), change.to_string());
                self.told.extend(due.into_iter().chain(not).map(mark));
            }
        }

        Ok(())
    }
}

fn cause_name(cause: Cause) -> &'static str {
    cause.into()
}

/// What a receiver is to be told of an incident as it is now.
fn changes(incident: &IncidentRow, receiver: &Receiver) -> Vec<Change> {
    if incident.severity < receiver.severity {
        return Vec::new();
    }
    if incident.closed_at.is_some() {
        return vec![Change::Closed];
    }
    let mut changes = Vec::new();
    if incident.first_severity >= receiver.severity {
        changes.push(Change::Opened);
    }
    if incident.raised_at.is_some() {
        changes.push(Change::Worse);
    }
    if incident.reminders > 0 {
        changes.push(Change::Reminder(incident.reminders));
    }

    changes
}

/// What becomes of an incident by this look.
fn change(
    watched: &Watched,
    finding: &Finding,
    incident: &IncidentRow,
    now: Timestamp,
    own_ms: i64,
    config: &crate::config::Alerts,
) -> Option<IncidentChange> {
    if finding.sight == Sight::Bad && finding.cause.severity() > incident.severity {
        return Some(IncidentChange::Raised(finding.cause, finding.phase));
    }
    if watched.hold.is_over(time::ms(config.close_after), own_ms) {
        return Some(IncidentChange::Closed);
    }
    let has_phases = incident.phase != Phase::Ongoing && finding.phase != Phase::Ongoing;

    // A change that this gateway has seen happen: two that do not share health would push it to and
    // fro otherwise.
    let has_moved = watched.phase.is_some_and(|before| before != finding.phase)
        && finding.phase != incident.phase;
    if has_phases && has_moved && finding.sight != Sight::Unknown {
        return Some(IncidentChange::Moved(finding.phase));
    }
    let is_due = now >= incident.reminded_at.plus(config.remind_after);

    (!config.remind_after.is_zero() && is_due).then_some(IncidentChange::Reminded)
}

#[cfg(test)]
mod tests {
    use providers::order::Flow;
    use serde_json::json;

    use super::*;
    use crate::config::{Config, Language, Robot};

    const NOW: Timestamp = Timestamp(1_000_000_000);

    fn incident(cause: Cause, phase: Phase) -> IncidentRow {
        IncidentRow {
            id: "inc_1".to_owned(),
            subject: Subject::Provider("alipay".parse().unwrap(), Flow::Qr),
            cause,
            severity: cause.severity(),
            first_severity: cause.severity(),
            phase,
            detail: json!({}),
            beats: 0,
            version: 1,
            reminders: 0,
            reminded_at: NOW,
            began_at: NOW,
            opened_at: NOW,
            raised_at: None,
            closed_at: None,
        }
    }

    #[test]
    fn a_receiver_is_told_of_what_is_bad_enough_for_it() {
        let receiver = |severity| Receiver {
            robot: Robot::Slack,
            url: "https://chat.example/".to_owned(),
            secret: None,
            language: Language::En,
            severity,
        };
        let notice = incident(Cause::ProviderFailing, Phase::Ongoing);

        let raised = IncidentRow {
            severity: Severity::Page,
            raised_at: Some(NOW),
            ..notice.clone()
        };
        let page = incident(Cause::ProviderDown, Phase::Out);
        let lasting = IncidentRow {
            reminders: 2,
            ..page.clone()
        };

        let over = IncidentRow {
            closed_at: Some(NOW),
            ..lasting.clone()
        };
        use Change as C;

        for (incident, everything, only_pages) in [
            (&notice, vec![C::Opened], vec![]),
            (&raised, vec![C::Opened, C::Worse], vec![C::Worse]),
            (&page, vec![C::Opened], vec![C::Opened]),
            (
                &lasting,
                vec![C::Opened, C::Reminder(2)],
                vec![C::Opened, C::Reminder(2)],
            ),
            (&over, vec![C::Closed], vec![C::Closed]),
        ] {
            assert_eq!(changes(incident, &receiver(Severity::Notice)), everything);
            assert_eq!(changes(incident, &receiver(Severity::Page)), only_pages);
        }
    }

    #[test]
    fn an_incident_gets_worse_moves_and_ends_by_what_is_seen() {
        let config = Config::load(None, &[]).unwrap().alerts;
        let finding = |cause, sight, phase| Finding {
            phase,
            ..signals::ongoing(Subject::Parked, cause, sight)
        };
        let (failing, down) = (Cause::ProviderFailing, Cause::ProviderDown);
        let seen = |before: Phase, sight: Sight, since_ms: i64| {
            let mut watched = Watched {
                phase: Some(before),
                ..Watched::default()
            };
            watched.hold.see(sight, since_ms);
            watched
        };

        let (at, over_at) = (1_000, time::ms(config.close_after));
        for (incident, watched, finding, own_ms, expected) in [
            (
                incident(failing, Phase::Ongoing),
                seen(Phase::Ongoing, Sight::Bad, 0),
                finding(down, Sight::Bad, Phase::Out),
                at,
                Some(IncidentChange::Raised(down, Phase::Out)),
            ),
            (
                incident(down, Phase::Out),
                seen(Phase::Answering, Sight::Bad, 0),
                finding(down, Sight::Bad, Phase::Trial),
                at,
                Some(IncidentChange::Moved(Phase::Trial)),
            ),
            // Another gateway sees it otherwise; this one has seen nothing happen.
            (
                incident(down, Phase::Ramping),
                seen(Phase::Out, Sight::Bad, 0),
                finding(down, Sight::Bad, Phase::Out),
                at,
                None,
            ),
            (
                incident(down, Phase::Out),
                seen(Phase::Back, Sight::Well, 0),
                finding(down, Sight::Well, Phase::Back),
                over_at - 1,
                None,
            ),
            (
                incident(down, Phase::Out),
                seen(Phase::Back, Sight::Well, 0),
                finding(down, Sight::Well, Phase::Back),
                over_at,
                Some(IncidentChange::Closed),
            ),
        ] {
            assert_eq!(
                change(&watched, &finding, &incident, NOW, own_ms, &config),
                expected,
                "{finding:?}"
            );
        }

        let old = incident(down, Phase::Out);
        let later = NOW.plus(config.remind_after);
        let lasts = finding(down, Sight::Bad, Phase::Out);
        let watched = seen(Phase::Out, Sight::Bad, 0);

        assert_eq!(
            change(&watched, &lasts, &old, later, at, &config),
            Some(IncidentChange::Reminded)
        );
    }
}
