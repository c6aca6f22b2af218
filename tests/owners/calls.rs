//! Every call of the API, and what a key may find that is not the owner's. Held against the API's
//! own description, so that a call that nobody has thought of here fails the test.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::helpers::Client;

/// Real things of one owner, one of each kind.
#[derive(Debug)]
pub struct Things {
    pub paid: String,
    pub open: String,
    pub refund: String,
    pub account: String,
    pub endpoint: String,
    pub event: String,
    pub delivery: String,
    pub operation: String,
    pub incident: String,
    pub entry: String,
    /// A key that was made for it.
    pub api_key: String,
    /// The number of its newest routing. Others have none so high.
    pub version: i64,
    /// How its open payment was asked for.
    pub key: String,
    pub order: Value,
}

impl Things {
    /// All ids that nobody else may ever be shown.
    pub fn ids(&self) -> Vec<&str> {
        vec![
            &self.paid,
            &self.open,
            &self.refund,
            &self.account,
            &self.endpoint,
            &self.event,
            &self.operation,
            &self.incident,
            &self.api_key,
        ]
    }
}

/// What a call is about, and so what it comes to in the hands of somebody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// One thing, by its id: 404.
    Thing,
    /// The same, for who is its owner once: 404 afterwards for everybody.
    Removal,
    /// A list of things, of which others have none: empty.
    List,
    /// A list that begins behind a thing: 422, as behind one that is not there.
    Cursor,
    /// The caller's own settings and things, whatever they are.
    Own,
    /// Everybody, without a key.
    Public,
    /// Whoever watches the installation: it names the first accounts, whose they are not.
    Operators,
}

/// A call with all that it takes.
#[derive(Debug)]
pub struct Call {
    /// As the API's description names it: `GET /v1/payments/{id}`.
    pub name: &'static str,
    pub about: About,
    pub path: String,
    pub key: Option<String>,
    pub body: Option<Value>,
}

impl Call {
    fn new(name: &'static str, about: About, id: &str, body: Option<Value>) -> Self {
        let (_, path) = name.split_once(' ').unwrap();
        Self {
            name,
            about,
            path: path.replace("{id}", id),
            key: None,
            body,
        }
    }

    fn asking(mut self, query: &str) -> Self {
        self.path = format!("{}?{query}", self.path);
        self
    }

    fn under(mut self, key: &str) -> Self {
        self.key = Some(key.to_owned());
        self
    }

    /// As the table shows it.
    pub fn shown(&self) -> String {
        match self.path.split_once('?') {
            Some((_, query)) => format!(
                "{}?{}",
                self.name,
                query.split('=').next().unwrap_or_default()
            ),
            None => self.name.to_owned(),
        }
    }

    /// Whether it is about outages, which are the installation's and speak of one mode.
    pub fn is_about_incidents(&self) -> bool {
        self.name.contains("/v1/incidents")
    }
}

/// All calls, those that read first, those that change the caller's own things last.
pub fn calls(t: &Things) -> Vec<Call> {
    let mut all = vec![
        Call::new("GET /v1/payments/{id}", About::Thing, &t.paid, None),
        Call::new("GET /v1/refunds/{id}", About::Thing, &t.refund, None),
        Call::new("GET /v1/events/{id}", About::Thing, &t.event, None),
        Call::new("GET /v1/operations/{id}", About::Thing, &t.operation, None),
        Call::new("GET /v1/incidents/{id}", About::Thing, &t.incident, None),
        Call::new(
            "GET /v1/webhook_endpoints/{id}",
            About::Thing,
            &t.endpoint,
            None,
        ),
        Call::new(
            "GET /v1/routing/versions/{id}",
            About::Thing,
            &t.version.to_string(),
            None,
        ),
    ];

    for (name, last) in [
        ("GET /v1/payments", &t.paid),
        ("GET /v1/refunds", &t.refund),
        ("GET /v1/events", &t.event),
        ("GET /v1/deliveries", &t.delivery),
        ("GET /v1/operations", &t.operation),
        ("GET /v1/incidents", &t.incident),
        ("GET /v1/ledger", &t.entry),
        ("GET /v1/keys", &t.api_key),
    ] {
        // Whoever asks for keys has one.
        let about = if name == "GET /v1/keys" {
            About::Own
        } else {
            About::List
        };
        all.push(Call::new(name, about, "", None));
        all.push(
            Call::new(name, About::Cursor, "", None).asking(&format!("starting_after={last}")),
        );
    }

    all.extend([
        Call::new("GET /v1/payments", About::List, "", None).asking(&format!(
            "order_id={}",
            t.order["order_id"].as_str().unwrap()
        )),
        Call::new("GET /v1/refunds", About::List, "", None).asking(&format!("payment={}", t.paid)),
        Call::new("GET /v1/events", About::List, "", None).asking(&format!("payment={}", t.paid)),
        Call::new("GET /v1/deliveries", About::List, "", None)
            .asking(&format!("event={}", t.event)),
        Call::new("GET /v1/ledger", About::List, "", None).asking(&format!("payment={}", t.paid)),
        Call::new("GET /v1/ledger/balances", About::List, "", None),
        Call::new("GET /v1/routing/versions", About::List, "", None),
        Call::new("GET /v1/webhook_endpoints", About::List, "", None),
        Call::new("GET /v1/accounts", About::Own, "", None),
        Call::new("GET /v1/routes", About::Own, "", None),
        Call::new("GET /v1/routing", About::Own, "", None),
        Call::new("GET /v1/notify_secret", About::Own, "", None),
    ]);

    all.extend(changes(t));
    for name in [
        "GET /healthz",
        "GET /readyz",
        "GET /status",
        "GET /status.json",
    ] {
        all.push(Call::new(name, About::Public, "", None));
    }

    all.push(Call::new("GET /metrics", About::Operators, "", None));
    all
}

