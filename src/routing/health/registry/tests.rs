//! Merchants beside each other on one board, and what others have written.

use super::*;
use crate::domain::id::AccountId;
use crate::routing::health::BreakerState;
use crate::routing::health::accounts::{self, Known};

/// That of the account with this name.
fn id(account: &str) -> AccountId {
    format!("acct_{account}").parse().unwrap()
}

/// Accounts of merchants: `(account, merchant, address)`.
fn known(all: &[(&str, &str, &str)]) -> Arc<Accounts> {
    let known = Arc::new(Accounts::default());
    tell(&known, all);
    known
}

fn tell(known: &Accounts, all: &[(&str, &str, &str)]) {
    let one = |(account, merchant, address): &(&str, &str, &str)| {
        let merchant = accounts::merchant(merchant);
        let (mode, address) = (Mode::Test, accounts::address(address));
        (
            id(account),
            Known {
                merchant,
                provider: alipay(),
                mode,
                address,
                credentials: 0,
            },
        )
    };
    known.set(all.iter().map(one).collect());
}

fn alipay() -> ProviderName {
    "alipay".parse().unwrap()
}

fn route(account: &str) -> RouteId {
    RouteId {
        account_id: id(account),
        provider: alipay(),
        flow: Flow::Qr,
    }
}

const REAL: &str = "https://provider.example";

/// A board, and the time that it lives in.
struct Stage {
    board: HealthRegistry,
    now_ms: i64,
}

impl Stage {
    fn new(accounts: &Arc<Accounts>) -> Self {
        Self {
            board: HealthRegistry::new(Settings::default(), Arc::clone(accounts), 1_000),
            now_ms: 1_000,
        }
    }

    fn call(&mut self, account: &str, verdict: Verdict) {
        self.wait(50);
        let call = self.board.begin(&route(account), self.now_ms);
        self.board.end(call, verdict, self.now_ms);
    }

    /// Lets time go by. Nobody probes.
    fn wait(&mut self, ms: i64) {
        for _ in 0..ms / 50 {
            self.now_ms += 50;
            self.board.tick(self.now_ms);
        }
    }

    /// Lets time go by, and answers probes: whether one over this account is answered. Returns over
    /// which they went.
    fn probe(&mut self, ms: i64, is_answered: impl Fn(&str) -> bool) -> Vec<String> {
        let mut asked = Vec::new();
        for _ in 0..ms / 100 {
            self.wait(100);
            for probe in self.board.probes_due(self.now_ms) {
                let account = probe.route.account_id.trim_start_matches("acct_");
                let verdict = if is_answered(account) {
                    Verdict::Good
                } else {
                    Verdict::ProviderFailed
                };
                self.board.probed(&probe, verdict, self.now_ms);
                asked.push(account.to_owned());
            }
        }
        asked
    }

    fn gate(&self, account: &str) -> BreakerState {
        self.board.snapshot(&route(account), self.now_ms).gate
    }

    fn whole(&self) -> BreakerState {
        self.board
            .peek_provider(alipay(), Flow::Qr, Mode::Test)
            .unwrap()
            .gate()
    }
}

#[test]
fn one_merchants_dead_accounts_stop_no_other_merchant() {
    let accounts = known(&[
        ("dead_1", "bad", REAL),
        ("dead_2", "bad", REAL),
        ("good", "good", REAL),
    ]);
    let mut stage = Stage::new(&accounts);

    for round in 0..400 {
        stage.call("dead_1", Verdict::ProviderFailed);
        stage.call("dead_2", Verdict::ProviderFailed);
        if round % 5 == 0 {
            // Now and then one of the good merchant's calls fails as well, as it does everywhere.
            let verdict = if round % 100 == 50 {
                Verdict::ProviderFailed
            } else {
                Verdict::Good
            };
            stage.call("good", verdict);
        }
        assert_eq!(
            (stage.whole(), stage.gate("good")),
            (BreakerState::Closed, BreakerState::Closed),
            "round {round}"
        );
    }

    assert_eq!(
        (stage.gate("dead_1"), stage.gate("dead_2")),
        (BreakerState::Open, BreakerState::Open),
        "each by itself"
    );
}

