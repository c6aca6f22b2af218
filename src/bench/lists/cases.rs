//! Every list with every filter that the API takes, alone and together, on its first page and on
//! one deep inside. The values are those of lives in the middle of the year.

use std::slice;
use std::str::FromStr;

use super::super::fill::{self, FillError, Shop, World};
use crate::domain::attempt::State as AttemptState;
use crate::domain::ledger::LedgerAccount;
use crate::domain::payment::State;
use crate::domain::webhook::State as DeliveryState;
use crate::domain::{Owner, Timestamp};
use crate::store::{
    self, DeliveryFilter, EventFilter, KeyFilter, LedgerFilter, Life, OperationFilter,
    PaymentFilter, Store,
};

/// As many as the API gives when it is not told, and one more, which says whether there are more.
pub const PAGE: u64 = 20 + 1;
/// The same where it is told to give as many as it does.
pub const LONGEST_PAGE: u64 = 100 + 1;

/// What is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display)]
#[strum(serialize_all = "snake_case")]
pub enum List {
    /// `/v1/payments`
    Payments,
    /// `/v1/refunds`
    Refunds,
    /// `/v1/events`
    Events,
    /// `/v1/deliveries`
    Deliveries,
    /// `/v1/operations`
    Operations,
    /// `/v1/ledger`
    Ledger,
    /// `/v1/keys`
    Keys,
    /// `/v1/webhook_endpoints`
    WebhookEndpoints,
    /// `/v1/routing/versions`
    Routing,
}

/// One question to a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// Which list.
    pub list: List,
    /// Whose.
    pub owner: Owner,
    /// Parameters of the API, and their values: times in milliseconds.
    pub filters: Vec<(&'static str, String)>,
    /// At most so many.
    pub limit: u64,
}

