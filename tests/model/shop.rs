//! A small model of three providers and of the payers who stand before them: what orders there are,
//! what a call does to one, and what an honest provider says. Kept apart from the sandbox's book on
//! purpose, so that a mistake in one is not a mistake in both.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use providers::money::Money;
use providers::order::{Flow, Order as Wanted, OrderRef, RefundOrder};
use providers::outcome::{
    Capture, CloseOutcome, CreateOutcome, Failure, FailureKind, NextAction, QueryOutcome,
    RefundOutcome, RefundQueryOutcome, Refusal,
};
use providers::provider::{Capabilities, Ending};

/// What an answer may be behind the truth: a provider reads from copies.
const STALE_S: i64 = 10;
/// A request whose caller has given up arrives within this time or never. Less than the 30 seconds
/// that must lie between two questions that do not find a charge.
const WANDERS_S: i64 = 25;

/// A call to a provider.
#[derive(Debug, Clone)]
pub struct Call {
    pub capabilities: &'static Capabilities,
    pub asks: Asks,
    pub now: DateTime<Utc>,
}

#[derive(Debug, Clone)]
pub enum Asks {
    Create(Wanted),
    Query(OrderRef),
    Close(OrderRef),
    Reverse(OrderRef),
    Refund(RefundOrder),
    QueryRefund(RefundOrder),
}

impl Asks {
    pub fn order_no(&self) -> &str {
        match self {
            Self::Create(order) => &order.order_no,
            Self::Query(order) | Self::Close(order) | Self::Reverse(order) => &order.order_no,
            Self::Refund(refund) | Self::QueryRefund(refund) => &refund.order.order_no,
        }
    }
}

/// What a call is told.
#[derive(Debug, Clone)]
pub enum Said {
    Created(CreateOutcome),
    Queried(QueryOutcome),
    Ended(CloseOutcome),
    Refunded(RefundOutcome),
    RefundQueried(RefundQueryOutcome),
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It arrives, and its answer too.
    Answered,
    /// It arrives, and its answer does not.
    AnswerLost,
    /// Its caller gives up before it arrives, if it ever does.
    Wanders,
    /// It never leaves.
    NotSent,
    /// A verified "no" that did nothing; of a question, an answer out of an old copy.
    Refused,
    /// The payer's "no"; of an ending or a refund, "later".
    Declined,
}

/// How a payer pays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// As asked.
    Plainly,
    /// A fen less than asked.
    ShortOfAFen,
    /// Although the provider had said that nobody can, or after the deadline.
    AllTheSame,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Its code can be scanned, and the provider knows of no trade.
    Shown,
    Payable,
    Paid,
    Closed,
    Reversed,
}

#[derive(Debug, Clone)]
pub struct Order {
    pub wanted: Wanted,
    pub state: State,
    pub captured_fen: i64,
    pub refunds: BTreeMap<String, i64>,
    ending: Ending,
    returns_by_itself: bool,
    /// What a copy that lags says, and until when.
    earlier: Option<(Option<State>, DateTime<Utc>)>,
}

impl Order {
    /// What the payer is without, in fen.
    pub fn net_fen(&self) -> i64 {
        self.captured_fen - self.refunds.values().sum::<i64>()
    }

    /// Whether a payer who sees it can pay.
    pub fn can_be_paid(&self, now: DateTime<Utc>) -> bool {
        matches!(self.state, State::Shown | State::Payable) && now < self.wanted.expires_at
    }

    fn becomes(&mut self, state: State, now: DateTime<Utc>) {
        self.earlier = Some((Some(self.state), now + TimeDelta::seconds(STALE_S)));
        self.state = state;
    }

    fn capture(&self) -> Option<Capture> {
        Some(Capture {
            transaction_id: format!("T{}", self.wanted.order_no),
            amount: Money::fen(self.captured_fen).ok()?,
            payer_amount: None,
            payer: None,
            paid_at: None,
            payment_id: Some(self.wanted.payment_id.clone()),
            foreign_account: None,
            returns_by_itself: self.returns_by_itself,
        })
    }
}

/// The providers.
#[derive(Debug, Default)]
pub struct Shop {
    /// Orders in the order in which they were made.
    pub orders: Vec<Order>,
    /// Numbers that were ended before any order had them.
    burned: Vec<String>,
    /// Requests whose callers have given up.
    wandering: Vec<Call>,
    /// Every order number under which an order was asked for, and whether that call provably did
    /// nothing.
    pub asked_for: Vec<(String, bool)>,
}

fn no(kind: FailureKind, code: &str) -> Failure {
    Failure::new(kind, code, "as the model wants it")
}

