//! Every fault of a call, as the client's socket sees it, and whether anything was done.

use std::time::Duration;

use providers::sandbox::book::State;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::lab::{Lab, Seen, ask, ask_on};

async fn with(fault: Value) -> Lab {
    let lab = Lab::start().await;
    lab.fault(fault).await;
    lab
}

#[tokio::test]
async fn refuse_closes_the_listener_resets_what_stands_and_comes_back_on_the_same_port() {
    let lab = Lab::start().await;
    let mut kept = TcpStream::connect(lab.face).await.unwrap();
    assert_eq!(ask_on(&mut kept, "/create/A1", "").await.status(), 200);

    for _ in 0..3 {
        lab.fault(json!({"provider": "alipay", "kind": "refuse"}))
            .await;
        assert!(matches!(
            ask_on(&mut kept, "/query/A1", "").await,
            Seen::Reset
        ));
        assert!(matches!(ask(lab.face, "/create/A2").await, Seen::Refused));
        lab.heal().await;
        kept = TcpStream::connect(lab.face).await.unwrap();
        assert_eq!(ask_on(&mut kept, "/query/A1", "").await.text(), "payable");
    }

    assert_eq!(lab.state("A2"), None);
}

#[tokio::test]
async fn refuse_ends_by_itself_when_the_clock_says_so() {
    let lab = with(json!({"provider": "alipay", "kind": "refuse", "duration_s": 3600})).await;
    assert!(matches!(ask(lab.face, "/query/A1").await, Seen::Refused));
    lab.control("POST", "/clock", &json!({"advance_s": 3600}))
        .await;
    let back = async {
        while matches!(ask(lab.face, "/query/A1").await, Seen::Refused) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), back)
        .await
        .unwrap();
}

#[tokio::test]
async fn reset_is_seen_as_rst_and_nothing_is_done() {
    let lab = with(json!({"provider": "alipay", "kind": "reset"})).await;
    assert!(matches!(ask(lab.face, "/create/A1").await, Seen::Reset));
    assert_eq!(lab.state("A1"), None);
}

#[tokio::test]
async fn timeout_before_is_silence_and_nothing_is_done() {
    let lab = with(json!({"provider": "alipay", "kind": "timeout_before"})).await;
    assert!(matches!(ask(lab.face, "/create/A1").await, Seen::Silence));
    assert_eq!(lab.state("A1"), None);
}

#[tokio::test]
async fn timeout_after_is_silence_and_it_is_done() {
    let lab = with(json!({"provider": "alipay", "kind": "timeout_after"})).await;
    assert!(matches!(ask(lab.face, "/create/A1").await, Seen::Silence));
    assert_eq!(lab.state("A1"), Some(State::Payable));
}

#[tokio::test]
async fn a_silence_with_a_latency_ends_in_a_hangup() {
    let lab = with(json!({"provider": "alipay", "kind": "timeout_before", "latency_ms": 20})).await;
    assert!(matches!(ask(lab.face, "/create/A1").await, Seen::Hangup));
    assert_eq!(lab.state("A1"), None);
}

#[tokio::test]
async fn http_500_and_rate_limited_do_nothing() {
    let lab = with(json!({"provider": "alipay", "kind": "http_500"})).await;
    let broken = ask(lab.face, "/create/A1").await;
    assert_eq!((broken.status(), broken.signature()), (500, None));
    lab.heal().await;
    lab.fault(json!({"provider": "alipay", "kind": "rate_limited"}))
        .await;
    let limited = ask(lab.face, "/create/A1").await;
    assert_eq!((limited.status(), limited.signature()), (429, Some("good")));
    assert_eq!(lab.state("A1"), None);
}

#[tokio::test]
async fn says_does_nothing_and_says_what_it_was_told() {
    let lab =
        with(json!({"provider": "alipay", "kind": "says", "code": "40004 NO", "message": "why"}))
            .await;
    let said = ask(lab.face, "/create/A1").await;
    assert_eq!(
        (said.status(), said.signature(), said.text().as_str()),
        (400, Some("good"), "40004 NO: why")
    );
    assert_eq!(lab.state("A1"), None);
}

#[tokio::test]
async fn garbled_is_done_and_nobody_can_read_it() {
    let lab = with(json!({"provider": "alipay", "kind": "garbled"})).await;
    let garbled = ask(lab.face, "/create/A1").await;
    assert_eq!(garbled.status(), 200);
    assert!(std::str::from_utf8(garbled.body()).is_err());
    assert_eq!(lab.state("A1"), Some(State::Payable));
}

#[tokio::test]
async fn unsigned_and_bad_signature_are_done_and_prove_nothing() {
    let lab = with(json!({"provider": "alipay", "kind": "unsigned", "call": "create"})).await;
    lab.fault(json!({"provider": "alipay", "kind": "bad_signature", "call": "query"}))
        .await;
    let unsigned = ask(lab.face, "/create/A1").await;

    assert_eq!(
        (
            unsigned.status(),
            unsigned.signature(),
            unsigned.text().as_str()
        ),
        (200, None, "code:A1")
    );

    let bad = ask(lab.face, "/query/A1").await;
    assert_eq!(
        (bad.signature(), bad.text().as_str()),
        (Some("bad"), "payable")
    );
}

#[tokio::test]
async fn slow_is_done_at_once_and_answered_late() {
    let lab = with(json!({"provider": "alipay", "kind": "slow", "latency_ms": 120})).await;
    let slow = ask(lab.face, "/create/A1").await;
    assert_eq!((slow.status(), slow.signature()), (200, Some("good")));
    assert!(slow.arrivals()[0] >= Duration::from_millis(120), "{slow:?}");
    assert_eq!(lab.state("A1"), Some(State::Payable));
}

