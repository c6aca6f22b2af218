//! Looks for payments whose time has come, and has them advanced: what is urgent first, as many at
//! once as there are places, without a pause while there is more. What was to be waited for before
//! all time was set back is brought back.

mod places;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::{Id, JoinError, JoinSet};
use tracing::Instrument as _;

use self::places::{Running, allot, lanes};
use super::{Failed, Job, Next, periodic};
use crate::app::App;
use crate::domain::id::PaymentId;
use crate::domain::{Owner, Timestamp, Urgency};
use crate::mutate;
use crate::payments::resolve;
use crate::store::{self, DuePayment, Lane};

/// More places than this for each connection to the database would have requests wait for one.
const PER_CONNECTION: usize = 8;
/// Of each lane and class so many are looked for at once at the most.
const LOOKED_FOR: usize = 64;
/// While there is more than there are places: so much of them is waited for, and so long, before
/// the next look. A look for each single one would be most of the work.
const FREE_PART: usize = 8;
const GATHERED_FOR: Duration = Duration::from_millis(10);
/// Where a class has more than is looked for, all of it is read in turn of its owners: at most so
/// often, and never more than a part of the time.
const IN_TURN_EVERY: Duration = Duration::from_millis(100);
const IN_TURN_PART: u32 = 10;
/// After that has failed.
const NOT_IN_TURN_FOR: Duration = Duration::from_secs(60);
/// Rows that were written ahead of all time are looked for so often although nobody has noticed a
/// step: the clock may have been set while no gateway ran.
const LOOK_AHEAD_EVERY: Duration = Duration::from_secs(60);
/// Gateways' clocks differ by less.
const CLOCKS_DIFFER_MS: i64 = 2_000;
/// So many rows are brought back at once.
const BROUGHT_BACK: u64 = 256;

/// Runs until the gateway drains; what is under way then is finished.
pub async fn run(app: Arc<App>) {
    let every = app.config.resolver.interval;
    periodic(app, every, "resolver", Resolver::default()).await;
}

/// Does everything that is due now, and returns how many payments that were. For tests and drills.
///
/// # Errors
/// The database's.
pub async fn step(app: &Arc<App>) -> Result<usize, store::Error> {
    let mut resolver = Resolver::default();
    let mut count = 0;
    loop {
        count += resolver.take(app).await?;
        match resolver.working.join_next_with_id().await {
            Some(done) => resolver.take_back(&done),
            None => return Ok(count),
        }
    }
}

/// What is being worked on.
#[derive(Default)]
struct Resolver {
    working: JoinSet<()>,
    tasks: HashMap<Id, (Lane, Urgency, Owner)>,
    running: Running,
    /// When classes that are full are read in turn of their owners again.
    in_turn_at: Option<Instant>,
    /// More is due than there are places.
    is_behind: bool,
    /// Another gateway has claimed some of what this one wanted.
    was_overtaken: bool,
    places: usize,
    steps_back: u64,
    looked_ahead: Option<Instant>,
}

impl Job for Resolver {
    const FOLLOWS_JUMPS: bool = true;

    async fn step(&mut self, app: &Arc<App>) -> Result<Next, Failed> {
        while let Some(done) = self.working.try_join_next_with_id() {
            self.take_back(&done);
        }
        let brought_back = self.bring_back(app).await?;
        let claimed = self.take(app).await?;
        mutate!(ResolveOldestFirst => return Ok(Next::After(Duration::from_millis(500))));
        let there_is_more = claimed > 0 || self.was_overtaken || brought_back;
        Ok(if there_is_more {
            Next::More
        } else {
            Next::Pause
        })
    }

    /// While more is due than there are places, some of them are waited for.
    async fn woken(&mut self) {
        if !self.is_behind {
            return std::future::pending().await;
        }
        let Some(done) = self.working.join_next_with_id().await else {
            return;
        };
        self.take_back(&done);
        let gathering = async {
            while self.running.all() > self.places.saturating_sub(self.places / FREE_PART) {
                let Some(done) = self.working.join_next_with_id().await else {
                    return;
                };
                self.take_back(&done);
            }
        };

        let _ = tokio::time::timeout(GATHERED_FOR, gathering).await;
    }

    async fn end(&mut self, _app: &Arc<App>) {
        while self.working.join_next().await.is_some() {}
    }
}

impl Resolver {
    /// Claims what is due and finds a place, and sets to work on it. Returns how many that were.
    async fn take(&mut self, app: &Arc<App>) -> Result<usize, store::Error> {
        let connections = usize::try_from(app.config.database.connections).unwrap_or(usize::MAX);
        self.places = app
            .config
            .resolver
            .batch
            .min(connections.saturating_mul(PER_CONNECTION));
        self.was_overtaken = false;
        let free = self.places.saturating_sub(self.running.all());
        if free == 0 {
            self.is_behind = true;
            return Ok(0);
        }
        let now = app.clock.now();
        let lease_until = now.plus(app.config.resolver.lease);
        mutate!(ResolveOldestFirst => return self.take_oldest(app, now, lease_until).await);

        let each = u64::try_from(free.min(LOOKED_FOR)).unwrap_or(1);
        let mut due = self.due(app, now, each).await?;
        let chosen = allot(&mut due, &mut self.running, self.places);
        self.is_behind = !due.is_empty();

        let (wanted, mut count) = (chosen.len(), 0);
        let ids = chosen.iter().map(|payment| payment.id.clone()).collect();
        let claimed = app.store.claim(ids, now, lease_until).await;
        for payment in chosen {
            if claimed
                .as_ref()
                .is_ok_and(|claimed| claimed.contains(&payment.id))
            {
                self.set_to_work(app, payment);
                count += 1;
            } else {
                self.running
                    .end(payment.lane, payment.urgency, &payment.owner);
            }
        }
        self.was_overtaken = claimed.is_ok() && count < wanted;
        claimed.map(|_| count)
    }

