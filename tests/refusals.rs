//! Every "no" that a provider's tables know, in every flow, while a healthy second route stands by:
//! what becomes of the payment. Printed as a matrix; only what every provider would refuse ends
//! one.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use providers::sandbox::keys::Keys;
use providers::sandbox::{LOG, Options, Sandbox};
use reqwest::Method;
use serde_json::{Value, json};

use crate::addresses::made;
use crate::helpers::{PATIENCE, TestApp, barcode, fresh, order};

const ALIPAY: &str = include_str!("../providers/tests/vectors/alipay-outcomes.txt");
const WECHATPAY: &str = include_str!("../providers/tests/vectors/wechatpay-outcomes.txt");
const UNIONPAY: &str = include_str!("../providers/tests/vectors/unionpay-outcomes.txt");

/// A code in the sandbox's notation and the outcome that the adapter's own table gives it.
struct No {
    code: String,
    outcome: &'static str,
    /// "Too often": its route is asked less for a while.
    is_pace: bool,
}

/// What the tables know of a provider's answers to a creation in this flow. Left out: successes,
/// and answers without a code, which say nothing.
fn noes(provider: &str, flow: &str) -> Vec<No> {
    let lines = |text: &'static str| {
        text.lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
    };
    let no = |code: String, outcome: &'static str, is_pace: bool| No {
        code,
        outcome,
        is_pace,
    };

    match provider {
        "alipay" => {
            let call = if flow == "qr" { "precreate" } else { "pay" };
            let rows = lines(ALIPAY).map(|line| line.split(' ').collect::<Vec<_>>());
            let ours = rows.filter(|row| row[0] == call || row[0] == "gateway");
            let told = ours.filter(|row| {
                row[2] != "-" && row[2] != "ACQ." && !["10000", "10003"].contains(&row[1])
            });
            told.map(|row| {
                no(
                    format!("{} {}", row[1], row[2]),
                    of_alipay(row[3]),
                    row.contains(&"rate_limited"),
                )
            })
            .collect()
        }
        "wechatpay" => {
            let call = if flow == "qr" { "native" } else { "codepay" };
            let rows = lines(WECHATPAY).map(|line| line.splitn(4, ' ').collect::<Vec<_>>());
            let ours = rows.filter(|row| row[0] == call);
            let code = |row: &[&str]| format!("{} {}", row[1], row[2].replacen('/', " ", 1));
            ours.map(|row| {
                no(
                    code(&row),
                    of_wechatpay(row[3]),
                    row[3].ends_with("rate_limited"),
                )
            })
            .collect()
        }
        _ => {
            let rows = lines(UNIONPAY)
                .skip(1)
                .map(|line| line.split_whitespace().collect::<Vec<_>>());
            let told = rows.filter(|row| !["00", "-"].contains(&row[0]));
            let column = if flow == "qr" { 1 } else { 2 };
            told.map(|row| no(row[0].to_owned(), of_unionpay(row[column]), row[0] == "37"))
                .collect()
        }
    }
}

fn of_alipay(outcome: &str) -> &'static str {
    match outcome {
        "Refused(Provider)" => "refused_provider",
        "Refused(Account)" => "refused_account",
        "Refused(Route)" => "refused_route",
        "Declined" => "declined",
        "Unknown" => "unknown",
        other => panic!("{other}"),
    }
}

fn of_wechatpay(outcome: &str) -> &'static str {
    match outcome.split(' ').collect::<Vec<_>>().as_slice() {
        ["refused", "by", "provider", _] => "refused_provider",
        ["refused", "by", "account", _] => "refused_account",
        ["refused", "by", "route", _] => "refused_route",
        ["declined", _] => "declined",
        ["waiting"] => "waiting",
        ["unknown", _] => "unknown",
        other => panic!("{other:?}"),
    }
}

fn of_unionpay(outcome: &str) -> &'static str {
    match outcome {
        "provider" => "refused_provider",
        "account" => "refused_account",
        "route" => "refused_route",
        "declined" => "declined",
        "waiting" => "waiting",
        "unknown" => "unknown",
        other => panic!("{other}"),
    }
}

/// What became of a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    NextRoute,
    NextRouteAndAside,
    Ended,
    EndedAndAside,
    InDoubt,
}

