//! The Alipay adapter against the sandbox's own face of Alipay, over a socket: every call, and
//! every "no" that the face can say. Time is given, so nothing here waits.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a test that fails says so by panicking"
)]

mod calls;
mod charges;
mod charsets;
mod forms;
mod gateway;
mod notifications;
mod sandbox;
mod shop;
