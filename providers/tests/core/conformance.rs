//! The conformance suite over every provider of the list, and over what it must find out.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, NaiveTime, TimeDelta, Utc};
use parking_lot::Mutex;
use providers::conformance::{OtherSide, Subject, run_all};
use providers::layer::stack;
use providers::memory::Memory;
use providers::notification::{Acknowledgement, AcknowledgementBody, RawNotification};
use providers::order::Flow;
use providers::provider::{Charging, Ending, Provider, ProviderName};
use providers::sandbox::book::MovementKind;
use providers::sandbox::fault::CallFault;
use providers::sandbox::keys::Keys;
use providers::sandbox::payer::{Holding, PayerBehaviour, Wish};
use providers::sandbox::simulator::CallKind;
use providers::sandbox::{LOG, Options, Sandbox};
use providers::{PROTOCOLS, Protocol, unionpay};
use serde_json::{Value, json};
use wiremock::matchers::method;
use wiremock::{Mock, MockServer, ResponseTemplate};

/// Each flow of each provider of the list at a sandbox of its own, and each in a thread of its own:
/// what one computes keeps no other's answers waiting.
#[test]
fn every_provider_conforms_in_every_flow() {
    let keys = Keys::generate().unwrap();
    let served = PROTOCOLS.iter().flat_map(|protocol| {
        let flows = protocol.capabilities.flows.iter();
        flows.map(move |served| (protocol, served.flow))
    });
    let served: Vec<_> = served.collect();
    assert!(served.len() >= PROTOCOLS.len());

    std::thread::scope(|scope| {
        for (protocol, flow) in served {
            let keys = keys.clone();
            scope.spawn(move || {
                let tried = async {
                    let mut subject = at_the_sandbox(protocol, keys, &json!({})).await;
                    subject.flow = flow;
                    conforms(&subject).await;
                };
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build();
                runtime.unwrap().block_on(tried);
                println!("{} {flow}", protocol.name);
            });
        }
    });
}

/// By the shared key instead of certificates.
#[tokio::test]
async fn unionpay_conforms_with_a_shared_key() {
    let (keys, settings) = (Keys::generate().unwrap(), json!({"sign_method": "11"}));
    conforms(&at_the_sandbox(&unionpay::PROTOCOL, keys, &settings).await).await;
}

#[tokio::test]
async fn memory_conforms_however_its_offers_end() {
    for ending in [
        Ending::Close,
        Ending::CloseOnceTradeExists,
        Ending::Expire,
        Ending::Reverse,
    ] {
        conforms(&in_memory(ending)).await;
    }
}

/// The same again behind all layers: they change nothing about what a provider means.
#[tokio::test]
async fn layers_conform() {
    let mut subject = in_memory(Ending::Close);
    subject.provider = stack(subject.provider, "test");
    conforms(&subject).await;
}

/// A suite that never fails proves nothing: this provider invents an order, and claims a close that
/// it did not do.
#[tokio::test]
async fn a_provider_that_breaks_a_promise_does_not_conform() {
    use providers::memory::Scripted;
    use providers::outcome::{CloseOutcome, QueryOutcome};

    let (subject, memory) = memory_subject(Ending::Close);
    memory.script_query(Scripted {
        done: true,
        answer: Some(QueryOutcome::Payable),
    });
    memory.script_close(Scripted {
        done: false,
        answer: Some(CloseOutcome::Closed),
    });
    let broken: Vec<&str> = run_all(&subject)
        .await
        .into_iter()
        .map(|(check, _)| check)
        .collect();
    assert_eq!(
        broken,
        [
            "a_number_never_made_is_not_found",
            "an_unpaid_offer_ends_as_declared"
        ]
    );
}

