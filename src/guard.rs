//! Where we may go for others: webhooks, calls of accounts, messages to chats. Merchants choose
//! addresses, and our machine stands inside somebody's network: without this, a merchant could have
//! us post to the neighbours, or to the cloud's metadata.
//!
//! What is checked is what is connected: a literal address is checked before anything is done with
//! it, and a name is looked up once, by a resolver that hands on only addresses that are allowed.
//! There is no second lookup that could answer differently.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use ipnet::IpNet;
use providers::address::{self, BadAddress, Url};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::Host;

/// IPv4 addresses that are not somebody's on the internet, from IANA's registry of special-purpose
/// addresses.
const SPECIAL_V4: &[&str] = &[
    "0.0.0.0/8",        // this network
    "10.0.0.0/8",       // private
    "100.64.0.0/10",    // shared by carriers; Alibaba Cloud's metadata
    "127.0.0.0/8",      // loopback
    "168.63.129.16/32", // Azure's host, which looks like any other
    "169.254.0.0/16",   // link-local; metadata of most clouds
    "172.16.0.0/12",    // private
    "192.0.0.0/24",     // protocol assignments; Oracle's metadata
    "192.0.2.0/24",     // documentation
    "192.88.99.0/24",   // 6to4 relays
    "192.168.0.0/16",   // private
    "198.18.0.0/15",    // benchmarks
    "198.51.100.0/24",  // documentation
    "203.0.113.0/24",   // documentation
    "224.0.0.0/4",      // multicast
    "240.0.0.0/4",      // reserved, and broadcast
];

/// Everything on the internet is in here: what is not is loopback, link-local, unique-local,
/// multicast, or an IPv4 address in disguise (mapped, compatible, NAT64).
const GLOBAL_V6: &str = "2000::/3";

/// What in there is not.
const SPECIAL_V6: &[&str] = &[
    "2001::/23",     // protocol assignments: Teredo, ORCHID, benchmarks
    "2001:db8::/32", // documentation
    "2002::/16",     // 6to4: an IPv4 address in disguise
    "3fff::/20",     // documentation
];

/// Why nothing was sent to an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Forbidden {
    /// It is no address.
    #[error(transparent)]
    Form(#[from] BadAddress),
    /// Neither https nor, where that is allowed, http.
    #[error("must be an https address")]
    Scheme,
    /// A port of something that is not the web.
    #[error("has a port that webhooks are not sent to: 80, 443 and those from 1024 on are")]
    Port,
    /// It leads to a network that is nobody's on the internet, and not allowed here.
    #[error("leads to an address that is not public")]
    Network,
}

/// Looks up names. There are two of them: the system's, and the one of a test that lies.
pub trait Lookup: fmt::Debug + Send + Sync + 'static {
    /// All addresses of a name.
    fn lookup(&self, name: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>>;
}

/// The system's resolver.
#[derive(Debug, Clone, Copy)]
pub struct System;

impl Lookup for System {
    fn lookup(&self, name: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        Box::pin(async move {
            Ok(tokio::net::lookup_host((name, 0))
                .await?
                .map(|address| address.ip())
                .collect())
        })
    }
}

/// Says where we may go.
#[derive(Debug, Clone)]
pub struct Guard {
    allowed: Vec<IpNet>,
    allow_http: bool,
    special: Vec<IpNet>,
    global_v6: Option<IpNet>,
}

impl Guard {
    /// A guard that lets us also into these networks of one's own, and through plain http if so
    /// configured.
    #[must_use]
    pub fn new(allowed: Vec<IpNet>, allow_http: bool) -> Self {
        let special = SPECIAL_V4
            .iter()
            .chain(SPECIAL_V6)
            .filter_map(|net| net.parse().ok())
            .collect();
        Self {
            allowed,
            allow_http,
            special,
            global_v6: GLOBAL_V6.parse().ok(),
        }
    }

    /// Checks all that an address itself tells, in every notation that means the same: decimal,
    /// octal, hexadecimal and shortened IPv4 become what they stand for when they are read. A name
    /// is checked again when it is looked up.
    ///
    /// # Errors
    /// [`Forbidden`].
    pub fn check(&self, address: &str) -> Result<Url, Forbidden> {
        self.may_go(address::read(address)?)
    }

    /// As [`Self::check`], of an address that was kept when other texts were taken.
    ///
    /// # Errors
    /// [`Forbidden`].
    pub fn check_stored(&self, address: &str) -> Result<Url, Forbidden> {
        self.may_go(address::stored(address)?)
    }

    fn may_go(&self, url: Url) -> Result<Url, Forbidden> {
        let is_web = url.scheme() == "https" || (url.scheme() == "http" && self.allow_http);
        if !is_web {
            return Err(Forbidden::Scheme);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(BadAddress::User.into());
        }
        if !url
            .port_or_known_default()
            .is_some_and(|port| matches!(port, 80 | 443 | 1024..))
        {
            return Err(Forbidden::Port);
        }

        let literal = match url.host() {
            Some(Host::Ipv4(ip)) => Some(IpAddr::V4(ip)),
            Some(Host::Ipv6(ip)) => Some(IpAddr::V6(ip)),
            Some(Host::Domain(_)) => None,
            None => return Err(BadAddress::Shape.into()),
        };

        match literal {
            Some(ip) if !self.may_connect(ip) => Err(Forbidden::Network),
            Some(_) | None => Ok(url),
        }
    }

