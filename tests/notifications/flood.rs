//! An account that signs what nobody has asked for.

use providers::sandbox::simulator::Alteration;
use sea_orm::ConnectionTrait as _;

use super::pen::Pen;
use super::{NO_JOBS, Told, is_told, post, unheard};
use crate::helpers::{TestApp, rows};

/// Whoever has an account can sign whatever it likes.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_account_signs_about_orders_of_nobody_fills_neither_database_nor_work_list() {
    let app = TestApp::with(&NO_JOBS).await;
    let db = app.db().await;
    let (_, order) = unheard(&app, "wechatpay").await;
    let pen = Pen::new(&app, "wechatpay");
    let nobodys = |n: u32| {
        let number = format!("ILnobodyhasmadethis{n:09}");
        pen.edited(
            &pen.paid(&order, n, Alteration::None),
            "out_trade_no",
            Some(&number),
        )
    };
    for n in 0..105 {
        let told = nobodys(n);
        let answer = post(&app, &app.wechatpay, &told.headers, told.body.clone()).await;
        is_told(
            "wechatpay",
            &answer,
            if n < 100 { Told::Stop } else { Told::Refuse },
        );
    }
    let kept: Vec<usize> = rows::counts(&db, &["operations", "notifications"])
        .await
        .iter()
        .map(|(_, n)| *n)
        .collect();
    assert_eq!(kept, [101, 100], "one more entry says that there are more");

    // Money on an order of ours is known all the same.
    let paid = pen.paid(&order, 200, Alteration::None);
    is_told(
        "wechatpay",
        &post(&app, &app.wechatpay, &paid.headers, paid.body.clone()).await,
        Told::Stop,
    );

    // As soon as somebody has looked at them, what is sent again is taken.
    db.execute_unprepared("UPDATE operations SET resolved_at = 1")
        .await
        .unwrap();
    let again = nobodys(104);
    is_told(
        "wechatpay",
        &post(&app, &app.wechatpay, &again.headers, again.body.clone()).await,
        Told::Stop,
    );
    app.stop().await;
}
