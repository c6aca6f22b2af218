//! Checks `Authorization` as the real service does: over the raw target and the raw body, within
//! five minutes of the sandbox's clock. Nothing is executed before it holds.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::response::Said;
use super::state::WechatPaySimulator;
use crate::sandbox::simulator::Request;
use crate::wechatpay::sign::{SIGNATURE_TYPE, request_message};

const WINDOW_S: u64 = 300;

pub(super) fn check(
    face: &WechatPaySimulator,
    request: &Request,
    now: DateTime<Utc>,
) -> Result<(), Said> {
    let refused = |message: &str| Said::unauthorized(message, json!({"location": "authorization"}));
    let header = request.header("Authorization").unwrap_or_default();
    let (kind, rest) = header.split_once(' ').unwrap_or((header, ""));
    if kind != SIGNATURE_TYPE {
        return Err(refused("Http头Authorization认证类型不正确"));
    }
    let malformed =
        || refused("Http头Authorization值格式错误，请参考《微信支付商户REST API签名规则》");
    let claim = Claim::read(rest).ok_or_else(malformed)?;
    let signed_at: i64 = claim.timestamp.parse().map_err(|_| malformed())?;

    if now.timestamp().abs_diff(signed_at) > WINDOW_S {
        return Err(refused(
            "Http头Authorization中的timestamp与发起请求的时间不得超过5分钟",
        ));
    }

    if claim.serial_no != face.keys.serial || claim.mchid != face.keys.mchid {
        return Err(refused("商户证书序列号有误"));
    }
    let method = request.method.as_str();
    let message = request_message(
        method,
        &request.target,
        claim.timestamp,
        claim.nonce_str,
        &request.body,
    );

    face.merchant
        .verify(&message, claim.signature)
        .map_err(|_| {
            let detail = sign_detail(request, &message);
            Said::unauthorized("错误的签名，导致验签失败", detail)
        })
}

/// As real dumps nest it.
fn sign_detail(request: &Request, message: &[u8]) -> Value {
    let text = String::from_utf8_lossy(message);
    json!({
        "detail": {"issue": "sign not match"}, "field": "signature", "location": "authorization",
        "sign_information": {
            "method": request.method.as_str(), "url": request.target,
            "sign_message_length": message.len(),
            "truncated_sign_message": text.chars().take(128).collect::<String>(),
        },
    })
}

/// The attributes, which come in any order.
struct Claim<'a> {
    mchid: &'a str,
    nonce_str: &'a str,
    signature: &'a str,
    timestamp: &'a str,
    serial_no: &'a str,
}

impl<'a> Claim<'a> {
    fn read(attributes: &'a str) -> Option<Self> {
        let value = |name: &str| {
            attributes.split(',').find_map(|attribute| {
                let (key, value) = attribute.trim().split_once('=')?;
                (key == name)
                    .then(|| value.strip_prefix('"')?.strip_suffix('"'))
                    .flatten()
            })
        };
        Some(Self {
            mchid: value("mchid")?,
            nonce_str: value("nonce_str")?,
            signature: value("signature")?,
            timestamp: value("timestamp")?,
            serial_no: value("serial_no")?,
        })
    }
}
