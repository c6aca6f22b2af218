//! Sends what receivers of alerts have to be told: one message after the other to each of them,
//! tried again after pauses, never faster than its chat allows. The rows are the jobs: of many
//! gateways one claims each. Should a gateway die after a message was taken and before that is
//! written down, the message is sent once more: at least once, and at most one repeat for each such
//! death. No payment waits for any of it.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::app::App;
use crate::config::Receiver;
use crate::domain::id;
use crate::domain::incident::Change;
use crate::domain::webhook::{self, End, State};
use crate::domain::{Timestamp, Whose};
use crate::incidents::chat;
use crate::incidents::message::Message;
use crate::payments::transition::schedule;
use crate::store::{self, About, AlertRow, AlertTry};

use super::{Failed, Job, Next, periodic};

/// A worker has its message for itself for so much longer than a try can take.
const LEASE_GRACE: Duration = Duration::from_secs(15);
const MINUTE_MS: i64 = 60_000;
/// This part of a minute's messages is kept for what is about all merchants.
const KEPT_FOR_ALL: u64 = 3;

/// Runs until the gateway drains; what is under way then is finished and written down.
pub async fn run(app: Arc<App>) {
    let every = app.config.alerts.interval;
    let mut dispatchers = JoinSet::new();
    for receiver in app.config.alerts.receivers.clone() {
        let name = chat::id(&receiver);
        let (app, job) = (Arc::clone(&app), format!("alerts to {name}"));
        dispatchers
            .spawn(async move { periodic(app, every, &job, Dispatcher { receiver, name }).await });
    }
    while dispatchers.join_next().await.is_some() {}
}

/// Whoever tells one receiver.
struct Dispatcher {
    receiver: Receiver,
    name: String,
}

impl Job for Dispatcher {
    const FOLLOWS_JUMPS: bool = false;

    async fn step(&mut self, app: &Arc<App>) -> Result<Next, Failed> {
        let was_sent = next(app, &self.receiver, &self.name).await?;
        Ok(if was_sent { Next::More } else { Next::Pause })
    }
}

/// What may be told after so many messages of this minute: however many of one merchant's accounts
/// are in trouble, there is room for what all meet.
fn room_for(sent: u64, most: u64) -> Option<About> {
    if sent < most - most / KEPT_FOR_ALL {
        Some(About::Anybody)
    } else if sent < most {
        Some(About::All)
    } else {
        None
    }
}

/// Sends what is due next. False: nothing is.
async fn next(app: &App, receiver: &Receiver, name: &str) -> Result<bool, store::Error> {
    let config = &app.config;
    let now = app.clock.now();
    let lease_until = now.plus(config.webhooks.timeout).plus(LEASE_GRACE);

    let most = config.alerts.per_minute;
    let sent = app
        .store
        .alerts_sent(name, now.plus_ms(-MINUTE_MS), now)
        .await?;
    let Some(about) = room_for(sent, most) else {
        return Ok(false);
    };
    let Some(row) = app.store.claim_alert(name, about, now, lease_until).await? else {
        return Ok(false);
    };

    let (end, answer) = match compose(app, receiver, &row, now).await? {
        Some(post) => {
            let done = app.webhooks.post(&post.url, post.body, now).await;
            match done.end {
                End::Delivered => (
                    chat::judge(receiver.robot, done.answer.as_deref()),
                    done.answer,
                ),
                End::Gone
                | End::HttpStatus
                | End::WrongBody
                | End::ForbiddenAddress
                | End::Unreachable
                | End::Timeout
                | End::Broken
                | End::EndpointDisabled => (done.end, done.answer),
            }
        }
        None => (End::EndpointDisabled, None),
    };
    let done = judged(app, &row, end, answer);
    let word = done.end;
    metrics::counter!("interlock_alerts_total", "robot" => kind(receiver), "result" => word)
        .increment(1);

    match done.status {
        State::Delivered => {
            tracing::info!(incident_id = row.incident_id, receiver = name, change = %row.change,
                "told");
        }
        State::Pending => {
            tracing::warn!(
                receiver = name,
                end = word,
                answer = done.answer,
                "a receiver of alerts took no message"
            );
        }
        State::Failed | State::Stopped => {
            tracing::error!(
                receiver = name,
                end = word,
                answer = done.answer,
                "a message to a receiver is given up"
            );
        }
    }

    app.store.record_alert(&row, &done, app.clock.now()).await?;
    Ok(done.status == State::Delivered)
}

fn kind(receiver: &Receiver) -> &'static str {
    receiver.robot.into()
}

/// What is to be said, as things are now; `None` when the incident is gone.
async fn compose(
    app: &App,
    receiver: &Receiver,
    row: &AlertRow,
    now: Timestamp,
) -> Result<Option<chat::Post>, store::Error> {
    let Some(incident) = app.store.incident(&row.incident_id).await? else {
        return Ok(None);
    };
    let whose = Whose::AllIn(app.directory.spoken_mode());
    let figures = app
        .store
        .figures(&incident, whose, now, now.plus_s(-schedule::OFFER_MARGIN_S))
        .await?;

    // What was raised meanwhile is told as it was when this change was made.
    let incident = match row.change {
        Change::Opened => crate::store::IncidentRow {
            severity: incident.first_severity,
            ..incident
        },
        Change::Worse | Change::Reminder(_) | Change::Closed => incident,
    };
    let message = Message::of(receiver.language, &incident, row.change, &figures, now);

    Ok(Some(chat::post(receiver, &message, now)))
}

/// Where the message stands after this try. A chat's own limit is waited for like any other
/// failure.
fn judged(app: &App, row: &AlertRow, end: End, answer: Option<String>) -> AlertTry {
    let spread = id::random::<4>().map_or(0, u32::from_be_bytes);
    let now = app.clock.now();
    // A robot that is gone may be put back: it is tried again as well.
    let counted = if end == End::Gone {
        End::HttpStatus
    } else {
        end
    };

    let tries = row.tries.saturating_add(1);
    let (status, next_try_at) =
        webhook::after_try(counted, tries, &app.config.alerts.retry, spread, None, now);

    AlertTry {
        status,
        next_try_at,
        end: end.into(),
        answer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_messages_of_a_minute_are_kept_for_what_is_about_all() {
        let told = |sent| room_for(sent, 18);
        assert_eq!(told(0), Some(About::Anybody));
        assert_eq!(told(11), Some(About::Anybody));
        assert_eq!(told(12), Some(About::All));
        assert_eq!(told(17), Some(About::All));
        assert_eq!(told(18), None);
        assert_eq!(
            room_for(0, 1),
            Some(About::Anybody),
            "merchants are heard of"
        );
    }
}
