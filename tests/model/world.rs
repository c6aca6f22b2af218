//! One payment in a world where everything that can happen to it happens one thing at a time:
//! workers of two gateways, crashes, payers, late and lost messages, time. After each of them the
//! rules are held against what there is.

use interlock::domain::id::{AccountId, PaymentId};
use std::sync::Arc;
use std::time::{Duration, Instant};

use interlock::app::App;
use interlock::domain::{Aggregate, AllOwners, Timestamp};
use interlock::payments::call::RequestContext;
use interlock::payments::pay::{self, NewPayment};
use interlock::payments::{self, cancel, notify, offer, resolve};
use interlock::store::change::{Change, Key, KeyScope, KeyWrite};
use interlock::store::{CommitError, Lane, PaymentFilter};
use providers::money::Money;
use providers::notification::RawNotification;
use providers::order::Call as Frame;
use providers::provider::Provider as _;
use serde_json::json;

use super::Start;
use super::ground::{Account, Ground};
use super::rules;
use super::seat::{Stop, Worker};
use super::shop::{Asks, Fate, How, Shop, flow};
use crate::helpers::fresh;

/// At most so many workers at once: two that work, and what providers tell.
const WORKERS: usize = 3;
/// Steps of one worker after everything has healed.
const STEPS: usize = 400;
/// Times that something is due after everything has healed.
const ROUNDS: usize = 400;
/// What is asked for.
pub const AMOUNT_FEN: i64 = 8_888;

pub struct World {
    pub ground: &'static Ground,
    pub start: Start,
    pub shop: Shop,
    /// The payment as it was last seen.
    pub seen: Option<Aggregate>,
    /// Whether a provider has broken its word: it took money for an order that it had said was
    /// dead.
    pub has_lied: bool,
    pub canceled: bool,
    /// What the merchant has been told, in order.
    pub told: Vec<String>,
    gateways: [Arc<App>; 2],
    accounts: Vec<Account>,
    order_id: String,
    workers: Vec<(Worker, Stop)>,
    notices: Vec<(AccountId, RawNotification)>,
    started: usize,
    log: Vec<String>,
}

impl World {
    pub async fn new(ground: &'static Ground, start: Start) -> Self {
        let (gateways, accounts) = ground.gateways().await;
        let mut world = Self {
            ground,
            start,
            shop: Shop::default(),
            seen: None,
            has_lied: false,
            canceled: false,
            told: Vec::new(),
            gateways,
            accounts,
            order_id: fresh("model"),
            workers: Vec::new(),
            notices: Vec::new(),
            started: 0,
            log: Vec::new(),
        };

        world.checkout().await;
        world
    }

    pub fn now(&self) -> Timestamp {
        self.gateways[0].clock.now()
    }

    /// What has happened, for whoever has to understand a failure.
    pub fn story(&self) -> String {
        self.log.join("\n")
    }

    fn note(&mut self, what: String) {
        self.log.push(what);
    }

    async fn begin(
        &mut self,
        what: &str,
        work: impl Future<Output = Result<(), payments::Error>> + Send + 'static,
    ) {
        let name = format!("{what} {}", self.started);
        self.note(format!("{name} starts"));
        let work = async move { work.await.map_err(|trouble| trouble.to_string()) };
        let mut worker = Worker::start(name, work);
        let stop = worker.stop().await;
        self.stands(worker, stop).await;
    }

    /// The gateway whose turn it is.
    fn gateway(&mut self) -> Option<Arc<App>> {
        if self.workers.len() >= WORKERS {
            return None;
        }
        self.started += 1;
        Some(Arc::clone(&self.gateways[self.started % 2]))
    }

    /// A worker has come to a stop: who is at an end leaves, and everybody looks.
    async fn stands(&mut self, worker: Worker, stop: Stop) {
        let at = match &stop {
            Stop::Point(name, _) => (*name).to_owned(),
            Stop::Call(call, _) => format!("{} {}", verb(&call.asks), call.asks.order_no()),
            Stop::Over(result) => format!("its end: {result:?}"),
        };
        self.note(format!("  {} is at {at}", worker.name));
        match stop {
            Stop::Over(Ok(())) => {}
            Stop::Over(Err(trouble)) => panic!("{} cannot go on: {trouble}", worker.name),
            stop @ (Stop::Point(..) | Stop::Call(..)) => self.workers.push((worker, stop)),
        }
        self.look().await;
    }

