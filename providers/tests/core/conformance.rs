//! The conformance suite, a line for each provider.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use parking_lot::Mutex;
use providers::conformance::{OtherSide, Subject, run_all};
use providers::layer::stack;
use providers::memory::Memory;
use providers::order::Flow;
use providers::provider::{Charging, Ending, Provider};
use providers::sandbox::book::MovementKind;
use providers::sandbox::keys::Keys;
use providers::sandbox::payer::{Holding, PayerBehaviour, Wish};
use providers::sandbox::{LOG, Options, Sandbox};
use providers::{PROTOCOLS, Protocol, alipay, unionpay, wechatpay};

#[tokio::test]
async fn alipay_conforms() {
    conforms_in_every_flow(&alipay::PROTOCOL).await;
}

#[tokio::test]
async fn wechatpay_conforms() {
    conforms_in_every_flow(&wechatpay::PROTOCOL).await;
}

#[tokio::test]
async fn unionpay_conforms() {
    conforms(&at_the_sandbox(&unionpay::PROTOCOL).await).await;
}

/// By the shared key instead of certificates.
#[tokio::test]
async fn unionpay_conforms_with_a_shared_key() {
    let settings = serde_json::json!({"sign_method": "11"});
    conforms(&at_the_sandbox_with(&unionpay::PROTOCOL, &settings).await).await;
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

#[test]
fn no_provider_of_the_list_is_left_out() {
    let names: Vec<&str> = PROTOCOLS.iter().map(|p| p.name.as_str()).collect();
    assert_eq!(
        names,
        ["alipay", "wechatpay", "unionpay"],
        "a provider that is new here needs its line above"
    );
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

/// Each flow at a sandbox of its own.
async fn conforms_in_every_flow(protocol: &Protocol) {
    for served in protocol.capabilities.flows {
        let mut subject = at_the_sandbox(protocol).await;
        subject.flow = served.flow;
        conforms(&subject).await;
    }
}

async fn at_the_sandbox(protocol: &Protocol) -> Subject {
    at_the_sandbox_with(protocol, &serde_json::json!({})).await
}

/// With these members beside the sandbox's own.
async fn at_the_sandbox_with(protocol: &Protocol, more: &serde_json::Value) -> Subject {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let keys = Keys::generate().unwrap();
    let options = Options {
        control: any,
        faces: vec![(protocol.name, any)],
        keys,
        book: None,
        log: LOG,
    };

    let sandbox = Sandbox::start(options).await.unwrap();
    let mut settings = sandbox.credentials()[protocol.name.as_str()].clone();
    settings["base_url"] = format!("http://{}", sandbox.face(protocol.name).unwrap()).into();
    settings
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    let provider = (protocol.open)(settings, &providers::http::Way::Open).unwrap();

    let other_side = AtTheSandbox {
        sandbox,
        charge: protocol.capabilities.charge,
        codes: AtomicU64::new(0),
    };

    subject(provider, Arc::new(other_side))
}

struct AtTheSandbox {
    sandbox: Sandbox,
    charge: Option<Charging>,
    codes: AtomicU64,
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
}

fn in_memory(ending: Ending) -> Subject {
    memory_subject(ending).0
}

fn memory_subject(ending: Ending) -> (Subject, Arc<Memory>) {
    let memory = Arc::new(Memory::new(Memory::NAME, ending));
    let start = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
    let other_side = BesideMemory {
        memory: Arc::clone(&memory),
        now: Mutex::new(start),
        codes: AtomicU64::new(0),
    };
    let mut subject = subject(memory.clone(), Arc::new(other_side));
    if ending == Ending::Reverse {
        subject.flow = Flow::Barcode;
    }
    (subject, memory)
}

struct BesideMemory {
    memory: Arc<Memory>,
    now: Mutex<DateTime<Utc>>,
    codes: AtomicU64,
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
