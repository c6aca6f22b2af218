//! A merchant's routing rules: which accounts, in which order, for which payments.

use providers::order::Flow;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What `PUT /v1/routing` takes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Routing)]
pub struct Routing {
    /// The first rule that matches decides. A payment that none matches goes to all accounts, oldest first.
    pub rules: Vec<Rule>,
    /// The version that the caller has seen; a change made meanwhile by somebody else is refused with 409.
    #[serde(default)]
    pub version: i32,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// For which payments; an empty object means all.
    #[serde(default)]
    pub r#match: Match,
    /// How its accounts are ordered.
    pub strategy: Strategy,
    /// Which accounts.
    pub accounts: Vec<RuleAccount>,
}

/// What a payment has to be like. A member that is absent does not matter.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Match {
    /// How the payer pays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub flow: Option<Flow>,
}

/// How the accounts of a rule are ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// As they are listed.
    Priority,
}

/// An account in a rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RuleAccount {
    /// `acct_…`
    pub id: String,
}

impl Routing {
    /// The rule for payments of this flow.
    #[must_use]
    pub fn rule(&self, flow: Flow) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.r#match.flow.is_none_or(|f| f == flow))
    }
}
