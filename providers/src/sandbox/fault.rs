//! Faults on request: which there are, which of them strikes a call, and nothing of how they are
//! carried out. A seed makes the draws of one fault the same in every run; the order in which calls
//! arrive is not ours.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use parking_lot::{Mutex, MutexGuard};
use serde_json::{Number, Value, json};

use super::members::{Invalid, Members};
use super::simulator::{CallKind, Peculiarity, ScriptedRefusal};
use crate::provider::ProviderName;

/// Probabilities are counted in millionths: nothing here needs floats.
const CERTAIN_PPM: u32 = 1_000_000;
/// As many faults as anybody can keep apart.
const MAX_FAULTS: usize = 64;
const MAX_LATENCY_MS: u64 = 600_000;
const MAX_CODE: usize = 128;
const MAX_MESSAGE: usize = 1_024;
const MAX_DURATION_S: u32 = 30 * 86_400;
/// How late `slow`, `drip` and `delay` are when nobody says.
const DEFAULT_LATENCY: Duration = Duration::from_secs(1);

/// What can go wrong with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display, strum::EnumString, strum::EnumIter)]
#[strum(serialize_all = "snake_case")]
pub enum CallFault {
    /// Nobody listens, and connections that stood are reset.
    Refuse,
    /// The request is read, nothing is done, the connection is reset.
    Reset,
    /// The request is read, nothing is done, nothing is ever answered.
    TimeoutBefore,
    /// It is done, and nothing is ever answered.
    TimeoutAfter,
    /// Nothing is done; a broken server answers.
    #[strum(serialize = "http_500")]
    Http500,
    /// Nothing is done; the provider's own "too often".
    RateLimited,
    /// Nothing is done; the provider's own "no", by the code that comes with the fault.
    Says,
    /// It is done, and the answer cannot be read.
    Garbled,
    /// It is done, and the answer's signature is missing.
    Unsigned,
    /// It is done, and the answer's signature does not hold.
    BadSignature,
    /// It is done, and answered with the provider's own word for not knowing what became of it.
    Undecided,
    /// It is done, and answered in GBK, whatever was asked for.
    Gbk,
    /// The same in GB18030.
    Gb18030,
    /// It is done, and the answer is signed with a key that nobody has told of.
    UnknownKey,
    /// Nothing is done; whoever wants a charge reversed is told to call again.
    Again,
    /// A refund that follows another one of its order within three seconds is refused, and not
    /// done.
    Spaced,
    /// It is done, and answered late.
    Slow,
    /// It is done, and answered a few bytes at a time.
    Drip,
    /// A question is answered, and signed, as it would have been some time ago: not found, or not
    /// paid, what has been paid since.
    Behind,
    /// A question about what can still be paid is answered, and signed, as if it were closed.
    SaysClosed,
    /// The same; and while that answer is on its way, the payer pays.
    PaidMeanwhile,
    /// A question is answered, and signed, with another amount.
    OtherAmount,
}

impl CallFault {
    /// The calls that it can strike: all of them, or questions alone.
    const fn strikes(self, call: CallKind) -> bool {
        match self {
            Self::Refuse
            | Self::Reset
            | Self::TimeoutBefore
            | Self::TimeoutAfter
            | Self::Http500
            | Self::RateLimited
            | Self::Says
            | Self::Garbled
            | Self::Unsigned
            | Self::BadSignature
            | Self::Undecided
            | Self::Gbk
            | Self::Gb18030
            | Self::UnknownKey
            | Self::Slow
            | Self::Drip => true,
            Self::Again => matches!(call, CallKind::Reverse),
            Self::Spaced => matches!(call, CallKind::Refund),
            Self::Behind => matches!(call, CallKind::Query | CallKind::QueryRefund),
            Self::SaysClosed | Self::PaidMeanwhile | Self::OtherAmount => {
                matches!(call, CallKind::Query)
            }
        }
    }
}

/// What can go wrong with a notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display, strum::EnumString, strum::EnumIter)]
#[strum(serialize_all = "snake_case")]
pub enum NotificationFault {
    /// It is lost on the way (and sent again by the provider's schedule).
    Drop,
    /// It is late.
    Delay,
    /// It comes twice.
    Duplicate,
    /// A later one overtakes it.
    Reorder,
    /// Somebody else sends one with another amount first.
    Forge,
    /// It tells of another amount, and is signed as it should be.
    Misstate,
    /// It is written in GBK, whatever the order was asked for in.
    Gbk,
    /// The same in GB18030.
    Gb18030,
    /// It is signed with a key that nobody has told of.
    UnknownKey,
    /// The provider looks whether signatures are checked: one that says that its signature is none
    /// comes first, then one signed with a key that nobody has told of.
    Probe,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// For one call, or for all of them.
    Call(CallFault, Option<CallKind>),
    Notification(NotificationFault),
}

