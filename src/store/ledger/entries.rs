//! The ledger's rows: reading entries and sums, opening payments that were there before it, and
//! sealing entries into blocks. Entries are written by [`crate::store::writer`] with the change that
//! makes them, and never changed: sealing only notes the block.

use sea_orm::sea_query::{
    Expr, ExprTrait as _, OnConflict, Order, Query, SelectStatement, UnionType,
};
use sea_orm::{
    ActiveModelTrait as _, ColumnTrait as _, Condition, ConnectionTrait as _, EntityTrait as _,
    IntoActiveModel as _, PaginatorTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _,
    QueryTrait as _, Select,
};

use strum::IntoEnumIterator as _;

use crate::domain::id::{AccountId, PaymentId};
use crate::domain::ledger::{self, Entry, LedgerAccount, Transfer};
use crate::domain::{AllOwners, Owner, Timestamp};
use crate::store::Error;
use crate::store::Store;
use crate::store::convert::{money, word};
use crate::store::ledger::entity::{ledger_block as block, ledger_entry as entry};
use crate::store::lists::{beside, older_than};
use crate::store::payment::entity::payment;

/// Which entries a list shows or a sum counts.
#[derive(Debug, Clone, Default)]
pub struct LedgerFilter {
    /// Only this payment's.
    pub payment_id: Option<String>,
    /// Only those over this account: `acct_…`.
    pub account_id: Option<String>,
    /// Only those that debit or credit it.
    pub ledger_account: Option<LedgerAccount>,
    /// Made then or later.
    pub from: Option<Timestamp>,
    /// Made before then.
    pub until: Option<Timestamp>,
}

/// The sum of what entries move from one ledger account to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// The contract with the provider.
    pub account_id: AccountId,
    /// What got it.
    pub debit: LedgerAccount,
    /// What gave it.
    pub credit: LedgerAccount,
    /// How much, in fen.
    pub fen: i64,
    /// By how many entries.
    pub entries: i64,
}

/// A block that seals entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// From 1.
    pub height: i64,
    /// How many entries it seals.
    pub entries: i64,
    /// Their hash.
    pub entries_hash: String,
    /// The hash of the block before it; empty for the first one.
    pub previous: String,
    /// Its own.
    pub hash: String,
    /// When.
    pub sealed_at: Timestamp,
}

impl Block {
    /// The block after `previous` with these entries, given as `(payment, seq, hash)` in the order
    /// of the first two.
    #[must_use]
    pub fn after(
        previous: Option<&Self>,
        entries: &[(PaymentId, i32, String)],
        now: Timestamp,
    ) -> Self {
        let height = previous.map_or(0, |block| block.height).saturating_add(1);
        let count = i64::try_from(entries.len()).unwrap_or(i64::MAX);
        let entries_hash = ledger::entries_hash(
            entries
                .iter()
                .map(|(id, seq, hash)| (id.as_str(), *seq, hash.as_str())),
        );

        let previous = previous.map(|block| block.hash.clone()).unwrap_or_default();
        let hash = ledger::block_hash(&previous, height, now, count, &entries_hash);

        Self {
            height,
            entries: count,
            entries_hash,
            previous,
            hash,
            sealed_at: now,
        }
    }
}

impl From<block::Model> for Block {
    fn from(m: block::Model) -> Self {
        Self {
            height: m.height,
            entries: m.entries,
            entries_hash: m.entries_hash,
            previous: m.previous,
            hash: m.hash,
            sealed_at: Timestamp(m.sealed_at),
        }
    }
}

/// What sealing came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sealed {
    /// There was nothing to seal.
    Nothing,
    /// This block was added.
    Block(Block),
    /// Another gateway was first; there may be more.
    Overtaken,
}

impl TryFrom<entry::Model> for Entry {
    type Error = Error;