/// This one takes money and says that the payer had none, and claims a reversal that it did not do.
#[tokio::test]
async fn a_provider_that_takes_money_in_silence_does_not_conform() {
    use providers::memory::Scripted;
    use providers::outcome::{CloseOutcome, CreateOutcome, Failure, FailureKind};

    let (subject, memory) = memory_subject(Ending::Reverse);
    let no = Failure::new(FailureKind::Declined, "memory", "no money");
    memory.script_create(Scripted {
        done: true,
        answer: Some(CreateOutcome::Declined(no)),
    });
    let broken: Vec<&str> = run_all(&subject)
        .await
        .into_iter()
        .map(|(check, _)| check)
        .collect();
    assert_eq!(broken, ["a_charge_is_told_completely"]);

    let (subject, memory) = memory_subject(Ending::Reverse);
    memory.script_close(Scripted {
        done: false,
        answer: Some(CloseOutcome::Closed),
    });
    let broken: Vec<&str> = run_all(&subject)
        .await
        .into_iter()
        .map(|(check, _)| check)
        .collect();
    assert_eq!(broken, ["a_payer_who_says_no_is_not_charged"]);
}

/// Each of these believes what nobody has signed, or does not believe what the provider has.
#[tokio::test]
async fn a_provider_that_does_not_look_at_signatures_does_not_conform() {
    let closing = || Memory::new(Memory::NAME, Ending::Close);
    let tried = [
        (
            closing().gullible(),
            Wire::None,
            ["a_changed_notification_says_nothing_else"],
        ),
        (
            closing().careless(),
            Wire::None,
            ["a_changed_notification_says_nothing_else"],
        ),
        (
            closing(),
            Wire::LosesSignatures,
            ["a_genuine_notification_is_believed"],
        ),
        (
            closing(),
            Wire::IsSaidToBeSpoiled,
            ["what_is_not_the_providers_word_proves_nothing"],
        ),
    ];

    for (memory, wire, found) in tried {
        let broken = run_all(&beside(memory, wire).0).await;
        let broken: Vec<&str> = broken.into_iter().map(|(check, _)| check).collect();
        assert_eq!(broken, found);
    }
}

/// As at providers that take a charge up first and take the money after it.
#[tokio::test]
async fn a_charge_that_is_only_taken_up_conforms() {
    use providers::memory::Scripted;
    use providers::outcome::CreateOutcome;

    let (subject, memory) = memory_subject(Ending::Reverse);
    memory.script_create(Scripted {
        done: true,
        answer: Some(CreateOutcome::Waiting),
    });
    conforms(&subject).await;
}

async fn conforms(subject: &Subject) {
    let broken = run_all(subject).await;
    assert!(
        broken.is_empty(),
        "{} does not conform in {}: {broken:#?}",
        subject.provider.name(),
        subject.flow
    );
}

/// With these members beside the sandbox's own.
async fn at_the_sandbox(protocol: &Protocol, keys: Keys, more: &Value) -> Subject {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let options = Options {
        control: any,
        faces: vec![(protocol.name, any)],
        keys,
        book: None,
        log: LOG,
    };

    let sandbox = Sandbox::start(options).await.unwrap();
    let clock = sandbox.clock();
    clock.advance(until_the_day_begins(clock.now())).unwrap();
    let mut settings = sandbox.credentials()[protocol.name.as_str()].clone();
    settings["base_url"] = format!("http://{}", sandbox.face(protocol.name).unwrap()).into();
    settings
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    let provider = (protocol.open)(settings, &providers::http::Way::Open).unwrap();

    let merchant = merchant(provider.acknowledge(Acknowledgement::Stop)).await;
    let notify_url = format!("{}/notifications/acct", merchant.uri());
    let other_side = AtTheSandbox {
        sandbox,
        merchant,
        heard: AtomicUsize::new(0),
        provider: protocol.name,
        charge: protocol.capabilities.charge,
        codes: AtomicU64::new(0),
    };

    Subject {
        notify_url,
        ..subject(provider, Arc::new(other_side))
    }
}