#[tokio::test]
async fn drip_comes_in_pieces_and_takes_its_time() {
    let lab = with(json!({"provider": "alipay", "kind": "drip", "latency_ms": 300})).await;
    let drip = ask(lab.face, "/create/A1234567890").await;
    assert_eq!(drip.text(), "code:A1234567890");
    let arrivals = drip.arrivals();
    assert!(arrivals.len() >= 4, "{arrivals:?}");
    assert!(
        arrivals[0] < Duration::from_millis(250),
        "the head does not wait for the body: {arrivals:?}"
    );
    assert!(
        *arrivals.last().unwrap() >= Duration::from_millis(300),
        "{arrivals:?}"
    );
    assert_eq!(lab.state("A1234567890"), Some(State::Payable));
}

#[tokio::test]
async fn an_answer_that_is_behind_knows_nothing_of_what_has_happened_since() {
    let lab = Lab::start().await;
    lab.create("A1", "").await;
    lab.control("POST", "/clock", &json!({"advance_s": 100}))
        .await;
    lab.pay("A1").await;
    lab.create("A2", "").await;
    lab.fault(json!({"provider": "alipay", "kind": "behind", "latency_ms": 60_000}))
        .await;
    let old = ask(lab.face, "/query/A1").await;

    assert_eq!(
        (old.signature(), old.text().as_str()),
        (Some("good"), "payable")
    );
    assert_eq!(
        ask(lab.face, "/query/A2").await.status(),
        400,
        "it is not there yet"
    );

    assert_eq!(lab.state("A1"), Some(State::Paid), "the truth is as it was");
    lab.control("POST", "/clock", &json!({"advance_s": 61}))
        .await;
    assert_eq!(ask(lab.face, "/query/A1").await.text(), "paid");

    assert_eq!(ask(lab.face, "/query/A2").await.text(), "payable");
}

#[tokio::test]
async fn what_is_said_to_be_closed_can_be_paid_and_other_amounts_are_only_said() {
    let lab = with(json!({"provider": "alipay", "kind": "says_closed"})).await;
    lab.create("A1", "").await;
    assert_eq!(ask(lab.face, "/query/A1").await.text(), "closed");

    lab.pay("A1").await;
    assert_eq!(
        ask(lab.face, "/query/A1").await.text(),
        "paid",
        "of money it does not lie"
    );

    lab.heal().await;
    lab.fault(json!({"provider": "alipay", "kind": "other_amount"}))
        .await;
    ask(lab.face, "/query/A1").await;

    assert_eq!(
        lab.sandbox
            .book()
            .lock()
            .by_order_no("A1")
            .unwrap()
            .captured_fen(),
        100
    );
}

#[tokio::test]
async fn what_is_said_to_be_closed_is_paid_before_that_is_heard() {
    let lab = with(json!({"provider": "alipay", "kind": "paid_meanwhile", "count": 1})).await;
    for number in ["A1", "A2"] {
        lab.create(number, "").await;
    }
    assert_eq!(ask(lab.face, "/query/A1").await.text(), "closed");
    assert_eq!(lab.state("A1"), Some(State::Paid));
    assert_eq!(lab.state("A2"), Some(State::Payable), "nobody asked");

    assert_eq!(ask(lab.face, "/query/A1").await.text(), "paid");
}

#[tokio::test]
async fn a_fault_for_one_call_leaves_the_others_alone() {
    let lab = with(json!({"provider": "alipay", "kind": "http_500", "call": "close"})).await;
    assert_eq!(ask(lab.face, "/create/A1").await.status(), 200);
    assert_eq!(ask(lab.face, "/close/A1").await.status(), 500);
    assert_eq!(lab.state("A1"), Some(State::Payable));
    lab.heal().await;
    assert_eq!(ask(lab.face, "/close/A1").await.text(), "closed");
}

#[tokio::test]
async fn a_request_goes_on_being_executed_when_its_client_hangs_up() {
    let lab = with(json!({"provider": "alipay", "kind": "slow", "latency_ms": 600000})).await;
    let mut stream = TcpStream::connect(lab.face).await.unwrap();
    assert!(matches!(
        ask_on(&mut stream, "/create/A1", "").await,
        Seen::Silence
    ));
    drop(stream);
    assert_eq!(lab.state("A1"), Some(State::Payable));
}

#[tokio::test]
async fn a_stopped_sandbox_answers_nobody() {
    let lab = Lab::start().await;
    let (face, control) = (lab.face, lab.sandbox.control());
    let mut idle = TcpStream::connect(face).await.unwrap();
    assert_eq!(ask_on(&mut idle, "/create/A1", "").await.status(), 200);
    lab.sandbox.stop().await;
    assert!(matches!(ask(face, "/query/A1").await, Seen::Refused));
    assert!(matches!(ask(control, "/").await, Seen::Refused));
    assert!(matches!(
        ask_on(&mut idle, "/query/A1", "").await,
        Seen::Hangup | Seen::Reset
    ));
}

#[tokio::test]
async fn an_address_that_is_taken_is_named() {
    let lab = Lab::start().await;
    let taken = lab.face;
    let error = providers::sandbox::Sandbox::with_faces(taken, Vec::new(), None, 0)
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with(&format!("cannot listen on {taken}: ")),
        "{error}"
    );
}
