//! The order of accounts: by each strategy, and by what keeps payments off them.

use std::cell::Cell;
use std::collections::BTreeMap;

use providers::memory::Memory;
use providers::provider::Ending;
use rand::SeedableRng as _;

use super::*;
use crate::routing::account_limits::Limits;
use crate::routing::rule::{Match, RuleAccount};
use crate::routing::time_windows::Window;

const NOW: Timestamp = Timestamp(1_767_227_400_000);

/// That of the account with this name.
fn id(name: &str) -> AccountId {
    format!("acct_{name}").parse().unwrap()
}

/// A merchant with some accounts, one rule, and routes that are as a test wants.
struct Shop {
    accounts: Vec<Arc<Account>>,
    routing: Routing,
    tried: Vec<TriedRoute>,
    views: BTreeMap<AccountId, RouteView>,
    full: BTreeMap<AccountId, Throttled>,
    used: Used,
    turns: Cell<u64>,
    rng: Rng,
}

impl Shop {
    fn new(strategy: Strategy, names: &[&str]) -> Self {
        let provider = || Arc::new(Memory::new(Memory::NAME, Ending::Close));
        let accounts: Vec<_> = names
            .iter()
            .map(|name| Arc::new(Account::of(name, provider())))
            .collect();
        let named = names
            .iter()
            .map(|name| RuleAccount {
                id: id(name).into(),
                weight: None,
            })
            .collect();

        let rule = Rule {
            r#match: Match::default(),
            strategy,
            accounts: named,
        };

        Self {
            accounts,
            routing: Routing {
                rules: vec![rule],
                version: 3,
                ..Routing::default()
            },
            tried: Vec::new(),
            views: BTreeMap::new(),
            full: BTreeMap::new(),
            used: Used::default(),
            turns: Cell::new(0),
            rng: Rng::seed_from_u64(7),
        }
    }

    fn with(mut self, name: &str, change: impl FnOnce(&mut Account)) -> Self {
        let account = self.accounts.iter_mut().find(|a| a.name == name).unwrap();
        change(Arc::make_mut(account));
        self
    }

    fn seen(mut self, name: &str, change: impl FnOnce(&mut RouteView)) -> Self {
        change(self.views.entry(id(name)).or_insert(RouteView::unknown()));
        self
    }

    fn weights(mut self, weights: &[i64]) -> Self {
        for (account, weight) in self.routing.rules[0].accounts.iter_mut().zip(weights) {
            account.weight = Some(*weight);
        }
        self
    }

    fn choose(&mut self) -> RoutingDecision {
        let input = RoutingInput {
            accounts: &self.accounts,
            routing: &self.routing,
            tried: &self.tried,
            now: NOW,
            look: &|route| {
                self.views
                    .get(&route.account_id)
                    .copied()
                    .unwrap_or(RouteView::unknown())
            },
            full: &|account, _| self.full.get(&account.id).copied(),
            used: &|_| self.used,
            turn: &|rule| {
                assert_eq!(rule, 0);
                self.turns.replace(self.turns.get() + 1)
            },
        };

        let wanted = Criteria {
            flow: Flow::Qr,
            amount: Money::fen(8_888).unwrap(),
            providers: &[],
            metadata: &serde_json::Value::Null,
        };

        choose(&input, wanted, &mut self.rng)
    }

    fn order(&mut self) -> String {
        self.choose()
            .able
            .iter()
            .map(|c| c.account.name.as_str())
            .collect()
    }

    fn skipped(&mut self) -> Vec<(String, &'static str)> {
        self.choose()
            .skipped
            .iter()
            .map(|c| (c.account.name.clone(), c.why.unwrap().as_str()))
            .collect()
    }
}

fn shut(gate: BreakerState) -> impl FnOnce(&mut RouteView) {
    move |view| (view.gate, view.is_admitted) = (gate, false)
}

#[test]
fn priority_asks_as_listed_whatever_the_scores_say() {
    let mut shop = Shop::new(Strategy::Priority, &["a", "b", "c"])
        .seen("a", |view| view.sampled_success = 0.1);
    assert_eq!(shop.order(), "abc");
    assert_eq!(shop.turns.get(), 0, "nobody's turn is taken");
    shop.routing.rules.clear();
    assert_eq!(
        (shop.order().as_str(), shop.choose().strategy),
        ("abc", "oldest_first")
    );
}

