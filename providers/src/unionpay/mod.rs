//! UnionPay online (ACP 5.1.0), direct merchants: codes that the payer scans (`qr`) and codes that
//! we scan (`barcode`).
//!
//! Facts that comments name by section stand in `PROTOCOL.md`. What an answer means is decided in
//! `outcome.rs` and nowhere else; this file builds requests, sends each of them once, and never
//! asks anything by itself. There is no call that closes an order: an offer only expires, at the
//! `payTimeout` it was made with. The whole of a payment goes back as an undo (31), without a fee,
//! while its clearing day lasts; everything else, and what an undo was refused for, as a refund
//! (04).

mod certificate;
mod codes;
mod config;
#[cfg(test)]
mod fuzz;
mod notification;
mod outcome;
mod reasons;
mod sign;
#[cfg(feature = "sandbox")]
pub(crate) mod simulator;
#[cfg(test)]
mod vectors;
mod wire;

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use http::{HeaderMap, HeaderValue, Method, header};

use self::config::Account;
use self::outcome::{APPLY, CNY, CONSUME, QUERY, REVERSAL, SCAN, UNDO, way_back};
use self::reasons::REASONS;
use self::sign::VERSION;
use self::wire::{Fields, beijing, to_form};
use crate::http::{Request, SendError, TimeTold, Way};
use crate::money::Money;
use crate::notification::{
    Acknowledgement, AcknowledgementBody, Notification, RawNotification, Rejection, Verified,
};
use crate::order::{Call, Flow, Order, OrderRef, RefundOrder};
use crate::outcome::{
    Answer, CloseOutcome, CreateOutcome, Failure, FailureKind, QueryOutcome, RefundOutcome,
    RefundQueryOutcome, Refusal,
};
use crate::provider::{
    Address, AddressKind, Capabilities, Charging, Ending, FlowCapability, LastReversals, Protocol,
    Provider, ProviderName, SettingsError, Title,
};

/// The entry on the list of providers.
pub const PROTOCOL: Protocol = Protocol {
    name: ProviderName::new("unionpay"),
    title: Title {
        zh: "银联云闪付",
        en: "UnionPay",
    },
    capabilities: &CAPABILITIES,
    open,
    addresses: ADDRESSES,
    reasons: REASONS,
};

/// UnionPay 1.1. Pages begin with a form that is posted to the gateway; the host of files comes
/// with statements.
const ADDRESSES: &[Address] = &[
    Address::live(AddressKind::Api, "https://gateway.95516.com"),
    Address::test(AddressKind::Api, "https://gateway.test.95516.com"),
    Address::live(AddressKind::Pages, "https://gateway.95516.com"),
    Address::test(AddressKind::Pages, "https://gateway.test.95516.com"),
];

static CAPABILITIES: Capabilities = Capabilities {
    flows: &[
        FlowCapability {
            flow: Flow::Qr,
            ending: Ending::Expire,
        },
        FlowCapability {
            flow: Flow::Barcode,
            ending: Ending::Reverse,
        },
    ],
    // `txnAmt` has twelve digits; ours is the limit that the other providers have, a hundred
    // million yuan.
    amount_fen: (1, 10_000_000_000),
    shortest_offer_s: 60,
    // More often is answered 37.
    probe_every_ms: 5_000,
    // 5, 10, 30, 60 and 120 minutes.
    awaiting_ladder_s: &[300, 600, 1800, 3600, 7200],
    // Six times with doubling pauses, later at longer ones; more often is answered 37.
    refund_ladder_s: &[
        1, 3, 7, 15, 31, 63, 300, 600, 1800, 3600, 7200, 14_400, 43_200,
    ],
    refund_spacing_ms: 0,
    // A refund that a query shows to have failed leaves the money with the merchant, and its number
    // is used.
    refund_renumbers: true,
    refund_keyed_by_time: true,
    charge: Some(Charging {
        is_code,
        // The official SDK waits 30 s.
        timeout_ms: 30_000,
        // Six questions, their pauses doubling from one second.
        ladder_s: &[1, 3, 7, 15, 31, 63],
        reverse_after_s: 65,
        reverse_from_s: 0,
        // "Repeat until definite" names no pause; a query in between needs some room.
        reverse_pause_s: 5,
        declined_is_reversed: false,
        // A reversed scan is not found any more, and one that was never made is not found either.
        confirm_not_found_after_s: Some(30),
        // The clearing day ends at 23:00, and with it reversals (UnionPay 4.8, 8): five minutes for
        // several tries.
        last_reversals: Some(LastReversals {
            in_doubt_from_s: 82_500,
            waiting_from_s: 82_740,
            until_s: 82_800,
        }),
    }),
};

