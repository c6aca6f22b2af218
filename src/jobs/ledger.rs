//! Seals what was booked into the ledger's blocks, and gives payments from before the ledger their
//! opening entries. Many gateways may do so at once: whoever is first has the block. Books nothing
//! itself.

use std::sync::Arc;

use crate::app::App;
use crate::domain::AllOwners;
use crate::kill_point;
use crate::payments;
use crate::restored::witness;
use crate::store::{Change, CommitError, Sealed};

use super::{Failed, Job, Next, periodic};

/// Payments that are opened in one go.
const OPENED_AT_ONCE: u64 = 100;

/// Runs until the gateway drains.
pub async fn run(app: Arc<App>) {
    let every = app.config.ledger.interval;
    periodic(app, every, "ledger", Sealing).await;
}

struct Sealing;

impl Job for Sealing {
    const FOLLOWS_JUMPS: bool = true;

    async fn step(&mut self, app: &Arc<App>) -> Result<Next, Failed> {
        step(app).await?;
        Ok(Next::Pause)
    }
}

/// Opens what has to be opened, and seals everything that is there.
///
/// # Errors
/// [`payments::Error`]; what was not done is done next time.
pub async fn step(app: &App) -> Result<(), payments::Error> {
    open(app).await?;
    while !app.draining.is_cancelled() {
        match app
            .store
            .seal_ledger(app.clock.now(), app.config.ledger.block_entries)
            .await?
        {
            Sealed::Block(block) => {
                kill_point!("ledger_after_seal");
                // The log is one of the places outside the database that remember what the chain
                // was.
                tracing::info!(
                    height = block.height,
                    entries = block.entries,
                    hash = block.hash,
                    "ledger block sealed"
                );
                if let Err(error) = witness::keep(&app.config, &app.store, &block).await {
                    tracing::warn!(%error, "the last block is not kept in the data folder");
                }
            }
            Sealed::Nothing => break,
            // There may be more than that one has taken.
            Sealed::Overtaken => {}
        }
    }

    Ok(())
}

/// Payments with money that were there before the ledger.
async fn open(app: &App) -> Result<(), payments::Error> {
    if app.store.is_ledger_opened().await? {
        return Ok(());
    }

    loop {
        let found = app
            .store
            .payments_not_in_ledger(AllOwners, OPENED_AT_ONCE)
            .await?;
        if found.is_empty() {
            return Ok(app.store.ledger_is_opened().await?);
        }
        for id in found {
            let Some(before) = app.store.payment(AllOwners, &id).await? else {
                continue;
            };
            match app
                .store
                .commit(Change::update(&before, before.clone(), app.clock.now()))
                .await
            {
                // Somebody else has changed it, and opened it with that.
                Ok(()) | Err(CommitError::VersionConflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if app.draining.is_cancelled() {
            return Ok(());
        }
    }
}
