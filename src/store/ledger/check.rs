//! Verifies the ledger: every payment's chain against its hashes and against the payment's rows,
//! every block against the entries that it seals, the blocks against each other. Reads page by
//! page, each as it was at one moment, beside gateways that go on writing. Changes nothing.
//!
//! What is found at once: an entry changed, added, or removed, the last one included, and rows that
//! were changed past the code. What is found only once a block seals it: an entry and the payment's
//! row rewritten together, in all their hashes. What is found only with an anchor (a block's height
//! and hash, kept elsewhere): all blocks since then rewritten as well, by somebody who may write
//! everything.

use std::collections::{BTreeMap, HashMap};

use sea_orm::sea_query::{Expr, ExprTrait as _, Query};
use sea_orm::{
    ColumnTrait as _, Condition, EntityTrait as _, QueryFilter as _, QueryOrder as _,
    QuerySelect as _,
};

use crate::domain::Aggregate;
use crate::domain::id::PaymentId;
use crate::domain::ledger::check::{deviations, has_money};
use crate::domain::ledger::{self, Entry, LedgerAccount};
use crate::store::Error;
use crate::store::Store;
use crate::store::connection::Tx;
use crate::store::ledger::entity::{ledger_block as block, ledger_entry as entry};
use crate::store::ledger::entries::Block;
use crate::store::payment::entity::payment;
use crate::store::payment::find::find;

/// Payments of one page.
const PAGE: u64 = 500;
/// The fact that says that every payment from before the ledger is in it.
const OPENED: &str = "ledger_opened";

/// Something that does not agree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deviation {
    /// A payment, or `block 17`.
    pub place: String,
    /// What is wrong, in words.
    pub what: String,
}

/// What was verified.
#[derive(Debug, Clone, Default)]
pub struct LedgerReport {
    /// How many payments.
    pub payments: u64,
    /// How many entries.
    pub entries: u64,
    /// How many entries no block seals yet.
    pub unsealed: u64,
    /// The last block.
    pub last_block: Option<Block>,
    /// Payments with money that were there before the ledger and wait for their opening entries.
    pub not_opened: u64,
    /// Debits and credits in fen, by ledger account.
    pub totals: BTreeMap<LedgerAccount, (i128, i128)>,
    /// How many things do not agree.
    pub deviation_count: u64,
    /// The first of them.
    pub deviations: Vec<Deviation>,
    /// How many of them are kept.
    keep: usize,
}

impl LedgerReport {
    fn deviates(&mut self, place: &str, what: String) {
        self.deviation_count = self.deviation_count.saturating_add(1);
        if self.deviations.len() < self.keep {
            self.deviations.push(Deviation {
                place: place.to_owned(),
                what,
            });
        }
    }

    fn count(&mut self, entry: &Entry) {
        self.entries = self.entries.saturating_add(1);
        let (t, fen) = (&entry.transfer, i128::from(entry.transfer.amount.minor()));
        let debits = &mut self.totals.entry(t.debit).or_default().0;
        *debits = debits.saturating_add(fen);
        let credits = &mut self.totals.entry(t.credit).or_default().1;
        *credits = credits.saturating_add(fen);
    }
}

impl Store {
    /// Notes that every payment from before the ledger is in it: from now on one that is not is a
    /// deviation.
    ///
    /// # Errors
    /// The database's.
    pub async fn ledger_is_opened(&self) -> Result<(), Error> {
        self.installation(OPENED, "yes").await.map(|_| ())
    }

    /// Whether that was noted.
    ///
    /// # Errors
    /// The database's.
    pub async fn is_ledger_opened(&self) -> Result<bool, Error> {
        Ok(self.installation_fact(OPENED).await?.is_some())
    }

