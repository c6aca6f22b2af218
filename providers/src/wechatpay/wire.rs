//! The JSON of APIv3 as it travels: requests that we write, answers that we read. Unknown members
//! of answers are ignored, since WeChat Pay adds some; members that are absent before a payment are
//! optional here. Nothing in this file decides anything.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::charset::{opaque, words};

#[derive(Serialize)]
pub(super) struct NativeRequest<'a> {
    pub appid: &'a str,
    pub mchid: &'a str,
    pub description: &'a str,
    pub out_trade_no: &'a str,
    pub time_expire: String,
    pub attach: &'a str,
    pub notify_url: &'a str,
    pub amount: OrderAmount,
}

#[derive(Serialize)]
pub(super) struct OrderAmount {
    pub total: i64,
    pub currency: &'static str,
}

/// A code payment. It knows neither an address for notifications nor a deadline.
#[derive(Serialize)]
pub(super) struct CodePayRequest<'a> {
    pub appid: &'a str,
    pub mchid: &'a str,
    pub description: &'a str,
    pub out_trade_no: &'a str,
    pub attach: &'a str,
    pub amount: OrderAmount,
    pub payer: CodePayer<'a>,
    pub scene_info: SceneInfo<'a>,
}

#[derive(Serialize)]
pub(super) struct CodePayer<'a> {
    pub auth_code: &'a str,
}

#[derive(Serialize)]
pub(super) struct SceneInfo<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_id: Option<&'a str>,
    pub store_info: StoreInfo<'a>,
}

/// In this call `out_id` is the merchant's own number of the shop; everywhere else that is `id`.
#[derive(Serialize)]
pub(super) struct StoreInfo<'a> {
    pub out_id: &'a str,
}

/// `appid` looks optional in the documentation, and without it the answer is 500.
#[derive(Serialize)]
pub(super) struct ReverseRequest<'a> {
    pub appid: &'a str,
    pub mchid: &'a str,
}

/// What a reversal answers: that it is done, and nothing about money.
#[derive(Deserialize)]
pub(super) struct ReverseAnswer {
    pub out_trade_no: String,
}

#[derive(Deserialize)]
pub(super) struct NativeAnswer {
    pub code_url: String,
}

#[derive(Serialize)]
pub(super) struct CloseRequest<'a> {
    pub mchid: &'a str,
}

/// The order is always named by our own number: a repeated call must be the same to the byte, and
/// the provider's number may become known in between.
#[derive(Serialize)]
pub(super) struct RefundRequest<'a> {
    pub out_trade_no: &'a str,
    pub out_refund_no: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    pub notify_url: &'a str,
    pub amount: RefundAmount,
}

#[derive(Serialize)]
pub(super) struct RefundAmount {
    pub refund: i64,
    pub total: i64,
    pub currency: &'static str,
}

/// An order, as a query and a notification describe it.
#[derive(Deserialize)]
pub(super) struct Transaction {
    pub appid: String,
    pub mchid: String,
    pub out_trade_no: String,
    pub trade_state: String,
    pub transaction_id: Option<String>,
    pub attach: Option<String>,
    pub success_time: Option<String>,
    pub payer: Option<Payer>,
    pub amount: Option<TransactionAmount>,
}

#[derive(Deserialize)]
pub(super) struct Payer {
    pub openid: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct TransactionAmount {
    /// What the order costs, coupons included.
    pub total: i64,
    /// What the payer's own pocket gives.
    pub payer_total: Option<i64>,
    pub currency: Option<String>,
}

/// A refund, as its creation and a query describe it.
#[derive(Deserialize)]
pub(super) struct Refund {
    pub out_trade_no: String,
    pub out_refund_no: String,
    pub status: String,
    pub amount: RefundedAmount,
}

#[derive(Deserialize)]
pub(super) struct RefundedAmount {
    pub refund: i64,
}

/// A refund, as a notification describes it: `refund_status`, and no currency and no appid.
#[derive(Deserialize)]
pub(super) struct RefundNotice {
    pub mchid: String,
    pub out_trade_no: String,
    pub out_refund_no: String,
    pub refund_status: String,
    pub amount: Option<RefundedAmount>,
}

/// What every other kind of notification has, perhaps.
#[derive(Deserialize)]
pub(super) struct OtherNotice {
    pub mchid: Option<String>,
    pub out_trade_no: Option<String>,
}

/// The outside of a notification.
#[derive(Deserialize)]
pub(super) struct Envelope {
    pub id: String,
    pub event_type: String,
    pub resource: Resource,
}

#[derive(Deserialize)]
pub(super) struct Resource {
    pub algorithm: String,
    pub ciphertext: String,
    pub nonce: String,
    pub associated_data: Option<String>,
}

/// The body of a "no". `detail` has several shapes in practice.
#[derive(Deserialize)]
pub(super) struct ErrorBody {
    pub code: String,
    #[serde(default)]
    pub message: String,
    pub detail: Option<serde_json::Value>,
}

impl ErrorBody {
    /// Words that cannot be read take nothing from a code that can.
    pub(super) fn read(body: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Code {
            code: String,
        }
        let code = || {
            json(body).map(|Code { code }| Self {
                code,
                message: String::new(),
                detail: None,
            })
        };

        let read: Self = json(body).or_else(|_| code()).ok()?;
        Some(Self {
            message: words(&read.message).into_owned(),
            ..read
        })
    }
}

/// JSON in UTF-8, as all of it should be. Words that are in another charset are no reason not to
/// read the rest.
///
/// # Errors
/// What is no JSON of this shape.
pub(super) fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, serde_json::Error> {
    serde_json::from_slice(body).or_else(|e| match std::str::from_utf8(body) {
        Ok(_) => Err(e),
        Err(_) => serde_json::from_str(&opaque(body)),
    })
}
