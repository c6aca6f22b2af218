//! The alert rules in the hands of a real Prometheus: it scrapes a live gateway, and the right
//! alert fires when something breaks and clears when it is mended. The rules are those of
//! `config/prometheus`, with every duration shortened.
//!
//! What brings about an alert is the same on both databases; so much waiting is done on SQLite
//! alone.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::in_repository;
use crate::helpers::redis::Redis;
use crate::helpers::{PATIENCE, TestApp, barcode, order};
use crate::webhooks::Receiver;

/// How each duration of the rules is shortened; one that is not here fails the tests. A window is
/// longer than some scrapes, and shorter than what one burst of calls must not set off.
const SHORTER: &[(&str, &str)] = &[
    ("interval: 15s", "interval: 500ms"),
    ("for: 30s", "for: 2s"),
    ("for: 1m", "for: 3s"),
    ("for: 2m", "for: 7s"),
    ("for: 5m", "for: 8s"),
    ("for: 10m", "for: 10s"),
    ("for: 15m", "for: 12s"),
    ("[5m]", "[4s]"),
    ("[10m]", "[4s]"),
    ("[15m]", "[4s]"),
    ("[1d]", "[30s]"),
    ("offset 10m", "offset 4s"),
];

/// One of Prometheus's programs, from `INTERLOCK_TEST_PROMETHEUS` (`tests/run` puts them there) or
/// the path.
fn program(name: &str) -> PathBuf {
    std::env::var_os("INTERLOCK_TEST_PROMETHEUS")
        .map_or_else(|| name.into(), |folder| Path::new(&folder).join(name))
}

/// Runs promtool, which must be content; returns what it said.
pub async fn promtool(args: &[&str]) -> String {
    let ran = Command::new(program("promtool"))
        .args(args)
        .output()
        .await
        .expect("promtool is installed (tests/run does)");
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&ran.stdout),
        String::from_utf8_lossy(&ran.stderr)
    );
    assert!(ran.status.success(), "promtool {args:?}: {said}");
    said
}

fn rules() -> PathBuf {
    in_repository("config/prometheus/alerts.yaml")
}

#[tokio::test]
async fn promtool_finds_nothing_wrong_with_the_rules_and_the_configuration() {
    let config = in_repository("config/prometheus/prometheus.yaml");
    promtool(&["check", "config", config.to_str().unwrap()]).await;
    promtool(&[
        "check",
        "rules",
        "--lint=all",
        "--lint-fatal",
        rules().to_str().unwrap(),
    ])
    .await;
}

#[tokio::test]
async fn alerts_fire_for_what_they_are_meant_for_and_learn_from_history() {
    let folder = TempDir::new().unwrap();
    for name in ["rules.yaml", "history.yaml"] {
        let text =
            std::fs::read_to_string(in_repository(&format!("tests/observability/{name}"))).unwrap();
        let file = folder.path().join(name);
        std::fs::write(&file, text.replace("{{ALERTS}}", rules().to_str().unwrap())).unwrap();
        promtool(&["test", "rules", file.to_str().unwrap()]).await;
    }
}

