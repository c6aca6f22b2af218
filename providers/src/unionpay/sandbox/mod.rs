//! UnionPay's side of the wire for the sandbox: codes that are scanned and codes that we scan, queries, reversals,
//! refunds and undos. It is as strict as the real gateway where money or signatures are concerned, keeps nothing but
//! keys and who asked when, and executes nothing that the merchant did not sign.

mod notices;
mod payments;
mod pki;
mod request;
mod returns;
mod said;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Deserialize as _;
use serde_json::{Value, json};

use self::pki::Keys;
use self::request::{Asked, Broken, Checked};
use self::said::Said;
use super::certificate;
use super::sign::{BY_CERTIFICATE, CERTIFICATE, SharedKey, by_certificate, signed_text};
use super::wire::{Fields, local};
use crate::charset::{bytes, words};
use crate::provider::{ProviderName, SettingsError};
use crate::sandbox::book::{Order, OrderKey};
use crate::sandbox::charset::Charset;
use crate::sandbox::face::{Alteration, CallKind, Desk, Face, Notice, Outgoing, Peculiarity, Request, Response, Word};
use crate::sandbox::keys::NoRandomness;
use crate::signing::{Signer, Verifier};

const PROVIDER: &str = "unionpay";
/// Five sendings: at once, again, and after one, two and four minutes.
const RETRIES_S: [u32; 4] = [0, 60, 120, 240];
/// "About five working days" until late money goes back.
const LATE_MONEY_RETURNS_S: u32 = 5 * 86_400;
/// More questions about one order within [`OFTEN`] are answered 37. The real limit is not published.
const MOST_QUESTIONS: usize = 20;
const OFTEN: TimeDelta = TimeDelta::seconds(10);
/// From so many orders on, those that nobody asks about any more are forgotten.
const MOST_REMEMBERED: usize = 10_000;

/// Makes the sandbox merchant.
pub(super) fn face_keys() -> Result<Value, NoRandomness> {
    serde_json::to_value(pki::make()?).map_err(|_| NoRandomness)
}

/// Opens the face with keys that [`face_keys`] made.
pub(super) fn face(keys: &Value) -> Result<Arc<dyn Face>, SettingsError> {
    let keys = Keys::deserialize(keys).map_err(|_| SettingsError::new(PROVIDER, "not the keys of a sandbox"))?;
    let wrong = |field: &str| SettingsError::new(field, "not what a sandbox makes");
    let merchant = certificate::certificates(&keys.merchant_cert).and_then(|mut all| all.pop());
    let merchant = merchant.ok_or_else(|| wrong("merchant_cert"))?;
    let public = certificate::public_key(&merchant).ok_or_else(|| wrong("merchant_cert"))?;
    Ok(Arc::new(UnionPayFace {
        merchant: Verifier::from_der(&public).map_err(|_| wrong("merchant_cert"))?,
        cert_id: certificate::serial(&merchant).ok_or_else(|| wrong("merchant_cert"))?,
        merchant_key: pki::merchant_key(&keys).ok_or_else(|| wrong("pfx"))?,
        merchants_own: as_it_travels(&keys.merchant_cert),
        platform: Signer::from_text(&keys.platform_private_key).map_err(|_| wrong("platform_private_key"))?,
        certificate: as_it_travels(&keys.platform_cert),
        shared: SharedKey::new(&keys.secure_key),
        questions: Mutex::default(),
        keys,
    }))
}

fn as_it_travels(pem: &str) -> String {
    pem.lines().collect::<Vec<_>>().join("\r\n")
}

/// One merchant's UnionPay.
struct UnionPayFace {
    keys: Keys,
    merchant: Verifier,
    cert_id: String,
    /// For messages that a merchant signs in UnionPay's name: its certificate is of the same authority.
    merchant_key: Signer,
    merchants_own: String,
    platform: Signer,
    /// As it travels: CRLF between the lines and none at the end.
    certificate: String,
    shared: SharedKey,
    /// When which order was last asked about.
    questions: Mutex<HashMap<String, Vec<DateTime<Utc>>>>,
}

impl fmt::Debug for UnionPayFace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnionPayFace").field("mer_id", &self.keys.mer_id).finish_non_exhaustive()
    }
}

impl UnionPayFace {
    fn key(&self, order_no: &str) -> OrderKey {
        OrderKey::new(PROVIDER, &self.keys.mer_id, order_no)
    }

