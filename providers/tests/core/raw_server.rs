//! A TCP server that answers with exactly the bytes, or the end, that a test wants.

use std::net::SocketAddr;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Serves every connection with `script`.
pub(crate) async fn serve<F, Fut>(script: F) -> SocketAddr
where
    F: Fn(TcpStream) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind(crate::lab::any()).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(script(stream));
        }
    });
    address
}

/// Reads one whole request: its head in lower case, and its body. Both empty when the client left.
pub(crate) async fn read_request(stream: &mut TcpStream) -> (String, Vec<u8>) {
    let mut raw = Vec::new();

    loop {
        let mut piece = [0; 4096];
        match stream.read(&mut piece).await {
            Ok(n) if n > 0 => raw.extend_from_slice(&piece[..n]),
            Ok(_) | Err(_) => return (String::new(), Vec::new()),
        }
        let Some(head_end) = raw.windows(4).position(|w| w == b"\r\n\r\n") else {
            continue;
        };
        let head = String::from_utf8_lossy(&raw[..head_end]).to_lowercase();
        let length = head
            .lines()
            .find_map(|l| l.strip_prefix("content-length: "))
            .map_or(0, |l| l.parse().unwrap());
        if raw.len() >= head_end + 4 + length {
            return (head, raw[head_end + 4..].to_vec());
        }
    }
}

/// Reads a request, answers these bytes and says goodbye (FIN).
pub(crate) async fn answer(mut stream: TcpStream, bytes: &[u8]) {
    read_request(&mut stream).await;
    // The client may have hung up already: that is what it is tested for.
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
    let _ = stream.read(&mut [0; 64]).await;
}

/// Closes with RST.
pub(crate) fn reset(stream: TcpStream) {
    SockRef::from(&stream)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(stream);
}

/// Keeps the connection and says nothing until the client leaves.
pub(crate) async fn hang(mut stream: TcpStream) {
    while stream.read(&mut [0; 4096]).await.is_ok_and(|n| n > 0) {}
}
