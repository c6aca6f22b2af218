//! The client's "never sent" while a TLS connection is being made: nothing of the request has left
//! by then.

use std::time::Duration;

use providers::http::SendError;
use providers::outcome::FailureKind;
use tokio::io::AsyncReadExt as _;

use crate::http_client::{client, post};
use crate::raw_server::{hang, reset, serve};

#[tokio::test]
async fn a_reset_during_the_handshake_is_not_sent() {
    let server = serve(async |mut stream| {
        // The ClientHello has come.
        stream.read_exact(&mut [0; 16]).await.unwrap();
        reset(stream);
    })
    .await;
    let error = client(&format!("https://{server}"))
        .send(post(Duration::from_secs(5)))
        .await
        .unwrap_err();
    assert!(
        matches!(&error, SendError::NotSent(f) if f.code == "connect"),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_handshake_that_hangs_until_the_connect_timeout_is_not_sent() {
    let server = serve(hang).await;
    let error = client(&format!("https://{server}"))
        .send(post(Duration::from_secs(30)))
        .await
        .unwrap_err();
    assert!(
        matches!(&error, SendError::NotSent(f) if f.kind == FailureKind::Timeout),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_whole_call_that_times_out_in_the_handshake_is_not_sent() {
    let server = serve(hang).await;
    let error = client(&format!("https://{server}"))
        .send(post(Duration::from_millis(200)))
        .await
        .unwrap_err();
    assert!(
        matches!(&error, SendError::NotSent(f) if f.kind == FailureKind::Timeout),
        "{error:?}"
    );
}
