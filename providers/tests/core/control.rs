//! The control API: the payer, the clock, the books, and refusals that name what is wrong.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use providers::sandbox::book::{MovementKind, State};
use serde_json::{Value, json};

use crate::lab::{Lab, ask};

#[tokio::test]
async fn a_payer_pays_a_code_once() {
    let lab = Lab::start().await;
    lab.create("A1", "").await;
    let code = json!({"code": "code:A1", "result": "paid"});
    let (status, order) = lab.control("POST", "/pay", &code).await;

    assert_eq!(
        (status, &order["state"], &order["captured"]),
        (200, &json!("paid"), &json!(100))
    );

    let (status, error) = lab.control("POST", "/pay", &code).await;
    assert_eq!(
        (status, error),
        (
            409,
            json!({"error": "the order is already paid", "param": "code"})
        )
    );

    let book = lab.sandbox.book().lock();
    assert_eq!(book.movements().len(), 1);
    assert_eq!(book.movements()[0].kind, MovementKind::Captured);
}

#[tokio::test]
async fn a_hundred_payers_at_once_pay_an_order_once() {
    let lab = Lab::start().await;
    lab.create("A1", "").await;
    let answers = futures_util::future::join_all((0..100).map(|_| lab.pay("A1"))).await;
    let paid = answers.iter().filter(|(status, _)| *status == 200).count();
    let refused = answers.iter().filter(|(status, _)| *status == 409).count();
    assert_eq!((paid, refused), (1, 99));
    assert_eq!(lab.sandbox.book().lock().movements().len(), 1);
}

#[tokio::test]
async fn what_cannot_be_paid_is_refused_and_nothing_moves() {
    let lab = Lab::start().await;
    let (status, error) = lab.pay("A0").await;

    assert_eq!(
        (status, error),
        (
            404,
            json!({"error": "there is no such order", "param": "order_no"})
        )
    );

    lab.create("A1", "").await;
    assert_eq!(ask(lab.face, "/close/A1").await.text(), "closed");
    let (status, error) = lab.pay("A1").await;

    assert_eq!(
        (status, error["error"].as_str()),
        (409, Some("the order is closed"))
    );

    lab.create("A2", "").await;
    lab.control("POST", "/clock", &json!({"advance_s": 15 * 60}))
        .await;
    let (status, error) = lab.pay("A2").await;

    assert_eq!(
        (status, error["error"].as_str()),
        (409, Some("the order or its code has expired"))
    );

    let (status, error) = lab
        .control("POST", "/pay", &json!({"order_no": "A2", "result": "late"}))
        .await;
    let never = "its time is not over yet, or its provider takes no late money";
    assert_eq!((status, error["error"].as_str()), (409, Some(never)));

    assert!(lab.sandbox.book().lock().movements().is_empty());
}

#[tokio::test]
async fn a_payer_who_declines_leaves_the_order_payable() {
    let lab = Lab::start().await;
    lab.create("A1", "").await;
    let (status, order) = lab
        .control(
            "POST",
            "/pay",
            &json!({"code": "code:A1", "result": "declined"}),
        )
        .await;
    assert_eq!(
        (status, &order["state"], &order["captured"]),
        (200, &json!("payable"), &json!(0))
    );
    assert_eq!(lab.pay("A1").await.0, 200);
}

