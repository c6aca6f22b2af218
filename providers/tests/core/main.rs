//! What no single provider owns: the conformance suite on every provider, the layers, the HTTP
//! client, and the sandbox with its faults seen at the socket.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that fails says so by panicking"
)]

mod conformance;
mod control;
mod faults;
mod http_client;
mod http_tls;
mod lab;
mod layers;
mod notifications;
mod raw_server;