impl Shop {
    pub fn order(&self, order_no: &str) -> Option<&Order> {
        self.orders
            .iter()
            .find(|order| order.wanted.order_no == order_no)
    }

    fn order_mut(&mut self, order_no: &str) -> Option<&mut Order> {
        self.orders
            .iter_mut()
            .find(|order| order.wanted.order_no == order_no)
    }

    /// What becomes of a call, and what its caller is told.
    pub fn take(&mut self, call: &Call, fate: Fate, mood: Mood) -> Said {
        if let Asks::Create(wanted) = &call.asks {
            self.may_be_asked_for(wanted);
            let nothing = matches!(fate, Fate::NotSent | Fate::Refused)
                || (fate == Fate::Declined && !self.leaves_a_trade(call));
            self.asked_for.push((wanted.order_no.clone(), nothing));
        }

        match fate {
            Fate::Answered => self.arrives(call, mood),
            Fate::AnswerLost => {
                self.arrives(call, mood);
                unknown(&call.asks)
            }
            Fate::Wanders => {
                self.wandering.push(call.clone());
                unknown(&call.asks)
            }
            Fate::NotSent => match &call.asks {
                Asks::Create(_) => {
                    Said::Created(CreateOutcome::NotSent(no(FailureKind::Network, "connect")))
                }
                Asks::Query(_)
                | Asks::Close(_)
                | Asks::Reverse(_)
                | Asks::Refund(_)
                | Asks::QueryRefund(_) => unknown(&call.asks),
            },
            Fate::Refused => self.refuses(call, mood),
            Fate::Declined => self.declines(call, mood),
        }
    }

    /// No number is ever used twice, and no charge is sent while an earlier one may have taken the
    /// money.
    fn may_be_asked_for(&self, wanted: &Wanted) {
        let used = self
            .asked_for
            .iter()
            .any(|(order_no, _)| *order_no == wanted.order_no);
        assert!(
            !used,
            "order {} is asked for a second time",
            wanted.order_no
        );
        let in_doubt = self.asked_for.iter().any(|(_, nothing)| !nothing);
        assert!(
            !(wanted.flow.is_charge() && in_doubt),
            "a second charge, and what became of the first is not known"
        );
    }

    fn leaves_a_trade(&self, call: &Call) -> bool {
        call.capabilities
            .charge
            .is_some_and(|charging| charging.declined_is_reversed)
    }

    fn refuses(&mut self, call: &Call, mood: Mood) -> Said {
        let busy = || no(FailureKind::RateLimited, "busy");
        match &call.asks {
            Asks::Create(_) => Said::Created(CreateOutcome::Refused(Refusal::Provider, busy())),
            Asks::Query(order) => Said::Queried(self.copied(&order.order_no, call.now)),
            Asks::Close(_) | Asks::Reverse(_) => Said::Ended(CloseOutcome::Impossible(no(
                FailureKind::Request,
                "not_now",
            ))),
            Asks::Refund(_) => Said::Refunded(RefundOutcome::NeedsFunds(no(
                FailureKind::Account,
                "no_funds",
            ))),
            Asks::QueryRefund(_) => self.arrives(call, mood),
        }
    }

    fn declines(&mut self, call: &Call, mood: Mood) -> Said {
        let declined = || {
            Said::Created(CreateOutcome::Declined(no(
                FailureKind::Declined,
                "no_money",
            )))
        };

        match &call.asks {
            Asks::Create(wanted) if !wanted.flow.is_charge() => self.arrives(call, mood),
            Asks::Create(_) => {
                if self.leaves_a_trade(call) {
                    self.arrives(call, Mood::Confirms);
                }
                declined()
            }
            Asks::Close(_) | Asks::Reverse(_) => {
                Said::Ended(CloseOutcome::Retry(no(FailureKind::ServerError, "again")))
            }
            Asks::Refund(_) => Said::Refunded(RefundOutcome::RetryLater(no(
                FailureKind::RateLimited,
                "later",
            ))),
            Asks::Query(_) | Asks::QueryRefund(_) => self.arrives(call, mood),
        }
    }

    /// One of the requests that were given up arrives after all.
    pub fn one_arrives(&mut self, which: usize, mood: Mood, now: DateTime<Utc>) -> bool {
        self.wandering
            .retain(|call| now <= call.now + TimeDelta::seconds(WANDERS_S));
        if self.wandering.is_empty() {
            return false;
        }
        let call = self.wandering.remove(which % self.wandering.len());
        self.arrives(&Call { now, ..call }, mood);
        true
    }

