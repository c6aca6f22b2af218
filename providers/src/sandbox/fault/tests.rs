//! Which faults are taken, how often each strikes, and when it ends.

use strum::IntoEnumIterator as _;

use super::*;

const ALIPAY: ProviderName = ProviderName::new("alipay");
const WECHATPAY: ProviderName = ProviderName::new("wechatpay");

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
}

fn read(body: &Value) -> Result<Fault, Invalid> {
    Fault::read(body.to_string().as_bytes(), &[ALIPAY, WECHATPAY], at(0))
}

fn faults(bodies: &[Value]) -> Faults {
    let faults = Faults::default();
    for body in bodies {
        faults.add(read(body).unwrap(), at(0)).unwrap();
    }
    faults
}

#[test]
fn every_kind_can_be_asked_for_and_is_shown_as_it_was_asked() {
    for kind in CallFault::iter()
        .map(|k| k.to_string())
        .chain(NotificationFault::iter().map(|k| k.to_string()))
    {
        let code = (kind == "says").then_some("40004 ACQ.TOTAL_FEE_EXCEED");
        let fault =
            read(&json!({"provider": "alipay", "kind": kind, "probability": 1, "code": code}))
                .unwrap();
        assert_eq!(
            (&fault.to_json()["kind"], fault.to_json()["code"].as_str()),
            (&json!(kind), code)
        );
    }

    let shown = read(
        &json!({"provider": "alipay", "kind": "slow", "call": "query_refund", "probability": 0.25,
        "latency_ms": 20, "seed": 7, "duration_s": 60}),
    );
    insta::assert_json_snapshot!(shown.unwrap().to_json(), @r#"
    {
      "call": "query_refund",
      "code": null,
      "count": null,
      "ends_at": "2027-01-15T08:01:00Z",
      "id": 0,
      "kind": "slow",
      "latency_ms": 20,
      "message": null,
      "probability": 0.25,
      "provider": "alipay",
      "seed": 7
    }
    "#);
}

#[test]
fn what_makes_no_sense_is_refused_with_the_member_named() {
    for (body, param) in [
        (json!({"provider": "paypal", "kind": "slow"}), "provider"),
        (json!({"kind": "slow"}), "provider"),
        (json!({"provider": "alipay"}), "kind"),
        (json!({"provider": "alipay", "kind": "explode"}), "kind"),
        (
            json!({"provider": "alipay", "kind": "slow", "call": "dance"}),
            "call",
        ),
        (
            json!({"provider": "alipay", "kind": "slow", "call": "notification"}),
            "kind",
        ),
        (
            json!({"provider": "alipay", "kind": "forge", "call": "create"}),
            "kind",
        ),
        (
            json!({"provider": "alipay", "kind": "refuse", "call": "create"}),
            "call",
        ),
        (
            json!({"provider": "alipay", "kind": "behind", "call": "create"}),
            "call",
        ),
        (
            json!({"provider": "alipay", "kind": "other_amount", "call": "query_refund"}),
            "call",
        ),
        (
            json!({"provider": "alipay", "kind": "refuse", "probability": 0.5}),
            "probability",
        ),
        (
            json!({"provider": "alipay", "kind": "refuse", "latency_ms": 5}),
            "latency_ms",
        ),
        (
            json!({"provider": "alipay", "kind": "slow", "probability": 1.1}),
            "probability",
        ),
        (
            json!({"provider": "alipay", "kind": "slow", "probability": -0.5}),
            "probability",
        ),
        (
            json!({"provider": "alipay", "kind": "slow", "probability": "1"}),
            "probability",
        ),
        (
            json!({"provider": "alipay", "kind": "slow", "probability": 0.000_000_1}),
            "probability",
        ),
        (
            json!({"provider": "alipay", "kind": "slow", "latency_ms": 600_001}),
            "latency_ms",
        ),
        (
            json!({"provider": "alipay", "kind": "slow", "latency_ms": -1}),
            "latency_ms",
        ),
        (
            json!({"provider": "alipay", "kind": "slow", "duration_s": 0}),
            "duration_s",
        ),
        (
            json!({"provider": "alipay", "kind": "slow", "seed": -1}),
            "seed",
        ),
        (
            json!({"provider": "alipay", "kind": "slow", "chance": 1}),
            "",
        ),
        (
            json!({"provider": "alipay", "kind": "slow", "code": "61"}),
            "code",
        ),
        (
            json!({"provider": "alipay", "kind": "slow", "message": "m"}),
            "message",
        ),
        (
            json!({"provider": "alipay", "kind": "slow", "count": 0}),
            "count",
        ),
        (
            json!({"provider": "alipay", "kind": "refuse", "count": 1}),
            "count",
        ),
        (json!({"provider": "alipay", "kind": "says"}), "code"),
        (
            json!({"provider": "alipay", "kind": "says", "code": ""}),
            "code",
        ),
        (
            json!({"provider": "alipay", "kind": "says", "code": "6\n1"}),
            "code",
        ),
        (
            json!({"provider": "alipay", "kind": "says", "code": "61", "message": "a\tb"}),
            "message",
        ),
        (json!([]), ""),
    ] {
        assert_eq!(
            read(&body).map(|f| f.to_json()).map_err(|e| e.param),
            Err(param),
            "{body}"
        );
    }
}

#[test]
fn the_first_fault_that_matches_strikes() {
    let faults = faults(&[
        json!({"provider": "alipay", "kind": "reset", "call": "refund"}),
        json!({"provider": "alipay", "kind": "says_closed", "probability": 0}),
        json!({"provider": "wechatpay", "kind": "behind"}),
        json!({"provider": "alipay", "kind": "slow"}),
        json!({"provider": "alipay", "kind": "garbled"}),
        json!({"provider": "alipay", "kind": "drop"}),
    ]);
    let kind = |call| faults.strike_call(ALIPAY, call, at(1)).map(|s| s.kind);

    assert_eq!(kind(Some(CallKind::Refund)), Some(CallFault::Reset));
    assert_eq!(kind(Some(CallKind::Query)), Some(CallFault::Slow));
    assert_eq!(kind(None), Some(CallFault::Slow));
    assert_eq!(
        faults.strike_call(WECHATPAY, Some(CallKind::Create), at(1)),
        None,
        "only questions lag behind"
    );

    assert!(
        faults
            .strike_call(WECHATPAY, Some(CallKind::Query), at(1))
            .is_some()
    );

    assert_eq!(
        faults.strike_notification(ALIPAY, at(1)).map(|s| s.kind),
        Some(NotificationFault::Drop)
    );
}

#[test]
fn a_seed_gives_the_same_draws_again_and_about_the_share_that_was_asked_for() {
    let body = json!({"provider": "alipay", "kind": "reset", "probability": 0.3, "seed": 42});
    let run = || {
        let faults = faults(std::slice::from_ref(&body));
        (0..10_000)
            .map(|_| faults.strike_call(ALIPAY, None, at(0)).is_some())
            .collect::<Vec<bool>>()
    };
    let first = run();
    assert_eq!(first, run());
    let hits = first.iter().filter(|hit| **hit).count();
    assert!((2_800..3_200).contains(&hits), "{hits}");
}

#[test]
fn a_fault_that_was_asked_for_once_strikes_once() {
    let faults = faults(&[
        json!({"provider": "alipay", "kind": "says", "code": "61", "call": "create", "count": 1}),
        json!({"provider": "alipay", "kind": "slow", "call": "query", "count": 2}),
    ]);
    let struck = |call| {
        faults
            .strike_call(ALIPAY, Some(call), at(0))
            .map(|s| (s.kind, s.word.is_some()))
    };

    assert_eq!(
        struck(CallKind::Refund),
        None,
        "what it is not aimed at does not count"
    );

    assert_eq!(struck(CallKind::Create), Some((CallFault::Says, true)));
    assert_eq!(struck(CallKind::Create), None);
    assert_eq!(
        [(); 3].map(|()| struck(CallKind::Query).is_some()),
        [true, true, false]
    );

    assert_eq!(faults.running(at(0)).len(), 0);
}

#[test]
fn faults_end_by_themselves_or_when_they_are_removed() {
    let faults = faults(&[
        json!({"provider": "alipay", "kind": "refuse", "duration_s": 10}),
        json!({"provider": "wechatpay", "kind": "slow"}),
        json!({"provider": "wechatpay", "kind": "reset"}),
    ]);
    assert!(faults.refuses(ALIPAY, at(9)));
    assert!(!faults.refuses(ALIPAY, at(10)));
    assert!(!faults.refuses(WECHATPAY, at(9)));
    assert_eq!(faults.next_end(at(0)), Some(at(10)));
    assert_eq!(faults.next_end(at(10)), None);
    assert_eq!(faults.remove(Some(2)), 1);
    assert_eq!(faults.running(at(10)).len(), 1);
    assert_eq!(faults.remove(None), 2);
    assert_eq!(faults.strike_call(WECHATPAY, None, at(10)), None);
}