    fn try_from(m: entry::Model) -> Result<Self, Error> {
        const T: &str = "ledger entry";

        Ok(Self {
            transfer: Transfer {
                cause: word(T, &m.payment_id, "cause", &m.cause)?,
                debit: word(T, &m.payment_id, "debit", &m.debit)?,
                credit: word(T, &m.payment_id, "credit", &m.credit)?,
                amount: money(T, &m.payment_id, m.amount, &m.currency)?,
                attempt_id: m.attempt_id,
                refund_id: m.refund_id,
                account_id: m.account_id,
            },
            payment_id: m.payment_id,
            seq: m.seq,
            owner: Owner::of(m.merchant_id, m.livemode),
            at: Timestamp(m.at),
            previous: m.previous,
            hash: m.hash,
        })
    }
}

impl Store {
    /// An owner's entries, newest first; those of a payment from its last to its first. `after` is
    /// the entry that the last page ended with.
    ///
    /// # Errors
    /// The database's.
    pub async fn ledger_entries(
        &self,
        owner: &Owner,
        filter: &LedgerFilter,
        after: Option<&Entry>,
        limit: u64,
    ) -> Result<Vec<Entry>, Error> {
        use entry::Column as C;

        let older = after.map(|last| {
            let row = [
                last.at.0.into(),
                last.payment_id.clone().into(),
                last.seq.into(),
            ];
            older_than([C::At, C::PaymentId, C::Seq], row)
        });

        let page = |query: Select<entry::Entity>| {
            let query = query.filter(Condition::all().add_option(older.clone()));
            query
                .order_by_desc(C::At)
                .order_by_desc(C::PaymentId)
                .order_by_desc(C::Seq)
                .limit(limit)
        };
        let is_narrowed = filter.account_id.is_some() || filter.ledger_account.is_some();

        let rows = if filter.payment_id.is_some() || !is_narrowed {
            page(filtered(owner, filter)).all(&self.db).await?
        } else {
            let arms = self.arms(owner, filter).await?;
            let Some(all) = newest_of(arms.into_iter().map(page).collect(), limit) else {
                return Ok(Vec::new());
            };
            entry::Entity::find()
                .from_raw_sql(self.db.backend().build(&all))
                .all(&self.db)
                .await?
        };

        rows.into_iter().map(Entry::try_from).collect()
    }

    /// The entries that a filter by accounts lets through, in parts of which each is in order in
    /// one index: those of one account that debit one ledger account, or credit it. No entry is in
    /// two: none debits what it credits.
    async fn arms(
        &self,
        owner: &Owner,
        filter: &LedgerFilter,
    ) -> Result<Vec<Select<entry::Entity>>, Error> {
        use entry::Column as C;

        let accounts = match &filter.account_id {
            Some(id) => id.parse().into_iter().collect(),
            None => self.account_ids_of(owner).await?,
        };
        let sides: Vec<(C, LedgerAccount)> = match filter.ledger_account {
            Some(account) => vec![(C::Debit, account), (C::Credit, account)],
            None => LedgerAccount::iter()
                .map(|account| (C::Debit, account))
                .collect(),
        };

        let times = LedgerFilter {
            from: filter.from,
            until: filter.until,
            ..LedgerFilter::default()
        };
        let arm = |id: &AccountId, side: &(C, LedgerAccount)| {
            within(beside_owner(owner), &times)
                .filter(C::AccountId.eq(id))
                .filter(side.0.eq(side.1.to_string()))
        };

        Ok(accounts
            .iter()
            .flat_map(|id| sides.iter().map(move |side| arm(id, side)))
            .collect())
    }

    /// One entry of an owner.
    ///
    /// # Errors
    /// The database's.
    pub async fn ledger_entry(
        &self,
        owner: &Owner,
        payment_id: &PaymentId,
        seq: i32,
    ) -> Result<Option<Entry>, Error> {
        let found = filtered(owner, &LedgerFilter::default())
            .filter(entry::Column::PaymentId.eq(payment_id))
            .filter(entry::Column::Seq.eq(seq))
            .one(&self.db)
            .await?;
        found.map(Entry::try_from).transpose()
    }

