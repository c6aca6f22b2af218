//! Drills: the program breaks everything on purpose, and nothing is kept twice or lost. Short ones
//! of every scenario; what a drill would say if a rule were broken is seen in [`crate::broken`].

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use crate::helpers::on_postgres;
use crate::helpers::postgres::Postgres;
use crate::helpers::process::interlock;
use crate::helpers::redis::Redis;

/// A test may last a little longer.
const PATIENCE: Duration = Duration::from_secs(230);

/// What a drill has said, and whether it found nothing.
pub struct Drilled {
    /// Its last line.
    pub line: Value,
    /// All of it.
    pub said: String,
    /// Its exit code was 0.
    pub is_clean: bool,
}

/// Drills on the database of this run; both gateways of PostgreSQL, where it is that.
pub async fn drill(args: &[&str], env: &[(&str, &str)]) -> Drilled {
    let postgres = on_postgres().then(|| std::env::var("INTERLOCK_TEST_POSTGRES").unwrap());
    drill_on(postgres.as_deref(), args, env, PATIENCE).await
}

/// Drills on this PostgreSQL, or on the embedded database.
pub async fn drill_on(
    postgres: Option<&str>,
    args: &[&str],
    env: &[(&str, &str)],
    patience: Duration,
) -> Drilled {
    let folder = tempfile::tempdir().unwrap();
    let mut command = interlock();

    command
        .args(["drill", "--json"])
        .args(args)
        .envs(env.iter().copied())
        .current_dir(folder.path());

    if !args.contains(&"--jobs") {
        command.args(["--jobs", "6"]);
    }
    if let Some(url) = postgres {
        command.args(["--database", url]);
    }
    let running = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();

    let ended = tokio::time::timeout(patience, running.wait_with_output())
        .await
        .expect("it ends")
        .unwrap();
    let said = String::from_utf8(ended.stdout).unwrap();
    println!("{said}{}", String::from_utf8_lossy(&ended.stderr));
    let line = said
        .lines()
        .last()
        .and_then(|line| serde_json::from_str(line).ok())
        .unwrap_or_default();

    Drilled {
        line,
        said,
        is_clean: ended.status.success(),
    }
}

async fn finds_nothing(args: &[&str]) -> Value {
    is_clean(drill(args, &[]).await)
}