    /// Verifies the whole ledger and keeps the first `keep` deviations. `anchor` is a block's
    /// height and hash as they were noted elsewhere.
    ///
    /// # Errors
    /// The database's. What cannot be read as a row is a deviation, and no error.
    pub async fn check_ledger(
        &self,
        anchor: Option<(i64, &str)>,
        keep: usize,
    ) -> Result<LedgerReport, Error> {
        let mut report = LedgerReport {
            keep,
            ..LedgerReport::default()
        };
        let is_opened = self.is_ledger_opened().await?;

        // Read first: blocks that are added meanwhile are not looked at.
        let last = block::Entity::find()
            .order_by_desc(block::Column::Height)
            .one(&self.db)
            .await?
            .map(Block::from);
        let mut after = String::new();
        while let Some(next) = self.check_page(&after, is_opened, &mut report).await? {
            after = next;
        }
        self.check_strangers(&mut report).await?;
        self.check_blocks(last.as_ref(), &mut report).await?;

        if let Some((height, hash)) = anchor
            && self
                .ledger_block(height)
                .await?
                .is_none_or(|block| block.hash != hash)
        {
            report.deviates(
                &format!("block {height}"),
                "it is not the one that the anchor names".to_owned(),
            );
        }

        report.last_block = last;
        report.unsealed = self.unsealed_entries().await?;
        Ok(report)
    }

    /// Verifies payments behind this one; returns the last one, or `None` when there are no more.
    async fn check_page(
        &self,
        after: &str,
        is_opened: bool,
        report: &mut LedgerReport,
    ) -> Result<Option<String>, Error> {
        let snapshot = self.db.snapshot().await?;
        let ids: Vec<String> = payment::Entity::find()
            .select_only()
            .column(payment::Column::Id)
            .filter(payment::Column::Id.gt(after))
            .order_by_asc(payment::Column::Id)
            .limit(PAGE)
            .into_tuple()
            .all(&snapshot)
            .await?;

        let mut entries: HashMap<PaymentId, Vec<Entry>> = HashMap::new();
        let rows = entry::Entity::find()
            .filter(entry::Column::PaymentId.is_in(ids.clone()))
            .order_by_asc(entry::Column::Seq)
            .all(&snapshot)
            .await?;
        for row in rows {
            let (payment_id, seq) = (row.payment_id.clone(), row.seq);
            match Entry::try_from(row) {
                Ok(entry) => {
                    report.count(&entry);
                    entries.entry(payment_id).or_default().push(entry);
                }
                Err(error) => {
                    report.deviates(&payment_id, format!("entry {seq} cannot be read: {error}"))
                }
            }
        }

        for aggregate in readable(&snapshot, &ids, report).await? {
            let entries = entries.remove(&aggregate.payment.id).unwrap_or_default();
            check_payment(&aggregate, &entries, is_opened, report);
        }
        snapshot.commit().await?;

        Ok(ids.into_iter().next_back())
    }

    /// Entries of payments that are not there, and of blocks that are not there.
    async fn check_strangers(&self, report: &mut LedgerReport) -> Result<(), Error> {
        let of_payment = Query::select()
            .expr(Expr::val(1))
            .from(payment::Entity)
            .and_where(
                Expr::col((payment::Entity, payment::Column::Id))
                    .equals((entry::Entity, entry::Column::PaymentId)),
            )
            .to_owned();

        let heights = Query::select()
            .column(block::Column::Height)
            .from(block::Entity)
            .to_owned();
        let of_no_block = Condition::all()
            .add(entry::Column::Block.is_not_null())
            .add(entry::Column::Block.not_in_subquery(heights));
        let strangers: Vec<(String, i32)> = entry::Entity::find()
            .select_only()
            .columns([entry::Column::PaymentId, entry::Column::Seq])
            .filter(
                Condition::any()
                    .add(Expr::exists(of_payment).not())
                    .add(of_no_block),
            )
            .limit(PAGE)
            .into_tuple()
            .all(&self.db)
            .await?;

        for (payment_id, seq) in strangers {
            report.deviates(
                &payment_id,
                format!("entry {seq} belongs to no payment, or to no block"),
            );
        }

        Ok(())
    }

