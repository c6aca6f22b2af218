//! The machine's clock itself is set under gateways that work: by libfaketime, which each of them
//! is started with, and a file that says how wrong the clock is. After each time a payment of
//! UnionPay is paid, and everything that follows from that has to happen as fast as otherwise.
//! Without libfaketime nothing is shown, and the drill says so.
#![expect(
    clippy::indexing_slicing,
    reason = "a JSON value gives null for what it has not"
)]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::cluster::Stage;
use super::error::Error;
use super::merchant::{Answer, Shop};
use super::scenario::{Plan, Set};
use crate::domain::id::{NotAnId, PaymentId};

/// Every job goes on within this much, beyond its own pause.
const GOES_ON_WITHIN: Duration = Duration::from_secs(2);
/// What follows from a payment: that it is known, told of and sealed. A second is the pause between
/// two sealings.
const FOLLOWS_WITHIN: Duration = Duration::from_secs(4);
/// A slew takes so many small steps, and so long.
const SLEWED_IN: i64 = 20;
const SLEW_STEP: Duration = Duration::from_millis(50);
/// Jobs are looked at so often.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Beyond this nobody waits any longer.
const PATIENCE: Duration = Duration::from_secs(20);
/// Where Debian puts it.
const FOLDERS: &str = "/usr/lib";

/// What breaks a rule, and which.
type TooSlow = Vec<(&'static str, String)>;

/// The library that shows processes another time.
///
/// # Errors
/// [`Error`]: it is not here.
pub fn library() -> Result<PathBuf, Error> {
    let in_folder = |folder: &Path| {
        let file = folder.join("faketime/libfaketimeMT.so.1");
        file.is_file().then_some(file)
    };
    let folders = std::fs::read_dir(FOLDERS)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()));
    let found = [PathBuf::from(FOLDERS)]
        .into_iter()
        .chain(folders)
        .find_map(|folder| in_folder(&folder));
    let missing = "libfaketime is not here, and without it no clock can be set: install Debian's \
                   package libfaketime";
    found.ok_or_else(|| Error(missing.to_owned()))
}

/// Sets clocks as the plan says, and looks after each time what has stood still.
///
/// # Errors
/// [`Error`].
pub async fn set_clocks(stage: &Stage, shop: &Shop, plan: &Plan) -> Result<TooSlow, Error> {
    // Made while all clocks are right: a code of a wrong hour could not be paid.
    let mut waiting = Vec::new();
    for number in 0..=plan.sets.len() {
        waiting.push(offer(shop, plan.seed, number).await?);
    }
    let (mut too_slow, mut wrong) = (Vec::new(), vec![0; plan.gateways]);
    let Some((first, others)) = waiting.split_first() else {
        return Ok(too_slow);
    };
    let usual = follows(stage, shop, first).await;

    tracing::info!(
        ?usual,
        "what follows from a payment, while clocks are right"
    );
    for (set, payment) in plan.sets.iter().zip(others) {
        set_clock(stage, set, &mut wrong).await?;
        let (stood_still, followed) = tokio::join!(
            watch_for(stage, GOES_ON_WITHIN * 2),
            follows(stage, shop, payment)
        );
        if let Some(job) = stood_still? {
            too_slow.push(("jobs_go_on", format!("after {set:?}: {job}")));
        }
        match followed {
            Ok(took) if took <= FOLLOWS_WITHIN => {}
            Ok(took) => too_slow.push((
                "known_in_time",
                format!("after {set:?}: {took:?} to be known, told and sealed"),
            )),
            Err(what) => too_slow.push(("known_in_time", format!("after {set:?}: {what}"))),
        }
    }

    for number in 0..plan.gateways {
        stage.set_clock(number, 0)?;
    }
    Ok(too_slow)
}

