//! `interlock bench fill`: a database with as many payments as one likes, each with a whole life,
//! spread over a year and over merchants of very different sizes. What is made follows from the
//! seed. Only a database without payments is filled, or one that the same command has begun.

mod error;
mod life;
mod world;

use std::io::Write;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

pub use self::error::FillError;
pub use self::life::{life, order_id};
pub use self::world::{Plan, Shop, World};
use crate::clock::Clock;
use crate::domain::webhook::Mode;
use crate::domain::{AllOwners, Timestamp};
use crate::store::{
    Batch, Batches, Bulk, BulkTransaction, EndpointRow, Life, NewAccount, SealedSecrets, Store,
};

/// The facts about an installation that was filled: the plan, and how many payments of it are
/// there.
const PLAN: &str = "bench_fill";
const MADE: &str = "bench_fill_made";
/// How much is done at once.
struct Pace {
    /// Lives that are made together.
    together: u64,
    /// Lives that are committed together.
    committed_every: u64,
    /// After so many payments something is said.
    said_every: u64,
}

/// Every commit writes each page anew that an id chose, and ids choose nearly all of them.
const PACE: Pace = Pace {
    together: 2_000,
    committed_every: 20_000,
    said_every: 100_000,
};
/// Batches that are made ahead.
const AHEAD: usize = 2;
/// No more is asked of the database at once than it can answer by then.
const PATIENCE: Duration = Duration::from_secs(60);
const HOUR_MS: i64 = 3_600_000;

/// What is wanted.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// How many payments.
    pub payments: u64,
    /// Everything follows from it.
    pub seed: u64,
    /// When the year ends; by default now, or as it was begun.
    pub until: Option<Timestamp>,
}

/// Fills the database at `url`, and says how far it is.
///
/// # Errors
/// [`FillError`]. What was begun goes on with the next call.
pub async fn run(
    url: &str,
    wanted: Wanted,
    out: &mut (dyn Write + Send),
) -> Result<World, FillError> {
    fill(url, wanted, &PACE, out).await
}

async fn fill(
    url: &str,
    wanted: Wanted,
    pace: &Pace,
    out: &mut (dyn Write + Send),
) -> Result<World, FillError> {
    let began = Instant::now();
    let store = Store::open(url, 2, PATIENCE).await?;
    let world = World::new(planned(&store, wanted).await?);
    let made = store
        .installation_fact(MADE)
        .await?
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    furnish(&store, &world).await?;
    store.close().await?;

    let bulk = Bulk::open(url).await?;
    if made < world.plan.payments || bulk.is_begun().await? {
        bulk.begin().await?;
        write(&bulk, &world, made, pace, out).await?;
        writeln!(
            out,
            "all payments after {} s; now their indexes",
            began.elapsed().as_secs()
        )?;
        bulk.end().await?;
    }
    bulk.close().await?;

    let plan = &world.plan;
    let took = began.elapsed();
    writeln!(
        out,
        "{} payments of {} merchants, seed {}, until {}, in {}.{} s",
        plan.payments,
        world.shops.len(),
        plan.seed,
        Timestamp(plan.until_ms).rfc3339(),
        took.as_secs(),
        took.subsec_millis() / 100
    )?;
    Ok(world)
}

/// What a database was filled with, if it was.
///
/// # Errors
/// The database's; and when the plan cannot be read.
pub async fn filled(store: &Store) -> Result<Option<World>, FillError> {
    let stored = store.installation_fact(PLAN).await?;
    let plan = stored
        .map(|text| serde_json::from_str::<Plan>(&text))
        .transpose()?;
    Ok(plan.map(World::new))
}

async fn planned(store: &Store, wanted: Wanted) -> Result<Plan, FillError> {
    if let Some(World { plan, .. }) = filled(store).await? {
        let is_the_same = plan.seed == wanted.seed
            && plan.payments == wanted.payments
            && wanted.until.is_none_or(|until| until.0 == plan.until_ms);
        let what = format!(
            "was filled with {} payments, seed {}",
            plan.payments, plan.seed
        );
        return if is_the_same {
            Ok(plan)
        } else {
            Err(FillError::Refused(what))
        };
    }

    if store.has_payments(AllOwners).await? {
        return Err(FillError::Refused(
            "holds payments that were not made by this command".to_owned(),
        ));
    }

    let until_ms = wanted
        .until
        .map_or_else(|| Clock::new().now().0 / HOUR_MS * HOUR_MS, |until| until.0);
    let plan = Plan {
        seed: wanted.seed,
        payments: wanted.payments,
        until_ms,
    };

    store
        .set_installation(PLAN, &serde_json::to_string(&plan)?)
        .await?;
    Ok(plan)
}