/// How long it is to half past eleven at night in Beijing: no provider's day ends within the hours
/// that the suite takes from there.
fn until_the_day_begins(now: DateTime<Utc>) -> TimeDelta {
    let begins = NaiveTime::from_hms_opt(15, 30, 0).unwrap();
    let today = now.date_naive().and_time(begins).and_utc();
    if today > now {
        today - now
    } else {
        today + TimeDelta::days(1) - now
    }
}

/// Where notifications come in, and are acknowledged like that.
async fn merchant(says: AcknowledgementBody) -> MockServer {
    let server = MockServer::start().await;
    let answer =
        ResponseTemplate::new(says.status.as_u16()).set_body_raw(says.body, says.content_type);
    Mock::given(method("POST"))
        .respond_with(answer)
        .mount(&server)
        .await;
    server
}

struct AtTheSandbox {
    sandbox: Sandbox,
    merchant: MockServer,
    /// How many of the merchant's notifications were given out.
    heard: AtomicUsize,
    provider: ProviderName,
    charge: Option<Charging>,
    codes: AtomicU64,
}

impl AtTheSandbox {
    /// Asks for a fault instead of those before, and says whether the provider has it.
    async fn fault(&self, fault: &Value) -> bool {
        let faults = format!("http://{}/faults", self.sandbox.control());
        let http = reqwest::Client::new();
        http.delete(&faults).send().await.unwrap();
        let asked = http.put(&faults).body(fault.to_string());
        asked.send().await.unwrap().status().is_success()
    }
}

/// 18 or 19 digits, as the wallets show them, of the first prefix that the provider knows; the mood
/// comes last.
fn auth_code(charge: Option<&Charging>, number: u64, mood: PayerBehaviour) -> String {
    let last = match mood {
        PayerBehaviour::Pays => number % 7,
        PayerBehaviour::MustConfirm => 7,
        PayerBehaviour::HasNoMoney => 8,
        PayerBehaviour::CodeExpired => 9,
    };
    let is_code = charge.unwrap().is_code;
    let candidates = ["28", "13", "62", "99"]
        .map(|prefix| [15, 16].map(|n| format!("{prefix}{number:0n$}{last}")));
    candidates
        .into_iter()
        .flatten()
        .find(|code| is_code(code))
        .unwrap()
}

#[async_trait]
impl OtherSide for AtTheSandbox {
    fn now(&self) -> DateTime<Utc> {
        self.sandbox.clock().now()
    }

    fn auth_code(&self, mood: PayerBehaviour) -> String {
        auth_code(
            self.charge.as_ref(),
            self.codes.fetch_add(1, Ordering::Relaxed),
            mood,
        )
    }

    fn kept_fen(&self, order_no: &str) -> i64 {
        let book = self.sandbox.book().lock();
        let moved = book
            .movements()
            .iter()
            .filter(|m| m.order.order_no == order_no);
        moved
            .map(|m| match m.kind {
                MovementKind::Captured => m.amount.minor(),
                MovementKind::Refunded => -m.amount.minor(),
            })
            .sum()
    }

    async fn pay(&self, order_no: &str) -> bool {
        self.sandbox
            .pay(&Holding::OrderNo(order_no.to_owned()), Wish::Paid)
            .is_ok()
    }

    async fn open(&self, order_no: &str) {
        self.sandbox
            .pay(&Holding::OrderNo(order_no.to_owned()), Wish::Declined)
            .unwrap();
    }

    async fn let_pass(&self, time: Duration) {
        self.sandbox
            .clock()
            .advance(TimeDelta::from_std(time).unwrap())
            .unwrap();
        // The sandbox's timers run in tasks of their own.
        while self.sandbox.book().lock().has_due_refunds(self.now()) {
            tokio::task::yield_now().await;
        }
    }

