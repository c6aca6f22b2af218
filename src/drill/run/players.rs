//! Who is at work beside the shoppers of a run: whoever starts gateways again, looks for doubles,
//! pays at each gateway all the time, and the hostile merchant.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::task::JoinSet;

use super::tools::Run;
use crate::domain::id::PaymentId;
use crate::drill::error::Error;
use crate::drill::merchant::Shop;
use crate::drill::neighbour::Neighbour;
use crate::drill::prober::{Probed, probe};
use crate::drill::receiver::Manners;

impl Run<'_> {
    /// Whoever starts gateways that have died.
    pub(super) fn keepers(&self, over: &Arc<AtomicBool>, kills: &Arc<Mutex<u32>>) -> JoinSet<()> {
        let mut keepers = JoinSet::new();
        for number in 0..self.stage.gateways() {
            let (stage, over, kills) =
                (Arc::clone(&self.stage), Arc::clone(over), Arc::clone(kills));
            keepers.spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    if stage.is_dead(number).await {
                        *kills.lock().await += 1;
                        let _ = stage.start(number).await;
                    }
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            });
        }
        keepers
    }

    /// Whoever looks all the time for a payment with two live or two kept attempts.
    pub(super) async fn watch(
        &self,
        over: &Arc<AtomicBool>,
        keepers: &mut JoinSet<()>,
    ) -> Result<Arc<Mutex<BTreeSet<PaymentId>>>, Error> {
        let looker = self
            .stage
            .looker()
            .await
            .ok_or_else(|| Error("nobody can look into the database".to_owned()))?;
        let (over, seen) = (Arc::clone(over), Arc::new(Mutex::new(BTreeSet::new())));
        let doubles = Arc::clone(&seen);

        keepers.spawn(async move {
            while !over.load(Ordering::Relaxed) {
                if let Ok(found) = looker.doubles().await {
                    seen.lock().await.extend(found);
                }
                tokio::time::sleep(Duration::from_millis(40)).await;
            }
        });

        Ok(doubles)
    }

    /// Whoever pays at each gateway all the time.
    pub(super) fn probe(
        &self,
        over: &Arc<AtomicBool>,
        shop: &Shop,
        keepers: &mut JoinSet<()>,
    ) -> Arc<Mutex<Vec<Probed>>> {
        let all = Arc::new(Mutex::new(Vec::new()));
        if self.plan.probes {
            for address in self.stage.addresses() {
                let (all, over, key) = (Arc::clone(&all), Arc::clone(over), shop.api_key.clone());
                keepers.spawn(async move {
                    let probed = probe(address, &key, &over).await;
                    all.lock().await.push(probed);
                });
            }
        }
        all
    }

    /// The hostile merchant, where there is one. What it is told goes to a box of its own, which
    /// takes nothing until all is mended.
    pub(super) async fn neighbour(&self, shop: &Shop) -> Result<Option<Neighbour>, Error> {
        if !self.plan.neighbour {
            return Ok(None);
        }
        let name = self.hanging();
        self.tools.boxes.behave(&name, Manners::Hang);
        Neighbour::move_in(
            &self.stage,
            shop,
            &format!("http://{}/{name}", self.tools.webhooks),
        )
        .await
        .map(Some)
    }
}
