//! Every filter of every list, alone and with others, is read off an index: as the database itself
//! says of the statements that the store sends, on ten thousand payments. And what a page shows is
//! what is there: the lives that were filled in are known, and every page is made once more from
//! them.

use std::collections::BTreeSet;

use interlock::bench::fill::{self, Wanted, World};
use interlock::bench::lists::{self, Case, LONGEST_PAGE, List};
use interlock::domain::{Owner, Timestamp};
use interlock::store::{self, Plan, Read, Sort, Sorted, Store, sent_by};
use tempfile::TempDir;

use crate::helpers::{PATIENCE, database, install_crypto};

const PAYMENTS: u64 = 10_000;
const WANTED: Wanted = Wanted {
    payments: PAYMENTS,
    seed: 7,
    until: Some(Timestamp(1_800_000_000_000)),
};
/// The longest page with what belongs to its payments, and what is read in vain at its ends.
const PAGE_ROWS: u64 = 3 * LONGEST_PAGE;
/// So many rows are a small table: PostgreSQL reads all of it rather than jump about in it, and is
/// right. Of what is listed there is more.
const SMALL_TABLE: u64 = 1_500;
/// Each of these names few rows, however many there are.
const KEYS: [&str; 5] = [
    "id",
    "payment_id",
    "provider_transaction_id",
    "order_id",
    "delivery_id",
];

/// Something that a list shows, as its life made it.
struct Row {
    list: List,
    owner: Owner,
    order: (i64, String, i32),
    id: String,
    has: Vec<(&'static str, String)>,
}

impl Row {
    fn new(
        list: List,
        owner: &Owner,
        at: Timestamp,
        id: &str,
        has: Vec<(&'static str, String)>,
    ) -> Self {
        Self {
            list,
            owner: owner.clone(),
            order: (at.0, id.to_owned(), 0),
            id: id.to_owned(),
            has,
        }
    }
}

fn rows(world: &World) -> Vec<Row> {
    let mut rows = Vec::new();
    for n in 0..world.plan.payments {
        let life = fill::life(world, n).unwrap();
        let end = life.end().unwrap().after();
        let (payment, owner) = (&end.payment, &end.payment.owner);
        let mut has = vec![
            ("order_id", payment.order_id.clone()),
            ("status", payment.status.to_string()),
        ];
        let numbers = end
            .attempts
            .iter()
            .filter_map(|attempt| attempt.provider_transaction_id.clone());
        has.extend(numbers.map(|number| ("provider_transaction_id", number)));
        rows.push(Row::new(
            List::Payments,
            owner,
            payment.created_at,
            &payment.id,
            has,
        ));

        let of_payment = || ("payment", payment.id.to_string());
        for refund in &end.refunds {
            rows.push(Row::new(
                List::Refunds,
                owner,
                refund.created_at,
                &refund.id,
                vec![of_payment()],
            ));
        }
        for event in life.changes.iter().flat_map(|change| change.events()) {
            let has = vec![of_payment(), ("type", event.kind.to_owned())];
            rows.push(Row::new(
                List::Events,
                owner,
                event.created_at,
                &event.id,
                has,
            ));
        }
        for delivery in &life.deliveries {
            let mut has = vec![
                ("event", delivery.event_id.to_string()),
                ("status", delivery.status.to_string()),
            ];
            has.extend(delivery.endpoint_id.clone().map(|id| ("endpoint", id)));
            rows.push(Row::new(
                List::Deliveries,
                owner,
                delivery.created_at,
                &delivery.id,
                has,
            ));
        }
        for entry in &life.operations {
            let status = if entry.resolved_at.is_some() {
                "resolved"
            } else {
                "open"
            };
            let has = vec![("kind", entry.kind.clone()), ("status", status.to_owned())];
            rows.push(Row::new(
                List::Operations,
                owner,
                entry.created_at,
                &entry.id,
                has,
            ));
        }
        for entry in life.changes.iter().flat_map(|change| change.entries()) {
            let t = &entry.transfer;
            let held = [t.debit, t.credit].map(|account| ("ledger_account", account.to_string()));
            let mut has = vec![of_payment(), ("account", t.account_id.to_string())];
            has.extend(held);
            let id = format!("{}.{}", entry.payment_id, entry.seq);
            let row = Row::new(List::Ledger, owner, entry.at, &id, has);
            rows.push(Row {
                order: (entry.at.0, entry.payment_id.to_string(), entry.seq),
                ..row
            });
        }
    }
    rows.sort_by(|a, b| b.order.cmp(&a.order));
    rows
}

/// The ids of a page, found by looking at everything.
fn expected(case: &Case, rows: &[Row]) -> Vec<String> {
    let of_list = || {
        rows.iter()
            .filter(|row| row.list == case.list && row.owner == case.owner)
    };
    let cursor = case
        .value("starting_after")
        .map(|id| &of_list().find(|row| row.id == id).unwrap().order);
    let is_shown = |row: &&Row| {
        case.filters.iter().all(|(name, value)| match *name {
            "starting_after" => cursor.is_some_and(|cursor| row.order < *cursor),
            "created_from" => row.order.0 >= value.parse().unwrap(),
            "created_until" => row.order.0 < value.parse().unwrap(),
            name => row
                .has
                .iter()
                .any(|(known, is)| *known == name && is == value),
        })
    };

    of_list()
        .filter(is_shown)
        .take(usize::try_from(case.limit).unwrap())
        .map(|row| row.id.clone())
        .collect()
}

/// The columns of which one has to say where in an index a filter begins and ends; none: an index
/// holds nothing else.
fn columns(case: &Case, filter: &str) -> &'static [&'static str] {
    match (case.list, filter) {
        (List::Ledger, "created_from" | "created_until" | "starting_after") => &["at"],
        (_, "created_from" | "created_until" | "starting_after") => &["created_at"],
        (List::Operations, "status") => &[],
        (_, "status") => &["status"],
        (_, "type") => &["type"],
        (_, "kind") => &["kind"],
        (_, "endpoint") => &["endpoint_id"],
        (_, "account") => &["account_id"],
        (_, "ledger_account") => &["debit", "credit"],
        // Few rows have it: it is a key.
        (_, _) => &["(a key)"],
    }
}

fn table(list: List) -> &'static str {
    match list {
        List::Payments => "payments",
        List::Refunds => "refunds",
        List::Events => "events",
        List::Deliveries => "deliveries",
        List::Operations => "operations",
        List::Ledger => "ledger_entries",
        List::Keys => "api_keys",
        List::WebhookEndpoints => "webhook_endpoints",
        List::Routing => "routing",
    }
}