    /// 21 digits: the year, the time and the trace number stand where real ones have them.
    fn query_id(&self, number: u64, now: DateTime<Utc>) -> String {
        let (high, trace) = (number / 1_000_000 % 100, number % 1_000_000);
        format!("{high:02}{}{trace:06}8", local(now).format("%y%m%d%H%M%S"))
    }

    fn asks_too_often(&self, order_no: &str, now: DateTime<Utc>) -> bool {
        let mut questions = self.questions.lock().unwrap_or_else(PoisonError::into_inner);
        if questions.len() >= MOST_REMEMBERED {
            questions.retain(|_, times| times.last().is_some_and(|at| now - *at < OFTEN));
        }
        let times = questions.entry(order_no.to_owned()).or_default();
        times.retain(|at| now - *at < OFTEN);
        times.push(now);
        times.len() > MOST_QUESTIONS
    }

    fn execute(&self, asked: Asked, fields: &Fields, desk: &Desk<'_>) -> Result<Said, Said> {
        if !request::is_signed(self, fields) {
            return Err(Said::not_signed());
        }
        if asked == Asked::Other {
            return Err(Said::no_permission());
        }
        let request = Checked::new(asked, fields, desk.now)?;
        match asked {
            Asked::Apply => payments::apply(self, &request, desk),
            Asked::Scan => payments::scan(self, &request, desk),
            Asked::Query => payments::query(self, &request, desk),
            Asked::Reversal => payments::reverse(self, &request, desk),
            Asked::Refund | Asked::Undo => returns::give_back(self, asked, &request, desk),
            Asked::Other => Err(Said::no_permission()),
        }
    }

    /// The fields that every answer repeats, the words, and the signature: raw text in the order of real answers.
    fn answer(&self, asked: &Fields, said: Said, alteration: Alteration) -> Response {
        const REPEATED: [&str; 11] = [
            "version",
            "encoding",
            "signMethod",
            "txnType",
            "txnSubType",
            "bizType",
            "accessType",
            "merId",
            "orderId",
            "txnTime",
            "reqReserved",
        ];
        let mut fields: Fields = asked
            .iter()
            .filter(|(name, _)| REPEATED.contains(&name.as_str()))
            .map(|(n, v)| (n.clone(), v.clone()))
            .collect();
        let said = if alteration == Alteration::Undecided { said.of_a_silent_issuer() } else { said };
        fields.extend(super::fields([("respCode", &*said.code), ("respMsg", &said.message)]));
        fields.extend(said.fields);
        fields.retain(|_, value| !value.is_empty());
        let named = fields.get("encoding").cloned().unwrap_or_default();
        let charset = written_in(&mut fields, &named, alteration);
        self.sign(&mut fields, alteration);
        let last = [CERTIFICATE, "signature"];
        let first = fields.iter().filter(|(name, _)| !last.contains(&name.as_str()));
        let behind = last.iter().filter_map(|name| fields.get_key_value(*name));
        let body = first.chain(behind).map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&");
        in_charset(StatusCode::OK, charset, bytes(&body).into_owned())
    }

    /// Signs a message by the method that it names.
    fn sign(&self, fields: &mut Fields, alteration: Alteration) {
        let is_certificate = fields.get("signMethod").is_none_or(|method| method == BY_CERTIFICATE);
        let is_strange = alteration == Alteration::UnknownKey;
        if is_certificate {
            let certificate = if is_strange { &self.merchants_own } else { &self.certificate };
            fields.insert(CERTIFICATE.to_owned(), certificate.clone());
        }
        let text = match alteration {
            Alteration::None | Alteration::Undecided | Alteration::Charset(_) | Alteration::UnknownKey => {
                signed_text(fields)
            }
            // Of the right form and over something else.
            Alteration::BadSignature | Alteration::Probe => signed_text(fields) + "!",
            Alteration::Unsigned => return,
        };
        let text = bytes(&text);
        let signature = match (is_certificate, is_strange) {
            (true, false) => by_certificate(&self.platform, &text),
            (true, true) => by_certificate(&self.merchant_key, &text),
            (false, false) => self.shared.sign(&text),
            (false, true) => SharedKey::new("another").sign(&text),
        };
        fields.insert("signature".to_owned(), signature);
    }
}

