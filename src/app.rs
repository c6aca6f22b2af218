//! Everything that code may need, in one place: the whole of dependency injection.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use tokio::sync::{Mutex, MutexGuard};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::config::Config;
use crate::directory::Directory;
use crate::domain::id::AccountId;
use crate::incidents::status_cache::Recent;
use crate::progress::{Progress, Unwritten};
use crate::restored::Hold;
use crate::routing::budget::Budget;
use crate::routing::health::monitor::HealthMonitor;
use crate::routing::limiter::Limiters;
use crate::routing::queue::Queue;
use crate::store::Store;
use crate::traces::{self, Traces};
use crate::webhooks::client::Client;

/// A running gateway.
#[derive(Debug)]
pub struct App {
    /// What was configured.
    pub config: Config,
    /// The time.
    pub clock: Clock,
    /// The database.
    pub store: Store,
    /// Accounts, routing and keys.
    pub directory: Directory,
    /// How healthy routes are.
    pub health: HealthMonitor,
    /// How much is asked of each route.
    pub limiters: Limiters,
    /// What may be spent on retries.
    pub budget: Budget,
    /// What providers have answered and could not be written down.
    pub unwritten: Unwritten,
    /// Whether live payments are held, after a restore, and how our numbers at providers begin.
    pub hold: Hold,
    /// Payments that wait for a route.
    pub queue: Queue,
    /// What is remembered of incidents, for the public page.
    pub incidents: Recent,
    /// How the gateway's own jobs get on.
    pub jobs: Progress,
    /// Tells merchants.
    pub webhooks: Client,
    /// Tells a collector what is done for payments.
    pub traces: Traces,
    /// Where providers reach us: `https://pay.example.com`, without a slash at the end.
    pub public_url: String,
    /// Work that outlives the request that began it. Draining waits for it.
    pub tasks: TaskTracker,
    /// Where work runs that must outlive a connection: not on the threads that serve connections.
    pub runtime: tokio::runtime::Handle,
    /// Refunds of one payment are decided about in turn: racing, each would have to be decided
    /// about again whenever another one wins. What keeps the sum right is the payment's version,
    /// also between gateways.
    pub refund_turns: Turns,
    /// Changes of one owner's settings are made in turn: each looks whether it may be, and then is
    /// written. Between gateways only what a row itself refuses is refused.
    pub settings_turns: Turns,
    /// Canceled when this gateway says that it is leaving, before it refuses anything.
    pub leaving: CancellationToken,
    /// Canceled when no new payment is taken any more.
    pub draining: CancellationToken,
}

impl App {
    /// Where an account's provider sends what it has to say about payments.
    #[must_use]
    pub fn notify_url(&self, account_id: &AccountId) -> String {
        format!("{}/notifications/{account_id}", self.public_url)
    }

    /// Where an account's provider sends what it has to say about refunds.
    #[must_use]
    pub fn refund_notify_url(&self, account_id: &AccountId) -> String {
        format!("{}/notifications/{account_id}/refund", self.public_url)
    }

    /// Runs work that must not stop when the connection that asked for it does. It stays part of
    /// what is traced here.
    pub fn spawn<F>(self: &Arc<Self>, work: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.tasks.spawn_on(traces::carried(work), &self.runtime)
    }
}

/// One queue for every 64th id.
#[derive(Debug)]
pub struct Turns([Mutex<()>; 64]);

impl Turns {
    /// Waits until it is this one's turn, which lasts until the guard is dropped.
    pub async fn of(&self, id: &str) -> Option<MutexGuard<'_, ()>> {
        Some(self.0.get(self.queue(id))?.lock().await)
    }

    /// Over the whole id: parts of it are the same in all ids, and its last character takes eight
    /// values only.
    fn queue(&self, id: &str) -> usize {
        let mut hasher = DefaultHasher::new();
        id.hash(&mut hasher);
        let queues = u64::try_from(self.0.len()).unwrap_or(1);
        usize::try_from(hasher.finish() % queues).unwrap_or(0)
    }
}

impl Default for Turns {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Mutex::new(())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::PaymentId;

    #[test]
    fn payments_use_all_queues_and_each_its_own() {
        let turns = Turns::default();
        let mut used = [0_u32; 64];
        for _ in 0..6_400 {
            let id = PaymentId::new().unwrap();
            assert_eq!(turns.queue(&id), turns.queue(&id));
            used[turns.queue(&id)] += 1;
        }
        assert!(
            used.iter().all(|count| (40..200).contains(count)),
            "{used:?}"
        );
    }
}
