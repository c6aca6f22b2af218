//! Once through the sandbox's own server: a payment, its notification until it is acknowledged, a
//! refund.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use providers::alipay::PROTOCOL;
use providers::notification::{Notice, RawNotification};
use providers::order::Call;
use providers::outcome::{CreateOutcome, NextAction, QueryOutcome, RefundOutcome};
use providers::sandbox::keys::Keys;
use providers::sandbox::payer::{Holding, Wish};
use providers::sandbox::{LOG, Options, Sandbox};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::shop::Shop;

/// A merchant's endpoint that says `fail` twice and then `success`, and hands on what it was sent.
async fn merchant() -> (SocketAddr, mpsc::Receiver<RawNotification>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sent, received) = mpsc::channel(8);

    tokio::spawn(async move {
        for reply in ["fail", "fail", "success"] {
            let (stream, _) = listener.accept().await.unwrap();
            let sent = sent.clone();
            let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                let sent = sent.clone();
                async move {
                    let (parts, body) = request.into_parts();
                    let body = body.collect().await?.to_bytes();
                    sent.send(RawNotification {
                        headers: parts.headers,
                        body,
                    })
                    .await
                    .unwrap();
                    Ok::<_, hyper::Error>(hyper::Response::new(Full::new(Bytes::from_static(
                        reply.as_bytes(),
                    ))))
                }
            });
            // One answer for each connection.
            http1::Builder::new()
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service)
                .await
                .unwrap();
        }
    });

    (address, received)
}

#[tokio::test]
async fn a_payer_pays_the_shown_code_and_the_shop_is_told_until_it_says_success() {
    let (address, mut received) = merchant().await;
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let keys = Keys::generate().unwrap();
    let options = Options {
        control: any,
        faces: vec![(PROTOCOL.name, any)],
        keys,
        book: None,
        log: LOG,
    };
    let sandbox = Sandbox::start(options).await.unwrap();
    let mut settings = sandbox.credentials()["alipay"].clone();
    settings["base_url"] = format!("http://{}", sandbox.face(PROTOCOL.name).unwrap()).into();
    let alipay = (PROTOCOL.open)(settings, &providers::http::Way::Open).unwrap();

    let shop = Shop::open().await;
    let now = sandbox.clock().now();
    let call = Call {
        now,
        timeout: Duration::from_secs(5),
    };
    let mut order = shop.order();
    order.expires_at = now + chrono::TimeDelta::minutes(15);
    order.notify_url = format!("http://{address}/notifications");
    let CreateOutcome::Accepted(NextAction::DisplayQr { qr }) =
        alipay.create(&order, &call).await.outcome
    else {
        panic!("no code")
    };
    sandbox.pay(&Holding::Code(qr), Wish::Paid).unwrap();
    let QueryOutcome::Paid(asked) = alipay.query(&shop.reference(), &call).await.outcome else {
        panic!("not paid")
    };

    let mut ids = Vec::new();
    for _ in 0..3 {
        let raw = tokio::time::timeout(Duration::from_secs(10), received.recv())
            .await
            .unwrap()
            .unwrap();
        let notification = alipay.notification(&raw, now).unwrap().into_inner();
        assert_eq!(
            notification.notice,
            Notice::Paid {
                order_no: order.order_no.clone(),
                capture: asked.clone()
            }
        );
        ids.push(notification.id);
    }
    ids.dedup();
    assert_eq!(ids.len(), 1, "the same notification, sent again at once");
    assert_eq!(
        alipay.refund(&shop.refund("R1", 8888), &call).await.outcome,
        RefundOutcome::Done
    );
    assert_eq!(
        alipay.query(&shop.reference(), &call).await.outcome,
        QueryOutcome::Reversed
    );
    sandbox.stop().await;
}
