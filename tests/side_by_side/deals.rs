//! What payers and tills do at two gateways: each deal begins at one of them, goes on at the other,
//! and says what must have become of its payment in the end.

use futures_util::FutureExt as _;
use futures_util::future::LocalBoxFuture;
use serde_json::{Value, json};

use crate::helpers::{Answer, Client, Control, barcode, charging_providers, fresh, order};

/// What must have become of a payment.
#[derive(Debug, Clone)]
pub struct Deal {
    pub id: String,
    pub status: &'static str,
    pub refunded: i64,
}

impl Deal {
    pub fn of(payment: &Value, status: &'static str, refunded: i64) -> Self {
        Self {
            id: id(payment).to_owned(),
            status,
            refunded,
        }
    }
}

pub fn id(payment: &Value) -> &str {
    payment["id"].as_str().unwrap()
}

/// An owner's clients, with one key.
pub struct Till {
    pub is_live: bool,
    pub before: Client,
    pub after: Client,
    pub control: Control,
}

/// At which gateway something begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum First {
    Before,
    After,
}

/// What is left open: a code, a charge that its payer has to confirm, and how the last was asked
/// for.
pub struct Open {
    code: Value,
    code_key: String,
    code_body: Value,
    charge: Value,
    charge_key: String,
    charge_body: Value,
}

/// The answer to a request that was made before: the payment of the first one, or that the first
/// one is still under way.
#[track_caller]
fn same(answer: &Answer, payment: &str) {
    let (status, body) = (answer.status.as_u16(), answer.json());
    let named = match status {
        200..=202 => &body["id"],
        409 if body["code"] == "request_in_progress" => &body["resource"],
        _ => panic!("{status} {body}"),
    };
    assert_eq!(named, payment, "the same key is the same payment");
}

/// Paid, refunded, declined, canceled and expired payments, and what is left open, all at one
/// gateway.
pub async fn begin(client: &Client, control: &Control, deals: &mut Vec<Deal>) -> Open {
    let paid = client.pay(&order()).await.expect(201);
    control.pay(&paid).await;
    client.until_status(id(&paid), "succeeded").await;
    deals.push(Deal::of(&paid, "succeeded", 0));
    let refunded = client.pay(&barcode("wechatpay", 0)).await.expect(201);
    client.until_status(id(&refunded), "succeeded").await;
    client.refund(id(&refunded), 100).await.expect(201);
    deals.push(Deal::of(&refunded, "succeeded", 100));
    let declined = client.pay(&barcode("alipay", 8)).await;
    deals.push(Deal::of(&declined.json(), "failed", 0));
    let canceled = client.pay(&order()).await.expect(201);
    cancel(client, id(&canceled)).await;
    deals.push(Deal::of(&canceled, "canceled", 0));
    let expires = client.pay(&order()).await.expect(201);
    deals.push(Deal::of(&expires, "expired", 0));

    let (code_key, code_body) = (fresh("key"), order());
    let code = client
        .post("/v1/payments", &code_key, &code_body)
        .await
        .expect(201);
    let (charge_key, mut charge_body) = (fresh("key"), barcode("alipay", 7));
    charge_body["wait"] = 0.into();
    let charge = client
        .post("/v1/payments", &charge_key, &charge_body)
        .await
        .expect(202);
    Open {
        code,
        code_key,
        code_body,
        charge,
        charge_key,
        charge_body,
    }
}

async fn cancel(client: &Client, payment: &str) {
    let answer = client
        .post(
            &format!("/v1/payments/{payment}/cancel"),
            &fresh("key"),
            &json!({}),
        )
        .await;
    assert!(
        matches!(answer.status.as_u16(), 200 | 202),
        "{} {}",
        answer.status,
        answer.json()
    );
}

/// Payers pay what was open; both requests come once more, to the new gateway.
pub async fn go_on_alone(till: &Till, open: Open, deals: &mut Vec<Deal>) {
    let (code, charge) = (id(&open.code), id(&open.charge));
    same(
        &till
            .after
            .post("/v1/payments", &open.code_key, &open.code_body)
            .await,
        code,
    );

    same(
        &till
            .after
            .post("/v1/payments", &open.charge_key, &open.charge_body)
            .await,
        charge,
    );

    till.control.pay(&open.code).await;
    let (status, said) = till
        .control
        .pay_as(open.charge_body["auth_code"].as_str().unwrap(), "paid")
        .await;
    assert_eq!(status, 200, "{said}");

    till.after.until_status(code, "succeeded").await;
    till.after.until_status(charge, "succeeded").await;
    same(
        &till
            .after
            .post("/v1/payments", &open.charge_key, &open.charge_body)
            .await,
        charge,
    );

    deals.push(Deal::of(&open.code, "succeeded", 0));
    deals.push(Deal::of(&open.charge, "succeeded", 0));
}