#[tokio::test]
async fn every_alert_says_what_happened_in_two_languages() {
    let file = super::yaml("config/prometheus/alerts.yaml").await;
    let rules = file["groups"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|group| group["rules"].as_array().unwrap());

    let alerts: Vec<&Value> = rules.filter(|rule| rule["alert"].is_string()).collect();
    assert!(alerts.len() > 20, "{}", alerts.len());
    for alert in alerts {
        let text = |name: &str| {
            alert["annotations"][name]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        assert!(
            text("summary").len() > 20 && text("description").split(". ").count() >= 3,
            "{alert:#}"
        );
        assert!(text("zh").contains('。'), "{alert:#}");
        let severity = alert["labels"]["severity"].as_str().unwrap_or_default();
        assert!(
            ["critical", "warning", "info"].contains(&severity),
            "{alert:#}"
        );
    }
}

/// The rules with every duration shortened.
fn shortened() -> String {
    let mut text = std::fs::read_to_string(rules()).unwrap();
    for (long, short) in SHORTER {
        assert!(text.contains(long), "{long} is no longer in the rules");
        text = text.replace(long, short);
    }
    for line in text
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'))
    {
        for mark in ["for: ", "interval: ", "offset ", "["] {
            let durations = line
                .match_indices(mark)
                .map(|(at, _)| &line[at + mark.len()..]);
            for duration in durations.filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
            {
                let end = duration
                    .find(|c: char| !c.is_ascii_alphanumeric())
                    .unwrap_or(duration.len());
                assert!(
                    duration[..end].ends_with('s'),
                    "SHORTER has nothing for {mark}{duration}"
                );
            }
        }
    }

    text
}

/// A Prometheus that watches one gateway.
struct Prometheus {
    _child: Child,
    url: String,
    http: reqwest::Client,
    _folder: TempDir,
}

impl Prometheus {
    async fn watch(app: &TestApp) -> Self {
        let folder = TempDir::new().unwrap();
        let target = app.client.base.strip_prefix("http://").unwrap();
        std::fs::write(folder.path().join("alerts.yaml"), shortened()).unwrap();
        let config = json!({
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s",
                "evaluation_interval": "500ms"},
            "rule_files": ["alerts.yaml"],
            "scrape_configs": [{"job_name": "interlock",
                "static_configs": [{"targets": [target]}]}],
        });

        std::fs::write(folder.path().join("prometheus.yaml"), config.to_string()).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();

        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let child = Command::new(program("prometheus"))
            .arg(format!(
                "--config.file={}",
                folder.path().join("prometheus.yaml").display()
            ))
            .arg(format!(
                "--storage.tsdb.path={}",
                folder.path().join("data").display()
            ))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .expect("prometheus is installed (tests/run does)");

        let http = providers::http::plain_client_builder().build().unwrap();
        let this = Self {
            _child: child,
            url: format!("http://127.0.0.1:{port}"),
            http,
            _folder: folder,
        };

        let began = Instant::now();
        while this
            .ask("/api/v1/query?query=up%3D%3D1")
            .await
            .is_none_or(|answer| answer["data"]["result"] == json!([]))
        {
            let log = std::fs::read_to_string(this._folder.path().join("log")).unwrap();
            assert!(
                began.elapsed() < PATIENCE,
                "Prometheus does not reach the gateway: {log}"
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }

        this
    }

    async fn ask(&self, path: &str) -> Option<Value> {
        let answer = self
            .http
            .get(format!("{}{path}", self.url))
            .send()
            .await
            .ok()?;
        serde_json::from_slice(&answer.bytes().await.ok()?).ok()
    }

    /// The alerts that fire, as `Name provider flow`.
    async fn firing(&self) -> BTreeSet<String> {
        let answer = self
            .ask("/api/v1/alerts")
            .await
            .expect("Prometheus answers");
        let alerts = answer["data"]["alerts"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|alert| alert["state"] == "firing");

        let shown = |alert: &Value| {
            let label = |name: &str| {
                alert["labels"][name]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned()
            };
            // What a person reads is filled in.
            let texts = alert["annotations"].to_string();
            assert!(
                !texts.contains("{{") && !texts.contains("no value") && !texts.contains("error"),
                "{texts}"
            );
            let parts = [label("alertname"), label("provider"), label("flow")];
            parts
                .into_iter()
                .filter(|part| !part.is_empty())
                .collect::<Vec<_>>()
                .join(" ")
        };

        alerts.map(shown).collect()
    }

    /// Waits until exactly these fire; between two looks `meanwhile` is done.
    #[track_caller]
    fn until<'a>(
        &'a self,
        expected: &'a [&str],
        meanwhile: impl AsyncFn() + 'a,
    ) -> impl Future<Output = ()> + 'a {
        let at = std::panic::Location::caller();

        async move {
            let expected: BTreeSet<String> =
                expected.iter().map(|alert| (*alert).to_owned()).collect();
            let began = Instant::now();
            loop {
                let firing = self.firing().await;
                if firing == expected {
                    println!("{:?} until {firing:?}", began.elapsed());
                    return;
                }
                assert!(
                    began.elapsed() < PATIENCE * 2,
                    "{at}: {firing:?} fire, and not {expected:?}"
                );
                meanwhile().await;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }

    /// A gateway that is well sets off nothing, for as long as most alerts wait.
    async fn stays_quiet(&self, meanwhile: impl AsyncFn()) {
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(5) {
            assert_eq!(self.firing().await, BTreeSet::new(), "nothing is broken");
            meanwhile().await;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// Whether this run waits for alerts.
fn is_run_on_sqlite() -> bool {
    let on_postgres = crate::helpers::on_postgres();
    if on_postgres {
        println!("not waited for on PostgreSQL: the run on SQLite does");
    }
    !on_postgres
}

async fn pay(app: &TestApp) {
    app.client.pay(&order()).await;
}

async fn nothing() {}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_down_is_told_and_taken_back_when_it_is_up() {
    if !is_run_on_sqlite() {
        return;
    }
    let app = TestApp::start().await;
    let prometheus = Prometheus::watch(&app).await;
    prometheus.stays_quiet(async || pay(&app).await).await;
    app.client
        .route(&[&app.alipay, &app.wechatpay, &app.unionpay])
        .await
        .expect(200);
    app.control
        .fault(json!({"provider": "alipay", "kind": "refuse"}))
        .await;

    prometheus
        .until(&["InterlockProviderDown alipay qr"], async || {
            pay(&app).await
        })
        .await;

    app.control.mend().await;
    prometheus.until(&[], async || pay(&app).await).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_that_stays_unknown_is_told_and_forgotten_once_it_is_known() {
    if !is_run_on_sqlite() {
        return;
    }
    let app = TestApp::start().await;
    let prometheus = Prometheus::watch(&app).await;

    // The provider answers questions, so it is not down: only this charge is neither done nor
    // undone.
    for call in ["create", "reverse"] {
        app.control
            .fault(json!({"provider": "wechatpay", "call": call, "kind": "http_500"}))
            .await;
    }

    let mut body = barcode("wechatpay", 0);
    body["wait"] = 0.into();
    app.client.pay(&body).await.expect(202);
    app.advance(700).await;
    prometheus
        .until(&["InterlockUnknownOutcomesAgeing wechatpay"], nothing)
        .await;
    app.control.mend().await;
    prometheus.until(&[], async || app.advance(60).await).await;

    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merchant_who_is_not_told_is_told_of_until_he_has_been() {
    if !is_run_on_sqlite() {
        return;
    }
    let app = TestApp::start().await;
    let receiver = Receiver::start().await;
    receiver.endpoint(&app.client, "shop", json!({})).await;
    let prometheus = Prometheus::watch(&app).await;
    receiver
        .set("shop", json!({"status": 500, "careless": true}))
        .await;
    app.paid().await;

    // Deliveries are as old as they are there.
    receiver.got("shop", 2).await;
    app.advance(400).await;
    prometheus.until(&["InterlockWebhookLag"], nothing).await;
    receiver.set("shop", json!({"status": 200})).await;
    prometheus.until(&[], async || app.advance(60).await).await;

    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn payments_that_wait_for_a_route_are_told_until_one_returns() {
    if !is_run_on_sqlite() {
        return;
    }
    let app = TestApp::start().await;
    let prometheus = Prometheus::watch(&app).await;

    for (provider, _) in &app.accounts {
        app.control
            .fault(json!({"provider": provider, "kind": "refuse"}))
            .await;
    }

    app.client.pay(&order()).await.expect(202);
    app.advance(90).await;
    let expected = [
        "InterlockNoRoute qr",
        "InterlockPaymentsParked",
        "InterlockProviderDown alipay qr",
        "InterlockProviderDown unionpay qr",
        "InterlockProviderDown wechatpay qr",
    ];

    prometheus.until(&expected, async || pay(&app).await).await;
    app.control.mend().await;
    let goes_on = async || {
        app.advance(10).await;
        pay(&app).await;
    };
    prometheus.until(&[], goes_on).await;

    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_gone_is_told_until_it_is_back() {
    if !is_run_on_sqlite() {
        return;
    }
    let mut redis = Redis::start().await;
    let app = TestApp::with(&[("redis.url", &redis.url())]).await;
    let prometheus = Prometheus::watch(&app).await;
    prometheus.stays_quiet(async || pay(&app).await).await;
    redis.kill().await;
    prometheus
        .until(&["InterlockRedisGone"], async || pay(&app).await)
        .await;
    redis.restart().await;
    prometheus.until(&[], async || pay(&app).await).await;
    app.stop().await;
}
