//! WeChat Pay, direct merchants, APIv3 with RSA in public-key mode: flow `qr` (native orders) and
//! flow `barcode` (code payments).
//!
//! Facts that comments name by section stand in `PROTOCOL.md`. What an answer means is decided in
//! `outcome.rs` and nowhere else; this file builds requests, sends each of them once, and never
//! asks anything by itself.

mod config;
#[cfg(test)]
mod fuzz;
mod notification;
mod outcome;
mod reasons;
pub mod sign;
#[cfg(feature = "sandbox")]
pub(crate) mod simulator;
mod wire;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, FixedOffset, SecondsFormat, Utc};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;

use self::config::Account;
use self::outcome::Reply;
use self::reasons::REASONS;
use self::sign::Merchant;
use self::wire::{
    CloseRequest, CodePayRequest, CodePayer, NativeRequest, OrderAmount, RefundAmount,
    RefundRequest, ReverseRequest, SceneInfo, StoreInfo,
};
use crate::http::{Request, SendError, TimeTold, Way};
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

/// The entry on the list of providers.
pub const PROTOCOL: Protocol = Protocol {
    name: ProviderName::new("wechatpay"),
    title: Title {
        zh: "微信支付",
        en: "WeChat Pay",
    },
    capabilities: &CAPABILITIES,
    open,
    addresses: ADDRESSES,
    reasons: REASONS,
};

/// WeChat Pay 1.1: the main host, the one for when it is far away, and the newer names of both.
/// There is no test host.
const ADDRESSES: &[Address] = &[
    Address::live(AddressKind::Api, "https://api.mch.weixin.qq.com"),
    Address::live(AddressKind::Api, "https://api2.mch.weixin.qq.com"),
    Address::live(AddressKind::Api, "https://api.wechatpay.cn"),
    Address::live(AddressKind::Api, "https://api2.wechatpay.cn"),
];

static CAPABILITIES: Capabilities = Capabilities {
    flows: &[
        FlowCapability {
            flow: Flow::Qr,
            ending: Ending::Close,
        },
        FlowCapability {
            flow: Flow::Barcode,
            ending: Ending::Reverse,
        },
    ],
    // The provider documents no upper limit; ours is a hundred million yuan.
    amount_fen: (1, 10_000_000_000),
    shortest_offer_s: 60,
    probe_every_ms: 1_000,
    // Plan A of the provider's page on missing notifications.
    awaiting_ladder_s: &[5, 30, 60, 180, 300, 600, 1800],
    // Facts 6.3, with an early look, since a refund of a balance is done within seconds.
    refund_ladder_s: &[5, 30, 60, 120, 180, 240, 300, 600, 1200, 2400, 4200],
    // Only superseded documents ask for a minute between two refunds; one that is refused as too
    // soon is sent again later.
    refund_spacing_ms: 0,
    refund_renumbers: true,
    refund_keyed_by_time: false,
    charge: Some(Charging {
        is_code,
        // No wait is documented; the server may hold the request, so it is a long one. What it cuts
        // off is asked for.
        timeout_ms: 15_000,
        // Facts 6.2: first after 5 s, then every 5 s, and a reversal after 45 s at the latest.
        ladder_s: &[5, 10, 15, 20, 25, 30, 35, 40, 45],
        reverse_after_s: 45,
        // Facts 4.10: not earlier than 15 s after the payment, and 5 s between two.
        reverse_from_s: 15,
        reverse_pause_s: 5,
        // Facts 4.8: a listed "no" means that the payment certainly failed, for a number that was
        // never used before, and ours never are. The code is spent and no dialog is open, so
        // nothing is left that a payer could pay.
        declined_is_reversed: false,
        // A reversal is said to burn a number that was never seen; where it does not, nothing
        // proves that the charge is dead.
        confirm_not_found_after_s: None,
        last_reversals: None,
    }),
};

/// Codes of the wallet are 18 digits that begin with 10 to 15.
fn is_code(code: &str) -> bool {
    let ours = ["10", "11", "12", "13", "14", "15"]
        .iter()
        .any(|prefix| code.starts_with(prefix));
    ours && code.len() == 18 && code.bytes().all(|b| b.is_ascii_digit())
}

const USER_AGENT: &str = concat!("interlock/", env!("CARGO_PKG_VERSION"));
/// Bytes of a description and of a refund's reason: lengths are counted in UTF-8.
const DESCRIPTION_BYTES: usize = 127;
const REASON_BYTES: usize = 80;
/// What may stand in a path segment as it is; our own numbers are of these.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.');

fn open(settings: serde_json::Value, way: &Way) -> Result<Arc<dyn Provider>, SettingsError> {
    let account = Account::read(settings, way)?;
    let identity = format!("{}/{}", account.mchid, account.appid);
    Ok(Arc::new(WechatPay { account, identity }))
}

/// One merchant with one app.
#[derive(Debug)]
struct WechatPay {
    account: Account,
    identity: String,
}