/// Whether a column stands in what an index is read by.
fn names(by: &str, column: &str) -> bool {
    by.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .any(|word| word == column)
}

fn is_by_key(read: &Read) -> bool {
    KEYS.iter().any(|key| names(&read.by, key))
}

/// What is wrong with the way in which a statement is answered.
fn objections(case: &Case, plan: &Plan) -> Vec<String> {
    let mut found = Vec::new();
    for read in &plan.reads {
        let is_listed = read.table == table(case.list);
        // What merchants make by hand: twenty endpoints at the most, some keys, some versions.
        let is_short = matches!(
            case.list,
            List::Keys | List::WebhookEndpoints | List::Routing
        );
        let allowed = if is_listed { PAGE_ROWS } else { SMALL_TABLE };
        let is_small = read.rows.is_some_and(|rows| rows <= allowed);
        if read.by.is_empty() && !is_small {
            found.push(format!(
                "reads {} from its first row to its last",
                read.table
            ));
        } else if read.rows.is_some_and(|rows| rows > allowed) {
            found.push(format!(
                "reads {:?} rows of {} by {}",
                read.rows, read.table, read.by
            ));
        }
        if !is_listed || is_by_key(read) || is_short || (read.index.is_none() && is_small) {
            continue;
        }
        // What begins within a page of the end of what it looks for may be looked through for the
        // time.
        let is_time = |name: &str| name.starts_with("created") || name == "starting_after";
        for (name, _) in case
            .filters
            .iter()
            .filter(|(name, _)| !is_time(name) || !is_small)
        {
            let wanted = columns(case, name);
            if !wanted.is_empty() && !wanted.iter().any(|column| names(&read.by, column)) {
                found.push(format!(
                    "looks for {name} in what {:?} gives by {}",
                    read.index, read.by
                ));
            }
        }
    }

    // How many rows SQLite sorts it does not say: no more than a page where a key names them, where
    // they are equal in the beginning of the order, and where they are the pages of parts.
    let few = plan.reads.iter().all(is_by_key) || case.list == List::WebhookEndpoints;
    if !few
        && plan
            .sorts
            .iter()
            .any(|sort| sort.what == Sorted::Rows && sort.rows.is_none())
    {
        found.push(format!("sorts what {:?} give", plan.reads));
    }
    for rows in plan
        .sorts
        .iter()
        .filter_map(|sort| sort.rows)
        .filter(|rows| *rows > PAGE_ROWS)
    {
        found.push(format!("sorts {rows} rows"));
    }
    found
}

struct Filled {
    store: Store,
    world: World,
    url: String,
    _folder: TempDir,
}

async fn filled() -> Filled {
    install_crypto();
    let folder = TempDir::new().unwrap();
    let url = database(folder.path()).await;
    let world = fill::run(&url, WANTED, &mut std::io::stdout())
        .await
        .unwrap();
    let store = Store::open(&url, 4, PATIENCE).await.unwrap();
    Filled {
        store,
        world,
        url,
        _folder: folder,
    }
}