/// A fault that somebody asked for.
#[derive(Debug, Clone)]
pub struct Fault {
    id: u64,
    provider: ProviderName,
    kind: Kind,
    probability_ppm: u32,
    latency: Option<Duration>,
    seed: Option<u64>,
    ends_at: Option<DateTime<Utc>>,
    draws: u64,
    /// What `says` says.
    word: Option<Arc<ScriptedRefusal>>,
    /// How often it strikes yet; `None`: for as long as it runs.
    count: Option<u32>,
}

/// A fault that strikes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Strike<K> {
    /// What goes wrong.
    pub kind: K,
    /// How late: in real time for calls, in the sandbox's for notifications.
    pub latency: Option<Duration>,
    /// What is said, where that is what the fault is about.
    pub word: Option<Arc<ScriptedRefusal>>,
}

impl<K> Strike<K> {
    /// How late, where being late is what the fault is about.
    #[must_use]
    pub fn lateness(&self) -> Duration {
        self.latency.unwrap_or(DEFAULT_LATENCY)
    }
}

impl Fault {
    /// Reads `{provider, call?, kind, probability?, latency_ms?, seed?, duration_s?, count?}`, for
    /// `says` with `code` and `message?`.
    ///
    /// # Errors
    /// [`Invalid`] names the member.
    pub fn read(body: &[u8], faces: &[ProviderName], now: DateTime<Utc>) -> Result<Self, Invalid> {
        let known = [
            "provider",
            "call",
            "kind",
            "probability",
            "latency_ms",
            "seed",
            "duration_s",
            "count",
            "code",
            "message",
        ];
        let mut members = Members::of(body, &known)?;
        let provider: String = members.required("provider")?;

        let provider = *faces
            .iter()
            .find(|p| p.as_str() == provider)
            .ok_or_else(|| Invalid::new("provider", "is not one of the sandbox's"))?;
        let kind: String = members.required("kind")?;
        let kind = read_kind(&kind, members.optional("call")?)?;
        let probability_ppm = members
            .optional("probability")?
            .map_or(Ok(CERTAIN_PPM), |n| read_ppm(&n))?;

        let latency = members
            .optional("latency_ms")?
            .map(read_latency)
            .transpose()?;
        let seed = members.optional("seed")?;
        let ends_at = members
            .optional("duration_s")?
            .map(|s| read_end(s, now))
            .transpose()?;
        let count: Option<u32> = members.optional("count")?;
        if count == Some(0) {
            return Err(Invalid::new("count", "is not 1 or more"));
        }

        if matches!(kind, Kind::Call(CallFault::Refuse, _)) && probability_ppm != CERTAIN_PPM {
            return Err(Invalid::new(
                "probability",
                "refuse closes the listener: it is certain or it is not",
            ));
        }

        if count.is_some() && matches!(kind, Kind::Call(CallFault::Refuse, _)) {
            return Err(Invalid::new(
                "count",
                "refuse closes the listener: nobody counts who does not come in",
            ));
        }

        let no_latency = [
            Kind::Call(CallFault::Refuse, None),
            Kind::Notification(NotificationFault::Drop),
        ];
        if latency.is_some() && no_latency.contains(&kind) {
            return Err(Invalid::new("latency_ms", "means nothing for this kind"));
        }
        let says = matches!(kind, Kind::Call(CallFault::Says, _));

        let word = read_word(
            says,
            members.optional("code")?,
            members.optional("message")?,
        )?;

        Ok(Self {
            id: 0,
            provider,
            kind,
            probability_ppm,
            latency,
            seed,
            ends_at,
            draws: 0,
            word,
            count,
        })
    }