/// A reply together with the provider's id of the request, or why there is none.
type Sent = (Result<Reply, SendError>, Option<String>);

impl WechatPay {
    /// A charge. What never left took nothing; what was sent and got no answer may have taken the
    /// money.
    async fn charge(&self, order: &Order, call: &Call) -> Answer<CreateOutcome> {
        let Some(auth_code) = order.auth_code.as_deref().filter(|code| is_code(code)) else {
            let failure = Failure::new(
                FailureKind::Request,
                "auth_code",
                "not a code of this wallet's",
            );
            return Answer::new(CreateOutcome::Refused(Refusal::Route, failure));
        };
        let store = order.store.as_ref();

        let body = CodePayRequest {
            appid: &self.account.appid,
            mchid: &self.account.mchid,
            description: &shown(&order.description, DESCRIPTION_BYTES, &[]),
            out_trade_no: &order.order_no,
            attach: &order.payment_id,
            amount: OrderAmount {
                total: order.amount.minor(),
                currency: "CNY",
            },
            payer: CodePayer { auth_code },
            scene_info: SceneInfo {
                device_id: store.and_then(|s| s.terminal_id.as_deref()),
                store_info: StoreInfo {
                    out_id: store.map_or(&self.account.store_id, |s| &s.id),
                },
            },
        };
        let (reply, request_id) = self
            .post("/v3/pay/transactions/codepay".to_owned(), &body, call)
            .await;

        let outcome = match reply {
            Ok(reply) => outcome::charged(&self.account, &order.order_no, reply),
            Err(SendError::NotSent(failure)) => CreateOutcome::NotSent(failure),
            Err(SendError::Unknown(failure)) => CreateOutcome::Unknown(failure),
        };

        Answer {
            outcome,
            request_id,
        }
    }

    async fn get(&self, target: String, call: &Call) -> Sent {
        self.send(Method::GET, target, Bytes::new(), call).await
    }

    async fn post(&self, target: String, body: &impl Serialize, call: &Call) -> Sent {
        match serde_json::to_vec(body) {
            Ok(body) => self.send(Method::POST, target, body.into(), call).await,
            Err(e) => (Err(unsent(e.to_string())), None),
        }
    }

    async fn send(&self, method: Method, target: String, body: Bytes, call: &Call) -> Sent {
        let Some(headers) = self.headers(&method, &target, &body, call.now) else {
            return (Err(unsent("the request could not be signed")), None);
        };
        let request = Request {
            method,
            target,
            headers,
            body,
            timeout: call.timeout,
        };

        match self.account.client.send(request).await {
            Ok(answer) => {
                let request_id = answer
                    .header("Request-ID")
                    .map(|id| id.chars().take(128).collect());
                (
                    Ok(Reply::verify(&self.account, &answer, call.now)),
                    request_id,
                )
            }
            Err(undelivered) => (Err(undelivered), None),
        }
    }

    fn headers(
        &self,
        method: &Method,
        target: &str,
        body: &[u8],
        now: DateTime<Utc>,
    ) -> Option<HeaderMap> {
        let account = &self.account;
        let merchant = Merchant {
            mchid: &account.mchid,
            serial: &account.serial,
            signer: &account.signer,
        };

        let authorization = merchant.authorization(
            method.as_str(),
            target,
            now.timestamp(),
            &sign::nonce()?,
            body,
        );
        let json = HeaderValue::from_static("application/json");

        Some(HeaderMap::from_iter([
            (
                header::AUTHORIZATION,
                HeaderValue::try_from(authorization).ok()?,
            ),
            (header::ACCEPT, json.clone()),
            (header::CONTENT_TYPE, json),
            (header::USER_AGENT, HeaderValue::from_static(USER_AGENT)),
            // Selects the key that signs the answer.
            (
                HeaderName::from_static("wechatpay-serial"),
                HeaderValue::try_from(&account.public_key_id).ok()?,
            ),
        ]))
    }
}

fn unsent(message: impl Into<String>) -> SendError {
    SendError::NotSent(Failure::new(FailureKind::Request, "not_built", message))
}

/// RFC 3339 in Beijing time, whole seconds, as in every example of the provider. Cutting a fraction
/// off ends an offer earlier, never later.
fn beijing(time: DateTime<Utc>) -> String {
    match FixedOffset::east_opt(8 * 3600) {
        Some(offset) => time
            .with_timezone(&offset)
            .to_rfc3339_opts(SecondsFormat::Secs, false),
        None => time.to_rfc3339_opts(SecondsFormat::Secs, true),
    }
}

fn order_path(order_no: &str) -> String {
    format!(
        "/v3/pay/transactions/out-trade-no/{}",
        utf8_percent_encode(order_no, SEGMENT)
    )
}

#[async_trait]
impl Provider for WechatPay {
    fn name(&self) -> ProviderName {
        PROTOCOL.name
    }

