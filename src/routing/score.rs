//! Scores, as they are shown.

#![expect(clippy::float_arithmetic, reason = "scores are no money")]

/// A score as it is shown: three digits are enough for people.
#[must_use]
pub fn shown(score: f64) -> f64 {
    (score * 1_000.0).round() / 1_000.0
}

/// A score in whole per cent: a smaller difference breaks no tie.
#[must_use]
pub fn percent(score: f64) -> f64 {
    (score * 100.0).round()
}
