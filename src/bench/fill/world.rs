//! Whose payments are made, and what follows from a seed alone: every id, every amount, every hour.

use providers::provider::ProviderName;
use rand::rngs::Xoshiro256PlusPlus as Rng;
use rand::{RngExt as _, SeedableRng as _};
use serde::{Deserialize, Serialize};

use crate::domain::id::{self, AccountId, InstallationPrefix, Kind, MerchantId};
use crate::domain::{Owner, Timestamp};

/// Over so many milliseconds the payments are spread.
const YEAR_MS: i64 = 365 * 86_400_000;
/// The last payments of all are not over yet: so many of a thousand, but a few in any case …
const OPEN_PER_THOUSAND: u64 = 2;
const OPEN_AT_LEAST: u64 = 24;
/// … made within this time before the end.
const OPEN_MS: i64 = 600_000;
/// The merchants, and of a hundred payments how many are whose.
const SHOPS: [(&str, u64); 4] = [
    ("bench-1", 60),
    ("bench-2", 25),
    ("bench-3", 12),
    ("bench-4", 3),
];

/// What is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Everything follows from it.
    pub seed: u64,
    /// How many payments.
    pub payments: u64,
    /// When the year ends over which they are spread; milliseconds since 1970.
    pub until_ms: i64,
}

/// A merchant.
#[derive(Debug, Clone)]
pub struct Shop {
    /// Its name.
    pub name: &'static str,
    /// Its payments are test payments: nobody is asked for money if a gateway is started on them.
    pub owner: Owner,
    /// One at each provider.
    pub accounts: Vec<(AccountId, ProviderName)>,
    /// Hears of ends.
    pub endpoint: String,
    /// Hears of refunds.
    pub refunds_endpoint: String,
}

/// All of them.
#[derive(Debug, Clone)]
pub struct World {
    /// What is made.
    pub plan: Plan,
    /// By their shares, the largest first.
    pub shops: Vec<Shop>,
    /// Before the numbers of all orders.
    pub prefix: Option<InstallationPrefix>,
}

/// Draws of one thing: the same whenever they are drawn.
pub fn draws(seed: u64, of: u64) -> Rng {
    let mixed = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        ^ of.wrapping_mul(0xd6e8_feb8_6659_fd93);
    Rng::seed_from_u64(mixed)
}

impl World {
    /// The world of a plan.
    #[must_use]
    pub fn new(plan: Plan) -> Self {
        let shop = |(at, (name, _)): (u64, &(&'static str, u64))| {
            let mut rng = draws(plan.seed, u64::MAX - at);
            Shop {
                name,
                owner: Owner::of(MerchantId::of(rng.random()), false),
                accounts: providers::PROTOCOLS
                    .iter()
                    .map(|p| (AccountId::of(rng.random()), p.name))
                    .collect(),
                endpoint: id::of(Kind::WebhookEndpoint, rng.random()),
                refunds_endpoint: id::of(Kind::WebhookEndpoint, rng.random()),
            }
        };
        let shops = (0..).zip(&SHOPS).map(shop).collect();

        Self {
            plan,
            shops,
            prefix: InstallationPrefix::parse("BENCH"),
        }
    }

    /// Of which merchant the payment is.
    pub fn shop_of(&self, rng: &mut Rng) -> Option<&Shop> {
        let mut draw = rng.random_range(0..100);
        let found = self.shops.iter().zip(SHOPS).find(|(_, (_, share))| {
            let is_it = draw < *share;
            draw = draw.saturating_sub(*share);
            is_it
        });
        found.map(|(shop, _)| shop).or(self.shops.first())
    }

    /// When the year begins.
    #[must_use]
    pub fn begins_at(&self) -> Timestamp {
        Timestamp(self.plan.until_ms.saturating_sub(YEAR_MS))
    }

    /// How many of the payments are not over.
    #[must_use]
    pub fn open(&self) -> u64 {
        (self.plan.payments / 1_000 * OPEN_PER_THOUSAND)
            .max(OPEN_AT_LEAST)
            .min(self.plan.payments)
    }

    /// Whether a payment is one of those.
    #[must_use]
    pub fn is_open(&self, n: u64) -> bool {
        n >= self.plan.payments.saturating_sub(self.open())
    }

    /// When a payment was made. In the order of their numbers.
    pub fn made_at(&self, n: u64, rng: &mut Rng) -> Timestamp {
        let (from_ms, length_ms, at, of) = if self.is_open(n) {
            let first = self.plan.payments.saturating_sub(self.open());
            (
                self.plan.until_ms - OPEN_MS,
                OPEN_MS,
                n.saturating_sub(first),
                self.open(),
            )
        } else {
            let before = YEAR_MS - OPEN_MS;
            (
                self.begins_at().0,
                before,
                n,
                self.plan.payments.saturating_sub(self.open()),
            )
        };
        let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let slot = length_ms / signed(of).max(1);

        Timestamp(
            from_ms
                .saturating_add(slot.saturating_mul(signed(at)))
                .saturating_add(rng.random_range(0..slot.max(1))),
        )
    }
}
