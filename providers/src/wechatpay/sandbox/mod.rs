//! WeChat Pay's side of the wire for the sandbox: APIv3 for native orders, code payments, refunds and certificates. It
//! is as strict as the real service where money or signatures are concerned; it keeps nothing of its own beside keys,
//! and it never answers a request whose `Authorization` does not hold with anything but 401.

mod auth;
mod certificate;
mod charges;
mod fields;
mod notices;
mod orders;
mod refunds;
mod said;

use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, FixedOffset, Utc};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use self::said::Said;
use super::sign::{ResourceKey, SIGNATURE_TYPE, answer_message, nonce};
use crate::provider::{ProviderName, SettingsError};
use crate::sandbox::book::{Order, OrderKey};
use crate::sandbox::face::{Alteration, CallKind, Desk, Face, Notice, Outgoing, Peculiarity, Request, Response, Word};
use crate::sandbox::keys::{NoRandomness, digits, hex, pem, rsa_private_keys};
use crate::signing::{KeyError, Signer, Verifier};

const PROVIDER: &str = "wechatpay";
/// Between one unacknowledged notification and the next.
const RETRIES_S: [u32; 15] =
    [15, 15, 30, 180, 600, 1200, 1800, 1800, 1800, 3600, 10_800, 10_800, 10_800, 21_600, 21_600];

/// What the signature of a probe begins with.
const PROBE: &str = "WECHATPAY/SIGNTEST/";
/// Of a platform certificate that nobody was given.
const NEXT_SERIAL: &str = "60000000000000000000000000000000000000A6";

/// The sandbox merchant and both of the provider's keys, as they are stored.
#[derive(Serialize, Deserialize)]
struct Keys {
    mchid: String,
    appid: String,
    serial: String,
    private_key: String,
    platform_serial: String,
    platform_private_key: String,
    platform_certificate: String,
    public_key_id: String,
    public_key_private: String,
    apiv3_key: String,
    apiv2_key: String,
}

/// Makes the sandbox merchant.
pub(super) fn face_keys() -> Result<Value, NoRandomness> {
    let [private_key, platform_private_key, public_key_private] = rsa_private_keys()?;
    let mchid = format!("19{}", digits(8)?);
    let platform_serial = certificate_serial()?;
    let platform = Signer::from_text(&platform_private_key).map_err(|_| NoRandomness)?;
    let certificate = certificate::self_signed(&platform, &platform_serial).ok_or(NoRandomness)?;
    let keys = Keys {
        appid: format!("wx{}", hex(16)?),
        serial: certificate_serial()?,
        private_key,
        platform_certificate: pem("CERTIFICATE", &certificate),
        platform_serial,
        platform_private_key,
        public_key_id: format!("PUB_KEY_ID_01{mchid}{}", digits(20)?),
        public_key_private,
        apiv3_key: hex(32)?,
        apiv2_key: hex(32)?,
        mchid,
    };
    serde_json::to_value(keys).map_err(|_| NoRandomness)
}

/// 20 bytes, upper case, positive as a number.
fn certificate_serial() -> Result<String, NoRandomness> {
    Ok(format!("5{}", hex(39)?.to_ascii_uppercase()))
}

/// Opens the face with keys that [`face_keys`] made.
pub(super) fn face(keys: &Value) -> Result<Arc<dyn Face>, SettingsError> {
    let wrong = |field: &str, e: &KeyError| SettingsError::new(field, e.to_string());
    let keys: Keys = Keys::deserialize(keys).map_err(|_| SettingsError::new(PROVIDER, "not the keys of a sandbox"))?;
    let merchant = Signer::from_text(&keys.private_key).map_err(|e| wrong("private_key", &e))?;
    let public = Signer::from_text(&keys.public_key_private).map_err(|e| wrong("public_key_private", &e))?;
    let public_der = public.public_key_der().map_err(|e| wrong("public_key_private", &e))?;
    let credentials = json!({
        "mchid": keys.mchid, "appid": keys.appid, "serial": keys.serial, "private_key": keys.private_key,
        "public_key_id": keys.public_key_id, "public_key": pem("PUBLIC KEY", &public_der),
        "platform_serial": keys.platform_serial, "platform_certificate": keys.platform_certificate,
        "apiv3_key": keys.apiv3_key, "apiv2_key": keys.apiv2_key,
    });
    Ok(Arc::new(WechatFace {
        merchant: merchant.verifier(),
        platform: Signer::from_text(&keys.platform_private_key).map_err(|e| wrong("platform_private_key", &e))?,
        resource_key: ResourceKey::new(&keys.apiv3_key)
            .ok_or_else(|| SettingsError::new("apiv3_key", "must have exactly 32 bytes"))?,
        public,
        credentials,
        keys,
    }))
}

/// One merchant's WeChat Pay.
struct WechatFace {
    keys: Keys,
    merchant: Verifier,
    platform: Signer,
    public: Signer,
    resource_key: ResourceKey,
    credentials: Value,
}

impl fmt::Debug for WechatFace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WechatFace").field("mchid", &self.keys.mchid).finish_non_exhaustive()
    }
}

