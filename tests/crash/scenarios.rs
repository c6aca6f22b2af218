//! What a gateway was doing when it was killed, and what must become of it. Each scenario takes the
//! kill point and goes through its runs; a point that is not reached fails.

use serde_json::{Value, json};

use super::audit::audit;
use super::stage::{ALL_LEASES_ARE_OVER_S, Restarted, Run, Stage, killed_by, scan_without_paying};
use crate::helpers::facts::Facts;
use crate::helpers::{PATIENCE, barcode, fresh, live, order};
use crate::webhooks::{Receiver, all_verified, kinds};

/// `POST /v1/payments`, over one route.
pub async fn creating(point: &'static str) {
    for run in Run::all(point) {
        create(run, None).await;
    }
}

/// The same, when the first provider's answer cannot be read, or is a "no": the payment goes on to
/// the other one.
pub async fn switching(point: &'static str) {
    for run in Run::all(point) {
        for nth in 1..=(if point == "pay_after_call" { 2 } else { 1 }) {
            let kind = if run.client_returns {
                "rate_limited"
            } else {
                "garbled"
            };
            create(Run { nth, ..run }, Some(kind)).await;
        }
    }
}

async fn create(run: Run, fault: Option<&str>) {
    let stage = Stage::new().await;
    if let Some(kind) = fault {
        stage
            .control
            .fault(json!({"provider": run.first, "call": "create", "kind": kind}))
            .await;
    }

    let (key, body) = (fresh("key"), order());
    let doomed = stage.doomed(run).await;
    killed_by(doomed, "/v1/payments", &key, &body).await;
    let app = stage.restart().await;

    if let Some(id) = taken_up(&app, run, &key, &body).await {
        paid_in_the_end(&app, &id).await;
        let again = app.repeat("/v1/payments", &key, &body).await;
        assert_eq!(
            (&again["id"], &again["status"]),
            (&json!(id), &json!("succeeded"))
        );
        assert_eq!(app.payments().await, [id]);
        audit(&app, true).await;
    }

    app.stop().await;
}

/// The client's second request finds the payment of the first, or the resolver goes on with it
/// alone. `None` when nothing was ever written and nobody asks again.
async fn taken_up(app: &Restarted, run: Run, key: &str, body: &Value) -> Option<String> {
    let before = app.payments().await;
    if run.client_returns {
        let answered = app.repeat("/v1/payments", key, body).await;
        let id = answered["id"].as_str().unwrap().to_owned();
        assert!(before.iter().all(|known| *known == id), "a second payment");
        return Some(id);
    }
    if run.point == "pay_before_first_commit" {
        assert_eq!(before, Vec::<String>::new());
        assert_eq!(app.control.orders().await, Vec::<Value>::new());
        return None;
    }
    assert_eq!(before.len(), 1);
    app.advance(ALL_LEASES_ARE_OVER_S).await;
    before.into_iter().next()
}

/// There is one offer to pay in the end; its payer pays it, and whatever else a payer could ever
/// find.
async fn paid_in_the_end(app: &Restarted, id: &str) {
    let offered = app
        .client
        .until(id, |payment| {
            assert!(live(payment) <= 1, "{payment:#}");
            payment["status"] == "requires_action"
        })
        .await;
    app.control.pay(&offered).await;
    app.client.until_status(id, "succeeded").await;
    app.pay_everything().await;
}

/// An offer was committed and never told to the client; somebody pays it while no gateway runs.
pub async fn paying_while_nobody_runs(point: &'static str) {
    for run in Run::all(point) {
        let stage = Stage::new().await;
        let (key, body) = (fresh("key"), order());
        let doomed = stage.doomed(run).await;
        killed_by(doomed, "/v1/payments", &key, &body).await;
        let orders = stage.control.orders().await;
        let (status, answer) = stage
            .control
            .pay_order(orders[0]["order_no"].as_str().unwrap())
            .await;
        assert_eq!(status, 200, "{answer}");
        let app = stage.restart().await;
        let id = taken_up(&app, run, &key, &body).await.unwrap();
        // The provider tells it again, or is asked.
        app.advance(ALL_LEASES_ARE_OVER_S).await;
        app.client.until_status(&id, "succeeded").await;
        audit(&app, run.client_returns).await;
        app.stop().await;
    }
}