    /// Whether we may go to this address.
    #[must_use]
    pub fn may_connect(&self, ip: IpAddr) -> bool {
        let is_global = match ip {
            IpAddr::V4(_) => true,
            IpAddr::V6(_) => self.global_v6.is_some_and(|net| net.contains(&ip)),
        };
        let is_special = self.special.iter().any(|net| net.contains(&ip));
        self.allowed.iter().any(|net| net.contains(&ip)) || (is_global && !is_special)
    }
}

/// Hands on only those addresses of a name that are allowed.
#[derive(Debug, Clone)]
pub struct GuardedResolver {
    /// Who decides.
    pub guard: Arc<Guard>,
    /// Who knows.
    pub lookup: Arc<dyn Lookup>,
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = Arc::clone(&self.guard);
        let found = self.lookup.lookup(name.as_str().to_owned());
        Box::pin(async move {
            let found = found.await?;
            let any = !found.is_empty();
            let allowed: Vec<SocketAddr> = found
                .into_iter()
                .filter(|ip| guard.may_connect(*ip))
                .map(|ip| SocketAddr::new(ip, 0))
                .collect();
            if any && allowed.is_empty() {
                return Err(Forbidden::Network.into());
            }
            Ok::<Addrs, _>(Box::new(allowed.into_iter()))
        })
    }
}

impl providers::http::Guard for GuardedResolver {
    fn may_connect(&self, ip: IpAddr) -> bool {
        self.guard.may_connect(ip)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_network_of_the_table_can_be_read_and_its_ends_are_forbidden() {
        let guard = Guard::new(Vec::new(), false);
        assert_eq!(guard.special.len(), SPECIAL_V4.len() + SPECIAL_V6.len());
        assert!(guard.global_v6.is_some());
        for net in &guard.special {
            assert!(
                !guard.may_connect(net.network()) && !guard.may_connect(net.broadcast()),
                "{net}"
            );
        }
    }

    #[test]
    fn public_addresses_are_not_mistaken_for_special_ones() {
        let guard = Guard::new(Vec::new(), false);

        for ip in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "172.15.255.255",
            "172.32.0.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2001:4860:4860::8888",
            "2606:4700::1111",
            "240e::1",
        ] {
            assert!(guard.may_connect(ip.parse().unwrap()), "{ip}");
        }
    }

    #[test]
    fn a_network_of_ones_own_is_opened_by_the_list_and_no_other() {
        let guard = Guard::new(
            vec!["10.1.0.0/16".parse().unwrap(), "fd12::/16".parse().unwrap()],
            false,
        );
        for (ip, allowed) in [
            ("10.1.2.3", true),
            ("10.2.0.1", false),
            ("fd12::1", true),
            ("fd13::1", false),
            ("::ffff:10.1.2.3", false),
        ] {
            assert_eq!(guard.may_connect(ip.parse().unwrap()), allowed, "{ip}");
        }
        assert!(guard.check("https://10.1.2.3/hook").is_ok());
    }

    #[test]
    fn an_address_tells_what_is_wrong_with_it() {
        let guard = Guard::new(Vec::new(), false);
        for (address, wrong) in [
            ("shop.example", BadAddress::Shape.into()),
            ("https://", BadAddress::Shape.into()),
            ("https://[fe80::1%25eth0]/", BadAddress::Shape.into()),
            ("file:///etc/passwd", BadAddress::Shape.into()),
            ("https://me@shop.example/", BadAddress::User.into()),
            ("https://shop.example/#a", BadAddress::Fragment.into()),
            ("http://shop.example/", Forbidden::Scheme),
            ("https://shop.example:22/", Forbidden::Port),
            ("https://127.1/", Forbidden::Network),
            ("https://0x7f.0.0.1/", Forbidden::Network),
        ] {
            assert_eq!(guard.check(address).unwrap_err(), wrong, "{address}");
        }

        assert!(guard.check("https://shop.example:8443/hook?a=b").is_ok());
        assert!(
            Guard::new(Vec::new(), true)
                .check("http://shop.example/")
                .is_ok()
        );

        // What is stored is sent to as ever: a fragment never is.
        assert!(guard.check_stored("https://shop.example/#a").is_ok());
        assert_eq!(
            guard.check_stored("https://me@shop.example/"),
            Err(BadAddress::User.into())
        );
        assert_eq!(
            guard.check_stored("https://127.1/#a"),
            Err(Forbidden::Network)
        );

        assert_eq!(
            guard.check_stored("file:///etc/passwd"),
            Err(Forbidden::Scheme)
        );
    }
}
