//! `config/compose.yaml` without a compose engine: every path that it mounts is there, every
//! variable is a key that the gateway takes, ports and names agree with those of Prometheus and
//! Grafana, and no password has a default.

use std::collections::BTreeSet;

use interlock::config::Config;
use serde_json::{Map, Value};

use super::{in_repository, yaml};

const COMPOSE: &str = "config/compose.yaml";

fn texts(value: &Value) -> Vec<String> {
    let list = value.as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter()
        .map(|item| item.as_str().unwrap().to_owned())
        .collect()
}

async fn services() -> (Value, Map<String, Value>) {
    let whole = yaml(COMPOSE).await;
    let services = whole["services"].as_object().unwrap().clone();
    (whole, services)
}

/// `${NAME:-default}` is its default, and `${NAME:?why}` what the caller gives.
fn filled(text: &str, given: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, from)) = rest.split_once("${") {
        let (variable, after) = from.split_once('}').unwrap();
        out.push_str(before);
        out.push_str(match variable.split_once(":-") {
            Some((_, default)) => default,
            None if variable.contains(":?") => given,
            None => panic!("{variable} has neither a default nor a reason to be given"),
        });
        rest = after;
    }
    out + rest
}

/// Both gateways' configuration as the program reads it.
fn config(service: &Value) -> Config {
    let environment = service["environment"].as_object().unwrap();
    let flags: Vec<(String, String)> = environment
        .iter()
        .map(|(name, value)| {
            let key = name
                .strip_prefix("INTERLOCK__")
                .expect(name)
                .to_lowercase()
                .replace("__", ".");
            (key, filled(value.as_str().unwrap(), &"ab".repeat(32)))
        })
        .collect();

    let flags: Vec<(&str, String)> = flags
        .iter()
        .map(|(key, value)| (key.as_str(), value.clone()))
        .collect();

    Config::load(None, &flags).unwrap()
}

fn port(address: &str) -> &str {
    address.rsplit(':').next().unwrap()
}

#[tokio::test]
async fn the_whole_set_is_there_and_waits_for_what_it_needs() {
    let (whole, services) = services().await;
    for name in [
        "gateway-1",
        "gateway-2",
        "postgres",
        "redis",
        "prometheus",
        "grafana",
    ] {
        assert!(services.contains_key(name), "{name}");
    }

    let mut outside = BTreeSet::new();
    for (name, service) in &services {
        assert!(service["image"].is_string(), "{name}");
        for needed in service["depends_on"].as_object().into_iter().flatten() {
            let (other, how) = needed;
            assert_eq!(how["condition"], "service_healthy", "{name} needs {other}");
            assert!(
                services[other]["healthcheck"]["test"].is_array(),
                "{name} waits for {other}"
            );
        }
        for published in texts(&service["ports"]) {
            // Nothing is open to the world by itself.
            let (host, _) = published.rsplit_once(':').unwrap();
            assert!(
                host.starts_with("127.0.0.1:") && outside.insert(host.to_owned()),
                "{name}: {published}"
            );
        }
        let networks = &service["networks"];
        assert!(
            networks["interlock"].is_object() || texts(networks) == ["interlock"],
            "{name}: {networks}"
        );
    }

    let volumes: BTreeSet<&String> = whole["volumes"].as_object().unwrap().keys().collect();
    let mounted: BTreeSet<String> = services
        .values()
        .flat_map(|s| texts(&s["volumes"]))
        .collect();
    let named = mounted
        .iter()
        .filter(|mount| !mount.starts_with('.'))
        .map(|m| m.split(':').next().unwrap().to_owned());

    assert_eq!(
        named.collect::<BTreeSet<String>>(),
        volumes.into_iter().cloned().collect()
    );
}

#[tokio::test]
async fn every_path_that_it_mounts_or_copies_is_there() {
    let (_, services) = services().await;
    let mut count = 0;
    for mount in services
        .values()
        .flat_map(|service| texts(&service["volumes"]))
    {
        let Some((host, rest)) = mount
            .split_once(':')
            .filter(|(host, _)| host.starts_with("./"))
        else {
            continue;
        };
        assert!(
            in_repository("config").join(host).is_dir() && rest.ends_with(":ro"),
            "{mount}"
        );
        count += 1;
    }

    assert_eq!(count, 3, "rules, provisioning, dashboards");
    let dockerfile = services["gateway-1"]["build"]["dockerfile_inline"]
        .as_str()
        .unwrap();
    assert_eq!(services["gateway-1"]["build"]["context"], "..");

    let copies = dockerfile
        .lines()
        .filter_map(|line| line.strip_prefix("COPY "))
        .filter(|line| !line.starts_with("--"));
    let mut copied = BTreeSet::new();

    for copy in copies {
        let mut parts: Vec<&str> = copy.split(' ').collect();
        parts.pop();
        copied.extend(parts);
    }

    assert!(
        copied.iter().all(|path| in_repository(path).exists()),
        "{copied:?}"
    );

    // The whole workspace, and what is built into the program.
    assert!(
        [
            "Cargo.toml",
            "Cargo.lock",
            "src",
            "providers",
            "migrations",
            "config",
            "tests"
        ]
        .iter()
        .all(|p| copied.contains(p))
    );

    let version = include_str!("../../Cargo.toml")
        .lines()
        .find_map(|line| line.strip_prefix("rust-version = \""));
    assert!(
        dockerfile.contains(&format!(
            "FROM rust:{}-",
            version.unwrap().trim_end_matches('"')
        )),
        "{dockerfile}"
    );
}

