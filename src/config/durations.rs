//! Reads durations, which are given as whole numbers of the unit that their key ends with.

use std::time::Duration;

use serde::de::Error;
use serde::{Deserialize, Deserializer};

use super::list::list;

/// Of a key `…_ms`.
pub(super) fn milliseconds<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Duration, D::Error> {
    count(i64::deserialize(deserializer)?).map(Duration::from_millis)
}

/// Of a key `…_s`.
pub(super) fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    count(i64::deserialize(deserializer)?).map(Duration::from_secs)
}

/// Of a key `…_s` that is a list.
pub(super) fn list_of_seconds<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<Duration>, D::Error> {
    let given: Vec<i64> = list(deserializer)?;
    given
        .into_iter()
        .map(|number| count(number).map(Duration::from_secs))
        .collect()
}

fn count<E: Error>(number: i64) -> Result<u64, E> {
    u64::try_from(number).map_err(|_| E::custom(format!("{number}: must not be negative")))
}

/// As it was given under this key.
pub(super) fn in_unit(key: &str, duration: Duration) -> i64 {
    let number = if key.ends_with("_ms") {
        duration.as_millis()
    } else {
        u128::from(duration.as_secs())
    };
    i64::try_from(number).unwrap_or(i64::MAX)
}