/// What a request asks for.
enum Asked {
    Create,
    Charge,
    Query { order_no: String },
    QueryTransaction { id: String },
    Close { order_no: String },
    Reverse { order_no: String },
    Refund,
    QueryRefund { refund_no: String },
    Certificates,
}

fn asked(request: &Request) -> Option<Asked> {
    let decoded = |s: &str| percent_decode_str(s).decode_utf8().ok().map(|s| s.into_owned());
    let path: Vec<&str> = request.path().strip_prefix("/v3/")?.split('/').collect();
    match (&request.method, path.as_slice()) {
        (&Method::POST, ["pay", "transactions", "native"]) => Some(Asked::Create),
        (&Method::POST, ["pay", "transactions", "codepay"]) => Some(Asked::Charge),
        (&Method::GET, ["pay", "transactions", "out-trade-no", no]) => Some(Asked::Query { order_no: decoded(no)? }),
        (&Method::GET, ["pay", "transactions", "id", id]) => Some(Asked::QueryTransaction { id: decoded(id)? }),
        (&Method::POST, ["pay", "transactions", "out-trade-no", no, "close"]) => {
            Some(Asked::Close { order_no: decoded(no)? })
        }
        (&Method::POST, ["pay", "transactions", "out-trade-no", no, "reverse"]) => {
            Some(Asked::Reverse { order_no: decoded(no)? })
        }
        (&Method::POST, ["refund", "domestic", "refunds"]) => Some(Asked::Refund),
        (&Method::GET, ["refund", "domestic", "refunds", no]) => Some(Asked::QueryRefund { refund_no: decoded(no)? }),
        (&Method::GET, ["certificates"]) => Some(Asked::Certificates),
        _ => None,
    }
}

impl WechatFace {
    fn execute(&self, request: &Request, desk: &Desk<'_>) -> Said {
        let Some(asked) = asked(request) else {
            return Said::no(StatusCode::NOT_FOUND, "RESOURCE_NOT_EXISTS", 0, "请求的资源不存在");
        };
        let said = match asked {
            Asked::Create => orders::create(self, request, desk),
            Asked::Charge => charges::create(self, request, desk),
            Asked::Query { order_no } => orders::query(self, request, &order_no, desk),
            Asked::QueryTransaction { id } => orders::query_transaction(self, request, &id, desk),
            Asked::Close { order_no } => orders::close(self, request, &order_no, desk),
            Asked::Reverse { order_no } => charges::reverse(self, request, &order_no, desk),
            Asked::Refund => refunds::create(self, request, desk),
            Asked::QueryRefund { refund_no } => refunds::query(self, &refund_no, desk),
            Asked::Certificates => self.certificates(desk.now),
        };
        said.unwrap_or_else(|no| no)
    }

    fn order_key(&self, order_no: &str) -> OrderKey {
        OrderKey::new(PROVIDER, &self.keys.mchid, order_no)
    }

    /// The platform certificate, for SDKs that do not use public-key mode.
    fn certificates(&self, now: DateTime<Utc>) -> Result<Said, Said> {
        let broken = || Said::system_error();
        let nonce = hex(12).map_err(|_| broken())?;
        let certificate = self.keys.platform_certificate.as_bytes();
        let ciphertext = self.resource_key.seal(&nonce, "certificate", certificate).ok_or_else(broken)?;
        Ok(Said::ok(json!({"data": [{
            "serial_no": self.keys.platform_serial,
            "effective_time": beijing(now - chrono::TimeDelta::days(30)),
            "expire_time": beijing(now + chrono::TimeDelta::days(1800)),
            "encrypt_certificate": {
                "algorithm": "AEAD_AES_256_GCM", "nonce": nonce, "associated_data": "certificate",
                "ciphertext": ciphertext,
            },
        }]})))
    }

    /// The key that a caller asks to be answered with.
    fn key_for(&self, request: &Request) -> &str {
        let asked = request.header("Wechatpay-Serial").unwrap_or_default();
        if asked == self.keys.public_key_id { &self.keys.public_key_id } else { &self.keys.platform_serial }
    }

    /// Headers and signature around an answer.
    fn answer(&self, said: &Said, request: &Request, now: DateTime<Utc>, alteration: Alteration) -> Response {
        let body = said.body.as_ref().map(Value::to_string).unwrap_or_default();
        let mut headers = HeaderMap::new();
        put(&mut headers, "content-type", "application/json; charset=utf-8");
        put(&mut headers, "cache-control", "no-cache, must-revalidate");
        put(&mut headers, "x-content-type-options", "nosniff");
        put(&mut headers, "content-language", "zh-CN");
        put(&mut headers, "request-id", &request_id(said.reason));
        if said.signed {
            self.sign(&mut headers, self.key_for(request), body.as_bytes(), now, alteration);
        }
        Response { status: said.status, headers, body: body.into() }
    }

