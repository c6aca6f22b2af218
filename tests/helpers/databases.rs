//! Databases of each test's own, on whatever kind of server the run is about.

use std::path::Path;

use super::PATIENCE;

/// Databases that the tests share on one PostgreSQL, each with a schema of its own.
const SHARDS: usize = 32;

/// Whether this run is about PostgreSQL.
pub fn on_postgres() -> bool {
    std::env::var("INTERLOCK_TEST_DATABASE").is_ok_and(|kind| kind == "postgres")
}

/// The address of a fresh database: a file in `folder`, or a schema of its own in the run's
/// PostgreSQL.
pub async fn database(folder: &Path) -> String {
    match std::env::var("INTERLOCK_TEST_DATABASE").as_deref() {
        Ok("postgres") => {
            let server = std::env::var("INTERLOCK_TEST_POSTGRES")
                .expect("tests/run starts a PostgreSQL and names it");
            // By chance, not by process: ids of processes come again.
            let token = interlock::domain::id::token().unwrap().to_lowercase();
            let schema = format!("test_{token}");
            // Gateways that start in one database wait for each other's migrations: so there are
            // several.
            let shard = format!(
                "shard_{}",
                token.bytes().map(usize::from).sum::<usize>() % SHARDS
            );
            let db = connect(&server).await;
            // Another test may have made it.
            let _ = sea_orm::ConnectionTrait::execute_unprepared(
                &db,
                &format!("CREATE DATABASE {shard}"),
            )
            .await;
            db.close().await.unwrap();
            let server = format!("{}/{shard}", server.rsplit_once('/').unwrap().0);
            let db = connect(&server).await;
            sea_orm::ConnectionTrait::execute_unprepared(&db, &format!("CREATE SCHEMA {schema}"))
                .await
                .unwrap();
            db.close().await.unwrap();
            format!("{server}?options=-c%20search_path%3D{schema}")
        }
        Ok("sqlite") | Err(_) => format!("sqlite://{}", folder.join("interlock.db").display()),
        Ok(other) => panic!("INTERLOCK_TEST_DATABASE={other}: sqlite or postgres"),
    }
}

/// Says in a fresh database of which installation it is: the gateways of one share their health.
pub async fn name_installation(database: &str, name: &str) {
    let store = interlock::store::Store::open(database, 1, PATIENCE)
        .await
        .unwrap();
    store
        .installation(interlock::jobs::health::INSTALLATION, name)
        .await
        .unwrap();
    store.close().await.unwrap();
}

/// A second way to a database, past the gateway's code. Without the timeouts whose task may spin
/// for ever: see `src/store/mod.rs`.
pub async fn connect(url: &str) -> sea_orm::DatabaseConnection {
    let mut options = sea_orm::ConnectOptions::new(url);
    options
        .idle_timeout(None)
        .max_lifetime(None)
        .sqlx_logging(false);
    sea_orm::Database::connect(options).await.unwrap()
}
