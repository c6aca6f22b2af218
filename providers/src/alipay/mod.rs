//! Alipay's open platform, version 2 (`gateway.do`), RSA2 in key mode: codes that the payer scans,
//! and codes on the payer's phone that the shop scans.
//!
//! `config` reads the settings, `sign` and `wire` make and read bytes, `outcome` alone says what an
//! answer means for money (`codes` holds the reference's lists), `notice` reads what Alipay tells
//! on its own, `simulator` is the other side. The adapter makes one request per call and never
//! repeats one.

mod capture;
mod codes;
mod config;
#[cfg(test)]
mod fuzz;
mod notice;
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
use http::StatusCode;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use self::config::Settings;
use self::reasons::REASONS;
use self::wire::{Method, Reply};
use crate::http::{Client, TimeTold, Way};
use crate::notification::{
    Acknowledgement, AcknowledgementBody, Notification, RawNotification, Rejection, Verified,
};
use crate::order::{Call, Flow, Order, OrderRef, RefundOrder};
use crate::outcome::{
    Answer, CloseOutcome, CreateOutcome, Failure, FailureKind, QueryOutcome, RefundOutcome,
    RefundQueryOutcome, Refusal,
};
use crate::provider::{
    Address, AddressKind, Capabilities, Charging, Ending, FlowCapability, Protocol, Provider,
    ProviderName, SettingsError, Title,
};
use crate::text::{fit, shown};

const NAME: ProviderName = ProviderName::new("alipay");

/// The entry on the list of providers.
pub const PROTOCOL: Protocol = Protocol {
    name: NAME,
    title: Title {
        zh: "支付宝",
        en: "Alipay",
    },
    capabilities: &CAPABILITIES,
    open,
    addresses: ADDRESSES,
    reasons: REASONS,
};

/// Alipay 1: the gateway and its sandbox, for calls and for pages. The sandbox of old is dead.
const ADDRESSES: &[Address] = &[
    Address::live(AddressKind::Api, "https://openapi.alipay.com"),
    Address::test(AddressKind::Api, "https://openapi-sandbox.dl.alipaydev.com"),
    Address::live(AddressKind::Pages, "https://openapi.alipay.com"),
    Address::test(
        AddressKind::Pages,
        "https://openapi-sandbox.dl.alipaydev.com",
    ),
];

static CAPABILITIES: Capabilities = Capabilities {
    flows: &[
        FlowCapability {
            flow: Flow::Qr,
            ending: Ending::CloseOnceTradeExists,
        },
        FlowCapability {
            flow: Flow::Barcode,
            ending: Ending::Reverse,
        },
    ],
    amount_fen: (1, 10_000_000_000),
    shortest_offer_s: 60,
    probe_every_ms: 1_000,
    // A notification is likely, so these only catch lost ones; the last is past the longest life of
    // a code, 2 h.
    awaiting_ladder_s: &[30, 120, 300, 600, 900, 1_800, 3_600, 5_400, 7_320],
    // "No earlier than 10 s after the refund."
    refund_ladder_s: &[
        10, 20, 40, 60, 120, 300, 600, 1_800, 3_600, 7_200, 21_600, 43_200, 86_400,
    ],
    // "At least 3 s" where they arrive, and no two of them take the same way there.
    refund_spacing_ms: 3_500,
    refund_renumbers: false,
    refund_keyed_by_time: false,
    charge: Some(Charging {
        is_code,
        // How long the official SDK reads.
        timeout_ms: 15_000,
        // "Every 3 to 6 s for 60 s", and what is in doubt after the wait for the answer at once.
        ladder_s: &[3, 6, 10, 15, 20, 25, 30, 40, 50, 60],
        reverse_after_s: 60,
        reverse_from_s: 0,
        // "Repeat at once", with a breath in between.
        reverse_pause_s: 3,
        // Whether a failed payment leaves a trade that can still be paid is not documented, so it
        // is cancelled.
        declined_is_reversed: true,
        // A payment on its way may make the trade after a cancel that found none.
        confirm_not_found_after_s: Some(30),
        last_reversals: None,
    }),
};

/// Codes of the wallet are 16 to 24 digits that begin with 25 to 30, those of face payment `fp` and
/// 35 characters.
fn is_code(code: &str) -> bool {
    if let Some(face) = code.strip_prefix("fp") {
        return face.len() == 35 && face.bytes().all(|b| b.is_ascii_alphanumeric());
    }
    let ours = ["25", "26", "27", "28", "29", "30"]
        .iter()
        .any(|prefix| code.starts_with(prefix));
    ours && (16..=24).contains(&code.len()) && code.bytes().all(|b| b.is_ascii_digit())
}

fn open(settings: Value, way: &Way) -> Result<Arc<dyn Provider>, SettingsError> {
    let settings = Settings::read(&settings)?;
    let client = Client::new(&settings.base_url, way)
        .map_err(|e| SettingsError::new("base_url", e.to_string()))?;
    let identity = format!("{}@{}", settings.app_id, settings.seller_id);
    Ok(Arc::new(Alipay {
        settings,
        client,
        identity,
    }))
}