    /// As the control API shows it.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let (kind, call) = match self.kind {
            Kind::Call(kind, call) => (kind.to_string(), call.map(|c| c.to_string())),
            Kind::Notification(kind) => (kind.to_string(), Some("notification".to_owned())),
        };

        json!({
            "id": self.id,
            "provider": self.provider.as_str(),
            "call": call,
            "kind": kind,
            "probability": ppm_to_number(self.probability_ppm),
            "latency_ms": self.latency.map(|l| l.as_millis().to_string().parse::<Number>().ok()),
            "seed": self.seed.unwrap_or(self.id),
            "ends_at": self.ends_at,
            "count": self.count,
            "code": self.word.as_ref().map(|word| word.code.as_str()),
            "message": self.word.as_ref().map(|word| word.message.as_str()),
        })
    }

    /// Whose it is.
    #[must_use]
    pub fn provider(&self) -> ProviderName {
        self.provider
    }

    /// What its provider must be one to do.
    #[must_use]
    pub fn needs(&self) -> Option<Peculiarity> {
        match self.kind {
            Kind::Call(CallFault::Gbk | CallFault::Gb18030, _)
            | Kind::Notification(NotificationFault::Gbk | NotificationFault::Gb18030) => {
                Some(Peculiarity::Charsets)
            }
            Kind::Call(CallFault::UnknownKey, _)
            | Kind::Notification(NotificationFault::UnknownKey) => Some(Peculiarity::NamedKeys),
            Kind::Call(CallFault::Spaced, _) => Some(Peculiarity::SpacedRefunds),
            Kind::Notification(NotificationFault::Probe) => Some(Peculiarity::Probes),
            Kind::Call(..) | Kind::Notification(_) => None,
        }
    }

    fn runs(&self, now: DateTime<Utc>) -> bool {
        self.ends_at.is_none_or(|end| now < end) && self.count != Some(0)
    }

    /// Whether it strikes this time. Each question is one draw.
    fn strikes(&mut self) -> bool {
        self.draws += 1;
        let hits = draw(self.seed.unwrap_or(self.id), self.draws) % u64::from(CERTAIN_PPM)
            < u64::from(self.probability_ppm);
        if hits {
            self.count = self.count.map(|count| count.saturating_sub(1));
        }
        hits
    }
}

/// All faults there are, in the order in which they were asked for.
#[derive(Debug, Default)]
pub struct Faults(Mutex<List>);

#[derive(Debug, Default)]
struct List {
    last_id: u64,
    faults: Vec<Fault>,
}

impl Faults {
    /// Adds one and gives it its id.
    ///
    /// # Errors
    /// [`Invalid`] when there are too many.
    pub fn add(&self, mut fault: Fault, now: DateTime<Utc>) -> Result<Fault, Invalid> {
        let mut list = self.lock();
        list.faults.retain(|f| f.runs(now));
        if list.faults.len() >= MAX_FAULTS {
            return Err(Invalid::new(
                "",
                format!("there are {MAX_FAULTS} faults already"),
            ));
        }
        list.last_id += 1;
        fault.id = list.last_id;
        list.faults.push(fault.clone());
        Ok(fault)
    }

    /// Those that run.
    pub fn running(&self, now: DateTime<Utc>) -> Vec<Fault> {
        self.lock()
            .faults
            .iter()
            .filter(|f| f.runs(now))
            .cloned()
            .collect()
    }

    /// Removes one, or all, and says how many that were.
    pub fn remove(&self, id: Option<u64>) -> usize {
        let mut list = self.lock();
        let before = list.faults.len();
        list.faults.retain(|f| id.is_some_and(|id| f.id != id));
        before - list.faults.len()
    }

    /// The first fault that strikes a call.
    pub fn strike_call(
        &self,
        provider: ProviderName,
        call: Option<CallKind>,
        now: DateTime<Utc>,
    ) -> Option<Strike<CallFault>> {
        self.strike(provider, now, |kind| match kind {
            Kind::Call(fault, None) if call.is_none_or(|call| fault.strikes(call)) => Some(fault),
            Kind::Call(fault, aim) if aim.is_some() && aim == call => Some(fault),
            Kind::Call(..) | Kind::Notification(_) => None,
        })
    }

    /// The first fault that strikes a notification.
    pub fn strike_notification(
        &self,
        provider: ProviderName,
        now: DateTime<Utc>,
    ) -> Option<Strike<NotificationFault>> {
        self.strike(provider, now, |kind| match kind {
            Kind::Notification(fault) => Some(fault),
            Kind::Call(..) => None,
        })
    }

    /// Whether a provider's listener is closed.
    pub fn refuses(&self, provider: ProviderName, now: DateTime<Utc>) -> bool {
        let refuse = Kind::Call(CallFault::Refuse, None);
        self.lock()
            .faults
            .iter()
            .any(|f| f.provider == provider && f.kind == refuse && f.runs(now))
    }

    /// When the next one ends by itself.
    pub fn next_end(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.lock()
            .faults
            .iter()
            .filter_map(|f| f.ends_at)
            .filter(|end| *end > now)
            .min()
    }

    fn strike<K>(
        &self,
        provider: ProviderName,
        now: DateTime<Utc>,
        aimed: impl Fn(Kind) -> Option<K>,
    ) -> Option<Strike<K>> {
        let mut list = self.lock();
        let mut candidates = list
            .faults
            .iter_mut()
            .filter(|f| f.provider == provider && f.runs(now));
        candidates.find_map(|f| {
            let kind = aimed(f.kind)?;
            f.strikes().then(|| Strike {
                kind,
                latency: f.latency,
                word: f.word.clone(),
            })
        })
    }

    fn lock(&self) -> MutexGuard<'_, List> {
        self.0.lock()
    }
}

