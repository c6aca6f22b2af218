//! Telling people about outages: in which words ([`messages`]), what a message says ([`message`]),
//! how chats want it ([`chat`]), what is remembered for the public page ([`status_cache`]) and what
//! that page shows ([`status`]). Decides nothing about what is an incident: that is done by
//! [`crate::jobs`], from rows and the board.

pub mod chat;
pub mod message;
pub mod messages;
pub mod report;
pub mod status;
pub mod status_cache;
