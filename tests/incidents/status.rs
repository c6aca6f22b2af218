//! The public page: right while all is well, while a provider is down, and while the database is
//! away.

use serde_json::{Value, json};

use super::{Chat, break_alipay, nothing, wait};
use crate::helpers::TestApp;

struct Got {
    status: u16,
    headers: reqwest::header::HeaderMap,
    text: String,
}

/// Without a key, as a shopper.
async fn get(app: &TestApp, path: &str, headers: &[(&str, &str)]) -> Got {
    let mut request = app.client.http.get(format!("{}{path}", app.client.base));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Got {
        status,
        headers,
        text: response.text().await.unwrap(),
    }
}

async fn json_of(app: &TestApp) -> Value {
    serde_json::from_str(&get(app, "/status.json", &[]).await.text).unwrap()
}

fn way<'a>(status: &'a Value, provider: &str, flow: &str) -> &'a Value {
    let ways = status["ways"].as_array().unwrap();
    ways.iter()
        .find(|way| way["provider"] == provider && way["flow"] == flow)
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn shoppers_read_in_their_language_that_all_is_well() {
    let app = TestApp::start().await;
    let chinese = get(&app, "/status", &[]).await;
    assert_eq!(chinese.status, 200);

    for part in [
        "所有支付方式正常",
        "支付宝",
        "微信支付",
        "银联",
        "没有发生故障",
        "款项不会丢失",
    ] {
        assert!(chinese.text.contains(part), "{part}: {}", chinese.text);
    }

    let english = get(&app, "/status", &[("Accept-Language", "en-GB,zh;q=0.5")]).await;
    assert!(
        english.text.contains("All ways to pay work"),
        "{}",
        english.text
    );

    assert_eq!(english.headers["content-language"], "en");
    assert_eq!(english.headers["vary"], "Accept-Language");
    let chosen = get(&app, "/status?lang=zh", &[("Accept-Language", "en")]).await;
    assert_eq!(chosen.headers["content-language"], "zh-CN");

    // Whoever stands between may keep it, and who has it is told so in a few bytes.
    assert!(
        english.headers["cache-control"]
            .to_str()
            .unwrap()
            .starts_with("public, max-age=")
    );

    let tag = chosen.headers["etag"].to_str().unwrap();
    let again = get(&app, "/status?lang=zh", &[("If-None-Match", tag)]).await;

    assert!(
        again.status == 304 && again.text.is_empty() || again.headers["etag"] != tag,
        "{}",
        again.status
    );

    // Nothing of anybody's, and nothing from elsewhere.
    for secret in [&*app.alipay, &app.merchant, "demo", "<script", "http:"] {
        assert!(!chosen.text.contains(secret), "{secret}");
    }
    let policy = chosen.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("default-src 'none'"), "{policy}");

    app.client
        .get("/status?lang=fr")
        .await
        .problem(422, "invalid_parameter", Some("lang"));
    app.client
        .post("/status", "unused", &json!({}))
        .await
        .problem(405, "method_not_allowed", None);
    let status = json_of(&app).await;

    assert_eq!(
        (&status["status"], &status["service_away"]),
        (&json!("works"), &json!(false))
    );
    assert!(
        status["ways"]
            .as_array()
            .unwrap()
            .iter()
            .all(|way| way["status"] == "works" && way["since"].is_null())
    );

    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shoppers_are_told_what_does_not_work_and_since_when() {
    let chat = Chat::start().await;
    let app = chat.gateway(&[]).await;
    break_alipay(&app).await;
    chat.until(1, nothing).await;
    // The page is a second old at the most.
    wait("the page shows it", async || {
        way(&json_of(&app).await, "alipay", "qr")["status"] == "out_of_order"
    })
    .await;
    let status = json_of(&app).await;
    assert_eq!(status["status"], "disturbed");
    assert!(way(&status, "alipay", "qr")["since"].is_string());
    assert_eq!(way(&status, "wechatpay", "qr")["status"], "works");
    assert_eq!(way(&status, "alipay", "barcode")["status"], "works");
    let [past] = status["history"].as_array().unwrap().as_slice() else {
        panic!("{status:#}")
    };
    assert_eq!(
        (&past["provider"], &past["ended_at"]),
        (&json!("alipay"), &Value::Null)
    );
    wait("people read it", async || {
        get(&app, "/status?lang=zh", &[])
            .await
            .text
            .contains("暂不可用")
    })
    .await;
    let page = get(&app, "/status?lang=en", &[]).await.text;
    for part in [
        "Some ways to pay are disturbed",
        "out of order",
        "since 20",
        "Nothing that was paid is lost",
        "now",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert!(
        !page.contains(&*app.alipay) && !page.contains("inc_"),
        "{page}"
    );

    // With the database away nobody can pay: the page says so, and that nothing is lost.
    app.app().store.clone().close().await.unwrap();
    wait("the page shows that, too", async || {
        json_of(&app).await["service_away"] == true
    })
    .await;
    wait("people read that", async || {
        get(&app, "/status?lang=en", &[])
            .await
            .text
            .contains("New payments are not possible for the moment")
    })
    .await;
    let status = json_of(&app).await;
    assert_eq!(
        (&status["status"], &way(&status, "alipay", "qr")["status"]),
        (&json!("out_of_order"), &json!("out_of_order"))
    );
    app.stop().await;
}
