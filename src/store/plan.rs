//! How a database answers a statement: which tables it reads, by which index and by what of it, and
//! what it sorts. Asked of the database itself about a statement that was sent.

use sea_orm::{ConnectionTrait as _, Statement};
use serde_json::Value;

use super::Error;
use super::{Sent, Store};

/// Whatever a plan has to tell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// What is read, in the order of the plan.
    pub reads: Vec<Read>,
    /// What is put in order because no index has that order.
    pub sorts: Vec<Sort>,
}

/// One table that is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// Which.
    pub table: String,
    /// By which index; `None`: from its first row to its last.
    pub index: Option<String>,
    /// Where in the index it begins and ends, as the database writes it; empty: it reads all of it.
    pub by: String,
    /// Rows that were read, those among them that were thrown away again, where the database says
    /// so.
    pub rows: Option<u64>,
}

/// One sort.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sort {
    /// What is sorted.
    pub what: Sorted,
    /// Rows that were sorted, where the database says so.
    pub rows: Option<u64>,
}

/// What a sort has to put in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sorted {
    /// Rows that are equal in the beginning of the order, which an index gives.
    Ties,
    /// What a subquery gave. Each of ours has a limit.
    Page,
    /// All rows that were read.
    Rows,
}

impl Store {
    /// How the database answers a statement. PostgreSQL does it, and says what it came to.
    ///
    /// # Errors
    /// The database's; and when its answer cannot be read.
    pub async fn plan(&self, sent: &Sent) -> Result<Plan, Error> {
        let how = if self.is_postgres() {
            "EXPLAIN (ANALYZE, FORMAT JSON)"
        } else {
            "EXPLAIN QUERY PLAN"
        };
        let asked = Statement {
            sql: format!("{how} {}", sent.0.sql),
            ..sent.0.clone()
        };
        let answer = self.db.query_all_raw(asked).await?;

        if self.is_postgres() {
            let unreadable = || Error::Other("a plan without a plan".to_owned());
            let text: Value = answer.first().ok_or_else(unreadable)?.try_get_by_index(0)?;
            let mut plan = Plan::default();
            node(text.pointer("/0/Plan").ok_or_else(unreadable)?, &mut plan);
            return Ok(plan);
        }

        let steps: Vec<String> = answer
            .iter()
            .map(|row| row.try_get("", "detail"))
            .collect::<Result<_, _>>()?;

        Ok(of_sqlite(&steps))
    }
}

/// PostgreSQL: a node, and those below it.
fn node(at: &Value, plan: &mut Plan) {
    let text = |name: &str| at.get(name).and_then(Value::as_str).unwrap_or_default();
    let count = |name: &str| at.get(name).and_then(Value::as_f64).map_or(0, whole);
    let rows = |name: &str| count(name).saturating_mul(count("Actual Loops").max(1));
    let kind = text("Node Type");
    let below: &[Value] = at
        .get("Plans")
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice);

    if kind.ends_with("Sort") {
        let sorted = below
            .first()
            .and_then(|input| input.get("Actual Rows"))
            .and_then(Value::as_f64);
        let what = if kind == "Incremental Sort" {
            Sorted::Ties
        } else {
            Sorted::Rows
        };
        plan.sorts.push(Sort {
            what,
            rows: sorted.map(whole),
        });
    }

    if kind == "Bitmap Index Scan" {
        // The node above it names the table.
        if let Some(read) = plan.reads.last_mut() {
            read.index
                .get_or_insert_with(String::new)
                .push_str(text("Index Name"));
            read.by.push_str(text("Index Cond"));
        }
    } else if at.get("Relation Name").is_some() {
        let thrown_away = ["Rows Removed by Filter", "Rows Removed by Index Recheck"]
            .map(rows)
            .iter()
            .sum::<u64>();
        plan.reads.push(Read {
            table: text("Relation Name").to_owned(),
            index: at
                .get("Index Name")
                .and_then(Value::as_str)
                .map(str::to_owned),
            by: text("Index Cond").to_owned(),
            rows: Some(rows("Actual Rows").saturating_add(thrown_away)),
        });
    }

    below.iter().for_each(|below| node(below, plan));
}

/// A number of rows, which recent versions give with a fraction.
#[expect(clippy::as_conversions, reason = "it saturates")]
fn whole(rows: f64) -> u64 {
    rows.ceil() as u64
}

