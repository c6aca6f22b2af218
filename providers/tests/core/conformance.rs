//! The conformance suite, a line for each provider.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use providers::conformance::{OtherSide, Subject, run_all};
use providers::layer::stack;
use providers::memory::Memory;
use providers::order::Flow;
use providers::provider::{Ending, Provider};
use providers::sandbox::keys::Keys;
use providers::sandbox::payer::{Holding, Wish};
use providers::sandbox::{Options, Sandbox};
use providers::{PROTOCOLS, Protocol, alipay, wechatpay};

#[tokio::test]
async fn alipay_conforms() {
    conforms(&at_the_sandbox(&alipay::PROTOCOL).await).await;
}

#[tokio::test]
async fn wechatpay_conforms() {
    conforms(&at_the_sandbox(&wechatpay::PROTOCOL).await).await;
}

#[tokio::test]
async fn memory_conforms_however_its_offers_end() {
    for ending in [Ending::Close, Ending::CloseOnceTradeExists, Ending::Expire] {
        conforms(&in_memory(ending)).await;
    }
}

/// The same again behind all layers: they change nothing about what a provider means.
#[tokio::test]
async fn layers_conform() {
    let mut subject = in_memory(Ending::Close);
    subject.provider = stack(subject.provider);
    conforms(&subject).await;
}

#[test]
fn no_provider_of_the_list_is_left_out() {
    let names: Vec<&str> = PROTOCOLS.iter().map(|p| p.name.as_str()).collect();
    assert_eq!(names, ["alipay", "wechatpay"], "a provider that is new here needs its line above");
}

/// A suite that never fails proves nothing: this provider invents an order, and claims a close that it did not do.
#[tokio::test]
async fn a_provider_that_breaks_a_promise_does_not_conform() {
    use providers::memory::Scripted;
    use providers::outcome::{Ended, Queried};

    let (subject, memory) = memory_subject(Ending::Close);
    memory.script_query(Scripted { done: true, answer: Some(Queried::Payable) });
    memory.script_close(Scripted { done: false, answer: Some(Ended::Closed) });
    let broken: Vec<&str> = run_all(&subject).await.into_iter().map(|(check, _)| check).collect();
    assert_eq!(broken, ["a_number_never_made_is_not_found", "an_unpaid_offer_ends_as_declared"]);
}

async fn conforms(subject: &Subject) {
    let broken = run_all(subject).await;
    assert!(broken.is_empty(), "{} does not conform: {broken:#?}", subject.provider.name());
}

async fn at_the_sandbox(protocol: &Protocol) -> Subject {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let keys = Keys::generate().unwrap();
    let options = Options { control: any, faces: vec![(protocol.name, any)], keys, book: None };
    let sandbox = Sandbox::start(options).await.unwrap();
    let mut settings = sandbox.credentials()[protocol.name.as_str()].clone();
    settings["base_url"] = format!("http://{}", sandbox.face(protocol.name).unwrap()).into();
    let provider = (protocol.open)(settings).unwrap();
    subject(provider, Arc::new(AtTheSandbox(sandbox)))
}

struct AtTheSandbox(Sandbox);

#[async_trait]
impl OtherSide for AtTheSandbox {
    fn now(&self) -> DateTime<Utc> {
        self.0.clock().now()
    }

    async fn pay(&self, order_no: &str) -> bool {
        self.0.pay(&Holding::OrderNo(order_no.to_owned()), Wish::Paid).is_ok()
    }

    async fn open(&self, order_no: &str) {
        self.0.pay(&Holding::OrderNo(order_no.to_owned()), Wish::Declined).unwrap();
    }

    async fn let_pass(&self, time: Duration) {
        self.0.clock().advance(TimeDelta::from_std(time).unwrap()).unwrap();
        // The sandbox's timers run in tasks of their own.
        while self.0.book().lock().has_due_refunds(self.now()) {
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
    let other_side = BesideMemory { memory: Arc::clone(&memory), now: Mutex::new(start) };
    (subject(memory.clone(), Arc::new(other_side)), memory)
}

struct BesideMemory {
    memory: Arc<Memory>,
    now: Mutex<DateTime<Utc>>,
}

#[async_trait]
impl OtherSide for BesideMemory {
    fn now(&self) -> DateTime<Utc> {
        *self.now.lock().unwrap()
    }

    async fn pay(&self, order_no: &str) -> bool {
        self.memory.pay(order_no, self.now()).is_ok()
    }

    async fn open(&self, order_no: &str) {
        self.memory.open(order_no, self.now()).unwrap();
    }

    async fn let_pass(&self, time: Duration) {
        *self.now.lock().unwrap() += TimeDelta::from_std(time).unwrap();
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
