//! What comes to `/notifications/…`: genuine news is booked once however often it comes, everything else is counted
//! and changes nothing, and each is answered in its provider's own way.

mod charsets;
pub(crate) mod disputed;
mod flood;
mod misstated;
mod two_words;

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::join_all;
use http::HeaderMap;
use interlock::api::auth::Scope;
use providers::ProviderName;
use providers::money::Money;
use providers::sandbox::book::{Event, Order};
use providers::sandbox::simulator::{Alteration, Notice, Outgoing, Simulator};
use providers::signing::Signer;
use providers::wechatpay::sign::{ResourceKey, answer_message};
use reqwest::Method;
use sea_orm::DatabaseConnection;
use serde_json::{Value, json};

use crate::helpers::{Answer, TestApp, keys, order, rows};

const PROVIDERS: [&str; 2] = ["alipay", "wechatpay"];
/// The jobs sleep: whatever changes here is a notification's work.
const NO_JOBS: [(&str, &str); 2] = [("resolver.interval_ms", "3600000"), ("webhooks.interval_ms", "3600000")];

/// How a provider is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    /// Do not send it again.
    Stop,
    /// Not believed.
    Refuse,
}

#[track_caller]
fn is_told(provider: &str, answer: &Answer, told: Told) {
    let body = String::from_utf8_lossy(&answer.bytes);
    let shown = format!("{provider}: {} {body}", answer.status);
    match (provider, told) {
        ("alipay", Told::Stop) => assert_eq!((answer.status.as_u16(), &*body), (200, "success"), "{shown}"),
        ("alipay", Told::Refuse) => assert_eq!(body, "fail", "{shown}"),
        (_, Told::Stop) => assert!([200, 204].contains(&answer.status.as_u16()), "{shown}"),
        (_, Told::Refuse) => {
            assert!(answer.status.is_client_error() || answer.status.is_server_error(), "{shown}");
            assert_eq!(answer.json()["code"], "FAIL", "{shown}");
        }
    }
}

/// The provider's side of the wire, to make notifications that the sandbox would not send.
struct Pen {
    provider: &'static str,
    keys: Value,
    face: Arc<dyn Simulator>,
    now: DateTime<Utc>,
}

impl Pen {
    fn new(app: &TestApp, provider: &'static str) -> Self {
        Self::with(app, provider, |_| {})
    }

    /// With other keys or names than the sandbox's.
    fn with(app: &TestApp, provider: &'static str, change: impl FnOnce(&mut Value)) -> Self {
        let mut keys = keys().of(provider).unwrap().clone();
        change(&mut keys);
        let face = (providers::sandbox::simulated(provider).unwrap().open)(&keys).unwrap();
        Self { provider, keys, face, now: app.app().clock.now().utc() }
    }

    fn at(self, offset_s: i64) -> Self {
        Self { now: self.now + TimeDelta::seconds(offset_s), ..self }
    }

    fn paid(&self, order: &Order, id: u32, alteration: Alteration) -> Outgoing {
        self.write(order, &Event::Paid { order: order.key.clone() }, id, alteration)
    }

    fn write(&self, order: &Order, event: &Event, id: u32, alteration: Alteration) -> Outgoing {
        let id = format!("{id:032x}");
        self.face.notification(&Notice { event, order, id: &id, now: self.now, alteration }).unwrap()
    }

    /// Changes what a genuine notification says, and signs it again with the provider's own key.
    fn edited(&self, outgoing: &Outgoing, member: &str, value: Option<&str>) -> Outgoing {
        match self.provider {
            "alipay" => self.edited_form(outgoing, member, value),
            _ => self.edited_resource(outgoing, member, value),
        }
    }