/// A crash left a payment half made; the resolver that goes on with it is killed, too.
pub async fn finishing_what_a_crash_left(point: &'static str) {
    for run in Run::all(point) {
        for nth in 1..=(if point == "resolve_after_commit" {
            2
        } else {
            1
        }) {
            let stage = Stage::new().await;
            let (key, body) = (fresh("key"), order());
            let doomed = stage
                .doomed(Run {
                    point: "pay_after_call",
                    ..run
                })
                .await;
            killed_by(doomed, "/v1/payments", &key, &body).await;
            stage.age(10).await;
            stage.killed_by_itself(Run { nth, ..run }).await;
            let app = stage.restart().await;
            let id = taken_up(&app, run, &key, &body).await.unwrap();
            paid_in_the_end(&app, &id).await;
            audit(&app, run.client_returns).await;
            app.stop().await;
        }
    }
}

/// A payment whose time is over is being ended.
pub async fn expiring(point: &'static str) {
    for run in Run::unattended(point) {
        let stage = Stage::new().await;
        let mut first = stage.asking(run.first, &[]).await;
        let payment = first.client.pay(&order()).await.expect(201);
        scan_without_paying(&stage.control, &payment).await;
        first.child.kill().await.unwrap();
        // At the provider its last seconds run: it can be closed, and has not expired yet.
        stage.age_apart(901, 880).await;
        stage.killed_by_itself(run).await;
        let app = stage.restart().await;
        app.advance(ALL_LEASES_ARE_OVER_S).await;
        app.client
            .until_status(payment["id"].as_str().unwrap(), "expired")
            .await;
        app.pay_everything().await;
        audit(&app, false).await;
        app.stop().await;
    }
}

/// The merchant cancels. Nobody can pay the code any more when that is said.
pub async fn canceling(point: &'static str) {
    for run in Run::closing(point) {
        let (app, id) = cancel(run, false).await;
        let canceled = app.client.until_status(&id, "canceled").await;
        assert_eq!(live(&canceled), 0);
        app.pay_everything().await;
        audit(&app, false).await;
        app.stop().await;
    }
}

/// The same, and the payer pays while no gateway runs, if the provider still lets them.
pub async fn canceling_too_late(point: &'static str) {
    for run in Run::closing(point) {
        let (app, id) = cancel(run, true).await;
        let paid = app.control.orders().await[0]["captured"] != 0;
        let closed = ["resolve_after_close", "resolve_after_commit"].contains(&point);
        assert_eq!(paid, !closed, "before it is closed an order can be paid");
        app.client
            .until_status(&id, if paid { "succeeded" } else { "canceled" })
            .await;
        audit(&app, false).await;
        app.stop().await;
    }
}

async fn cancel(run: Run, payer_pays: bool) -> (Restarted, String) {
    let stage = Stage::new().await;
    let doomed = stage.doomed(run).await;
    let payment = doomed.client.pay(&order()).await.expect(201);
    scan_without_paying(&stage.control, &payment).await;
    let id = payment["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/payments/{id}/cancel");
    killed_by(doomed, &path, "unused", &json!({})).await;
    if payer_pays {
        let order_no = payment["attempts"][0]["provider_order_no"]
            .as_str()
            .unwrap();
        stage.control.pay_order(order_no).await;
    }

    let app = stage.restart().await;
    if run.client_returns {
        let answer = app.client.post(&path, "unused", &json!({})).await;
        assert!(
            [200, 202, 409].contains(&answer.status.as_u16()),
            "{answer:?}"
        );
    }

    app.advance(ALL_LEASES_ARE_OVER_S).await;
    (app, id)
}

/// The provider tells that a code was paid.
pub async fn being_told_of_money(point: &'static str) {
    for run in Run::all(point) {
        let stage = Stage::new().await;
        let (key, body) = (fresh("key"), order());
        let mut doomed = stage.doomed(run).await;
        let payment = doomed
            .client
            .post("/v1/payments", &key, &body)
            .await
            .expect(201);
        stage.control.pay(&payment).await;
        doomed.died().await;
        let app = stage.restart().await;
        let id = taken_up(&app, run, &key, &body).await.unwrap();
        assert_eq!(payment["id"], id);
        // The provider's next try, or our next question.
        app.advance(ALL_LEASES_ARE_OVER_S).await;
        app.client.until_status(&id, "succeeded").await;
        audit(&app, true).await;
        app.stop().await;
    }
}

