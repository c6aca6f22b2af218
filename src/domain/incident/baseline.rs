//! What is usual, and how far beyond it trouble begins: limits learned from a subject's own
//! history, between two fixed ones. Whole numbers only. Pure.

/// With fewer samples nothing is known yet, and the lower limit counts.
const ENOUGH: i64 = 30;
/// A new sample weighs as much as one of so many.
const MEMORY: i64 = 1_000;
/// So many spreads beyond the mean are not usual any more.
const SPREADS: i64 = 6;
/// So many times as many failures as usual are trouble …
const TIMES: i64 = 5;
/// … and so many in a thousand on top, for what hardly ever fails.
const ON_TOP: i64 = 20;

/// What was usual so far: milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Baseline {
    /// The mean.
    pub mean_ms: i64,
    /// The mean distance from the mean.
    pub spread_ms: i64,
    /// Of so many samples.
    pub samples: i64,
}

impl Baseline {
    /// One more sample, taken while all is well.
    #[must_use]
    pub fn learned(self, sample_ms: i64) -> Self {
        let samples = self.samples.saturating_add(1).min(MEMORY);
        let step = |from: i64, to: i64| from + (to - from).checked_div(samples).unwrap_or(0);
        let sample_ms = sample_ms.max(0);
        let mean_ms = step(self.mean_ms, sample_ms);
        Self {
            mean_ms,
            spread_ms: step(self.spread_ms, (sample_ms - mean_ms).abs()),
            samples,
        }
    }

    /// From here on it is trouble: never before `least_ms`, always from `most_ms` on.
    #[must_use]
    pub fn limit_ms(self, least_ms: i64, most_ms: i64) -> i64 {
        if self.samples < ENOUGH {
            return least_ms;
        }
        self.mean_ms
            .saturating_add(self.spread_ms.saturating_mul(SPREADS))
            .max(least_ms)
            .min(most_ms)
    }
}

/// How many calls in a thousand may fail, when so many in a thousand do in the long run: never
/// fewer than `least`, never more than `most`.
#[must_use]
pub fn failing_limit(usual: i64, least: i64, most: i64) -> i64 {
    usual
        .saturating_mul(TIMES)
        .saturating_add(ON_TOP)
        .max(least)
        .min(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(samples: impl IntoIterator<Item = i64>) -> Baseline {
        samples
            .into_iter()
            .fold(Baseline::default(), Baseline::learned)
    }

    #[test]
    fn what_is_always_late_is_late_later_but_not_for_ever() {
        let alternating =
            |low, high, count| (0..count).map(move |n| if n % 2 == 0 { low } else { high });

        for (usual, limit_ms) in [
            (Baseline::default(), 60_000),
            (after(alternating(500_000, 500_000, 29)), 60_000),
            (after(alternating(0, 0, 500)), 60_000),
            (after(alternating(1_000, 3_000, 500)), 60_000),
            (after(alternating(200_000, 200_000, 500)), 200_000),
            (after(alternating(500_000, 900_000, 500)), 900_000),
        ] {
            let found = usual.limit_ms(60_000, 900_000);
            assert!(
                (found - limit_ms).abs() <= limit_ms / 50,
                "{usual:?}: {found}, not {limit_ms}"
            );
        }
    }

    #[test]
    fn a_day_of_something_else_changes_what_is_usual_slowly() {
        let calm = after((0..5_000).map(|_| 10_000));
        let shaken = (0..10).fold(calm, |usual, _| usual.learned(60_000));
        assert!((10_000..11_000).contains(&shaken.mean_ms), "{shaken:?}");
        let moved = (0..5_000).fold(calm, |usual, _| usual.learned(60_000));
        assert!(moved.mean_ms > 58_000, "{moved:?}");
    }

    #[test]
    fn a_route_that_often_fails_may_fail_more_often() {
        for (usual, limit) in [
            (0, 50),
            (2, 50),
            (10, 70),
            (50, 270),
            (200, 500),
            (1_000, 500),
        ] {
            assert_eq!(
                failing_limit(usual, 50, 500),
                limit,
                "usually {usual} in a thousand"
            );
        }
    }
}