    fn edited_form(&self, outgoing: &Outgoing, member: &str, value: Option<&str>) -> Outgoing {
        let mut fields: Vec<(String, String)> = form_urlencoded::parse(&outgoing.body).into_owned().collect();
        fields.retain(|(name, _)| !["sign", "sign_type", member].contains(&name.as_str()));
        fields.extend(value.map(|value| (member.to_owned(), value.to_owned())));
        fields.sort();
        let text: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let sign = self.signer("alipay_private_key").sign(text.join("&").as_bytes());
        fields.push(("sign_type".to_owned(), "RSA2".to_owned()));
        fields.push(("sign".to_owned(), sign));
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        Outgoing { body: body.into(), ..outgoing.clone() }
    }

    fn edited_resource(&self, outgoing: &Outgoing, member: &str, value: Option<&str>) -> Outgoing {
        let key = ResourceKey::new(self.keys["apiv3_key"].as_str().unwrap()).unwrap();
        let mut envelope: Value = serde_json::from_slice(&outgoing.body).unwrap();
        let resource = envelope["resource"].clone();
        let text = |name: &str| resource[name].as_str().unwrap();
        let plain = key.open(text("nonce"), text("associated_data"), text("ciphertext")).unwrap();
        let mut plain: Value = serde_json::from_slice(&plain).unwrap();
        let (last, path) = {
            let mut path: Vec<&str> = member.split('.').collect();
            (path.pop().unwrap(), path)
        };
        let place = path.iter().fold(&mut plain, |at, name| &mut at[*name]).as_object_mut().unwrap();
        match value {
            Some(value) => {
                let is_number = place.get(last).is_some_and(Value::is_number);
                let value = if is_number { json!(value.parse::<i64>().unwrap()) } else { json!(value) };
                place.insert(last.to_owned(), value);
            }
            None => drop(place.remove(last)),
        }
        let sealed = key.seal(text("nonce"), text("associated_data"), plain.to_string().as_bytes()).unwrap();
        envelope["resource"]["ciphertext"] = json!(sealed);
        self.signed(outgoing, envelope.to_string().into())
    }

    /// Any body, with a genuine WeChat Pay signature over it.
    fn signed(&self, outgoing: &Outgoing, body: Bytes) -> Outgoing {
        let mut headers = outgoing.headers.clone();
        let header = |name: &str| outgoing.headers[name].to_str().unwrap();
        let message = answer_message(header("wechatpay-timestamp"), header("wechatpay-nonce"), &body);
        let signature = self.signer("public_key_private").sign(&message);
        headers.insert("wechatpay-signature", signature.parse().unwrap());
        Outgoing { headers, body, ..outgoing.clone() }
    }

    fn signer(&self, name: &str) -> Signer {
        Signer::from_text(self.keys[name].as_str().unwrap()).unwrap()
    }
}

async fn post(app: &TestApp, account: &str, headers: &HeaderMap, body: impl Into<Bytes>) -> Answer {
    let url = format!("{}/notifications/{account}", app.client.base);
    let body: Bytes = body.into();
    let response = app.client.http.post(url).headers(headers.clone()).body(body).send().await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    Answer { status, headers, bytes: response.bytes().await.unwrap().to_vec() }
}

/// How often notifications were counted so.
async fn counted(app: &TestApp, provider: &str, verdict: &str) -> u64 {
    let text = String::from_utf8(app.client.get("/metrics").await.bytes).unwrap();
    let (provider, verdict) = (format!("provider=\"{provider}\""), format!("verdict=\"{verdict}\""));
    text.lines()
        .filter(|l| l.starts_with("interlock_notifications_total{") && l.contains(&provider) && l.contains(&verdict))
        .filter_map(|l| l.rsplit(' ').next()?.parse::<u64>().ok())
        .sum()
}

fn account<'a>(app: &'a TestApp, provider: &str) -> &'a str {
    if provider == "alipay" { &app.alipay } else { &app.wechatpay }
}

