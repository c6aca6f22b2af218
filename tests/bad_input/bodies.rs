//! Bodies that are no strict JSON, too long, broken off, or never done.

use std::time::Duration;

use tokio::io::AsyncWriteExt as _;

use super::{money, post, unchanged};
use crate::helpers::{TestApp, order, wire};

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_not_strict_json_is_refused_and_leaves_no_row() {
    let app = TestApp::start().await;
    let db = app.db().await;
    let before = money(&db).await;
    let good = order().to_string();
    let inside = |more: &str| format!("{},{more}}}", good.strip_suffix('}').unwrap()).into_bytes();
    let nested = |depth: usize| {
        inside(&format!(
            r#""metadata":{}1{}"#,
            r#"{"a":"#.repeat(depth),
            "}".repeat(depth)
        ))
    };

    let mut not_utf8 = inside(r#""metadata":{"a":"?"}"#);
    let place = not_utf8.iter().position(|b| *b == b'?').unwrap();
    not_utf8[place] = 0xff;
    let cases: Vec<(&str, Vec<u8>, u16, &str)> = vec![
        ("nothing", vec![], 400, "body"),
        ("half of it", good.as_bytes()[..40].to_vec(), 400, "body"),
        (
            "two of them",
            format!("{good}{good}").into_bytes(),
            400,
            "body",
        ),
        ("a form", b"amount=1&currency=CNY".to_vec(), 400, "body"),
        (
            "a comment",
            format!("{good} // tea").into_bytes(),
            400,
            "body",
        ),
        ("a comma too many", inside("").to_vec(), 400, "body"),
        (
            "a number beyond all numbers",
            inside(r#""metadata":{"a":1e999}"#),
            400,
            "body",
        ),
        (
            "not a number",
            inside(r#""metadata":{"a":NaN}"#),
            400,
            "body",
        ),
        ("bytes that are no text", not_utf8, 400, "body"),
        (
            "a lone surrogate",
            inside(r#""metadata":{"a":"\ud83c"}"#),
            400,
            "body",
        ),
        (
            "surrogates in the wrong order",
            inside(r#""metadata":{"a":"\udf75\ud83c"}"#),
            400,
            "body",
        ),
        (
            "a raw control character",
            inside("\"metadata\":{\"a\":\"\u{1}\"}"),
            400,
            "body",
        ),
        ("200 levels", nested(200), 400, "body"),
        ("200 open brackets", vec![b'['; 200], 400, "body"),
        ("60,000 open brackets", vec![b'['; 60_000], 400, "body"),
        ("a member twice", inside(r#""amount":1"#), 400, "amount"),
        (
            "a member twice, once escaped",
            inside(r#""\u0061mount":1"#),
            400,
            "amount",
        ),
        (
            "a nested member twice",
            inside(r#""metadata":{"a":{"b":1,"b":2}}"#),
            400,
            "metadata.a.b",
        ),
        (
            "a member twice in a list",
            inside(r#""metadata":{"a":[{},{"b":1,"b":2}]}"#),
            400,
            "metadata.a[1].b",
        ),
        (
            "an integer beyond 64 bits",
            inside(r#""metadata":{"a":12345678901234567890123}"#),
            422,
            "metadata.a",
        ),
        (
            "more digits than are kept",
            inside(r#""metadata":{"b":[{"c":0.12345678901234567890}]}"#),
            422,
            "metadata.b",
        ),
        (
            "JSON inside of JSON",
            inside(r#""metadata":{"a":[{"$serde_json::private::RawValue":"[[1]]"}]}"#),
            422,
            "metadata.a[0].$serde_json::private::RawValue",
        ),
        (
            "the same, escaped",
            inside(r#""metadata":{"a":{"$serde_json::private::RawValue":"1"}}"#),
            422,
            "metadata.a.$serde_json::private::RawValue",
        ),
        ("an array", b"[]".to_vec(), 422, "body"),
        ("a text", b"\"pay\"".to_vec(), 422, "body"),
        ("null", b"null".to_vec(), 422, "body"),
    ];

    for (what, body, status, param) in cases {
        let code = if status == 400 {
            "invalid_body"
        } else {
            "invalid_parameter"
        };
        eprintln!("{what}");
        post(&app.client, "/v1/payments", body)
            .await
            .problem(status, code, Some(param));
        unchanged(&before, &money(&db).await, what);
    }

    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_over_the_limit_is_refused_with_and_without_a_length() {
    let app = TestApp::start().await;
    let db = app.db().await;
    let before = money(&db).await;
    let good = order().to_string();
    let padded = |length: usize| format!("{good}{}", " ".repeat(length - good.len()));
    post(&app.client, "/v1/payments", padded(65_537))
        .await
        .problem(413, "body_too_large", Some("body"));

    let bearer = format!("Bearer {}", app.client.key);
    let head = wire::head(
        "POST",
        "/v1/payments",
        &[
            ("Authorization", &bearer),
            ("Idempotency-Key", "chunked"),
            ("Transfer-Encoding", "chunked"),
        ],
    );
    let mut chunked = format!("{head}\r\n");
    for _ in 0..17 {
        chunked.push_str(&format!("1000\r\n{}\r\n", " ".repeat(0x1000)));
    }
    let answer = wire::exchange(&app.client.base, format!("{chunked}0\r\n\r\n").as_bytes()).await;
    assert!(
        answer.starts_with("HTTP/1.1 413 ") && answer.contains("application/problem+json"),
        "{answer}"
    );
    assert!(answer.contains(r#""param":"body""#), "{answer}");
    // A length that was promised and not kept: the connection ends in the middle of the body.
    let half = format!(
        "{}Content-Length: 500\r\n\r\n{good}",
        wire::head(
            "POST",
            "/v1/payments",
            &[("Authorization", &bearer), ("Idempotency-Key", "half")]
        )
    );
    let mut stream = wire::connect(&app.client.base).await;
    stream.write_all(half.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let answer = wire::read(&mut stream).await;
    assert!(
        answer.starts_with("HTTP/1.1 400 ") && answer.contains(r#""code":"invalid_body""#),
        "{answer}"
    );
    unchanged(
        &before,
        &money(&db).await,
        "a body that is too long or broke off",
    );
    // Blanks behind a body are no fault, and exactly the limit is within it.
    post(&app.client, "/v1/payments", padded(65_536))
        .await
        .expect(201);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_drips_ends_with_408() {
    let app = TestApp::with(&[("server.body_timeout_s", "1")]).await;
    let db = app.db().await;
    let before = money(&db).await;
    let bearer = format!("Bearer {}", app.client.key);
    let headers = [
        ("Authorization", bearer.as_str()),
        ("Idempotency-Key", "drip"),
        ("Content-Length", "5000"),
    ];

    let (mut answers, mut body) = wire::connect(&app.client.base).await.into_split();
    body.write_all(format!("{}\r\n", wire::head("POST", "/v1/payments", &headers)).as_bytes())
        .await
        .unwrap();
    let drip = tokio::spawn(async move {
        // Ten bytes a second would take minutes; it ends when nobody listens any more.
        while body.write_all(b" ").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });

    let mut answer = String::new();
    let read = tokio::io::AsyncReadExt::read_to_string(&mut answers, &mut answer);
    let _ = tokio::time::timeout(Duration::from_secs(15), read)
        .await
        .expect("an answer, whatever the client does");
    drip.abort();
    assert!(
        answer.starts_with("HTTP/1.1 408 ") && answer.contains("application/problem+json"),
        "{answer}"
    );

    assert!(
        answer.contains(r#""code":"body_timeout""#) && answer.contains(r#""param":"body""#),
        "{answer}"
    );

    unchanged(&before, &money(&db).await, "a body that dripped");
    app.stop().await;
}