const BACK: &str = "/gateway/api/backTransReq.do";
const QUERIES: &str = "/gateway/api/queryTrans.do";

/// Codes of UnionPay wallets: `62` and 17 digits.
fn is_code(code: &str) -> bool {
    code.len() == 19 && code.starts_with("62") && code.bytes().all(|b| b.is_ascii_digit())
}

fn open(settings: serde_json::Value, way: &Way) -> Result<Arc<dyn Provider>, SettingsError> {
    Ok(Arc::new(UnionPay {
        account: Account::read(settings, way)?,
    }))
}

/// One merchant.
#[derive(Debug)]
struct UnionPay {
    account: Account,
}

/// What every request has. `number` and `time` name the order, or the refund, for ever.
fn head(txn: (&str, &str), number: &str, time: DateTime<Utc>) -> Fields {
    fields([
        ("version", VERSION),
        ("encoding", "UTF-8"),
        ("txnType", txn.0),
        ("txnSubType", txn.1),
        ("bizType", "000000"),
        ("accessType", "0"),
        ("orderId", number),
        ("txnTime", &beijing(time)),
    ])
}

fn fields<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Fields {
    pairs
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// The fields of an amount and of the address that is told.
fn money(amount: Money, notify_url: &str) -> Fields {
    fields([
        ("channelType", "08"),
        ("txnAmt", &amount.minor().to_string()),
        ("currencyCode", CNY),
        ("backUrl", notify_url),
    ])
}

impl UnionPay {
    /// Signs and sends a request once. An answer that cannot be believed is none.
    async fn send(
        &self,
        target: &str,
        mut asked: Fields,
        call: &Call,
    ) -> Result<Fields, SendError> {
        asked.insert("merId".to_owned(), self.account.mer_id.clone());
        let asked = self.account.method.sign(asked);
        let headers = HeaderMap::from_iter([(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/x-www-form-urlencoded;charset=UTF-8"),
        )]);
        let request = Request {
            method: Method::POST,
            target: target.to_owned(),
            headers,
            body: to_form(&asked).into(),
            timeout: call.timeout,
        };
        let answer = self.account.client.send(request).await?;
        outcome::believed(&self.account, &asked, &answer, call.now).map_err(SendError::Unknown)
    }

    async fn ask(&self, number: &str, time: DateTime<Utc>, call: &Call) -> Result<Fields, Failure> {
        let sent = self
            .send(QUERIES, head((QUERY, "00"), number, time), call)
            .await;
        sent.map_err(|(SendError::NotSent(failure) | SendError::Unknown(failure))| failure)
    }
}

#[async_trait]
impl Provider for UnionPay {
    fn name(&self) -> ProviderName {
        PROTOCOL.name
    }

    fn identity(&self) -> &str {
        &self.account.mer_id
    }

    fn address(&self) -> &str {
        self.account.client.base()
    }

    fn time_told(&self) -> Option<TimeTold> {
        self.account.client.time_told()
    }

    fn capabilities(&self) -> &'static Capabilities {
        &CAPABILITIES
    }

    /// An offer that ends `Unknown` has a code that nobody holds. A charge that does may have taken
    /// money.
    async fn create(&self, order: &Order, call: &Call) -> Answer<CreateOutcome> {
        let (txn, more) = match (order.flow, order.auth_code.as_deref()) {
            (Flow::Qr, _) => (
                APPLY,
                fields([("payTimeout", beijing(order.expires_at).as_str())]),
            ),
            (Flow::Barcode, Some(code)) => (SCAN, fields([("qrNo", code)])),
            (Flow::Barcode | Flow::Page | Flow::H5 | Flow::App | Flow::Jsapi, _) => {
                let failure = Failure::new(
                    FailureKind::Request,
                    "flow_not_served",
                    order.flow.to_string(),
                );
                return Answer::new(CreateOutcome::Refused(Refusal::Route, failure));
            }
        };
        let mut asked = head((CONSUME, txn), &order.order_no, order.txn_time);
        asked.extend(money(order.amount, &order.notify_url));
        asked.extend(more);
        asked.insert("reqReserved".to_owned(), order.payment_id.clone());

        Answer::new(match self.send(BACK, asked, call).await {
            Ok(fields) if order.flow == Flow::Qr => outcome::applied(&fields),
            Ok(fields) => outcome::scanned(&fields),
            Err(SendError::NotSent(failure)) => CreateOutcome::NotSent(failure),
            Err(SendError::Unknown(failure)) => CreateOutcome::Unknown(failure),
        })
    }

    async fn query(&self, order: &OrderRef, call: &Call) -> Answer<QueryOutcome> {
        Answer::new(
            match self.ask(&order.order_no, order.txn_time, call).await {
                Ok(fields) => outcome::queried(order, &fields, call.now),
                Err(failure) => QueryOutcome::Unknown(failure),
            },
        )
    }

    /// UnionPay has no such call: nothing is sent, and the offer lives until its deadline.
    async fn close(&self, _: &OrderRef, _: &Call) -> Answer<CloseOutcome> {
        let failure = Failure::new(
            FailureKind::Request,
            "no_close",
            "UnionPay's orders only expire",
        );
        Answer::new(CloseOutcome::Impossible(failure))
    }

    async fn reverse(&self, order: &OrderRef, call: &Call) -> Answer<CloseOutcome> {
        let mut asked = head((REVERSAL, "01"), &order.order_no, order.txn_time);
        asked.extend(fields([("channelType", "08")]));
        Answer::new(match self.send(BACK, asked, call).await {
            Ok(fields) => outcome::reversed(&fields),
            Err(SendError::NotSent(failure)) => CloseOutcome::Retry(failure),
            Err(SendError::Unknown(failure)) => CloseOutcome::Unknown(failure),
        })
    }

    /// The order is named by our own number and time, which are always known and come back in the
    /// notification.
    async fn refund(&self, refund: &RefundOrder, call: &Call) -> Answer<RefundOutcome> {
        let way = way_back(refund);
        let mut asked = head((way, "00"), &refund.refund_no, refund.txn_time);
        asked.extend(fields([
            ("channelType", "08"),
            ("txnAmt", &refund.amount.minor().to_string()),
            ("backUrl", &refund.notify_url),
            ("origOrderId", refund.order.order_no.as_str()),
            ("origTxnTime", &beijing(refund.order.txn_time)),
        ]));
        Answer::new(match self.send(BACK, asked, call).await {
            Ok(fields) if way == UNDO => outcome::undone(&fields),
            Ok(fields) => outcome::refunded(&fields),
            Err(SendError::NotSent(failure)) => RefundOutcome::RetryLater(failure),
            Err(SendError::Unknown(failure)) => RefundOutcome::Unknown(failure),
        })
    }

    async fn query_refund(&self, refund: &RefundOrder, call: &Call) -> Answer<RefundQueryOutcome> {
        Answer::new(
            match self.ask(&refund.refund_no, refund.txn_time, call).await {
                Ok(fields) => outcome::refund_queried(refund, &fields),
                Err(failure) => RefundQueryOutcome::Unknown(failure),
            },
        )
    }

    fn notification(
        &self,
        raw: &RawNotification,
        now: DateTime<Utc>,
    ) -> Result<Verified<Notification>, Rejection> {
        notification::read(&self.account, raw, now)
    }

    fn acknowledge(&self, what: Acknowledgement) -> AcknowledgementBody {
        notification::acknowledge(what)
    }
}
