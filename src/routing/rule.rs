//! A merchant's routing: rules that say which accounts are asked in which order for which payments,
//! and when its providers are in maintenance.

use std::collections::BTreeMap;

use providers::ProviderName;
use providers::order::Flow;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::Value;
use utoipa::ToSchema;

use super::account_limits::AmountRange;
use super::time_windows::{Hours, Moment, Window};
use crate::domain::Timestamp;

/// A merchant's routing, as it is stored and shown.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Routing)]
pub struct Routing {
    /// The first rule that matches decides. A payment that none matches goes to all accounts,
    /// oldest first.
    pub rules: Vec<Rule>,
    /// When all accounts at a provider take no new payments. (`PATCH /v1/accounts/{id}` has an
    /// account's own.)
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub maintenance: Vec<ProviderWindow>,
    /// From 1, one more with every change; 0 when no routing was ever set.
    #[serde(default)]
    pub version: i32,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RoutingRule)]
pub struct Rule {
    /// For which payments; an empty object means all.
    #[serde(default)]
    pub r#match: Match,
    /// How its accounts are ordered.
    pub strategy: Strategy,
    /// Which accounts. No other is asked for a payment that this rule matches.
    pub accounts: Vec<RuleAccount>,
}

/// What a payment has to be like. A member that is absent does not matter; all that are there must
/// fit.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RoutingMatch)]
pub struct Match {
    /// How the payer pays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub flow: Option<Flow>,
    /// How much, in fen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount: Option<AmountRange>,
    /// When, by Beijing's clocks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hours: Option<Hours>,
    /// Members of the payment's metadata, and the very texts that they must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

/// How the accounts of a rule are ordered. Whatever the strategy, an account whose breaker is open,
/// that is in maintenance, set aside or at its limits is passed over.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema, strum::IntoStaticStr,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
#[schema(as = RoutingStrategy)]
pub enum Strategy {
    /// As they are listed.
    Priority,
    /// By chance: the first is drawn by the weights, and so is each next one from those that are
    /// left.
    Weighted,
    /// In turn. Each gateway counts for itself.
    RoundRobin,
    /// The one with the fewest calls on their way from this gateway; equals by their score.
    LeastInFlight,
    /// The one with the smallest `fee_bps`; equals by their score.
    LowestFee,
    /// By what is known of their health, their fee and their speed.
    Adaptive,
}

/// An account in a rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RoutingAccount)]
pub struct RuleAccount {
    /// `acct_…`
    pub id: String,
    /// For `weighted`, where each account has one: its share is this much of the sum of all, 1 to
    /// 10000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 10_000)]
    pub weight: Option<i64>,
}

/// A time in which a provider takes no new payments of the merchant: daily from `02:00` to `03:30`,
/// or once from a moment in RFC 3339 to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ProviderMaintenance)]
pub struct ProviderWindow {
    /// `alipay`, `wechatpay` or `unionpay`.
    #[serde(serialize_with = "write_provider", deserialize_with = "read_provider")]
    #[schema(value_type = String)]
    pub provider: ProviderName,
    /// When it begins.
    #[schema(value_type = String, example = "02:00")]
    pub from: Moment,
    /// When it is over, written in the same way.
    #[schema(value_type = String, example = "03:30")]
    pub to: Moment,
}

impl ProviderWindow {
    /// Its time.
    #[must_use]
    pub fn window(&self) -> Window {
        Window {
            from: self.from,
            to: self.to,
        }
    }
}

fn write_provider<S: Serializer>(provider: &ProviderName, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(provider.as_str())
}

fn read_provider<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ProviderName, D::Error> {
    let name = String::deserialize(deserializer)?;
    let known: Vec<&str> = providers::PROTOCOLS
        .iter()
        .map(|p| p.name.as_str())
        .collect();
    let expected = format!("one of {}", known.join(", "));
    name.parse()
        .map_err(|_| de::Error::invalid_value(de::Unexpected::Str(&name), &expected.as_str()))
}

/// What rules look at.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// How the payer pays.
    pub flow: Flow,
    /// How much, in fen.
    pub amount_fen: i64,
    /// The merchant's own members.
    pub metadata: &'a Value,
    /// When.
    pub now: Timestamp,
}

