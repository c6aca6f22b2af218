//! Drills: real gateways, a real sandbox and a merchant that writes everything down, with faults
//! injected on purpose; then everything is mended and must come to rest; then an auditor looks for
//! what must never be. Only in builds for drills.

pub mod attacker;
pub mod audit;
mod clock_set;
pub mod cluster;
mod compare;
pub mod control_socket;
pub mod disk;
mod error;
mod leftovers;
pub mod lies;
pub mod merchant;
mod neighbour;
mod options;
mod outcome;
pub mod prober;
pub mod proxy;
mod quiesce;
pub mod receiver;
mod report;
mod returns;
mod run;
pub mod scenario;
mod storm;
mod trace;

use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use providers::sandbox::keys::Keys;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

pub use self::error::Error;
pub use self::options::Options;
use self::receiver::Receiver;
use self::report::Results;
pub use self::report::explain;
use self::run::Tools;

/// How often somebody who waits is told how far it has got.
const SHOWN_EVERY: Duration = Duration::from_secs(60);

/// Drills, and prints what came of it. Returns whether nothing was violated.
///
/// # Errors
/// [`Error`].
pub async fn drill(wanted: Options, out: &mut (dyn Write + Send)) -> Result<bool, Error> {
    report::announce(&wanted, out)?;
    let keys = tokio::task::spawn_blocking(Keys::generate)
        .await
        .map_err(|e| Error(e.to_string()))?;
    let receiver = Receiver::start()?;
    let tools = Arc::new(Tools {
        wanted: wanted.clone(),
        keys: keys.map_err(|e| Error(e.to_string()))?,
        webhooks: receiver.address,
        boxes: receiver.boxes.clone(),
    });

    let places = Arc::new(Semaphore::new(wanted.jobs.max(1)));
    let (begin, mut begun) = mpsc::unbounded_channel();
    let mut running = JoinSet::new();

    for seed in wanted.seeds.clone() {
        let (tools, places, begin) = (Arc::clone(&tools), Arc::clone(&places), begin.clone());
        running.spawn(async move {
            let _place = places.acquire_owned().await.ok()?;
            let plan = tools.wanted.plan(seed);
            let _ = begin.send(plan.clone());
            Some((seed, compare::carry_out(&tools, plan).await))
        });
    }

    let (mut results, mut shown_at) = (Results::default(), Instant::now());
    let runs = wanted
        .seeds
        .end()
        .saturating_sub(*wanted.seeds.start())
        .saturating_add(1);

    loop {
        let done = tokio::select! {
            biased;
            Some(plan) = begun.recv() => {
                report::show(&plan, out)?;
                continue;
            }
            done = running.join_next() => done,
        };
        let Some(done) = done else { break };
        let Some((seed, outcome)) = done.map_err(|e| Error(e.to_string()))? else {
            continue;
        };
        match outcome {
            Ok((outcome, compared)) => {
                compared
                    .into_iter()
                    .for_each(|compared| results.compare(compared));
                results.add(seed, outcome, out)?;
            }
            Err(broken) => results.add_broken(seed, &broken, out)?,
        }
        if shown_at.elapsed() >= SHOWN_EVERY {
            shown_at = Instant::now();
            writeln!(io::stderr(), "{}", results.progress(runs))?;
        }
        if wanted.first && !results.is_clean() {
            places.close();
        }
    }

    receiver.stop().await;
    results.print(&wanted, out)?;
    Ok(results.is_clean())
}