/// SQLite: `SEARCH payments USING INDEX payments_list (merchant_id=? AND livemode=?)`, `SCAN
/// payments`, `USE TEMP B-TREE FOR LAST TERM OF ORDER BY`.
fn of_sqlite(steps: &[String]) -> Plan {
    let mut plan = Plan::default();
    let mut reads_subquery = false;

    for step in steps {
        if let Some(order) = step.strip_prefix("USE TEMP B-TREE FOR ") {
            let what = match order {
                "ORDER BY" if reads_subquery => Sorted::Page,
                "ORDER BY" => Sorted::Rows,
                _ => Sorted::Ties,
            };
            plan.sorts.push(Sort { what, rows: None });
        }
        let mut words = step.split_whitespace();
        let (Some(how @ ("SEARCH" | "SCAN")), Some(table)) = (words.next(), words.next()) else {
            continue;
        };
        // What a subquery gave is no table.
        reads_subquery = table.starts_with('(') || ["arm", "arms"].contains(&table);
        if reads_subquery {
            continue;
        }
        let index = ["USING INDEX ", "USING COVERING INDEX "]
            .iter()
            .find_map(|using| {
                let rest = step.split_once(using)?.1;
                rest.split_whitespace().next().map(str::to_owned)
            });
        let by = step
            .split_once(" (")
            .and_then(|(_, by)| by.strip_suffix(')'))
            .filter(|_| how == "SEARCH");
        let index = index.or_else(|| {
            step.contains("INTEGER PRIMARY KEY")
                .then(|| "rowid".to_owned())
        });
        plan.reads.push(Read {
            table: table.to_owned(),
            index,
            by: by.unwrap_or_default().to_owned(),
            rows: None,
        });
    }

    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(table: &str, index: Option<&str>, by: &str, rows: Option<u64>) -> Read {
        Read {
            table: table.to_owned(),
            index: index.map(str::to_owned),
            by: by.to_owned(),
            rows,
        }
    }

    #[test]
    fn sqlite_says_what_it_searches_and_what_it_scans() {
        let steps = [
            "CO-ROUTINE arms",
            "SEARCH payments USING INDEX payments_list (merchant_id=? AND livemode=?)",
            "SCAN payments",
            "SCAN arm",
            "SCAN (subquery-2)",
            "USE TEMP B-TREE FOR ORDER BY",
            "SCAN attempts USING COVERING INDEX attempts_seq",
            "SEARCH ledger_blocks USING INTEGER PRIMARY KEY (rowid=?)",
            "USE TEMP B-TREE FOR ORDER BY",
            "USE TEMP B-TREE FOR LAST TERM OF ORDER BY",
        ];
        let plan = of_sqlite(&steps.map(str::to_owned));

        assert_eq!(
            plan.reads,
            [
                read(
                    "payments",
                    Some("payments_list"),
                    "merchant_id=? AND livemode=?",
                    None
                ),
                read("payments", None, "", None),
                read("attempts", Some("attempts_seq"), "", None),
                read("ledger_blocks", Some("rowid"), "rowid=?", None),
            ]
        );

        let sorted: Vec<_> = plan.sorts.iter().map(|sort| sort.what).collect();
        assert_eq!(sorted, [Sorted::Page, Sorted::Rows, Sorted::Ties]);
    }

    #[test]
    fn postgresql_says_what_it_has_thrown_away() {
        let text = serde_json::json!({
            "Node Type": "Limit", "Actual Rows": 3, "Actual Loops": 1,
            "Plans": [{
                "Node Type": "Incremental Sort", "Actual Rows": 3, "Actual Loops": 1,
                "Plans": [{
                    "Node Type": "Bitmap Heap Scan", "Relation Name": "events", "Actual Rows": 4.00,
                    "Actual Loops": 2,
                    "Rows Removed by Filter": 5,
                    "Plans": [{"Node Type": "Bitmap Index Scan", "Index Name": "events_type",
                        "Index Cond": "(type = 'a')"}],
                }],
            }],
        });
        let mut plan = Plan::default();
        node(&text, &mut plan);

        assert_eq!(
            plan.reads,
            [read(
                "events",
                Some("events_type"),
                "(type = 'a')",
                Some(18)
            )]
        );

        assert_eq!(
            plan.sorts,
            [Sort {
                what: Sorted::Ties,
                rows: Some(4)
            }]
        );
    }
}