#[tokio::test]
async fn every_variable_is_a_key_of_the_gateway_and_both_gateways_are_set_up_alike() {
    let (_, services) = services().await;
    assert_eq!(
        services["gateway-1"]["environment"],
        services["gateway-2"]["environment"]
    );

    for name in ["gateway-1", "gateway-2"] {
        let (service, config) = (&services[name], config(&services[name]));
        assert!(
            config.database.url.starts_with("postgres://interlock:")
                && config.database.url.ends_with("@postgres/interlock")
        );
        assert_eq!(config.redis.url, "redis://redis:6379");
        let listens = port(&config.server.listen);
        let [published] = &texts(&service["ports"])[..] else {
            panic!("{name}")
        };
        assert_eq!(port(published), listens, "{name}");
        let check = texts(&service["healthcheck"]["test"]);
        assert_eq!(
            check.last().unwrap(),
            &format!("http://127.0.0.1:{listens}/readyz"),
            "{name}"
        );
        let alias = texts(&service["networks"]["interlock"]["aliases"]);
        assert_eq!(
            config.server.public_url,
            format!("http://{}:{listens}", alias[0]),
            "{name}"
        );
        let grace = service["stop_grace_period"]
            .as_str()
            .unwrap()
            .trim_end_matches('s')
            .parse::<u64>()
            .unwrap();
        assert!(
            grace > config.server.drain.as_secs(),
            "{name} is killed before its calls have ended"
        );
        let folder = config.data.dir.display().to_string();
        assert!(
            texts(&service["volumes"])
                .iter()
                .any(|mount| mount.ends_with(&format!(":{folder}"))),
            "{name}"
        );
        // The sandbox listens where the gateways look for it, at an address of its own.
        let sandbox = &services["sandbox"];
        let address = config.sandbox.listen.strip_prefix("http://").unwrap();
        assert!(
            texts(&sandbox["command"]).contains(&address.to_owned()),
            "{address}"
        );
        assert_eq!(
            sandbox["networks"]["interlock"]["ipv4_address"],
            address.split(':').next().unwrap()
        );
    }
}

#[tokio::test]
async fn prometheus_scrapes_both_gateways_and_grafana_reads_from_it() {
    let (_, services) = services().await;
    let prometheus = yaml("config/prometheus/prometheus.yaml").await;
    let targets = texts(&prometheus["scrape_configs"][0]["static_configs"][0]["targets"]);
    let listens = config(&services["gateway-1"]).server.listen;
    let gateways = ["gateway-1", "gateway-2"].map(|name| format!("{name}:{}", port(&listens)));
    assert_eq!(targets, gateways);
    let file = texts(&services["prometheus"]["command"])
        .into_iter()
        .find_map(|a| a.strip_prefix("--config.file=").map(str::to_owned));
    assert!(mounts(
        &services["prometheus"],
        "./prometheus",
        file.unwrap().trim_end_matches("/prometheus.yaml")
    ));

    let sources = yaml("config/grafana/provisioning/datasources/prometheus.yaml").await;
    let published = texts(&services["prometheus"]["ports"]);
    assert_eq!(
        sources["datasources"][0]["url"],
        format!("http://prometheus:{}", port(&published[0]))
    );
    let boards = yaml("config/grafana/provisioning/dashboards/interlock.yaml").await;
    let folder = boards["providers"][0]["options"]["path"].as_str().unwrap();
    assert!(
        mounts(&services["grafana"], "./grafana/dashboards", folder),
        "{folder}"
    );
    assert!(mounts(
        &services["grafana"],
        "./grafana/provisioning",
        "/etc/grafana/provisioning"
    ));
}

fn mounts(service: &Value, host: &str, inside: &str) -> bool {
    texts(&service["volumes"]).contains(&format!("{host}:{inside}:ro"))
}

#[tokio::test]
async fn no_password_and_no_key_has_a_default() {
    let (_, services) = services().await;
    let mut secrets = 0;
    for (service, variables) in services
        .iter()
        .map(|(name, s)| (name, s["environment"].as_object()))
    {
        for (name, value) in variables.into_iter().flatten() {
            let text = value.as_str().unwrap();
            if ["PASSWORD", "__KEY", "DATABASE__URL"]
                .iter()
                .any(|part| name.contains(part))
            {
                assert!(text.contains(":?"), "{service}: {name} = {text}");
                secrets += 1;
            }
        }
    }

    assert_eq!(secrets, 6, "two for each gateway, PostgreSQL's, Grafana's");
    // The lines to paste give all of them.
    let text = std::fs::read_to_string(in_repository(COMPOSE)).unwrap();

    for asked in text
        .split("${")
        .skip(1)
        .filter_map(|from| from.split('}').next()?.split_once(":?"))
    {
        assert!(
            text.contains(&format!("{}=$(openssl", asked.0)),
            "{}",
            asked.0
        );
    }
}
