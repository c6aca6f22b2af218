//! Answers that no provider gives on purpose: each leaves open whether the order was made, so none
//! of them may pass for "never sent", and the payment goes to the other provider all the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use providers::signing::Signer;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::{ORDERS, Order, pairs};
use crate::helpers::{TestApp, attempts, keys, order};

/// An account's settings, as they were given to the demo merchant.
pub async fn settings(app: &TestApp, provider: &str) -> Value {
    let (_, credentials) = app.control.call(Method::GET, "/credentials", None).await;
    let (_, faces) = app.control.call(Method::GET, "/faces", None).await;
    let mut settings = credentials[provider].clone();
    settings["base_url"] = faces[provider].clone();
    settings
}

/// Has a provider live somewhere else, as far as this account knows.
pub async fn live_at(app: &TestApp, provider: &str, account: &str, address: &str) {
    let mut settings = settings(app, provider).await;
    settings["base_url"] = address.into();
    let path = format!("/v1/accounts/{account}");
    let body = json!({ "credentials": settings }).to_string().into_bytes();
    app.client
        .send(Method::PATCH, &path, None, Some(body))
        .await
        .expect(200);
}

/// Has the first provider live at `address`, pays, and tells what became of the attempt there.
async fn pay_with_first_at(
    app: &TestApp,
    route: &Order,
    address: &str,
    what: &str,
) -> (String, String) {
    let [first, second] = route.names;
    live_at(app, first, &route.accounts[0], address).await;
    let payment = app.client.pay(&order()).await.expect(201);
    let failed = payment["attempts"][0].clone();
    let outcome = failed["outcome"].as_str().unwrap().to_owned();
    let status = if outcome == "unknown" {
        "abandoned"
    } else {
        "dead"
    };

    assert_eq!(
        attempts(&payment),
        pairs([(first, status), (second, "awaiting_payer")]),
        "{what}: {payment}"
    );

    (
        outcome,
        failed["failure"]["kind"].as_str().unwrap().to_owned(),
    )
}

/// An answer with the provider's own signature over it.
pub fn signed(app: &TestApp, provider: &str, status: u16, node: &Value) -> ResponseTemplate {
    let text = node.to_string();
    if provider == "alipay" {
        let signer = signer("alipay", "alipay_private_key");
        let body = format!(
            r#"{{"alipay_trade_precreate_response":{text},"sign":"{}"}}"#,
            signer.sign(text.as_bytes())
        );
        return ResponseTemplate::new(status).set_body_raw(body, "text/html;charset=utf-8");
    }

    let (now, nonce) = (
        app.app().clock.now().utc().timestamp(),
        "0123456789abcdef0123456789abcdef",
    );
    let text = if status == 204 { String::new() } else { text };
    let signature = signer("wechatpay", "public_key_private")
        .sign(format!("{now}\n{nonce}\n{text}\n").as_bytes());
    let key_id = keys().of("wechatpay").unwrap()["public_key_id"]
        .as_str()
        .unwrap()
        .to_owned();

    ResponseTemplate::new(status)
        .insert_header("Wechatpay-Timestamp", now.to_string())
        .insert_header("Wechatpay-Nonce", nonce)
        .insert_header("Wechatpay-Serial", key_id)
        .insert_header("Wechatpay-Signature", signature)
        .set_body_raw(text, "application/json")
}

fn signer(provider: &str, key: &str) -> Signer {
    Signer::from_text(keys().of(provider).unwrap()[key].as_str().unwrap()).unwrap()
}

/// The same answer with nothing to prove where it comes from.
fn unsigned(provider: &str, status: u16, node: &Value) -> ResponseTemplate {
    let (body, kind) = match provider {
        "alipay" => (
            json!({"alipay_trade_precreate_response": node}),
            "text/html;charset=utf-8",
        ),
        _ => (node.clone(), "application/json"),
    };
    ResponseTemplate::new(status).set_body_raw(body.to_string(), kind)
}