/// A payment at this provider that its payer has paid, and of which the gateway has not heard.
async fn unheard(app: &TestApp, provider: &str) -> (Value, Order) {
    app.client.route(&[account(app, provider)]).await.expect(200);
    app.control.fault(json!({"provider": provider, "kind": "drop"})).await;
    let payment = app.client.pay(&order()).await.expect(201);
    app.control.pay(&payment).await;
    let order_no = payment["attempts"][0]["provider_order_no"].as_str().unwrap();
    let order = app.sandbox().book().lock().by_order_no(order_no).unwrap().clone();
    (payment, order)
}

async fn events(db: &DatabaseConnection, payment: &Value, kind: &str) -> usize {
    let id = payment["id"].as_str().unwrap();
    rows::select(db, &format!("SELECT id FROM events WHERE payment_id = '{id}' AND type = '{kind}'")).await.len()
}

/// A forged or mistaken notification, and what is to be made of it.
struct Case {
    what: &'static str,
    account: String,
    outgoing: Outgoing,
    verdict: &'static str,
    told: Told,
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_genuine_or_not_ours_changes_nothing_and_is_counted() {
    for provider in PROVIDERS {
        let app = TestApp::with(&NO_JOBS).await;
        let db = app.db().await;
        let refunded = refunded(&app, provider).await;
        let (payment, order) = unheard(&app, provider).await;
        for case in
            forgeries(&app, provider, &order).await.into_iter().chain(refund_forgeries(&app, provider, &refunded))
        {
            let before = rows::of(&db, &rows::PAYMENTS).await;
            let count = counted(&app, provider, case.verdict).await;
            let answer = post(&app, &case.account, &case.outgoing.headers, case.outgoing.body.clone()).await;
            eprintln!("{provider}: {}: {}", case.what, case.verdict);
            is_told(provider, &answer, case.told);
            let after = counted(&app, provider, case.verdict).await;
            assert!(after > count, "{provider}: {} is not counted as {}", case.what, case.verdict);
            assert_eq!(rows::of(&db, &rows::PAYMENTS).await, before, "{provider}: {} has changed a row", case.what);
        }
        // After all of that the genuine one is still believed, once.
        // It may be almost 5 minutes old.
        let genuine = Pen::new(&app, provider).at(-270).paid(&order, 1, Alteration::None);
        let account = account(&app, provider);
        is_told(provider, &post(&app, account, &genuine.headers, genuine.body.clone()).await, Told::Stop);
        let paid = app.client.payment(payment["id"].as_str().unwrap()).await;
        assert_eq!((&paid["status"], &paid["amount_captured"]), (&json!("succeeded"), &json!(8888)));
        let before = rows::of(&db, &["payments", "attempts", "refunds", "events"]).await;
        for _ in 0..3 {
            let count = counted(&app, provider, "duplicate").await;
            is_told(provider, &post(&app, account, &genuine.headers, genuine.body.clone()).await, Told::Stop);
            assert!(counted(&app, provider, "duplicate").await > count);
        }
        assert_eq!(rows::of(&db, &["payments", "attempts", "refunds", "events"]).await, before, "{provider}: a replay");
        assert_eq!(events(&db, &payment, "payment.succeeded").await, 1);
        app.stop().await;
    }
}

async fn forgeries(app: &TestApp, provider: &'static str, order: &Order) -> Vec<Case> {
    let account = account(app, provider).to_owned();
    let pen = Pen::new(app, provider);
    let good = pen.paid(order, 2, Alteration::None);
    let (mut dearer, mut unknown, mut elsewhere) = (order.clone(), order.clone(), order.clone());
    dearer.amount = Money::fen(8889).unwrap();
    unknown.key.order_no = "ILnobodyhasmadethisorder".to_owned();
    elsewhere.passback = Some("pay_somebodyelse".to_owned());
    let stranger = {
        // Somebody else on this gateway who knows the same keys.
        let other = app.other_merchant(&[Scope::Admin]).await;
        let mut credentials = app.sandbox().credentials()[provider].clone();
        credentials["base_url"] = app.sandbox().face_urls()[provider].clone();
        let body = json!({"provider": provider, "name": "twin", "credentials": credentials}).to_string();
        let made = other.send(Method::POST, "/v1/accounts", None, Some(body.into_bytes())).await.expect(201);
        made["id"].as_str().unwrap().to_owned()
    };
    let another_key = providers::sandbox::secrets::rsa_private_keys::<1>().unwrap()[0].clone();
    let wrong_key = Pen::with(app, provider, |keys| {
        keys[if provider == "alipay" { "alipay_private_key" } else { "public_key_private" }] = json!(another_key);
    });
    let (app_name, merchant_name) = if provider == "alipay" { ("app_id", "seller_id") } else { ("appid", "mchid") };
    let another_app = Pen::with(app, provider, |keys| keys[app_name] = json!("2021000000000000"));
    let another_merchant = Pen::with(app, provider, |keys| keys[merchant_name] = json!("2088000000000000"));
    let transaction = if provider == "alipay" { "trade_no" } else { "transaction_id" };
    let empty = Outgoing { body: Bytes::new(), ..good.clone() };
    let garbage = Outgoing { headers: HeaderMap::new(), body: vec![0xff; 1000].into(), ..good.clone() };
    let mut cut = good.clone();
    cut.body.truncate(cut.body.len() - 7);
    let case = |what, outgoing, verdict, told| Case { what, account: account.clone(), outgoing, verdict, told };
    let mut cases = vec![
        case("unsigned", pen.paid(order, 2, Alteration::Unsigned), "unsigned", Told::Refuse),
        case("badly signed", pen.paid(order, 2, Alteration::BadSignature), "bad_signature", Told::Refuse),
        case("signed by somebody else", wrong_key.paid(order, 2, Alteration::None), "bad_signature", Told::Refuse),
        case("of another app", another_app.paid(order, 2, Alteration::None), "other_account", Told::Refuse),
        case("of another merchant", another_merchant.paid(order, 2, Alteration::None), "other_account", Told::Refuse),
        case("of another amount", pen.paid(&dearer, 3, Alteration::None), "other_amount", Told::Stop),
        case("of an unknown order", pen.paid(&unknown, 4, Alteration::None), "unknown_order", Told::Stop),
        case("of another payment", pen.paid(&elsewhere, 5, Alteration::None), "other_payment", Told::Stop),
        case("without a transaction", pen.edited(&good, transaction, None), "unreadable", Told::Refuse),
        case("garbage", garbage, "unsigned", Told::Refuse),
        case("cut off", cut, "bad_signature", Told::Refuse),
        case("empty", empty, if provider == "alipay" { "unsigned" } else { "bad_signature" }, Told::Refuse),
        Case {
            account: stranger,
            ..case("for somebody else's account", pen.paid(order, 6, Alteration::None), "other_account", Told::Stop)
        },
    ];
    let own: Vec<Case> = if provider == "alipay" {
        vec![
            case(
                "closed",
                pen.edited(&pen.paid(order, 7, Alteration::None), "trade_status", Some("TRADE_CLOSED")),
                "nothing_to_book",
                Told::Stop,
            ),
            case("no amount of money", pen.edited(&good, "total_amount", Some("88.881")), "unreadable", Told::Refuse),
            case(
                "SHA-1",
                Outgoing {
                    body: String::from_utf8_lossy(&good.body).replace("sign_type=RSA2", "sign_type=RSA").into(),
                    ..good.clone()
                },
                "unsigned",
                Told::Refuse,
            ),
            case(
                "signed for another amount",
                Outgoing {
                    body: String::from_utf8_lossy(&good.body)
                        .replace("total_amount=88.88", "total_amount=88.89")
                        .into(),
                    ..good.clone()
                },
                "bad_signature",
                Told::Refuse,
            ),
            case(
                "two amounts",
                Outgoing {
                    body: format!("{}&total_amount=88.88", String::from_utf8_lossy(&good.body)).into(),
                    ..good.clone()
                },
                "unsigned",
                Told::Refuse,
            ),
        ]
    } else {
        let mut unknown_serial = order.clone();
        unknown_serial.details["signed_by"] = json!("5157F09EFDC096DE15EBE81A47057A7232F1B8E1");
        let with_header = |name: &'static str, value: &str| {
            let mut headers = good.headers.clone();
            headers.insert(name, value.parse().unwrap());
            Outgoing { headers, ..good.clone() }
        };
        let probe = format!("WECHATPAY/SIGNTEST/{}", BASE64.encode([7; 256]));
        let without_nonce = {
            let mut headers = good.headers.clone();
            headers.remove("wechatpay-nonce");
            Outgoing { headers, ..good.clone() }
        };
        vec![
            case("of an unknown serial", pen.paid(&unknown_serial, 2, Alteration::None), "unknown_key", Told::Refuse),
            case(
                "of an unknown kind",
                with_header("wechatpay-signature-type", "WECHATPAY2-SM2-WITH-SM3"),
                "unknown_key",
                Told::Refuse,
            ),
            case(
                "5 minutes old",
                Pen::new(app, provider).at(-300).paid(order, 2, Alteration::None),
                "stale",
                Told::Refuse,
            ),
            case(
                "5 minutes early",
                Pen::new(app, provider).at(305).paid(order, 2, Alteration::None),
                "stale",
                Told::Refuse,
            ),
            case("of no time", with_header("wechatpay-timestamp", "yesterday"), "stale", Told::Refuse),
            case(
                "of another time",
                with_header("wechatpay-timestamp", &(pen.now.timestamp() + 1).to_string()),
                "bad_signature",
                Told::Refuse,
            ),
            case("a probe", with_header("wechatpay-signature", &probe), "probe", Told::Refuse),
            case("without a nonce", without_nonce, "unsigned", Told::Refuse),
            case("signed garbage", pen.signed(&good, Bytes::from_static(b"{\"id\":")), "unreadable", Told::Refuse),
            case(
                "sealed with another key",
                Pen::with(app, provider, |keys| keys["apiv3_key"] = json!("0".repeat(32))).paid(
                    order,
                    2,
                    Alteration::None,
                ),
                "unreadable",
                Told::Refuse,
            ),
            case("in dollars", pen.edited(&good, "amount.currency", Some("USD")), "unreadable", Told::Refuse),
        ]
    };
    cases.extend(own);
    cases
}

