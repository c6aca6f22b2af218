//! An installation on this machine: its data folder, its locks, its key for credentials, its
//! database; and what is wrong when one of them cannot be used.

pub mod database;
mod error;
pub mod folder;
pub mod locks;
pub mod sealing_key;

pub use self::error::StartError;