async fn set_clock(stage: &Stage, set: &Set, wrong: &mut [i64]) -> Result<(), Error> {
    let steps = if set.slewed { SLEWED_IN } else { 1 };
    for step in 1..=steps {
        for (number, from_s) in wrong.iter().enumerate().take(set.gateways) {
            stage.set_clock(number, from_s + (set.to_s - from_s) * step / steps)?;
        }
        if set.slewed {
            tokio::time::sleep(SLEW_STEP).await;
        }
    }
    wrong
        .iter_mut()
        .take(set.gateways)
        .for_each(|wrong| *wrong = set.to_s);
    Ok(())
}

/// Ends with the first job that stands still.
async fn watch(stage: &Stage) -> Result<Option<String>, Error> {
    loop {
        for number in 0..stage.gateways() {
            let jobs = stage.jobs(number).await?;
            let late = jobs
                .into_iter()
                .find(|(_, ms)| Duration::from_millis(*ms) > GOES_ON_WITHIN);
            if let Some((job, ms)) = late {
                return Ok(Some(format!(
                    "{job} of gateway {number} has done nothing for {ms} ms more than its pause"
                )));
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn watch_for(stage: &Stage, length: Duration) -> Result<Option<String>, Error> {
    tokio::time::timeout(length, watch(stage))
        .await
        .unwrap_or(Ok(None))
}

/// A code of UnionPay that can be paid for two hours.
async fn offer(shop: &Shop, seed: u64, number: usize) -> Result<Value, Error> {
    let key = format!("key-clock-{seed}-{number}");
    let body = json!({
        "amount": 100 + number, "currency": "CNY", "order_id": format!("clock-{seed}-{number}"),
        "description": "Timeless tea", "flow": "qr", "providers": ["unionpay"], "expires_in": 7_200,
    });
    let request = shop
        .http
        .post(format!("{}/v1/payments", shop.gateway))
        .bearer_auth(&shop.api_key);

    let answer = request
        .header("Idempotency-Key", &key)
        .body(body.to_string())
        .send()
        .await;
    let answer = answer.map_err(|e| Error(e.to_string()))?;
    let status = answer.status().as_u16();
    let bytes = answer
        .bytes()
        .await
        .map_err(|e| Error(e.to_string()))?
        .to_vec();

    let answer = Answer {
        key,
        status,
        replayed: false,
        body: bytes,
    };
    let payment = answer.json();

    shop.log.note(number, |shopped| {
        shopped.payment = payment["id"].as_str().map(str::to_owned);
        shopped.amount = body["amount"].as_i64().unwrap_or(0);
        shopped.payable = true;
        shopped.answers.push(answer);
    });

    if payment["next_action"]["qr"].is_string() {
        Ok(payment)
    } else {
        Err(Error(format!("no code: {payment}")))
    }
}

/// The payer pays; how long it takes until everything has followed from that, or what has not.
async fn follows(stage: &Stage, shop: &Shop, payment: &Value) -> Result<Duration, String> {
    let body = json!({"code": payment["next_action"]["qr"], "result": "paid"});
    stage
        .tell("POST", "/pay", Some(body))
        .await
        .map_err(|e| e.to_string())?;
    let id = payment["id"].as_str().unwrap_or_default();
    let id: PaymentId = id.parse().map_err(|e: NotAnId| e.to_string())?;
    let looker = stage
        .looker()
        .await
        .ok_or("nobody can look into the database")?;
    let began = Instant::now();

    loop {
        let known = read(shop, &id)
            .await
            .is_some_and(|payment| payment["status"] == "succeeded");
        let followed = looker.told_and_sealed(&id).await.unwrap_or((false, false));
        match (known, followed) {
            (true, (true, true)) => return Ok(began.elapsed()),
            _ if began.elapsed() > PATIENCE => {
                let (told, sealed) = followed;
                return Err(format!(
                    "{PATIENCE:?} after it was paid: known {known}, told {told}, sealed {sealed}"
                ));
            }
            _ => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

async fn read(shop: &Shop, id: &str) -> Option<Value> {
    let asking = shop
        .http
        .get(format!("{}/v1/payments/{id}", shop.gateway))
        .bearer_auth(&shop.api_key)
        .send();
    serde_json::from_slice(&asking.await.ok()?.bytes().await.ok()?).ok()
}