    async fn next_told(&self) -> Option<RawNotification> {
        for _ in 0..200 {
            let at = self.heard.load(Ordering::Relaxed);
            if let Some(told) = self.merchant.received_requests().await.unwrap().get(at) {
                self.heard.store(at + 1, Ordering::Relaxed);
                return Some(RawNotification {
                    headers: told.headers.clone(),
                    body: told.body.clone().into(),
                });
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        None
    }

    async fn spoil(&self, call: CallKind, fault: CallFault) -> bool {
        let asked = json!({
            "provider": self.provider.as_str(),
            "call": call,
            "kind": fault.to_string(),
            "count": 1,
        });
        let is_had = self.fault(&asked).await;
        // Not everybody names keys.
        assert!(is_had || fault == CallFault::UnknownKey, "{asked}");
        is_had
    }
}

fn in_memory(ending: Ending) -> Subject {
    memory_subject(ending).0
}

fn memory_subject(ending: Ending) -> (Subject, Arc<Memory>) {
    beside(Memory::new(Memory::NAME, ending), Wire::None)
}

fn beside(memory: Memory, wire: Wire) -> (Subject, Arc<Memory>) {
    let is_charging = memory.capabilities().charge.is_some();
    let memory = Arc::new(memory);
    let start = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
    let other_side = BesideMemory {
        memory: Arc::clone(&memory),
        now: Mutex::new(start),
        codes: AtomicU64::new(0),
        heard: AtomicUsize::new(0),
        wire,
    };
    let mut subject = subject(memory.clone(), Arc::new(other_side));
    if is_charging {
        subject.flow = Flow::Barcode;
    }
    (subject, memory)
}

/// What lies between us and a provider that has no network.
#[derive(PartialEq, Eq)]
enum Wire {
    /// Nothing.
    None,
    /// What is told comes in as somebody else would tell it.
    LosesSignatures,
    /// Answers are said to be spoiled, and are believed all the same.
    IsSaidToBeSpoiled,
}

struct BesideMemory {
    memory: Arc<Memory>,
    now: Mutex<DateTime<Utc>>,
    codes: AtomicU64,
    /// How many of the orders were told of.
    heard: AtomicUsize,
    wire: Wire,
}

#[async_trait]
impl OtherSide for BesideMemory {
    fn now(&self) -> DateTime<Utc> {
        *self.now.lock()
    }

    fn auth_code(&self, mood: PayerBehaviour) -> String {
        let charge = self.memory.capabilities().charge.as_ref();
        auth_code(charge, self.codes.fetch_add(1, Ordering::Relaxed), mood)
    }

    fn kept_fen(&self, order_no: &str) -> i64 {
        self.memory.kept_fen(order_no)
    }

    async fn pay(&self, order_no: &str) -> bool {
        self.memory.pay(order_no, self.now()).is_ok()
    }

    async fn open(&self, order_no: &str) {
        self.memory.open(order_no, self.now()).unwrap();
    }

    async fn let_pass(&self, time: Duration) {
        *self.now.lock() += TimeDelta::from_std(time).unwrap();
    }

    async fn next_told(&self) -> Option<RawNotification> {
        let calls = self.memory.calls();
        let created = calls.iter().filter(|(call, _)| *call == "create");
        let untold = created.skip(self.heard.load(Ordering::Relaxed));
        for (_, order_no) in untold {
            self.heard.fetch_add(1, Ordering::Relaxed);
            if let Some(mut told) = self.memory.paid_notification(order_no) {
                if self.wire == Wire::LosesSignatures {
                    told.headers.clear();
                }
                return Some(told);
            }
        }
        None
    }

    async fn spoil(&self, _: CallKind, _: CallFault) -> bool {
        self.wire == Wire::IsSaidToBeSpoiled
    }
}

fn subject(provider: Arc<dyn Provider>, other_side: Arc<dyn OtherSide>) -> Subject {
    Subject {
        provider,
        other_side,
        flow: Flow::Qr,
        // Nobody listens there; what providers tell is tested elsewhere.
        notify_url: "http://127.0.0.1:1/notifications/acct".to_owned(),
        prefix: "C0nf0rmance".to_owned(),
    }
}
