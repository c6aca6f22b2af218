//! Which connections may still be used. One that is doubted, does not answer or was left inside a
//! transaction is handed out to nobody.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sqlx::Connection as _;
use sqlx::pool::PoolOptions;
use tokio::sync::watch;

use crate::mutate;

/// A connection that has been idle for so long is asked whether it is still there before it is
/// used.
const DOUBTED_AFTER_IDLE: Duration = Duration::from_secs(1);
/// It has so long to answer that.
const PING_TIMEOUT: Duration = Duration::from_millis(1_500);
/// Once a connection is doubted, those that are waited for as well get this part of the time.
pub(super) const LESS_PATIENT: u32 = 4;

/// Which connections may still be used: those that were made after the last doubt.
#[derive(Debug)]
pub(super) struct Trust {
    began: Instant,
    /// Milliseconds after `began`.
    since_ms: AtomicU64,
    /// Counts the doubts, for whoever waits for an answer over a connection that is doubted
    /// meanwhile.
    lost: watch::Sender<u64>,
}

impl Trust {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            began: Instant::now(),
            since_ms: AtomicU64::new(0),
            lost: watch::Sender::new(0),
        })
    }

    /// No connection that exists now is used again.
    pub(super) fn lose(&self) {
        let now_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.since_ms
            .fetch_max(now_ms.saturating_add(1), Ordering::Relaxed);
        self.lost
            .send_modify(|doubts| *doubts = doubts.wrapping_add(1));
    }

    /// Ends when the next doubt is so long ago that an answer would have come, were there one.
    pub(super) async fn is_lost_for(&self, patience: Duration) {
        let mut lost = self.lost.subscribe();
        // The sender lives as long as we do.
        let _ = lost.changed().await;
        tokio::time::sleep(patience / LESS_PATIENT).await;
    }

    fn holds(&self, age: Duration) -> bool {
        let made_ms = self.began.elapsed().saturating_sub(age).as_millis();
        made_ms >= u128::from(self.since_ms.load(Ordering::Relaxed))
    }
}

/// Hands out no connection that is doubted, was left inside a transaction, or does not answer.
pub(super) fn kept_clean<DB: sqlx::Database>(
    options: PoolOptions<DB>,
    trust: &Arc<Trust>,
) -> PoolOptions<DB> {
    let (before, after) = (Arc::clone(trust), Arc::clone(trust));

    options
        .before_acquire(move |connection, meta| {
            let trust = Arc::clone(&before);
            Box::pin(async move {
                mutate!(TrustEveryConnection => return Ok(true));
                mutate!(WaitWithoutEnd => return Ok(true));
                if !trust.holds(meta.age) || connection.is_in_transaction() {
                    return Ok(false);
                }
                if meta.idle_for < DOUBTED_AFTER_IDLE {
                    return Ok(true);
                }
                let answers = matches!(
                    tokio::time::timeout(PING_TIMEOUT, connection.ping()).await,
                    Ok(Ok(()))
                );
                if !answers {
                    trust.lose();
                }
                Ok(answers)
            })
        })
        .after_release(move |connection, meta| {
            let keeps = after.holds(meta.age) && !connection.is_in_transaction();
            mutate!(let keeps = keeps
                || crate::mutated!(TrustEveryConnection)
                || crate::mutated!(WaitWithoutEnd));
            Box::pin(async move { Ok(keeps) })
        })
}
