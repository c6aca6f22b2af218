//! The database is the last to say no: written past the code it refuses what must never be, and
//! group commit keeps changes apart that share a transaction.

mod group_commit;
mod instances;

use interlock::domain::attempt::State;
use interlock::domain::id::{
    self, AccountId, AttemptId, InstallationPrefix, MerchantId, PaymentId,
};
use interlock::domain::payment::State as PaymentState;
use interlock::domain::{Aggregate, Attempt, Owner, Payment, Timestamp};
use interlock::store::{NewAccount, Store};
use providers::money::Money;
use providers::order::Flow;
use sea_orm::SqlErr;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::helpers::facts::Facts;
use crate::helpers::{TestApp, database, fresh, order};

/// A database with a merchant and an account, and no gateway.
pub struct Bench {
    pub store: Store,
    facts: Facts,
    url: String,
    owner: Owner,
    account: AccountId,
    _folder: TempDir,
}

pub const NOW: Timestamp = Timestamp(1_800_000_000_000);

impl Bench {
    pub async fn new() -> Self {
        crate::helpers::install_crypto();
        let folder = TempDir::new().unwrap();
        let url = database(folder.path()).await;
        let store = Store::open(&url, 4, crate::helpers::PATIENCE)
            .await
            .unwrap();
        let owner = Owner::of(
            store
                .merchant("demo", &MerchantId::new().unwrap(), NOW)
                .await
                .unwrap(),
            false,
        );

        let account = NewAccount {
            id: AccountId::new().unwrap(),
            owner: owner.clone(),
            provider: "alipay".to_owned(),
            identity: "one".to_owned(),
            name: "one".to_owned(),
            disabled: false,
            fee_bps: 60,
            credentials: vec![0],
            set_aside_until: None,
            set_aside_reason: None,
            terms: None,
            created_at: NOW,
        };

        assert!(store.add_account(&account).await.unwrap());
        let facts = Facts(crate::helpers::connect(&url).await);

        Self {
            store,
            facts,
            url,
            owner,
            account: account.id,
            _folder: folder,
        }
    }

    /// An open payment with one attempt that is being sent.
    pub fn payment(&self) -> Aggregate {
        let payment = Payment {
            id: PaymentId::new().unwrap(),
            owner: self.owner.clone(),
            order_id: fresh("order"),
            amount: Money::fen(8888).unwrap(),
            description: "tea".to_owned(),
            flow: Flow::Qr,
            providers: Vec::new(),
            status: PaymentState::Created,
            failure: None,
            return_url: None,
            notify_url: None,
            client_ip: None,
            store: None,
            metadata: json!({}),
            round: 0,
            version: 0,
            resume_at: Some(NOW),
            parked_at: None,
            lease_until: None,
            cancel_requested_at: None,
            paid_at: None,
            created_at: NOW,
            expires_at: NOW.plus_s(900),
            ledger: None,
        };

        let mut aggregate = Aggregate {
            payment,
            attempts: Vec::new(),
            refunds: Vec::new(),
        };

        self.add_attempt(&mut aggregate, State::Sending);
        aggregate
    }

    fn add_attempt(&self, aggregate: &mut Aggregate, status: State) {
        let prefix = InstallationPrefix::parse("T").unwrap();

        aggregate.attempts.push(Attempt {
            id: AttemptId::new().unwrap(),
            payment_id: aggregate.payment.id.clone(),
            seq: i32::try_from(aggregate.attempts.len()).unwrap() + 1,
            round: 0,
            account_id: self.account.clone(),
            provider: "alipay".parse().unwrap(),
            flow: Flow::Qr,
            status,
            disposition: None,
            provider_order_no: id::order_no(&prefix).unwrap(),
            provider_transaction_id: None,
            provider_request_id: None,
            amount: aggregate.payment.amount,
            captured: None,
            payer_amount: None,
            payer: None,
            paid_at: None,
            outcome: None,
            failure: None,
            next_action: None,
            reason: json!({}),
            started_at: NOW,
            call_deadline: NOW,
            offer_deadline: NOW,
            latency_ms: None,
            next_check_at: None,
            query_count: 0,
            reversal: None,
            reversal_in_doubt: false,
            not_found_since: None,
            returning: false,
            told_paid: false,
        });
    }

