//! Where accounts may be. A merchant gives credentials, never a destination of its own: what
//! `credentials.base_url` may say stands on a list of each provider's addresses, and
//! `providers.addresses` adds to it. Without this a merchant could have signed calls sent to the
//! neighbours, or to the cloud's metadata, and read their answers in ours.
//!
//! Real money is moved at live addresses alone, over https, and test accounts never come there.
//! Connections go by the resolver that webhooks go by: a name on the list that leads into a private
//! network leads nowhere. The installation's own sandbox is the exception: the operator started it,
//! and it moves no money.
//!
//! An account that was stored with an address that is not allowed (any more) is opened all the
//! same, on a way that is barred. It takes no new payments and calls nobody; what its provider
//! tells of open payments is still verified and booked; calls that are due end as "not sent" and
//! stay due, so that nothing is decided without its provider, and all of it goes on by itself once
//! the address is right. An address that nobody ever allowed and one that was allowed until
//! yesterday look the same in a row, and of the two mistakes waiting is the one that costs no
//! money.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use parking_lot::RwLock;
use providers::http::{Way, base_address};
use providers::provider::AddressKind;
use providers::{Protocol, ProviderName};
use serde_json::{Map, Value};

use crate::config;
use crate::guard::{Guard, GuardedResolver, Lookup};

/// The member of credentials that names an address.
const MEMBER: &str = "base_url";

/// An address that accounts may have.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Allowed {
    provider: ProviderName,
    kind: AddressKind,
    live: bool,
    test: bool,
    base: String,
}

/// What may not be, and what may.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why} {may}")]
pub struct NotAllowed {
    why: &'static str,
    may: String,
}

/// A configured address that no account could be called at.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("providers.addresses: {base} does not lead to a public address")]
pub struct NotPublic {
    base: String,
}

/// The list.
#[derive(Debug)]
pub struct Addresses {
    listed: Vec<Allowed>,
    /// Each provider's face of the own sandbox, while it runs.
    sandbox: RwLock<Vec<(String, String)>>,
    /// Networks that test accounts may also be in.
    networks: Vec<IpNet>,
    /// Whether live accounts may be there, too: in drills, where no money is real.
    live_is_played: bool,
    test_way: Way,
    live_way: Way,
}

impl Addresses {
    /// What configuration says. Names are looked up by `lookup`.
    ///
    /// # Errors
    /// [`NotPublic`].
    pub fn new(config: &config::Providers, lookup: &Arc<dyn Lookup>) -> Result<Self, NotPublic> {
        Self::of(config, lookup, cfg!(feature = "testing"))
    }

    fn of(
        config: &config::Providers,
        lookup: &Arc<dyn Lookup>,
        live_is_played: bool,
    ) -> Result<Self, NotPublic> {
        let networks = config.allow_networks.clone();
        let live_networks = if live_is_played {
            networks.clone()
        } else {
            Vec::new()
        };

        let way = |allowed: Vec<IpNet>| {
            let guard = Arc::new(Guard::new(allowed, true));
            Way::Guarded(Arc::new(GuardedResolver {
                guard,
                lookup: Arc::clone(lookup),
            }))
        };
        let known = providers::PROTOCOLS.iter().flat_map(|protocol| {
            protocol.addresses.iter().map(|address| Allowed {
                provider: protocol.name,
                kind: address.kind,
                live: address.is_live,
                test: !address.is_live,
                base: address.base.to_owned(),
            })
        });

        let added = config.addresses.iter().map(|address| Allowed {
            provider: address.provider,
            kind: address.kind,
            live: address.is_for_live(),
            test: true,
            base: address.base.clone(),
        });
        let guard = Guard::new(networks.clone(), true);

        for address in &config.addresses {
            guard.check(&address.base).map_err(|_| NotPublic {
                base: address.base.clone(),
            })?;
        }

        Ok(Self {
            listed: known.chain(added).collect(),
            sandbox: RwLock::default(),
            test_way: way(networks.clone()),
            live_way: way(live_networks),
            networks,
            live_is_played,
        })
    }

    /// The own sandbox runs, and its faces are there.
    pub fn sandbox_runs(&self, faces: &Map<String, Value>) {
        let faces = faces
            .iter()
            .filter_map(|(provider, base)| Some((provider.clone(), canonical(base.as_str()?)?)));
        *self.sandbox.write() = faces.collect();
    }

