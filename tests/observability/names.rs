//! What dashboards and rules ask for is what a gateway has: every metric and every label that they
//! name is on `/metrics` after some traffic, and Prometheus can read every expression.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::prometheus::promtool;
use super::{in_repository, yaml};
use crate::helpers::redis::Redis;
use crate::helpers::{PATIENCE, TestApp, barcode, order};

/// Labels that Prometheus adds.
const ADDED: &[&str] = &["job", "instance", "alertname", "alertstate"];

/// A PromQL expression, and where it stands.
struct Asked {
    place: String,
    expr: String,
}

fn dashboards() -> Vec<PathBuf> {
    let files = std::fs::read_dir(in_repository("config/grafana/dashboards")).unwrap();
    let mut files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    files
}

fn dashboard(file: &PathBuf) -> Value {
    serde_json::from_slice(&std::fs::read(file).unwrap())
        .unwrap_or_else(|e| panic!("{}: {e}", file.display()))
}

/// Every expression of every dashboard: panels, annotations, and what variables are filled with.
fn on_dashboards() -> Vec<Asked> {
    let mut all = Vec::new();
    for file in dashboards() {
        let board = dashboard(&file);
        let mut ask = |place: &Value, expr: &Value| {
            let place = format!("{}: {place}", file.file_name().unwrap().display());
            all.push(Asked {
                place,
                expr: expr.as_str().unwrap().to_owned(),
            });
        };
        for panel in board["panels"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|panel| panel["type"] != "row")
        {
            let targets = panel["targets"].as_array().unwrap();
            assert!(!targets.is_empty(), "{panel:#}");
            targets
                .iter()
                .for_each(|target| ask(&panel["title"], &target["expr"]));
        }
        board["annotations"]["list"]
            .as_array()
            .unwrap()
            .iter()
            .for_each(|a| ask(&a["name"], &a["expr"]));
        for variable in board["templating"]["list"].as_array().unwrap() {
            // label_values(metric, label)
            let query = variable["query"]["query"].as_str().unwrap();
            let inside = query
                .strip_prefix("label_values(")
                .and_then(|q| q.strip_suffix(')'))
                .expect(query);
            let (metric, label) = inside.split_once(", ").expect(query);
            ask(
                &variable["name"],
                &format!("{metric}{{{label}!=\"\"}}").into(),
            );
        }
    }

    all
}

/// Every expression of the rules, and the names that they record.
async fn in_rules() -> (Vec<Asked>, BTreeSet<String>) {
    let file = yaml("config/prometheus/alerts.yaml").await;
    let groups = file["groups"].as_array().unwrap();
    let rules: Vec<&Value> = groups
        .iter()
        .flat_map(|group| group["rules"].as_array().unwrap())
        .collect();
    let recorded = rules
        .iter()
        .filter_map(|rule| rule["record"].as_str().map(str::to_owned))
        .collect();

    let asked = |rule: &&Value| {
        let name = rule["alert"].as_str().or(rule["record"].as_str()).unwrap();
        Asked {
            place: format!("alerts.yaml: {name}"),
            expr: rule["expr"].as_str().unwrap().to_owned(),
        }
    };

    (rules.iter().map(asked).collect(), recorded)
}

/// The metrics that an expression names, each with the labels that it asks of it.
fn named(expr: &str) -> Vec<(String, BTreeSet<String>)> {
    let mut found = Vec::new();
    let part_of_a_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let mut rest = expr;

    while let Some(at) = rest.find("interlock") {
        let starts_here = !rest[..at].ends_with(|c: char| part_of_a_name(c) || c == '"');
        let from = &rest[at..];
        let length = from.find(|c| !part_of_a_name(c)).unwrap_or(from.len());
        let (name, after) = from.split_at(length);
        rest = after;
        if !starts_here || name == "interlock" {
            continue;
        }
        let selector = after
            .strip_prefix('{')
            .map_or("", |inside| inside.split('}').next().unwrap());
        // `a="b,c"` has one label: quoted parts are no names.
        let bare: String = selector.split('"').step_by(2).collect();
        let labels = bare
            .split(',')
            .map(|m| m.trim().trim_end_matches(['=', '!', '~']).to_owned());
        found.push((
            name.to_owned(),
            labels.filter(|label| !label.is_empty()).collect(),
        ));
    }

    found
}

/// What `/metrics` has: names, each with its labels.
fn exposed(text: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut all: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
    {
        let (series, _) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let labels: String = labels.split('"').step_by(2).collect();
        let labels = labels
            .trim_end_matches('}')
            .split(',')
            .map(|label| label.trim_end_matches('=').to_owned());
        all.entry(name.to_owned())
            .or_default()
            .extend(labels.filter(|label| !label.is_empty()));
    }

    all
}

async fn metrics(app: &TestApp) -> String {
    String::from_utf8(app.client.get("/metrics").await.bytes).unwrap()
}

