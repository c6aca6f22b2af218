//! Where a payment's entries end.

/// The end of a payment's chain, as the payment's row carries it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Head {
    /// How many entries there are.
    pub entries: i32,
    /// The hash of the last one; empty when there is none.
    pub hash: String,
}
