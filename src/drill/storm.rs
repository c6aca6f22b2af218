//! A storm: payments come as fast as they can be made, each is paid at once, and nobody tells the
//! gateways. They have to find out by asking: about charges in doubt at their own times, about all
//! others within 45 seconds of the last payer.
#![expect(
    clippy::indexing_slicing,
    reason = "a JSON value gives null for what it has not"
)]

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::cluster::Stage;
use super::error::Error;
use super::merchant::{Answer, Shop};
use super::scenario::{Plan, Storm};

/// All are known so long after the last payer has paid.
const KNOWN_WITHIN: Duration = Duration::from_secs(45);
/// A charge whose answer is lost is asked about a second after it was begun, and if that says
/// nothing two seconds later: whoever stands at the till knows by then.
const DECIDED_WITHIN: Duration = Duration::from_secs(8);
/// How long one request may take.
const PATIENCE: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// A code expires in so many seconds.
const EXPIRES_IN_S: u64 = 905;

/// What breaks a rule, and which.
type TooSlow = Vec<(&'static str, String)>;

/// Carries it out.
///
/// # Errors
/// [`Error`].
pub async fn storm(
    stage: &Stage,
    shop: &Shop,
    plan: &Plan,
    storm: Storm,
) -> Result<TooSlow, Error> {
    for fault in &plan.faults {
        stage.tell("PUT", "/faults", Some(fault.clone())).await?;
    }
    let places = Arc::new(Semaphore::new(plan.at_once));
    let mut left_lying = JoinSet::new();
    for number in plan.payments..plan.payments + storm.expired {
        let place = Arc::clone(&places)
            .acquire_owned()
            .await
            .map_err(|e| Error(e.to_string()))?;
        let (shop, seed) = (shop.clone(), plan.seed);
        left_lying.spawn(async move {
            let _place = place;
            let body = code(&format!("left-{seed}-{number}"), "alipay");
            make(&shop, number, seed, &body, false).await
        });
    }
    left_lying.join_all().await;
    stage.advance(EXPIRES_IN_S).await;

    let began = Instant::now();
    let every = (plan.payments / storm.charges.max(1)).max(1);
    let (mut payers, mut tills) = (JoinSet::new(), JoinSet::new());
    for number in 0..plan.payments {
        let place = Arc::clone(&places)
            .acquire_owned()
            .await
            .map_err(|e| Error(e.to_string()))?;
        let (shop, seed) = (shop.clone(), plan.seed);
        if number % every == every - 1 {
            // Whoever stands at the till waits beside the storm, and takes no place in it.
            tills.spawn(async move { charge(&shop, seed, number).await });
            continue;
        }
        payers.spawn(async move {
            let _place = place;
            offer(&shop, seed, number).await
        });
    }
    // What nobody has paid, for no code was made in time on a busy machine, is not waited for.
    let paid: HashSet<String> = payers.join_all().await.into_iter().flatten().collect();
    let (made_in, last_paid) = (began.elapsed(), Instant::now());

    let looker = stage
        .looker()
        .await
        .ok_or_else(|| Error("nobody can look into the database".to_owned()))?;
    let left = loop {
        let unpaid = looker
            .unpaid("storm-")
            .await
            .map_err(|e| Error(e.to_string()))?;
        let left = unpaid.iter().filter(|order| paid.contains(*order)).count();
        if left == 0 || last_paid.elapsed() >= KNOWN_WITHIN {
            break left;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    };
    let known_in = last_paid.elapsed();
    let decided: Vec<Option<Duration>> = tills.join_all().await.into_iter().flatten().collect();
    let slowest = decided.iter().flatten().max().copied().unwrap_or_default();
    let (paid, charges) = (paid.len(), decided.len());
    if paid * 2 < plan.payments || charges * 8 < storm.charges {
        return Err(Error(format!(
            "only {paid} codes were paid and {charges} charges in doubt: this is no storm"
        )));
    }
    // Standard output is the report's alone.
    eprintln!(
        "storm: {paid} codes made and paid in {made_in:?}, all known {known_in:?} after the last \
        was paid ({left} not); {charges} charges in doubt decided within {slowest:?}"
    );

    let mut too_slow = Vec::new();
    if left > 0 {
        too_slow.push((
            "known_in_time",
            format!("{left} payments are not known {KNOWN_WITHIN:?} after the last was paid"),
        ));
    }
    let late = decided
        .iter()
        .filter(|took| took.is_none_or(|took| took > DECIDED_WITHIN))
        .count();
    if late > 0 {
        too_slow.push((
            "asked_at_their_own_times",
            format!("{late} of {charges} charges took up to {slowest:?}"),
        ));
    }
    Ok(too_slow)
}

/// A code, paid as soon as it is shown; the order that was paid.
async fn offer(shop: &Shop, seed: u64, number: usize) -> Option<String> {
    let order = format!("storm-{seed}-{number}");
    let body = code(&order, "wechatpay");
    let payment = make(shop, number, seed, &body, true).await?;
    let code = json!({"code": payment["next_action"]["qr"], "result": "paid"});
    let paying = shop
        .http
        .post(format!("{}/pay", shop.sandbox))
        .body(code.to_string())
        .timeout(PATIENCE)
        .send();

    let is_paid = paying
        .await
        .is_ok_and(|answer| answer.status().is_success());
    shop.log
        .note(number, |shopped| shopped.payer_paid = is_paid);

    is_paid.then_some(order)
}

/// A charge whose answer is lost, if it was sent; how long it takes until the till knows, if it
/// ever does.
async fn charge(shop: &Shop, seed: u64, number: usize) -> Option<Option<Duration>> {
    let code = format!(
        "62{:015}{}",
        seed * 1_000_000 + u64::try_from(number).unwrap_or(0),
        10 + number % 7 * 10
    );
    let body = json!({
        "amount": 100, "currency": "CNY", "order_id": format!("storm-{seed}-{number}"),
        "description": "Tea in a storm",
        "flow": "barcode", "auth_code": code, "wait": 0,
    });

    let payment = make(shop, number, seed, &body, true).await?;
    if payment["status"] == "failed" {
        // After so many lost answers its route was out: nobody was charged, and nobody is in doubt.
        return None;
    }

    // The answer comes before the charge is sent: how long a busy machine took to make it is not
    // counted.
    let began = Instant::now();
    let url = format!(
        "{}/v1/payments/{}",
        shop.gateway,
        payment["id"].as_str().unwrap_or_default()
    );

    while began.elapsed() < KNOWN_WITHIN {
        let reading = shop
            .http
            .get(&url)
            .bearer_auth(&shop.api_key)
            .timeout(PATIENCE)
            .send();
        if let Ok(answer) = reading.await
            && let Ok(bytes) = answer.bytes().await
            && let Ok(payment) = serde_json::from_slice::<Value>(&bytes)
        {
            match payment["status"].as_str() {
                Some("succeeded") => return Some(Some(began.elapsed())),
                // Its route was out by the time it was to be sent.
                Some("failed") => return None,
                _ => {}
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }

    Some(None)
}

fn code(order_id: &str, provider: &str) -> Value {
    json!({
        "amount": 100, "currency": "CNY", "order_id": order_id, "description": "Tea in a storm",
        "flow": "qr",
        "providers": [provider],
    })
}

async fn make(shop: &Shop, number: usize, seed: u64, body: &Value, payable: bool) -> Option<Value> {
    let key = format!("key-storm-{seed}-{number}");
    shop.log.note(number, |shopped| {
        shopped.amount = body["amount"].as_i64().unwrap_or(0);
        shopped.payable = payable;
        shopped.auth_code = body["auth_code"].as_str().map(str::to_owned);
    });

    for _ in 0..5 {
        let asking = shop
            .http
            .post(format!("{}/v1/payments", shop.gateway))
            .bearer_auth(&shop.api_key);
        let asking = asking
            .header("Idempotency-Key", &key)
            .body(body.to_string())
            .timeout(PATIENCE);
        let Ok(answer) = asking.send().await else {
            continue;
        };
        let status = answer.status().as_u16();
        let Ok(bytes) = answer.bytes().await else {
            continue;
        };
        let answer = Answer {
            key: key.clone(),
            status,
            replayed: false,
            body: bytes.to_vec(),
        };
        let payment = answer.json();
        let accepted = matches!(status, 200..=202);
        shop.log.note(number, |shopped| {
            shopped.answers.push(answer);
            if accepted {
                shopped.payment = payment["id"].as_str().map(str::to_owned);
            }
        });
        if accepted {
            return Some(payment);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }

    None
}
