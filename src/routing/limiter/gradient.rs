//! How many calls a route can have on their way before it gets slower: a limit that grows while
//! calls take as long as they use to, and shrinks by as much as they take longer (the gradient).
//! What calls use to take is learned slowly.
#![expect(clippy::float_arithmetic, reason = "statistics about latencies")]

/// Where it begins.
const FIRST: f64 = 100.0;
/// Never fewer: nothing would be learned …
const LEAST: f64 = 8.0;
/// … and never more: a gateway must be able to remember them.
const MOST: f64 = 2_000.0;
/// Calls may take so much longer than usual before that says anything.
const TOLERANCE: f64 = 2.0;
/// Faster differences than this are noise of our own machine, in milliseconds.
const NOISE_MS: f64 = 50.0;
/// What one call weighs in what is usual …
const SLOWLY: f64 = 0.002;
/// … and in the limit.
const QUICKLY: f64 = 0.2;

/// The limit of one route.
#[derive(Debug, Clone, Copy)]
pub struct Gradient {
    limit: f64,
    /// What calls use to take; 0 until one was answered.
    usual_ms: f64,
}

impl Default for Gradient {
    fn default() -> Self {
        Self {
            limit: FIRST,
            usual_ms: 0.0,
        }
    }
}

impl Gradient {
    /// So many calls may be on their way.
    #[expect(
        clippy::as_conversions,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "8 to 2,000"
    )]
    pub const fn limit(&self) -> u32 {
        self.limit.clamp(LEAST, MOST) as u32
    }

    /// A call was answered after so long, while so many were on their way, itself included.
    pub fn answered(&mut self, took_ms: u32, in_flight: u32) {
        let took = f64::from(took_ms) + NOISE_MS;
        if self.usual_ms == 0.0 {
            self.usual_ms = took;
        }
        self.usual_ms += (took - self.usual_ms) * SLOWLY;

        // Back to fast calls: what was usual in a slow time is soon forgotten.
        if self.usual_ms > 2.0 * took {
            self.usual_ms *= 0.95;
        }

        // A limit that is not reached was not tried.
        if f64::from(in_flight) * 2.0 < self.limit {
            return;
        }
        let gradient = (TOLERANCE * self.usual_ms / took).clamp(0.5, 1.0);
        let wanted = self.limit * gradient + self.limit.sqrt();

        self.limit = (self.limit + (wanted - self.limit) * QUICKLY).clamp(LEAST, MOST);
    }

    /// A call was given up: that is as slow as can be.
    pub fn given_up(&mut self) {
        self.limit = (self.limit * 0.95).clamp(LEAST, MOST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_while_calls_are_fast_and_used() {
        let mut gradient = Gradient::default();
        (0..50).for_each(|_| gradient.answered(30, 3));
        assert_eq!(gradient.limit(), 100, "nobody needs more");
        (0..200).for_each(|_| gradient.answered(30, gradient.limit()));
        assert!(gradient.limit() > 200, "{}", gradient.limit());
    }

    #[test]
    fn it_shrinks_when_calls_get_slower_and_recovers() {
        let mut gradient = Gradient::default();
        (0..500).for_each(|_| gradient.answered(30, 80));
        (0..100).for_each(|_| gradient.answered(3_000, gradient.limit()));
        let slow = gradient.limit();
        assert!(slow < 60, "{slow}");
        (0..2_000).for_each(|_| gradient.answered(30, gradient.limit()));
        assert!(gradient.limit() > 100, "{}", gradient.limit());
        (0..1_000).for_each(|_| gradient.given_up());
        assert_eq!(gradient.limit(), 8);
    }
}
