//! `interlock bench lists`: how long each filter of each list takes on a database that `interlock
//! bench fill` has made, and which indexes the database reads for it. What is measured is what the
//! store does for the API, its snapshot and its reading of rows included; HTTP and JSON are not.

mod cases;

use std::io::{self, Write};
use std::time::Instant;

use serde_json::json;

pub use self::cases::{Case, LONGEST_PAGE, List, PAGE, cases};
use super::fill::{self, FillError};
use crate::store::{self, OpenError, Store, sent_by};

/// Each case is asked so often; the median counts.
const TIMES: usize = 20;
/// As many as a small gateway has.
const CONNECTIONS: u32 = 4;

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
pub enum NoFigures {
    /// It does not open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The database, after it was opened.
    #[error("database: {0}")]
    Database(#[from] store::Error),
    /// Nobody reads them.
    #[error(transparent)]
    Output(#[from] io::Error),
    /// What it was filled with cannot be made again.
    #[error(transparent)]
    Fill(#[from] FillError),
    /// There is nothing whose answers are known.
    #[error("this database was not filled by `interlock bench fill`")]
    NotFilled,
}

/// What a case came to.
#[derive(Debug, Clone)]
pub struct Figure {
    /// Which.
    pub case: Case,
    /// How many rows it gave.
    pub rows: usize,
    /// The median and the longest, in microseconds.
    pub median_us: u128,
    /// The longest.
    pub longest_us: u128,
    /// What was read by what: `payments_status`; a table's own name where all of it was read.
    pub indexes: Vec<String>,
}

/// Measures all, and prints what came of it.
///
/// # Errors
/// [`NoFigures`].
pub async fn run(url: &str, is_json: bool, out: &mut (dyn Write + Send)) -> Result<(), NoFigures> {
    let store = Store::look(url, CONNECTIONS).await?;
    let world = fill::filled(&store).await?.ok_or(NoFigures::NotFilled)?;
    let kind = if url.starts_with("sqlite") {
        "sqlite"
    } else {
        "postgres"
    };
    writeln!(
        out,
        "{kind}, {} payments; ms, the median of {TIMES} (the longest)",
        world.plan.payments
    )?;
    let mut figures = Vec::new();
    for case in cases(&world)? {
        let figure = measure(&store, case).await?;
        line(&figure, out)?;
        figures.push(figure);
    }
    store.close().await?;

    let slowest = figures.iter().max_by_key(|figure| figure.median_us);
    if let Some(slowest) = slowest {
        writeln!(
            out,
            "the slowest: {} {}, {} ms",
            slowest.case.list,
            slowest.case.query(),
            ms(slowest.median_us)
        )?;
    }
    if is_json {
        let lists: Vec<_> = figures.iter().map(shown).collect();
        writeln!(
            out,
            "{}",
            json!({"database": kind, "payments": world.plan.payments, "lists": lists})
        )?;
    }
    Ok(())
}

async fn measure(store: &Store, case: Case) -> Result<Figure, NoFigures> {
    let (found, sent) = sent_by(case.ask(store)).await;
    let rows = found?.len();
    let mut indexes = Vec::new();
    for sent in &sent {
        let reads = store.plan(sent).await?.reads;
        indexes.extend(
            reads
                .into_iter()
                .map(|read| read.index.unwrap_or(read.table)),
        );
    }
    indexes.sort();
    indexes.dedup();

    let mut took = Vec::with_capacity(TIMES);
    for _ in 0..TIMES {
        let began = Instant::now();
        case.ask(store).await?;
        took.push(began.elapsed().as_micros());
    }
    took.sort_unstable();
    let median_us = took.get(TIMES / 2).copied().unwrap_or_default();
    Ok(Figure {
        case,
        rows,
        median_us,
        longest_us: took.last().copied().unwrap_or_default(),
        indexes,
    })
}

fn ms(us: u128) -> String {
    format!("{}.{:02}", us / 1_000, us % 1_000 / 10)
}

fn line(figure: &Figure, out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "{:17} {:64} {:>4} rows {:>8} ({:>8})  {}",
        figure.case.list.to_string(),
        figure.case.query(),
        figure.rows,
        ms(figure.median_us),
        ms(figure.longest_us),
        figure.indexes.join(" ")
    )
}

fn shown(figure: &Figure) -> serde_json::Value {
    json!({
        "list": figure.case.list.to_string(),
        "filter": figure.case.query(),
        "rows": figure.rows,
        "median_us": u64::try_from(figure.median_us).unwrap_or(u64::MAX),
        "longest_us": u64::try_from(figure.longest_us).unwrap_or(u64::MAX),
        "indexes": figure.indexes,
    })
}
