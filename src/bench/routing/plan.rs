//! What is played, and what is told of it.

/// Payments a second.
pub const RATES: [u32; 3] = [1, 10, 100];
/// Whom the worlds are played against.
pub const STRATEGIES: [&str; 4] = ["priority", "ewma", "window", "adaptive"];

/// What is played.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Worlds, outages and every call's luck follow from it.
    pub seed: u64,
    /// How many worlds.
    pub worlds: u32,
    /// How long each of them lasts.
    pub minutes: u32,
    /// End with one line of JSON.
    pub json: bool,
}

/// Trips in worlds that are all about them: payments a second, the most trips of any world, all
/// trips.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Trips {
    pub(super) rate: u32,
    pub(super) worlds: u32,
    pub(super) most: u32,
    pub(super) all: u32,
}
