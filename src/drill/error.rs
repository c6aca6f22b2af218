//! Why nothing is known of what a drill was to show.

use std::io;

/// The drill itself could not be carried out: nothing is known of what it was to show.
#[derive(Debug, thiserror::Error)]
#[error("drill: {0}")]
pub struct Error(pub String);

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self(error.to_string())
    }
}