/// Merchants, their accounts and their endpoints. Nothing can be sent for any of them: there are no
/// credentials, and the endpoints are disabled.
async fn furnish(store: &Store, world: &World) -> Result<(), FillError> {
    let since = world.begins_at();
    for shop in &world.shops {
        let id = store
            .merchant(shop.name, &shop.owner.merchant, since)
            .await?;
        if id != shop.owner.merchant {
            return Err(FillError::Refused(format!(
                "has another merchant by the name of {}",
                shop.name
            )));
        }
        for (id, provider) in &shop.accounts {
            let account = NewAccount {
                id: id.clone(),
                owner: shop.owner.clone(),
                provider: provider.to_string(),
                identity: id.to_string(),
                name: format!("{} at {provider}", shop.name),
                disabled: true,
                fee_bps: 60,
                credentials: vec![0],
                set_aside_until: None,
                set_aside_reason: None,
                terms: None,
                created_at: since,
            };
            // One that is there was made by a run that did not come to its end.
            store.add_account(&account).await?;
        }
        let known = store.endpoints_of(&shop.owner).await?;
        for id in [&shop.endpoint, &shop.refunds_endpoint] {
            if !known.iter().any(|endpoint| endpoint.id == *id) {
                store.add_endpoint(&endpoint(shop, id, since)).await?;
            }
        }
    }

    Ok(())
}

fn endpoint(shop: &Shop, id: &str, since: Timestamp) -> EndpointRow {
    EndpointRow {
        id: id.to_owned(),
        owner: shop.owner.clone(),
        url: format!("https://{}.example.com/webhooks", shop.name),
        events: Vec::new(),
        mode: Mode::Standard,
        description: String::new(),
        disabled_reason: Some("by_merchant".to_owned()),
        secrets: SealedSecrets {
            secret: vec![0],
            old: None,
            old_until: None,
        },
        failing_since: None,
        version: 1,
        created_at: since,
    }
}

/// Lives are made on one thread and written by another.
async fn write(
    bulk: &Bulk,
    world: &World,
    made: u64,
    pace: &Pace,
    out: &mut (dyn Write + Send),
) -> Result<(), FillError> {
    let batches = bulk.batches().await?;
    let (give, mut take) = mpsc::channel(AHEAD);
    let making = {
        let (world, together) = (world.clone(), pace.together);
        tokio::task::spawn_blocking(move || make(&world, made, together, batches, &give))
    };
    let mut committed = made;
    let mut open: Option<BulkTransaction> = None;

    while let Some((batch, upto)) = take.recv().await {
        let transaction = match open.take() {
            Some(begun) => begun,
            None => bulk.transaction().await?,
        };
        transaction.write(batch).await?;

        if upto.saturating_sub(committed) < pace.committed_every && upto < world.plan.payments {
            open = Some(transaction);
            continue;
        }
        transaction.commit(MADE, &upto.to_string()).await?;
        committed = upto;
        if upto % pace.said_every < pace.committed_every && upto >= pace.said_every {
            writeln!(out, "{upto} payments")?;
        }
    }

    making.await.map_err(|_| FillError::Stopped)?
}

fn make(
    world: &World,
    made: u64,
    together: u64,
    mut batches: Batches,
    give: &mpsc::Sender<(Batch, u64)>,
) -> Result<(), FillError> {
    let mut from = made;
    while from < world.plan.payments {
        let upto = from.saturating_add(together).min(world.plan.payments);
        let lives: Vec<Life> = (from..upto)
            .map(|n| life(world, n))
            .collect::<Result<_, _>>()?;
        let sealed_at = lives
            .last()
            .map_or(Timestamp(world.plan.until_ms), |life| life.ends_at());
        let batch = batches.next(&lives, sealed_at)?;
        // Whoever does not write any more has said why.
        if give.blocking_send((batch, upto)).is_err() {
            return Ok(());
        }
        from = upto;
    }

    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    /// Hears so much and no more: whoever speaks to it is ended there.
    struct Deaf(usize);

    impl Write for Deaf {
        fn write(&mut self, said: &[u8]) -> io::Result<usize> {
            let lines = said.iter().filter(|byte| **byte == b'\n').count();
            match self.0.checked_sub(lines) {
                Some(left) => {
                    self.0 = left;
                    Ok(said.len())
                }
                None => Err(io::Error::other("heard enough")),
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    async fn entries(url: &str) -> (u64, u64) {
        let store = Store::open(url, 2, PATIENCE).await.unwrap();
        let report = store.check_ledger(None, 10).await.unwrap();
        assert!(report.deviations.is_empty(), "{:?}", report.deviations);
        store.close().await.unwrap();
        (report.payments, report.entries)
    }

    #[tokio::test]
    async fn what_was_begun_goes_on_to_the_same_end() {
        let folder = tempfile::tempdir().unwrap();
        let url = |name: &str| format!("sqlite:{}", folder.path().join(name).display());
        let wanted = Wanted {
            payments: 1_000,
            seed: 3,
            until: Some(Timestamp(1_800_000_000_000)),
        };
        let pace = Pace {
            together: 50,
            committed_every: 200,
            said_every: 200,
        };

        let (whole, halved) = (url("whole.db"), url("halved.db"));
        fill(&whole, wanted, &pace, &mut Vec::new()).await.unwrap();
        let ended = fill(&halved, wanted, &pace, &mut Deaf(1)).await;
        assert!(matches!(ended, Err(FillError::Output(_))), "{ended:?}");

        let mut said = Vec::new();
        fill(&halved, wanted, &pace, &mut said).await.unwrap();
        let said = String::from_utf8(said).unwrap();
        assert!(said.starts_with("600 payments\n"), "{said}");
        assert_eq!(entries(&halved).await, entries(&whole).await);
    }
}
