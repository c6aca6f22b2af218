//! How often a provider lets itself be asked: unlimited until it complains, then three quarters of
//! what it was asked just now, then slowly more. The account's owner may say a number, too.
#![expect(clippy::float_arithmetic, reason = "calls per second")]

/// What is left of the rate after a complaint.
const CUT: f64 = 0.75;
/// Complaints about one burst are one.
const PATIENCE_MS: i64 = 1_000;
/// How much more is dared each second.
const GROWTH: f64 = 0.02;
/// Without a complaint for so long, nothing is limited any more.
const FORGOTTEN_MS: i64 = 300_000;
/// Never fewer calls a second: no provider's limit is that low. Who complains at such a pace is
/// busy with others, and a till whose code belongs to it has nowhere else to go.
const LEAST: f64 = 5.0;

/// The rate of one route. Times are milliseconds.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rate {
    /// Calls in this second and in the last one, and when this one began.
    this_second: f64,
    last_second: f64,
    second_ms: i64,
    /// So many a second, since it complained.
    learned: Option<f64>,
    complained_ms: i64,
    tokens: f64,
    /// `None`: full, since nobody has asked yet.
    filled_ms: Option<i64>,
}

impl Rate {
    /// Whether another call may be made.
    pub fn has_room(&mut self, owners: Option<u32>, now_ms: i64) -> bool {
        let Some(per_second) = self.limit(owners, now_ms) else {
            return true;
        };
        // A second's worth at once at the most.
        let most = per_second.max(1.0);
        let gone_s = self
            .filled_ms
            .map_or(most, |filled_ms| seconds(now_ms.saturating_sub(filled_ms)));
        self.tokens = (self.tokens + gone_s * per_second).min(most);
        self.filled_ms = Some(now_ms);
        self.tokens >= 1.0
    }

    /// A call is made.
    pub fn take(&mut self, now_ms: i64) {
        self.roll(now_ms);
        self.this_second += 1.0;
        self.tokens = (self.tokens - 1.0).max(0.0);
    }

    /// The provider said that it is asked too often.
    pub fn refused(&mut self, now_ms: i64) {
        if self.learned.is_some() && now_ms.saturating_sub(self.complained_ms) < PATIENCE_MS {
            return;
        }
        self.roll(now_ms);
        let asked = self.this_second.max(self.last_second);
        let before = self.grown(now_ms).unwrap_or(asked).min(asked);
        self.learned = Some((before * CUT).max(LEAST));
        self.complained_ms = now_ms;
        self.filled_ms = Some(now_ms);
        self.tokens = 1.0;
    }

    /// So many calls a second at the most, since it complained.
    #[expect(
        clippy::as_conversions,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "calls a second"
    )]
    pub fn learned(&self, now_ms: i64) -> Option<u32> {
        self.grown(now_ms).map(|rate| rate.clamp(1.0, 1e6) as u32)
    }

    fn grown(&self, now_ms: i64) -> Option<f64> {
        let since_ms = now_ms.saturating_sub(self.complained_ms);
        self.learned
            .filter(|_| since_ms < FORGOTTEN_MS)
            .map(|rate| rate * (1.0 + GROWTH * seconds(since_ms)))
    }

    fn limit(&self, owners: Option<u32>, now_ms: i64) -> Option<f64> {
        let owners = owners.map(f64::from);
        match (self.grown(now_ms), owners) {
            (Some(learned), Some(owners)) => Some(learned.min(owners)),
            (learned, owners) => learned.or(owners),
        }
    }

    fn roll(&mut self, now_ms: i64) {
        let gone = now_ms.saturating_sub(self.second_ms);
        if gone >= 1_000 {
            self.last_second = if gone < 2_000 { self.this_second } else { 0.0 };
            (self.this_second, self.second_ms) = (0.0, now_ms);
        }
    }
}

fn seconds(ms: i64) -> f64 {
    f64::from(i32::try_from(ms.max(0)).unwrap_or(i32::MAX)) / 1_000.0
}
