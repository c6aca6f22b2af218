//! An account as payments use it: whose it is, what it may be asked to take, and its opened
//! provider.

use std::sync::Arc;

use providers::Provider;

use super::account_limits::Terms;
use super::health::accounts::{self, Known};
use super::proof::Proof;
use crate::domain::id::AccountId;
use crate::domain::{Owner, Timestamp};

/// An account, ready to be called.
#[derive(Debug, Clone)]
pub struct Account {
    /// `acct_…`
    pub id: AccountId,
    /// Whose.
    pub owner: Owner,
    /// What people call it.
    pub name: String,
    /// Takes no new payments: switched off, or barred.
    pub disabled: bool,
    /// Its address is none that accounts may have, and this is what is wrong with it.
    pub barred: Option<String>,
    /// Basis points of the provider's fee.
    pub fee_bps: i32,
    /// Until then kept out of new payments.
    pub set_aside_until: Option<Timestamp>,
    /// Why.
    pub set_aside_reason: Option<String>,
    /// Its limits, and when it is in maintenance.
    pub terms: Terms,
    /// When it was made.
    pub created_at: Timestamp,
    /// Its provider, with all layers.
    pub provider: Arc<dyn Provider>,
    /// Whether what it is answered can be verified.
    pub proof: Arc<Proof>,
    /// Its credentials as they are stored.
    pub sealed: Vec<u8>,
    /// [`accounts::number`] of what is sealed there.
    pub credentials: u32,
}

impl Account {
    /// What health has to know of it, by its id.
    #[must_use]
    pub fn for_health(&self) -> (AccountId, Known) {
        let known = Known {
            merchant: accounts::merchant(&self.owner.merchant),
            provider: self.provider.name(),
            mode: self.owner.mode,
            address: accounts::address(self.provider.address()),
            credentials: self.credentials,
        };
        (self.id.clone(), known)
    }
}

#[cfg(test)]
impl Account {
    /// An account for tests of what chooses among accounts; `a` is `acct_a`.
    pub(crate) fn of(name: &str, provider: Arc<dyn Provider>) -> Self {
        Self {
            id: format!("acct_{name}").parse().unwrap(),
            owner: Owner::of("mer_test".parse().unwrap(), false),
            name: name.to_owned(),
            disabled: false,
            barred: None,
            fee_bps: 60,
            set_aside_until: None,
            set_aside_reason: None,
            terms: Terms::default(),
            created_at: Timestamp(0),
            provider,
            proof: Arc::default(),
            sealed: Vec::new(),
            credentials: 0,
        }
    }
}