impl Fate {
    fn words(self) -> &'static str {
        match self {
            Self::NextRoute => "next route",
            Self::NextRouteAndAside => "next route, account set aside",
            Self::Ended => "ended",
            Self::EndedAndAside => "ended, account set aside",
            Self::InDoubt => "in doubt",
        }
    }
}

/// Why a row may end its payment: no provider would take it after this.
fn every_provider_would_refuse(flow: &str, outcome: &str) -> Option<&'static str> {
    match (flow, outcome) {
        // A code names its wallet, so that no other provider can read it; and it is the payer who
        // has to do something.
        ("barcode", "declined") => Some("the payer's own no"),
        // Of the one provider that can read it, the account is refused; its others are not tried
        // for the same payment.
        ("barcode", "refused_account") => {
            Some("the code is this wallet's, and the account is refused")
        }
        _ => None,
    }
}

/// A gateway whose payments go first to an account that can be told what to say, then to one that
/// works.
struct Bench {
    app: TestApp,
    provider: &'static str,
    /// Whose second account of the same provider is: a sandbox with a merchant of its own.
    other: Sandbox,
    first: String,
    second: String,
}

impl Bench {
    async fn new(provider: &'static str) -> Self {
        let app = TestApp::without_breakers().await;
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let faces = providers::PROTOCOLS.iter().map(|p| (p.name, any)).collect();
        let keys = Keys::generate().unwrap();
        let other = Sandbox::start(Options {
            control: any,
            faces,
            keys,
            book: None,
            log: LOG,
        })
        .await
        .unwrap();

        let mut settings = other.credentials()[provider].clone();
        settings["base_url"] = other.face_urls()[provider].clone();
        let second = made(&app.client, provider, &settings).await.expect(201)["id"]
            .as_str()
            .unwrap()
            .to_owned();

        Self {
            first: app.account(provider),
            app,
            provider,
            other,
            second,
        }
    }

    /// Sends the payments of a flow to the account that says no, and from there to one that may
    /// take them.
    async fn route(&self, flow: &str) {
        let elsewhere = if self.provider == "alipay" {
            "wechatpay"
        } else {
            "alipay"
        };
        let elsewhere = self.app.account(elsewhere);
        let next = if flow == "qr" {
            &elsewhere
        } else {
            &self.second
        };

        self.app
            .client
            .route(&[&self.first, next])
            .await
            .expect(200);
    }

