//! Reads the control API's JSON objects member by member, so that every refusal names the member
//! that is wrong.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// Why the control API refuses, and because of which member or parameter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{param}: {message}")]
pub struct Invalid {
    /// The member; empty when it is the body as a whole.
    pub param: &'static str,
    /// What is wrong with it.
    pub message: String,
}

impl Invalid {
    /// A refusal because of `param`.
    pub fn new(param: &'static str, message: impl Into<String>) -> Self {
        Self {
            param,
            message: message.into(),
        }
    }
}

/// A JSON object whose members are taken out one after the other.
#[derive(Debug)]
pub struct Members(Map<String, Value>);

impl Members {
    /// Reads a body.
    ///
    /// # Errors
    /// [`Invalid`] when it is not a JSON object, or has a member that is not in `known`.
    pub fn of(body: &[u8], known: &[&'static str]) -> Result<Self, Invalid> {
        let members: Map<String, Value> = serde_json::from_slice(body)
            .map_err(|e| Invalid::new("", format!("the body is not a JSON object: {e}")))?;
        match members.keys().find(|name| !known.contains(&name.as_str())) {
            None => Ok(Self(members)),
            Some(name) => Err(Invalid::new(
                "",
                format!(
                    "there is no member {name:?} here, only {}",
                    known.join(", ")
                ),
            )),
        }
    }

    /// Takes out a member that may be missing or null.
    ///
    /// # Errors
    /// [`Invalid`] when it is of another type.
    pub fn optional<T: DeserializeOwned>(
        &mut self,
        name: &'static str,
    ) -> Result<Option<T>, Invalid> {
        match self.0.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => serde_json::from_value(value)
                .map(Some)
                .map_err(|e| Invalid::new(name, e.to_string())),
        }
    }

    /// Takes out a member that must be there.
    ///
    /// # Errors
    /// [`Invalid`] when it is missing or of another type.
    pub fn required<T: DeserializeOwned>(&mut self, name: &'static str) -> Result<T, Invalid> {
        self.optional(name)?
            .ok_or_else(|| Invalid::new(name, "is missing"))
    }
}
