//! Who is let in: each owner's share of requests (`RateLimit` headers, 429), and the load that this
//! gateway takes at all (503), of which each owner has its part whatever the others take. New
//! payments are held back first; reads, refunds, cancels and notifications go on while there is
//! anybody to serve them. Whoever is refused here is refused at once: nothing was asked of the
//! database.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use actix_web::{HttpMessage as _, HttpRequest};
use governor::clock::{Clock as _, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::keyed::DefaultKeyedStateStore;
use governor::{Quota, RateLimiter};
use parking_lot::{Mutex, MutexGuard};
use strum::IntoEnumIterator as _;

use super::error::Problem;
use super::reading::{Place as BulkTurn, Reading};
use crate::app::App;
use crate::config;
use crate::domain::Owner;
use crate::routing::share::Shares;

type ByOwner =
    RateLimiter<Owner, DefaultKeyedStateStore<Owner>, DefaultClock, StateInformationMiddleware>;

/// Why somebody was not let in, as it is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::EnumIter, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub(super) enum Refused {
    /// More requests than are an owner's share.
    Requests,
    /// More new payments than are, or than this gateway takes.
    Payments,
    /// Too many wait to read.
    Reads,
    /// Commits take too long, or are not possible.
    Database,
    /// The installation is held after a restore.
    Restored,
    /// Too many keys that nobody knows.
    Strangers,
}

impl Refused {
    pub(super) fn count(self, times: u64) {
        metrics::counter!("interlock_refused_total", "reason" => self.name()).increment(times);
    }

    fn name(self) -> &'static str {
        self.into()
    }
}

/// Makes the series of all reasons before the first refusal.
pub fn register() {
    Refused::iter().for_each(|refused| refused.count(0));
}

/// One limit of each owner: a shop's tests take nothing from its live payments.
#[derive(Debug)]
struct Policy {
    refusing: Refused,
    per_second: NonZeroU32,
    burst: NonZeroU32,
    limiter: ByOwner,
}

/// Where a merchant stands with a limit; told in headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct LimitStatus {
    name: &'static str,
    /// So many at once, and then so many seconds until as many again.
    quota: u32,
    window_s: u32,
    remaining: u32,
}

impl Policy {
    fn new(refusing: Refused, per_second: u32, burst: u32) -> Self {
        // Configuration has refused 0.
        let per_second = NonZeroU32::new(per_second).unwrap_or(NonZeroU32::MIN);
        let burst = NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN);
        let limiter = RateLimiter::keyed(Quota::per_second(per_second).allow_burst(burst));
        Self {
            refusing,
            per_second,
            burst,
            limiter: limiter.with_middleware(),
        }
    }

    /// Counts a request. `Err`: one too many, and how long until the next one would be let in.
    fn count(&self, owner: &Owner) -> (LimitStatus, Result<(), Duration>) {
        let (remaining, verdict) = match self.limiter.check_key(owner) {
            Ok(state) => (state.remaining_burst_capacity(), Ok(())),
            Err(not_until) => (
                0,
                Err(not_until.wait_time_from(DefaultClock::default().now())),
            ),
        };
        let window_s = self.burst.get().div_ceil(self.per_second.get());

        (
            LimitStatus {
                name: self.refusing.name(),
                quota: self.burst.get(),
                window_s,
                remaining,
            },
            verdict,
        )
    }
}

/// What this gateway takes.
#[derive(Debug)]
pub struct Admission {
    payments: Policy,
    requests: Policy,
    in_progress: Arc<Mutex<Shares<Owner>>>,
    tests: Tests,
    reading: Reading,
    bulk: Reading,
    max_commit_wait: Duration,
}

/// Of the connections to the database, the part that requests which only read leave to payments.
const KEPT_FOR_PAYMENTS: usize = 4;
/// As long as a database may take to give a connection.
const READ_WAIT: Duration = Duration::from_secs(5);

/// Webhook tests of one owner at the same time.
const TESTS_AT_ONCE: u32 = 4;

/// How many webhook tests of each owner are under way.
type Tests = Arc<Mutex<HashMap<Owner, u32>>>;

/// A webhook test's place, held until it has ended.
#[derive(Debug)]
pub struct TestPlace {
    of: Owner,
    among: Tests,
}

impl Drop for TestPlace {
    fn drop(&mut self) {
        let mut under_way = self.among.lock();
        if let Some(count) = under_way.get_mut(&self.of) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                under_way.remove(&self.of);
            }
        }
    }
}

/// A new payment's place, held until its work is done.
#[derive(Debug)]
pub struct Place {
    of: Owner,
    among: Arc<Mutex<Shares<Owner>>>,
}

impl Drop for Place {
    fn drop(&mut self) {
        shares(&self.among).give_back(&self.of);
    }
}

fn shares(of: &Mutex<Shares<Owner>>) -> MutexGuard<'_, Shares<Owner>> {
    of.lock()
}

impl Admission {
    /// Everybody is let in as far as is configured, by a gateway with so many connections to its
    /// database.
    #[must_use]
    pub fn new(config: &config::Admission, connections: u32) -> Self {
        let connections = usize::try_from(connections).unwrap_or(usize::MAX);

        Self {
            payments: Policy::new(
                Refused::Payments,
                config.payments_per_s,
                config.payments_burst,
            ),
            requests: Policy::new(
                Refused::Requests,
                config.requests_per_s,
                config.requests_burst,
            ),
            in_progress: Arc::new(Mutex::new(Shares::new(config.max_in_progress))),
            tests: Tests::default(),
            reading: Reading::new(
                connections - connections.div_ceil(KEPT_FOR_PAYMENTS),
                READ_WAIT,
            ),
            bulk: Reading::new(1, READ_WAIT),
            max_commit_wait: config.max_commit_wait,
        }
    }

