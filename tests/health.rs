//! What gateways know of the health of routes: shared through a real Redis, their own while it is
//! away, and never waited for by a payment.

mod lies;

use std::time::{Duration, Instant};

use interlock::domain::Mode;
use interlock::jobs::health::INSTALLATION;
use providers::order::Flow;
use redis::Value as RedisValue;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::helpers::redis::{Nodes, Redis};
use crate::helpers::{Ground, PATIENCE, TestApp, name_installation, order};

/// A gateway at this Redis.
async fn gateway(redis: &str) -> TestApp {
    TestApp::with(&[("redis.url", redis)]).await
}

/// Another one at the same providers, with a database of its own that says it is of the same
/// installation.
async fn beside(first: &TestApp, redis: &str) -> TestApp {
    let ground = Ground::new().await;
    let name = first
        .app()
        .store
        .installation(INSTALLATION, "same")
        .await
        .unwrap();
    name_installation(&ground.database, &name).await;
    TestApp::on(
        ground,
        &[("redis.url", redis), ("sandbox.listen", &first.control.url)],
    )
    .await
}

fn breaker(app: &TestApp, provider: &str) -> String {
    let vital =
        app.app()
            .health
            .board()
            .peek_provider(provider.parse().unwrap(), Flow::Qr, Mode::Test);
    let gate: Option<&'static str> = vital.map(|vital| vital.gate().into());
    gate.unwrap_or("unknown").to_owned()
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        // A breaker that opened twice asks for six good probes, one a second; beside other tests
        // that takes a while.
        assert!(began.elapsed() < 3 * PATIENCE, "not so: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Payments while Alipay cannot be reached, until its breaker opens; each of them is offered all
/// the same.
async fn break_alipay(app: &TestApp) {
    app.control
        .fault(json!({"provider": "alipay", "kind": "refuse"}))
        .await;
    for _ in 0..20 {
        if breaker(app, "alipay") == "open" {
            return;
        }
        offered(app).await;
    }
    panic!("its breaker never opens");
}

async fn offered(app: &TestApp) -> Value {
    let payment = app.client.pay(&order()).await.expect(201);
    assert_eq!(payment["status"], "requires_action", "{payment:#}");
    payment
}

async fn is_shared(app: &TestApp) -> bool {
    let metrics = app.client.get("/metrics").await;
    String::from_utf8(metrics.bytes)
        .unwrap()
        .contains("interlock_shared_health_up 1")
}

/// Each of these holds of one server and of a cluster alike.
macro_rules! of_one_and_of_a_cluster {
    ($($name:ident: $check:ident;)*) => {
        mod one_server {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$check(super::Redis::start().await.alone()).await;
            })*
        }
        mod a_cluster_of_three_nodes {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$check(super::Nodes::cluster().await).await;
            })*
        }
    };
}

of_one_and_of_a_cluster! {
    what_one_gateway_learns_all_know: what_one_learns_all_know;
    when_it_is_emptied_what_is_known_is_written_anew: emptied;
    while_it_stalls_payments_go_on_and_each_gateway_decides_by_itself: stalled;
    a_payment_asks_it_nothing: asked_nothing;
    what_one_gateway_spends_on_retries_all_miss: spent;
}

/// One gateway finds out that a provider is dead, and the others know.
async fn what_one_learns_all_know(redis: Nodes) {
    let app = gateway(&redis.url).await;
    let other = beside(&app, &redis.url).await;
    break_alipay(&app).await;
    until("the other one knows", || {
        breaker(&other, "alipay") == "open"
    })
    .await;
    // It comes back by itself, for both, and nobody's payment was the one that found out.
    app.control.mend().await;
    until("it is back here", || breaker(&app, "alipay") != "open").await;
    until("it is back there", || breaker(&other, "alipay") != "open").await;
    app.stop().await;
    other.stop().await;
}

async fn emptied(mut redis: Nodes) {
    let app = gateway(&redis.url).await;
    break_alipay(&app).await;
    redis.ask_all(&["FLUSHALL"]).await;
    let late = beside(&app, &redis.url).await;
    until("who came later knows", || {
        breaker(&late, "alipay") == "open"
    })
    .await;
    late.stop().await;

    redis.kill().await;
    offered(&app).await;
    redis.restart().await;
    let late = beside(&app, &redis.url).await;
    until("who came after the restart knows", || {
        breaker(&late, "alipay") == "open"
    })
    .await;
    assert!(is_shared(&late).await);
    late.stop().await;
    app.stop().await;
}

async fn stalled(redis: Nodes) {
    let app = gateway(&redis.url).await;
    offered(&app).await;
    redis.signal(Signal::STOP);
    break_alipay(&app).await;
    let next = offered(&app).await;

    assert_eq!(
        next["attempts"].as_array().unwrap().len(),
        1,
        "no call is wasted: {next:#}"
    );

    redis.signal(Signal::CONT);
    let other = beside(&app, &redis.url).await;

    until("the others hear of it", || {
        breaker(&other, "alipay") == "open"
    })
    .await;
    other.stop().await;

    app.stop().await;
}