/// A "no" that no reference lists, in the provider's own form.
fn unlisted(provider: &str) -> Value {
    match provider {
        "alipay" => {
            json!({"code": "40004", "msg": "Business Failed", "sub_code": "ACQ.BRAND_NEW",
                "sub_msg": "?"})
        }
        _ => json!({"code": "BRAND_NEW", "message": "?"}),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_answer_leaves_open_is_unknown_and_asked_for_only_once() {
    for names in ORDERS {
        let app = TestApp::without_breakers().await;
        let route = Order::set(&app, names).await;
        let first = names[0];
        let no = unlisted(first);
        let dead_port = "http://127.0.0.1:1/";
        let cases = [
            (
                "a redirect to a dead port",
                ResponseTemplate::new(307).insert_header("Location", dead_port),
                "incompatible",
            ),
            ("nothing at all", ResponseTemplate::new(204), "incompatible"),
            (
                "a signed 204",
                signed(&app, first, 204, &json!({})),
                "incompatible",
            ),
            ("an empty 200", ResponseTemplate::new(200), "incompatible"),
            (
                "an unlisted code, signed",
                signed(&app, first, 200, &no),
                "incompatible",
            ),
            (
                "an unlisted code, unsigned",
                unsigned(first, 200, &no),
                "incompatible",
            ),
            (
                "an unlisted code with 400, signed",
                signed(&app, first, 400, &no),
                "incompatible",
            ),
            (
                "an unlisted code with 400, unsigned",
                unsigned(first, 400, &no),
                "incompatible",
            ),
            (
                "an unlisted code with 502, signed",
                signed(&app, first, 502, &no),
                "server_error",
            ),
            (
                "too many requests from something in between",
                ResponseTemplate::new(429),
                "rate_limited",
            ),
        ];
        for (what, answer, kind) in cases {
            let server = MockServer::start().await;
            Mock::given(any()).respond_with(answer).mount(&server).await;
            let (outcome, found) = pay_with_first_at(&app, &route, &server.uri(), what).await;
            assert_eq!(
                (outcome.as_str(), found.as_str()),
                ("unknown", kind),
                "{first}: {what}"
            );
            let asked = server.received_requests().await.unwrap();
            // The first of them was whether the credentials are right.
            assert_eq!(asked.len(), 2, "{first}: {what}: nothing is sent twice");
        }
        app.stop().await;
    }
}

/// A "no" of one route to this order: the next one takes it, and nobody is set aside. Where none is
/// left that could, the payment has failed and is not sent to the same route again and again.
#[tokio::test(flavor = "multi_thread")]
async fn what_one_route_refuses_another_takes_and_what_all_refuse_has_failed() {
    for names in ORDERS {
        let app = TestApp::without_breakers().await;
        let route = Order::set(&app, names).await;
        let first = names[0];
        let no = match first {
            "alipay" => {
                json!({"code": "40004", "msg": "Business Failed",
                    "sub_code": "ACQ.EXIST_FORBIDDEN_WORD"})
            }
            _ => json!({"code": "RULE_LIMIT", "message": "?"}),
        };
        let status = if first == "alipay" { 200 } else { 403 };
        let server = MockServer::start().await;
        Mock::given(any())
            .respond_with(signed(&app, first, status, &no))
            .mount(&server)
            .await;
        let (outcome, _) =
            pay_with_first_at(&app, &route, &server.uri(), "refused by the route").await;
        assert_eq!(outcome, "refused_route", "{first}");
        let accounts = app.client.get("/v1/accounts").await.expect(200);
        let aside = |account: &&Value| account["set_aside_until"] != Value::Null;
        assert_eq!(
            accounts["data"].as_array().unwrap().iter().find(aside),
            None,
            "nobody is set aside"
        );

        let mut only = order();
        only["providers"] = json!([first]);
        let failed = app.client.pay(&only).await.expect(201);
        assert_eq!(
            (&failed["status"], &failed["queue"]),
            (&json!("failed"), &Value::Null),
            "{failed:#}"
        );
        assert_eq!(
            failed["attempts"].as_array().unwrap().len(),
            1,
            "{failed:#}"
        );
        assert_eq!(
            failed["failure"]["code"],
            no.get("sub_code").unwrap_or(&no["code"]).clone(),
            "{failed:#}"
        );
        let asked = server.received_requests().await.unwrap().len();
        assert_eq!(
            asked, 3,
            "whether the credentials are right, and for each payment once"
        );
        app.stop().await;
    }
}

/// Reads a request and answers with these bytes, then closes the connection. Counts the requests.
async fn raw(bytes: &'static [u8]) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let count = Arc::new(AtomicUsize::new(0));
    let requests = Arc::clone(&count);

    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 65_536];
            // Small enough to come in with head and body at once, or in two pieces.
            let mut read = stream.read(&mut request).await.unwrap();
            while !is_whole(&request[..read]) {
                match stream.read(&mut request[read..]).await {
                    Ok(more) if more > 0 => read += more,
                    Ok(_) | Err(_) => break,
                }
            }
            requests.fetch_add(1, Ordering::SeqCst);
            let _ = stream.write_all(bytes).await;
        }
    });

    (address, count)
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).to_ascii_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    length
        .and_then(|l| l.trim().parse::<usize>().ok())
        .is_some_and(|l| body.len() >= l)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_was_cut_short_is_unknown_and_only_a_request_that_never_left_is_not_sent() {
    for names in ORDERS {
        let app = TestApp::without_breakers().await;
        let route = Order::set(&app, names).await;
        let cases: [(&str, &'static [u8], &str); 5] = [
            (
                "a body cut short",
                b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{\"alipay_trade",
                "network",
            ),
            (
                "a chunk cut short",
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n50\r\n{\"code",
                "network",
            ),
            (
                "no length",
                b"HTTP/1.1 200 OK\r\n\r\n{\"code_url\":\"weixin://x\"}",
                "incompatible",
            ),
            ("half a head", b"HTTP/1.1 200 OK\r\nContent-Le", "network"),
            ("a closed connection", b"", "network"),
        ];
        for (what, bytes, kind) in cases {
            let (address, requests) = raw(bytes).await;
            let (outcome, found) = pay_with_first_at(&app, &route, &address, what).await;
            assert_eq!(
                (outcome.as_str(), found.as_str()),
                ("unknown", kind),
                "{}: {what}",
                names[0]
            );
            // The first of them was whether the credentials are right.
            assert_eq!(
                requests.load(Ordering::SeqCst),
                2,
                "{}: {what}: nothing is sent twice",
                names[0]
            );
        }
        let closed = TcpListener::bind("127.0.0.1:0")
            .await
            .unwrap()
            .local_addr()
            .unwrap();
        let dead =
            pay_with_first_at(&app, &route, &format!("http://{closed}"), "a closed port").await;
        assert_eq!(dead, ("not_sent".to_owned(), "network".to_owned()));
        app.stop().await;
    }
}
