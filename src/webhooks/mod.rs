//! How an event gets to a merchant's server: what is said ([`message`]), how it is signed ([`sign`]), where it may go
//! ([`guard`]), and one try of sending it ([`client`]). Knows no database: what is sent, and when, is decided by
//! [`crate::jobs`] from rows.

pub mod client;
pub mod guard;
pub mod message;
pub mod sign;