#[test]
fn a_merchant_that_did_not_call_for_long_is_not_stopped_either() {
    let accounts = known(&[("dead", "bad", REAL), ("good", "good", REAL)]);
    let mut stage = Stage::new(&accounts);
    stage.call("good", Verdict::Good);
    stage.wait(120_000);
    (0..20).for_each(|_| stage.call("dead", Verdict::ProviderFailed));
    assert_eq!(
        stage.whole(),
        BreakerState::Open,
        "nobody else has called: as far as anybody knows, it is out"
    );

    assert_eq!(
        stage.gate("good"),
        BreakerState::Closed,
        "but not for who has seen nothing of that"
    );

    assert!(
        stage
            .board
            .admit(&route("good"), stage.now_ms, &mut rand::rng())
            .is_admitted
    );

    // The next question goes over what worked last, and is answered: it was the one merchant's
    // trouble.
    let asked = stage.probe(1_000, |account| account == "good");
    assert!(asked.iter().any(|account| account == "good"), "{asked:?}");

    assert_eq!(
        (stage.whole(), stage.gate("dead")),
        (BreakerState::Closed, BreakerState::Open)
    );
}

#[test]
fn merchants_with_wrong_keys_of_their_own_do_not_speak_for_the_provider() {
    let accounts = known(&[
        ("a", "one", REAL),
        ("b", "two", REAL),
        ("good", "three", REAL),
    ]);
    let mut stage = Stage::new(&accounts);
    stage.call("good", Verdict::Good);
    let burst = |stage: &mut Stage| {
        for _ in 0..8 {
            stage.call("a", Verdict::Unbelievable);
            stage.call("b", Verdict::Unbelievable);
        }
    };
    burst(&mut stage);
    assert_eq!(
        (stage.whole(), stage.gate("good"), stage.gate("a")),
        (
            BreakerState::Closed,
            BreakerState::Closed,
            BreakerState::Open
        )
    );

    // Those who were answered before can tell: it is the provider whose answers have changed.
    let mut stage = Stage::new(&accounts);
    for account in ["good", "a", "b"] {
        stage.call(account, Verdict::Good);
    }
    burst(&mut stage);
    assert_eq!(stage.whole(), BreakerState::Open);

    // But not with a key that was exchanged since.
    let mut stage = Stage::new(&accounts);
    for account in ["good", "a", "b"] {
        stage.call(account, Verdict::Good);
    }
    let snapshot = accounts.snapshot().unwrap();
    let others = ["good", "a", "b"].map(|account| {
        let known = snapshot.get(&id(account)).unwrap().clone();
        (
            id(account),
            Known {
                credentials: u32::from(account != "good"),
                ..known
            },
        )
    });
    accounts.set(others.into_iter().collect());
    burst(&mut stage);
    assert_eq!(
        (stage.whole(), stage.gate("good")),
        (BreakerState::Closed, BreakerState::Closed)
    );
}

#[test]
fn an_outage_that_one_merchant_saw_first_is_everybodys_once_another_one_sees_it() {
    let accounts = known(&[
        ("first", "one", REAL),
        ("second", "two", REAL),
        ("third", "three", REAL),
    ]);
    let mut stage = Stage::new(&accounts);
    (0..8).for_each(|_| stage.call("first", Verdict::ProviderFailed));
    assert_eq!(
        (stage.gate("first"), stage.gate("third")),
        (BreakerState::Open, BreakerState::Closed)
    );
    (0..4).for_each(|_| stage.call("second", Verdict::ProviderFailed));
    assert_eq!(stage.gate("third"), BreakerState::Open);
}

#[test]
fn a_provider_that_fails_two_merchants_is_out_for_all_and_back_when_any_account_is_answered() {
    let accounts = known(&[("a", "one", REAL), ("b", "two", REAL), ("c", "three", REAL)]);
    let mut stage = Stage::new(&accounts);
    for account in ["a", "b", "c"] {
        stage.call(account, Verdict::Good);
    }
    stage.call("c", Verdict::Good);
    for _ in 0..8 {
        stage.call("a", Verdict::ProviderFailed);
        stage.call("b", Verdict::ProviderFailed);
    }
    assert_eq!(
        (stage.whole(), stage.gate("c")),
        (BreakerState::Open, BreakerState::Open)
    );
    stage.probe(3_000, |_| false);
    // Only one account is answered, and not the one that worked last: its answers are enough.
    let asked = stage.probe(20_000, |account| account == "a");
    assert_ne!(stage.whole(), BreakerState::Open, "{asked:?}");
}