fn missing(asked: &[Asked], has: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let mut missing = Vec::new();
    for Asked { place, expr } in asked {
        for (name, labels) in named(expr) {
            let Some(known) = has.get(&name) else {
                missing.push(format!("{place}: there is no {name}"));
                continue;
            };
            let strange = labels
                .iter()
                .filter(|label| !known.contains(*label) && !ADDED.contains(&label.as_str()));
            missing.extend(strange.map(|label| format!("{place}: {name} has no label {label}")));
        }
    }
    missing
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_that_a_dashboard_or_a_rule_names_is_there() {
    let redis = Redis::start().await;
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let app = TestApp::with(&[
        ("redis.url", &redis.url()),
        ("traces.otlp_url", &format!("http://{nobody}")),
        ("traces.interval_ms", "20"),
    ])
    .await;
    let hook = json!({"url": format!("http://{nobody}/hook")});
    app.client
        .post("/v1/webhook_endpoints", "unused", &hook)
        .await
        .expect(201);
    let paid = app.paid().await;
    app.client
        .refund(paid["id"].as_str().unwrap(), 100)
        .await
        .expect(201);
    app.client.pay(&barcode("alipay", 0)).await.expect(201);
    app.client.pay(&order()).await.expect(201);

    let (mut asked, recorded) = in_rules().await;
    asked.extend(on_dashboards());
    assert!(asked.len() > 60, "all of them are read: {}", asked.len());
    // Gauges are measured every other second, the work list less often.
    let began = Instant::now();
    let text = loop {
        let text = metrics(&app).await;
        let mut has = exposed(&text);
        // What a rule records has the labels that its own expression leaves it.
        let kept = ["provider", "flow", "mode"].map(str::to_owned);
        has.extend(
            recorded
                .iter()
                .map(|name| (name.clone(), kept.clone().into())),
        );
        let missing = missing(&asked, &has);
        if missing.is_empty() {
            break text;
        }
        assert!(
            began.elapsed() < PATIENCE,
            "{}\n\n{text}",
            missing.join("\n")
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    // Ids are no labels: their number has no bound. Those of the first accounts are an exception.
    for id in [
        "pay_",
        "att_",
        "re_",
        "evt_",
        "key_",
        "sk_test_",
        paid["order_id"].as_str().unwrap(),
    ] {
        assert!(!text.contains(&format!("\"{id}")), "{id} in\n{text}");
    }
    assert!(text.contains(
        "interlock_http_requests_total{route=\"/v1/payments/{id}\",method=\"GET\",status=\"200\"}"
    ));
    assert!(
        text.contains("interlock_payments_total{mode=\"test\",flow=\"qr\",status=\"succeeded\"} 1"),
        "{text}"
    );
    assert!(text.contains(
        "interlock_captures_total{mode=\"test\",provider=\"alipay\",flow=\"barcode\",disposition=\"kept\"} \
        1"
    ));
    app.stop().await;
}

/// Waits until all of these stand on `/metrics`.
async fn until(app: &TestApp, series: &[&str]) {
    let began = Instant::now();
    loop {
        let text = metrics(app).await;
        let missing: Vec<_> = series
            .iter()
            .filter(|series| !text.contains(&format!("{series}\n")))
            .collect();
        if missing.is_empty() {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "{missing:#?} in\n{text}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_wrong_is_measured_by_kind_age_and_route() {
    let app = TestApp::start().await;
    app.client
        .route(&[&app.alipay, &app.wechatpay, &app.unionpay])
        .await
        .expect(200);
    app.control
        .fault(json!({"provider": "alipay", "kind": "refuse"}))
        .await;
    app.client.pay(&order()).await.expect(201);

    until(
        &app,
        &[
            "interlock_switches_total{mode=\"test\",from=\"alipay\",to=\"wechatpay\"} 1",
            "interlock_provider_calls_total{mode=\"test\",provider=\"alipay\",call=\"create\",flow=\"qr\",outcome=\"not_sent\",failure=\"network\"} \
            1",
        ],
    )
    .await;

    // Out, and no longer believed in.
    let began = Instant::now();
    while !metrics(&app)
        .await
        .contains("interlock_breaker_state{provider=\"alipay\",flow=\"qr\",mode=\"test\"} 3")
    {
        assert!(began.elapsed() < PATIENCE, "its breaker never opens");
        app.client.pay(&order()).await.expect(201);
    }

    // A charge that is neither done nor undone grows older, and is on the work list after a day.
    for call in ["create", "reverse"] {
        app.control
            .fault(json!({"provider": "wechatpay", "call": call, "kind": "http_500"}))
            .await;
    }

    let mut body = barcode("wechatpay", 0);
    body["wait"] = 0.into();
    app.client.pay(&body).await.expect(202);
    app.advance(700).await;
    let older = |than: u32, count: u32| {
        format!(
            "interlock_attempts_in_doubt_older{{mode=\"test\",provider=\"wechatpay\",than_seconds=\"{than}\"}} \
            {count}"
        )
    };

    until(&app, &[&older(600, 1), &older(3_600, 0)]).await;
    app.advance(90_000).await;
    let unresolved = "interlock_work_list_entries{mode=\"test\",kind=\"unresolved\"} 1";

    until(
        &app,
        &[
            &older(86_400, 1),
            unresolved,
            "interlock_work_list_entries{mode=\"test\",kind=\"any\"} 1",
        ],
    )
    .await;

    app.stop().await;
}

/// An increase from nothing to 1 is none to Prometheus.
#[tokio::test(flavor = "multi_thread")]
async fn what_has_not_happened_yet_is_there_as_0() {
    let app = TestApp::start().await;
    let text = metrics(&app).await;

    for series in [
        "interlock_accounts_set_aside_total{mode=\"live\",provider=\"unionpay\"} 0",
        "interlock_notifications_total{mode=\"live\",provider=\"wechatpay\",verdict=\"bad_signature\"} \
        0",
        "interlock_notifications_total{mode=\"live\",provider=\"alipay\",verdict=\"other_amount\"} \
        0",
        "interlock_captures_total{mode=\"live\",provider=\"alipay\",flow=\"qr\",disposition=\"held\"} \
        0",
        "interlock_payments_total{mode=\"live\",flow=\"qr\",status=\"failed\"} 0",
        "interlock_switches_total{mode=\"live\",from=\"alipay\",to=\"wechatpay\"} 0",
        "interlock_refunds_total{mode=\"live\",provider=\"wechatpay\",status=\"abnormal\"} 0",
        "interlock_webhook_tries_total{mode=\"live\",result=\"timeout\"} 0",
        "interlock_webhook_deliveries_total{mode=\"live\",status=\"failed\"} 0",
        "interlock_commits_unknown_total 0",
        "interlock_broken_invariants_total{which=\"two_kept\"} 0",
    ] {
        assert!(text.contains(series), "{series} in\n{text}");
    }

    let incompatible = "outcome=\"unknown\",failure=\"incompatible\"} 0";
    assert!(
        text.contains(&format!(
            "provider=\"alipay\",call=\"create\",flow=\"qr\",{incompatible}"
        )),
        "{text}"
    );

    app.stop().await;
}

#[tokio::test]
async fn prometheus_can_read_what_dashboards_ask() {
    let folder = TempDir::new().unwrap();
    let rules: Vec<Value> = on_dashboards()
        .into_iter()
        .enumerate()
        .map(|(n, asked)| {
            // As Grafana fills them in.
            let expr = asked
                .expr
                .replace("$__rate_interval", "1m")
                .replace("$flow", ".*")
                .replace("$provider", ".*");
            assert!(!expr.contains('$'), "{}: {expr}", asked.place);
            json!({"record": format!("dashboard:{n}"), "expr": expr,
                "labels": {"place": asked.place}})
        })
        .collect();

    let file = folder.path().join("dashboards.yaml");
    // JSON is YAML.
    std::fs::write(
        &file,
        json!({"groups": [{"name": "dashboards", "rules": rules}]}).to_string(),
    )
    .unwrap();

    promtool(&["check", "rules", file.to_str().unwrap()]).await;
}

#[tokio::test]
async fn dashboards_read_from_the_source_that_is_provisioned_and_have_panels_that_tell_what_they_show()
 {
    let sources = yaml("config/grafana/provisioning/datasources/prometheus.yaml").await;
    let uid = &sources["datasources"][0]["uid"];
    let mut uids = BTreeSet::new();

    for file in dashboards() {
        let board = dashboard(&file);
        assert!(
            uids.insert(board["uid"].as_str().unwrap().to_owned()),
            "{} is there twice",
            board["uid"]
        );
        for panel in board["panels"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|panel| panel["type"] != "row")
        {
            assert_eq!(&panel["datasource"]["uid"], uid, "{panel:#}");
            assert!(
                panel["targets"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .all(|t| t["datasource"]["uid"] == *uid),
                "{panel:#}"
            );
            assert!(
                panel["description"]
                    .as_str()
                    .is_some_and(|text| text.len() > 10),
                "{panel:#}"
            );
        }
    }

    assert!(uids.len() >= 3);
}

#[test]
fn names_and_labels_are_found_in_expressions() {
    let labels = |list: &[&str]| {
        list.iter()
            .map(|l| (*l).to_owned())
            .collect::<BTreeSet<_>>()
    };
    let found = named(
        "sum by (a) (rate(interlock_x_total{b=\"c,d\", e=~\"f\"}[5m])) / interlock:y:rate5m > 0 \
        unless up{job=\"interlock\"}",
    );

    let expected = [
        ("interlock_x_total".to_owned(), labels(&["b", "e"])),
        ("interlock:y:rate5m".to_owned(), labels(&[])),
    ];
    assert_eq!(found, expected);

    let has = exposed("# HELP x\ninterlock_x_total{b=\"1,2\",c=\"{}\"} 3\nplain 1\n");
    assert_eq!(has["interlock_x_total"], labels(&["b", "c"]));
    let asked = [Asked {
        place: "here".to_owned(),
        expr: "interlock_x_total{b=\"\",e=\"\"} + interlock_gone".to_owned(),
    }];

    assert_eq!(
        missing(&asked, &has),
        [
            "here: interlock_x_total has no label e",
            "here: there is no interlock_gone"
        ]
    );
}