#[test]
fn weights_are_shares_and_the_next_ones_are_drawn_from_those_that_are_left() {
    let mut shop = Shop::new(Strategy::Weighted, &["a", "b", "c"]).weights(&[7, 2, 1]);
    let mut orders: BTreeMap<String, u32> = BTreeMap::new();
    for _ in 0..10_000 {
        *orders.entry(shop.order()).or_default() += 1;
    }

    // 0.7 x 2/3, 0.7 x 1/3, 0.2 x 7/8, 0.2 x 1/8, 0.1 x 7/9, 0.1 x 2/9, each within five times its
    // deviation.
    for (order, expected) in [
        ("abc", 4667),
        ("acb", 2333),
        ("bac", 1750),
        ("bca", 250),
        ("cab", 778),
        ("cba", 222),
    ] {
        assert!(orders[order].abs_diff(expected) < 250, "{orders:?}");
    }

    let mut again = Shop::new(Strategy::Weighted, &["a", "b", "c"]).weights(&[7, 2, 1]);
    shop.rng = Rng::seed_from_u64(7);
    let both: Vec<_> = (0..20).map(|_| (shop.order(), again.order())).collect();

    assert!(
        both.iter().all(|(one, other)| one == other),
        "the same seed draws the same: {both:?}"
    );

    // What a broken account does not get goes to the others by their weights.
    let mut shop = shop.seen("a", shut(BreakerState::Open));
    let first = (0..3_000).filter(|_| shop.order() == "bc").count();
    assert!(first.abs_diff(2_000) < 150, "{first}");
}

#[test]
fn round_robin_gives_everybody_a_turn_and_passes_over_who_is_broken() {
    let mut shop = Shop::new(Strategy::RoundRobin, &["a", "b", "c"]);
    let orders: Vec<String> = (0..4).map(|_| shop.order()).collect();
    assert_eq!(orders, ["abc", "bca", "cab", "abc"]);
    let mut shop = shop.seen("b", shut(BreakerState::Open));
    shop.turns.set(0);
    let orders: Vec<String> = (0..4).map(|_| shop.order()).collect();
    assert_eq!(
        orders,
        ["ac", "ca", "ac", "ca"],
        "its share goes to both of the others"
    );
}

#[test]
fn the_least_busy_the_cheapest_and_the_most_useful_come_first_and_scores_break_ties() {
    let mut busy = Shop::new(Strategy::LeastInFlight, &["a", "b", "c"])
        .seen("a", |view| view.in_flight = 5)
        .seen("b", |view| view.success = 0.8)
        .seen("c", |view| view.success = 0.9);
    assert_eq!(busy.order(), "cba");

    let mut cheap = Shop::new(Strategy::LowestFee, &["a", "b", "c", "d"])
        .with("c", |a| a.fee_bps = 38)
        .seen("c", |view| view.success = 0.1)
        .seen("a", |view| view.success = 0.8)
        .seen("b", |view| view.success = 0.9)
        .seen("d", |view| view.success = 0.9);

    assert_eq!(
        cheap.order(),
        "cbda",
        "what is equal in everything stays as listed"
    );

    let mut adaptive = Shop::new(Strategy::Adaptive, &["a", "b", "c"])
        .seen("a", |view| view.sampled_success = 0.90)
        .seen("b", |view| view.sampled_success = 0.99)
        .seen("c", |view| {
            (view.sampled_success, view.p95_ms) = (0.99, Some(25_000))
        });
    assert_eq!(adaptive.order(), "bac", "a slow route is worth less");

    let mut by_fee = adaptive.with("b", |a| a.fee_bps = 10_000);
    assert_eq!(by_fee.order(), "abc");
    let reason = by_fee.choose().reason();
    assert_eq!(reason["scores"], json!([0.899, 0.89, 0.869]));
}

#[test]
fn breakers_filter_every_strategy() {
    for strategy in [
        Strategy::Priority,
        Strategy::Weighted,
        Strategy::RoundRobin,
        Strategy::LeastInFlight,
        Strategy::LowestFee,
        Strategy::Adaptive,
    ] {
        let shop = Shop::new(strategy, &["a", "b", "c", "d"]).weights(&[1, 1, 1, 1]);
        let mut shop = shop
            .seen("a", shut(BreakerState::Open))
            .seen("b", shut(BreakerState::Ramping))
            .seen("c", shut(BreakerState::Trial));
        assert_eq!(
            shop.order(),
            "db",
            "{strategy:?}: what comes back is there if nothing else is"
        );
        let whys = shop.skipped();
        let whys: Vec<_> = whys
            .iter()
            .map(|(name, why)| (name.as_str(), *why))
            .collect();
        assert_eq!(whys, [("a", "breaker_open"), ("c", "on_trial")]);
        let mut none = shop
            .seen("d", shut(BreakerState::Open))
            .seen("b", shut(BreakerState::Open));
        let choice = none.choose();
        assert!(
            choice.account().is_none() && choice.served,
            "it is worth waiting"
        );
        assert!(choice.why_none().contains("out of order"));
        // One that is on trial and lets this payment in is a route like any other.
        assert_eq!(none.seen("c", |view| view.is_admitted = true).order(), "c");
    }
}