impl Case {
    /// The value of a parameter.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&str> {
        self.filters
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value.as_str())
    }

    fn text(&self, name: &str) -> Option<String> {
        self.value(name).map(str::to_owned)
    }

    fn word<T: FromStr>(&self, name: &str) -> Option<T> {
        self.value(name).and_then(|text| text.parse().ok())
    }

    fn time(&self, name: &str) -> Option<Timestamp> {
        self.word(name).map(Timestamp)
    }

    /// How it is written in an address.
    #[must_use]
    pub fn query(&self) -> String {
        let mut names: Vec<String> = self
            .filters
            .iter()
            .map(|(name, value)| match *name {
                "status" | "type" | "kind" | "ledger_account" => format!("{name}={value}"),
                name => format!("{name}="),
            })
            .collect();

        if self.limit != PAGE {
            names.push(format!("limit={}", self.limit - 1));
        }
        if names.is_empty() {
            "-".to_owned()
        } else {
            names.join("&")
        }
    }

    /// Asks as the API does, and returns the ids of what it would show.
    ///
    /// # Errors
    /// The database's.
    pub async fn ask(&self, store: &Store) -> Result<Vec<String>, store::Error> {
        match self.list {
            List::Payments => self.payments(store).await,
            List::Refunds => {
                let (payment, after) = (self.value("payment"), self.word("starting_after"));
                if let Some(after) = &after {
                    store.refund_of(&self.owner, after).await?;
                }
                let found = store
                    .refunds(&self.owner, payment, after.as_ref(), self.limit)
                    .await?;
                Ok(found.into_iter().map(|refund| refund.id.into()).collect())
            }
            List::Events => self.events(store).await,
            List::Deliveries => self.deliveries(store).await,
            List::Operations => self.operations(store).await,
            List::Ledger => self.ledger(store).await,
            List::Keys => {
                let filter = KeyFilter {
                    starting_after: None,
                    limit: self.limit,
                };
                Ok(store
                    .keys_of(&self.owner, &filter)
                    .await?
                    .into_iter()
                    .map(|key| key.id)
                    .collect())
            }
            List::WebhookEndpoints => Ok(store
                .endpoints_of(&self.owner)
                .await?
                .into_iter()
                .map(|endpoint| endpoint.id)
                .collect()),
            List::Routing => {
                let found = store
                    .routing_versions(&self.owner, self.word("starting_after"), self.limit)
                    .await?;
                Ok(found
                    .into_iter()
                    .map(|row| row.version.to_string())
                    .collect())
            }
        }
    }

    async fn payments(&self, store: &Store) -> Result<Vec<String>, store::Error> {
        let starting_after = self.word("starting_after");
        if let Some(after) = &starting_after {
            store.payment_of(&self.owner, after).await?;
        }
        let filter = PaymentFilter {
            order_id: self.text("order_id"),
            status: self.word("status"),
            provider_transaction_id: self.text("provider_transaction_id"),
            created_from: self.time("created_from"),
            starting_after,
            limit: self.limit,
        };

        Ok(store
            .payments(&self.owner, &filter)
            .await?
            .into_iter()
            .map(|found| found.payment.id.into())
            .collect())
    }

    async fn events(&self, store: &Store) -> Result<Vec<String>, store::Error> {
        let starting_after = self.word("starting_after");
        if let Some(after) = &starting_after {
            store.event_of(&self.owner, after).await?;
        }
        let filter = EventFilter {
            kind: self.text("type"),
            payment_id: self.text("payment"),
            created_from: self.time("created_from"),
            starting_after,
            limit: self.limit,
        };

        Ok(store
            .events(&self.owner, &filter)
            .await?
            .into_iter()
            .map(|event| event.id.into())
            .collect())
    }

    async fn deliveries(&self, store: &Store) -> Result<Vec<String>, store::Error> {
        if let Some(after) = self.value("starting_after") {
            store.delivery_of(&self.owner, after).await?;
        }
        let filter = DeliveryFilter {
            event_id: self.text("event"),
            endpoint_id: self.text("endpoint"),
            status: self.word("status"),
            starting_after: self.text("starting_after"),
            limit: self.limit,
        };
        let found = store.deliveries(&self.owner, &filter).await?;
        let ids: Vec<String> = found.into_iter().map(|delivery| delivery.id).collect();
        store.tries_of(ids.clone()).await?;
        Ok(ids)
    }

    async fn operations(&self, store: &Store) -> Result<Vec<String>, store::Error> {
        let starting_after = match self.word("starting_after") {
            Some(id) => store.operation_of(&self.owner, &id).await?,
            None => None,
        };
        let resolved = self.value("status").map(|status| status == "resolved");
        let filter = OperationFilter {
            kind: self.text("kind"),
            resolved,
            starting_after,
            limit: self.limit,
        };

        Ok(store
            .operations(&self.owner, &filter)
            .await?
            .into_iter()
            .map(|entry| entry.id.into())
            .collect())
    }

    async fn ledger(&self, store: &Store) -> Result<Vec<String>, store::Error> {
        let after = self.value("starting_after").and_then(|id| {
            let (payment_id, seq) = id.split_once('.')?;
            Some((payment_id.parse().ok()?, seq.parse().ok()?))
        });
        let after = match after {
            Some((payment_id, seq)) => store.ledger_entry(&self.owner, &payment_id, seq).await?,
            None => None,
        };

        let filter = LedgerFilter {
            payment_id: self.text("payment"),
            account_id: self.text("account"),
            ledger_account: self.word("ledger_account"),
            from: self.time("created_from"),
            until: self.time("created_until"),
        };
        let found = store
            .ledger_entries(&self.owner, &filter, after.as_ref(), self.limit)
            .await?;

        Ok(found
            .into_iter()
            .map(|entry| format!("{}.{}", entry.payment_id, entry.seq))
            .collect())
    }
}