    fn identity(&self) -> &str {
        &self.identity
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

    async fn create(&self, order: &Order, call: &Call) -> Answer<CreateOutcome> {
        if CAPABILITIES.flow(order.flow).is_none() {
            let failure = Failure::new(
                FailureKind::Request,
                "flow_not_served",
                order.flow.to_string(),
            );
            return Answer::new(CreateOutcome::Refused(Refusal::Route, failure));
        }

        if order.flow.is_charge() {
            return self.charge(order, call).await;
        }
        let body = NativeRequest {
            appid: &self.account.appid,
            mchid: &self.account.mchid,
            description: &shown(&order.description, DESCRIPTION_BYTES, &[]),
            out_trade_no: &order.order_no,
            time_expire: beijing(order.expires_at),
            attach: &order.payment_id,
            notify_url: &order.notify_url,
            amount: OrderAmount {
                total: order.amount.minor(),
                currency: "CNY",
            },
        };

        let (reply, request_id) = self
            .post("/v3/pay/transactions/native".to_owned(), &body, call)
            .await;
        let outcome = match reply {
            Ok(reply) => outcome::created(reply),
            Err(SendError::NotSent(failure)) => CreateOutcome::NotSent(failure),
            Err(SendError::Unknown(failure)) => CreateOutcome::Unknown(failure),
        };

        Answer {
            outcome,
            request_id,
        }
    }

    async fn query(&self, order: &OrderRef, call: &Call) -> Answer<QueryOutcome> {
        let target = format!(
            "{}?mchid={}",
            order_path(&order.order_no),
            self.account.mchid
        );
        let (reply, request_id) = self.get(target, call).await;
        let outcome = match reply {
            Ok(reply) => outcome::queried(&self.account, order, reply),
            Err(SendError::NotSent(failure) | SendError::Unknown(failure)) => {
                QueryOutcome::Unknown(failure)
            }
        };

        Answer {
            outcome,
            request_id,
        }
    }

    async fn close(&self, order: &OrderRef, call: &Call) -> Answer<CloseOutcome> {
        let target = format!("{}/close", order_path(&order.order_no));
        let (reply, request_id) = self
            .post(
                target,
                &CloseRequest {
                    mchid: &self.account.mchid,
                },
                call,
            )
            .await;

        let outcome = match reply {
            Ok(reply) => outcome::closed(reply),
            Err(SendError::NotSent(failure)) => CloseOutcome::Retry(failure),
            Err(SendError::Unknown(failure)) => CloseOutcome::Unknown(failure),
        };

        Answer {
            outcome,
            request_id,
        }
    }

    async fn reverse(&self, order: &OrderRef, call: &Call) -> Answer<CloseOutcome> {
        let target = format!("{}/reverse", order_path(&order.order_no));
        let body = ReverseRequest {
            appid: &self.account.appid,
            mchid: &self.account.mchid,
        };
        let (reply, request_id) = self.post(target, &body, call).await;
        let outcome = match reply {
            Ok(reply) => outcome::reversed(order, reply),
            Err(SendError::NotSent(failure)) => CloseOutcome::Retry(failure),
            Err(SendError::Unknown(failure)) => CloseOutcome::Unknown(failure),
        };
        Answer {
            outcome,
            request_id,
        }
    }

    async fn refund(&self, refund: &RefundOrder, call: &Call) -> Answer<RefundOutcome> {
        let body = RefundRequest {
            out_trade_no: &refund.order.order_no,
            out_refund_no: &refund.refund_no,
            reason: refund
                .reason
                .as_deref()
                .map(|reason| fit(reason, REASON_BYTES, &[]))
                .filter(|reason| !reason.is_empty()),
            notify_url: &refund.notify_url,
            amount: RefundAmount {
                refund: refund.amount.minor(),
                total: refund.total.minor(),
                currency: "CNY",
            },
        };
        let (reply, request_id) = self
            .post("/v3/refund/domestic/refunds".to_owned(), &body, call)
            .await;

        let outcome = match reply {
            Ok(reply) => outcome::refunded(refund, reply),
            Err(SendError::NotSent(failure)) => RefundOutcome::RetryLater(failure),
            Err(SendError::Unknown(failure)) => RefundOutcome::Unknown(failure),
        };

        Answer {
            outcome,
            request_id,
        }
    }

    async fn query_refund(&self, refund: &RefundOrder, call: &Call) -> Answer<RefundQueryOutcome> {
        let target = format!(
            "/v3/refund/domestic/refunds/{}",
            utf8_percent_encode(&refund.refund_no, SEGMENT)
        );
        let (reply, request_id) = self.get(target, call).await;
        let outcome = match reply {
            Ok(reply) => outcome::refund_queried(refund, reply),
            Err(SendError::NotSent(failure) | SendError::Unknown(failure)) => {
                RefundQueryOutcome::Unknown(failure)
            }
        };
        Answer {
            outcome,
            request_id,
        }
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
