//! Points in time as the database keeps them: whole milliseconds since 1970, UTC, so that both databases
//! compare and round them alike.

use chrono::{DateTime, FixedOffset, SecondsFormat, Utc};
use serde::{Serialize, Serializer};

/// Milliseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

/// Beijing, where business days are counted: always eight hours ahead of UTC.
const BEIJING_OFFSET_S: i32 = 8 * 3600;

impl Timestamp {
    /// `ms` milliseconds later (earlier when negative); never wraps.
    #[must_use]
    pub fn plus_ms(self, ms: i64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// `s` seconds later.
    #[must_use]
    pub fn plus_s(self, s: i64) -> Self {
        self.plus_ms(s.saturating_mul(1000))
    }

    /// Milliseconds from `earlier` to here; negative when `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    /// For crates that speak chrono. Out of range (year 262,000) becomes 1970.
    #[must_use]
    pub fn utc(self) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(self.0).unwrap_or_default()
    }

    /// RFC 3339 with Beijing's offset, to the second: `2026-01-01T10:00:00+08:00`.
    #[must_use]
    pub fn rfc3339(self) -> String {
        match FixedOffset::east_opt(BEIJING_OFFSET_S) {
            Some(offset) => self.utc().with_timezone(&offset).to_rfc3339_opts(SecondsFormat::Secs, false),
            None => self.utc().to_rfc3339_opts(SecondsFormat::Secs, false),
        }
    }
}

impl From<DateTime<Utc>> for Timestamp {
    fn from(t: DateTime<Utc>) -> Self {
        Self(t.timestamp_millis())
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.rfc3339())
    }
}