    /// What becomes of a payment whose first route says this.
    async fn fate(&self, flow: &str, no: &No) -> Fate {
        let client = &self.app.client;
        let fault = json!({"provider": self.provider, "call": "create", "kind": "says",
            "code": no.code, "count": 1});
        self.app.control.fault(fault).await;
        let began = Instant::now();
        let payment = loop {
            let mut body = if flow == "qr" {
                order()
            } else {
                barcode(self.provider, 0)
            };
            if flow == "barcode" {
                body["wait"] = json!(0);
            }
            let answer = client.post("/v1/payments", &fresh("key"), &body).await;
            assert!(
                answer.status.is_success(),
                "{} {}: {}",
                self.provider,
                no.code,
                answer.json()
            );
            let payment = answer.json();
            if payment["attempts"][0]["account"] == self.first {
                break payment;
            }
            // After a "too often" every fifth of a second one goes there.
            assert!(
                began.elapsed() < PATIENCE,
                "{} {flow} {}: {payment:#}",
                self.provider,
                no.code
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        };

        let known = |payment: &Value| fate_of(payment).is_some();
        let payment = client.until(payment["id"].as_str().unwrap(), known).await;
        let attempt = &payment["attempts"][0];

        assert_eq!(
            attempt["outcome"], no.outcome,
            "{} {flow} {}: {attempt:#}",
            self.provider, no.code
        );

        let fate = fate_of(&payment).unwrap();
        let mut is_aside = self.set_aside().await;

        while no.outcome == "refused_account" && !is_aside && began.elapsed() < PATIENCE {
            // It is written after the payment.
            tokio::time::sleep(Duration::from_millis(10)).await;
            is_aside = self.set_aside().await;
        }

        match (fate, is_aside) {
            (Fate::NextRoute, true) => Fate::NextRouteAndAside,
            (Fate::Ended, true) => Fate::EndedAndAside,
            (fate, is_aside) => {
                assert!(
                    !is_aside,
                    "{} {flow} {}: {fate:?} and set aside",
                    self.provider, no.code
                );
                fate
            }
        }
    }

    /// Whether the first account is set aside; it is not, afterwards.
    async fn set_aside(&self) -> bool {
        let client = &self.app.client;
        let accounts = client.get("/v1/accounts").await.expect(200);
        let aside: Vec<&Value> = accounts["data"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|a| a["set_aside_until"] != Value::Null)
            .collect();

        for account in &aside {
            assert_eq!(account["id"], self.first, "{account:#}");
            let path = format!("/v1/accounts/{}", self.first);
            let active = json!({"status": "active"}).to_string().into_bytes();
            client
                .send(Method::PATCH, &path, None, Some(active))
                .await
                .expect(200);
        }

        !aside.is_empty()
    }
}

/// What is known of a payment's fate, as soon as it is.
fn fate_of(payment: &Value) -> Option<Fate> {
    let attempts = payment["attempts"].as_array()?;
    let outcome = attempts.first()?["outcome"].as_str()?;
    let second = attempts
        .get(1)
        .and_then(|attempt| attempt["outcome"].as_str());

    match (outcome, second, payment["status"].as_str()?) {
        // A notification may tell of its money before the call ends.
        (_, _, "succeeded") if attempts.len() > 1 => Some(Fate::NextRoute),
        // A charge that is only accepted is on its way there.
        (_, Some("accepted" | "waiting"), "requires_action" | "processing") => {
            Some(Fate::NextRoute)
        }
        (_, None, "failed") => Some(Fate::Ended),
        // It is reversed first: a trade may have been left behind.
        ("declined", None, "processing") => Some(Fate::Ended),
        ("unknown" | "waiting", None, "processing" | "requires_action")
            if payment["flow"] == "barcode" =>
        {
            Some(Fate::InDoubt)
        }
        _ => None,
    }
}

async fn matrix(provider: &'static str) {
    let bench = Bench::new(provider).await;
    let (mut table, mut counts) = (String::new(), BTreeMap::new());

    for flow in ["qr", "barcode"] {
        bench.route(flow).await;
        let mut noes = noes(provider, flow);
        noes.sort_by_key(|no| no.is_pace);
        assert!(noes.len() >= 55, "{provider} {flow}: {}", noes.len());
        for no in &noes {
            let fate = bench.fate(flow, no).await;
            let mark = every_provider_would_refuse(flow, no.outcome);
            let ended = matches!(fate, Fate::Ended | Fate::EndedAndAside);
            let why = mark
                .map(|why| format!("every provider would refuse: {why}"))
                .unwrap_or_default();
            table.push_str(&format!(
                "{provider:<10} {flow:<8} {:<52} {:<16} {:<30} {why}\n",
                no.code,
                no.outcome,
                fate.words()
            ));
            assert_eq!(
                ended,
                mark.is_some(),
                "{provider} {flow} {} ({}): {fate:?}",
                no.code,
                no.outcome
            );
            // Only a charge may have taken money; only what is about the account keeps it out of
            // new payments.
            assert!(
                fate != Fate::InDoubt || flow == "barcode",
                "{provider} {flow} {}",
                no.code
            );
            let is_aside = matches!(fate, Fate::NextRouteAndAside | Fate::EndedAndAside);
            assert_eq!(
                is_aside,
                no.outcome == "refused_account",
                "{provider} {flow} {}: {fate:?}",
                no.code
            );
            *counts.entry((flow, fate)).or_insert(0) += 1;
        }
    }

    println!("{table}");
    for ((flow, fate), count) in &counts {
        println!("{provider} {flow}: {count} {}", fate.words());
    }
    let has = |flow, fate| counts.contains_key(&(flow, fate));

    assert!(
        has("qr", Fate::NextRoute) && has("qr", Fate::NextRouteAndAside),
        "{counts:?}"
    );
    assert!(
        [Fate::NextRoute, Fate::Ended, Fate::InDoubt]
            .into_iter()
            .all(|fate| has("barcode", fate)),
        "{counts:?}"
    );

    bench.app.stop().await;
    bench.other.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_becomes_of_a_payment_that_alipay_refuses() {
    matrix("alipay").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_becomes_of_a_payment_that_wechatpay_refuses() {
    matrix("wechatpay").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_becomes_of_a_payment_that_unionpay_refuses() {
    matrix("unionpay").await;
}