#[test]
fn a_thousand_dead_accounts_do_not_take_all_the_turns() {
    let names: Vec<String> = (0..1_000).map(|n| format!("dead_{n}")).collect();
    let mut all: Vec<(&str, &str, &str)> = names
        .iter()
        .map(|name| (name.as_str(), "bad", REAL))
        .collect();
    all.extend([("good", "good", REAL), ("other", "other", REAL)]);
    let mut stage = Stage::new(&known(&all));
    for name in &names {
        let _ = stage.gate(name);
    }
    stage.call("good", Verdict::Good);
    stage.call("other", Verdict::Good);

    for _ in 0..8 {
        stage.call("good", Verdict::ProviderFailed);
        stage.call("other", Verdict::ProviderFailed);
    }
    assert_eq!(stage.whole(), BreakerState::Open);

    // What worked last is dead of its own; the other good one is asked within a few turns all the
    // same.
    let asked = stage.probe(12_000, |account| account == "good");
    assert_ne!(stage.whole(), BreakerState::Open, "{asked:?}");

    let dead = asked
        .iter()
        .filter(|account| account.starts_with("dead"))
        .count();

    assert!(dead * 2 <= asked.len(), "{asked:?}");
}

#[test]
fn an_account_with_an_address_of_its_own_shares_nobodys_fate() {
    let accounts = known(&[
        ("own", "bad", "https://nobody.example"),
        ("good", "good", REAL),
        ("other", "other", REAL),
    ]);
    let mut stage = Stage::new(&accounts);
    for _ in 0..50 {
        stage.call("own", Verdict::ProviderFailed);
    }

    assert_eq!(
        (stage.gate("own"), stage.gate("good")),
        (BreakerState::Open, BreakerState::Closed)
    );

    let _ = stage.gate("good");
    assert_eq!(
        stage.whole(),
        BreakerState::Closed,
        "people are told of where most merchants call"
    );

    let told: Vec<HealthKey> = stage
        .board
        .standings(Mode::Test)
        .into_iter()
        .map(|s| s.subject)
        .collect();
    let providers = told
        .iter()
        .filter(|subject| matches!(subject, HealthKey::Provider(_)))
        .count();

    assert_eq!(providers, 1, "{told:?}");
}

#[test]
fn what_is_disabled_leaves_the_board_and_the_store_and_is_never_asked_over() {
    let accounts = known(&[("gone", "one", REAL), ("ours", "two", REAL)]);
    let mut stage = Stage::new(&accounts);

    for _ in 0..8 {
        stage.call("gone", Verdict::ProviderFailed);
        stage.call("ours", Verdict::ProviderFailed);
    }
    assert_eq!(stage.gate("ours"), BreakerState::Open);

    // All of it is stored.
    for change in stage.board.take_changes() {
        assert_eq!(
            stage
                .board
                .adopt(&change.subject, change.vital, 7, stage.now_ms),
            Adopted::Taken
        );
    }

    tell(&accounts, &[("ours", "two", REAL)]);
    let asked = stage.probe(4_000, |_| false);

    assert!(
        !asked.is_empty() && asked.iter().all(|account| account == "ours"),
        "{asked:?}"
    );

    let removed = stage.board.take_removals();
    assert_eq!(
        removed,
        [Removal {
            subject: HealthKey::Route(route("gone")),
            version: 7
        }]
    );

    assert_eq!(
        stage.gate("gone"),
        BreakerState::Closed,
        "nothing is known of it"
    );
    // A call that was on its way, and what others still say of it, bring it back no more.
    let call = stage.board.begin(&route("gone"), stage.now_ms);
    stage.board.end(call, Verdict::Good, stage.now_ms);
    let vital = stage
        .board
        .peek_provider(alipay(), Flow::Qr, Mode::Test)
        .unwrap();

    assert_eq!(
        stage
            .board
            .adopt(&HealthKey::Route(route("gone")), vital, 9, stage.now_ms),
        Adopted::NotOurs
    );

    tell(&accounts, &[]);
    stage.wait(100);
    assert!(stage.board.versions().is_empty());
    assert_eq!(
        stage.board.take_removals().len(),
        2,
        "the other route, and a provider that nobody calls any more"
    );
}