/// What a drill that found nothing has said.
#[track_caller]
fn is_clean(drilled: Drilled) -> Value {
    let line = drilled.line;
    assert!(
        drilled.is_clean,
        "found {}; all that it said stands above",
        line["violations"]
    );
    assert_eq!(line["violations"], serde_json::json!([]));
    assert_eq!(
        (
            &line["captured_twice_kept"],
            &line["lost"],
            &line["unended"]
        ),
        (&0.into(), &0.into(), &0.into())
    );

    assert!(
        line["payments"].as_u64().unwrap() > 0,
        "payments were made: {line}"
    );

    line
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swarm_of_faults_breaks_nothing() {
    // Two gateways take their time in a build like this: on PostgreSQL a few seeds have to do.
    let seeds = if on_postgres() { "1..6" } else { "1..24" };
    let redis = Redis::start().await.alone();
    let swarm = [
        "--scenario",
        "swarm",
        "--seeds",
        seeds,
        "--payments",
        "10",
        "--redis",
        &redis.url,
    ];

    let line = finds_nothing(&swarm).await;
    assert!(line["kills"].as_u64().unwrap() > 0, "gateways died: {line}");
    assert!(
        line["forged"].as_u64().unwrap() > 0,
        "somebody forged: {line}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_busiest_night_costs_many_payments_unless_they_may_go_elsewhere() {
    if on_postgres() {
        return;
    }
    let night = ["--scenario", "double-eleven", "--payments", "30"];
    let with = finds_nothing(&night).await;
    let without = finds_nothing(&[&night[..], &["--no-switchover"]].concat()).await;
    let percent = |line: &Value| {
        line["success_rate"]
            .as_str()
            .unwrap()
            .split('.')
            .next()
            .unwrap()
            .parse::<u32>()
            .unwrap()
    };

    let (with, without) = (percent(&with), percent(&without));
    assert!(
        with >= 99 && with > 2 * without,
        "{with} % with, {without} % without"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_lost_late_forged_or_down_is_found_out() {
    if on_postgres() {
        return;
    }
    for scenario in [
        "lost-answers",
        "late-money",
        "forged",
        "all-down",
        "flapping",
    ] {
        finds_nothing(&["--scenario", scenario, "--payments", "15"]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_in_trouble_breaks_nothing() {
    finds_nothing(&["--scenario", "database-trouble", "--payments", "20"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_loses_nothing_that_was_answered() {
    if on_postgres() && !rustix::process::geteuid().is_root() {
        println!("not drilled: a small filesystem for a PostgreSQL can only be mounted by root");
        return;
    }
    let seeds = if on_postgres() { "1..2" } else { "1..4" };
    let args = [
        "--scenario",
        "disk-full",
        "--seeds",
        seeds,
        "--payments",
        "20",
    ];

    // A server writes what belongs to a full disk in everybody's name: whoever makes a database on
    // it meanwhile is refused.
    let server = if on_postgres() {
        Some(Postgres::start(&[]).await)
    } else {
        None
    };
    let url = server.as_ref().map(|server| server.url.as_str());
    is_clean(drill_on(url, &args, &[], PATIENCE).await);
}

/// The embedded database has no connection that could fall silent.
#[tokio::test(flavor = "multi_thread")]
async fn connections_that_fall_silent_stop_nobody() {
    if on_postgres() {
        finds_nothing(&[
            "--scenario",
            "silence",
            "--seeds",
            "1..2",
            "--payments",
            "10",
        ])
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_set_stops_no_job() {
    finds_nothing(&["--scenario", "clock-set", "--payments", "4"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_tells_of_is_found_out_in_a_storm() {
    finds_nothing(&["--scenario", "storm", "--payments", "100"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_nothing_is_lost() {
    let redis = Redis::start().await.alone();
    finds_nothing(&[
        "--scenario",
        "redis-gone",
        "--payments",
        "20",
        "--redis",
        &redis.url,
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_redis_says_a_mended_provider_comes_back() {
    let redis = Redis::start().await.alone();
    let line = finds_nothing(&[
        "--scenario",
        "redis-lies",
        "--payments",
        "20",
        "--redis",
        &redis.url,
    ])
    .await;
    println!("{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_merchant_takes_nothing_from_the_good_one_beside_it() {
    if on_postgres() {
        return;
    }
    let line = finds_nothing(&["--scenario", "bad-neighbour", "--payments", "100"]).await;
    println!(
        "{} without the neighbour, {} beside it",
        line["success_rate_without_neighbour"], line["success_rate"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_scenario_is_explained_and_a_wrong_one_is_named() {
    let listed = drill(&["--list"], &[]).await;
    let names = [
        "double-eleven",
        "lost-answers",
        "late-money",
        "crash-everywhere",
        "database-trouble",
        "redis-gone",
    ];

    let others = [
        "all-down",
        "flapping",
        "forged",
        "swarm",
        "disk-full",
        "silence",
        "clock-set",
        "storm",
        "redis-lies",
    ];
    let others = others.iter().chain(&["bad-neighbour"]);

    for name in names.iter().chain(others) {
        assert!(
            listed.said.contains(&format!("{name} (")),
            "{name} is explained"
        );
    }

    assert!(!drill(&["--scenario", "nonsense"], &[]).await.is_clean);
    assert!(
        !drill(&["--scenario", "redis-gone"], &[]).await.is_clean,
        "it needs one"
    );

    assert!(!drill(&["--seeds", "nonsense"], &[]).await.is_clean);
}
