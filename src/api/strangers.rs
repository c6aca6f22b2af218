//! Requests whose key is not known: how many of them each peer may make before even that costs
//! anything. Whoever has a key in use is never counted here, so one who guesses keys takes nobody's
//! place, also behind the same balancer.

use std::net::IpAddr;
use std::num::NonZeroU32;

use actix_web::HttpRequest;
use actix_web::http::StatusCode;
use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter, Quota, RateLimiter};

use super::admission::Refused;
use super::error::Problem;
use crate::config;

/// How many peers are told apart. When there are more, all who are new share one limit.
const PEERS: usize = 10_000;
/// So many peers' worth.
const SHARED: u32 = 10;

/// Who comes without a key that is known.
#[derive(Debug)]
pub struct Strangers {
    peers: DefaultKeyedRateLimiter<IpAddr>,
    others: DefaultDirectRateLimiter,
}

/// Whose address it is: of IPv6 everybody has 2^64.
fn network(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(ip) => IpAddr::V6((u128::from(ip) & !u128::from(u64::MAX)).into()),
    }
}

impl Strangers {
    /// As is configured.
    #[must_use]
    pub fn new(config: &config::Admission) -> Self {
        let at_least_one = |count: u32| NonZeroU32::new(count).unwrap_or(NonZeroU32::MIN);
        let quota = |times: u32| {
            let per_second = at_least_one(config.strangers_per_s.saturating_mul(times));
            Quota::per_second(per_second)
                .allow_burst(at_least_one(config.strangers_burst.saturating_mul(times)))
        };
        Self {
            peers: RateLimiter::keyed(quota(1)),
            others: RateLimiter::direct(quota(SHARED)),
        }
    }

    /// Counts a request whose key is not known.
    ///
    /// # Errors
    /// 429 when it is its peer's one too many.
    pub fn count(&self, request: &HttpRequest) -> Result<(), Problem> {
        let peer = request.peer_addr().map(|address| network(address.ip()));
        if self.peers.len() >= PEERS {
            self.peers.retain_recent();
        }
        let now = DefaultClock::default().now();
        let wait = match peer.filter(|_| self.peers.len() < PEERS) {
            Some(peer) => self
                .peers
                .check_key(&peer)
                .map_err(|until| until.wait_time_from(now)),
            None => self
                .others
                .check()
                .map_err(|until| until.wait_time_from(now)),
        };

        wait.map_err(|wait| {
            Refused::Strangers.count(1);
            let seconds = u32::try_from(wait.as_secs())
                .unwrap_or(u32::MAX)
                .saturating_add(1);
            let detail = "Too many requests with keys that are not known. Nothing was done.";
            Problem::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", detail).retry_after(seconds)
        })
    }

    /// Forgets peers that have not been seen for a while.
    pub fn tidy(&self) {
        self.peers.retain_recent();
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;
    use crate::config::Config;

    fn from(ip: &str) -> HttpRequest {
        TestRequest::default()
            .peer_addr(std::net::SocketAddr::new(ip.parse().unwrap(), 4711))
            .to_http_request()
    }

    #[test]
    fn each_peer_has_its_own_limit_and_a_network_of_ipv6_is_one_peer() {
        let flags = [
            ("admission.strangers_per_s", "1".to_owned()),
            ("admission.strangers_burst", "3".to_owned()),
        ];
        let strangers = Strangers::new(&Config::load(None, &flags).unwrap().admission);

        for round in 0..5 {
            assert_eq!(
                strangers.count(&from("127.0.0.1")).is_ok(),
                round < 3,
                "loopback too: {round}"
            );
        }

        assert!(strangers.count(&from("10.0.0.1")).is_ok(), "somebody else");
        for last in 0..5 {
            assert_eq!(
                strangers.count(&from(&format!("2001:db8::{last}"))).is_ok(),
                last < 3,
                "{last}"
            );
        }

        assert!(
            strangers.count(&from("2001:db8:0:1::1")).is_ok(),
            "the next network"
        );
    }

    #[test]
    fn what_is_remembered_of_peers_is_bounded() {
        let strangers = Strangers::new(&Config::load(None, &[]).unwrap().admission);
        for peer in 0..u32::try_from(PEERS).unwrap() + 5_000 {
            let _ = strangers.count(&from(
                &std::net::Ipv4Addr::from(0x0b00_0000 + peer).to_string(),
            ));
        }
        assert!(strangers.peers.len() <= PEERS, "{}", strangers.peers.len());
    }
}
