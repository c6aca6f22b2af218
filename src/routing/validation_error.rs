//! What is wrong with something that a merchant wants to set.

/// A member that cannot be as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{param}: {detail}")]
pub struct ValidationError {
    /// Its path: `rules[0].accounts[1].weight`.
    pub param: String,
    /// What is wrong with it, for people.
    pub detail: String,
}

impl ValidationError {
    /// This, about that member.
    pub fn new(param: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            param: param.into(),
            detail: detail.into(),
        }
    }
}
