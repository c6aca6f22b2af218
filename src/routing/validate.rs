//! What is wrong with a routing that somebody wants to set. Pure: the merchant's accounts come in.

use super::rule::{Routing, Rule, Strategy};
use super::time_windows::{self, MAX_WINDOWS};
use super::validation_error::ValidationError;

/// Rules of one merchant, at most.
const MAX_RULES: usize = 50;
/// Accounts of one rule, at most.
const MAX_ACCOUNTS: usize = 100;
/// Members of metadata that one rule looks at, at most, and the length of each.
const MAX_METADATA: usize = 10;
const MAX_METADATA_CHARS: usize = 500;
/// The largest weight.
const MAX_WEIGHT: i64 = 10_000;

/// Finds what is wrong with a routing of a merchant who has the accounts `own`.
///
/// # Errors
/// The first member that cannot be as it is.
pub fn validate(routing: &Routing, own: &[&str]) -> Result<(), ValidationError> {
    if routing.rules.len() > MAX_RULES {
        return Err(ValidationError::new(
            "rules",
            format!("At most {MAX_RULES} rules."),
        ));
    }

    for (r, rule) in routing.rules.iter().enumerate() {
        check_match(rule, &format!("rules[{r}].match"))?;
        check_accounts(rule, &format!("rules[{r}].accounts"), own)?;
    }
    if routing.maintenance.len() > MAX_WINDOWS {
        return Err(ValidationError::new(
            "maintenance",
            format!("At most {MAX_WINDOWS} windows."),
        ));
    }

    for protocol in providers::PROTOCOLS {
        let its = routing
            .maintenance
            .iter()
            .enumerate()
            .filter(|(_, window)| window.provider == protocol.name);
        let named: Vec<_> = its
            .map(|(n, window)| (window.window(), format!("maintenance[{n}]")))
            .collect();
        time_windows::check_windows(&named)?;
    }

    Ok(())
}

fn check_match(rule: &Rule, at: &str) -> Result<(), ValidationError> {
    let wanted = &rule.r#match;
    if let Some(amount) = &wanted.amount {
        amount.check(&format!("{at}.amount"))?;
    }
    if let Some(hours) = &wanted.hours {
        hours.check(&format!("{at}.hours"))?;
    }
    if wanted.metadata.len() > MAX_METADATA {
        return Err(ValidationError::new(
            format!("{at}.metadata"),
            format!("At most {MAX_METADATA} members."),
        ));
    }

    for (name, value) in &wanted.metadata {
        let too_long =
            |text: &str| text.chars().count() > MAX_METADATA_CHARS || text.contains('\0');
        if name.is_empty() || too_long(name) || too_long(value) {
            let detail = format!(
                "Names and texts of at most {MAX_METADATA_CHARS} characters without NUL are needed."
            );
            return Err(ValidationError::new(
                format!("{at}.metadata.{name}"),
                detail,
            ));
        }
    }

    Ok(())
}

fn check_accounts(rule: &Rule, at: &str, own: &[&str]) -> Result<(), ValidationError> {
    if rule.accounts.is_empty() {
        return Err(ValidationError::new(
            at,
            "A rule names at least one account.",
        ));
    }

    if rule.accounts.len() > MAX_ACCOUNTS {
        return Err(ValidationError::new(
            at,
            format!("At most {MAX_ACCOUNTS} accounts."),
        ));
    }

    for (a, account) in rule.accounts.iter().enumerate() {
        if !own.contains(&account.id.as_str()) {
            return Err(ValidationError::new(
                format!("{at}[{a}].id"),
                "You have no such account.",
            ));
        }
        if rule
            .accounts
            .iter()
            .take(a)
            .any(|earlier| earlier.id == account.id)
        {
            return Err(ValidationError::new(
                format!("{at}[{a}].id"),
                "An account is named once in a rule.",
            ));
        }
        let wrong = match (rule.strategy, account.weight) {
            (Strategy::Weighted, None) => {
                Some("The strategy weighted needs a weight for each account.".to_owned())
            }
            (Strategy::Weighted, Some(weight)) => {
                let detail = || format!("A weight is a whole number from 1 to {MAX_WEIGHT}.");
                (!(1..=MAX_WEIGHT).contains(&weight)).then(detail)
            }
            (_, Some(_)) => Some("Only the strategy weighted has weights.".to_owned()),
            (_, None) => None,
        };
        if let Some(detail) = wrong {
            return Err(ValidationError::new(format!("{at}[{a}].weight"), detail));
        }
    }

    Ok(())
}