/// One account.
#[derive(Debug)]
struct Alipay {
    settings: Settings,
    client: Client,
    identity: String,
}

impl Alipay {
    /// One call: sign, send, read. The second value is Alipay's own id of the request.
    async fn call(
        &self,
        method: Method,
        biz_content: Value,
        notify_url: Option<&str>,
        call: &Call,
    ) -> (Reply, Option<String>) {
        let request = wire::request(&self.settings, method, &biz_content, notify_url, call);
        let answer = self.client.send(request).await;
        let request_id = answer
            .as_ref()
            .ok()
            .and_then(|a| a.header("trace_id"))
            .map(|id| id.chars().take(64).collect());
        (
            wire::reply(
                &self.settings.alipay_key,
                method,
                answer.as_ref().map_err(Clone::clone),
            ),
            request_id,
        )
    }
}

#[async_trait]
impl Provider for Alipay {
    fn name(&self) -> ProviderName {
        NAME
    }

    fn identity(&self) -> &str {
        &self.identity
    }

    fn address(&self) -> &str {
        self.client.base()
    }

    fn time_told(&self) -> Option<TimeTold> {
        self.client.time_told()
    }

    fn capabilities(&self) -> &'static Capabilities {
        &CAPABILITIES
    }

    async fn create(&self, order: &Order, call: &Call) -> Answer<CreateOutcome> {
        if CAPABILITIES.flow(order.flow).is_none() {
            let failure = Failure::new(
                FailureKind::Request,
                "flow",
                format!("{} is not served", order.flow),
            );
            return Answer::new(CreateOutcome::NotSent(failure));
        }

        if order.flow.is_charge() {
            let Some(auth_code) = order.auth_code.as_deref().filter(|code| is_code(code)) else {
                let failure = Failure::new(
                    FailureKind::Request,
                    "auth_code",
                    "not a code of this wallet's",
                );
                return Answer::new(CreateOutcome::Refused(Refusal::Route, failure));
            };
            let biz_content = pay(order, auth_code, &self.settings.seller_id);
            let (reply, request_id) = self
                .call(Method::Pay, biz_content, Some(&order.notify_url), call)
                .await;
            return Answer {
                outcome: outcome::charged(reply, &order.order_no),
                request_id,
            };
        }

        let biz_content = precreate(order, &self.settings.seller_id, call.now);
        let (reply, request_id) = self
            .call(
                Method::Precreate,
                biz_content,
                Some(&order.notify_url),
                call,
            )
            .await;

        Answer {
            outcome: outcome::created(reply, &order.order_no),
            request_id,
        }
    }

    async fn query(&self, order: &OrderRef, call: &Call) -> Answer<QueryOutcome> {
        let (reply, request_id) = self.call(Method::Query, named(order), None, call).await;
        Answer {
            outcome: outcome::queried(reply, &order.order_no),
            request_id,
        }
    }

    async fn close(&self, order: &OrderRef, call: &Call) -> Answer<CloseOutcome> {
        let (reply, request_id) = self.call(Method::Close, named(order), None, call).await;
        Answer {
            outcome: outcome::closed(reply, &order.order_no),
            request_id,
        }
    }

    async fn reverse(&self, order: &OrderRef, call: &Call) -> Answer<CloseOutcome> {
        let (reply, request_id) = self.call(Method::Cancel, named(order), None, call).await;
        Answer {
            outcome: outcome::reversed(reply, &order.order_no),
            request_id,
        }
    }

    async fn refund(&self, refund: &RefundOrder, call: &Call) -> Answer<RefundOutcome> {
        let mut biz_content = json!({
            "out_trade_no": refund.order.order_no,
            "out_request_no": refund.refund_no,
            "refund_amount": refund.amount.to_yuan(),
        });

        if let (Some(reason), Some(members)) = (&refund.reason, biz_content.as_object_mut()) {
            members.insert(
                "refund_reason".to_owned(),
                fit(reason, MOST_BYTES, &[]).into(),
            );
        }

        // Alipay tells about refunds, if at all, at the payment's own address.
        let (reply, request_id) = self.call(Method::Refund, biz_content, None, call).await;
        Answer {
            outcome: outcome::refunded(reply, &refund.order.order_no),
            request_id,
        }
    }

    async fn query_refund(&self, refund: &RefundOrder, call: &Call) -> Answer<RefundQueryOutcome> {
        let biz_content =
            json!({ "out_trade_no": refund.order.order_no, "out_request_no": refund.refund_no });
        let (reply, request_id) = self
            .call(Method::RefundQuery, biz_content, None, call)
            .await;
        Answer {
            outcome: outcome::refund_queried(reply, refund),
            request_id,
        }
    }

    fn notification(
        &self,
        raw: &RawNotification,
        _: DateTime<Utc>,
    ) -> Result<Verified<Notification>, Rejection> {
        // No time window: the same notification is sent again for 25 hours.
        notice::read(&self.settings, raw)
    }

    fn acknowledge(&self, what: Acknowledgement) -> AcknowledgementBody {
        // Anything but these seven bytes makes Alipay send it again.
        let body = match what {
            Acknowledgement::Stop => "success",
            Acknowledgement::SendAgain | Acknowledgement::Refuse => "fail",
        };
        AcknowledgementBody {
            status: StatusCode::OK,
            content_type: "text/plain; charset=utf-8",
            body,
        }
    }
}