    async fn check_blocks(
        &self,
        last: Option<&Block>,
        report: &mut LedgerReport,
    ) -> Result<(), Error> {
        let mut before: Option<Block> = None;
        let end = last.map_or(0, |block| block.height);

        while before.as_ref().map_or(0, |block| block.height) < end {
            let rows = block::Entity::find()
                .filter(
                    block::Column::Height
                        .gt(before.as_ref().map_or(i64::MIN, |block| block.height)),
                )
                .filter(block::Column::Height.lte(end))
                .order_by_asc(block::Column::Height)
                .limit(PAGE)
                .all(&self.db)
                .await?;
            if rows.is_empty() {
                break;
            }
            for row in rows {
                let block = Block::from(row);
                self.check_block(&block, before.as_ref(), report).await?;
                before = Some(block);
            }
        }

        Ok(())
    }

    async fn check_block(
        &self,
        block: &Block,
        before: Option<&Block>,
        report: &mut LedgerReport,
    ) -> Result<(), Error> {
        use entry::Column as C;

        let mut entries: Vec<(String, i32, String)> = entry::Entity::find()
            .select_only()
            .columns([C::PaymentId, C::Seq, C::Hash])
            .filter(C::Block.eq(block.height))
            .into_tuple()
            .all(&self.db)
            .await?;

        // As bytes: databases have orders of their own.
        entries.sort();
        let place = format!("block {}", block.height);
        let height = before.map_or(0, |before| before.height).saturating_add(1);

        if block.height != height {
            report.deviates(&place, format!("block {height} is missing before it"));
        } else if block.previous
            != before
                .map(|before| before.hash.as_str())
                .unwrap_or_default()
        {
            report.deviates(&place, "it does not follow the block before it".to_owned());
        }
        let hash = ledger::block_hash(
            &block.previous,
            block.height,
            block.sealed_at,
            block.entries,
            &block.entries_hash,
        );

        if block.hash != hash {
            report.deviates(
                &place,
                "it was changed: its content does not have its hash".to_owned(),
            );
        }

        let sealed = ledger::entries_hash(
            entries
                .iter()
                .map(|(id, seq, hash)| (id.as_str(), *seq, hash.as_str())),
        );

        if block.entries_hash != sealed || i64::try_from(entries.len()).ok() != Some(block.entries)
        {
            let (was, is) = (block.entries, entries.len());
            report.deviates(
                &place,
                format!("it has sealed {was} entries, and these {is} are not the same"),
            );
        }

        Ok(())
    }
}

/// Payments as far as they can be read; one that cannot is a deviation by itself.
async fn readable(
    snapshot: &Tx,
    ids: &[String],
    report: &mut LedgerReport,
) -> Result<Vec<Aggregate>, Error> {
    let all = find(
        snapshot,
        payment::Entity::find().filter(payment::Column::Id.is_in(ids.to_vec())),
    )
    .await;
    let error = match all {
        Ok(aggregates) => return Ok(aggregates),
        Err(error @ Error::Unreadable { .. }) => error,
        Err(error) => return Err(error),
    };

    if let [id] = ids {
        report.deviates(id, format!("it cannot be read: {error}"));
        return Ok(Vec::new());
    }
    let mut aggregates = Vec::new();
    for id in ids {
        aggregates.extend(Box::pin(readable(snapshot, std::slice::from_ref(id), report)).await?);
    }

    Ok(aggregates)
}

fn check_payment(
    aggregate: &Aggregate,
    entries: &[Entry],
    is_opened: bool,
    report: &mut LedgerReport,
) {
    report.payments = report.payments.saturating_add(1);
    let payment = &aggregate.payment;
    for what in deviations(aggregate, entries) {
        report.deviates(&payment.id, what);
    }
    if payment.ledger.is_none() && has_money(aggregate) {
        if is_opened {
            report.deviates(&payment.id, "its money is not in the ledger".to_owned());
        } else {
            report.not_opened = report.not_opened.saturating_add(1);
        }
    }
}