/// `POST /v1/payments/{id}/refunds`.
pub async fn refunding(point: &'static str) {
    for run in Run::all(point) {
        let stage = Stage::new().await;
        let (doomed, id) = paid(&stage, run).await;
        let (key, body) = (fresh("key"), refund(5000));
        let path = format!("/v1/payments/{id}/refunds");
        killed_by(doomed, &path, &key, &body).await;
        let app = stage.restart().await;
        if run.client_returns {
            let answered = app.repeat(&path, &key, &body).await;
            assert_eq!(answered["merchant_refund_no"], body["merchant_refund_no"]);
        }
        let nothing_was_written = run.point == "refund_before_first_commit" && !run.client_returns;
        refunded_in_the_end(&app, &id, if nothing_was_written { 0 } else { 5000 }).await;
        let again = app.repeat(&path, &key, &body).await;
        refunded_in_the_end(&app, &id, 5000).await;
        assert_eq!(
            app.client.payment(&id).await["refunds"][0]["id"],
            again["id"]
        );
        the_rest_goes_back(&app, &id, &body).await;
        audit(&app, true).await;
        app.stop().await;
    }
}

/// A crash left a refund that nobody knows to be sent; the resolver that sends it is killed, too.
pub async fn sending_a_refund_again(point: &'static str) {
    for run in Run::all(point) {
        let stage = Stage::new().await;
        let (doomed, id) = paid(
            &stage,
            Run {
                point: "refund_after_first_commit",
                ..run
            },
        )
        .await;
        let (key, body) = (fresh("key"), refund(5000));
        let path = format!("/v1/payments/{id}/refunds");
        killed_by(doomed, &path, &key, &body).await;
        stage.age(20).await;
        stage.killed_by_itself(run).await;
        let app = stage.restart().await;
        if run.client_returns {
            app.repeat(&path, &key, &body).await;
        }
        refunded_in_the_end(&app, &id, 5000).await;
        the_rest_goes_back(&app, &id, &body).await;
        audit(&app, run.client_returns).await;
        app.stop().await;
    }
}

/// A payment of 8888 fen that has its money, and the gateway that will die of its refund.
async fn paid(stage: &Stage, run: Run) -> (crate::helpers::process::Process, String) {
    let doomed = stage.doomed(run).await;
    let payment = doomed.client.pay(&order()).await.expect(201);
    stage.control.pay(&payment).await;
    let id = payment["id"].as_str().unwrap().to_owned();
    doomed.client.until_status(&id, "succeeded").await;
    (doomed, id)
}

/// A merchant is told of a payment that was made and of its money.
pub async fn telling(point: &'static str) {
    for run in Run::unattended(point) {
        for nth in 1..=2 {
            tell(Run { nth, ..run }).await;
        }
    }
}

async fn tell(run: Run) {
    let (stage, receiver) = (Stage::new().await, Receiver::start().await);
    let mut doomed = stage.doomed(run).await;
    receiver.endpoint(&doomed.client, "all", json!({})).await;
    let (key, body) = (fresh("key"), order());

    // Whether it is answered before the kill or not: the second event, if it comes to that, is the
    // payer's money.
    let answer = doomed.client.try_post("/v1/payments", &key, &body).await;
    if run.nth > 1 {
        // Otherwise both events may go out together, and the point is passed once.
        receiver.got("all", 1).await;
        stage.control.pay(&answer.unwrap().expect(201)).await;
    }

    doomed.died().await;
    let app = stage.restart().await;
    app.advance(ALL_LEASES_ARE_OVER_S).await;
    let made = app.payments().await;
    let id = made.first().unwrap();
    let payment = app
        .client
        .until(id, |p| {
            ["requires_action", "succeeded"].contains(&p["status"].as_str().unwrap())
        })
        .await;

    if payment["status"] == "requires_action" && run.nth == 1 {
        app.control.pay(&payment).await;
    }
    app.client.until_status(id, "succeeded").await;
    let log = receiver
        .until("all", |log| {
            kinds(log).iter().any(|kind| kind == "payment.succeeded")
        })
        .await;

    all_verified(&log);
    let facts = Facts::of(&app).await;

    for event in facts.rows("SELECT id FROM events").await {
        receiver
            .until("all", |log| {
                log.iter()
                    .any(|entry| entry["headers"]["webhook-id"] == event["id"])
            })
            .await;
    }

    facts.0.close().await.unwrap();
    audit(&app, false).await;
    app.stop().await;
}

fn refund(amount: i64) -> Value {
    json!({"amount": amount, "merchant_refund_no": fresh("rf"), "reason": "returned"})
}

/// The payment says it, and the provider's book does.
pub async fn refunded_in_the_end(app: &Restarted, id: &str, fen: i64) {
    for _ in 0..4 {
        app.advance(ALL_LEASES_ARE_OVER_S).await;
    }
    app.client
        .until(id, |payment| payment["amount_refunded"] == fen)
        .await;
    let orders = app.control.orders().await;
    assert_eq!(
        orders
            .iter()
            .map(|order| order["refunded"].as_i64().unwrap())
            .sum::<i64>(),
        fen,
        "{orders:#?}"
    );
}