    /// A worker goes on to its next stop.
    pub async fn go(&mut self, which: usize, fate: Fate) {
        let Some(place) = which.checked_rem(self.workers.len()) else {
            return;
        };
        let (mut worker, stop) = self.workers.remove(place);

        match stop {
            Stop::Point(_, go_on) => go_on.send(()).unwrap(),
            Stop::Call(call, answer) => {
                let said = self.shop.take(&call, fate, self.start.mood);
                self.note(format!(
                    "{} {} {fate:?}: {said:?}",
                    verb(&call.asks),
                    call.asks.order_no()
                ));
                self.notice_payments().await;
                let _ = answer.send(said);
            }
            Stop::Over(_) => {}
        }

        let stop = worker.stop().await;
        self.stands(worker, stop).await;
    }

    /// A worker dies. What it has sent is on its way all the same.
    pub async fn crash(&mut self, which: usize, sent: bool) {
        let Some(place) = which.checked_rem(self.workers.len()) else {
            return;
        };
        let (worker, stop) = self.workers.remove(place);
        self.note(format!("{} dies", worker.name));
        if let Stop::Call(call, _) = &stop {
            self.shop.take(
                call,
                if sent {
                    Fate::AnswerLost
                } else {
                    Fate::Wanders
                },
                self.start.mood,
            );
            self.notice_payments().await;
        }

        worker.die(stop).await;
    }

    /// The merchant asks for the payment.
    async fn checkout(&mut self) {
        let Some(app) = self.gateway() else { return };
        let new = NewPayment {
            owner: self.ground.owner.clone(),
            order_id: self.order_id.clone(),
            amount: Money::fen(AMOUNT_FEN).unwrap(),
            description: "Two cups of tea".to_owned(),
            flow: flow(self.start.is_charge),
            // Which provider a charge goes to is written in its payer's code.
            providers: self
                .accounts
                .iter()
                .skip(self.start.first)
                .map(|a| a.provider)
                .take(if self.start.is_charge { 1 } else { 3 })
                .collect(),
            return_url: None,
            notify_url: None,
            client_ip: None,
            store: None,
            metadata: json!({}),
            expires_in_s: 300,
        };

        let scope = self.scope("payments", &self.order_id);
        let auth_code = self
            .start
            .is_charge
            .then(|| "990000000000000000".to_owned());

        self.begin("checkout", async move {
            let planned_at = Instant::now();
            let (made, key) = match pay::open(&app, new, scope, "fingerprint".to_owned()).await {
                Ok(made) => made,
                Err(pay::OpenError::Other(trouble)) => return Err(trouble),
                Err(error) => panic!("{error}"),
            };
            pay::run(
                &app,
                made,
                RequestContext {
                    key: Some(key),
                    ..context(planned_at, auth_code)
                },
            )
            .await
            .map(drop)
        })
        .await;
    }

    fn scope(&self, operation: &str, key: &str) -> KeyScope {
        KeyScope {
            owner: self.ground.owner.clone(),
            endpoint: operation.to_owned(),
            key: key.to_owned(),
        }
    }

    fn payment_id(&self) -> Option<PaymentId> {
        self.seen
            .as_ref()
            .map(|aggregate| aggregate.payment.id.clone())
    }