    /// Whether an order that nobody has made yet may still be made by a request on its way.
    pub fn is_on_its_way(&self, order_no: &str, now: DateTime<Utc>) -> bool {
        let is_it =
            |call: &Call| matches!(&call.asks, Asks::Create(order) if order.order_no == order_no);
        self.wandering
            .iter()
            .any(|call| is_it(call) && now <= call.now + TimeDelta::seconds(WANDERS_S))
    }

    fn arrives(&mut self, call: &Call, mood: Mood) -> Said {
        let now = call.now;

        match &call.asks {
            Asks::Create(wanted) => {
                Said::Created(self.create(call.capabilities, wanted, mood, now))
            }
            Asks::Query(order) => Said::Queried(self.query(&order.order_no, now)),
            Asks::Close(order) => Said::Ended(self.close(&order.order_no, now)),
            Asks::Reverse(order) => {
                Said::Ended(self.reverse(call.capabilities, &order.order_no, now))
            }
            Asks::Refund(refund) => Said::Refunded(self.refund(refund)),
            Asks::QueryRefund(refund) => {
                let known = self
                    .order(&refund.order.order_no)
                    .and_then(|o| o.refunds.get(&refund.refund_no));
                Said::RefundQueried(
                    known.map_or(RefundQueryOutcome::NotFound, |_| RefundQueryOutcome::Done),
                )
            }
        }
    }

    fn create(
        &mut self,
        capabilities: &Capabilities,
        wanted: &Wanted,
        mood: Mood,
        now: DateTime<Utc>,
    ) -> CreateOutcome {
        let number = &wanted.order_no;
        if self.burned.contains(number) || self.order(number).is_some() {
            return CreateOutcome::Unknown(no(FailureKind::Request, "used"));
        }
        let Some(ending) = capabilities.flow(wanted.flow).map(|flow| flow.ending) else {
            return CreateOutcome::Refused(Refusal::Request, no(FailureKind::Request, "flow"));
        };
        let state = match ending {
            Ending::CloseOnceTradeExists => State::Shown,
            Ending::Close | Ending::Expire | Ending::Reverse => State::Payable,
        };
        let earlier = Some((None, now + TimeDelta::seconds(STALE_S)));

        let order = Order {
            wanted: wanted.clone(),
            state,
            captured_fen: 0,
            refunds: BTreeMap::new(),
            ending,
            returns_by_itself: false,
            earlier,
        };

        self.orders.push(order);
        if !wanted.flow.is_charge() {
            return CreateOutcome::Accepted(NextAction::DisplayQr {
                qr: format!("model:{number}"),
            });
        }

        match mood {
            Mood::Pays => match self.pay(self.orders.len() - 1, How::Plainly, now) {
                Some(capture) => CreateOutcome::Captured(capture),
                None => CreateOutcome::Waiting,
            },
            Mood::Confirms => CreateOutcome::Waiting,
        }
    }

    fn copied(&self, order_no: &str, now: DateTime<Utc>) -> QueryOutcome {
        match self.order(order_no).and_then(|order| order.earlier) {
            Some((earlier, until)) if now < until => match earlier {
                None | Some(State::Shown) => QueryOutcome::NotFound,
                Some(State::Payable) => QueryOutcome::Payable,
                Some(State::Paid | State::Closed | State::Reversed) => self.query(order_no, now),
            },
            Some(_) | None => self.query(order_no, now),
        }
    }

    fn query(&self, order_no: &str, now: DateTime<Utc>) -> QueryOutcome {
        let Some(order) = self.order(order_no) else {
            return if self.burned.iter().any(|no| no == order_no) {
                QueryOutcome::Closed
            } else {
                QueryOutcome::NotFound
            };
        };
        let is_late = now >= order.wanted.expires_at;

        match (order.state, order.ending) {
            (State::Shown, _) => QueryOutcome::NotFound,
            // Closes itself at its deadline, except where only a close ends it.
            (State::Payable, Ending::CloseOnceTradeExists | Ending::Expire) if is_late => {
                QueryOutcome::Closed
            }
            (State::Payable, _) => QueryOutcome::Payable,
            (State::Closed, _) => QueryOutcome::Closed,
            (State::Reversed, _) => QueryOutcome::Reversed,
            (State::Paid, _) if order.net_fen() == 0 => QueryOutcome::Reversed,
            (State::Paid, _) => order
                .capture()
                .map_or(QueryOutcome::Closed, QueryOutcome::Paid),
        }
    }