#[tokio::test]
async fn refusals_name_the_member() {
    let lab = Lab::start().await;
    let fault = |body: Value| ("PUT", "/faults", body);

    for ((method, target, body), param) in [
        (("POST", "/pay", json!({"result": "paid"})), "code"),
        (
            ("POST", "/pay", json!({"code": 1, "result": "paid"})),
            "code",
        ),
        (
            (
                "POST",
                "/pay",
                json!({"code": "c", "order_no": "A1", "result": "paid"}),
            ),
            "order_no",
        ),
        (("POST", "/pay", json!({"code": "c"})), "result"),
        (
            ("POST", "/pay", json!({"code": "c", "result": "maybe"})),
            "result",
        ),
        (("POST", "/pay", json!("c")), ""),
        (("POST", "/clock", json!({})), "advance_s"),
        (("POST", "/clock", json!({"advance_s": -1})), "advance_s"),
        (
            ("POST", "/clock", json!({"advance_s": 400_000_000_000_i64})),
            "advance_s",
        ),
        (
            (
                "POST",
                "/clock",
                json!({"advance_s": 1, "now": "2100-01-01T00:00:00Z"}),
            ),
            "now",
        ),
        (
            ("POST", "/clock", json!({"now": "1999-01-01T00:00:00Z"})),
            "now",
        ),
        (("POST", "/clock", json!({"now": "noon"})), "now"),
        (
            (
                "PUT",
                "/refunds",
                json!({"provider": "unionpay", "result": "closed"}),
            ),
            "provider",
        ),
        (
            (
                "PUT",
                "/refunds",
                json!({"provider": "alipay", "result": "lost"}),
            ),
            "result",
        ),
        (
            (
                "PUT",
                "/refunds",
                json!({"provider": "alipay", "result": "closed", "count": -1}),
            ),
            "count",
        ),
        (("DELETE", "/faults?id=9", Value::Null), "id"),
        (("DELETE", "/faults?id=x", Value::Null), "id"),
        (
            fault(json!({"provider": "unionpay", "kind": "slow"})),
            "provider",
        ),
        (
            fault(json!({"provider": "alipay", "kind": "explode"})),
            "kind",
        ),
        (
            fault(json!({"provider": "alipay", "kind": "drop", "call": "refund"})),
            "kind",
        ),
        (
            fault(json!({"provider": "alipay", "kind": "slow", "call": "pay"})),
            "call",
        ),
        (
            fault(json!({"provider": "alipay", "kind": "slow", "probability": 2})),
            "probability",
        ),
    ] {
        let (status, error) = lab.control(method, target, &body).await;
        assert_eq!(
            (status, error["param"].as_str()),
            (422, Some(param)),
            "{method} {target} {body}: {error}"
        );
        assert!(!error["error"].as_str().unwrap().is_empty());
    }

    assert_eq!(lab.control("GET", "/nothing", &Value::Null).await.0, 404);
    assert_eq!(lab.control("DELETE", "/pay", &Value::Null).await.0, 405);
}