/// As [`go_on_alone`], beside the gateway of the version before, which sees the same.
pub async fn go_on(till: &Till, open: Open, deals: &mut Vec<Deal>) {
    let (code, charge) = (id(&open.code).to_owned(), id(&open.charge).to_owned());
    go_on_alone(till, open, deals).await;
    for payment in [code, charge] {
        assert_eq!(till.before.payment(&payment).await["status"], "succeeded");
    }
}

impl Till {
    fn sides(&self, first: First) -> (&Client, &Client) {
        match first {
            First::Before => (&self.before, &self.after),
            First::After => (&self.after, &self.before),
        }
    }

    /// One deal of each kind, begun at each gateway.
    pub fn deals(&self, round: usize) -> Vec<LocalBoxFuture<'_, Deal>> {
        let mut all = Vec::new();
        for (turn, first) in [First::Before, First::After].into_iter().enumerate() {
            let charging = charging_providers();
            let provider = charging[(round + turn) % charging.len()];
            all.push(self.scanned(first).boxed_local());
            all.push(self.charged(first, provider).boxed_local());
            all.push(self.confirmed(first, provider).boxed_local());
            all.push(self.declined(first, provider).boxed_local());
            all.push(self.canceled(first).boxed_local());
            all.push(self.canceled_too_late(first).boxed_local());
            all.push(self.refunded_by_both(first).boxed_local());
            all.push(self.asked_at_both(first).boxed_local());
            all.push(self.charged_at_both(first, provider).boxed_local());
            all.push(self.offered_again(first).boxed_local());
        }