/// Orders are named by our number only: if a `trade_no` is sent too, that one wins.
fn named(order: &OrderRef) -> Value {
    json!({ "out_trade_no": order.order_no })
}

/// What `passback_params` may hold as it is; the merchant has to URL-encode the rest.
const PASSBACK: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

fn precreate(order: &Order, seller_id: &str, now: DateTime<Utc>) -> Value {
    // Counted from the call and rounded down, so that the code dies before the order does.
    let code_minutes = (order.expires_at - now).num_minutes().max(1);
    json!({
        "out_trade_no": order.order_no,
        "total_amount": order.amount.to_yuan(),
        "subject": subject(&order.description),
        "product_code": "FACE_TO_FACE_PAYMENT",
        // Without it the money goes to whichever account the application is signed for.
        "seller_id": seller_id,
        "time_expire": wire::beijing_time(order.expires_at),
        "qr_code_timeout_express": format!("{code_minutes}m"),
        "passback_params": utf8_percent_encode(&order.payment_id, PASSBACK).to_string(),
    })
}

fn pay(order: &Order, auth_code: &str, seller_id: &str) -> Value {
    let scene = if auth_code.starts_with("fp") {
        "security_code"
    } else {
        "bar_code"
    };
    let mut biz_content = json!({
        "out_trade_no": order.order_no,
        "total_amount": order.amount.to_yuan(),
        "subject": subject(&order.description),
        "product_code": "FACE_TO_FACE_PAYMENT",
        "scene": scene,
        "auth_code": auth_code,
        "seller_id": seller_id,
        // Until then the payer may type the password.
        "time_expire": wire::beijing_time(order.expires_at),
        "passback_params": utf8_percent_encode(&order.payment_id, PASSBACK).to_string(),
    });

    if let (Some(store), Some(members)) = (&order.store, biz_content.as_object_mut()) {
        members.insert("store_id".to_owned(), store.id.as_str().into());
        members.extend(
            store
                .terminal_id
                .as_deref()
                .map(|till| ("terminal_id".to_owned(), till.into())),
        );
    }

    biz_content
}

/// Bytes of a subject and of a reason: the documents say 256, and not of what.
const MOST_BYTES: usize = 256;

/// `/`, `=` and `&` are not allowed in a subject. It comes back inside the signed text of
/// notifications, where `&` and `=` separate fields: with them a payer's text could pass for other
/// fields.
fn subject(description: &str) -> String {
    shown(description, MOST_BYTES, &['/', '=', '&'])
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;
    use crate::money::Money;

    fn order(lives_s: i64) -> (Order, DateTime<Utc>) {
        let now = DateTime::parse_from_rfc3339("2026-01-01T00:00:00Z")
            .unwrap()
            .to_utc();
        let order = Order {
            order_no: "il0000000001".to_owned(),
            payment_id: "pay_1".to_owned(),
            flow: Flow::Qr,
            amount: Money::fen(8880).unwrap(),
            description: "茶 a/b=c&d".to_owned(),
            txn_time: now,
            expires_at: now + TimeDelta::seconds(lives_s),
            notify_url: "http://127.0.0.1:9/n".to_owned(),
            client_ip: None,
            auth_code: None,
            store: None,
        };

        (order, now)
    }

    #[test]
    fn a_code_never_outlives_its_order() {
        for (lives_s, express, expire) in [
            (900, "15m", "08:15:00"),
            (899, "14m", "08:14:59"),
            (119, "1m", "08:01:59"),
            (60, "1m", "08:01:00"),
        ] {
            let (order, now) = order(lives_s);
            let biz_content = precreate(&order, "2088", now);
            assert_eq!(biz_content["qr_code_timeout_express"], express);
            assert_eq!(biz_content["time_expire"], format!("2026-01-01 {expire}"));
        }
    }

    #[test]
    fn an_offer_says_what_is_asked_for() {
        let (order, now) = order(900);
        insta::assert_json_snapshot!(precreate(&order, "2088000000000001", now), @r#"
        {
          "out_trade_no": "il0000000001",
          "passback_params": "pay_1",
          "product_code": "FACE_TO_FACE_PAYMENT",
          "qr_code_timeout_express": "15m",
          "seller_id": "2088000000000001",
          "subject": "茶 a b c d",
          "time_expire": "2026-01-01 08:15:00",
          "total_amount": "88.80"
        }
        "#);
    }
}
