//! HTTP/1.1 by hand, for what no client library would send: bodies that drip, connections that are
//! reset.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// The head of a request, without its blank line; `Connection: close` makes the end of the answer
/// its end.
pub fn head(method: &str, path: &str, headers: &[(&str, &str)]) -> String {
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head
}

/// A connection to the gateway at `base`.
pub async fn connect(base: &str) -> TcpStream {
    TcpStream::connect(base.strip_prefix("http://").unwrap())
        .await
        .unwrap()
}

/// Sends these bytes and reads everything that comes back.
pub async fn exchange(base: &str, bytes: &[u8]) -> String {
    let mut stream = connect(base).await;
    // A server that has heard enough may close before it has read everything.
    let _ = stream.write_all(bytes).await;
    read(&mut stream).await
}

/// Everything that comes until the connection ends, however it ends.
pub async fn read(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let mut chunk = [0; 4096];
    while let Ok(n @ 1..) = stream.read(&mut chunk).await {
        answer.extend_from_slice(&chunk[..n]);
    }
    String::from_utf8_lossy(&answer).into_owned()
}