    pub async fn close(self) {
        self.facts.0.close().await.unwrap();
        self.store.close().await.unwrap();
    }
}

/// Copies a row, with other values in some columns.
async fn copy(
    facts: &Facts,
    table: &str,
    row: &Value,
    columns: &[(&str, &str)],
) -> Result<u64, sea_orm::DbErr> {
    let names: Vec<&String> = row.as_object().unwrap().keys().collect();
    let values: Vec<String> = names
        .iter()
        .map(
            |name| match columns.iter().find(|(column, _)| column == name) {
                Some((_, value)) => format!("'{value}'"),
                None => format!("\"{name}\""),
            },
        )
        .collect();

    let names: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
    let (names, values, id) = (
        names.join(", "),
        values.join(", "),
        row["id"].as_str().unwrap(),
    );

    facts
        .execute(&format!(
            "INSERT INTO {table} ({names}) SELECT {values} FROM {table} WHERE id = '{id}'"
        ))
        .await
}

/// The database refuses because of this index, and of nothing else.
#[track_caller]
fn refused(result: Result<u64, sea_orm::DbErr>, index: &str, columns: &str) {
    let error = result.expect_err(index);
    assert!(
        matches!(error.sql_err(), Some(SqlErr::UniqueConstraintViolation(_))),
        "{index}: {error}"
    );
    let text = error.to_string();
    // PostgreSQL names the index, SQLite its columns.
    assert!(
        text.contains(index) || text.contains(columns),
        "{index}: {text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_refuses_a_second_live_and_a_second_kept_attempt() {
    let app = TestApp::start().await;
    let facts = Facts::of(&app).await;
    app.client.pay(&order()).await.expect(201);
    let attempt = facts.rows("SELECT * FROM attempts").await.remove(0);
    let another = |status| {
        [
            ("id", "att_2"),
            ("seq", "2"),
            ("provider_order_no", "IL2"),
            ("status", status),
        ]
    };

    for status in [
        "sending",
        "unknown",
        "awaiting_payer",
        "closing",
        "reversing",
    ] {
        let second = copy(&facts, "attempts", &attempt, &another(status)).await;
        refused(second, "attempts_one_live", "attempts.payment_id");
    }

    // What is not alive may stand beside it, and cannot be made alive.
    for (seq, status) in ["abandoned", "superseded", "captured", "dead", "reversed"]
        .iter()
        .enumerate()
    {
        let (id, no, seq) = (
            format!("att_{status}"),
            format!("IL{status}"),
            (seq + 2).to_string(),
        );
        let columns = [
            ("id", id.as_str()),
            ("seq", &seq),
            ("provider_order_no", &no),
            ("status", status),
        ];
        assert_eq!(
            copy(&facts, "attempts", &attempt, &columns).await.unwrap(),
            1
        );
        let alive = format!("UPDATE attempts SET status = 'closing' WHERE id = '{id}'");
        refused(
            facts.execute(&alive).await,
            "attempts_one_live",
            "attempts.payment_id",
        );
    }

    assert_eq!(
        facts
            .execute("UPDATE attempts SET disposition = 'kept' WHERE id = 'att_captured'")
            .await
            .unwrap(),
        1
    );

    let second = facts
        .execute("UPDATE attempts SET disposition = 'kept' WHERE id = 'att_dead'")
        .await;
    refused(second, "attempts_one_kept", "attempts.payment_id");
    let due = facts
        .execute("UPDATE attempts SET disposition = 'refund_due' WHERE id = 'att_dead'")
        .await;

    assert_eq!(
        due.unwrap(),
        1,
        "money that is owed back may stand beside it"
    );

    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_refuses_a_second_open_payment_of_an_order_and_a_provider_number_used_before()
{
    let app = TestApp::start().await;
    let facts = Facts::of(&app).await;
    let paid = app.paid().await;
    let payment = facts.rows("SELECT * FROM payments").await.remove(0);

    for status in ["created", "requires_action", "processing", "succeeded"] {
        let second = copy(
            &facts,
            "payments",
            &payment,
            &[("id", "pay_2"), ("status", status)],
        )
        .await;
        refused(
            second,
            "payments_order",
            "payments.merchant_id, payments.livemode, payments.order_id",
        );
    }

    for status in ["failed", "canceled", "expired"] {
        let id = format!("pay_{status}");
        let columns = [("id", id.as_str()), ("status", status)];
        assert_eq!(
            copy(&facts, "payments", &payment, &columns).await.unwrap(),
            1
        );
        let open = format!("UPDATE payments SET status = 'created' WHERE id = '{id}'");
        refused(
            facts.execute(&open).await,
            "payments_order",
            "payments.merchant_id, payments.livemode, payments.order_id",
        );
    }

    let attempt = facts.rows("SELECT * FROM attempts").await.remove(0);
    let columns = [
        ("id", "att_2"),
        ("payment_id", "pay_failed"),
        ("status", "dead"),
        ("disposition", "refunded"),
    ];

    let reused = copy(&facts, "attempts", &attempt, &columns).await;
    refused(reused, "provider_order_no", "attempts.provider_order_no");
    let no_payment = [
        ("id", "att_3"),
        ("payment_id", "pay_none"),
        ("provider_order_no", "IL3"),
        ("status", "dead"),
    ];

    assert!(
        copy(&facts, "attempts", &attempt, &no_payment)
            .await
            .is_err(),
        "an attempt of no payment"
    );

    let id = paid["id"].as_str().unwrap();
    assert_eq!(
        app.client.payment(id).await,
        paid,
        "what was there is as it was"
    );

    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_refuses_a_refund_number_used_before_and_a_second_automatic_refund() {
    let app = TestApp::start().await;
    let facts = Facts::of(&app).await;
    let paid = app.paid().await;

    app.client
        .refund(paid["id"].as_str().unwrap(), 1)
        .await
        .expect(201);
    let refund = facts.rows("SELECT * FROM refunds").await.remove(0);
    let merchants = copy(
        &facts,
        "refunds",
        &refund,
        &[("id", "re_2"), ("provider_refund_no", "IL2")],
    )
    .await;

    refused(
        merchants,
        "refunds_merchant_no",
        "refunds.merchant_id, refunds.livemode, refunds.merchant_refund_no",
    );

    let providers = copy(
        &facts,
        "refunds",
        &refund,
        &[("id", "re_2"), ("merchant_refund_no", "2")],
    )
    .await;

    refused(
        providers,
        "refunds_provider_no",
        "refunds.attempt_id, refunds.provider_refund_no",
    );

    let automatic = async |n: &str, status: &str| {
        let id = format!("re_{n}");
        let columns = [
            ("id", id.as_str()),
            ("provider_refund_no", n),
            ("merchant_refund_no", n),
            ("status", status),
            ("automatic", "1"),
        ];
        copy(&facts, "refunds", &refund, &columns).await
    };

    assert_eq!(automatic("2", "failed").await.unwrap(), 1);
    assert_eq!(
        automatic("3", "pending").await.unwrap(),
        1,
        "after one that failed there may be another"
    );

    for status in ["pending", "abnormal"] {
        refused(
            automatic("4", status).await,
            "refunds_one_automatic",
            "refunds.attempt_id",
        );
    }

    // What has failed may be carried out all the same: that is a fact, and facts are never refused.
    assert_eq!(automatic("5", "succeeded").await.unwrap(), 1);
    app.stop().await;
}
