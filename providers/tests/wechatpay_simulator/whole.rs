//! The adapter against the whole sandbox: its server, its payer, its clock and its notifications.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use http::Response;
use http_body_util::{BodyExt as _, Full};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use providers::money::Money;
use providers::notification::{Acknowledgement, Notice, RawNotification};
use providers::order::{Call, Flow};
use providers::outcome::{
    CloseOutcome, CreateOutcome, NextAction, QueryOutcome, RefundOutcome, RefundQueryOutcome,
};
use providers::provider::Provider;
use providers::sandbox::book::Refusal;
use providers::sandbox::keys::Keys;
use providers::sandbox::payer::{Holding, Wish};
use providers::sandbox::{LOG, Options, Sandbox};
use providers::wechatpay::PROTOCOL;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::bench::{Bench, vector_keys};

const NO: &str = "IL20260105000001";

/// Answers every notification as the adapter would and passes it on.
async fn receiver(
    status: http::StatusCode,
) -> (SocketAddr, mpsc::UnboundedReceiver<RawNotification>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, inbox) = mpsc::unbounded_channel();

    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let sender = sender.clone();
            let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                let sender = sender.clone();
                async move {
                    let (parts, body) = request.into_parts();
                    let body = body.collect().await.unwrap().to_bytes();
                    sender
                        .send(RawNotification {
                            headers: parts.headers,
                            body,
                        })
                        .unwrap();
                    let mut response = Response::new(Full::new(bytes::Bytes::new()));
                    *response.status_mut() = status;
                    Ok::<_, Infallible>(response)
                }
            });
            tokio::spawn(
                hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service),
            );
        }
    });

    (address, inbox)
}

async fn started() -> (Sandbox, Arc<dyn Provider>) {
    let keys: Keys = serde_json::from_value(json!({"wechatpay": vector_keys()})).unwrap();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let options = Options {
        control: any,
        faces: vec![(PROTOCOL.name, any)],
        keys,
        book: None,
        log: LOG,
    };

    let sandbox = Sandbox::start(options).await.unwrap();
    let mut settings = sandbox.credentials()["wechatpay"].clone();
    settings["base_url"] = json!(format!("http://{}", sandbox.face(PROTOCOL.name).unwrap()));
    (
        sandbox,
        (PROTOCOL.open)(settings, &providers::http::Way::Open).unwrap(),
    )
}

#[tokio::test]
async fn a_payer_confirms_with_the_code_that_was_scanned() {
    let (sandbox, adapter) = started().await;
    let call = || Call {
        now: sandbox.clock().now(),
        timeout: Duration::from_secs(5),
    };
    let bench = Bench::start().await;
    let mut order = bench.order(NO);
    (order.flow, order.auth_code) = (Flow::Barcode, Some("130061098828009407".to_owned()));
    assert_eq!(
        adapter.create(&order, &call()).await.outcome,
        CreateOutcome::Waiting
    );
    let code = Holding::Code("130061098828009407".to_owned());
    sandbox.pay(&code, Wish::Paid).unwrap();
    assert_eq!(
        sandbox.pay(&code, Wish::Paid).unwrap_err(),
        Refusal::AlreadyPaid
    );
    assert!(matches!(
        adapter.query(&bench.reference(NO), &call()).await.outcome,
        QueryOutcome::Paid(_)
    ));

    (order.order_no, order.auth_code) = (
        "IL20260105000002".to_owned(),
        Some("130061098828009417".to_owned()),
    );
    assert_eq!(
        adapter.create(&order, &call()).await.outcome,
        CreateOutcome::Waiting
    );
    sandbox.clock().advance(TimeDelta::seconds(60)).unwrap();
    let late = Holding::Code("130061098828009417".to_owned());
    assert_eq!(
        sandbox.pay(&late, Wish::Paid).unwrap_err(),
        Refusal::Expired
    );
    assert_eq!(
        adapter
            .reverse(&bench.reference(&order.order_no), &call())
            .await
            .outcome,
        CloseOutcome::Closed
    );
    sandbox.stop().await;
}

#[tokio::test]
async fn an_order_lives_through_payment_and_refund() {
    let (sandbox, adapter) = started().await;
    let call = || Call {
        now: sandbox.clock().now(),
        timeout: Duration::from_secs(5),
    };
    let stop = adapter.acknowledge(Acknowledgement::Stop).status;
    let (address, mut inbox) = receiver(stop).await;

    // Orders as the tests' own bench makes them, at this sandbox's time.
    let bench = Bench::start().await;
    bench.pass(sandbox.clock().now() - bench.now());
    let mut order = bench.order(NO);
    order.notify_url = format!("http://{address}/n");
    let mut codes = Vec::new();
    for _ in 0..2 {
        let CreateOutcome::Accepted(NextAction::DisplayQr { qr }) =
            adapter.create(&order, &call()).await.outcome
        else {
            panic!()
        };
        codes.push(Holding::Code(qr));
    }
    assert_eq!(
        sandbox.pay(&codes[0], Wish::Paid).unwrap_err(),
        Refusal::Expired
    );
    sandbox.pay(&codes[1], Wish::Declined).unwrap();
    let reference = bench.reference(NO);
    assert_eq!(
        adapter.query(&reference, &call()).await.outcome,
        QueryOutcome::Payable
    );
    sandbox.pay(&codes[1], Wish::Paid).unwrap();

    let told = inbox.recv().await.unwrap();
    let notice = adapter
        .notification(&told, sandbox.clock().now())
        .unwrap()
        .into_inner()
        .notice;
    let Notice::Paid { capture, .. } = notice else {
        panic!()
    };
    assert_eq!(
        adapter.query(&reference, &call()).await.outcome,
        QueryOutcome::Paid(capture)
    );
    assert_eq!(
        adapter.close(&reference, &call()).await.outcome,
        CloseOutcome::AlreadyPaid
    );

    let mut refund = bench.refund(NO, "R0000001", 40);
    refund.notify_url = format!("http://{address}/r");
    assert_eq!(
        adapter.refund(&refund, &call()).await.outcome,
        RefundOutcome::Accepted
    );
    sandbox.clock().advance(TimeDelta::seconds(2)).unwrap();
    let told = inbox.recv().await.unwrap();
    let notice = adapter
        .notification(&told, sandbox.clock().now())
        .unwrap()
        .into_inner()
        .notice;
    let (order_no, refund_no) = (NO.to_owned(), "R0000001".to_owned());
    let amount = Some(Money::fen(40).unwrap());
    assert_eq!(
        notice,
        Notice::Refund {
            order_no,
            refund_no,
            outcome: RefundQueryOutcome::Done,
            amount,
            total: None
        }
    );
    assert_eq!(
        adapter.query_refund(&refund, &call()).await.outcome,
        RefundQueryOutcome::Done
    );
    sandbox.stop().await;
}