/// Turns the words of a message into texts that stand for their bytes in the charset that `named` is, or that somebody
/// wants instead; the message names that one then.
fn written_in(fields: &mut Fields, named: &str, alteration: Alteration) -> Charset {
    let charset = match alteration {
        Alteration::Charset(other) => {
            fields.insert("encoding".to_owned(), other.name().to_owned());
            other
        }
        Alteration::None
        | Alteration::Undecided
        | Alteration::Unsigned
        | Alteration::BadSignature
        | Alteration::UnknownKey
        | Alteration::Probe => Charset::named(named).unwrap_or_default(),
    };
    for value in fields.values_mut() {
        *value = charset.opaque(&words(value));
    }
    charset
}

fn plain(status: StatusCode, body: impl Into<Bytes>) -> Response {
    in_charset(status, Charset::Utf8, body)
}

fn in_charset(status: StatusCode, charset: Charset, body: impl Into<Bytes>) -> Response {
    let content_type = HeaderValue::from_static(match charset {
        Charset::Utf8 => "text/html;charset=UTF-8",
        Charset::Gbk => "text/html;charset=GBK",
        Charset::Gb18030 => "text/html;charset=GB18030",
    });
    Response { status, headers: HeaderMap::from_iter([(header::CONTENT_TYPE, content_type)]), body: body.into() }
}

fn broken(Broken(status, text): Broken) -> Response {
    plain(status, text)
}

impl Face for UnionPayFace {
    fn provider(&self) -> ProviderName {
        super::PROTOCOL.name
    }

    /// A question about a refund looks like any other: it is a `Query`.
    fn call_of(&self, request: &Request) -> Option<CallKind> {
        match request::read(request).ok()?.0 {
            Asked::Apply | Asked::Scan => Some(CallKind::Create),
            Asked::Query => Some(CallKind::Query),
            Asked::Refund | Asked::Undo => Some(CallKind::Refund),
            Asked::Reversal => Some(CallKind::Reverse),
            Asked::Other => None,
        }
    }

    fn handle(&self, request: &Request, desk: &Desk<'_>) -> Response {
        match request::read(request) {
            Ok((asked, fields)) => {
                let said = self.execute(asked, &fields, desk).unwrap_or_else(|no| no);
                self.answer(&fields, said, desk.alteration)
            }
            Err(no) => broken(no),
        }
    }

    fn rate_limited(&self, request: &Request, _: DateTime<Utc>) -> Response {
        match request::read(request) {
            Ok((asked, fields)) => {
                let said = if asked == Asked::Query { Said::too_often() } else { Said::busy() };
                self.answer(&fields, said, Alteration::None)
            }
            Err(no) => broken(no),
        }
    }

    fn again(&self, request: &Request, _: DateTime<Utc>) -> Response {
        match request::read(request) {
            Ok((_, fields)) => self.answer(&fields, Said::busy(), Alteration::None),
            Err(no) => broken(no),
        }
    }

    fn says(&self, request: &Request, word: &Word, _: DateTime<Utc>) -> Response {
        match request::read(request) {
            Ok((_, fields)) => self.answer(&fields, Said::new(&word.code, &word.message), Alteration::None),
            Err(no) => broken(no),
        }
    }

    fn http_500(&self, _: &Request, _: DateTime<Utc>) -> Response {
        plain(StatusCode::INTERNAL_SERVER_ERROR, "<html><body><h1>HTTP Status 500</h1></body></html>")
    }

    fn transaction_id(&self, number: u64, now: DateTime<Utc>) -> String {
        self.query_id(number, now)
    }

    fn notification(&self, notice: &Notice<'_>) -> Option<Outgoing> {
        notices::outgoing(self, notice)
    }

    fn acknowledged(&self, status: StatusCode, _: &[u8]) -> bool {
        status == StatusCode::OK
    }

    fn retry_schedule_s(&self, _: &Order) -> &'static [u32] {
        &RETRIES_S
    }

    fn late_money_returns_s(&self) -> Option<u32> {
        Some(LATE_MONEY_RETURNS_S)
    }

    fn has(&self, what: Peculiarity) -> bool {
        match what {
            Peculiarity::Charsets | Peculiarity::NamedKeys | Peculiarity::Defects => true,
            Peculiarity::Probes | Peculiarity::SpacedRefunds | Peculiarity::Coupons => false,
        }
    }

    fn credentials(&self) -> Value {
        json!({
            "mer_id": self.keys.mer_id, "pfx": self.keys.pfx, "pfx_password": self.keys.pfx_password,
            "root_cert": self.keys.root_cert, "middle_cert": self.keys.middle_cert, "secure_key": self.keys.secure_key,
        })
    }
}
