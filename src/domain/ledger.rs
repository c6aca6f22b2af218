//! The ledger: double entry, append only, whole fen. What a change of a payment means for money is
//! read off the difference of its two shapes, so that no code path can move money and forget to
//! book it. An entry takes one amount from one ledger account and gives it to another: it balances
//! whatever is written. Pure; stores nothing.
//!
//! A payment's entries are a chain: they count from 1, and each carries the SHA-256 of its own
//! content and of the entry before it. The payment's row carries the number and the hash of the
//! last one.

pub mod check;
mod head;

pub use self::head::Head;
use std::collections::BTreeMap;

use providers::money::Money;
use sha2::{Digest as _, Sha256};

use super::attempt::{Disposition, State};
use super::id::{AccountId, AttemptId, PaymentId, RefundId};
use super::{Aggregate, Attempt, Owner, Refund, Timestamp, refund};

/// Where money stands. What a contract with a provider is elsewhere (an account) is named beside
/// it.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    strum::Display,
    strum::EnumString,
    strum::EnumIter,
    strum::IntoStaticStr,
    serde::Serialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum LedgerAccount {
    /// What providers have collected for the merchant and not given back.
    AtProvider,
    /// What has left the merchant as a refund and does not reach its payer.
    Astray,
    /// What belongs to the merchant: the money of its payments.
    Kept,
    /// Suspense: money in doubt, until a person or a statement decides.
    Held,
    /// Suspense: money that came twice or too late, until it has gone back.
    RefundDue,
    /// What is promised to payers by refunds that are under way.
    RefundPending,
    /// What providers take for their service. Posted from their statements; nothing else tells the
    /// fee.
    Fees,
}

impl LedgerAccount {
    /// Whether more of it is a debit: what somebody else holds for the merchant, and costs.
    #[must_use]
    pub fn grows_by_debit(self) -> bool {
        match self {
            Self::AtProvider | Self::Astray | Self::Fees => true,
            Self::Kept | Self::Held | Self::RefundDue | Self::RefundPending => false,
        }
    }
}

/// Why an entry was made.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    strum::Display,
    strum::EnumString,
    strum::IntoStaticStr,
    serde::Serialize,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Cause {
    /// It was there before the ledger was.
    Opening,
    /// A provider took it.
    Captured,
    /// What becomes of it was decided, or decided anew.
    Decided,
    /// It went back without a refund of ours: the provider returned or reversed it, or a person
    /// gave it back there.
    WentBack,
    /// A refund was promised.
    RefundPending,
    /// A refund reached its payer.
    RefundSucceeded,
    /// A refund will not happen.
    RefundFailed,
    /// A refund has left, and does not arrive.
    RefundAbnormal,
}

/// One amount that goes from one ledger account to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    /// Why.
    pub cause: Cause,
    /// The captured attempt whose money it is.
    pub attempt_id: AttemptId,
    /// The refund that moved it, if one did.
    pub refund_id: Option<RefundId>,
    /// The contract with the provider that holds or held it: `acct_…`.
    pub account_id: AccountId,
    /// Gets the amount.
    pub debit: LedgerAccount,
    /// Gives the amount.
    pub credit: LedgerAccount,
    /// More than 0.
    pub amount: Money,
}

/// An entry of a payment's chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The payment.
    pub payment_id: PaymentId,
    /// Its place among the payment's entries, from 1.
    pub seq: i32,
    /// Whose.
    pub owner: Owner,
    /// What moves.
    pub transfer: Transfer,
    /// When it was decided, by the gateway's clock.
    pub at: Timestamp,
    /// The hash of the entry before it; empty for the first one.
    pub previous: String,
    /// SHA-256 of everything above, in hex.
    pub hash: String,
}

impl Entry {
    /// What the hash has to be. The content is one text with a line for each member; no member
    /// holds a line break.
    #[must_use]
    pub fn computed_hash(&self) -> String {
        let t = &self.transfer;
        let text = [
            "interlock ledger entry 1",
            &self.payment_id,
            &self.seq.to_string(),
            &self.owner.merchant,
            self.owner.mode.as_str(),
            <&str>::from(t.cause),
            &t.attempt_id,
            t.refund_id.as_deref().unwrap_or_default(),
            &t.account_id,
            t.debit.into(),
            t.credit.into(),
            &t.amount.minor().to_string(),
            t.amount.currency().as_ref(),
            &self.at.0.to_string(),
            &self.previous,
        ]
        .join("\n");

        sha256(&[text.as_bytes()])
    }
}