/// What is left can be refunded, and no more; the number of the first refund is used up.
async fn the_rest_goes_back(app: &Restarted, id: &str, first: &Value) {
    let path = format!("/v1/payments/{id}/refunds");
    app.client.post(&path, &fresh("key"), first).await.problem(
        409,
        "merchant_refund_no_in_use",
        Some("merchant_refund_no"),
    );
    app.client
        .refund(id, 3889)
        .await
        .problem(422, "refund_too_large", Some("amount"));
    app.client.refund(id, 3888).await.expect(201);
    refunded_in_the_end(app, id, 8888).await;
}

/// A charge. Whether its money was taken is found out; the payer's code is gone, so it is never
/// sent again.
pub async fn charging(point: &'static str) {
    for run in Run::charging(point) {
        let stage = Stage::new().await;
        let (key, mut body) = (fresh("key"), barcode(run.first, 0));
        body["wait"] = 0.into();
        let doomed = stage.doomed(run).await;
        killed_by(doomed, "/v1/payments", &key, &body).await;
        let app = stage.restart().await;
        if let Some(id) = taken_up(&app, run, &key, &body).await {
            let ended = ended(&app, &id).await;
            let was_taken = app
                .control
                .orders()
                .await
                .iter()
                .any(|order| order["captured"] != 0);
            assert_eq!(
                ended["status"],
                if was_taken { "succeeded" } else { "failed" },
                "{ended:#}"
            );
            assert_eq!(was_taken, point != "pay_after_first_commit", "{ended:#}");
            app.repeat("/v1/payments", &key, &body).await;
            audit(&app, true).await;
        }
        app.stop().await;
    }
}

/// A charge whose payer never confirms is being asked about and reversed.
pub async fn reversing(point: &'static str) {
    for run in Run::charging(point)
        .into_iter()
        .filter(|run| !run.client_returns)
    {
        let stage = Stage::new().await;
        let mut first = stage.asking(run.first, &[]).await;
        let mut body = barcode(run.first, 7);
        body["wait"] = 0.into();
        let waiting = first.client.pay(&body).await.expect(202);
        first.child.kill().await.unwrap();
        stage.age(70).await;
        stage.killed_by_itself(run).await;
        let app = stage.restart().await;
        let failed = ended(&app, waiting["id"].as_str().unwrap()).await;
        assert_eq!(
            (&failed["status"], live(&failed)),
            (&json!("failed"), 0),
            "{failed:#}"
        );
        app.pay_everything().await;
        audit(&app, false).await;
        app.stop().await;
    }
}

/// Moves the time on until the payment has ended.
pub async fn ended(app: &Restarted, id: &str) -> Value {
    for pause in crate::helpers::pauses() {
        let payment = app.client.payment(id).await;
        assert!(
            live(&payment) <= 1 && payment["attempts"].as_array().unwrap().len() <= 1,
            "{payment:#}"
        );
        if ["succeeded", "failed"].contains(&payment["status"].as_str().unwrap()) {
            return payment;
        }
        app.advance(10).await;
        tokio::time::sleep(pause).await;
    }
    panic!("it does not end: {:#}", app.client.payment(id).await);
}

/// An old code is paid although its payment has its money.
pub async fn giving_back_what_came_twice(point: &'static str) {
    for run in Run::all(point)
        .into_iter()
        .filter(|run| !run.client_returns)
    {
        let stage = Stage::new().await;
        let mut doomed = stage.doomed(run).await;
        let payment = doomed.client.pay(&order()).await.expect(201);
        let old = payment["attempts"][0]["provider_order_no"]
            .as_str()
            .unwrap();
        let id = payment["id"].as_str().unwrap();
        // Its close does not get through, or comes too late.
        stage
            .control
            .fault(json!({"provider": run.first, "call": "query", "kind": "http_500"}))
            .await;
        let other = json!({"flow": "qr",
            "providers": [if run.first == "alipay" { "wechatpay" } else { "alipay" }]});
        let path = format!("/v1/payments/{id}/offers");
        let shown = doomed
            .client
            .post(&path, &fresh("key"), &other)
            .await
            .expect(201);
        stage.control.pay(&shown).await;
        doomed.client.until_status(id, "succeeded").await;
        assert_eq!(stage.control.pay_order(old).await.0, 200);
        stage.control.mend().await;
        doomed.died().await;
        let app = stage.restart().await;
        app.advance(ALL_LEASES_ARE_OVER_S).await;
        let given_back = |p: &Value| p["attempts"][0]["disposition"] == "refunded";
        for pause in crate::helpers::pauses() {
            if given_back(&app.client.payment(id).await) {
                break;
            }
            app.advance(ALL_LEASES_ARE_OVER_S).await;
            tokio::time::sleep(pause).await;
        }
        let after = app.client.payment(id).await;
        assert!(given_back(&after), "{after:#}");
        assert_eq!(
            (&after["refunds"][0]["automatic"], &after["refunds"][1]),
            (&json!(true), &json!(null))
        );
        audit(&app, false).await;
        app.stop().await;
    }
}