    /// Counts a request of an owner.
    ///
    /// # Errors
    /// 429 when it is one too many.
    pub fn request(&self, request: &HttpRequest, owner: &Owner) -> Result<(), Problem> {
        count(&self.requests, request, owner)
    }

    /// Counts a request for a new payment or offer, and gives it a place.
    ///
    /// # Errors
    /// 429 when it is the merchant's one too many, 503 when the gateway has too much to do.
    pub fn payment(
        &self,
        app: &App,
        request: &HttpRequest,
        owner: &Owner,
    ) -> Result<Place, Problem> {
        count(&self.payments, request, owner)?;
        held(app, owner)?;
        if app.store.commits_failing().is_some() || app.unwritten.any() {
            return Err(unwritten());
        }
        if app.store.commit_wait_of(owner) > self.max_commit_wait {
            return Err(overloaded(Refused::Database));
        }
        let of = owner.clone();
        let is_let_in = shares(&self.in_progress).take(&of);

        is_let_in
            .then(|| Place {
                of,
                among: Arc::clone(&self.in_progress),
            })
            .ok_or_else(|| overloaded(Refused::Payments))
    }

    /// Waits for a place to read in, which the request has until it is answered. Owners take turns.
    ///
    /// # Errors
    /// 503 when there is none for long.
    pub async fn reading(&self, request: &HttpRequest, owner: &Owner) -> Result<(), Problem> {
        let place = self
            .reading
            .place(owner)
            .await
            .ok_or_else(|| overloaded(Refused::Reads))?;
        request.extensions_mut().insert(place);
        Ok(())
    }

    /// Waits for the turn to write one part of what an owner wants written in bulk. One part is
    /// written at a time, by whichever owner's turn it is: however many replays are asked for,
    /// payments have the database for themselves in between.
    ///
    /// # Errors
    /// 503 when the turn does not come for long.
    pub(super) async fn bulk(&self, owner: &Owner) -> Result<BulkTurn, Problem> {
        self.bulk
            .place(owner)
            .await
            .ok_or_else(|| overloaded(Refused::Database))
    }

    /// Gives a place to an owner's test of a webhook endpoint, which may hang as long as a webhook
    /// may.
    ///
    /// # Errors
    /// 429 when enough of his are under way.
    pub fn webhook_test(&self, owner: &Owner) -> Result<TestPlace, Problem> {
        let mut under_way = self.tests.lock();
        let count = under_way.entry(owner.clone()).or_default();
        if *count >= TESTS_AT_ONCE {
            let detail = "So many webhook tests of yours are under way. Nothing was sent: wait for \
                          their answers.";
            let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "tests_in_progress", detail);
            return Err(problem.retry_after(5));
        }
        *count += 1;
        Ok(TestPlace {
            of: owner.clone(),
            among: Arc::clone(&self.tests),
        })
    }

    /// Forgets merchants that have not been seen for a while.
    pub fn tidy(&self) {
        self.payments.limiter.retain_recent();
        self.requests.limiter.retain_recent();
    }
}

fn count(policy: &Policy, request: &HttpRequest, owner: &Owner) -> Result<(), Problem> {
    let (standing, verdict) = policy.count(owner);
    // The narrower limit is the one that is told: payments are counted after requests.
    request.extensions_mut().insert(standing);
    verdict.map_err(|wait| {
        policy.refusing.count(1);
        let seconds = u32::try_from(wait.as_secs())
            .unwrap_or(u32::MAX)
            .saturating_add(1);
        let detail = format!(
            "More than {} {} a second. Nothing was done.",
            policy.per_second, standing.name
        );
        Problem::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", detail).retry_after(seconds)
    })
}

/// After a restore nothing new is asked of live payers, and no live refund is taken, until a person
/// has said go.
///
/// # Errors
/// 503.
pub fn held(app: &App, owner: &Owner) -> Result<(), Problem> {
    if !app.hold.covers(owner) {
        return Ok(());
    }
    Refused::Restored.count(1);
    let detail = "This installation was brought back from a backup, and its operator has not let \
                  live payments go on yet. Nothing was done: repeat the request.";
    Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "restored", detail).retry_after(30))
}

/// Nothing can be written now, so no payer may be asked for money: the same code as when the
/// database is seen to be gone.
fn unwritten() -> Problem {
    Refused::Database.count(1);
    let detail = "This gateway cannot write anything down at the moment, so no payer is asked for \
                  money. Nothing was done: repeat the request.";
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "service_unavailable",
        detail,
    )
    .retry_after(1)
}

fn overloaded(refused: Refused) -> Problem {
    refused.count(1);
    let detail =
        "This gateway has as much to do as it can take. Nothing was done: repeat the request.";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", detail).retry_after(1)
}

/// Tells a merchant where it stands, in the headers of draft-ietf-httpapi-ratelimit-headers.
pub fn tell(request: &HttpRequest, headers: &mut HeaderMap) {
    let Some(LimitStatus {
        name,
        quota,
        window_s,
        remaining,
    }) = request.extensions().get().copied()
    else {
        return;
    };

    let fields = [
        (
            "ratelimit-policy",
            format!("\"{name}\";q={quota};w={window_s}"),
        ),
        (
            "ratelimit",
            format!("\"{name}\";r={remaining};t={window_s}"),
        ),
    ];

    for (field, value) in fields {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(HeaderName::from_static(field), value);
        }
    }
}