/// SHA-256 of these parts one after the other, in hex.
#[must_use]
pub fn sha256(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    parts.iter().for_each(|part| hash.update(part));
    hash.finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Hash of a block: of the block before it, its own height and time, and the entries that it seals.
#[must_use]
pub fn block_hash(
    previous: &str,
    height: i64,
    sealed_at: Timestamp,
    entries: i64,
    entries_hash: &str,
) -> String {
    let text = format!(
        "interlock ledger block 1\n{height}\n{}\n{entries}\n{entries_hash}\n{previous}",
        sealed_at.0
    );
    sha256(&[text.as_bytes()])
}

/// Hash of the entries of a block, given as `(payment, seq, hash)` in the order of the first two.
#[must_use]
pub fn entries_hash<'a>(entries: impl Iterator<Item = (&'a str, i32, &'a str)>) -> String {
    let mut hash = Sha256::new();
    for (payment_id, seq, entry_hash) in entries {
        hash.update(format!("{payment_id} {seq} {entry_hash}\n"));
    }
    hash.finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Who holds some money, and whose it is; `None`: it is with the payer.
type Place = Option<(LedgerAccount, LedgerAccount)>;

/// Where an attempt's captured money stands, but for what its refunds have moved.
fn place(attempt: &Attempt) -> Place {
    let (Some(_), Some(disposition)) = (attempt.captured, attempt.disposition) else {
        return None;
    };
    if attempt.status == State::Reversed {
        return None;
    }
    match disposition {
        Disposition::Kept => Some((LedgerAccount::AtProvider, LedgerAccount::Kept)),
        Disposition::Held => Some((LedgerAccount::AtProvider, LedgerAccount::Held)),
        Disposition::RefundDue => Some((LedgerAccount::AtProvider, LedgerAccount::RefundDue)),
        Disposition::Refunded | Disposition::ReturnedByProvider => None,
    }
}

/// Where the money of a refund stands, given where the rest of its attempt's does.
fn place_of_refund(refund: &Refund, rest: Place) -> Place {
    let (_, owner) = rest?;
    // What goes back by itself is owed already.
    let promised = if refund.automatic {
        owner
    } else {
        LedgerAccount::RefundPending
    };
    match refund.status {
        refund::State::Pending => Some((LedgerAccount::AtProvider, promised)),
        refund::State::Abnormal => Some((LedgerAccount::Astray, promised)),
        refund::State::Succeeded => None,
        refund::State::Failed => rest,
    }
}

/// Gathers the transfers of one attempt.
struct Mover<'a> {
    attempt: &'a Attempt,
    transfers: Vec<Transfer>,
}

impl Mover<'_> {
    /// A negative amount goes the other way.
    fn moves(
        &mut self,
        cause: Cause,
        refund_id: Option<&RefundId>,
        fen: i64,
        from: Place,
        to: Place,
    ) {
        let (from, to, fen) = if fen < 0 {
            (to, from, fen.saturating_neg())
        } else {
            (from, to, fen)
        };
        match (from, to) {
            (None, None) => {}
            (None, Some((holder, owner))) => self.post(cause, refund_id, holder, owner, fen),
            (Some((holder, owner)), None) => self.post(cause, refund_id, owner, holder, fen),
            (Some((holder, owner)), Some((next_holder, next_owner))) => {
                self.post(cause, refund_id, owner, next_owner, fen);
                self.post(cause, refund_id, next_holder, holder, fen);
            }
        }
    }

    fn post(
        &mut self,
        cause: Cause,
        refund_id: Option<&RefundId>,
        debit: LedgerAccount,
        credit: LedgerAccount,
        fen: i64,
    ) {
        let Ok(amount) = Money::fen(fen) else { return };
        if debit == credit || fen == 0 {
            return;
        }
        self.transfers.push(Transfer {
            cause,
            attempt_id: self.attempt.id.clone(),
            refund_id: refund_id.cloned(),
            account_id: self.attempt.account_id.clone(),
            debit,
            credit,
            amount,
        });
    }
}

/// What a change moves: from `before` (`None` for a new payment) to `after`.
#[must_use]
pub fn between(before: Option<&Aggregate>, after: &Aggregate) -> Vec<Transfer> {
    let mut all = Vec::new();
    for attempt in after
        .attempts
        .iter()
        .filter(|attempt| attempt.captured.is_some())
    {
        let known = before.and_then(|b| b.attempt(&attempt.id));
        let (was, is) = (known.and_then(place), place(attempt));
        let captured = |a: &Attempt| a.captured.map_or(0, Money::minor);
        let captured_before = known
            .filter(|k| k.captured.is_some())
            .map_or(captured(attempt), captured);
        let mut mover = Mover {
            attempt,
            transfers: Vec::new(),
        };
        let mut rest = captured_before;
        for refund in after.refunds.iter().filter(|r| r.attempt_id == attempt.id) {
            let earlier = before.and_then(|b| b.refunds.iter().find(|r| r.id == refund.id));
            let is_part_of_the_rest =
                |r: Option<&Refund>| r.is_none_or(|r| r.status == refund::State::Failed);
            if is_part_of_the_rest(earlier) && is_part_of_the_rest(Some(refund)) {
                continue;
            }
            rest = rest.saturating_sub(refund.amount.minor());
            let (from, to) = (
                earlier.map_or(was, |r| place_of_refund(r, was)),
                place_of_refund(refund, is),
            );
            let cause = match refund.status {
                refund::State::Pending => Cause::RefundPending,
                refund::State::Succeeded => Cause::RefundSucceeded,
                refund::State::Failed => Cause::RefundFailed,
                refund::State::Abnormal => Cause::RefundAbnormal,
            };
            mover.moves(cause, Some(&refund.id), refund.amount.minor(), from, to);
        }
        let cause = match (was, is) {
            (None, _) => Cause::Captured,
            (Some(_), None) => Cause::WentBack,
            (Some(_), Some(_)) => Cause::Decided,
        };
        mover.moves(cause, None, rest, was, is);
        // What was captured is never changed; were it, the ledger would follow.
        mover.moves(
            Cause::Captured,
            None,
            captured(attempt).saturating_sub(captured_before),
            None,
            is,
        );
        // Money comes in before any of it goes back.
        mover.transfers.sort_by_key(|t| t.cause != Cause::Captured);
        all.append(&mut mover.transfers);
    }

    all
}

