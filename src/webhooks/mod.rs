//! How an event gets to a merchant's server: what is said ([`message`]), how it is signed
//! ([`sign`]), and one try of sending it ([`client`]), where [`crate::guard`] lets it go. Knows no
//! database: what is sent, and when, is decided by [`crate::jobs`] from rows.

pub mod client;
pub mod message;
pub mod sign;