type Filter = (&'static str, String);

/// All cases, of the merchant that has most.
///
/// # Errors
/// As [`fill::life`].
pub fn cases(world: &World) -> Result<Vec<Case>, FillError> {
    let shop = world.shops.first().ok_or(FillError::Nobody)?;
    let mut all = Cases {
        owner: shop.owner.clone(),
        cases: Vec::new(),
    };
    let paid = find(world, shop, |life| {
        has(life, |a| {
            a.payment.status == State::Succeeded && a.refunds.is_empty()
        })
    })?;

    payments(world, shop, &paid, &mut all)?;
    refunds(world, shop, &mut all)?;
    events(world, shop, &paid, &mut all)?;
    deliveries(shop, &paid, &mut all);
    operations(world, shop, &mut all)?;
    ledger(shop, &paid, &mut all);
    for list in [List::Keys, List::WebhookEndpoints, List::Routing] {
        all.add(list, &[], None);
    }

    Ok(all.cases)
}

struct Cases {
    owner: Owner,
    cases: Vec<Case>,
}

impl Cases {
    /// These filters, on the first page and, where there is a row to begin after, on a later one.
    fn add(&mut self, list: List, filters: &[Filter], cursor: Option<&str>) {
        let case = Case {
            list,
            owner: self.owner.clone(),
            filters: filters.to_vec(),
            limit: PAGE,
        };

        if filters.is_empty() {
            self.cases.push(Case {
                limit: LONGEST_PAGE,
                ..case.clone()
            });
        }

        if let Some(cursor) = cursor {
            let mut later = case.clone();
            later.filters.push(("starting_after", cursor.to_owned()));
            self.cases.push(later);
        }

        self.cases.push(case);
    }
}

/// The life in the middle of the year, or the next one that is as wanted.
fn find(world: &World, shop: &Shop, wanted: impl Fn(&Life) -> bool) -> Result<Life, FillError> {
    let middle = world.plan.payments / 2;
    for n in (middle..world.plan.payments).chain(0..middle) {
        let life = fill::life(world, n)?;
        let is_theirs = life
            .end()
            .is_some_and(|end| end.after().payment.owner == shop.owner);
        if is_theirs && wanted(&life) {
            return Ok(life);
        }
    }
    Err(FillError::Nobody)
}

fn has(life: &Life, is_so: impl Fn(&crate::domain::Aggregate) -> bool) -> bool {
    life.end().is_some_and(|end| is_so(end.after()))
}

fn of<T>(
    life: &Life,
    what: impl Fn(&crate::domain::Aggregate) -> Option<T>,
) -> Result<T, FillError> {
    life.end()
        .and_then(|end| what(end.after()))
        .ok_or(FillError::Nobody)
}

fn payments(world: &World, shop: &Shop, paid: &Life, all: &mut Cases) -> Result<(), FillError> {
    use strum::IntoEnumIterator as _;

    let expired = find(world, shop, |life| {
        has(life, |a| a.payment.status == State::Expired)
    })?;
    let cursor = of(paid, |a| Some(a.payment.id.to_string()))?;
    let from = (
        "created_from",
        of(paid, |a| Some(a.payment.created_at.0.to_string()))?,
    );
    let order = |life: &Life| of(life, |a| Some(("order_id", a.payment.order_id.clone())));
    let captured = |a: &crate::domain::Aggregate| {
        let captured = a
            .attempts
            .iter()
            .find(|attempt| attempt.status == AttemptState::Captured)?;
        captured.provider_transaction_id.clone()
    };
    let transaction = ("provider_transaction_id", of(paid, captured)?);
    let status = |state: State| ("status", state.to_string());

    let mut filters: Vec<Vec<Filter>> = vec![vec![], vec![from.clone()], vec![transaction.clone()]];
    for state in State::iter() {
        filters.push(vec![status(state)]);
        filters.push(vec![status(state), from.clone()]);
    }
    for (life, state) in [(paid, State::Succeeded), (&expired, State::Expired)] {
        filters.push(vec![order(life)?]);
        filters.push(vec![order(life)?, from.clone()]);
        filters.push(vec![order(life)?, status(state)]);
        filters.push(vec![order(life)?, status(state), from.clone()]);
    }
    filters.push(vec![transaction.clone(), status(State::Succeeded)]);
    filters.push(vec![transaction.clone(), from.clone()]);
    filters.push(vec![transaction.clone(), order(paid)?]);
    filters.push(vec![
        transaction,
        order(paid)?,
        status(State::Succeeded),
        from,
    ]);
    filters
        .iter()
        .for_each(|filters| all.add(List::Payments, filters, Some(&cursor)));
    Ok(())
}

fn refunds(world: &World, shop: &Shop, all: &mut Cases) -> Result<(), FillError> {
    let refunded = find(world, shop, |life| has(life, |a| !a.refunds.is_empty()))?;
    let cursor = of(&refunded, |a| {
        a.refunds.first().map(|refund| refund.id.to_string())
    })?;
    let payment = (
        "payment",
        of(&refunded, |a| Some(a.payment.id.to_string()))?,
    );
    all.add(List::Refunds, &[], Some(&cursor));
    all.add(List::Refunds, &[payment], Some(&cursor));
    Ok(())
}

fn events(world: &World, shop: &Shop, paid: &Life, all: &mut Cases) -> Result<(), FillError> {
    let told = |life: &Life| {
        life.changes
            .iter()
            .flat_map(|change| change.events())
            .last()
            .map(|event| event.id.to_string())
    };
    let cursor = told(paid).ok_or(FillError::Nobody)?;
    let from = (
        "created_from",
        of(paid, |a| Some(a.payment.created_at.0.to_string()))?,
    );
    let late = find(world, shop, |life| {
        life.changes
            .iter()
            .flat_map(|change| change.events())
            .any(|event| event.kind == "payment.late_captured")
    })?;
    let payment = ("payment", of(&late, |a| Some(a.payment.id.to_string()))?);
    let kinds = [
        "payment.succeeded",
        "payment.late_captured",
        "refund.abnormal",
        "payment.action_changed",
    ];

    all.add(List::Events, &[], Some(&cursor));
    all.add(List::Events, slice::from_ref(&from), Some(&cursor));
    for kind in kinds {
        let kind = ("type", kind.to_owned());
        all.add(List::Events, slice::from_ref(&kind), Some(&cursor));
        all.add(List::Events, &[kind.clone(), from.clone()], Some(&cursor));
        all.add(List::Events, &[kind, payment.clone()], Some(&cursor));
    }
    all.add(
        List::Events,
        slice::from_ref(&payment),
        told(&late).as_deref(),
    );
    all.add(List::Events, &[payment, from], told(&late).as_deref());
    Ok(())
}

fn deliveries(shop: &Shop, paid: &Life, all: &mut Cases) {
    let Some(delivery) = paid.deliveries.last() else {
        return;
    };
    let cursor = Some(delivery.id.as_str());
    let event = ("event", delivery.event_id.to_string());
    let states = [
        DeliveryState::Pending,
        DeliveryState::Delivered,
        DeliveryState::Failed,
        DeliveryState::Stopped,
    ];
    let statuses = states.map(|state| ("status", state.to_string()));

    all.add(List::Deliveries, &[], cursor);
    all.add(List::Deliveries, slice::from_ref(&event), cursor);
    for status in &statuses {
        all.add(List::Deliveries, slice::from_ref(status), cursor);
        all.add(List::Deliveries, &[event.clone(), status.clone()], cursor);
    }
    for id in [&shop.endpoint, &shop.refunds_endpoint] {
        let endpoint = ("endpoint", id.clone());
        all.add(List::Deliveries, slice::from_ref(&endpoint), cursor);
        all.add(List::Deliveries, &[event.clone(), endpoint.clone()], cursor);
        for status in &statuses {
            all.add(
                List::Deliveries,
                &[endpoint.clone(), status.clone()],
                cursor,
            );
            all.add(
                List::Deliveries,
                &[event.clone(), endpoint.clone(), status.clone()],
                cursor,
            );
        }
    }
}

fn operations(world: &World, shop: &Shop, all: &mut Cases) -> Result<(), FillError> {
    let listed = find(world, shop, |life| !life.operations.is_empty())?;
    let cursor = listed.operations.last().map(|entry| entry.id.as_str());
    let statuses = ["open", "resolved"].map(|status| ("status", status.to_owned()));

    all.add(List::Operations, &[], cursor);
    statuses
        .iter()
        .for_each(|status| all.add(List::Operations, slice::from_ref(status), cursor));
    for kind in ["unresolved", "capture_mismatch", "account_refused"] {
        let kind = ("kind", kind.to_owned());
        all.add(List::Operations, slice::from_ref(&kind), cursor);
        statuses
            .iter()
            .for_each(|status| all.add(List::Operations, &[kind.clone(), status.clone()], cursor));
    }
    Ok(())
}

fn ledger(shop: &Shop, paid: &Life, all: &mut Cases) {
    let entries = paid.changes.iter().flat_map(|change| change.entries());
    let Some(entry) = entries.last() else { return };
    let cursor = format!("{}.{}", entry.payment_id, entry.seq);
    let cursor = Some(cursor.as_str());
    let (from, until) = (
        ("created_from", entry.at.0.to_string()),
        ("created_until", (entry.at.0 + 1).to_string()),
    );
    let payment = ("payment", entry.payment_id.to_string());
    let account = shop
        .accounts
        .first()
        .map(|(id, _)| ("account", id.to_string()));
    let Some(account) = account else { return };

    for times in [
        vec![],
        vec![from.clone()],
        vec![until.clone()],
        vec![from, until],
    ] {
        let and_times = |filters: &[Filter]| [filters, &times].concat();
        all.add(List::Ledger, &and_times(&[]), cursor);
        all.add(List::Ledger, &and_times(slice::from_ref(&account)), cursor);
        for held in [
            LedgerAccount::Kept,
            LedgerAccount::AtProvider,
            LedgerAccount::Held,
            LedgerAccount::Fees,
        ] {
            let held = ("ledger_account", held.to_string());
            all.add(List::Ledger, &and_times(slice::from_ref(&held)), cursor);
            all.add(
                List::Ledger,
                &and_times(&[account.clone(), held.clone()]),
                cursor,
            );
            all.add(
                List::Ledger,
                &and_times(&[payment.clone(), held.clone()]),
                cursor,
            );
            all.add(
                List::Ledger,
                &and_times(&[payment.clone(), account.clone(), held]),
                cursor,
            );
        }
        all.add(List::Ledger, &and_times(slice::from_ref(&payment)), cursor);
        all.add(
            List::Ledger,
            &and_times(&[payment.clone(), account.clone()]),
            cursor,
        );
    }
}