/// The entries of a change, chained to the payment's last one, and the new end of its chain. A
/// payment that was there before the ledger gets its opening entries first.
#[must_use]
pub fn entries(
    before: Option<&Aggregate>,
    after: &Aggregate,
    now: Timestamp,
) -> (Vec<Entry>, Head) {
    let head = before.and_then(|b| b.payment.ledger.clone());
    let mut transfers = Vec::new();

    if let (Some(before), None) = (before, &head) {
        transfers.extend(between(None, before).into_iter().map(|t| Transfer {
            cause: Cause::Opening,
            ..t
        }));
    }

    transfers.extend(between(before, after));
    let mut head = head.unwrap_or_default();
    let entries = transfers
        .into_iter()
        .map(|transfer| {
            let mut entry = Entry {
                payment_id: after.payment.id.clone(),
                seq: head.entries.saturating_add(1),
                owner: after.payment.owner.clone(),
                transfer,
                at: now,
                previous: std::mem::take(&mut head.hash),
                hash: String::new(),
            };
            entry.hash = entry.computed_hash();
            head = Head {
                entries: entry.seq,
                hash: entry.hash.clone(),
            };
            entry
        })
        .collect();

    (entries, head)
}

/// Debits less credits in fen, by attempt and ledger account; accounts at 0 are left out.
pub type Balances = BTreeMap<(AttemptId, LedgerAccount), i128>;

/// What entries add up to.
#[must_use]
pub fn balances<'a>(entries: impl Iterator<Item = &'a Entry>) -> Balances {
    let mut sums = Balances::new();
    for Entry { transfer: t, .. } in entries {
        let fen = i128::from(t.amount.minor());
        add(&mut sums, &t.attempt_id, t.debit, fen);
        add(&mut sums, &t.attempt_id, t.credit, -fen);
    }
    sums.retain(|_, fen| *fen != 0);
    sums
}

/// What the rows of a payment say that its entries have to add up to. Counted from the rows alone,
/// by another way than entries are made, so that each of the two finds the other's mistakes.
#[must_use]
pub fn expected(aggregate: &Aggregate) -> Balances {
    use LedgerAccount as A;

    let mut sums = Balances::new();
    for attempt in &aggregate.attempts {
        let Some(captured) = attempt.captured.map(|money| i128::from(money.minor())) else {
            continue;
        };
        let owner = match attempt.disposition {
            _ if attempt.status == State::Reversed => continue,
            Some(Disposition::Kept) => A::Kept,
            Some(Disposition::Held) => A::Held,
            Some(Disposition::RefundDue) => A::RefundDue,
            Some(Disposition::Refunded | Disposition::ReturnedByProvider) | None => continue,
        };
        let refunds = |automatic: bool, states: &[refund::State]| -> i128 {
            let is_one = |r: &&Refund| {
                r.attempt_id == attempt.id && r.automatic == automatic && states.contains(&r.status)
            };
            aggregate
                .refunds
                .iter()
                .filter(is_one)
                .map(|r| i128::from(r.amount.minor()))
                .sum()
        };
        use refund::State::{Abnormal, Pending, Succeeded};
        let gone = refunds(true, &[Succeeded]) + refunds(false, &[Succeeded]);
        let astray = refunds(true, &[Abnormal]) + refunds(false, &[Abnormal]);
        let promised = refunds(false, &[Pending, Abnormal]);
        add(
            &mut sums,
            &attempt.id,
            A::AtProvider,
            captured - gone - astray,
        );
        add(&mut sums, &attempt.id, A::Astray, astray);
        add(&mut sums, &attempt.id, A::RefundPending, -promised);
        add(&mut sums, &attempt.id, owner, -(captured - gone - promised));
    }

    sums.retain(|_, fen| *fen != 0);
    sums
}

fn add(sums: &mut Balances, attempt_id: &AttemptId, account: LedgerAccount, fen: i128) {
    let sum = sums.entry((attempt_id.clone(), account)).or_default();
    *sum = sum.saturating_add(fen);
}

#[cfg(test)]
pub(crate) mod tests;