/// What is stored of a provider that is out, on a board that has written it.
fn stored(stage: &mut Stage) -> (HealthKey, serde_json::Value) {
    (0..8).for_each(|_| stage.call("ours", Verdict::ProviderFailed));
    let changes = stage.board.take_changes();
    let whole = changes
        .into_iter()
        .find(|change| matches!(change.subject, HealthKey::Provider(_)))
        .unwrap();
    (whole.subject, serde_json::to_value(&whole.vital).unwrap())
}

#[test]
fn what_cannot_be_is_not_believed_and_is_written_over() {
    use serde_json::json;

    let own_ms = |value: &serde_json::Value| value["own"].as_i64().unwrap();
    type Lie = (&'static str, fn(i64) -> serde_json::Value);
    let lies: &[Lie] = &[
        ("/breaker/next_probe", |own| json!(own + 1_001)),
        ("/breaker/next_probe", |_| json!(i64::MAX)),
        ("/breaker/next_probe", |_| json!(-1)),
        ("/breaker/since", |own| json!(own + 1)),
        ("/breaker/since_ms", |_| json!(i64::MAX)),
        ("/breaker/since_ms", |_| json!(-5)),
        ("/breaker/trips", |_| json!(u32::MAX)),
        ("/breaker/progress", |_| json!(u32::MAX)),
        ("/breaker/before", |_| json!("open")),
        ("/breaker/gate", |_| json!("ajar")),
        ("/manner/probe_every_ms", |_| json!(3_600_000)),
        ("/own", |_| json!(i64::MAX)),
        ("/own", |_| json!(-1)),
        ("/seen_ms", |_| json!(i64::MAX)),
        ("/heard_at", |own| json!(own + 1)),
        ("/probed_at", |own| json!(own + 1)),
        ("/score/failed", |_| json!(1e300)),
        ("/score/long_run", |_| json!(-0.5)),
        ("/score/recent", |_| json!(1e12)),
        ("/score/trouble/outage", |_| json!(1e9)),
        ("/score/good", |_| json!("NaN")),
        (
            "/window",
            |_| json!([{"at": i64::MAX, "good": 0, "failed": 9}]),
        ),
        ("/run/length", |_| json!(u32::MAX)),
        ("/in_use", |own| json!([[1, own + 1]])),
        ("/flushes", |_| json!([[0, 4_000_000]])),
    ];

    for (place, lie) in lies {
        let mut stage = Stage::new(&known(&[("ours", "one", REAL)]));
        let (subject, mut value) = stored(&mut stage);
        let lie = lie(own_ms(&value));
        *value.pointer_mut(place).unwrap() = lie.clone();
        let adopted = match serde_json::from_value::<HealthRecord>(value) {
            Ok(vital) => stage.board.adopt(&subject, vital, 5, stage.now_ms),
            Err(_) => stage.board.refuse(&subject, 5),
        };
        assert_eq!(adopted, Adopted::Refused, "{place}: {lie}");
        let over = stage
            .board
            .take_changes()
            .into_iter()
            .find(|change| change.subject == subject)
            .unwrap();
        assert_eq!(
            over.version, 5,
            "{place}: what is known here is written over it"
        );
        assert_eq!(
            over.vital.gate(),
            BreakerState::Open,
            "{place}: and is what it was"
        );
    }

    // Nor is what a program to come has written, with members of its own.
    let mut stage = Stage::new(&known(&[("ours", "one", REAL)]));
    let (_, mut value) = stored(&mut stage);
    value["mood"] = json!("good");

    assert!(serde_json::from_value::<HealthRecord>(value).is_err());
}

/// What is right is believed: otherwise the test above shows nothing.
#[test]
fn what_a_gateway_has_written_is_believed() {
    let mut stage = Stage::new(&known(&[("ours", "one", REAL)]));
    let (subject, value) = stored(&mut stage);
    let vital = serde_json::from_value::<HealthRecord>(value).unwrap();
    let settings = Settings {
        gateway: 1,
        ..Settings::default()
    };
    let board = HealthRegistry::new(settings, known(&[("ours", "one", REAL)]), stage.now_ms);

    let other = Stage {
        board,
        now_ms: stage.now_ms,
    };
    assert_eq!(
        other.board.adopt(&subject, vital, 5, stage.now_ms),
        Adopted::Taken
    );

    assert_eq!(other.whole(), BreakerState::Open);
}

/// The store confirms nothing, or another gateway claims every turn and never asks.
#[test]
fn a_route_that_is_out_is_asked_about_within_two_probe_times_whatever_the_store_says() {
    let mut stage = Stage::new(&known(&[("ours", "one", REAL)]));
    stage.board.set_shared(true);
    let (subject, value) = stored(&mut stage);
    let mut asked_at = Vec::new();
    let mut version = 1;

    for _ in 0..100 {
        stage.wait(100);
        // Whenever it is due, the store says that somebody else asks already.
        let mut theirs = value.clone();
        let own = value["own"].as_i64().unwrap() + 500;
        theirs["own"] = own.into();
        theirs["seen_ms"] = stage.now_ms.into();
        theirs["breaker"]["next_probe"] = (own + 1_000).into();
        version += 1;
        let theirs = serde_json::from_value::<HealthRecord>(theirs).unwrap();
        assert_eq!(
            stage.board.adopt(&subject, theirs, version, stage.now_ms),
            Adopted::Taken
        );
        let _ = stage.board.take_changes();
        for probe in stage.board.probes_due(stage.now_ms) {
            stage
                .board
                .probed(&probe, Verdict::ProviderFailed, stage.now_ms);
            asked_at.push(stage.now_ms);
        }
    }

    assert!(asked_at.len() >= 4, "{asked_at:?}");
    assert!(
        asked_at.windows(2).all(|pair| pair[1] - pair[0] <= 2_200),
        "{asked_at:?}"
    );
}

#[test]
fn a_claim_that_nobody_confirms_is_as_good_as_had() {
    let mut settings = Settings {
        shared: true,
        ..Settings::default()
    };
    settings.probe_every_ms.insert(alipay(), 5_000);
    let accounts = known(&[("ours", "one", REAL)]);
    let mut stage = Stage {
        board: HealthRegistry::new(settings, accounts, 1_000),
        now_ms: 1_000,
    };
    (0..8).for_each(|_| stage.call("ours", Verdict::ProviderFailed));
    assert_eq!(stage.whole(), BreakerState::Open);

    let asked = stage.probe(2_800, |_| false);
    assert!(asked.is_empty(), "the others may have the right: {asked:?}");
    let asked = stage.probe(400, |_| false);
    assert_eq!(asked, ["ours"]);
}

#[test]
fn a_gateway_without_an_account_to_ask_over_leaves_turns_and_the_store_to_the_others() {
    let accounts = known(&[("a", "one", REAL), ("b", "two", REAL)]);
    let mut stage = Stage::new(&accounts);
    for _ in 0..8 {
        stage.call("a", Verdict::ProviderFailed);
        stage.call("b", Verdict::ProviderFailed);
    }
    assert_eq!(stage.whole(), BreakerState::Open);
    let changes = stage.board.take_changes();
    let told = changes
        .into_iter()
        .find(|change| matches!(change.subject, HealthKey::Provider(_)))
        .unwrap();

    // It has the accounts, and no payment has led it to one of them yet.
    let settings = Settings {
        gateway: 7,
        shared: true,
        ..Settings::default()
    };
    let mut other = Stage {
        board: HealthRegistry::new(settings, Arc::clone(&accounts), stage.now_ms),
        now_ms: stage.now_ms,
    };
    assert_eq!(
        other
            .board
            .adopt(&told.subject, told.vital, 1, other.now_ms),
        Adopted::Taken
    );
    assert_eq!(other.whole(), BreakerState::Open);
    for _ in 0..100 {
        other.wait(200);
        assert_eq!(other.board.probes_due(other.now_ms), []);
        assert!(
            other.board.take_changes().is_empty(),
            "what it wrote each time would keep the others' answers out"
        );
    }
}
