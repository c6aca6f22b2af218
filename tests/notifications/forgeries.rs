//! Notifications that are forged, damaged, old, or about somebody else's money: each is counted as
//! what it is, changes nothing, and stands in the way of no genuine one.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::HeaderMap;
use interlock::api::auth::Scope;
use providers::money::Money;
use providers::sandbox::book::{Event, Order};
use providers::sandbox::simulator::{Alteration, Outgoing};
use reqwest::Method;
use serde_json::json;

use super::pen::Pen;
use super::{NO_JOBS, PROVIDERS, Told, account, counted, events, is_told, post, unheard};
use crate::helpers::{TestApp, rows};

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
        for case in forgeries(&app, provider, &order)
            .await
            .into_iter()
            .chain(refund_forgeries(&app, provider, &refunded))
        {
            let before = rows::of(&db, &rows::PAYMENTS).await;
            let count = counted(&app, provider, case.verdict).await;
            let answer = post(
                &app,
                &case.account,
                &case.outgoing.headers,
                case.outgoing.body.clone(),
            )
            .await;
            eprintln!("{provider}: {}: {}", case.what, case.verdict);
            is_told(provider, &answer, case.told);
            let after = counted(&app, provider, case.verdict).await;
            assert!(
                after > count,
                "{provider}: {} is not counted as {}",
                case.what,
                case.verdict
            );
            assert_eq!(
                rows::of(&db, &rows::PAYMENTS).await,
                before,
                "{provider}: {} has changed a row",
                case.what
            );
        }
        // After all of that the genuine one is still believed, once.
        // It may be almost 5 minutes old.
        let genuine = Pen::new(&app, provider)
            .at(-270)
            .paid(&order, 1, Alteration::None);
        let account = account(&app, provider);
        is_told(
            provider,
            &post(&app, account, &genuine.headers, genuine.body.clone()).await,
            Told::Stop,
        );
        let paid = app.client.payment(payment["id"].as_str().unwrap()).await;
        assert_eq!(
            (&paid["status"], &paid["amount_captured"]),
            (&json!("succeeded"), &json!(8888))
        );
        let before = rows::of(&db, &["payments", "attempts", "refunds", "events"]).await;
        for _ in 0..3 {
            let count = counted(&app, provider, "duplicate").await;
            is_told(
                provider,
                &post(&app, account, &genuine.headers, genuine.body.clone()).await,
                Told::Stop,
            );
            assert!(counted(&app, provider, "duplicate").await > count);
        }
        assert_eq!(
            rows::of(&db, &["payments", "attempts", "refunds", "events"]).await,
            before,
            "{provider}: a replay"
        );
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
        let body =
            json!({"provider": provider, "name": "twin", "credentials": credentials}).to_string();
        let made = other
            .send(Method::POST, "/v1/accounts", None, Some(body.into_bytes()))
            .await
            .expect(201);
        made["id"].as_str().unwrap().to_owned()
    };

    let another_key = providers::sandbox::secrets::rsa_private_keys::<1>().unwrap()[0].clone();
    let wrong_key = Pen::with(app, provider, |keys| {
        keys[if provider == "alipay" {
            "alipay_private_key"
        } else {
            "public_key_private"
        }] = json!(another_key);
    });

    let (app_name, merchant_name) = if provider == "alipay" {
        ("app_id", "seller_id")
    } else {
        ("appid", "mchid")
    };
    let another_app = Pen::with(app, provider, |keys| {
        keys[app_name] = json!("2021000000000000")
    });
    let another_merchant = Pen::with(app, provider, |keys| {
        keys[merchant_name] = json!("2088000000000000")
    });

    let transaction = if provider == "alipay" {
        "trade_no"
    } else {
        "transaction_id"
    };
    let empty = Outgoing {
        body: Bytes::new(),
        ..good.clone()
    };

    let garbage = Outgoing {
        headers: HeaderMap::new(),
        body: vec![0xff; 1000].into(),
        ..good.clone()
    };
    let mut cut = good.clone();
    cut.body.truncate(cut.body.len() - 7);
    let case = |what, outgoing, verdict, told| Case {
        what,
        account: account.clone(),
        outgoing,
        verdict,
        told,
    };

    let mut cases = vec![
        case(
            "unsigned",
            pen.paid(order, 2, Alteration::Unsigned),
            "unsigned",
            Told::Refuse,
        ),
        case(
            "badly signed",
            pen.paid(order, 2, Alteration::BadSignature),
            "bad_signature",
            Told::Refuse,
        ),
        case(
            "signed by somebody else",
            wrong_key.paid(order, 2, Alteration::None),
            "bad_signature",
            Told::Refuse,
        ),
        case(
            "of another app",
            another_app.paid(order, 2, Alteration::None),
            "other_account",
            Told::Refuse,
        ),
        case(
            "of another merchant",
            another_merchant.paid(order, 2, Alteration::None),
            "other_account",
            Told::Refuse,
        ),
        case(
            "of another amount",
            pen.paid(&dearer, 3, Alteration::None),
            "other_amount",
            Told::Stop,
        ),
        case(
            "of an unknown order",
            pen.paid(&unknown, 4, Alteration::None),
            "unknown_order",
            Told::Stop,
        ),
        case(
            "of another payment",
            pen.paid(&elsewhere, 5, Alteration::None),
            "other_payment",
            Told::Stop,
        ),
        case(
            "without a transaction",
            pen.edited(&good, transaction, None),
            "unreadable",
            Told::Refuse,
        ),
        case("garbage", garbage, "unsigned", Told::Refuse),
        case("cut off", cut, "bad_signature", Told::Refuse),
        case(
            "empty",
            empty,
            if provider == "alipay" {
                "unsigned"
            } else {
                "bad_signature"
            },
            Told::Refuse,
        ),
        Case {
            account: stranger,
            ..case(
                "for somebody else's account",
                pen.paid(order, 6, Alteration::None),
                "other_account",
                Told::Stop,
            )
        },
    ];

    let own: Vec<Case> = if provider == "alipay" {
        vec![
            case(
                "closed",
                pen.edited(
                    &pen.paid(order, 7, Alteration::None),
                    "trade_status",
                    Some("TRADE_CLOSED"),
                ),
                "nothing_to_book",
                Told::Stop,
            ),
            case(
                "no amount of money",
                pen.edited(&good, "total_amount", Some("88.881")),
                "unreadable",
                Told::Refuse,
            ),
            case(
                "SHA-1",
                Outgoing {
                    body: String::from_utf8_lossy(&good.body)
                        .replace("sign_type=RSA2", "sign_type=RSA")
                        .into(),
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
                    body: format!("{}&total_amount=88.88", String::from_utf8_lossy(&good.body))
                        .into(),
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
            Outgoing {
                headers,
                ..good.clone()
            }
        };
        let probe = format!("WECHATPAY/SIGNTEST/{}", BASE64.encode([7; 256]));
        let without_nonce = {
            let mut headers = good.headers.clone();
            headers.remove("wechatpay-nonce");
            Outgoing {
                headers,
                ..good.clone()
            }
        };
        vec![
            case(
                "of an unknown serial",
                pen.paid(&unknown_serial, 2, Alteration::None),
                "unknown_key",
                Told::Refuse,
            ),
            case(
                "of an unknown kind",
                with_header("wechatpay-signature-type", "WECHATPAY2-SM2-WITH-SM3"),
                "unknown_key",
                Told::Refuse,
            ),
            case(
                "5 minutes old",
                Pen::new(app, provider)
                    .at(-300)
                    .paid(order, 2, Alteration::None),
                "stale",
                Told::Refuse,
            ),
            case(
                "5 minutes early",
                Pen::new(app, provider)
                    .at(305)
                    .paid(order, 2, Alteration::None),
                "stale",
                Told::Refuse,
            ),
            case(
                "of no time",
                with_header("wechatpay-timestamp", "yesterday"),
                "stale",
                Told::Refuse,
            ),
            case(
                "of another time",
                with_header(
                    "wechatpay-timestamp",
                    &(pen.now.timestamp() + 1).to_string(),
                ),
                "bad_signature",
                Told::Refuse,
            ),
            case(
                "a probe",
                with_header("wechatpay-signature", &probe),
                "probe",
                Told::Refuse,
            ),
            case("without a nonce", without_nonce, "unsigned", Told::Refuse),
            case(
                "signed garbage",
                pen.signed(&good, Bytes::from_static(b"{\"id\":")),
                "unreadable",
                Told::Refuse,
            ),
            case(
                "sealed with another key",
                Pen::with(app, provider, |keys| {
                    keys["apiv3_key"] = json!("0".repeat(32))
                })
                .paid(order, 2, Alteration::None),
                "unreadable",
                Told::Refuse,
            ),
            case(
                "in dollars",
                pen.edited(&good, "amount.currency", Some("USD")),
                "unreadable",
                Told::Refuse,
            ),
        ]
    };

    cases.extend(own);
    cases
}

/// A payment that was given back whole.
async fn refunded(app: &TestApp, provider: &str) -> Order {
    app.client
        .route(&[account(app, provider)])
        .await
        .expect(200);
    let paid = app.paid().await;
    let id = paid["id"].as_str().unwrap();
    app.client.refund(id, 8888).await.expect(201);
    app.control.advance(60).await;
    let back = app.client.until(id, |p| p["amount_refunded"] == 8888).await;
    let order_no = back["attempts"][0]["provider_order_no"].as_str().unwrap();

    app.sandbox()
        .book()
        .lock()
        .by_order_no(order_no)
        .unwrap()
        .clone()
}

/// Alipay does not tell of whole refunds; WeChat Pay does.
fn refund_forgeries(app: &TestApp, provider: &'static str, order: &Order) -> Vec<Case> {
    if provider == "alipay" {
        return Vec::new();
    }
    let pen = Pen::new(app, provider);
    let refund_no = order.refunds.keys().next().unwrap().clone();
    let event = Event::RefundEnded {
        order: order.key.clone(),
        refund_no: refund_no.clone(),
    };
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
        case(
            "a refund, unsigned",
            pen.write(order, &event, 20, Alteration::Unsigned),
            "unsigned",
            Told::Refuse,
        ),
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