impl Match {
    /// Whether a payment is like this.
    #[must_use]
    pub fn fits(&self, facts: Facts<'_>) -> bool {
        let is = |(name, text): (&String, &String)| {
            facts.metadata.get(name).and_then(Value::as_str) == Some(text)
        };
        self.flow.is_none_or(|flow| flow == facts.flow)
            && self
                .amount
                .is_none_or(|range| range.holds(facts.amount_fen))
            && self
                .hours
                .as_ref()
                .is_none_or(|hours| hours.hold(facts.now.in_beijing()))
            && self.metadata.iter().all(is)
    }

    /// Whether every payment of a flow is like this.
    #[must_use]
    pub fn fits_all_of(&self, flow: Flow) -> bool {
        self.may_fit(flow)
            && self.amount.is_none()
            && self.hours.is_none()
            && self.metadata.is_empty()
    }

    /// Whether some payment of a flow may be like this.
    #[must_use]
    pub fn may_fit(&self, flow: Flow) -> bool {
        self.flow.is_none_or(|f| f == flow)
    }
}

impl Routing {
    /// The rule that decides about a payment, and its place.
    #[must_use]
    pub fn rule(&self, facts: Facts<'_>) -> Option<(usize, &Rule)> {
        self.rules
            .iter()
            .enumerate()
            .find(|(_, rule)| rule.r#match.fits(facts))
    }

    /// Whether a provider is in maintenance.
    #[must_use]
    pub fn in_maintenance(&self, provider: ProviderName, now: Timestamp) -> bool {
        self.maintenance
            .iter()
            .any(|m| m.provider == provider && m.window().holds(now))
    }

    /// For how many seconds a provider is still in maintenance; `None` when it is not.
    #[must_use]
    pub fn maintained_for_s(&self, provider: ProviderName, now: Timestamp) -> Option<i64> {
        let of_it = self
            .maintenance
            .iter()
            .filter(|m| m.provider == provider)
            .map(|m| m.window());
        of_it
            .filter(|window| window.holds(now))
            .map(|window| window.left_s(now))
            .max()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn routing_that_was_stored_before_is_still_read() {
        let stored = json!({"rules": [{"match": {"flow": "qr"}, "strategy": "priority",
            "accounts": [{"id": "acct_1"}]},
            {"strategy": "priority", "accounts": [{"id": "acct_1"}]}], "version": 7});
        let routing: Routing = serde_json::from_value(stored).unwrap();
        assert_eq!((routing.rules.len(), routing.version), (2, 7));
        assert_eq!(routing.rules[1].r#match, Match::default());
        // And it is written as before, so that a gateway of the version before can read it.
        let again = json!({"rules": [
            {"match": {"flow": "qr"}, "strategy": "priority", "accounts": [{"id": "acct_1"}]},
            {"match": {}, "strategy": "priority", "accounts": [{"id": "acct_1"}]}], "version": 7});
        assert_eq!(serde_json::to_value(&routing).unwrap(), again);
    }

    #[test]
    fn everything_that_a_rule_names_must_fit() {
        let wanted: Match =
            serde_json::from_value(json!({"flow": "qr", "amount": {"min": 100, "max": 200},
            "hours": {"from": "08:00", "to": "09:00"}, "metadata": {"shop": "7", "kind": "vip"}}))
            .unwrap();
        let metadata = json!({"shop": "7", "kind": "vip", "more": 1});

        // 2026-01-01T08:30:00+08:00.
        let good = Facts {
            flow: Flow::Qr,
            amount_fen: 100,
            metadata: &metadata,
            now: Timestamp(1_767_227_400_000),
        };

        assert!(wanted.fits(good));
        assert!(!wanted.fits(Facts {
            flow: Flow::Barcode,
            ..good
        }));
        assert!(!wanted.fits(Facts {
            amount_fen: 201,
            ..good
        }));

        assert!(!wanted.fits(Facts {
            now: good.now.plus_s(1_800),
            ..good
        }));

        for other in [
            json!({}),
            json!({"shop": 7, "kind": "vip"}),
            json!({"shop": "7", "kind": "VIP"}),
        ] {
            assert!(
                !wanted.fits(Facts {
                    metadata: &other,
                    ..good
                }),
                "{other}"
            );
        }

        assert!(!wanted.fits_all_of(Flow::Qr) && wanted.may_fit(Flow::Qr));
        assert!(Match::default().fits_all_of(Flow::Qr) && Match::default().fits(good));
    }
}
