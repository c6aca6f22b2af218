//! UnionPay's adapter against the whole sandbox: its server, its payer, its clock and its
//! notifications.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "in the helpers of a test a panic is how it fails"
)]

mod bench;
mod calls;
mod charges;
mod charsets;
mod wire;
