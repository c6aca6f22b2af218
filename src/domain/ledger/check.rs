//! Whether a payment's entries are all there, unchanged, and agree with its rows. Pure; says in
//! words what is wrong, and mends nothing.

use super::{Balances, Entry, Head, LedgerAccount, balances, expected};
use crate::domain::attempt::Disposition;
use crate::domain::id::AttemptId;
use crate::domain::payment::State;
use crate::domain::{Aggregate, Attempt};

/// Everything about a payment and its entries (in the order of their numbers) that does not agree.
#[must_use]
pub fn deviations(aggregate: &Aggregate, entries: &[Entry]) -> Vec<String> {
    let mut found = chain(aggregate, entries);
    found.extend(rows(aggregate));
    let booked = balances(entries.iter());
    if let Some(head) = &aggregate.payment.ledger {
        found.extend(end(entries, head));
        found.extend(differences(&booked, &expected(aggregate)));
    } else if !entries.is_empty() {
        found.push("it has entries, and its row does not know of them".to_owned());
    }
    found
}

/// Whether anything of the payment has to be in the ledger.
#[must_use]
pub fn has_money(aggregate: &Aggregate) -> bool {
    !super::between(None, aggregate).is_empty()
}

fn chain(aggregate: &Aggregate, entries: &[Entry]) -> Vec<String> {
    let payment = &aggregate.payment;
    let mut found = Vec::new();
    let (mut last, mut previous) = (0_i32, "");

    for entry in entries {
        let (seq, t) = (entry.seq, &entry.transfer);
        if seq != last.saturating_add(1) {
            found.push(format!(
                "entry {} is missing: {seq} comes after {last}",
                last.saturating_add(1)
            ));
        } else if entry.previous != previous {
            found.push(format!("entry {seq} does not follow the one before it"));
        }
        if entry.hash != entry.computed_hash() {
            found.push(format!(
                "entry {seq} was changed: its content does not have its hash"
            ));
        }
        if t.debit == t.credit || t.amount.minor() == 0 {
            found.push(format!("entry {seq} moves nothing"));
        }
        if entry.owner != payment.owner {
            found.push(format!("entry {seq} belongs to somebody else"));
        }
        let attempt = aggregate.attempt(&t.attempt_id);
        if attempt.is_none_or(|attempt| attempt.account_id != t.account_id) {
            found.push(format!(
                "entry {seq} names attempt {} over {}, which is not there",
                t.attempt_id, t.account_id
            ));
        }
        (last, previous) = (seq, entry.hash.as_str());
    }

    found
}

/// Whether the chain ends where the payment's row says: what was cut off at the end is missing
/// there.
fn end(entries: &[Entry], head: &Head) -> Option<String> {
    let last = entries.last();
    let (seq, hash) = last.map_or((0, ""), |entry| (entry.seq, entry.hash.as_str()));
    let agrees = seq == head.entries && hash == head.hash;
    (!agrees).then(|| {
        format!(
            "the chain ends with entry {seq}, and the payment's row with entry {}",
            head.entries
        )
    })
}

/// What the rows say that cannot be true together.
fn rows(aggregate: &Aggregate) -> Vec<String> {
    let mut found = Vec::new();
    let is_kept = aggregate.kept().is_some();
    let status = aggregate.payment.status;

    if is_kept != (status == State::Succeeded) {
        let money = if is_kept {
            "money is kept"
        } else {
            "no money is kept"
        };
        found.push(format!("its status is {status}, and {money}"));
    }

    let undecided = |a: &&Attempt| a.captured.is_some() != a.disposition.is_some();
    for attempt in aggregate.attempts.iter().filter(undecided) {
        found.push(format!(
            "attempt {} has money without a disposition, or the reverse",
            attempt.id
        ));
    }

    let overdrawn = expected(aggregate);
    let overdrawn = overdrawn
        .iter()
        .filter(|((_, account), fen)| match account.grows_by_debit() {
            true => **fen < 0,
            false => **fen > 0,
        });

    for ((attempt_id, account), _) in overdrawn {
        found.push(format!(
            "attempt {attempt_id}: more went out of {account} than there was"
        ));
    }

    let refunded =
        |a: &&Attempt| a.disposition == Some(Disposition::Refunded) && a.captured.is_some();
    for attempt in aggregate.attempts.iter().filter(refunded) {
        let is_under_way = aggregate.refunds.iter().any(|r| {
            r.attempt_id == attempt.id && matches!(r.status, crate::domain::refund::State::Pending)
        });
        if is_under_way {
            found.push(format!(
                "attempt {} is refunded, and a refund of it is still under way",
                attempt.id
            ));
        }
    }

    found
}

fn differences(booked: &Balances, rows: &Balances) -> Vec<String> {
    let mut keys: Vec<&(AttemptId, LedgerAccount)> = booked.keys().chain(rows.keys()).collect();
    keys.sort();
    keys.dedup();
    let sum = |balances: &Balances, key: &(AttemptId, LedgerAccount)| {
        balances.get(key).copied().unwrap_or(0)
    };

    keys.into_iter()
        .filter(|key| sum(booked, key) != sum(rows, key))
        .map(|key| {
            let (attempt_id, account) = key;
            let (booked, rows) = (sum(booked, key), sum(rows, key));
            format!(
                "attempt {attempt_id}: {account} is {booked} fen in the ledger and {rows} fen \
                     by the rows"
            )
        })
        .collect()
}
