//! What one provider does and others do not: other charsets, probes, keys that nobody has told of,
//! coupons, and successes that are none of the plain ones. Drawn for a swarm. Pure.
#![expect(
    clippy::indexing_slicing,
    reason = "a JSON value gives null for what it has not"
)]

use rand::RngExt as _;
use rand::rngs::Xoshiro256PlusPlus as Rng;
use rand::seq::IndexedRandom as _;
use serde_json::json;

use super::plan::{Plan, fault};

/// Some of a provider's ways: faults of calls and of notifications, and ends of payments.
pub(super) fn draw(plan: &mut Plan, provider: &str, rng: &mut Rng) {
    let (calls, notifications, ends): (&[&str], &[&str], &[&str]) = match provider {
        "alipay" => (
            &["gbk", "gb18030", "again", "spaced"],
            &["gbk", "gb18030"],
            &["coupon"],
        ),
        "wechatpay" => (
            &["again", "unknown_key"],
            &["probe", "unknown_key"],
            &["coupon"],
        ),
        "unionpay" => (
            &["gbk", "gb18030", "again", "unknown_key"],
            &["gbk", "gb18030", "unknown_key"],
            &["defect", "unsettled", "unsettled_for_good"],
        ),
        _ => return,
    };

    if rng.random_range(0..3) == 0 {
        let kind = calls.choose(rng).copied().unwrap_or("again");
        // A key that is always unknown is one of an account that was set up wrongly.
        let permille = if kind == "unknown_key" {
            rng.random_range(10..200)
        } else {
            rng.random_range(100..=1_000)
        };
        plan.faults.push(fault(
            provider,
            kind,
            permille,
            rng.random_range(0..1_000_000),
        ));
    }

    if rng.random_range(0..3) == 0 {
        let kind = notifications.choose(rng).copied().unwrap_or("gbk");
        let mut body = fault(
            provider,
            kind,
            rng.random_range(100..800),
            rng.random_range(0..1_000_000),
        );
        body["call"] = "notification".into();
        plan.faults.push(body);
    }

    if rng.random_range(0..3) == 0 {
        let result = ends.choose(rng).copied().unwrap_or("plain");
        plan.payment_ends.push(
            json!({"provider": provider, "result": result, "count": rng.random_range(1..20)}),
        );
    }
}
