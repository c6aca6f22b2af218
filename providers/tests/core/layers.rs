//! The layers, around a provider in memory that answers, or does not, as a test wants.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use metrics_exporter_prometheus::PrometheusBuilder;
use providers::layer::stack;
use providers::memory::{Memory, Scripted};
use providers::money::Money;
use providers::order::{Call, Flow, Order, OrderRef, RefundOrder};
use providers::outcome::{
    CloseOutcome, CreateOutcome, Failure, FailureKind, QueryOutcome, RefundOutcome,
    RefundQueryOutcome,
};
use providers::provider::{Ending, Provider};

const NO: &str = "IL00000001";

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap()
}

fn call(timeout_ms: u64) -> Call {
    Call {
        now: now(),
        timeout: Duration::from_millis(timeout_ms),
    }
}

fn order() -> Order {
    Order {
        order_no: NO.to_owned(),
        payment_id: "pay_1".to_owned(),
        flow: Flow::Qr,
        amount: Money::fen(100).unwrap(),
        description: "tea".to_owned(),
        txn_time: now(),
        expires_at: now() + TimeDelta::minutes(15),
        notify_url: "https://shop.example.com/n".to_owned(),
        client_ip: None,
        auth_code: None,
        store: None,
    }
}

fn reference() -> OrderRef {
    OrderRef {
        order_no: NO.to_owned(),
        txn_time: now(),
        expires_at: now(),
    }
}

fn refund() -> RefundOrder {
    RefundOrder {
        order: reference(),
        transaction_id: None,
        refund_no: "R1".to_owned(),
        txn_time: DateTime::UNIX_EPOCH,
        renumbered: false,
        amount: Money::fen(30).unwrap(),
        total: Money::fen(100).unwrap(),
        reason: None,
        notify_url: "https://shop.example.com/n".to_owned(),
    }
}

fn layered() -> (Arc<Memory>, Arc<dyn Provider>) {
    let memory = Arc::new(Memory::new(Memory::NAME, Ending::Close));
    let provider: Arc<dyn Provider> = memory.clone();
    (memory, stack(provider, "test"))
}

fn failed(kind: FailureKind) -> Failure {
    Failure::new(kind, "test", "scripted")
}

fn answers<T>(answer: T) -> Scripted<T> {
    Scripted {
        done: false,
        answer: Some(answer),
    }
}

fn hangs<T>() -> Scripted<T> {
    Scripted {
        done: false,
        answer: None,
    }
}

