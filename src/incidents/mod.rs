//! Telling people about outages: in which words ([`words`]), what a message says ([`message`]), how
//! chats want it ([`robot`]), what is remembered for the public page ([`recent`]) and what that
//! page shows ([`status`]). Decides nothing about what is an incident: that is done by
//! [`crate::jobs`], from rows and the board.

pub mod message;
pub mod recent;
pub mod report;
pub mod robot;
pub mod status;
pub mod words;
