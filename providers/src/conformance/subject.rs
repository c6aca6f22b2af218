//! What is tested, and what every check needs of it: orders, charges, refunds, and how they end.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};

use crate::money::Money;
use crate::notification::RawNotification;
use crate::order::{Call, Flow, Order, OrderRef, RefundOrder};
use crate::outcome::{Capture, CloseOutcome, CreateOutcome, QueryOutcome, RefundOutcome};
use crate::provider::{Charging, Ending, Provider};
use crate::sandbox::fault::CallFault;
use crate::sandbox::payer::PayerBehaviour;
use crate::sandbox::simulator::CallKind;

pub(super) const AMOUNT_FEN: i64 = 8_888;
/// More reversals of one charge than anybody should need.
const MOST_REVERSALS: usize = 30;

/// The payer and the time at the provider under test.
#[async_trait]
pub trait OtherSide: Send + Sync {
    /// The provider's time.
    fn now(&self) -> DateTime<Utc>;
    /// The payer opens the order and pays. Says whether the money was taken.
    async fn pay(&self, order_no: &str) -> bool;
    /// The payer opens the order and does not pay; a payer who is asked to confirm says no.
    async fn open(&self, order_no: &str);
    /// The code on the phone of a payer in this mood, never shown before. Only asked for where
    /// charges are made.
    fn auth_code(&self, mood: PayerBehaviour) -> String;
    /// What the merchant has of this order's money: what was taken and did not go back, in fen.
    fn kept_fen(&self, order_no: &str) -> i64;
    /// The provider's time moves on.
    async fn let_pass(&self, time: Duration);
    /// The next notification that came in, after those that were given out before; `None` where
    /// none comes any more.
    async fn next_told(&self) -> Option<RawNotification>;
    /// Makes the next call of this kind end so, and no other one. Says whether that can be done
    /// here.
    async fn spoil(&self, call: CallKind, fault: CallFault) -> bool;
}

/// What is tested.
pub struct Subject {
    /// The provider.
    pub provider: Arc<dyn Provider>,
    /// The payer's side of it.
    pub other_side: Arc<dyn OtherSide>,
    /// The flow of the orders that are made: offers, or charges.
    pub flow: Flow,
    /// An address that the provider takes.
    pub notify_url: String,
    /// Begins all numbers of this run: 1 to 16 of `[0-9A-Za-z]`, never used before at this
    /// provider.
    pub prefix: String,
}

/// A promise that was not kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{promise}: got {got}")]
pub struct Broken {
    /// The promise.
    pub promise: &'static str,
    /// What came instead.
    pub got: String,
}

pub(super) type Kept = Result<(), Broken>;

