//! Whether a provider that was mended takes payments again, on every gateway and in time.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::cluster::Stage;
use super::merchant::{Shop, Shopper};
use super::scenario::{Habits, Plan};

/// It has to be back by then.
const BACK_WITHIN: Duration = Duration::from_secs(30);

/// On which gateways a provider is not back in time that has to be. Redis may go on lying
/// meanwhile; payments are made there, since only they can prove that it works.
pub(super) async fn not_back(plan: &Plan, stage: &Stage, shop: &Shop) -> Vec<String> {
    let Some(provider) = plan.returns else {
        return Vec::new();
    };
    let (began, mut number, mut shoppers) = (Instant::now(), plan.payments, JoinSet::new());
    let missing = loop {
        let mut away = Vec::new();
        for gateway in 0..stage.gateways() {
            let Some(address) = stage.address(gateway) else {
                continue;
            };
            if is_in(shop, address, provider).await {
                continue;
            }
            away.push(format!(
                "{provider} is not back on gateway {gateway} after {BACK_WITHIN:?}"
            ));
            let shop = Shop {
                gateway: format!("http://{address}"),
                ..shop.clone()
            };
            shoppers.spawn(Shopper::new(shop, number, plan.seed, Habits::default()).run());
            number += 1;
        }
        if away.is_empty() || began.elapsed() > BACK_WITHIN {
            break away;
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    };

    while shoppers.join_next().await.is_some() {}
    missing
}

/// Whether a gateway says that a provider takes payments.
async fn is_in(shop: &Shop, address: SocketAddr, provider: &str) -> bool {
    let asked = shop
        .http
        .get(format!("http://{address}/metrics"))
        .timeout(Duration::from_secs(2))
        .send()
        .await;
    let Ok(answer) = asked else { return false };
    let text = answer.text().await.unwrap_or_default();

    let named = |line: &&str| {
        let labels = [
            format!("provider=\"{provider}\""),
            "flow=\"qr\"".to_owned(),
            "mode=\"test\"".to_owned(),
        ];
        line.starts_with("interlock_breaker_state{")
            && labels.iter().all(|label| line.contains(label))
    };

    let state = text
        .lines()
        .find(named)
        .and_then(|line| line.rsplit(' ').next());

    // 0: closed. 1: it has come back and takes a growing share.
    matches!(state, Some("0" | "1"))
}