    /// Writes out where an account is that names no address: in live mode at its provider; in test
    /// mode in the own sandbox, else at the provider's test address. It is kept with the account,
    /// so that it does not move.
    pub fn complete(&self, protocol: &Protocol, livemode: bool, settings: &mut Map<String, Value>) {
        if settings.get(MEMBER).is_some_and(|given| !given.is_null()) {
            return;
        }
        let face = self.face(protocol.name).filter(|_| !livemode);
        let usual = || {
            self.listed(protocol.name, livemode)
                .next()
                .map(|allowed| allowed.base.clone())
        };
        if let Some(base) = face.or_else(usual) {
            settings.insert(MEMBER.to_owned(), base.into());
        }
    }

    /// How an account with these settings gets out; the address in them becomes the one that was
    /// checked.
    ///
    /// # Errors
    /// [`NotAllowed`].
    pub fn way(
        &self,
        protocol: &Protocol,
        livemode: bool,
        settings: &mut Map<String, Value>,
    ) -> Result<Way, NotAllowed> {
        let refuse = |why| NotAllowed {
            why,
            may: self.may(protocol.name, livemode),
        };

        // What was stored without one has always been at the provider's own address.
        let own = protocol
            .addresses
            .iter()
            .find(|a| a.kind == AddressKind::Api && a.is_live)
            .map(|a| a.base);
        let given = match settings.get(MEMBER) {
            None | Some(Value::Null) => own.ok_or_else(|| refuse("is missing."))?.to_owned(),
            Some(Value::String(text)) => text.clone(),
            Some(Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
                return Err(refuse("is not a text."));
            }
        };

        let url = base_address(&given)
            .map_err(|_| refuse("is not a scheme, a host and perhaps a port."))?;
        let base = url.origin().ascii_serialization();
        let literal: Option<IpAddr> = url
            .host_str()
            .and_then(|host| host.trim_matches(['[', ']']).parse().ok());
        let is_in_networks =
            literal.is_some_and(|ip| self.networks.iter().any(|net| net.contains(&ip)));
        let way = if self
            .listed(protocol.name, livemode)
            .any(|allowed| allowed.base == base)
        {
            if livemode {
                &self.live_way
            } else {
                &self.test_way
            }
        } else if !livemode && self.face(protocol.name).as_ref() == Some(&base) {
            &Way::Open
        } else if is_in_networks && (!livemode || self.live_is_played) {
            &self.test_way
        } else if livemode && url.scheme() != "https" {
            return Err(refuse("must be an https address for real money."));
        } else {
            return Err(refuse("is none that accounts may have."));
        };

        settings.insert(MEMBER.to_owned(), base.into());
        Ok(way.clone())
    }

    fn listed(&self, provider: ProviderName, livemode: bool) -> impl Iterator<Item = &Allowed> {
        let is_for = move |a: &&Allowed| a.provider == provider && a.kind == AddressKind::Api;
        self.listed
            .iter()
            .filter(is_for)
            .filter(move |a| if livemode { a.live } else { a.test })
    }

    fn face(&self, provider: ProviderName) -> Option<String> {
        let faces = self.sandbox.read();
        faces
            .iter()
            .find(|(name, _)| name == provider.as_str())
            .map(|(_, base)| base.clone())
    }

    /// What an account may have, in words.
    fn may(&self, provider: ProviderName, livemode: bool) -> String {
        let mut all: Vec<String> = self
            .listed(provider, livemode)
            .map(|allowed| allowed.base.clone())
            .collect();
        all.extend(self.face(provider).filter(|_| !livemode));
        let mode = if livemode { "live" } else { "test" };
        if all.is_empty() {
            return format!(
                "There is no address for {provider} in {mode} mode; providers.addresses adds one."
            );
        }
        format!(
            "In {mode} mode {provider} is called at {}; providers.addresses adds to them.",
            all.join(", ")
        )
    }
}

fn canonical(base: &str) -> Option<String> {
    base_address(base)
        .ok()
        .map(|url| url.origin().ascii_serialization())
}

#[cfg(test)]
#[path = "addresses_tests.rs"]
mod tests;
