//! Which flows a routing leaves without a route: asked before a change, so that nobody cuts a
//! checkout off without meaning to. Pure.

use std::collections::BTreeSet;
use std::sync::Arc;

use providers::order::Flow;
use strum::IntoEnumIterator as _;

use super::rule::{Routing, Rule};
use crate::routing::account::Account;

/// The flows of which some payments, or all, have none of an owner's accounts that is switched on
/// and serves the flow. Limits, windows and what a provider refuses for the moment do not count:
/// they pass.
#[must_use]
pub fn gaps(
    accounts: &[Arc<Account>],
    routing: &Routing,
    is_on: &dyn Fn(&Account) -> bool,
) -> BTreeSet<Flow> {
    let is_open = |flow: &Flow| {
        let serves = |account: &Account| {
            is_on(account) && account.provider.capabilities().flow(*flow).is_some()
        };
        let leads_nowhere = |rule: &Rule| {
            !accounts
                .iter()
                .any(|a| rule.accounts.iter().any(|r| r.id == a.id) && serves(a))
        };
        let of_flow: Vec<&Rule> = routing
            .rules
            .iter()
            .filter(|rule| rule.r#match.may_fit(*flow))
            .collect();
        // No payment of the flow comes past the first rule that matches all of them.
        match of_flow
            .iter()
            .position(|rule| rule.r#match.fits_all_of(*flow))
        {
            Some(last) => of_flow
                .iter()
                .take(last + 1)
                .any(|rule| leads_nowhere(rule)),
            None => {
                of_flow.iter().any(|rule| leads_nowhere(rule))
                    || !accounts.iter().any(|a| serves(a))
            }
        }
    };

    Flow::iter().filter(is_open).collect()
}

/// The first flow that had a route for all its payments and would not have one any more.
#[must_use]
pub fn newly_open(before: &BTreeSet<Flow>, after: &BTreeSet<Flow>) -> Option<Flow> {
    after.difference(before).next().copied()
}

#[cfg(test)]
mod tests {
    use providers::memory::Memory;
    use providers::provider::Ending;
    use serde_json::{Value, json};

    use super::*;

    /// `a` and `b` serve codes to scan, `c` charges over codes.
    fn accounts() -> Vec<Arc<Account>> {
        let of = |name: &str, ending| {
            Arc::new(Account::of(
                name,
                Arc::new(Memory::new(Memory::NAME, ending)),
            ))
        };
        vec![
            of("a", Ending::Close),
            of("b", Ending::Close),
            of("c", Ending::Reverse),
        ]
    }

    /// The flows that have no route with these rules, without these accounts.
    fn open(rules: Value, off: &[&str]) -> Vec<Flow> {
        let routing: Routing = serde_json::from_value(json!({ "rules": rules })).unwrap();
        let found = gaps(&accounts(), &routing, &|account| {
            !off.contains(&account.name.as_str())
        });
        let served = [Flow::Qr, Flow::Barcode];
        found
            .into_iter()
            .filter(|flow| served.contains(flow))
            .collect()
    }

    #[test]
    fn a_flow_has_a_route_when_whatever_decides_about_it_leads_to_an_account() {
        let rule = |wanted: Value, accounts: &[&str]| {
            let named = accounts.iter().map(|name| format!("acct_{name}"));
            let accounts: Vec<Value> = named.map(|id| json!({ "id": id })).collect();
            json!({"match": wanted, "strategy": "priority", "accounts": accounts})
        };
        let (qr, barcode) = (json!({"flow": "qr"}), json!({"flow": "barcode"}));
        let some = json!({"flow": "qr", "amount": {"max": 100}});

        for (rules, off, flows) in [
            (json!([]), vec![], vec![]),
            (json!([]), vec!["a"], vec![]),
            (json!([]), vec!["a", "b"], vec![Flow::Qr]),
            (
                json!([]),
                vec!["a", "b", "c"],
                vec![Flow::Qr, Flow::Barcode],
            ),
            (
                json!([rule(json!({}), &["a"])]),
                vec![],
                vec![Flow::Barcode],
            ),
            (
                json!([rule(json!({}), &["a", "c"])]),
                vec!["a"],
                vec![Flow::Qr],
            ),
            (json!([rule(qr.clone(), &["a"])]), vec![], vec![]),
            (json!([rule(qr.clone(), &["c"])]), vec![], vec![Flow::Qr]),
            (
                json!([rule(barcode, &["c"]), rule(json!({}), &["b"])]),
                vec![],
                vec![],
            ),
            // Only some payments get there, but those have no route.
            (
                json!([rule(some.clone(), &["a"])]),
                vec!["a"],
                vec![Flow::Qr],
            ),
            // Nobody gets there: the first rule takes all of the flow.
            (
                json!([rule(qr, &["b"]), rule(some, &["a"])]),
                vec!["a"],
                vec![],
            ),
        ] {
            assert_eq!(open(rules.clone(), &off), flows, "{rules} without {off:?}");
        }
    }

    #[test]
    fn only_what_was_served_before_counts() {
        let of = |flows: &[Flow]| flows.iter().copied().collect();
        let (none, qr, both): (BTreeSet<_>, BTreeSet<_>, BTreeSet<_>) =
            (of(&[]), of(&[Flow::Qr]), of(&[Flow::Qr, Flow::Barcode]));
        assert_eq!(newly_open(&none, &qr), Some(Flow::Qr));
        assert_eq!(newly_open(&qr, &both), Some(Flow::Barcode));
        assert_eq!(
            (newly_open(&qr, &qr), newly_open(&both, &none)),
            (None, None)
        );
    }
}
