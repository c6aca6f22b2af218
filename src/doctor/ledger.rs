//! `interlock doctor --ledger`: the ledger against itself and against the books, in words. It needs
//! the database alone, changes nothing, and may run beside gateways.

use std::io::{self, Write};

use crate::domain::ledger::LedgerAccount;
use crate::store::{self, LedgerReport, Store};

/// Deviations that are printed; all are counted.
const SHOWN: usize = 20;

/// Why there is no verdict.
#[derive(Debug, thiserror::Error)]
pub enum NoVerdict {
    /// The database's.
    #[error("database: {0}")]
    Database(#[from] store::Error),
    /// Nobody reads it.
    #[error(transparent)]
    Output(#[from] io::Error),
    /// The anchor is none.
    #[error("--anchor: {0:?} is no HEIGHT:HASH, as `interlock doctor --ledger` prints it")]
    Anchor(String),
}

/// Verifies the ledger and prints what it found. Returns how many things do not agree. `anchor` is
/// `HEIGHT:HASH` of a block, noted elsewhere at an earlier time.
///
/// # Errors
/// [`NoVerdict`].
pub async fn run(
    store: &Store,
    anchor: Option<&str>,
    out: &mut dyn Write,
) -> Result<u64, NoVerdict> {
    let anchor = anchor
        .map(|text| read_anchor(text).ok_or_else(|| NoVerdict::Anchor(text.to_owned())))
        .transpose()?;
    let report = store.check_ledger(anchor, SHOWN).await?;
    print(&report, out)?;
    Ok(report.deviation_count)
}

fn read_anchor(text: &str) -> Option<(i64, &str)> {
    let (height, hash) = text.split_once(':')?;
    Some((height.parse().ok()?, hash)).filter(|_| hash.len() == 64)
}

fn print(report: &LedgerReport, out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "{} payments, {} entries, {} not sealed yet",
        report.payments, report.entries, report.unsealed
    )?;

    if report.not_opened > 0 {
        writeln!(
            out,
            "{} payments from before the ledger have no opening entries yet: a running gateway \
            makes them",
            report.not_opened
        )?;
    }

    writeln!(
        out,
        "{:<16} {:>20} {:>20} {:>20}",
        "fen", "debits", "credits", "balance"
    )?;

    let (mut debits, mut credits) = (0_i128, 0_i128);
    for (account, (debit, credit)) in &report.totals {
        writeln!(
            out,
            "{:<16} {debit:>20} {credit:>20} {:>20}",
            account.to_string(),
            balance(*account, *debit, *credit)
        )?;
        debits = debits.saturating_add(*debit);
        credits = credits.saturating_add(*credit);
    }

    writeln!(
        out,
        "{:<16} {debits:>20} {credits:>20} {:>20}",
        "all",
        debits.saturating_sub(credits)
    )?;

    if let Some(block) = &report.last_block {
        writeln!(
            out,
            "sealed up to block {}; note this elsewhere, to prove later that nothing before it",
            block.height
        )?;
        writeln!(
            out,
            "was rewritten: --anchor {}:{}",
            block.height, block.hash
        )?;
    }

    for deviation in &report.deviations {
        writeln!(out, "DEVIATION  {}: {}", deviation.place, deviation.what)?;
    }
    match report.deviation_count {
        0 => writeln!(
            out,
            "The ledger balances, its chains are intact, and it agrees with the books."
        ),
        count => writeln!(
            out,
            "{count} deviations, the first {} of them above",
            report.deviations.len()
        ),
    }
}

/// As the account grows.
fn balance(account: LedgerAccount, debits: i128, credits: i128) -> i128 {
    let net = debits.saturating_sub(credits);
    if account.grows_by_debit() {
        net
    } else {
        net.saturating_neg()
    }
}
