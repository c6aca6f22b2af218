//! The client that adapters share, against a server that ends connections in every way known: only
//! what provably never left may be called "not sent".

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};
use parking_lot::Mutex;
use providers::http::{Client, HttpAnswer, Request, SendError};
use providers::outcome::{FailureKind, NO_ROOM};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;

use crate::lab::any;
use crate::raw_server::{answer, hang, read_request, reset, serve};

const MIB: usize = 1 << 20;

pub(crate) fn client(base: &str) -> Client {
    Client::new(base, &providers::http::Way::Open).unwrap()
}

pub(crate) fn post(timeout: Duration) -> Request {
    let body = Bytes::from_static(b"{\"amount\":1}");
    Request {
        method: Method::POST,
        target: "/pay".to_owned(),
        headers: HeaderMap::new(),
        body,
        timeout,
    }
}

fn get() -> Request {
    Request {
        method: Method::GET,
        body: Bytes::new(),
        ..post(Duration::from_secs(5))
    }
}

/// Posts to a server that answers these bytes and says goodbye.
async fn answered(bytes: impl Into<Vec<u8>>) -> Result<HttpAnswer, SendError> {
    let bytes = Arc::new(bytes.into());
    let server = serve(move |stream| {
        let bytes = Arc::clone(&bytes);
        async move { answer(stream, &bytes).await }
    })
    .await;
    client(&format!("http://{server}"))
        .send(post(Duration::from_secs(5)))
        .await
}

/// The code of an `Unknown`.
fn unknown<T: std::fmt::Debug>(result: Result<T, SendError>) -> (FailureKind, String) {
    match result {
        Err(SendError::Unknown(failure)) => (failure.kind, failure.code),
        other => panic!("not unknown: {other:?}"),
    }
}

#[tokio::test]
async fn a_refused_connection_is_not_sent() {
    let listener = TcpListener::bind(any()).await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    for request in [post(Duration::from_secs(5)), get()] {
        let error = client(&format!("http://{address}"))
            .send(request)
            .await
            .unwrap_err();
        assert!(
            matches!(&error, SendError::NotSent(f) if f.code == "connect"),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_not_sent() {
    let error = client("http://nobody.invalid")
        .send(post(Duration::from_secs(20)))
        .await
        .unwrap_err();
    assert!(matches!(&error, SendError::NotSent(_)), "{error:?}");
}

/// It says nothing about the provider, who has not been reached for.
#[tokio::test]
async fn where_this_machine_has_no_descriptor_left_nothing_was_sent_and_nobody_is_to_blame() {
    let child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "http_client::inside_a_process_without_descriptors",
            "--ignored",
        ])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(
        child.status.success() && said.contains("1 passed"),
        "{said}"
    );
}

#[tokio::test]
#[ignore = "run by \
            where_this_machine_has_no_descriptor_left_nothing_was_sent_and_nobody_is_to_blame"]
async fn inside_a_process_without_descriptors() {
    let server = serve(async |stream| {
        answer(stream, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await
    })
    .await;
    let (by_name, client) = (
        client(&format!("http://localhost:{}", server.port())),
        client(&format!("http://{server}")),
    );
    let usual = getrlimit(Resource::Nofile);

    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: Some(0),
            ..usual
        },
    )
    .unwrap();

    let error = client.send(post(Duration::from_secs(5))).await.unwrap_err();
    let by_name = by_name
        .send(post(Duration::from_secs(5)))
        .await
        .unwrap_err();
    setrlimit(Resource::Nofile, usual).unwrap();
    for error in [error, by_name] {
        assert!(
            matches!(&error, SendError::NotSent(f) if f.code == NO_ROOM),
            "{error:?}"
        );
    }

    assert_eq!(
        &client
            .send(post(Duration::from_secs(5)))
            .await
            .unwrap()
            .body[..],
        b"ok"
    );
}