    /// What an owner's entries add up to.
    ///
    /// # Errors
    /// The database's.
    pub async fn ledger_sums(
        &self,
        owner: &Owner,
        filter: &LedgerFilter,
    ) -> Result<Vec<Moved>, Error> {
        sums(filtered(owner, filter), &self.db).await
    }

    /// Payments with money that were there before the ledger, oldest first.
    ///
    /// # Errors
    /// The database's.
    pub async fn payments_not_in_ledger(
        &self,
        _: AllOwners,
        limit: u64,
    ) -> Result<Vec<PaymentId>, Error> {
        Ok(payment::Entity::find()
            .select_only()
            .column(payment::Column::Id)
            .filter(payment::Column::LedgerHash.is_null())
            .order_by_asc(payment::Column::CreatedAt)
            .limit(limit)
            .into_tuple()
            .all(&self.db)
            .await?)
    }

    /// How many entries no block seals yet.
    ///
    /// # Errors
    /// The database's.
    pub async fn unsealed_entries(&self) -> Result<u64, Error> {
        Ok(entry::Entity::find()
            .filter(entry::Column::Block.is_null())
            .count(&self.db)
            .await?)
    }

    /// The block at this height, from 1.
    ///
    /// # Errors
    /// The database's.
    pub async fn ledger_block(&self, height: i64) -> Result<Option<Block>, Error> {
        Ok(block::Entity::find_by_id(height)
            .one(&self.db)
            .await?
            .map(Block::from))
    }

    /// Seals up to `limit` of the oldest entries that no block seals yet into the next block.
    ///
    /// # Errors
    /// The database's.
    pub async fn seal_ledger(&self, now: Timestamp, limit: u64) -> Result<Sealed, Error> {
        use entry::Column as C;

        // Whoever adds the next height first has the block: the last one is read before what is to
        // be sealed.
        let last = block::Entity::find()
            .order_by_desc(block::Column::Height)
            .one(&self.db)
            .await?
            .map(Block::from);
        let mut entries: Vec<(PaymentId, i32, String)> = entry::Entity::find()
            .select_only()
            .columns([C::PaymentId, C::Seq, C::Hash])
            .filter(C::Block.is_null())
            .order_by_asc(C::At)
            .limit(limit)
            .into_tuple()
            .all(&self.db)
            .await?;

        if entries.is_empty() {
            return Ok(Sealed::Nothing);
        }
        entries.sort();
        let block = Block::after(last.as_ref(), &entries, now);
        let tx = self.db.write().await?;
        let added = block::Entity::insert(block_row(&block))
            .on_conflict(OnConflict::new().do_nothing().to_owned())
            .exec_without_returning(&tx)
            .await?;

        let keys: Vec<(PaymentId, i32)> = entries
            .into_iter()
            .map(|(payment_id, seq, _)| (payment_id, seq))
            .collect();
        let named = Expr::tuple([Expr::col(C::PaymentId), Expr::col(C::Seq)]).in_tuples(keys);
        let seal = Query::update()
            .table(entry::Entity)
            .value(C::Block, block.height)
            .and_where(Expr::col(C::Block).is_null())
            .and_where(named)
            .to_owned();

        let sealed = if added == 1 {
            tx.execute(&seal).await?.rows_affected()
        } else {
            0
        };

        if i64::try_from(sealed).ok() != Some(block.entries) {
            tx.rollback().await?;
            return Ok(Sealed::Overtaken);
        }
        tx.commit().await?;

        Ok(Sealed::Block(block))
    }
}

pub(in crate::store) fn block_row(block: &Block) -> block::ActiveModel {
    block::Model {
        height: block.height,
        entries: block.entries,
        entries_hash: block.entries_hash.clone(),
        previous: block.previous.clone(),
        hash: block.hash.clone(),
        sealed_at: block.sealed_at.0,
    }
    .into_active_model()
    .reset_all()
}