async fn look(filled: &Filled, case: &Case, rows: &[Row]) -> Result<Vec<String>, store::Error> {
    let (ids, sent) = sent_by(case.ask(&filled.store)).await;
    let ids = ids?;
    let mut objected = Vec::new();
    let mut by = BTreeSet::new();
    assert!(!sent.is_empty(), "{case:?} asked nothing");

    for sent in &sent {
        let plan = filled.store.plan(sent).await?;
        by.extend(plan.reads.iter().map(|read| {
            read.index
                .clone()
                .unwrap_or_else(|| format!("all of {}", read.table))
        }));
        let objections = objections(case, &plan).into_iter();
        objected.extend(
            objections
                .map(|what| format!("{} {}: {what}\n    {}", case.list, case.query(), sent.sql())),
        );
    }

    println!(
        "{:17} {:64} {:>4} rows  {}",
        case.list.to_string(),
        case.query(),
        ids.len(),
        Vec::from_iter(by).join(" ")
    );

    let is_known = !matches!(
        case.list,
        List::Keys | List::WebhookEndpoints | List::Routing
    );
    if is_known && ids != expected(case, rows) {
        objected.push(format!("{} {} shows {ids:?}", case.list, case.query()));
    }

    Ok(objected)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_filter_of_every_list_is_read_off_an_index() {
    let filled = filled().await;
    let report = filled.store.check_ledger(None, 5).await.unwrap();
    assert_eq!(
        (report.deviation_count, report.payments, report.unsealed),
        (0, PAYMENTS, 0),
        "{:?}",
        report.deviations
    );

    let rows = rows(&filled.world);
    let cases = lists::cases(&filled.world).unwrap();
    let mut objected = Vec::new();
    for case in &cases {
        objected.extend(look(&filled, case, &rows).await.unwrap());
    }
    assert!(cases.len() > 200, "{}", cases.len());
    assert!(objected.is_empty(), "{}", objected.join("\n"));
    filled.store.close().await.unwrap();

    // Again, it is there; another one has no place beside it.
    fill::run(&filled.url, WANTED, &mut std::io::sink())
        .await
        .unwrap();
    let another = Wanted { seed: 8, ..WANTED };
    let refused = fill::run(&filled.url, another, &mut std::io::sink())
        .await
        .unwrap_err();
    assert!(
        refused
            .to_string()
            .contains("was filled with 10000 payments, seed 7"),
        "{refused}"
    );
}

fn case(list: List, filters: &[(&'static str, &str)]) -> Case {
    let filters = filters
        .iter()
        .map(|(name, value)| (*name, (*value).to_owned()))
        .collect();
    Case {
        list,
        owner: Owner::of("mer_1".parse().unwrap(), false),
        filters,
        limit: lists::PAGE,
    }
}

fn plan(
    table: &str,
    index: Option<&str>,
    by: &str,
    rows: Option<u64>,
    sorted: Option<Option<u64>>,
) -> Plan {
    let index = index.map(str::to_owned);
    let read = Read {
        table: table.to_owned(),
        index,
        by: by.to_owned(),
        rows,
    };

    let sorts = sorted
        .map(|rows| Sort {
            what: Sorted::Rows,
            rows,
        })
        .into_iter()
        .collect();

    Plan {
        reads: vec![read],
        sorts,
    }
}

#[test]
fn scans_and_sorts_are_objected_to() {
    let by_state = case(List::Payments, &[("status", "failed")]);
    let by_order = case(List::Payments, &[("order_id", "17")]);
    let owner = "merchant_id=? AND livemode=?";
    let good = [
        (
            &by_state,
            plan(
                "payments",
                Some("payments_status"),
                "merchant_id=? AND livemode=? AND status=?",
                None,
                None,
            ),
        ),
        (
            &by_order,
            plan(
                "payments",
                Some("payments_order"),
                "merchant_id=? AND order_id=?",
                None,
                Some(None),
            ),
        ),
        (&by_state, plan("operations", None, "", Some(3), None)),
        (
            &by_state,
            plan(
                "payments",
                Some("payments_status"),
                "(status = 'failed')",
                Some(21),
                Some(Some(21)),
            ),
        ),
    ];

    for (case, plan) in good {
        assert_eq!(objections(case, &plan), Vec::<String>::new());
    }
    let bad = [
        (&by_state, plan("payments", None, "", None, None)),
        (
            &by_state,
            plan("payments", Some("payments_list"), "", None, None),
        ),
        (
            &by_state,
            plan("payments", Some("payments_list"), owner, None, None),
        ),
        (
            &by_order,
            plan("payments", Some("payments_list"), owner, None, None),
        ),
        (
            &by_state,
            plan(
                "payments",
                Some("payments_status"),
                "merchant_id=? AND status=?",
                None,
                Some(None),
            ),
        ),
        (
            &by_state,
            plan(
                "payments",
                Some("payments_status"),
                "(status = 'failed')",
                Some(2_000),
                None,
            ),
        ),
        (
            &by_state,
            plan(
                "payments",
                Some("payments_status"),
                "(status = 'failed')",
                Some(21),
                Some(Some(2_000)),
            ),
        ),
        (&by_state, plan("attempts", None, "", Some(11_000), None)),
    ];

    for (case, plan) in bad {
        assert_ne!(objections(case, &plan), Vec::<String>::new(), "{plan:?}");
    }
}
