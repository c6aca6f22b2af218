//! `/v1/ledger`: a merchant's own entries and sums, page by page, for finance alone.

use interlock::api::auth::Scope;
use serde_json::{Value, json};

use super::unsealed;
use crate::helpers::{Client, TestApp};

async fn finance(app: &TestApp) -> Client {
    let key =
        interlock::directory::issue::new_key(&app.app().store, &app.owner(), &[Scope::Finance])
            .await
            .unwrap();
    Client::new(&app.client.base, &key)
}

#[tokio::test(flavor = "multi_thread")]
async fn finance_reads_its_own_entries_and_what_they_add_up_to() {
    let app = unsealed().await;
    let finance = finance(&app).await;
    app.client.route(&[&app.alipay]).await.expect(200);
    let paid = app.paid().await;
    app.client.route(&[&app.wechatpay]).await.expect(200);
    app.paid().await;
    let id = paid["id"].as_str().unwrap();
    app.client.refund(id, 1000).await.expect(201);
    app.client.until(id, |p| p["amount_refunded"] == 1000).await;

    let all = finance.get("/v1/ledger").await.expect(200);
    let data = all["data"].as_array().unwrap();
    assert_eq!((data.len(), &all["has_more"]), (4, &json!(false)));
    let of_payment = finance
        .get(&format!("/v1/ledger?payment={id}"))
        .await
        .expect(200);
    let causes: Vec<&str> = of_payment["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["cause"].as_str().unwrap())
        .collect();
    assert_eq!(causes, ["refund_succeeded", "refund_pending", "captured"]);
    let first = &of_payment["data"][2];
    let view = json!([
        first["id"],
        first["debit"],
        first["credit"],
        first["amount"],
        first["account"],
        first["refund"]
    ]);
    assert_eq!(
        view,
        json!([
            format!("{id}.1"),
            "at_provider",
            "kept",
            8888,
            app.alipay,
            null
        ])
    );
    assert_eq!(
        (&of_payment["data"][1]["previous"], &first["previous"]),
        (&first["hash"], &json!(""))
    );
    assert_eq!(
        of_payment["data"][1]["refund"],
        app.client.payment(id).await["refunds"][0]["id"]
    );

    let mut seen: Vec<Value> = Vec::new();
    let mut after = String::new();
    loop {
        let page = finance
            .get(&format!("/v1/ledger?limit=1{after}"))
            .await
            .expect(200);
        seen.extend(page["data"].as_array().unwrap().clone());
        if page["has_more"] == false {
            break;
        }
        after = format!(
            "&starting_after={}",
            seen.last().unwrap()["id"].as_str().unwrap()
        );
    }
    assert_eq!(&seen, data, "pages have no gaps");

    let count = async |query: &str| {
        finance
            .get(&format!("/v1/ledger?{query}"))
            .await
            .expect(200)["data"]
            .as_array()
            .unwrap()
            .len()
    };
    assert_eq!(count("ledger_account=refund_pending").await, 2);
    assert_eq!(count(&format!("account={}", app.wechatpay)).await, 1);
    assert_eq!(count("created_from=2099-01-01T00:00:00%2B08:00").await, 0);
    assert_eq!(count("created_until=2099-01-01T00:00:00%2B08:00").await, 4);

    let balances = finance.get("/v1/ledger/balances").await.expect(200);
    let shown: Vec<Value> = balances["data"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|b| b["account"] == *app.alipay)
        .map(|b| json!([b["ledger_account"], b["debits"], b["credits"], b["balance"]]))
        .collect();
    let expected = [
        json!(["at_provider", 8888, 1000, 7888]),
        json!(["kept", 1000, 8888, 7888]),
        json!(["refund_pending", 1000, 1000, 0]),
    ];
    assert_eq!(shown, expected);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_is_shown_to_finance_of_the_same_merchant_alone_and_odd_questions_are_refused() {
    let app = unsealed().await;
    let finance = finance(&app).await;
    let paid = app.paid().await;
    let other = app.other_merchant(&[Scope::Finance]).await;

    for path in ["/v1/ledger", "/v1/ledger/balances"] {
        let seen = other
            .get(&format!("{path}?payment={}", paid["id"].as_str().unwrap()))
            .await
            .expect(200);
        assert_eq!(seen["data"], json!([]));
        let no_scope = app.other_merchant(&[Scope::Pay, Scope::Admin]).await;
        no_scope.get(path).await.problem(403, "forbidden", None);
        finance.get(&format!("{path}?page=2")).await.problem(
            422,
            "invalid_parameter",
            Some("page"),
        );
        finance
            .get(&format!("{path}?created_from=soon"))
            .await
            .problem(422, "invalid_parameter", Some("created_from"));
        finance
            .get(&format!("{path}?created_until=soon"))
            .await
            .problem(422, "invalid_parameter", Some("created_until"));
        let nul = finance.get(&format!("{path}?account=%00")).await;
        nul.problem(422, "invalid_parameter", Some("account"));
        app.client
            .post(path, "key", &json!({}))
            .await
            .problem(405, "method_not_allowed", None);
    }

    for (query, param) in [
        ("ledger_account=gold", "ledger_account"),
        ("limit=0", "limit"),
        ("starting_after=pay_1", "starting_after"),
        ("starting_after=pay_1.x", "starting_after"),
        ("starting_after=pay_1.1", "starting_after"),
    ] {
        finance.get(&format!("/v1/ledger?{query}")).await.problem(
            422,
            "invalid_parameter",
            Some(param),
        );
    }

    let own = format!(
        "/v1/ledger?starting_after={}.1",
        paid["id"].as_str().unwrap()
    );
    other
        .get(&own)
        .await
        .problem(422, "invalid_parameter", Some("starting_after"));

    app.stop().await;
}
