//! Who is let in: each merchant's share of requests (`RateLimit` headers, 429), and the load that this gateway takes at
//! all (503). New payments are held back first; reads, refunds, cancels and notifications go on while there is anybody
//! to serve them. Whoever is refused here is refused at once: nothing was asked of the database.

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
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::Problem;
use crate::app::App;
use crate::config;

type ByMerchant = RateLimiter<String, DefaultKeyedStateStore<String>, DefaultClock, StateInformationMiddleware>;

/// One limit of each merchant.
#[derive(Debug)]
struct Policy {
    name: &'static str,
    per_second: NonZeroU32,
    burst: NonZeroU32,
    limiter: ByMerchant,
}

/// Where a merchant stands with a limit; told in headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Standing {
    name: &'static str,
    /// So many at once, and then so many seconds until as many again.
    quota: u32,
    window_s: u32,
    remaining: u32,
}

impl Policy {
    fn new(name: &'static str, per_second: u32, burst: u32) -> Self {
        // Configuration has refused 0.
        let per_second = NonZeroU32::new(per_second).unwrap_or(NonZeroU32::MIN);
        let burst = NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN);
        let limiter = RateLimiter::keyed(Quota::per_second(per_second).allow_burst(burst));
        Self { name, per_second, burst, limiter: limiter.with_middleware() }
    }

    /// Counts a request. `Err`: one too many, and how long until the next one would be let in.
    fn count(&self, merchant_id: &str) -> (Standing, Result<(), Duration>) {
        let (remaining, verdict) = match self.limiter.check_key(&merchant_id.to_owned()) {
            Ok(state) => (state.remaining_burst_capacity(), Ok(())),
            Err(not_until) => (0, Err(not_until.wait_time_from(DefaultClock::default().now()))),
        };
        let window_s = self.burst.get().div_ceil(self.per_second.get());
        (Standing { name: self.name, quota: self.burst.get(), window_s, remaining }, verdict)
    }
}

/// What this gateway takes.
#[derive(Debug)]
pub struct Admission {
    payments: Policy,
    requests: Policy,
    in_progress: Arc<Semaphore>,
    max_commit_wait: Duration,
}

/// A new payment's place, held until its work is done.
#[derive(Debug)]
pub struct Place {
    _permit: OwnedSemaphorePermit,
}

impl Admission {
    /// Everybody is let in as far as is configured.
    #[must_use]
    pub fn new(config: &config::Admission) -> Self {
        Self {
            payments: Policy::new("payments", config.payments_per_s, config.payments_burst),
            requests: Policy::new("requests", config.requests_per_s, config.requests_burst),
            in_progress: Arc::new(Semaphore::new(config.max_in_progress)),
            max_commit_wait: Duration::from_millis(config.max_commit_wait_ms),
        }
    }

    /// Counts a request of a merchant.
    ///
    /// # Errors
    /// 429 when it is one too many.
    pub fn request(&self, request: &HttpRequest, merchant_id: &str) -> Result<(), Problem> {
        count(&self.requests, request, merchant_id)
    }

    /// Counts a request for a new payment or offer, and gives it a place.
    ///
    /// # Errors
    /// 429 when it is the merchant's one too many, 503 when the gateway has too much to do.
    pub fn payment(&self, app: &App, request: &HttpRequest, merchant_id: &str) -> Result<Place, Problem> {
        count(&self.payments, request, merchant_id)?;
        if app.store.commit_wait() > self.max_commit_wait {
            return Err(overloaded("database"));
        }
        let permit = Arc::clone(&self.in_progress).try_acquire_owned();
        permit.map(|permit| Place { _permit: permit }).map_err(|_| overloaded("payments"))
    }

    /// Forgets merchants that have not been seen for a while.
    pub fn tidy(&self) {
        self.payments.limiter.retain_recent();
        self.requests.limiter.retain_recent();
    }
}

fn count(policy: &Policy, request: &HttpRequest, merchant_id: &str) -> Result<(), Problem> {
    let (standing, verdict) = policy.count(merchant_id);
    // The narrower limit is the one that is told: payments are counted after requests.
    request.extensions_mut().insert(standing);
    verdict.map_err(|wait| {
        metrics::counter!("interlock_refused_total", "reason" => standing.name).increment(1);
        let seconds = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).saturating_add(1);
        let detail = format!("More than {} {} a second. Nothing was done.", policy.per_second, policy.name);
        Problem::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", detail).retry_after(seconds)
    })
}

fn overloaded(reason: &'static str) -> Problem {
    metrics::counter!("interlock_refused_total", "reason" => reason).increment(1);
    let detail = "This gateway has as many new payments as it can take. Nothing was done: repeat the request.";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", detail).retry_after(1)
}

/// Tells a merchant where it stands, in the headers of draft-ietf-httpapi-ratelimit-headers.
pub fn tell(request: &HttpRequest, headers: &mut HeaderMap) {
    let Some(Standing { name, quota, window_s, remaining }) = request.extensions().get().copied() else { return };
    let fields = [
        ("ratelimit-policy", format!("\"{name}\";q={quota};w={window_s}")),
        ("ratelimit", format!("\"{name}\";r={remaining};t={window_s}")),
    ];
    for (field, value) in fields {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(HeaderName::from_static(field), value);
        }
    }
}