fn of(owner: &Owner) -> Select<entry::Entity> {
    let is_theirs = entry::Column::MerchantId.eq(&owner.merchant);
    entry::Entity::find()
        .filter(is_theirs)
        .filter(entry::Column::Livemode.eq(owner.is_live()))
}

/// The same, where something else says which index is read.
fn beside_owner(owner: &Owner) -> Select<entry::Entity> {
    let is_theirs = beside("merchant_id", owner.merchant.as_str());
    entry::Entity::find()
        .filter(is_theirs)
        .filter(entry::Column::Livemode.eq(owner.is_live()))
}

fn within(mut query: Select<entry::Entity>, filter: &LedgerFilter) -> Select<entry::Entity> {
    if let Some(from) = filter.from {
        query = query.filter(entry::Column::At.gte(from.0));
    }
    if let Some(until) = filter.until {
        query = query.filter(entry::Column::At.lt(until.0));
    }
    query
}

/// An owner's entries of a filter. A payment has few; all those of an account are fewer than all of
/// its owner.
fn filtered(owner: &Owner, filter: &LedgerFilter) -> Select<entry::Entity> {
    use entry::Column as C;

    let query = match (&filter.payment_id, &filter.account_id) {
        (None, None) => of(owner),
        (None, Some(account_id)) => beside_owner(owner).filter(C::AccountId.eq(account_id)),
        (Some(payment_id), account_id) => {
            let account = account_id.as_deref().map(|id| beside("account_id", id));
            let query = beside_owner(owner).filter(C::PaymentId.eq(payment_id));
            query.filter(Condition::all().add_option(account))
        }
    };

    let account = filter.ledger_account.map(|account| {
        let name = account.to_string();
        Condition::any()
            .add(C::Debit.eq(&name))
            .add(C::Credit.eq(&name))
    });

    within(query, filter).filter(Condition::all().add_option(account))
}

/// The newest of several parts that are each in order, and limited.
fn newest_of(arms: Vec<Select<entry::Entity>>, limit: u64) -> Option<SelectStatement> {
    use entry::Column as C;

    let mut arms = arms.into_iter().map(|arm| {
        // By itself a part of a union takes no order on SQLite.
        Query::select()
            .expr(Expr::cust("*"))
            .from_subquery(arm.into_query(), "arm")
            .to_owned()
    });
    let mut union = arms.next()?;
    union.unions(arms.map(|arm| (UnionType::All, arm)));
    let mut all = Query::select();
    all.expr(Expr::cust("*")).from_subquery(union, "arms");
    for column in [C::At, C::PaymentId, C::Seq] {
        all.order_by(column, Order::Desc);
    }

    Some(all.limit(limit).to_owned())
}

/// Adds entries up by accounts.
pub(in crate::store) async fn sums(
    entries: Select<entry::Entity>,
    db: &impl sea_orm::ConnectionTrait,
) -> Result<Vec<Moved>, Error> {
    use entry::Column as C;

    let rows: Vec<(AccountId, String, String, i64, i64)> = entries
        .select_only()
        .columns([C::AccountId, C::Debit, C::Credit])
        .column_as(Expr::cust("CAST(SUM(amount) AS BIGINT)"), "fen")
        .column_as(Expr::cust("COUNT(*)"), "entries")
        .group_by(C::AccountId)
        .group_by(C::Debit)
        .group_by(C::Credit)
        .order_by_asc(C::AccountId)
        .order_by_asc(C::Debit)
        .order_by_asc(C::Credit)
        .into_tuple()
        .all(db)
        .await?;

    rows.into_iter()
        .map(|(account_id, debit, credit, fen, entries)| {
            Ok(Moved {
                debit: word("ledger entry", &account_id, "debit", &debit)?,
                credit: word("ledger entry", &account_id, "credit", &credit)?,
                account_id,
                fen,
                entries,
            })
        })
        .collect()
}