#[test]
fn limits_and_windows_keep_payments_off_and_are_told() {
    let limits = |json: Value| serde_json::from_value::<Limits>(json).unwrap();
    let window = |from: &str, to: &str| {
        serde_json::from_value::<Window>(json!({"from": from, "to": to})).unwrap()
    };

    // It is half past eight in Beijing.
    let mut shop = Shop::new(Strategy::Priority, &["a", "b", "c", "d", "e"])
        .with("a", |a| {
            a.terms.limits = limits(json!({"payment": {"max": 8_887}}))
        })
        .with("b", |a| {
            a.terms.maintenance = vec![window("08:00", "08:31")]
        })
        .with("c", |a| {
            a.terms.limits = limits(json!({"day": {"amount": 20_000}}))
        })
        .with("d", |a| {
            a.terms.maintenance = vec![window("08:31", "08:30")]
        })
        .with("e", |a| a.disabled = true);

    assert_eq!(shop.order(), "cd");
    shop.used = Used {
        amount: 11_113,
        count: 1,
    };
    assert_eq!(shop.order(), "d", "one fen is missing");

    let whys: Vec<_> = shop.skipped().into_iter().map(|(_, why)| why).collect();
    assert_eq!(
        whys,
        [
            "amount_out_of_limits",
            "in_maintenance",
            "day_limit_reached",
            "disabled"
        ]
    );

    shop.routing.maintenance =
        serde_json::from_value(json!([{"provider": "alipay", "from": "08:00", "to": "09:00"}]))
            .unwrap();
    assert_eq!(shop.order(), "d", "another provider's window");

    // What could never be is not served; what passes is worth waiting for.
    let mut never = Shop::new(Strategy::Priority, &["a", "b"])
        .with("a", |a| {
            a.terms.limits = limits(json!({"payment": {"max": 8_887}}))
        })
        .with("b", |a| {
            a.terms.limits = limits(json!({"day": {"amount": 8_887}}))
        });

    assert!(!never.choose().served);
    let mut later = Shop::new(Strategy::Priority, &["a"]).with("a", |a| {
        a.terms.limits = limits(json!({"day": {"count": 1}}));
    });

    later.used = Used {
        amount: 1,
        count: 1,
    };

    assert!(later.choose().served && later.choose().account().is_none());
}

#[test]
fn a_reason_stays_small_and_says_who_decided() {
    let mut shop =
        Shop::new(Strategy::Priority, &["a", "b"]).seen("a", |view| view.success = 0.123_456);
    shop.tried = vec![TriedRoute {
        account_id: id("b"),
        refusing_provider: None,
        has_refused: false,
    }];
    assert_eq!(
        shop.choose().reason(),
        json!({"strategy": "priority", "routing_version": 3, "rule": 0, "candidates": ["acct_a"],
            "scores": [0.123],
            "skipped": [{"account": "acct_b", "why": "tried_already"}]})
    );
}

#[test]
fn a_route_that_is_as_busy_as_it_can_be_is_passed_over_before_its_health_is_looked_at() {
    let mut shop = Shop::new(Strategy::Priority, &["a", "b", "c"]);
    shop.full.insert(id("a"), Throttled::Crowded);
    shop.full.insert(id("b"), Throttled::RateLimited);
    let choice = shop.choose();
    assert_eq!(choice.account().map(|a| a.name.as_str()), Some("c"));
    assert!(
        choice
            .skipped
            .iter()
            .all(|candidate| candidate.view.is_none()),
        "no trial is taken for nothing"
    );

    assert_eq!(
        shop.skipped(),
        [
            ("a".to_owned(), "crowded"),
            ("b".to_owned(), "rate_limited")
        ]
    );

    shop.full.insert(id("c"), Throttled::Crowded);
    assert!(
        shop.choose().why_none().contains("as much to do"),
        "{}",
        shop.choose().why_none()
    );
}