#[tokio::test]
async fn faults_are_listed_and_removed_by_id() {
    let lab = Lab::start().await;
    for kind in ["slow", "drop"] {
        lab.fault(json!({"provider": "alipay", "kind": kind})).await;
    }
    let ids = |list: &Value| {
        list["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|f| f["id"].clone())
            .collect::<Vec<_>>()
    };

    assert_eq!(
        ids(&lab.control("GET", "/faults", &Value::Null).await.1),
        [1, 2]
    );
    assert_eq!(
        lab.control("DELETE", "/faults?id=1", &Value::Null).await.1,
        json!({"removed": 1})
    );

    assert_eq!(
        ids(&lab.control("GET", "/faults", &Value::Null).await.1),
        [2]
    );

    assert_eq!(
        lab.control("DELETE", "/faults", &Value::Null).await.1,
        json!({"removed": 1})
    );
}

#[tokio::test]
async fn the_clock_tells_and_takes_the_time() {
    let lab = Lab::start().await;
    let (_, before) = lab.control("GET", "/clock", &Value::Null).await;
    assert_eq!(before["ahead_s"], 0);

    let time = |clock: &Value| {
        clock["now"]
            .as_str()
            .unwrap()
            .parse::<DateTime<Utc>>()
            .unwrap()
    };
    let to = time(&before) + TimeDelta::days(400);
    let (_, jumped) = lab
        .control("POST", "/clock", &json!({"now": to.to_rfc3339()}))
        .await;

    assert!((time(&jumped) - to).num_seconds() < 5, "{jumped}");
    let far = json!({"now": "9999-12-31T00:00:00Z"});
    assert_eq!(lab.control("POST", "/clock", &far).await.0, 422);
}

#[tokio::test]
async fn refunds_get_done_when_their_time_comes_and_the_books_show_it() {
    let lab = Lab::start().await;
    lab.create("A1", "").await;
    lab.create("A2", "").await;
    lab.pay("A1").await;
    assert_eq!(ask(lab.face, "/refund/A1/R1").await.text(), "accepted");

    let books = async || {
        lab.control("GET", "/books?order_no=A1", &Value::Null)
            .await
            .1
    };
    let before = books().await;

    assert_eq!(before["orders"].as_array().unwrap().len(), 1);
    assert_eq!(
        (
            &before["orders"][0]["refunded"],
            &before["orders"][0]["captured"]
        ),
        (&json!(0), &json!(100))
    );

    lab.control("POST", "/clock", &json!({"advance_s": 86_400}))
        .await;
    let done = async {
        while books().await["orders"][0]["refunds"][0]["status"] != "done" {}
        books().await
    };
    let after = tokio::time::timeout(Duration::from_secs(10), done)
        .await
        .unwrap();

    assert_eq!(after["orders"][0]["refunded"], 30);
    let moved: Vec<_> = after["movements"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| (&m["kind"], &m["amount"]))
        .collect();

    assert_eq!(
        moved,
        [
            (&json!("captured"), &json!(100)),
            (&json!("refunded"), &json!(30))
        ]
    );

    assert_eq!(
        lab.control("GET", "/books?provider=wechatpay", &Value::Null)
            .await
            .1["orders"],
        json!([])
    );
}

#[tokio::test]
async fn a_restarted_sandbox_knows_its_orders_and_its_time() {
    let lab = Lab::start().await;
    lab.create("A1", "").await;
    lab.create("A2", "").await;
    lab.pay("A1").await;
    assert_eq!(ask(lab.face, "/refund/A1/R1").await.text(), "accepted");
    lab.control("POST", "/clock", &json!({"advance_s": 600}))
        .await;
    let stored = lab.sandbox.book_json().unwrap();
    let (_, books) = lab.control("GET", "/books", &Value::Null).await;
    lab.sandbox.stop().await;

    let again = Lab::with(Some(stored)).await;
    assert_eq!(again.control("GET", "/books", &Value::Null).await.1, books);
    assert_eq!(
        again.control("GET", "/clock", &Value::Null).await.1["ahead_s"],
        600
    );
    assert_eq!(again.pay("A1").await.0, 409);
    let code = json!({"code": "code:A2", "result": "paid"});
    assert_eq!(again.control("POST", "/pay", &code).await.0, 200);
    assert_eq!(again.state("A2"), Some(State::Paid));
    again
        .sandbox
        .clock()
        .advance(chrono::TimeDelta::days(1))
        .unwrap();
    let done = async {
        while again
            .sandbox
            .book()
            .lock()
            .by_order_no("A1")
            .unwrap()
            .refunded_fen()
            != 30
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), done)
        .await
        .unwrap();
}

#[tokio::test]
async fn credentials_have_a_block_for_each_face() {
    let lab = Lab::start().await;
    let (_, credentials) = lab.control("GET", "/credentials", &Value::Null).await;
    assert_eq!(credentials, json!({"alipay": {"who": "small"}}));
}

#[tokio::test]
async fn how_the_next_refunds_end_can_be_asked_for() {
    let lab = Lab::start().await;
    let (status, asked) = lab
        .control(
            "PUT",
            "/refunds",
            &json!({"provider": "alipay", "result": "closed", "count": 2}),
        )
        .await;

    let listed = json!({"data": [{"provider": "alipay", "result": "closed", "count": 2}]});
    assert_eq!((status, &asked), (200, &listed));
    assert_eq!(lab.control("GET", "/refunds", &Value::Null).await.1, listed);

    let drawn = lab.sandbox.book().lock().refund_ends.draw("alipay");
    assert_eq!(drawn, providers::sandbox::refund_end::RefundEnd::Closed);
    assert_eq!(
        lab.control("GET", "/refunds", &Value::Null).await.1["data"][0]["count"],
        1
    );

    lab.control(
        "PUT",
        "/refunds",
        &json!({"provider": "alipay", "result": "no_funds"}),
    )
    .await;

    assert_eq!(
        lab.control("GET", "/refunds", &Value::Null).await.1["data"][0]["count"],
        Value::Null
    );
}
