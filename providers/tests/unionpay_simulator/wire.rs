//! What the face does with requests that the adapter would not send.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{SHA256, digest};
use http::StatusCode;
use providers::sandbox::payer::{Holding, Wish};

use crate::bench::{Bench, QR};

fn sha256(text: &str) -> String {
    digest(&SHA256, text.as_bytes())
        .as_ref()
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect()
}

type Fields = BTreeMap<String, String>;

/// A merchant that signs with the shared key by its own reading of the documents, and may sign
/// wrongly.
struct Shop<'a> {
    bench: &'a Bench,
    http: reqwest::Client,
}

impl<'a> Shop<'a> {
    fn new(bench: &'a Bench) -> Self {
        Self {
            bench,
            http: providers::http::plain_client_builder().build().unwrap(),
        }
    }

    fn fields(&self, number: &str, txn: (&str, &str), more: &[(&str, &str)]) -> Fields {
        let local = self.bench.sandbox.clock().now() + chrono::TimeDelta::hours(8);
        let time = local.format("%Y%m%d%H%M%S").to_string();
        let mer_id = self.bench.settings["mer_id"].as_str().unwrap();
        let head = [
            ("version", "5.1.0"),
            ("encoding", "UTF-8"),
            ("signMethod", "11"),
            ("txnType", txn.0),
            ("txnSubType", txn.1),
            ("bizType", "000000"),
            ("accessType", "0"),
            ("merId", mer_id),
            ("orderId", number),
            ("txnTime", &time),
        ];

        head.iter()
            .chain(more)
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    }

    fn sign(&self, fields: &mut Fields) {
        let text = fields
            .iter()
            .map(|(k, v)| format!("{k}={v}"))
            .collect::<Vec<_>>()
            .join("&");
        let key = sha256(self.bench.settings["secure_key"].as_str().unwrap());
        fields.insert("signature".to_owned(), sha256(&format!("{text}&{key}")));
    }

    async fn post(&self, path: &str, fields: &Fields) -> (StatusCode, String) {
        let url = format!(
            "{}/gateway/api/{path}.do",
            self.bench.settings["base_url"].as_str().unwrap()
        );
        let body = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(fields)
            .finish();
        let request = self
            .http
            .post(url)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body);
        let answer = request.send().await.unwrap();
        (answer.status(), answer.text().await.unwrap())
    }

    /// `respCode` and `respMsg` of a signed request.
    async fn ask(&self, mut fields: Fields) -> (String, String) {
        self.sign(&mut fields);
        let (status, body) = self.post("backTransReq", &fields).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        assert!(
            body.contains("&signature="),
            "every answer is signed: {body}"
        );
        let field = |name: &str| {
            body.split('&')
                .find_map(|f| f.strip_prefix(name))
                .unwrap_or_default()
                .to_owned()
        };
        (field("respCode="), field("respMsg="))
    }
}

const APPLY: [(&str, &str); 4] = [
    ("channelType", "08"),
    ("txnAmt", "1000"),
    ("currencyCode", "156"),
    ("backUrl", "http://127.0.0.1:1/n"),
];

#[tokio::test]
async fn a_request_with_a_fault_is_refused_in_the_gateways_words() {
    let bench = Bench::start().await;
    let shop = Shop::new(&bench);
    let apply = |more: &[(&str, &str)]| shop.fields(QR, ("01", "07"), &[&APPLY, more].concat());
    for (name, value) in [
        ("orderId", "short"),
        ("orderId", "with-a-hyphen"),
        ("txnTime", "20200101000000"),
        ("txnAmt", "0100"),
        ("txnAmt", "1.00"),
        ("currencyCode", "840"),
        ("backUrl", "/n"),
        ("payTimeout", "20200101000000"),
        ("bizType", "000301"),
        ("accessType", "1"),
    ] {
        let (code, message) = shop.ask(apply(&[(name, value)])).await;
        assert_eq!(
            (code.as_str(), message),
            ("10", format!("[9100003]Invalid field[{name}]")),
            "{value}"
        );
    }
    let mut missing = apply(&[]);
    missing.remove("txnAmt");
    assert_eq!(shop.ask(missing).await.1, "[9100003]Invalid field[txnAmt]");
    assert_eq!(shop.ask(shop.fields(QR, ("02", "01"), &[])).await.0, "32");

    let mut forged = apply(&[]);
    shop.sign(&mut forged);
    forged.insert("txnAmt".to_owned(), "1".to_owned());
    let (status, body) = shop.post("backTransReq", &forged).await;
    assert_eq!(status, StatusCode::OK);
    assert!(
        body.contains("respCode=11&respMsg=[9100004]Signature verification failed"),
        "{body}"
    );
    let mut extra = apply(&[("description", "tea")]);
    shop.sign(&mut extra);
    assert_eq!(
        shop.post("backTransReq", &extra).await,
        (StatusCode::BAD_REQUEST, "Invalid request.".to_owned())
    );
    assert!(
        bench.sandbox.book().lock().orders().is_empty(),
        "nothing was done"
    );
    assert_eq!(
        shop.ask(apply(&[])).await,
        ("00".to_owned(), "成功[0000000]".to_owned())
    );
    assert_eq!(shop.ask(apply(&[])).await.0, "12");

    let front = format!(
        "{}/gateway/api/frontTransReq.do",
        bench.settings["base_url"].as_str().unwrap()
    );
    assert_eq!(
        shop.http.get(front).send().await.unwrap().status(),
        StatusCode::NOT_IMPLEMENTED
    );
}

