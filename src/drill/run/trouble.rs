//! What goes wrong in a run while shoppers pay, how it is mended, and what is paid after its time.
#![expect(
    clippy::indexing_slicing,
    reason = "a JSON value gives null for what it has not"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::Xoshiro256PlusPlus as Rng;
use rand::{RngExt as _, SeedableRng as _};
use rustix::process::Signal;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::tools::Run;
use crate::drill::attacker::{Forgeries, forge};
use crate::drill::cluster::DatabaseTrouble;
use crate::drill::error::Error;
use crate::drill::merchant::{Shop, Shopper};
use crate::drill::neighbour::Neighbour;
use crate::drill::proxy::LinkState;
use crate::drill::quiesce::STEP_S;
use crate::drill::receiver::Manners;
use crate::drill::scenario::Blow;
use crate::server::demo::Demo;

/// An order's time is over so long after it was made, and UnionPay's last.
const ORDERS_END_S: u64 = 1_200;
/// Between two times that somebody pays what nobody was shown.
const LEAKS_EVERY: Duration = Duration::from_millis(250);
/// The embedded database's lock is held so many times as long as another database would stall: a
/// long stall outlasts the five seconds that gateways wait for it.
const OUTLASTS: u64 = 12;

impl Run<'_> {
    pub(super) async fn trouble(
        &self,
        shop: &Shop,
        demo: &Demo,
        neighbour: Option<&Neighbour>,
    ) -> Result<Forgeries, Error> {
        let asked = [
            ("/refunds", &self.plan.refund_ends),
            ("/payments", &self.plan.payment_ends),
        ];
        for (path, bodies) in asked.into_iter().chain([("/faults", &self.plan.faults)]) {
            for body in bodies {
                self.stage.tell("PUT", path, Some(body.clone())).await?;
            }
        }

        let places = Arc::new(Semaphore::new(self.plan.at_once));
        let mut shoppers = JoinSet::new();

        for number in 0..self.plan.payments {
            let (places, shop) = (Arc::clone(&places), shop.clone());
            let (seed, habits) = (self.plan.seed, self.plan.habits);
            let share = u64::try_from(number).unwrap_or(0) * self.plan.spread_ms;
            let comes = Duration::from_millis(
                share / u64::try_from(self.plan.payments).unwrap_or(1).max(1),
            );
            shoppers.spawn(async move {
                tokio::time::sleep(comes).await;
                let _place = places.acquire_owned().await;
                Shopper::new(shop, number, seed, habits).run().await;
            });
        }

        let shopping = async { while shoppers.join_next().await.is_some() {} };
        let mut forgeries = Forgeries::default();
        let now = self.sandbox_time().await?;
        let forged = forge(
            shop,
            demo,
            now,
            self.plan.forgeries,
            self.plan.seed,
            |believed| {
                forgeries.answered += 1;
                forgeries.believed.extend(believed);
            },
        );

        let hostile = async {
            match neighbour {
                Some(neighbour) => neighbour.be_hostile().await,
                None => std::future::pending().await,
            }
        };
        let beside =
            async { tokio::join!(self.hurry(), self.leak_again_and_again(), forged, hostile) };

        tokio::select! {
            _ = async { tokio::join!(shopping, self.blows()) } => {}
            _ = beside => {}
            () = tokio::time::sleep(Duration::from_secs(self.plan.lasts_s)) => {}
        }

        self.leak(self.plan.leaks, 0).await?;
        Ok(forgeries)
    }

    async fn blows(&self) {
        let began = Instant::now();
        let struck = self.plan.blows.iter().map(|(at, blow)| async move {
            tokio::time::sleep(Duration::from_millis(*at).saturating_sub(began.elapsed())).await;
            self.strike(blow).await;
        });
        futures_util::future::join_all(struck).await;
    }

    async fn strike(&self, blow: &Blow) {
        let stage = &self.stage;

        match blow {
            Blow::Kill(gateway) => stage.signal(*gateway, Signal::KILL).await,
            Blow::Arm(gateway, point) => stage.arm(*gateway, point).await,
            Blow::Freeze(gateway, ms) => stage.freeze(*gateway, Duration::from_millis(*ms)).await,
            Blow::Redis(mood, ms) => {
                if let Some(proxy) = &stage.redis {
                    proxy.hold(*mood, *ms).await;
                }
            }
            Blow::Flush => self.flush().await,
            Blow::Lie(lie) => {
                let told = match &self.liar {
                    Some(liar) => liar.tell(*lie).await,
                    None => Ok(()),
                };
                if let Err(error) = told {
                    tracing::warn!(%error, ?lie, "Redis did not lie");
                }
            }
            Blow::Database(mood, ms) => match &stage.database {
                Some(proxy) => proxy.hold(*mood, *ms).await,
                // A stall may last longer than gateways wait for a lock: then changes fail.
                None => {
                    let ms = if *mood == LinkState::Stalled {
                        ms * OUTLASTS
                    } else {
                        *ms
                    };
                    stage
                        .trouble_database(DatabaseTrouble::ReadOnly, Duration::from_millis(ms))
                        .await;
                }
            },
            Blow::Restart(ms) => {
                stage
                    .trouble_database(DatabaseTrouble::Restart, Duration::from_millis(*ms))
                    .await
            }
            Blow::ReadOnly(ms) => {
                stage
                    .trouble_database(DatabaseTrouble::ReadOnly, Duration::from_millis(*ms))
                    .await
            }
            Blow::Skew(gateway, seconds) => stage.skew(*gateway, *seconds).await,
            Blow::Callbacks(mood, ms) => stage.front.hold(*mood, *ms).await,
            Blow::Provider(provider, mood, ms) => {
                if let Some(proxy) = stage.providers.get(provider) {
                    proxy.hold(*mood, *ms).await;
                }
            }
            Blow::DiskFull(left, ms) => stage.fill_disk(*left, Duration::from_millis(*ms)).await,
            Blow::Leap(seconds) => stage.advance(*seconds).await,
            Blow::Mend => drop(stage.tell("DELETE", "/faults", None).await),
        }
    }

    pub(super) async fn flush(&self) {
        let Some(url) = &self.redis else { return };
        let flushing = async {
            let client = redis::Client::open(url.as_str())?;
            let mut connection = client.get_multiplexed_async_connection().await?;
            redis::cmd("FLUSHDB")
                .query_async::<()>(&mut connection)
                .await
        };
        if let Err(error) = flushing.await {
            tracing::warn!(%error, "Redis could not be emptied");
        }
    }

    /// Time goes by faster than it does.
    async fn hurry(&self) {
        let mut rng = Rng::seed_from_u64(self.plan.seed ^ 0x5EED);
        loop {
            tokio::time::sleep(Duration::from_millis(150)).await;
            self.stage
                .advance(rng.random_range(0..=self.plan.hurry_s))
                .await;
        }
    }

    /// Somebody pays what nobody was shown, while it is still being sent, too: then the provider
    /// tells of money before it has answered.
    async fn leak_again_and_again(&self) {
        for round in 1.. {
            tokio::time::sleep(LEAKS_EVERY).await;
            if self.plan.leaks > 0 {
                let _ = self.leak(self.plan.leaks / 16, round).await;
            }
        }
    }

    /// Of a thousand orders so many are paid, whoever knows of them.
    async fn leak(&self, permille: u32, round: u64) -> Result<(), Error> {
        let mut rng = Rng::seed_from_u64(self.plan.seed ^ 0x1EA7 ^ (round << 32));
        let books = self.stage.tell("GET", "/books", None).await?;
        for order in books["orders"].as_array().into_iter().flatten() {
            if rng.random_range(0..1_000) < permille {
                let body = json!({"order_no": order["order_no"], "result": "paid"});
                let _ = self.stage.tell("POST", "/pay", Some(body)).await;
            }
        }
        Ok(())
    }

    pub(super) async fn mend(&self) -> Result<(), Error> {
        self.stage.tell("DELETE", "/faults", None).await?;
        for protocol in providers::PROTOCOLS {
            let done = json!({"provider": protocol.name.as_str(), "result": "done"});
            self.stage.tell("PUT", "/refunds", Some(done)).await?;
        }
        for name in [&self.name, &self.hanging()] {
            self.tools.boxes.behave(name, Manners::Good);
        }
        self.stage.mend().await
    }

    /// Once the time of orders is over, some are paid all the same: there is a provider that takes
    /// that money, tells nobody, and gives it back days later.
    pub(super) async fn pay_too_late(&self) -> Result<(), Error> {
        if self.plan.too_late == 0 {
            return Ok(());
        }
        for _ in 0..ORDERS_END_S / STEP_S {
            self.stage.advance(STEP_S).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let mut rng = Rng::seed_from_u64(self.plan.seed ^ 0x1A7E);

        let books = self
            .stage
            .tell("GET", "/books?provider=unionpay", None)
            .await?;
        for order in books["orders"].as_array().into_iter().flatten() {
            if rng.random_range(0..1_000) < self.plan.too_late {
                let body = json!({"order_no": order["order_no"], "result": "late"});
                let _ = self.stage.tell("POST", "/pay", Some(body)).await;
            }
        }

        Ok(())
    }
}