    /// What is due, also of those who come after somebody's thousands.
    async fn due(
        &mut self,
        app: &Arc<App>,
        now: Timestamp,
        each: u64,
    ) -> Result<Vec<DuePayment>, store::Error> {
        let oldest = app.store.due(now, &lanes(), each).await?;

        let mut counts: BTreeMap<(Lane, Urgency), u64> = BTreeMap::new();
        for payment in &oldest {
            *counts.entry((payment.lane, payment.urgency)).or_default() += 1;
        }
        counts.retain(|_, count| *count >= each);
        let begun = Instant::now();
        if counts.is_empty() || self.in_turn_at.is_some_and(|at| begun < at) {
            return Ok(oldest);
        }

        let mut due = Vec::new();
        for (lane, urgency) in counts.into_keys() {
            match app
                .store
                .due_in_turn(
                    now,
                    lane,
                    urgency,
                    u64::try_from(LOOKED_FOR).unwrap_or(u64::MAX),
                )
                .await
            {
                Ok(found) => due.extend(found),
                Err(error) => {
                    // There may be too much of it; what has waited longest is known.
                    tracing::warn!(%error, "what is due could not be read in turn of its owners");
                    self.in_turn_at = Some(Instant::now() + NOT_IN_TURN_FOR);
                    return Ok(oldest);
                }
            }
        }
        self.in_turn_at = Some(Instant::now() + IN_TURN_EVERY.max(begun.elapsed() * IN_TURN_PART));
        let found: HashSet<PaymentId> = due.iter().map(|payment| payment.id.clone()).collect();
        due.extend(
            oldest
                .into_iter()
                .filter(|payment| !found.contains(&payment.id)),
        );
        Ok(due)
    }

    fn set_to_work(&mut self, app: &Arc<App>, payment: DuePayment) {
        let DuePayment {
            id,
            owner,
            lane,
            urgency,
        } = payment;
        let work = app.tasks.track_future(advance(Arc::clone(app), id));
        let task = self.working.spawn_on(work, &app.runtime);
        self.tasks.insert(task.id(), (lane, urgency, owner));
    }

    fn take_back(&mut self, done: &Result<(Id, ()), JoinError>) {
        // One that died is claimed again when its lease is over.
        let id = done.as_ref().map_or_else(JoinError::id, |(id, ())| *id);
        if let Some((lane, urgency, owner)) = self.tasks.remove(&id) {
            self.running.end(lane, urgency, &owner);
        }
    }

    /// Rows whose waits were written before all time was set back. Returns whether there may be
    /// more.
    async fn bring_back(&mut self, app: &Arc<App>) -> Result<bool, Failed> {
        let steps_back = app.clock.steps_back();
        let is_time = self
            .looked_ahead
            .is_none_or(|looked| looked.elapsed() >= LOOK_AHEAD_EVERY);
        if steps_back == self.steps_back && !is_time {
            return Ok(false);
        }
        let now = app.clock.now();

        let left = app
            .store
            .left_ahead(now.plus_ms(CLOCKS_DIFFER_MS), BROUGHT_BACK)
            .await?;
        let more = u64::try_from(left.len()).unwrap_or(0) >= BROUGHT_BACK;

        for payment in left {
            let ahead_ms = Timestamp(payment.scheduled_at).since(now);
            resolve::bring_back(app, &payment.id, ahead_ms).await?;
        }
        if !more {
            (self.steps_back, self.looked_ahead) = (steps_back, Some(Instant::now()));
        }

        Ok(more)
    }

    /// The rule `resolve_oldest_first`: up to 32, whoever is asked.
    #[cfg(feature = "testing")]
    async fn take_oldest(
        &mut self,
        app: &Arc<App>,
        now: Timestamp,
        lease_until: Timestamp,
    ) -> Result<usize, store::Error> {
        let free = 32_usize.saturating_sub(self.running.all());
        let claimed = app
            .store
            .claim_oldest(now, lease_until, u64::try_from(free).unwrap_or(0))
            .await?;
        let count = claimed.len();

        for (id, owner) in claimed {
            self.running.begin(None, Urgency::DEFAULT, &owner);
            self.set_to_work(
                app,
                DuePayment {
                    id,
                    owner,
                    lane: None,
                    urgency: Urgency::DEFAULT,
                },
            );
        }

        Ok(count)
    }
}

async fn advance(app: Arc<App>, payment_id: PaymentId) {
    let span = tracing::info_span!("resolve", %payment_id);
    if let Err(error) = resolve::advance(&app, &payment_id).instrument(span).await {
        tracing::warn!(%payment_id, %error, "a payment could not be advanced");
        if let Err(error) = resolve::stuck(&app, &payment_id, &error).await {
            tracing::error!(%payment_id, %error, "work list not written");
        }
    }
}