#[tokio::test]
async fn an_adapter_that_hangs_ends_as_unknown_a_little_after_its_time() {
    let (memory, provider) = layered();
    memory.script_create(hangs());
    memory.script_query(hangs());
    memory.script_close(hangs());
    memory.script_close(hangs());
    memory.script_refund(hangs());
    memory.script_query_refund(hangs());
    let began = Instant::now();
    let timed_out =
        |failure: &Failure| failure.kind == FailureKind::Timeout && failure.code == "timeout";
    let call = call(50);
    let (order, reference, refund) = (order(), reference(), refund());

    let (created, queried, closed, reversed, refunded, refund_queried) = tokio::join!(
        provider.create(&order, &call),
        provider.query(&reference, &call),
        provider.close(&reference, &call),
        provider.reverse(&reference, &call),
        provider.refund(&refund, &call),
        provider.query_refund(&refund, &call),
    );

    assert!(matches!(created.outcome, CreateOutcome::Unknown(f) if timed_out(&f)));
    assert!(matches!(queried.outcome, QueryOutcome::Unknown(f) if timed_out(&f)));
    assert!(matches!(closed.outcome, CloseOutcome::Unknown(f) if timed_out(&f)));
    assert!(matches!(reversed.outcome, CloseOutcome::Unknown(f) if timed_out(&f)));
    assert!(matches!(refunded.outcome, RefundOutcome::Unknown(f) if timed_out(&f)));
    assert!(matches!(refund_queried.outcome, RefundQueryOutcome::Unknown(f) if timed_out(&f)));
    assert!(began.elapsed() >= Duration::from_millis(50));

    assert!(began.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn a_failed_question_is_asked_once_more_and_never_a_third_time() {
    let (memory, provider) = layered();
    memory.script_query(answers(QueryOutcome::Unknown(failed(FailureKind::Network))));
    assert_eq!(
        provider.query(&reference(), &call(5_000)).await.outcome,
        QueryOutcome::NotFound
    );

    for _ in 0..2 {
        memory.script_query_refund(answers(RefundQueryOutcome::Unknown(failed(
            FailureKind::ServerError,
        ))));
    }

    let unknown = provider.query_refund(&refund(), &call(5_000)).await.outcome;
    assert_eq!(
        unknown,
        RefundQueryOutcome::Unknown(failed(FailureKind::ServerError))
    );

    let calls: Vec<&str> = memory.calls().into_iter().map(|(call, _)| call).collect();
    assert_eq!(calls, ["query", "query", "query_refund", "query_refund"]);
}

#[tokio::test]
async fn a_question_is_not_repeated_when_it_cannot_help_or_there_is_no_time() {
    let (memory, provider) = layered();
    for kind in [
        FailureKind::RateLimited,
        FailureKind::Account,
        FailureKind::Request,
        FailureKind::Declined,
    ] {
        memory.script_query(answers(QueryOutcome::Unknown(failed(kind))));
        assert_eq!(
            provider.query(&reference(), &call(5_000)).await.outcome,
            QueryOutcome::Unknown(failed(kind))
        );
    }

    memory.script_query(answers(QueryOutcome::Unknown(failed(FailureKind::Network))));
    let hurried = provider.query(&reference(), &call(100)).await.outcome;
    assert_eq!(hurried, QueryOutcome::Unknown(failed(FailureKind::Network)));
    assert_eq!(memory.calls().len(), 5);
}

#[tokio::test]
async fn what_can_move_or_end_something_is_sent_exactly_once() {
    let (memory, provider) = layered();
    memory.script_create(answers(CreateOutcome::Unknown(failed(
        FailureKind::Network,
    ))));
    memory.script_close(answers(CloseOutcome::Unknown(failed(FailureKind::Network))));
    memory.script_close(answers(CloseOutcome::Unknown(failed(FailureKind::Network))));
    memory.script_refund(answers(RefundOutcome::Unknown(failed(
        FailureKind::Network,
    ))));
    assert!(matches!(
        provider.create(&order(), &call(5_000)).await.outcome,
        CreateOutcome::Unknown(_)
    ));

    assert!(matches!(
        provider.close(&reference(), &call(5_000)).await.outcome,
        CloseOutcome::Unknown(_)
    ));
    assert!(matches!(
        provider.reverse(&reference(), &call(5_000)).await.outcome,
        CloseOutcome::Unknown(_)
    ));

    assert!(matches!(
        provider.refund(&refund(), &call(5_000)).await.outcome,
        RefundOutcome::Unknown(_)
    ));

    let calls: Vec<&str> = memory.calls().into_iter().map(|(call, _)| call).collect();
    assert_eq!(calls, ["create", "close", "reverse", "refund"]);
}

#[tokio::test]
async fn calls_are_counted_by_outcome_and_measured() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let _here = metrics::set_default_local_recorder(&recorder);
    let (memory, provider) = layered();
    provider.create(&order(), &call(5_000)).await;
    memory.script_query(answers(QueryOutcome::Unknown(failed(FailureKind::Network))));
    provider.query(&reference(), &call(5_000)).await;
    provider.close(&reference(), &call(5_000)).await;
    provider.refund(&refund(), &call(5_000)).await;
    let text = handle.render();

    for (call, flow, outcome, failure) in [
        ("create", "qr", "accepted", "none"),
        ("query", "none", "payable", "none"),
        ("close", "none", "closed", "none"),
        ("refund", "none", "terminal_no", "request"),
    ] {
        let labels =
            format!("call=\"{call}\",flow=\"{flow}\",outcome=\"{outcome}\",failure=\"{failure}\"");
        let line = format!(
            "interlock_provider_calls_total{{mode=\"test\",provider=\"memory\",{labels}}} 1\n"
        );
        assert!(text.contains(&line), "{line} in\n{text}");
        let line = format!(
            "interlock_provider_call_seconds_count{{mode=\"test\",provider=\"memory\",call=\"{call}\"}} \
            1\n"
        );
        assert!(text.contains(&line), "{line} in\n{text}");
    }
}

#[tokio::test]
async fn a_genuine_notification_of_the_memory_provider_is_read_through_all_layers() {
    let (memory, provider) = layered();
    provider.create(&order(), &call(5_000)).await;
    assert!(memory.paid_notification(NO).is_none());
    memory.pay(NO, now()).unwrap();
    let mut raw = memory.paid_notification(NO).unwrap();
    let read = provider.notification(&raw, now()).unwrap().into_inner();
    let queried = provider.query(&reference(), &call(5_000)).await.outcome;
    let providers::notification::Notice::Paid { order_no, capture } = read.notice else {
        panic!()
    };
    assert_eq!(
        (order_no.as_str(), QueryOutcome::Paid(capture)),
        (NO, queried)
    );
    raw.body = bytes::Bytes::from(String::from_utf8_lossy(&raw.body).replace("100", "101"));
    let forged = provider.notification(&raw, now()).unwrap_err();
    assert_eq!(forged, providers::notification::Rejection::BadSignature);
}
