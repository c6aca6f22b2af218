//! How long calls take: a histogram with logarithmic buckets, four to a doubling, from 1 ms to a
//! minute. Old samples lose weight as new ones come. Never keeps a sample by itself: two histograms
//! add up to that of all their calls.
#![expect(clippy::float_arithmetic, reason = "statistics; nothing here is money")]

use serde::{Deserialize, Serialize};

/// Buckets to a doubling: each is 19 % wide.
const PER_DOUBLING: f64 = 4.0;
/// The last bucket: 65 s.
const LAST: u8 = 63;
/// As many samples are remembered at most. At 100 calls a second that is a minute and a half, at
/// one a second two hours.
const MOST: f64 = 8_192.0;

/// How long calls took.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Latencies {
    /// Bucket and weight, in order.
    buckets: Vec<(u8, f64)>,
}

impl Latencies {
    /// One more call.
    pub fn add(&mut self, ms: u32) {
        self.put(bucket(ms), 1.0);
        self.fade();
    }

    /// All calls of another histogram.
    pub fn merge(&mut self, other: &Self) {
        for (bucket, weight) in &other.buckets {
            self.put(*bucket, *weight);
        }
        self.fade();
    }

    /// How many calls are remembered; old ones count for less than one.
    #[must_use]
    pub fn weight(&self) -> f64 {
        self.buckets.iter().map(|(_, weight)| weight).sum()
    }

    /// Whether nothing is remembered.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.buckets.is_empty()
    }

    /// The time that this part of all calls (0.95) is over by, in milliseconds.
    #[must_use]
    pub fn quantile(&self, part: f64) -> Option<u32> {
        let mut left = self.weight() * part;
        let mut last = None;
        for (bucket, weight) in &self.buckets {
            let (low, high) = (edge(*bucket), edge(bucket.saturating_add(1)));
            if left <= *weight {
                return whole_ms(low + (high - low) * (left / weight).clamp(0.0, 1.0));
            }
            left -= weight;
            last = whole_ms(high);
        }
        last
    }

    /// Whether it is what our own code could have written.
    pub(super) fn is_sane(&self) -> bool {
        self.buckets
            .iter()
            .all(|(bucket, weight)| *bucket <= LAST && (0.0..=2.0 * MOST).contains(weight))
            && self.buckets.is_sorted_by(|a, b| a.0 < b.0)
    }

    fn put(&mut self, bucket: u8, weight: f64) {
        match self.buckets.binary_search_by_key(&bucket, |(b, _)| *b) {
            Ok(at) => {
                if let Some((_, sum)) = self.buckets.get_mut(at) {
                    *sum += weight;
                }
            }
            Err(at) => self.buckets.insert(at, (bucket, weight)),
        }
    }

    fn fade(&mut self) {
        let weight = self.weight();
        if weight > MOST {
            // To a half at once: rounding stays away, and so does the work of fading at every call.
            let factor = MOST / 2.0 / weight;
            self.buckets
                .iter_mut()
                .for_each(|(_, weight)| *weight *= factor);
            self.buckets.retain(|(_, weight)| *weight > 0.01);
        }
    }
}

#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "0 to 63 by then"
)]
fn bucket(ms: u32) -> u8 {
    (f64::from(ms.max(1)).log2() * PER_DOUBLING)
        .floor()
        .clamp(0.0, f64::from(LAST)) as u8
}

fn edge(bucket: u8) -> f64 {
    (f64::from(bucket) / PER_DOUBLING).exp2()
}

#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "at most 78 s"
)]
fn whole_ms(ms: f64) -> Option<u32> {
    ms.is_finite()
        .then(|| ms.clamp(1.0, 100_000.0).round() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_right_to_the_width_of_a_bucket() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.quantile(0.5), None);
        for ms in 1..=1_000 {
            latencies.add(ms);
        }
        for (part, ms) in [(0.5, 500.0), (0.95, 950.0), (0.99, 990.0), (0.999, 999.0)] {
            let found = f64::from(latencies.quantile(part).unwrap());
            assert!((found / ms - 1.0).abs() < 0.05, "{part}: {found}");
        }
    }

    #[test]
    fn what_is_merged_is_what_would_have_been_added() {
        let (mut all, mut one, mut other) = (
            Latencies::default(),
            Latencies::default(),
            Latencies::default(),
        );
        for ms in (0..5_000).map(|i| (i * 7_919) % 3_000) {
            all.add(ms);
            if ms % 3 == 0 { &mut one } else { &mut other }.add(ms);
        }
        one.merge(&other);
        assert_eq!(one, all);
    }

    #[test]
    fn what_was_long_ago_is_forgotten() {
        let mut latencies = Latencies::default();
        (0..50_000).for_each(|_| latencies.add(2_000));
        (0..50_000).for_each(|_| latencies.add(100));
        assert!(latencies.quantile(0.99).unwrap() < 130 && latencies.weight() <= MOST);
        assert!(latencies.is_sane());
    }

    #[test]
    fn the_shortest_and_the_longest_have_a_bucket_too() {
        for ms in [0, 1, 65_536, u32::MAX] {
            let mut latencies = Latencies::default();
            latencies.add(ms);
            assert!(latencies.is_sane() && latencies.quantile(0.5).is_some());
        }
    }
}