/// A payment that was given back whole.
async fn refunded(app: &TestApp, provider: &str) -> Order {
    app.client.route(&[account(app, provider)]).await.expect(200);
    let paid = app.paid().await;
    let id = paid["id"].as_str().unwrap();
    app.client.refund(id, 8888).await.expect(201);
    app.control.advance(60).await;
    let back = app.client.until(id, |p| p["amount_refunded"] == 8888).await;
    let order_no = back["attempts"][0]["provider_order_no"].as_str().unwrap();
    app.sandbox().book().lock().by_order_no(order_no).unwrap().clone()
}

/// Alipay does not tell of whole refunds; WeChat Pay does.
fn refund_forgeries(app: &TestApp, provider: &'static str, order: &Order) -> Vec<Case> {
    if provider == "alipay" {
        return Vec::new();
    }
    let pen = Pen::new(app, provider);
    let refund_no = order.refunds.keys().next().unwrap().clone();
    let event = Event::RefundEnded { order: order.key.clone(), refund_no: refund_no.clone() };
    let good = pen.write(order, &event, 20, Alteration::None);
    let another_merchant = Pen::with(app, provider, |keys| keys["mchid"] = json!("1900000000"));
    let case = |what, outgoing, verdict, told| Case {
        what,
        account: format!("{}/refund", app.wechatpay),
        outgoing,
        verdict,
        told,
    };
    vec![
        case("a refund, unsigned", pen.write(order, &event, 20, Alteration::Unsigned), "unsigned", Told::Refuse),
        case(
            "a refund, badly signed",
            pen.write(order, &event, 20, Alteration::BadSignature),
            "bad_signature",
            Told::Refuse,
        ),
        case(
            "a refund of another merchant",
            another_merchant.write(order, &event, 20, Alteration::None),
            "other_account",
            Told::Refuse,
        ),
        case(
            "an unknown refund",
            pen.edited(&good, "out_refund_no", Some("ILnobodyhasmadethisrefund")),
            "unknown_refund",
            Told::Stop,
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_genuine_notification_that_does_not_match_stands_on_the_work_list() {
    let app = TestApp::with(&NO_JOBS).await;
    let db = app.db().await;
    let (_, order) = unheard(&app, "wechatpay").await;
    let mut dearer = order.clone();
    dearer.amount = Money::fen(1).unwrap();
    let told = Pen::new(&app, "wechatpay").paid(&dearer, 1, Alteration::None);
    for _ in 0..2 {
        is_told("wechatpay", &post(&app, &app.wechatpay, &told.headers, told.body.clone()).await, Told::Stop);
    }
    let list = rows::select(&db, "SELECT kind, detail FROM operations").await;
    assert_eq!(list.len(), 1, "the same trouble once: {list:?}");
    assert!(
        list[0]["kind"] == "notification_mismatch" && list[0]["detail"].as_str().unwrap().contains("other_amount"),
        "{list:?}"
    );
    assert_eq!(rows::select(&db, "SELECT verdict FROM notifications").await, [json!({"verdict": "other_amount"})]);
    // What is forged is counted, and kept nowhere: anybody could fill the database with it.
    let forged = Pen::new(&app, "wechatpay").paid(&order, 2, Alteration::BadSignature);
    post(&app, &app.wechatpay, &forged.headers, forged.body.clone()).await;
    assert_eq!(
        rows::counts(&db, &["operations", "notifications"]).await.iter().map(|(_, n)| *n).collect::<Vec<_>>(),
        [1, 1]
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_notification_at_all_is_refused_and_counted() {
    let app = TestApp::start().await;
    let db = app.db().await;
    let everything = ["payments", "attempts", "refunds", "notifications", "operations", "events"];
    let before = rows::of(&db, &everything).await;
    for provider in PROVIDERS {
        let account = account(&app, provider);
        for path in [account.to_owned(), format!("{account}/refund")] {
            let count = counted(&app, provider, "method_not_allowed").await;
            let answer = app.client.get(&format!("/notifications/{path}")).await;
            answer.problem(405, "method_not_allowed", None);
            assert_eq!(answer.headers["allow"], "POST");
            assert!(counted(&app, provider, "method_not_allowed").await > count);

            let count = counted(&app, provider, "body_too_large").await;
            let answer = post(&app, &path, &HeaderMap::new(), vec![b'x'; 65_537]).await;
            answer.problem(413, "body_too_large", Some("body"));
            assert!(counted(&app, provider, "body_too_large").await > count);
        }
    }
    let count = counted(&app, "none", "unknown_account").await;
    post(&app, "acct_nobody", &HeaderMap::new(), "x").await.problem(404, "not_found", None);
    assert!(counted(&app, "none", "unknown_account").await > count);
    post(&app, "acct_nobody", &HeaderMap::new(), vec![b'x'; 65_537]).await.problem(404, "not_found", None);
    assert_eq!(rows::of(&db, &everything).await, before);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_becomes_of_its_notification_a_payment_succeeds_once() {
    for provider in PROVIDERS {
        let app = TestApp::with(&NO_JOBS).await;
        let db = app.db().await;
        app.client.route(&[account(&app, provider)]).await.expect(200);
        // Every two notifications of a payment are this far apart at the most; WeChat Pay's must not be 5 minutes off.
        let retry_s = if provider == "alipay" { 240 } else { 15 };
        for (kind, passes_s) in [("drop", retry_s), ("delay", 2), ("duplicate", 0), ("reorder", 6), ("forge", 0)] {
            let payment = app.client.pay(&order()).await.expect(201);
            let id = payment["id"].as_str().unwrap();
            app.control.fault(json!({"provider": provider, "kind": kind})).await;
            app.control.pay(&payment).await;
            if kind == "drop" {
                let lost = if provider == "alipay" { 4 } else { 1 };
                struck(&app, kind, lost).await;
                assert_eq!(app.client.payment(id).await["status"], "requires_action", "{provider}: nobody has told");
                app.control.mend().await;
            }
            // A moment passes at the provider, again and again until its notification has come through.
            let mut paid = app.client.payment(id).await;
            for _ in 0..200 {
                if paid["status"] == "succeeded" {
                    break;
                }
                if passes_s > 0 {
                    app.control.advance(passes_s.min(20)).await;
                }
                tokio::time::sleep(std::time::Duration::from_millis(25)).await;
                paid = app.client.payment(id).await;
            }
            struck(&app, kind, if kind == "duplicate" { 2 } else { 1 }).await;
            app.control.mend().await;
            assert_eq!(
                (&paid["status"], &paid["amount_captured"]),
                (&json!("succeeded"), &json!(8888)),
                "{provider} {kind}"
            );
            assert_eq!(paid["attempts"].as_array().unwrap().len(), 1, "{provider} {kind}: {paid}");
            assert_eq!(events(&db, &payment, "payment.succeeded").await, 1, "{provider} {kind}");
            assert_eq!(events(&db, &payment, "payment.late_captured").await, 0, "{provider} {kind}");
        }
        let orders = app.control.orders().await;
        assert!(orders.iter().all(|o| o["captured"] == 8888 && o["refunded"] == 0), "{orders:?}");
        app.stop().await;
    }
}

/// Waits until this fault has been seen so often.
async fn struck(app: &TestApp, kind: &str, times: usize) {
    for _ in 0..400 {
        let log = app.control.notifications().await;
        if log.iter().filter(|sent| sent["fault"] == kind).count() >= times {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    panic!("{kind} has not struck {times} times: {:?}", app.control.notifications().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_news_many_times_at_once_is_booked_once() {
    for provider in PROVIDERS {
        let app = TestApp::with(&NO_JOBS).await;
        let db = app.db().await;
        let (payment, order) = unheard(&app, provider).await;
        let account = account(&app, provider);
        let pen = Pen::new(&app, provider);
        let same = pen.paid(&order, 1, Alteration::None);
        let answers = join_all((0..32).map(|_| post(&app, account, &same.headers, same.body.clone()))).await;
        for answer in &answers {
            is_told(provider, answer, Told::Stop);
        }
        assert_eq!(rows::counts(&db, &["notifications"]).await[0].1, 1, "{provider}: the inbox keeps it once");
        // The same money under ids of their own, as a provider whose own memory failed would send it.
        let others: Vec<Outgoing> = (2..18).map(|id| pen.paid(&order, id, Alteration::None)).collect();
        let answers = join_all(others.iter().map(|o| post(&app, account, &o.headers, o.body.clone()))).await;
        for answer in &answers {
            is_told(provider, answer, Told::Stop);
        }
        let paid = app.client.payment(payment["id"].as_str().unwrap()).await;
        assert_eq!((&paid["status"], &paid["amount_captured"]), (&json!("succeeded"), &json!(8888)), "{provider}");
        assert_eq!(events(&db, &payment, "payment.succeeded").await, 1, "{provider}");
        assert_eq!(rows::counts(&db, &["events"]).await[0].1, 2, "{provider}: it was offered, and it succeeded");
        let name: ProviderName = provider.parse().unwrap();
        assert_eq!(paid["provider"], name.as_str());
        app.stop().await;
    }
}
