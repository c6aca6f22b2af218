//! What health has to know of accounts: whose they are, whether their money is real, and where they
//! call. The directory says so whenever it has read its rows; the board asks when it meets a route,
//! and lets go of what is not in here.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use parking_lot::RwLock;
use providers::provider::ProviderName;
use sha2::{Digest as _, Sha256};

use super::delta::MerchantHash;
use crate::domain::Mode;
use crate::domain::id::AccountId;

/// An account, as far as health goes. Only those that take new payments are known here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Whose.
    pub merchant: MerchantHash,
    /// At which provider.
    pub provider: ProviderName,
    /// Whether its money is real.
    pub mode: Mode,
    /// Where it calls: [`address`].
    pub address: Arc<str>,
    /// The [`number`] of its credentials: what was seen of it with others says nothing of these.
    pub credentials: u32,
}

/// A merchant as a number that fits into what gateways exchange; the same on every one of them.
#[must_use]
pub fn merchant(id: &str) -> MerchantHash {
    number(id.as_bytes())
}

/// Bytes as a number, the same on every gateway.
#[must_use]
pub fn number(bytes: &[u8]) -> u32 {
    Sha256::digest(bytes)
        .iter()
        .take(4)
        .fold(0, |hash, byte| (hash << 8) | u32::from(*byte))
}

/// One spelling of a base address: two that differ in case, in a slash at the end or in a port that
/// goes without saying are the same.
#[must_use]
pub fn address(base: &str) -> Arc<str> {
    let lower = base.trim().trim_end_matches('/').to_ascii_lowercase();
    let usual = [("https://", ":443"), ("http://", ":80")];
    let port = usual
        .iter()
        .find(|(scheme, port)| lower.starts_with(scheme) && lower.ends_with(port));
    Arc::from(port.map_or(lower.as_str(), |(_, port)| {
        lower.strip_suffix(port).unwrap_or(&lower)
    }))
}

/// All accounts at one moment.
#[derive(Debug, Default)]
pub struct Snapshot {
    by_id: HashMap<AccountId, Known>,
    addresses: HashSet<(ProviderName, Mode, Arc<str>)>,
    /// Where most merchants call a provider in a mode.
    main: HashMap<(ProviderName, Mode), Arc<str>>,
}

impl Snapshot {
    /// An account that takes new payments.
    #[must_use]
    pub fn get(&self, account_id: &AccountId) -> Option<&Known> {
        self.by_id.get(account_id)
    }

    /// Whether any account calls a provider at this address in this mode.
    #[must_use]
    pub fn calls(&self, provider: ProviderName, mode: Mode, address: &str) -> bool {
        self.addresses
            .contains(&(provider, mode, Arc::from(address)))
    }

    /// The address of a provider at which most merchants have accounts: what is said of a provider
    /// is said of that.
    #[must_use]
    pub fn main_address(&self, provider: ProviderName, mode: Mode) -> Option<&Arc<str>> {
        self.main.get(&(provider, mode))
    }
}

/// Whoever knows the accounts tells it here; whoever keeps health reads it.
#[derive(Debug, Default)]
pub struct Accounts(RwLock<Option<Arc<Snapshot>>>);

impl Accounts {
    /// These, and no others any more.
    pub fn set(&self, by_id: HashMap<AccountId, Known>) {
        let addresses = by_id
            .values()
            .map(|known| (known.provider, known.mode, Arc::clone(&known.address)))
            .collect();
        let main = main_addresses(by_id.values());
        let snapshot = Arc::new(Snapshot {
            by_id,
            addresses,
            main,
        });
        *self.0.write() = Some(snapshot);
    }

    /// All of them; `None` as long as nobody has told.
    #[must_use]
    pub fn snapshot(&self) -> Option<Arc<Snapshot>> {
        self.0.read().clone()
    }
}

/// By merchants, then by accounts; of equal ones the first in the alphabet, so that all gateways
/// mean the same.
fn main_addresses<'a>(
    all: impl Iterator<Item = &'a Known>,
) -> HashMap<(ProviderName, Mode), Arc<str>> {
    type Users = (BTreeSet<MerchantHash>, usize);
    type Best = ((usize, usize), Arc<str>);
    let mut found: BTreeMap<(ProviderName, Mode, &Arc<str>), Users> = BTreeMap::new();

    for known in all {
        let (merchants, accounts) = found
            .entry((known.provider, known.mode, &known.address))
            .or_default();
        merchants.insert(known.merchant);
        *accounts += 1;
    }

    let mut main: HashMap<(ProviderName, Mode), Best> = HashMap::new();
    for ((provider, mode, address), (merchants, accounts)) in found {
        let weight = (merchants.len(), accounts);
        let best = main
            .entry((provider, mode))
            .or_insert_with(|| (weight, Arc::clone(address)));
        if weight > best.0 {
            *best = (weight, Arc::clone(address));
        }
    }

    main.into_iter()
        .map(|(key, (_, address))| (key, address))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(merchant: &str, mode: Mode, base: &str) -> Known {
        let provider = "alipay".parse().unwrap();
        Known {
            merchant: self::merchant(merchant),
            provider,
            mode,
            address: address(base),
            credentials: 0,
        }
    }

    #[test]
    fn spellings_of_one_address_are_one() {
        for same in [
            "https://Pay.Example",
            "https://pay.example/",
            "https://pay.example:443",
            " https://pay.example//",
        ] {
            assert_eq!(&*address(same), "https://pay.example", "{same}");
        }
        assert_eq!(&*address("http://127.0.0.1:8091/"), "http://127.0.0.1:8091");
        assert_ne!(
            address("http://pay.example:443"),
            address("http://pay.example")
        );
    }

    #[test]
    fn a_provider_is_where_most_merchants_call_it() {
        let accounts = Accounts::default();
        assert!(accounts.snapshot().is_none());
        let theirs = ["a", "b"].map(|m| {
            (
                format!("acct_{m}").parse().unwrap(),
                known(m, Mode::Live, "https://provider.example"),
            )
        });

        // One merchant with many accounts at an address of its own is still one merchant.
        let own = (0..9).map(|n| {
            (
                format!("acct_own_{n}").parse().unwrap(),
                known("c", Mode::Live, "https://a.own.example"),
            )
        });
        let test = [(
            "acct_t".parse().unwrap(),
            known("c", Mode::Test, "https://test.example"),
        )];
        accounts.set(theirs.into_iter().chain(own).chain(test).collect());
        let (snapshot, alipay) = (accounts.snapshot().unwrap(), "alipay".parse().unwrap());

        assert_eq!(
            &**snapshot.main_address(alipay, Mode::Live).unwrap(),
            "https://provider.example"
        );
        assert_eq!(
            &**snapshot.main_address(alipay, Mode::Test).unwrap(),
            "https://test.example"
        );

        assert!(
            snapshot
                .main_address("unionpay".parse().unwrap(), Mode::Live)
                .is_none()
        );

        let knows = |id: &str| snapshot.get(&id.parse().unwrap()).is_some();
        assert!(knows("acct_own_3") && !knows("acct_other"));
    }
}
