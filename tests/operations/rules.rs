//! Who may decide, and how: two keys, one action, within a day, about what is still there. Of many
//! at once one does it.

use futures_util::future::join_all;
use interlock::api::auth::Scope;
use interlock::jobs;
use serde_json::{Value, json};

use super::{decide, held, only, person, possible, raise, say, two_persons};
use crate::helpers::facts::{Facts, Watch, taken_fen};
use crate::helpers::{TestApp, fresh};
use crate::ledger::agrees;
use crate::switchover::late_money::until_given_back;

#[tokio::test(flavor = "multi_thread")]
async fn it_takes_two_keys_and_one_action_within_a_day() {
    let app = TestApp::start().await;
    let (payment, entry) = held(&app).await;
    let (one, other) = two_persons(&app).await;
    say(&one, &entry, "keep").await.expect(202);
    say(&one, &entry, "keep")
        .await
        .problem(409, "second_person_needed", None);

    // Another action begins anew, also from the second person: now the first one may confirm that.
    let changed = say(&other, &entry, "refund").await.expect(202);
    assert_eq!(changed["proposal"]["action"], "refund");

    say(&other, &entry, "refund")
        .await
        .problem(409, "second_person_needed", None);
    let back = say(&one, &entry, "keep").await.expect(202);

    assert_eq!(
        (
            &back["proposal"]["action"],
            back["history"].as_array().unwrap().len()
        ),
        (&json!("keep"), 3)
    );

    // A day later nobody knows of it any more.
    app.advance(86_401).await;
    let later = only(&one, "capture_mismatch").await;
    assert_eq!(later["proposal"], Value::Null);

    say(&other, &entry, "keep").await.expect(202);
    assert_eq!(
        app.client.payment(payment["id"].as_str().unwrap()).await["attempts"][0]["disposition"],
        "held"
    );

    say(&one, &entry, "keep").await.expect(200);
    say(&other, &entry, "keep")
        .await
        .problem(409, "operation_resolved", None);
    let read = one
        .get(&format!("/v1/operations/{}", entry["id"].as_str().unwrap()))
        .await
        .expect(200);
    let history = read["history"].as_array().unwrap();

    assert_eq!(history.len(), 5, "every word is kept: {history:#?}");
    assert!(
        history
            .iter()
            .all(|step| step["evidence"] == "screenshot 4711 of the provider's console")
    );

    agrees(&app).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_confirmations_at_once_one_moves_the_money() {
    for action in ["keep", "refund"] {
        let app = TestApp::start().await;
        let (payment, entry) = held(&app).await;
        let watch = Watch::start(&app).await;
        let one = person(&app, &[Scope::Admin]).await;
        say(&one, &entry, action).await.expect(202);
        let mut others = Vec::new();
        for _ in 0..8 {
            others.push(person(&app, &[Scope::Finance]).await);
        }
        let answers = join_all(others.iter().map(|other| say(other, &entry, action))).await;
        let done = answers.iter().filter(|answer| answer.status == 200).count();
        assert_eq!(
            done,
            1,
            "{:?}",
            answers.iter().map(|a| a.status).collect::<Vec<_>>()
        );
        for answer in answers.iter().filter(|answer| answer.status != 200) {
            answer.problem(409, "operation_resolved", None);
        }
        let id = payment["id"].as_str().unwrap();
        let facts = Facts::of(&app).await;
        assert_eq!(
            facts
                .count("operation_steps WHERE kind = 'confirmed'")
                .await,
            1
        );
        if action == "refund" {
            until_given_back(&app, id).await;
            assert_eq!(
                (facts.count("refunds").await, taken_fen(&app).await),
                (1, 0)
            );
        } else {
            app.client.until_status(id, "succeeded").await;
            assert_eq!(
                facts
                    .told(id)
                    .await
                    .iter()
                    .filter(|t| *t == "payment.succeeded")
                    .count(),
                1
            );
        }
        assert_eq!(
            facts.count("ledger_entries WHERE cause = 'decided'").await,
            1
        );
        agrees(&app).await;
        watch.stop().await;
        app.stop().await;
    }
}

/// Two pairs want different things at the same time: one of them is done, and the other one knows.
#[tokio::test(flavor = "multi_thread")]
async fn a_proposal_and_a_confirmation_at_once_do_not_both_count() {
    let app = TestApp::start().await;
    let (payment, entry) = held(&app).await;
    let (one, other) = two_persons(&app).await;
    let third = person(&app, &[Scope::Finance]).await;
    say(&one, &entry, "keep").await.expect(202);
    let (confirmed, proposed) =
        tokio::join!(say(&other, &entry, "keep"), say(&third, &entry, "refund"));
    let now = app.client.payment(payment["id"].as_str().unwrap()).await;

    match (confirmed.status.as_u16(), proposed.status.as_u16()) {
        (200, 202 | 409) => assert_eq!(now["attempts"][0]["disposition"], "kept"),
        // The other proposal was first: this one began anew.
        (202, 202) => assert_eq!(now["attempts"][0]["disposition"], "held"),
        both => panic!("{both:?}"),
    }

    agrees(&app).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_ended_by_itself_is_closed_and_says_so() {
    let app = TestApp::start().await;
    let paid = app.paid().await;

    raise(
        &app,
        "unresolved",
        paid["attempts"][0]["id"].as_str().unwrap(),
    )
    .await;

    raise(&app, "account_refused", &app.alipay).await;
    raise(&app, "notification_mismatch", "n-1").await;
    jobs::work_list::step(app.app()).await.unwrap();
    let list = app.client.get("/v1/operations").await.expect(200);
    let mut ends: Vec<(&str, &str, Option<&str>)> = list["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| {
            (
                e["kind"].as_str().unwrap(),
                e["status"].as_str().unwrap(),
                e["resolution"].as_str(),
            )
        })
        .collect();

    ends.sort_unstable();
    let expected = [
        ("account_refused", "resolved", Some("by_itself")),
        ("notification_mismatch", "open", None),
        ("unresolved", "resolved", Some("by_itself")),
    ];

    assert_eq!(ends, expected);
    // Whoever comes between two looks of the job is told so as well, and nothing is done.
    raise(
        &app,
        "unresolved",
        paid["attempts"][0]["id"].as_str().unwrap(),
    )
    .await;

    let open = app
        .client
        .get("/v1/operations?status=open&kind=unresolved")
        .await
        .expect(200);

    if let Some(entry) = open["data"].get(0) {
        let refused =
            say(&app.client, entry, "ask_again")
                .await
                .problem(409, "operation_resolved", None);
        assert_eq!(refused["resource_status"], "by_itself");
    }

    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_is_the_merchants_own_and_is_filtered_and_paged() {
    let app = TestApp::start().await;
    for n in 0..5 {
        raise(&app, "notification_mismatch", &format!("n-{n}")).await;
    }
    raise(&app, "webhook_failing", &app.merchant).await;
    let get = async |query: &str| {
        app.client
            .get(&format!("/v1/operations?{query}"))
            .await
            .expect(200)["data"]
            .clone()
    };
    assert_eq!(get("status=open").await.as_array().unwrap().len(), 6);
    assert_eq!(
        get("kind=webhook_failing").await.as_array().unwrap().len(),
        1
    );
    assert_eq!(get("status=resolved").await, json!([]));
    let mut seen: Vec<Value> = Vec::new();
    let mut after = String::new();
    loop {
        let page = app
            .client
            .get(&format!("/v1/operations?limit=2{after}"))
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
    assert_eq!(json!(seen), get("limit=100").await);

    let other = app.other_merchant(&[Scope::Admin, Scope::Finance]).await;
    let entry = seen[0].clone();
    let id = entry["id"].as_str().unwrap();
    assert_eq!(
        other.get("/v1/operations").await.expect(200)["data"],
        json!([])
    );
    other
        .get(&format!("/v1/operations/{id}"))
        .await
        .problem(404, "not_found", None);
    say(&other, &entry, "acknowledge")
        .await
        .problem(404, "not_found", None);
    let no_scope = person(&app, &[Scope::Pay, Scope::Refund]).await;
    for path in ["/v1/operations", &format!("/v1/operations/{id}")] {
        no_scope.get(path).await.problem(403, "forbidden", None);
    }
    say(&no_scope, &entry, "acknowledge")
        .await
        .problem(403, "forbidden", None);
    for (query, param) in [
        ("status=done", "status"),
        ("limit=0", "limit"),
        ("starting_after=op_1", "starting_after"),
    ] {
        let answer = app.client.get(&format!("/v1/operations?{query}")).await;
        answer.problem(422, "invalid_parameter", Some(param));
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_word_that_makes_no_sense_changes_nothing() {
    let app = TestApp::start().await;
    let (payment, entry) = held(&app).await;
    let path = format!("/v1/operations/{}/resolve", entry["id"].as_str().unwrap());
    let facts = Facts::of(&app).await;
    for (body, status, code, param) in [
        (
            json!({"action": "keep"}),
            422,
            "invalid_parameter",
            "evidence",
        ),
        (
            json!({"action": "keep", "evidence": " \n "}),
            422,
            "invalid_parameter",
            "evidence",
        ),
        (
            json!({"action": "keep", "evidence": "x".repeat(2_001)}),
            422,
            "invalid_parameter",
            "evidence",
        ),
        (
            json!({"action": "keep", "evidence": "a\u{0}b"}),
            422,
            "invalid_parameter",
            "evidence",
        ),
        (
            json!({"action": "keep", "evidence": "e", "note": ""}),
            422,
            "invalid_parameter",
            "note",
        ),
        (
            json!({"action": "steal", "evidence": "e"}),
            422,
            "invalid_parameter",
            "action",
        ),
        (
            json!({"action": "keep", "evidence": "e", "amount": 1}),
            422,
            "invalid_parameter",
            "amount",
        ),
        (
            json!({"action": "account_ok", "evidence": "e"}),
            422,
            "action_not_for_this_kind",
            "action",
        ),
        (
            json!({"action": "acknowledge", "evidence": "e"}),
            422,
            "action_not_for_this_kind",
            "action",
        ),
    ] {
        app.client
            .post(&path, &fresh("key"), &body)
            .await
            .problem(status, code, Some(param));
    }
    let live = app.live(&[Scope::Admin]).await;
    say(&live, &entry, "keep")
        .await
        .problem(404, "not_found", None);
    let nobodys = json!({"id": "op_nobody"});
    say(&app.client, &nobodys, "keep")
        .await
        .problem(404, "not_found", None);
    assert_eq!(facts.count("operation_steps").await, 0);
    assert_eq!(
        possible(&only(&app.client, "capture_mismatch").await),
        ["keep", "refund", "returned"]
    );

    // Its order number has gone to another payment: it cannot be succeeded beside that one.
    let id = payment["id"].as_str().unwrap();
    facts
        .execute(&format!(
            "UPDATE payments SET status = 'expired' WHERE id = '{id}'"
        ))
        .await
        .unwrap();
    let mut again = crate::helpers::order();
    again["order_id"] = payment["order_id"].clone();
    app.client.pay(&again).await.expect(201);
    let (one, other) = two_persons(&app).await;
    say(&one, &entry, "keep").await.expect(202);
    say(&other, &entry, "keep")
        .await
        .problem(409, "action_not_possible", Some("action"));
    assert_eq!(
        app.client.payment(id).await["attempts"][0]["disposition"],
        "held"
    );
    decide(&(one, other), &entry, "returned").await;
    app.stop().await;
}