        all
    }

    /// The same request at the other gateway. The version before does not know what a test
    /// request's key is called here: to it, this is another request for an order that has its
    /// payment, and it says which one.
    async fn repeated(&self, first: First, path: &str, key: &str, body: &Value, made: &Value) {
        let (_, other) = self.sides(first);
        let answer = other.post(path, key, body).await;
        if self.is_live || first == First::Before {
            same(&answer, id(made));
            return;
        }
        let (code, param) = match path {
            "/v1/payments" => ("order_id_in_use", "order_id"),
            _ => ("merchant_refund_no_in_use", "merchant_refund_no"),
        };
        let problem = answer.problem(409, code, Some(param));
        assert_eq!(problem["resource"], made["id"], "{problem}");
    }

    /// A code that is paid; the key, the order and the refund come to the other gateway as well.
    async fn scanned(&self, first: First) -> Deal {
        let (here, there) = self.sides(first);
        let (key, body) = (fresh("key"), order());
        let made = here.post("/v1/payments", &key, &body).await.expect(201);
        self.repeated(first, "/v1/payments", &key, &body, &made)
            .await;
        let conflict = there
            .pay(&body)
            .await
            .problem(409, "order_id_in_use", Some("order_id"));
        assert_eq!(conflict["resource"], made["id"]);
        self.control.pay(&made).await;
        there.until_status(id(&made), "succeeded").await;
        self.repeated(first, "/v1/payments", &key, &body, &made)
            .await;

        let path = format!("/v1/payments/{}/refunds", id(&made));
        let (key, body) = (
            fresh("key"),
            json!({"amount": 88, "merchant_refund_no": fresh("rf")}),
        );
        let refund = here.post(&path, &key, &body).await.expect(201);
        self.repeated(first, &path, &key, &body, &refund).await;
        let conflict = there.post(&path, &fresh("key"), &body).await;
        conflict.problem(409, "merchant_refund_no_in_use", Some("merchant_refund_no"));
        Deal::of(&made, "succeeded", 88)
    }

    async fn charged(&self, first: First, provider: &str) -> Deal {
        let (here, there) = self.sides(first);
        let (key, mut body) = (fresh("key"), barcode(provider, 0));
        body["wait"] = 10.into();
        let made = here.post("/v1/payments", &key, &body).await.expect(201);
        self.repeated(first, "/v1/payments", &key, &body, &made)
            .await;
        there.until_status(id(&made), "succeeded").await;
        Deal::of(&made, "succeeded", 0)
    }

    /// A charge whose payer has to confirm, asked for again at the other gateway while it is under
    /// way.
    async fn confirmed(&self, first: First, provider: &str) -> Deal {
        let (here, there) = self.sides(first);
        let (key, mut body) = (fresh("key"), barcode(provider, 7));
        body["wait"] = 0.into();
        let made = here.post("/v1/payments", &key, &body).await.expect(202);
        self.repeated(first, "/v1/payments", &key, &body, &made)
            .await;
        there
            .until(id(&made), |p| {
                p["attempts"][0]["status"] == "awaiting_payer"
            })
            .await;

        let (status, said) = self
            .control
            .pay_as(body["auth_code"].as_str().unwrap(), "paid")
            .await;
        assert_eq!(status, 200, "{said}");

        there.until_status(id(&made), "succeeded").await;
        Deal::of(&made, "succeeded", 0)
    }

    async fn declined(&self, first: First, provider: &str) -> Deal {
        let (here, there) = self.sides(first);
        let (key, mut body) = (fresh("key"), barcode(provider, 8));
        body["wait"] = 10.into();
        let made = here.post("/v1/payments", &key, &body).await.json();
        there.until_status(id(&made), "failed").await;
        // Once it has failed, the version before would take a test request for a new one.
        if self.is_live || first == First::Before {
            self.repeated(first, "/v1/payments", &key, &body, &made)
                .await;
        }
        Deal::of(&made, "failed", 0)
    }

    /// Where the offer cannot be closed, it ends with its time.
    async fn canceled(&self, first: First) -> Deal {
        let (here, there) = self.sides(first);
        let made = here.pay(&order()).await.expect(201);
        cancel(there, id(&made)).await;
        cancel(here, id(&made)).await;
        Deal::of(&made, "canceled", 0)
    }

    async fn canceled_too_late(&self, first: First) -> Deal {
        let (here, there) = self.sides(first);
        let made = here.pay(&order()).await.expect(201);
        self.control.pay(&made).await;
        there.until_status(id(&made), "succeeded").await;
        let answer = here
            .post(
                &format!("/v1/payments/{}/cancel", id(&made)),
                &fresh("key"),
                &json!({}),
            )
            .await;

        assert!(
            matches!(answer.status.as_u16(), 200 | 409),
            "{} {}",
            answer.status,
            answer.json()
        );

        Deal::of(&made, "succeeded", 0)
    }

    /// Two refunds at the same moment, which together are more than there is: one of them is given.
    async fn refunded_by_both(&self, first: First) -> Deal {
        let (here, there) = self.sides(first);
        let made = here.pay(&barcode("alipay", 0)).await.expect(201);
        there.until_status(id(&made), "succeeded").await;
        let (one, other) = tokio::join!(
            here.refund(id(&made), 5_000),
            there.refund(id(&made), 5_000)
        );
        let mut statuses = [one.status.as_u16(), other.status.as_u16()];
        statuses.sort_unstable();
        assert_eq!(statuses, [201, 422], "{} {}", one.json(), other.json());
        Deal::of(&made, "succeeded", 5_000)
    }

    /// One request at both gateways at the same moment.
    async fn at_both(&self, first: First, body: &Value) -> Value {
        let (here, there) = self.sides(first);
        let key = fresh("key");
        let (one, other) = tokio::join!(
            here.post("/v1/payments", &key, body),
            there.post("/v1/payments", &key, body)
        );
        let both = [&one, &other];
        let made = both
            .iter()
            .find(|answer| matches!(answer.status.as_u16(), 201 | 202));
        let made = made
            .unwrap_or_else(|| panic!("{} {}", one.json(), other.json()))
            .json();

        for answer in both {
            let body = answer.json();
            match answer.status.as_u16() {
                200..=202 => assert_eq!(body["id"], made["id"]),
                409 => assert_eq!(body["resource"], made["id"], "{body}"),
                other => panic!("{other} {body}"),
            }
        }

        made
    }

    async fn asked_at_both(&self, first: First) -> Deal {
        let made = self.at_both(first, &order()).await;
        let offered = self
            .after
            .until(id(&made), |p| p["next_action"]["qr"].is_string())
            .await;
        self.control.pay(&offered).await;
        self.after.until_status(id(&made), "succeeded").await;
        Deal::of(&made, "succeeded", 0)
    }

    async fn charged_at_both(&self, first: First, provider: &str) -> Deal {
        let mut body = barcode(provider, 0);
        body["wait"] = 10.into();
        let made = self.at_both(first, &body).await;
        self.before.until_status(id(&made), "succeeded").await;
        Deal::of(&made, "succeeded", 0)
    }

    /// The payer wants another code at the other gateway, and pays the first one, too.
    async fn offered_again(&self, first: First) -> Deal {
        let (here, there) = self.sides(first);
        let made = here.pay(&order()).await.expect(201);
        let path = format!("/v1/payments/{}/offers", id(&made));
        let again = there
            .post(&path, &fresh("key"), &json!({"flow": "qr"}))
            .await
            .expect(201);
        self.control.pay(&again).await;
        here.until_status(id(&made), "succeeded").await;
        let code = made["next_action"]["qr"].as_str().unwrap();

        // Where it was closed, it cannot be paid any more.
        let pays = json!({"code": code, "result": "paid"});
        self.control
            .call(reqwest::Method::POST, "/pay", Some(pays))
            .await;

        Deal::of(&made, "succeeded", 0)
    }

    /// A code that is paid, at the new gateway alone.
    pub async fn paid_after(&self) -> Deal {
        let made = self.after.pay(&order()).await.expect(201);
        self.control.pay(&made).await;
        self.after.until_status(id(&made), "succeeded").await;
        Deal::of(&made, "succeeded", 0)
    }
}