/// `POST /v1/payments/{id}/offers`: the first code is superseded, and nobody was shown the next
/// one.
pub async fn asking_for_another_offer(point: &'static str) {
    for run in Run::all(point) {
        let stage = Stage::new().await;
        let doomed = stage.doomed(run).await;
        let payment = doomed.client.pay(&order()).await.expect(201);
        let id = payment["id"].as_str().unwrap();
        let (path, key, body) = (
            format!("/v1/payments/{id}/offers"),
            fresh("key"),
            json!({"flow": "qr"}),
        );
        killed_by(doomed, &path, &key, &body).await;
        let app = stage.restart().await;
        app.advance(ALL_LEASES_ARE_OVER_S).await;
        if run.client_returns {
            let shown = app.repeat(&path, &key, &body).await;
            assert_ne!(shown["next_action"], payment["next_action"], "{shown:#}");
        }
        paid_in_the_end(&app, id).await;
        audit(&app, run.client_returns).await;
        app.stop().await;
    }
}

/// A till waits for its payer, who confirms; the answer is stored and never arrives.
pub async fn answering_a_till(point: &'static str) {
    for run in Run::charging(point) {
        let stage = Stage::new().await;
        let (key, mut body) = (fresh("key"), barcode(run.first, 7));
        body["wait"] = 15.into();
        let doomed = stage.doomed(run).await;
        let code = body["auth_code"].as_str().unwrap().to_owned();
        let confirming = async {
            let began = std::time::Instant::now();
            while stage.control.pay_as(&code, "paid").await.0 != 200 {
                assert!(
                    began.elapsed() < PATIENCE,
                    "nobody asks for the payer's confirmation"
                );
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        };
        tokio::join!(killed_by(doomed, "/v1/payments", &key, &body), confirming);
        let app = stage.restart().await;
        let facts = Facts::of(&app).await;
        assert_eq!(
            facts
                .count("idempotency_keys WHERE answered_state = 'succeeded'")
                .await,
            1
        );
        facts.0.close().await.unwrap();
        if run.client_returns {
            let told = app.repeat("/v1/payments", &key, &body).await;
            assert_eq!(told["status"], "succeeded", "{told:#}");
        }
        let id = app.payments().await.remove(0);
        app.client.until_status(&id, "succeeded").await;
        audit(&app, true).await;
        app.stop().await;
    }
}

/// What was booked is sealed into a block.
pub async fn sealing(point: &'static str) {
    for run in Run::unattended(point) {
        let stage = Stage::new().await;
        let mut doomed = stage
            .asking(
                run.first,
                &[
                    run.env(),
                    ("INTERLOCK__LEDGER__INTERVAL_MS", "50".to_owned()),
                ],
            )
            .await;
        let payment = doomed.client.pay(&order()).await.expect(201);
        let id = payment["id"].as_str().unwrap();
        stage.control.pay(&payment).await;
        doomed.died().await;
        let app = stage.restart().await;
        app.advance(ALL_LEASES_ARE_OVER_S).await;
        app.client.until_status(id, "succeeded").await;
        app.client.refund(id, 5000).await.expect(201);
        refunded_in_the_end(&app, id, 5000).await;
        audit(&app, true).await;
        let facts = Facts::of(&app).await;
        let began = std::time::Instant::now();
        while facts.count("ledger_entries WHERE block IS NULL").await > 0 {
            assert!(began.elapsed() < PATIENCE, "it is not sealed");
            app.advance(ALL_LEASES_ARE_OVER_S).await;
            tokio::time::sleep(std::time::Duration::from_millis(60)).await;
        }
        assert!(
            facts.count("ledger_blocks").await >= 2,
            "one before the crash, and one after it"
        );
        facts.0.close().await.unwrap();
        assert_eq!(
            app.app()
                .store
                .check_ledger(None, 5)
                .await
                .unwrap()
                .deviations,
            []
        );
        app.stop().await;
    }
}