#[tokio::test]
async fn a_reset_after_the_request_is_unknown() {
    let server = serve(async |mut stream| {
        read_request(&mut stream).await;
        reset(stream);
    })
    .await;
    for request in [post(Duration::from_secs(5)), get()] {
        let result = client(&format!("http://{server}")).send(request).await;
        assert_eq!(
            unknown(result),
            (FailureKind::Network, "connection_lost".to_owned())
        );
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_was_sent() {
    let dead = TcpListener::bind(any())
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let answer = answered(format!(
        "HTTP/1.1 307 Temporary Redirect\r\nLocation: http://{dead}/\r\nContent-Length: 0\r\n\r\n"
    ));
    assert_eq!(answer.await.unwrap().status, 307);
}

#[tokio::test]
async fn a_whole_answer_is_read() {
    let plain = answered("HTTP/1.1 200 OK\r\nX-Id: 7\r\nContent-Length: 2\r\n\r\nok")
        .await
        .unwrap();
    assert_eq!(
        (plain.status.as_u16(), plain.header("x-id"), &plain.body[..]),
        (200, Some("7"), &b"ok"[..])
    );
    let chunked =
        answered("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")
            .await
            .unwrap();
    assert_eq!(&chunked.body[..], b"ok");
    let empty = answered("HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
    assert_eq!((empty.status.as_u16(), empty.body.len()), (204, 0));
}

#[tokio::test]
async fn an_answer_without_a_length_is_unknown() {
    let result = answered("HTTP/1.1 200 OK\r\n\r\n{\"code\":\"100").await;
    assert_eq!(
        unknown(result),
        (FailureKind::Incompatible, "no_length".to_owned())
    );
}

#[tokio::test]
async fn an_answer_shorter_than_its_length_is_unknown() {
    let result = answered("HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{\"code\":\"100").await;
    assert_eq!(
        unknown(result),
        (FailureKind::Network, "connection_lost".to_owned())
    );
}

#[tokio::test]
async fn an_unterminated_chunked_answer_is_unknown() {
    let result = answered("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n").await;
    assert_eq!(
        unknown(result),
        (FailureKind::Network, "connection_lost".to_owned())
    );
}

#[tokio::test]
async fn an_answer_that_is_no_http_is_unknown() {
    assert_eq!(
        unknown(answered("SSH-2.0-surprise\r\n").await).0,
        FailureKind::Network
    );
    assert_eq!(unknown(answered("").await).0, FailureKind::Network);
}

#[tokio::test]
async fn a_timeout_before_or_after_the_first_byte_is_unknown() {
    let silent = serve(hang).await;
    let stuck = serve(async |mut stream| {
        read_request(&mut stream).await;
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{")
            .await
            .unwrap();
        hang(stream).await;
    })
    .await;

    for server in [silent, stuck] {
        let result = client(&format!("http://{server}"))
            .send(post(Duration::from_millis(150)))
            .await;
        assert_eq!(
            unknown(result),
            (FailureKind::Timeout, "timeout".to_owned())
        );
    }
}

#[tokio::test]
async fn more_than_a_mebibyte_is_unknown() {
    let of = |size: usize| {
        let mut bytes = format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n").into_bytes();
        bytes.resize(bytes.len() + size, b'x');
        bytes
    };
    assert_eq!(answered(of(MIB)).await.unwrap().body.len(), MIB);
    assert_eq!(
        unknown(answered(of(MIB + 1)).await),
        (FailureKind::Incompatible, "too_long".to_owned())
    );
}

#[tokio::test]
async fn a_kept_connection_that_is_reset_on_the_second_request_is_unknown() {
    let server = serve(async |mut stream| {
        read_request(&mut stream).await;
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            .await
            .unwrap();
        // The second request of the same connection: a new one would be answered above.
        read_request(&mut stream).await;
        reset(stream);
    })
    .await;
    let client = client(&format!("http://{server}"));

    assert_eq!(
        client
            .send(post(Duration::from_secs(5)))
            .await
            .unwrap()
            .status,
        200
    );

    let result = client.send(post(Duration::from_secs(5))).await;
    assert_eq!(
        unknown(result),
        (FailureKind::Network, "connection_lost".to_owned())
    );
}

/// The server closes at the very moment at which the second request is sent, again and again. Some
/// are answered on a new connection, some are lost; none that arrived may be called "not sent", and
/// none may arrive twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_arrived_is_never_called_not_sent_and_never_arrives_twice() {
    let arrived = Arc::new(Mutex::new(Vec::new()));
    let server = serve({
        let arrived = Arc::clone(&arrived);
        move |mut stream| {
            let arrived = Arc::clone(&arrived);
            async move {
                let (head, _) = read_request(&mut stream).await;
                arrived.lock().push(number(&head));
                let _ = stream
                    .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                    .await;
                tokio::task::yield_now().await;
                // What lies unread here makes this a reset, otherwise it is a goodbye.
            }
        }
    })
    .await;

    let client = client(&format!("http://{server}"));
    let mut not_sent = Vec::new();

    for n in 0..500 {
        let request = Request {
            target: format!("/{n}"),
            ..post(Duration::from_secs(5))
        };
        match client.send(request).await {
            Ok(_) | Err(SendError::Unknown(_)) => {}
            Err(SendError::NotSent(_)) => not_sent.push(n),
        }
    }

    let mut arrived = arrived.lock().clone();
    assert!(
        arrived.iter().all(|n| !not_sent.contains(n)),
        "{not_sent:?}"
    );

    let count = arrived.len();
    arrived.sort_unstable();
    arrived.dedup();
    assert_eq!(arrived.len(), count, "a request arrived twice");
}

/// The number in `post /7 http/1.1`.
fn number(head: &str) -> usize {
    head.split([' ', '/']).nth(2).unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_request_says_what_it_was_given_and_nothing_of_ours() {
    let heads = Arc::new(Mutex::new(Vec::new()));
    let server = serve({
        let heads = Arc::clone(&heads);
        move |mut stream| {
            let heads = Arc::clone(&heads);
            async move {
                let request = read_request(&mut stream).await;
                heads.lock().push(request);
                let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await;
            }
        }
    })
    .await;

    let request = Request {
        target: "/v3/a%2Fb?mchid=1".to_owned(),
        ..post(Duration::from_secs(5))
    };
    client(&format!("http://{server}/"))
        .send(request)
        .await
        .unwrap();
    let (head, body) = heads.lock().remove(0);

    assert!(
        head.starts_with("post /v3/a%2fb?mchid=1 http/1.1\r\n"),
        "{head}"
    );
    assert!(head.contains("content-length: 12"), "{head}");
    assert!(
        !head.contains("accept-encoding") && !head.contains("expect"),
        "{head}"
    );

    assert_eq!(body, b"{\"amount\":1}");
}

/// The environment of a test cannot be changed safely, so the test runs itself in a process that
/// has a proxy.
#[tokio::test]
async fn no_proxy_is_taken_from_the_environment() {
    let proxy = serve(async |stream| {
        answer(
            stream,
            b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nproxied",
        )
        .await
    })
    .await;

    let direct = serve(async |stream| {
        answer(
            stream,
            b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\ndirect",
        )
        .await
    })
    .await;

    let child = tokio::task::spawn_blocking(move || {
        Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "http_client::inside_a_process_with_a_proxy",
                "--ignored",
            ])
            .env("http_proxy", format!("http://{proxy}"))
            .env("HTTP_PROXY", format!("http://{proxy}"))
            .env_remove("no_proxy")
            .env_remove("NO_PROXY")
            .env("DIRECT_SERVER", format!("http://{direct}"))
            .output()
            .unwrap()
    });
    let child = child.await.unwrap();
    let said = String::from_utf8_lossy(&child.stdout);

    assert!(
        child.status.success() && said.contains("1 passed"),
        "{said}"
    );
}

#[tokio::test]
#[ignore = "run by no_proxy_is_taken_from_the_environment"]
async fn inside_a_process_with_a_proxy() {
    let server = std::env::var("DIRECT_SERVER").unwrap();
    let usual = reqwest::get(&server).await.unwrap().text().await.unwrap();
    assert_eq!(
        usual, "proxied",
        "the environment has a proxy that others use"
    );
    let ours = client(&server).send(get()).await.unwrap();
    assert_eq!(&ours.body[..], b"direct");
}