    /// Signature headers over `body`, made with the key called `serial`.
    fn sign(&self, headers: &mut HeaderMap, serial: &str, body: &[u8], now: DateTime<Utc>, alteration: Alteration) {
        let key = if serial == self.keys.public_key_id { &self.public } else { &self.platform };
        let (timestamp, nonce) = (now.timestamp().to_string(), nonce().unwrap_or_default());
        let message = answer_message(&timestamp, &nonce, body);
        let signature = match alteration {
            Alteration::None | Alteration::Undecided | Alteration::Charset(_) => key.sign(&message),
            Alteration::UnknownKey => self.platform.sign(&message),
            Alteration::Probe => format!("{PROBE}{}", key.sign(&message)),
            // Of the right length and over something else.
            Alteration::BadSignature => key.sign(&[&message, b"!".as_slice()].concat()),
            Alteration::Unsigned => return,
        };
        put(headers, "wechatpay-timestamp", &timestamp);
        put(headers, "wechatpay-nonce", &nonce);
        put(headers, "wechatpay-signature", &signature);
        put(headers, "wechatpay-serial", if alteration == Alteration::UnknownKey { NEXT_SERIAL } else { serial });
        put(headers, "wechatpay-signature-type", SIGNATURE_TYPE);
    }
}

/// 38 digits that mean nothing, and the reason.
fn request_id(reason: u32) -> String {
    format!("08{}-{reason}", hex(36).unwrap_or_default().to_ascii_uppercase())
}

fn put(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(HeaderName::from_static(name), value);
    }
}

/// RFC 3339 in Beijing time, whole seconds.
fn beijing(time: DateTime<Utc>) -> String {
    super::beijing(time)
}

impl Face for WechatFace {
    fn provider(&self) -> ProviderName {
        super::PROTOCOL.name
    }

    fn call_of(&self, request: &Request) -> Option<CallKind> {
        match asked(request)? {
            Asked::Create | Asked::Charge => Some(CallKind::Create),
            Asked::Query { .. } | Asked::QueryTransaction { .. } => Some(CallKind::Query),
            Asked::Close { .. } => Some(CallKind::Close),
            Asked::Reverse { .. } => Some(CallKind::Reverse),
            Asked::Refund => Some(CallKind::Refund),
            Asked::QueryRefund { .. } => Some(CallKind::QueryRefund),
            Asked::Certificates => None,
        }
    }

    fn handle(&self, request: &Request, desk: &Desk<'_>) -> Response {
        let said = match auth::check(self, request, desk.now) {
            Ok(()) => self.execute(request, desk),
            Err(no) => no,
        };
        let said = if desk.alteration == Alteration::Undecided && said.signed { Said::system_error() } else { said };
        self.answer(&said, request, desk.now, desk.alteration)
    }

    fn rate_limited(&self, request: &Request, now: DateTime<Utc>) -> Response {
        let said = Said::no(StatusCode::TOO_MANY_REQUESTS, "FREQUENCY_LIMITED", 268_447_840, "频率超限");
        self.answer(&said, request, now, Alteration::None)
    }

    /// The payer is typing the password: it cannot be reversed now.
    fn again(&self, request: &Request, now: DateTime<Utc>) -> Response {
        let said = match auth::check(self, request, now) {
            Ok(()) => Said::bad_request("USERPAYING", 0, "正在支付中，不能发起撤销"),
            Err(no) => no,
        };
        self.answer(&said, request, now, Alteration::None)
    }

    fn says(&self, request: &Request, word: &Word, now: DateTime<Utc>) -> Response {
        self.answer(&Said::of(word), request, now, Alteration::None)
    }

    fn http_500(&self, request: &Request, now: DateTime<Utc>) -> Response {
        self.answer(&Said::system_error(), request, now, Alteration::None)
    }

    /// 28 digits that begin with 4 and carry the day, as real ones do.
    fn transaction_id(&self, number: u64, now: DateTime<Utc>) -> String {
        format!("4200000001{}{number:010}", beijing_day(now))
    }

    fn notification(&self, notice: &Notice<'_>) -> Option<Outgoing> {
        notices::outgoing(self, notice)
    }

    fn acknowledged(&self, status: StatusCode, _: &[u8]) -> bool {
        status == StatusCode::OK || status == StatusCode::NO_CONTENT
    }

    fn retry_schedule_s(&self, _: &Order) -> &'static [u32] {
        &RETRIES_S
    }

    fn late_money_returns_s(&self) -> Option<u32> {
        None
    }

    fn has(&self, what: Peculiarity) -> bool {
        match what {
            // JSON in UTF-8, in both directions.
            Peculiarity::Charsets | Peculiarity::SpacedRefunds | Peculiarity::Defects => false,
            Peculiarity::Probes | Peculiarity::NamedKeys | Peculiarity::Coupons => true,
        }
    }

    fn credentials(&self) -> Value {
        self.credentials.clone()
    }
}

fn beijing_day(time: DateTime<Utc>) -> String {
    let local =
        FixedOffset::east_opt(8 * 3600).map_or(time.naive_utc(), |offset| time.with_timezone(&offset).naive_local());
    local.format("%Y%m%d").to_string()
}
