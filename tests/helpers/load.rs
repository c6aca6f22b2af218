//! Load: payments that arrive at a steady pace whatever becomes of those before them, and what
//! became of each.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use super::{Client, fresh, order};

/// What became of one payment.
#[derive(Debug, Clone)]
pub struct Made {
    /// When it was asked for, from the beginning of the load.
    pub at: Duration,
    /// How long the answer took.
    pub took: Duration,
    /// 0: there was no answer.
    pub status: u16,
    /// The payment or problem; null if there was no answer.
    pub body: Value,
    /// What went wrong with the connection.
    pub error: Option<String>,
}

impl Made {
    /// Whether the merchant got what it asked for: an offer, or a place in the queue.
    pub fn is_served(&self) -> bool {
        matches!(self.status, 201 | 202)
    }

    pub fn id(&self) -> &str {
        self.body["id"].as_str().unwrap_or_default()
    }

    /// Who served it, or what came instead.
    pub fn by(&self) -> String {
        match (self.status, self.body["provider"].as_str()) {
            (201, Some(provider)) => provider.to_owned(),
            (202, _) => "parked".to_owned(),
            (0, _) => "no answer".to_owned(),
            (status, _) => format!("HTTP {status}"),
        }
    }
}

/// A load that runs.
pub struct Load {
    made: Arc<Mutex<Vec<Made>>>,
    began: Instant,
    running: tokio::task::JoinHandle<()>,
}

impl Load {
    /// `per_second` payments for so long; each goes to the client that `pick` names at that moment.
    pub fn start(
        per_second: u32,
        length: Duration,
        pick: impl Fn(usize) -> Client + Send + 'static,
    ) -> Self {
        let made: Arc<Mutex<Vec<Made>>> = Arc::default();
        let (began, kept) = (Instant::now(), Arc::clone(&made));
        let running = tokio::spawn(async move {
            let mut asking = JoinSet::new();
            let mut pace = tokio::time::interval(Duration::from_secs(1) / per_second);
            pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
            for number in 0.. {
                pace.tick().await;
                if began.elapsed() >= length {
                    break;
                }
                let (client, kept) = (pick(number), Arc::clone(&kept));
                asking.spawn(async move {
                    let at = began.elapsed();
                    let answer = client
                        .try_post("/v1/payments", &fresh("load"), &order())
                        .await;
                    let took = began.elapsed() - at;
                    let (status, body, error) = match answer {
                        Ok(answer) => (answer.status.as_u16(), answer.json(), None),
                        Err(error) => (0, Value::Null, Some(format!("{error:?}"))),
                    };
                    kept.lock().await.push(Made {
                        at,
                        took,
                        status,
                        body,
                        error,
                    });
                });
            }
            asking.join_all().await;
        });

        Self {
            made,
            began,
            running,
        }
    }

    /// Since when it runs.
    pub fn age(&self) -> Duration {
        self.began.elapsed()
    }

    /// What became of the payments so far.
    pub async fn so_far(&self) -> Vec<Made> {
        self.made.lock().await.clone()
    }

    /// Waits for its end. Oldest first.
    pub async fn end(self) -> Vec<Made> {
        self.running.await.unwrap();
        let mut made = self.made.lock().await.clone();
        made.sort_by_key(|made| made.at);
        made
    }
}

/// Who served what, second by second.
pub fn print_by_second(made: &[Made]) {
    let mut seconds: BTreeMap<u64, BTreeMap<String, u32>> = BTreeMap::new();
    for one in made {
        *seconds
            .entry(one.at.as_secs())
            .or_default()
            .entry(one.by())
            .or_default() += 1;
    }
    for (second, by) in seconds {
        let by: Vec<String> = by
            .iter()
            .map(|(who, count)| format!("{who} {count}"))
            .collect();
        println!("{second:>4} s  {}", by.join(", "));
    }
}

/// The time within which this part of the payments (in percent) was answered.
pub fn percentile(made: &[Made], part: usize) -> Duration {
    let mut took: Vec<Duration> = made.iter().map(|made| made.took).collect();
    took.sort();
    took.get((took.len() * part / 100).min(took.len().saturating_sub(1)))
        .copied()
        .unwrap_or_default()
}
