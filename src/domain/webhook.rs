//! How a merchant is told of events: what a receiver has to answer, how one try can end, where a
//! delivery stands, and when it is tried again.

use std::time::Duration;

use super::{Timestamp, time};

/// A receiver's word is obeyed up to this long.
const LONGEST_RETRY_AFTER_S: i64 = 86_400;

/// What counts as "received".
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Default,
    strum::Display,
    strum::EnumString,
    serde::Serialize,
    serde::Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
#[schema(as = WebhookMode)]
pub enum Mode {
    /// Any status from 200 to 299, as Standard Webhooks says.
    #[default]
    Standard,
    /// Such a status and the body `success`, as Alipay taught shops to answer.
    SuccessBody,
}

/// Where a delivery stands.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    strum::Display,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantNames,
    serde::Serialize,
    serde::Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
#[schema(as = DeliveryStatus)]
pub enum State {
    /// It will be tried, or tried again.
    Pending,
    /// The receiver has it.
    Delivered,
    /// All tries are used up. It can be replayed.
    Failed,
    /// Its receiver is gone, disabled or removed. It can be replayed to an enabled one.
    Stopped,
}

/// How one try ended.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    strum::Display,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantNames,
    serde::Serialize,
    serde::Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
#[schema(as = DeliveryOutcome)]
pub enum End {
    /// The receiver has it.
    Delivered,
    /// 410: the receiver wants no more of them, ever.
    Gone,
    /// Any other status; redirects are not followed.
    HttpStatus,
    /// A good status without the body that the mode asks for.
    WrongBody,
    /// The address is not one that we connect to. Nothing was sent.
    ForbiddenAddress,
    /// No connection: DNS, refused, TLS. Nothing was sent.
    Unreachable,
    /// No answer in time. The receiver may have it.
    Timeout,
    /// The connection broke, or the answer is no HTTP. The receiver may have it.
    Broken,
    /// The endpoint was disabled or removed before the try. Nothing was sent.
    EndpointDisabled,
}

/// What becomes of a delivery after its `tries`-th try, this one counted, ended like this.
///
/// `ladder` are the pauses after the first, the second, … try; when they are used up, so are the
/// tries. `spread` is any number: it makes each pause up to a fifth longer, so that what failed
/// together does not come back together. The receiver's `retry_after_s` only ever makes a pause
/// longer, by a day at the most.
#[must_use]
pub fn after_try(
    end: End,
    tries: i32,
    ladder: &[Duration],
    spread: u32,
    retry_after_s: Option<i64>,
    now: Timestamp,
) -> (State, Option<Timestamp>) {
    match end {
        End::Delivered => (State::Delivered, None),
        End::Gone | End::EndpointDisabled => (State::Stopped, None),
        End::HttpStatus
        | End::WrongBody
        | End::ForbiddenAddress
        | End::Unreachable
        | End::Timeout
        | End::Broken => {
            let step = usize::try_from(tries.saturating_sub(1))
                .ok()
                .and_then(|n| ladder.get(n));
            let Some(step) = step else {
                return (State::Failed, None);
            };
            let step_ms = time::ms(*step);
            let jitter_ms = i64::from(spread)
                .checked_rem(step_ms.checked_div(5).unwrap_or(0))
                .unwrap_or(0);
            let wished_ms = retry_after_s
                .unwrap_or(0)
                .clamp(0, LONGEST_RETRY_AFTER_S)
                .saturating_mul(1000);
            (
                State::Pending,
                Some(now.plus_ms(step_ms.saturating_add(jitter_ms).max(wished_ms))),
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000);

    fn pause_ms(tries: i32, spread: u32, retry_after_s: Option<i64>) -> Option<i64> {
        let (state, at) = after_try(
            End::HttpStatus,
            tries,
            &[5, 300].map(Duration::from_secs),
            spread,
            retry_after_s,
            NOW,
        );
        assert_eq!(state == State::Pending, at.is_some());
        at.map(|at| at.since(NOW))
    }

    #[test]
    fn a_delivery_goes_down_the_ladder_and_then_fails() {
        assert_eq!(
            [1, 2, 3].map(|tries| pause_ms(tries, 0, None)),
            [Some(5_000), Some(300_000), None]
        );
    }

    #[test]
    fn a_pause_gets_longer_by_a_fifth_at_the_most_and_never_shorter() {
        for spread in [0, 1, 999, 1_000, u32::MAX] {
            let ms = pause_ms(1, spread, None).unwrap();
            assert!((5_000..6_000).contains(&ms), "{ms}");
        }
    }

    #[test]
    fn a_receivers_wish_is_obeyed_within_a_day() {
        assert_eq!(pause_ms(1, 0, Some(120)), Some(120_000));
        assert_eq!(pause_ms(1, 0, Some(1)), Some(5_000));
        assert_eq!(pause_ms(1, 0, Some(i64::MAX)), Some(86_400_000));
        assert_eq!(pause_ms(1, 0, Some(-7)), Some(5_000));
    }

    #[test]
    fn who_has_it_or_wants_no_more_is_not_asked_again() {
        for (end, state) in [
            (End::Delivered, State::Delivered),
            (End::Gone, State::Stopped),
            (End::EndpointDisabled, State::Stopped),
        ] {
            assert_eq!(
                after_try(end, 1, &[Duration::from_secs(5)], 0, Some(1), NOW),
                (state, None)
            );
        }
    }
}