fn changes(t: &Things) -> Vec<Call> {
    let some = |value: Value| Some(value);
    let decided = json!({"action": "acknowledge", "evidence": "seen"});
    let refund = json!({"amount": 1, "merchant_refund_no": crate::helpers::fresh("rf")});

    vec![
        Call::new(
            "POST /v1/payments/{id}/offers",
            About::Thing,
            &t.open,
            some(json!({"flow": "qr"})),
        ),
        Call::new(
            "POST /v1/payments/{id}/refunds",
            About::Thing,
            &t.paid,
            some(refund),
        ),
        Call::new("POST /v1/payments/{id}/cancel", About::Thing, &t.open, None),
        Call::new(
            "PATCH /v1/accounts/{id}",
            About::Thing,
            &t.account,
            some(json!({"name": "renamed"})),
        ),
        Call::new("POST /v1/events/{id}/replay", About::Thing, &t.event, None),
        Call::new(
            "POST /v1/operations/{id}/resolve",
            About::Thing,
            &t.operation,
            some(decided),
        ),
        Call::new(
            "PATCH /v1/webhook_endpoints/{id}",
            About::Thing,
            &t.endpoint,
            some(json!({"description": "x"})),
        ),
        Call::new(
            "POST /v1/webhook_endpoints/{id}/rotate_secret",
            About::Thing,
            &t.endpoint,
            None,
        ),
        Call::new(
            "POST /v1/webhook_endpoints/{id}/test",
            About::Thing,
            &t.endpoint,
            None,
        ),
        Call::new(
            "POST /v1/webhook_endpoints/{id}/replay",
            About::Thing,
            &t.endpoint,
            some(json!({"since": "2026-01-01T00:00:00Z"})),
        ),
        Call::new("DELETE /v1/keys/{id}", About::Thing, &t.api_key, None),
        Call::new(
            "POST /v1/keys",
            About::Own,
            "",
            some(json!({"name": "x", "scopes": ["admin"]})),
        ),
        Call::new(
            "DELETE /v1/webhook_endpoints/{id}",
            About::Removal,
            &t.endpoint,
            None,
        ),
        Call::new(
            "POST /v1/webhook_endpoints",
            About::Own,
            "",
            some(json!({"url": "https://shop.example/hook"})),
        ),
        Call::new("POST /v1/notify_secret/rotate", About::Own, "", None),
        Call::new(
            "POST /v1/routing/preview",
            About::Own,
            "",
            some(json!({"amount": 1, "flow": "qr"})),
        ),
        Call::new(
            "PUT /v1/routing",
            About::Own,
            "",
            some(json!({"rules": []})),
        ),
        Call::new(
            "POST /v1/routing/rollback",
            About::Own,
            "",
            some(json!({"version": t.version})),
        ),
        Call::new(
            "POST /v1/accounts",
            About::Own,
            "",
            some(json!({"provider": "alipay", "name": "x", "credentials": {}})),
        ),
        Call::new("POST /v1/payments", About::Own, "", some(t.order.clone())).under(&t.key),
    ]
}

/// Every call that the API describes is in the table, and every route of the program is described.
pub async fn are_complete(client: &Client, calls: &[Call]) {
    let known: BTreeSet<&str> = calls.iter().map(|call| call.name).collect();
    let document = client.get("/openapi.json").await.expect(200);
    let mut described = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods
            .as_object()
            .unwrap()
            .keys()
            .filter(|method| *method != "parameters")
        {
            described.insert(format!("{} {path}", method.to_uppercase()));
        }
    }
    let described: BTreeSet<&str> = described.iter().map(String::as_str).collect();
    assert_eq!(
        known, described,
        "each call of the API is tried, and nothing else"
    );

    let source =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/src/api/mod.rs")).unwrap();
    let quoted: Vec<&str> = source.split("at(\"").skip(1).collect();
    assert!(quoted.len() > 30, "{}", quoted.len());
    let mut routes = 0;
    for route in quoted {
        let (path, rest) = route.split_once('"').unwrap();
        let rest = rest.split(".service(").next().unwrap();
        for method in ["get", "post", "put", "patch", "delete"] {
            if rest.contains(&format!(".{method}(")) {
                let name = format!("{} {path}", method.to_uppercase());
                assert!(
                    known.contains(name.as_str()),
                    "{name} is a route, and no call of the table"
                );
                routes += 1;
            }
        }
    }
    assert_eq!(routes, known.len(), "each call of the table is a route");
}
