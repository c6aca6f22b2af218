//! What is gathered for the auditor once everything rests, and forgeries that come in while nothing
//! else happens.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::tools::Run;
use crate::domain::Aggregate;
use crate::drill::attacker::{Forgeries, forge};
use crate::drill::audit::Evidence;
use crate::drill::cluster::KEY;
use crate::drill::error::Error;
use crate::drill::leftovers::{difference, planted};
use crate::drill::merchant::Shop;
use crate::drill::scenario::Blow;
use crate::server::demo::Demo;
use crate::store::{self, Store};
use crate::testing::kill::KILLED_AT;

/// So many forgeries once everything rests.
const FORGERIES_AT_REST: u32 = 12;

impl Run<'_> {
    /// Where the gateway was to die, if that is what the run is about, and whether it did.
    pub(super) fn point(&self, logs: &[String]) -> Option<(String, bool)> {
        let armed = |(_, blow): &(u64, Blow)| {
            if let Blow::Arm(_, point) = blow {
                Some(point.clone())
            } else {
                None
            }
        };
        let only = self.plan.scenario == "crash-everywhere";
        let point = self.plan.blows.iter().find_map(armed).filter(|_| only)?;
        let last = format!("{KILLED_AT}{}", point.split(':').next().unwrap_or_default());
        let is_hit = logs
            .iter()
            .flat_map(|log| log.lines())
            .any(|line| line == last);
        Some((point, is_hit))
    }

    /// Forgeries come in while nothing else happens; says what of the rows is another after them.
    pub(super) async fn forge_at_rest(
        &self,
        shop: &Shop,
        demo: &Demo,
        forgeries: &mut Forgeries,
    ) -> Result<Option<String>, Error> {
        let store = self.stage.store().await?;
        let unreadable =
            |e: store::Error| Error(format!("the auditor cannot read the database: {e}"));
        let before = store.all_rows().await.map_err(unreadable)?;
        let mut left = FORGERIES_AT_REST;
        let done = Arc::new(tokio::sync::Notify::new());
        let told = Arc::clone(&done);
        let now = self.sandbox_time().await?;

        let forged = forge(shop, demo, now, 50, !self.plan.seed, |believed| {
            forgeries.answered += 1;
            forgeries.believed.extend(believed);
            left = left.saturating_sub(1);
            if left == 0 {
                told.notify_one();
            }
        });

        tokio::select! {
            () = forged => {}
            () = done.notified() => {}
            () = tokio::time::sleep(Duration::from_secs(20)) => {
                return Ok(Some(format!("{left} of {FORGERIES_AT_REST} forgeries were not \
                                        answered")));
            }
        }

        let after = store.all_rows().await.map_err(unreadable)?;
        let _ = store.close().await;
        let differing = before
            .iter()
            .zip(&after)
            .filter(|(one, other)| one != other);
        let changed: Vec<String> = differing
            .map(|((name, one), (_, other))| format!("{name}: {}", difference(one, other)))
            .collect();

        Ok((!changed.is_empty()).then(|| changed.join("; ")))
    }

    pub(super) async fn evidence(
        &self,
        store: &Store,
        shop: &Shop,
        books: &Value,
        log: &Value,
        trouble: Vec<String>,
        secrets: &[String],
    ) -> Result<Evidence, store::Error> {
        let payments: Vec<Aggregate> = store.all_payments().await?;
        let shopped = shop.log.all();
        let codes = shopped
            .values()
            .filter_map(|shopped| shopped.auth_code.clone());
        let secrets = secrets
            .iter()
            .cloned()
            .chain(planted(&self.tools.keys))
            .chain(codes);

        let named = |body: &Value| body["provider"].as_str().unwrap_or_default().to_owned();
        let lying = self
            .plan
            .faults
            .iter()
            .filter(|fault| fault["kind"] == "other_amount");

        Ok(Evidence {
            liars: lying.map(named).collect(),
            refusing: self.plan.refund_ends.iter().map(named).collect(),
            orders: books["orders"].as_array().cloned().unwrap_or_default(),
            sent: log["sent"].as_u64().unwrap_or_default(),
            notifications: log["data"].as_array().cloned().unwrap_or_default(),
            payments,
            told: store.all_told().await?,
            taken: store.all_notifications().await?,
            for_a_person: store.all_for_a_person().await?,
            keys: store.all_keys().await?,
            secrets: secrets.chain([KEY.to_owned()]).collect(),
            shopped,
            received: [&self.name, &self.hanging()]
                .into_iter()
                .flat_map(|name| self.tools.boxes.empty(name))
                .collect(),
            logs: self.stage.logs(),
            ledger: store.check_ledger(None, 20).await?.deviations,
            trouble,
            ..Evidence::default()
        })
    }
}