#[tokio::test]
async fn an_undo_gives_back_the_whole_of_a_payment_of_the_same_day() {
    let bench = Bench::start().await;
    let order = bench.qr();
    bench.adapter.create(&order, &bench.call()).await;
    bench
        .sandbox
        .pay(&Holding::OrderNo(QR.to_owned()), Wish::Paid)
        .unwrap();
    let shop = Shop::new(&bench);
    let query_id = bench
        .sandbox
        .book()
        .lock()
        .by_order_no(QR)
        .unwrap()
        .transaction_id
        .clone()
        .unwrap();
    let undo = |number: &str, fen: &str| {
        let more = [
            ("channelType", "08"),
            ("txnAmt", fen),
            ("backUrl", "http://127.0.0.1:1/u"),
            ("origQryId", &query_id),
        ];
        shop.fields(number, ("31", "00"), &more)
    };
    assert_eq!(
        shop.ask(undo("UNDO0001", "999")).await.1,
        "撤销金额与原交易金额不一致[2050001]"
    );
    assert_eq!(shop.ask(undo(QR, "1000")).await.1, "重复交易[2010002]");
    let mut nobodys = undo("UNDO0002", "1000");
    nobodys.insert("origQryId".to_owned(), "000000000000000000000".to_owned());
    assert_eq!(shop.ask(nobodys).await.0, "35");
    // The official demos name the currency; there is one.
    let named = |mut fields: Fields, currency: &str| {
        fields.insert("currencyCode".to_owned(), currency.to_owned());
        fields
    };
    assert_eq!(
        shop.ask(named(undo("UNDO0003", "1000"), "840")).await.1,
        "[9100003]Invalid field[currencyCode]"
    );
    assert_eq!(
        shop.ask(named(undo("UNDO0003", "1000"), "156")).await.0,
        "00"
    );
    assert_eq!(
        shop.ask(undo("UNDO0004", "1000")).await.1,
        "原交易已被成功退货或已被成功撤销[2050002]"
    );
    bench.pass(chrono::TimeDelta::seconds(2));
    let now = bench.sandbox.clock().now();
    while bench.sandbox.book().lock().has_due_refunds(now) {
        tokio::task::yield_now().await;
    }
    assert_eq!(bench.money(QR), (1000, 1000));

    let tomorrow = providers::order::Order {
        order_no: "IL20260701QR000002".to_owned(),
        ..bench.qr()
    };
    bench.adapter.create(&tomorrow, &bench.call()).await;
    bench
        .sandbox
        .pay(&Holding::OrderNo(tomorrow.order_no.clone()), Wish::Paid)
        .unwrap();
    bench.pass(chrono::TimeDelta::days(1));
    let query_id = bench
        .sandbox
        .book()
        .lock()
        .by_order_no(&tomorrow.order_no)
        .unwrap()
        .transaction_id
        .clone()
        .unwrap();
    let more = [
        ("channelType", "08"),
        ("txnAmt", "1000"),
        ("backUrl", "http://127.0.0.1:1/u"),
        ("origQryId", &query_id),
    ];
    assert_eq!(
        shop.ask(shop.fields("UNDO0005", ("31", "00"), &more))
            .await
            .0,
        "35"
    );
    let refund = |number| named(shop.fields(number, ("04", "00"), &more), "156");
    assert_eq!(shop.ask(refund("RFND0001")).await.0, "00");
}