    fn close(&mut self, order_no: &str, now: DateTime<Utc>) -> CloseOutcome {
        let Some(order) = self.order_mut(order_no) else {
            return CloseOutcome::Impossible(no(FailureKind::Request, "no_such_order"));
        };
        match (order.state, order.ending) {
            (State::Paid | State::Reversed, _) => CloseOutcome::AlreadyPaid,
            (State::Closed, _) => CloseOutcome::Closed,
            (State::Shown, _) | (State::Payable, Ending::Expire | Ending::Reverse) => {
                CloseOutcome::Impossible(no(FailureKind::Request, "not_this_way"))
            }
            (State::Payable, Ending::Close | Ending::CloseOnceTradeExists) => {
                order.becomes(State::Closed, now);
                CloseOutcome::Closed
            }
        }
    }

    fn reverse(
        &mut self,
        capabilities: &Capabilities,
        order_no: &str,
        now: DateTime<Utc>,
    ) -> CloseOutcome {
        let burns = capabilities
            .charge
            .is_some_and(|charging| charging.confirm_not_found_after_s.is_none());
        let Some(order) = self.order_mut(order_no) else {
            if burns {
                self.burned.push(order_no.to_owned());
                return CloseOutcome::Closed;
            }
            return CloseOutcome::NotFound;
        };

        match order.state {
            State::Shown | State::Payable => {
                order.becomes(State::Closed, now);
                CloseOutcome::Closed
            }
            State::Paid => {
                let back = order.net_fen();
                order.refunds.insert("reversal".to_owned(), back);
                order.becomes(State::Reversed, now);
                CloseOutcome::Reversed
            }
            State::Closed => CloseOutcome::Closed,
            State::Reversed => CloseOutcome::Reversed,
        }
    }

    fn refund(&mut self, refund: &RefundOrder) -> RefundOutcome {
        let Some(order) = self.order_mut(&refund.order.order_no) else {
            return RefundOutcome::Rejected(no(FailureKind::Request, "no_such_order"));
        };
        let amount = refund.amount.minor();
        if let Some(known) = order.refunds.get(&refund.refund_no) {
            assert_eq!(*known, amount, "another amount under the same number");
            return RefundOutcome::Done;
        }
        assert!(amount <= order.net_fen(), "more goes back than came in");
        order.refunds.insert(refund.refund_no.clone(), amount);
        RefundOutcome::Done
    }

    /// The payer scans the code and does not pay.
    pub fn open(&mut self, which: usize, now: DateTime<Utc>) -> bool {
        let Some(order) = nth(&mut self.orders, which) else {
            return false;
        };
        let opens = order.state == State::Shown && now < order.wanted.expires_at;
        if opens {
            order.becomes(State::Payable, now);
        }
        opens
    }

    /// The payer pays; `None` when that cannot be.
    pub fn pay(&mut self, which: usize, how: How, now: DateTime<Utc>) -> Option<Capture> {
        let order = nth(&mut self.orders, which)?;
        let asked = order.wanted.amount.minor();
        let returns = how == How::AllTheSame
            && order.ending == Ending::Expire
            && now >= order.wanted.expires_at;

        match how {
            How::Plainly | How::ShortOfAFen if !order.can_be_paid(now) => return None,
            How::AllTheSame if matches!(order.state, State::Paid | State::Reversed) => return None,
            How::Plainly | How::ShortOfAFen | How::AllTheSame => {}
        }

        order.captured_fen = if how == How::ShortOfAFen {
            asked - 1
        } else {
            asked
        };

        order.returns_by_itself = returns;
        order.becomes(State::Paid, now);
        order.capture()
    }
}

fn nth(orders: &mut [Order], which: usize) -> Option<&mut Order> {
    let count = orders.len();
    orders.get_mut(which.checked_rem(count)?)
}

fn unknown(asks: &Asks) -> Said {
    let lost = no(FailureKind::Timeout, "timeout");
    match asks {
        Asks::Create(_) => Said::Created(CreateOutcome::Unknown(lost)),
        Asks::Query(_) => Said::Queried(QueryOutcome::Unknown(lost)),
        Asks::Close(_) | Asks::Reverse(_) => Said::Ended(CloseOutcome::Unknown(lost)),
        Asks::Refund(_) => Said::Refunded(RefundOutcome::Unknown(lost)),
        Asks::QueryRefund(_) => Said::RefundQueried(RefundQueryOutcome::Unknown(lost)),
    }
}

/// How the payer whose code is read takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    Pays,
    Confirms,
}

/// How the payer pays in these cases.
pub fn flow(is_charge: bool) -> Flow {
    if is_charge { Flow::Barcode } else { Flow::Qr }
}