fn read_kind(kind: &str, call: Option<String>) -> Result<Kind, Invalid> {
    let for_notifications = call.as_deref() == Some("notification");
    let fault = match (kind.parse::<CallFault>(), kind.parse::<NotificationFault>()) {
        (_, Ok(fault)) if for_notifications => return Ok(Kind::Notification(fault)),
        (Ok(_), _) if for_notifications => {
            return Err(Invalid::new(
                "kind",
                format!("{kind} is not for notifications"),
            ));
        }
        (Ok(fault), _) => fault,
        (Err(_), Ok(fault)) if call.is_none() => return Ok(Kind::Notification(fault)),
        (Err(_), Ok(_)) => {
            return Err(Invalid::new(
                "kind",
                format!("{kind} is for notifications only"),
            ));
        }
        (Err(_), Err(_)) => return Err(Invalid::new("kind", "is unknown")),
    };

    let call = call
        .map(|c| {
            c.parse::<CallKind>()
                .map_err(|_| Invalid::new("call", "is unknown"))
        })
        .transpose()?;

    if fault == CallFault::Refuse && call.is_some() {
        return Err(Invalid::new(
            "call",
            "refuse closes the listener of the whole provider",
        ));
    }

    if call.is_some_and(|call| !fault.strikes(call)) {
        return Err(Invalid::new("call", format!("{fault} is for other calls")));
    }
    Ok(Kind::Call(fault, call))
}

/// What is to be said, by the one kind that says anything.
fn read_word(
    says: bool,
    code: Option<String>,
    message: Option<String>,
) -> Result<Option<Arc<ScriptedRefusal>>, Invalid> {
    let Some(code) = code else {
        return match (says, message) {
            (true, _) => Err(Invalid::new("code", "is missing: what is to be said")),
            (false, Some(_)) => Err(Invalid::new("message", "comes with a code")),
            (false, None) => Ok(None),
        };
    };

    if !says {
        return Err(Invalid::new("code", "is for says only"));
    }
    let is_printed = code.bytes().all(|b| b.is_ascii_graphic() || b == b' ') && code.trim() == code;

    if !(1..=MAX_CODE).contains(&code.len()) || !is_printed {
        return Err(Invalid::new(
            "code",
            format!("is not 1 to {MAX_CODE} visible ASCII characters"),
        ));
    }

    let message = message.unwrap_or_default();
    if message.len() > MAX_MESSAGE || message.chars().any(char::is_control) {
        return Err(Invalid::new(
            "message",
            format!("is not text of at most {MAX_MESSAGE} bytes"),
        ));
    }

    Ok(Some(Arc::new(ScriptedRefusal { code, message })))
}

/// A probability from 0 to 1 with at most six decimals.
fn read_ppm(number: &Number) -> Result<u32, Invalid> {
    let wrong = || {
        Invalid::new(
            "probability",
            "is not a number from 0 to 1 with at most 6 decimals",
        )
    };
    let text = number.to_string();
    let (whole, part) = text.split_once('.').unwrap_or((&text, ""));
    if part.len() > 6 || !part.bytes().all(|b| b.is_ascii_digit()) {
        return Err(wrong());
    }
    let whole: u32 = whole.parse().map_err(|_| wrong())?;
    let part: u32 = format!("{part:0<6}").parse().map_err(|_| wrong())?;

    let ppm = whole
        .checked_mul(CERTAIN_PPM)
        .and_then(|w| w.checked_add(part))
        .ok_or_else(wrong)?;

    if ppm > CERTAIN_PPM {
        Err(wrong())
    } else {
        Ok(ppm)
    }
}

fn ppm_to_number(ppm: u32) -> Option<Number> {
    let text = format!("{}.{:06}", ppm / CERTAIN_PPM, ppm % CERTAIN_PPM);
    Number::from_f64(text.parse().ok()?)
}

fn read_latency(ms: u64) -> Result<Duration, Invalid> {
    if ms > MAX_LATENCY_MS {
        return Err(Invalid::new(
            "latency_ms",
            format!("is more than {MAX_LATENCY_MS}"),
        ));
    }
    Ok(Duration::from_millis(ms))
}

fn read_end(seconds: u32, now: DateTime<Utc>) -> Result<DateTime<Utc>, Invalid> {
    if !(1..=MAX_DURATION_S).contains(&seconds) {
        return Err(Invalid::new(
            "duration_s",
            format!("is not from 1 to {MAX_DURATION_S}"),
        ));
    }
    Ok(now + TimeDelta::seconds(i64::from(seconds)))
}

/// SplitMix64 at one point of its sequence: a draw depends on nothing but the seed and its number.
fn draw(seed: u64, number: u64) -> u64 {
    let mut z = seed.wrapping_add(number.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests;