/// The checks that were run, by name.
pub(super) type Checks = Vec<(&'static str, Kept)>;

pub(super) fn ensure(holds: bool, promise: &'static str, got: &dyn fmt::Debug) -> Kept {
    if holds {
        Ok(())
    } else {
        Err(Broken {
            promise,
            got: format!("{got:?}"),
        })
    }
}

impl Subject {
    pub(super) fn ending(&self) -> Option<Ending> {
        self.provider
            .capabilities()
            .flow(self.flow)
            .map(|f| f.ending)
    }

    pub(super) fn call(&self) -> Call {
        Call {
            now: self.other_side.now(),
            timeout: Duration::from_secs(5),
        }
    }

    pub(super) fn order(&self, suffix: &str) -> Result<Order, Broken> {
        let now = self.other_side.now();
        let amount = fen(AMOUNT_FEN)?;
        let life_s = self.provider.capabilities().shortest_offer_s.max(900);

        Ok(Order {
            order_no: format!("{}{suffix}", self.prefix),
            payment_id: format!("pay_{}{suffix}", self.prefix),
            flow: self.flow,
            amount,
            description: "一杯咖啡 coffee".to_owned(),
            txn_time: now,
            expires_at: now + TimeDelta::seconds(i64::from(life_s)),
            notify_url: self.notify_url.clone(),
            client_ip: Some("203.0.113.7".to_owned()),
            auth_code: self
                .flow
                .is_charge()
                .then(|| self.other_side.auth_code(PayerBehaviour::Pays)),
            store: None,
        })
    }

    /// Makes an offer, which everybody promises to be able to.
    pub(super) async fn offer(&self, suffix: &str) -> Result<Order, Broken> {
        let order = self.order(suffix)?;
        let created = self.provider.create(&order, &self.call()).await.outcome;
        ensure(
            matches!(created, CreateOutcome::Accepted(_)),
            "a new offer is accepted",
            &created,
        )?;
        Ok(order)
    }

    pub(super) async fn paid_order(&self, suffix: &str) -> Result<Order, Broken> {
        if self.flow.is_charge() {
            return paid_charge(self, suffix).await.map(|(order, _)| order);
        }
        let order = self.offer(suffix).await?;
        let taken = self.other_side.pay(&order.order_no).await;
        ensure(taken, "a living offer can be paid", &taken)?;
        Ok(order)
    }

    pub(super) async fn query(&self, order: &Order) -> QueryOutcome {
        self.provider
            .query(&reference(order), &self.call())
            .await
            .outcome
    }

    pub(super) async fn close(&self, order: &Order) -> CloseOutcome {
        self.provider
            .close(&reference(order), &self.call())
            .await
            .outcome
    }

    /// A refund, with the provider's spacing before it.
    pub(super) async fn refund(&self, refund: &RefundOrder) -> RefundOutcome {
        let spacing = self.provider.capabilities().refund_spacing_ms;
        self.other_side
            .let_pass(Duration::from_millis(u64::from(spacing)))
            .await;
        self.provider.refund(refund, &self.call()).await.outcome
    }

    pub(super) fn refund_order(
        &self,
        order: &Order,
        suffix: &str,
        amount_fen: i64,
    ) -> Result<RefundOrder, Broken> {
        Ok(RefundOrder {
            order: reference(order),
            transaction_id: None,
            refund_no: format!("{}{suffix}", self.prefix),
            txn_time: order.txn_time,
            renumbered: false,
            amount: fen(amount_fen)?,
            total: order.amount,
            reason: Some("the suite gives it back".to_owned()),
            notify_url: self.notify_url.clone(),
        })
    }

    /// Nobody can pay it any more, and the provider says so.
    pub(super) async fn is_dead(&self, order: &Order) -> Kept {
        let queried = self.query(order).await;
        ensure(
            queried == QueryOutcome::Closed,
            "a closed offer is queried as closed",
            &queried,
        )?;
        let taken = self.other_side.pay(&order.order_no).await;
        ensure(!taken, "a closed offer takes no money", &taken)?;
        let closed = self.close(order).await;
        // Alipay has one "no" for closed and for paid orders: then it takes a query to know.
        let harmless = matches!(
            closed,
            CloseOutcome::Closed | CloseOutcome::Impossible(_) | CloseOutcome::Unknown(_)
        );
        ensure(harmless, "closing again changes nothing", &closed)
    }
}

pub(super) fn fen(fen: i64) -> Result<Money, Broken> {
    Money::fen(fen).map_err(|e| Broken {
        promise: "the suite's amounts are amounts",
        got: e.to_string(),
    })
}

pub(super) fn reference(order: &Order) -> OrderRef {
    OrderRef {
        order_no: order.order_no.clone(),
        txn_time: order.txn_time,
        expires_at: order.expires_at,
    }
}

pub(super) fn taken_up(refunded: &RefundOutcome) -> bool {
    matches!(refunded, RefundOutcome::Accepted | RefundOutcome::Done)
}

pub(super) fn paid(queried: QueryOutcome) -> Result<Capture, Broken> {
    match queried {
        QueryOutcome::Paid(capture) => Ok(capture),
        QueryOutcome::NotFound
        | QueryOutcome::Payable
        | QueryOutcome::Closed
        | QueryOutcome::Reversed
        | QueryOutcome::Unknown(_) => Err(Broken {
            promise: "a paid offer is queried as paid",
            got: format!("{queried:?}"),
        }),
    }
}

impl Subject {
    pub(super) fn charging(&self) -> Result<&'static Charging, Broken> {
        let charging = self.provider.capabilities().charge.as_ref();
        charging.ok_or_else(|| Broken {
            promise: "who charges says how",
            got: "no `charge`".to_owned(),
        })
    }

    pub(super) async fn pass_s(&self, seconds: u32) {
        self.other_side
            .let_pass(Duration::from_secs(u64::from(seconds)))
            .await;
    }

    pub(super) async fn charge(
        &self,
        suffix: &str,
        mood: PayerBehaviour,
    ) -> Result<(Order, CreateOutcome), Broken> {
        let mut order = self.order(suffix)?;
        order.auth_code = Some(self.other_side.auth_code(mood));
        let created = self.provider.create(&order, &self.call()).await.outcome;
        Ok((order, created))
    }

    /// Asks as the ladder says, from `from_s` after the charge on, until it is not payable any
    /// more.
    pub(super) async fn settled(&self, order: &Order) -> Result<QueryOutcome, Broken> {
        let mut asked_at = 0;
        let mut queried = self.query(order).await;
        for at in self.charging()?.ladder_s {
            if matches!(
                queried,
                QueryOutcome::Paid(_) | QueryOutcome::Closed | QueryOutcome::Reversed
            ) {
                break;
            }
            self.pass_s(at - asked_at).await;
            asked_at = *at;
            queried = self.query(order).await;
        }
        Ok(queried)
    }

    /// Reverses until the answer is final, with the provider's pause between two.
    pub(super) async fn reversed(&self, order: &Order) -> Result<CloseOutcome, Broken> {
        let charging = self.charging()?;
        self.pass_s(charging.reverse_from_s).await;
        let mut ended = self
            .provider
            .reverse(&reference(order), &self.call())
            .await
            .outcome;

        for _ in 0..MOST_REVERSALS {
            if !matches!(ended, CloseOutcome::Retry(_)) {
                break;
            }
            self.pass_s(charging.reverse_pause_s).await;
            ended = self
                .provider
                .reverse(&reference(order), &self.call())
                .await
                .outcome;
        }

        Ok(ended)
    }

    /// A reversal succeeded or found nothing, nobody can pay any more, and the merchant has none of
    /// the money.
    pub(super) async fn is_dead_charge(&self, order: &Order) -> Kept {
        let ended = self.reversed(order).await?;
        let known = matches!(
            ended,
            CloseOutcome::Closed | CloseOutcome::Reversed | CloseOutcome::NotFound
        );
        ensure(known, "a charge is reversed, or there is none", &ended)?;
        let queried = self.query(order).await;

        match (&queried, self.charging()?.confirm_not_found_after_s) {
            (QueryOutcome::Closed | QueryOutcome::Reversed, _) => {}
            (QueryOutcome::NotFound, Some(apart_s)) => {
                self.pass_s(apart_s).await;
                let queried = self.query(order).await;
                ensure(
                    queried == QueryOutcome::NotFound,
                    "what is not there does not come back",
                    &queried,
                )?;
            }
            (
                QueryOutcome::NotFound
                | QueryOutcome::Payable
                | QueryOutcome::Paid(_)
                | QueryOutcome::Unknown(_),
                _,
            ) => {
                ensure(false, "a reversed charge is queried as dead", &queried)?;
            }
        }

        let taken = self.other_side.pay(&order.order_no).await;
        ensure(!taken, "a reversed charge takes no money", &taken)?;
        self.keeps(order, 0)
    }

    pub(super) fn keeps(&self, order: &Order, fen: i64) -> Kept {
        let kept = self.other_side.kept_fen(&order.order_no);
        ensure(
            kept == fen,
            "the merchant has what was paid, and nothing that was not",
            &kept,
        )
    }
}

/// A charge whose payer pays at once, told by the call or by a query after it.
pub(super) async fn paid_charge(
    subject: &Subject,
    suffix: &str,
) -> Result<(Order, Capture), Broken> {
    let (order, created) = subject.charge(suffix, PayerBehaviour::Pays).await?;
    let told = matches!(created, CreateOutcome::Captured(_) | CreateOutcome::Waiting);

    ensure(
        told,
        "a charge whose payer pays is taken or waited for",
        &created,
    )?;

    let capture = paid(subject.settled(&order).await?)?;
    if let CreateOutcome::Captured(at_once) = created {
        let same =
            (&at_once.transaction_id, at_once.amount) == (&capture.transaction_id, capture.amount);
        ensure(
            same,
            "call and query tell of the same money",
            &(at_once, &capture),
        )?;
    }

    Ok((order, capture))
}