    /// The payer asks for another way to pay, as `POST /v1/payments/{id}/offers` has it.
    pub async fn another_offer(&mut self) {
        let (Some(id), Some(app)) = (self.payment_id(), self.gateway()) else {
            return;
        };
        let owner = self.ground.owner.clone();
        let scope = self.scope(&format!("offers/{id}"), &fresh("key"));

        self.begin("offer", async move {
            let planned_at = Instant::now();
            let Some(before) = app.store.payment_of(&owner, &id).await? else {
                return Ok(());
            };
            let now = app.clock.now();
            let Some((after, _)) = offer::replace(&app, &before, now)? else {
                return Ok(());
            };
            let key = Key {
                scope,
                fingerprint: String::new(),
                resource_id: id.into(),
                created_at: now,
            };
            let change =
                Change::update(&before, after, now).with_key(Some(KeyWrite::Claim(key.clone())));
            let planned = change.after().clone();
            match app.store.commit(change).await {
                Ok(()) => {}
                // The checkout would ask again.
                Err(CommitError::VersionConflict) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
            pay::run(
                &app,
                planned,
                RequestContext {
                    key: Some(key),
                    ..context(planned_at, None)
                },
            )
            .await
            .map(drop)
        })
        .await;
    }

    /// The merchant cancels, as `POST /v1/payments/{id}/cancel` has it.
    pub async fn cancel(&mut self) {
        let (Some(id), Some(app)) = (self.payment_id(), self.gateway()) else {
            return;
        };
        let owner = self.ground.owner.clone();
        self.canceled = true;
        self.begin("cancel", async move {
            let noted = cancel::cancel(&app, &owner, &id).await?;
            if noted.is_some_and(|noted| noted.payment.status.is_open()) {
                resolve::advance(&app, &id).await?;
            }
            Ok(())
        })
        .await;
    }

    /// A resolver looks whether the payment is due, and does what is.
    pub async fn resolve(&mut self) {
        let Some(app) = self.gateway() else { return };
        let now = app.clock.now();
        let lanes: Vec<Lane> = providers::PROTOCOLS
            .iter()
            .map(|p| Some(p.name))
            .chain([None])
            .collect();

        let due = app
            .store
            .due(now, &lanes, 1)
            .await
            .unwrap()
            .into_iter()
            .take(1)
            .map(|due| due.id)
            .collect();

        let claimed = app
            .store
            .claim(due, now, now.plus(app.config.resolver.lease))
            .await
            .unwrap();
        let Some(id) = claimed.into_iter().next() else {
            return;
        };

        assert_eq!(
            self.payment_id().as_ref(),
            Some(&id),
            "a payment of an earlier case is due"
        );

        self.begin("resolver", async move {
            resolve::advance(&app, &id).await.map(drop)
        })
        .await;
    }

    /// A provider tells of money; the same news may be told again and again.
    pub async fn notify(&mut self, which: usize) {
        let Some(place) = which.checked_rem(self.notices.len()) else {
            return;
        };
        let Some(app) = self.gateway() else { return };
        let (account_id, raw) = self.notices[place].clone();
        self.begin("notification", async move {
            let account = app.directory.account(&account_id).unwrap();
            notify::receive(&app, &account, raw).await;
            Ok(())
        })
        .await;
    }

    pub async fn payer_pays(&mut self, which: usize, how: How) {
        let now = self.now().utc();
        if self.shop.pay(which, how, now).is_some() {
            self.has_lied |= how == How::AllTheSame;
            self.note(format!(
                "the payer of order {} pays {how:?}",
                which % self.shop.orders.len()
            ));
            self.notice_payments().await;
        }
    }

    pub fn payer_opens(&mut self, which: usize) {
        let now = self.now().utc();
        if self.shop.open(which, now) {
            self.note(format!(
                "the payer opens order {}",
                which % self.shop.orders.len()
            ));
        }
    }

    /// What was given up arrives after all.
    pub async fn one_arrives(&mut self, which: usize) {
        let now = self.now().utc();
        if self.shop.one_arrives(which, self.start.mood, now) {
            self.note("a request that was given up arrives".to_owned());
            self.notice_payments().await;
        }
    }

    pub fn wait(&mut self, seconds: u64) {
        self.note(format!("{seconds} s go by"));
        self.gateways[0].clock.jump(Duration::from_secs(seconds));
    }

    /// Providers write a notification about each order that was paid.
    async fn notice_payments(&mut self) {
        for order in self
            .shop
            .orders
            .iter()
            .filter(|order| order.captured_fen > 0)
        {
            let number = &order.wanted.order_no;
            let attempt = self
                .seen
                .iter()
                .flat_map(|a| &a.attempts)
                .find(|a| a.provider_order_no == *number);
            let Some(account_id) = attempt.map(|a| a.account_id.clone()) else {
                continue;
            };
            let account = self.accounts.iter().find(|a| a.id == account_id).unwrap();
            if account.notifier.paid_notification(number).is_some() {
                continue;
            }
            let far = order.wanted.expires_at + chrono::TimeDelta::days(365);
            let mut wanted = order.wanted.clone();
            (wanted.flow, wanted.expires_at) = (flow(false), far);
            wanted.amount = Money::fen(order.captured_fen).unwrap();
            let frame = Frame {
                now: self.gateways[0].clock.now().utc(),
                timeout: Duration::from_secs(1),
            };
            account.notifier.create(&wanted, &frame).await;
            account.notifier.pay(number, frame.now).unwrap();
            let raw = account.notifier.paid_notification(number).unwrap();
            self.notices.push((account_id, raw));
        }
    }

    /// Reads what there is now, and holds the rules against it.
    async fn look(&mut self) {
        let store = &self.gateways[0].store;
        let now = match self.payment_id() {
            Some(id) => store.payment(AllOwners, &id).await.unwrap(),
            None => {
                let filter = PaymentFilter {
                    order_id: Some(self.order_id.clone()),
                    limit: 1,
                    ..PaymentFilter::default()
                };
                store
                    .payments(&self.ground.owner, &filter)
                    .await
                    .unwrap()
                    .pop()
            }
        };

        let Some(now) = now else { return };
        if self
            .seen
            .as_ref()
            .is_some_and(|seen| seen.payment.version == now.payment.version)
        {
            // A lease changes no version.
            self.seen = Some(now);
            return;
        }

        self.told = self.ground.facts.told(&now.payment.id).await;
        let attempts: Vec<String> = now
            .attempts
            .iter()
            .map(|a| {
                format!(
                    "{}{}",
                    a.status,
                    a.disposition.map(|d| format!(" ({d})")).unwrap_or_default()
                )
            })
            .collect();

        self.note(format!(
            "    now {} [{}] {:?}",
            now.payment.status,
            attempts.join(", "),
            self.told
        ));

        let before = self.seen.replace(now);
        rules::hold(self, before.as_ref());
    }

    /// Everything heals: calls are answered, workers come to their ends, and whatever is due is
    /// done. Nobody dies any more.
    pub async fn settle(&mut self) {
        self.note("everything heals".to_owned());
        while self.shop.one_arrives(0, self.start.mood, self.now().utc()) {}
        self.finish().await;
        for which in 0..self.notices.len() * usize::from(self.start.hears) {
            self.notify(which).await;
            self.finish().await;
        }
        for _ in 0..ROUNDS {
            self.look().await;
            let due = self
                .seen
                .as_ref()
                .and_then(|seen| seen.due(self.now()))
                .map(|due| due.at);
            let (Some(seen), Some(due)) = (&self.seen, due) else {
                rules::hold_at_the_end(self).await;
                return;
            };
            let free = seen.payment.lease_until.map_or(due, |lease| lease.max(due));
            let wait_ms = free.since(self.now()).max(0);
            self.gateways[0]
                .clock
                .jump(Duration::from_millis(wait_ms.unsigned_abs() + 1));
            self.resolve().await;
            self.finish().await;
        }

        panic!("it is still not over: {:?}", self.seen);
    }

    async fn finish(&mut self) {
        for _ in 0..STEPS {
            if self.workers.is_empty() {
                return;
            }
            self.go(0, Fate::Answered).await;
        }
        panic!("a worker does not come to its end");
    }

    /// What everything has come to.
    pub fn ends(&self) -> Vec<String> {
        let Some(seen) = &self.seen else {
            return Vec::new();
        };
        let attempts = seen.attempts.iter().map(|a| match a.disposition {
            Some(disposition) => format!("money {disposition}"),
            None => format!("attempt {}", a.status),
        });
        attempts
            .chain([format!("payment {}", seen.payment.status)])
            .collect()
    }

    /// Ends the case.
    pub async fn leave(mut self) {
        self.forget().await;
        self.ground.take_back(self.gateways);
    }

    /// Whatever became of the case: no later one finds anything of it to do.
    pub async fn forget(&mut self) {
        for (worker, stop) in self.workers.drain(..) {
            worker.die(stop).await;
        }
        if let Some(id) = self.payment_id() {
            let sql = format!("UPDATE payments SET next_check_at = NULL WHERE id = '{id}'");
            self.ground.facts.execute(&sql).await.unwrap();
        }
    }

    /// Entries on the work list about an attempt or a refund.
    pub async fn is_on_the_work_list(&self, subject_id: &str) -> bool {
        self.ground
            .facts
            .count(&format!("operations WHERE subject_id = '{subject_id}'"))
            .await
            > 0
    }
}

fn context(planned_at: Instant, auth_code: Option<String>) -> RequestContext {
    RequestContext {
        key: None,
        planned_at,
        answer_by: Instant::now() + Duration::from_secs(60),
        auth_code,
    }
}

fn verb(asks: &Asks) -> &'static str {
    match asks {
        Asks::Create(_) => "create",
        Asks::Query(_) => "query",
        Asks::Close(_) => "close",
        Asks::Reverse(_) => "reverse",
        Asks::Refund(_) => "refund",
        Asks::QueryRefund(_) => "query_refund",
    }
}