/// The exchange goes by the clock, not by payments.
async fn asked_nothing(redis: Nodes) {
    let app = gateway(&redis.url).await;
    let scripts = async || {
        let calls = |line: &str| {
            line.split_once("calls=")?
                .1
                .split_once(',')?
                .0
                .parse::<u64>()
                .ok()
        };
        let mut sum = 0;
        for info in redis.ask_all(&["INFO", "commandstats"]).await {
            let info = redis::from_redis_value::<String>(info).unwrap();
            sum += info
                .lines()
                .filter(|line| line.starts_with("cmdstat_eval"))
                .filter_map(calls)
                .sum::<u64>();
        }
        sum
    };

    let (began, before) = (Instant::now(), scripts().await);
    for _ in 0..100 {
        offered(&app).await;
    }
    let exchanges = scripts().await - before;
    let intervals = u64::try_from(began.elapsed().as_millis()).unwrap() / 200 + 2;

    println!(
        "{exchanges} exchanges in {:?} and 100 payments",
        began.elapsed()
    );
    assert!(
        exchanges <= intervals,
        "{exchanges} exchanges in {intervals} intervals"
    );

    app.stop().await;
}

/// The budget of retries is one for all.
async fn spent(redis: Nodes) {
    let app = gateway(&redis.url).await;
    let other = beside(&app, &redis.url).await;

    (0..20).for_each(|_| {
        app.app().budget.timed_out(
            &interlock::domain::Owner::of("mer_1".parse().unwrap(), false),
            0,
        )
    });

    (0..10).for_each(|_| {
        other.app().budget.timed_out(
            &interlock::domain::Owner::of("mer_1".parse().unwrap(), false),
            0,
        )
    });

    until("both know what both have spent", || {
        [&app, &other]
            .iter()
            .all(|one| one.app().budget.left() == 200)
    })
    .await;

    redis.ask_all(&["FLUSHALL"]).await;
    app.app().budget.timed_out(
        &interlock::domain::Owner::of("mer_1".parse().unwrap(), false),
        0,
    );
    until("nor is it forgotten", || {
        [&app, &other]
            .iter()
            .all(|one| one.app().budget.left() <= 200)
    })
    .await;

    other.stop().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_takes_over_when_the_primary_dies() {
    let mut primary = Redis::start().await;
    let port = primary.port.to_string();
    let replica = Redis::with(&["--replicaof", "127.0.0.1", &port]).await;
    let sentinel = Redis::sentinel_of(&primary).await;
    let knows = async || {
        let found = sentinel
            .ask(&["SENTINEL", "REPLICAS", "mymaster"])
            .await
            .unwrap();
        matches!(found, RedisValue::Array(list) if !list.is_empty())
    };

    let began = Instant::now();
    while !knows().await {
        assert!(
            began.elapsed() < Duration::from_secs(30),
            "the sentinel finds no replica"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    let url = format!("redis+sentinel://127.0.0.1:{}/mymaster", sentinel.port);
    let app = gateway(&url).await;
    offered(&app).await;
    until("it is shared", || breaker(&app, "alipay") == "closed").await;
    primary.kill().await;
    break_alipay(&app).await;
    let other = beside(&app, &url).await;

    until("the others hear of it by the new primary", || {
        breaker(&other, "alipay") == "open"
    })
    .await;
    assert!(format!("{:?}", replica.ask(&["ROLE"]).await.unwrap()).contains("master"));

    other.stop().await;
    app.stop().await;
}

/// Whatever is wrong with it, payments go on, and it is said.
#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_none_or_lets_nobody_write_keeps_no_payment() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let garbage = format!("redis://{}", listener.local_addr().unwrap());

    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut heard = [0; 512];
                while stream.read(&mut heard).await.is_ok_and(|n| n > 0) {
                    let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
                }
            });
        }
    });

    let locked = Redis::with(&["--requirepass", "secret"]).await;
    let primary = Redis::start().await;
    let read_only = Redis::with(&["--replicaof", "127.0.0.1", &primary.port.to_string()]).await;
    let nobody = "redis://127.0.0.1:1".to_owned();

    for url in [garbage, locked.url(), read_only.url(), nobody] {
        let app = gateway(&url).await;
        break_alipay(&app).await;
        assert_eq!(offered(&app).await["attempts"].as_array().unwrap().len(), 1);
        let began = Instant::now();
        loop {
            let metrics = app.client.get("/metrics").await;
            if String::from_utf8(metrics.bytes)
                .unwrap()
                .contains("interlock_shared_health_up 0")
            {
                break;
            }
            assert!(began.elapsed() < PATIENCE, "{url}: nobody says so");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        app.stop().await;
    }
}
