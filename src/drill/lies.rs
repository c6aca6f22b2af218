//! A Redis that lies: keys that are lost, swapped, put back from an old copy, or hold what nobody
//! has written. Writes into the Redis of a run what a careless operator, an eviction, another
//! installation or a program to come might leave there.
#![expect(
    clippy::indexing_slicing,
    reason = "a JSON value gives null for what it has not"
)]

use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{Cmd, RedisResult};
use serde_json::{Value, json};
use tokio::sync::Mutex;

/// What Redis says that is not so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// A key is gone: its last word.
    Lost(&'static str),
    /// Two keys have each other's names.
    KeysSwapped,
    /// Each value lies under its neighbour's name.
    ValuesSwapped,
    /// A key is of another type.
    AnotherType(&'static str),
    /// The last version is beyond what a double can count.
    Sequence,
    /// Everything is out, and is to be asked about in thirty years.
    Far,
    /// Counters are at the most that fits, times before 1970, and numbers below nothing.
    Counters,
    /// Everything is out, as another installation might have it at this moment.
    Foreign,
    /// What a program to come might write.
    ToCome,
    /// A copy of everything is made, for later.
    Remember,
    /// The copy is put back.
    PutBack,
    /// The copy is put back again and again, for so many milliseconds: nothing that is written
    /// stays.
    Frozen(u64),
}

/// Each key with a copy of what it held.
type Copied = Vec<(String, Vec<u8>)>;

/// Whoever makes a Redis lie.
#[derive(Debug)]
pub struct Liar {
    url: String,
    copy: Mutex<Copied>,
}

impl Liar {
    /// In this Redis.
    #[must_use]
    pub fn new(url: String) -> Self {
        Self {
            url,
            copy: Mutex::default(),
        }
    }

    /// Tells a lie.
    ///
    /// # Errors
    /// The real Redis's.
    pub async fn tell(&self, lie: Lie) -> RedisResult<()> {
        let mut redis = redis::Client::open(self.url.as_str())?
            .get_multiplexed_async_connection()
            .await?;

        match lie {
            Lie::Lost(part) => {
                for key in named(&mut redis, part).await? {
                    redis::cmd("DEL")
                        .arg(key)
                        .query_async::<()>(&mut redis)
                        .await?;
                }
                Ok(())
            }
            Lie::KeysSwapped => swap_keys(&mut redis).await,
            Lie::AnotherType(part) => {
                for key in named(&mut redis, part).await? {
                    redis::cmd("SET")
                        .arg(key)
                        .arg("nothing")
                        .query_async::<()>(&mut redis)
                        .await?;
                }
                Ok(())
            }
            Lie::Sequence => {
                for key in named(&mut redis, "state").await? {
                    set(&key, "seq", "9223372036854775807")
                        .query_async::<()>(&mut redis)
                        .await?;
                }
                Ok(())
            }
            Lie::ValuesSwapped => swap_values(&mut redis).await,
            Lie::Far | Lie::Counters | Lie::Foreign | Lie::ToCome => {
                rewrite(&mut redis, |value| distort(lie, value)).await
            }
            Lie::Remember => {
                let copy = copied(&mut redis).await?;
                *self.copy.lock().await = copy;
                Ok(())
            }
            Lie::PutBack => put_back(&mut redis, &*self.copy.lock().await).await,
            Lie::Frozen(ms) => {
                let (began, copy) = (Instant::now(), self.copy.lock().await.clone());
                while began.elapsed() < Duration::from_millis(ms) {
                    put_back(&mut redis, &copy).await?;
                    tokio::time::sleep(Duration::from_millis(15)).await;
                }
                Ok(())
            }
        }
    }
}

/// All keys of health, of whatever installation, that end in this word.
async fn named(redis: &mut MultiplexedConnection, part: &str) -> RedisResult<Vec<String>> {
    redis::cmd("KEYS")
        .arg(format!("*:health:*:{part}"))
        .query_async(redis)
        .await
}

fn set(key: &str, field: &str, value: &str) -> Cmd {
    let mut cmd = redis::cmd("HSET");
    cmd.arg(key).arg(field).arg(value);
    cmd
}

async fn copied(redis: &mut MultiplexedConnection) -> RedisResult<Copied> {
    let mut copy = Vec::new();
    for key in named(redis, "*").await? {
        let dump: Option<Vec<u8>> = redis::cmd("DUMP").arg(&key).query_async(redis).await?;
        copy.extend(dump.map(|dump| (key, dump)));
    }
    Ok(copy)
}

/// All keys at one moment.
async fn put_back(redis: &mut MultiplexedConnection, copy: &Copied) -> RedisResult<()> {
    let mut together = redis::pipe();
    together.atomic();
    for (key, dump) in copy {
        together
            .cmd("RESTORE")
            .arg(key)
            .arg(0)
            .arg(dump.as_slice())
            .arg("REPLACE")
            .ignore();
    }
    together.query_async(redis).await
}

async fn swap_keys(redis: &mut MultiplexedConnection) -> RedisResult<()> {
    for versions in named(redis, "versions").await? {
        let values = versions.replace(":versions", ":values");
        let mut together = redis::pipe();
        together.atomic();
        together.cmd("RENAME").arg(&versions).arg("aside").ignore();
        together.cmd("RENAME").arg(&values).arg(&versions).ignore();
        together.cmd("RENAME").arg("aside").arg(&values).ignore();
        together.query_async::<()>(redis).await?;
    }
    Ok(())
}

async fn swap_values(redis: &mut MultiplexedConnection) -> RedisResult<()> {
    for key in named(redis, "values").await? {
        let all: Vec<(String, String)> = redis::cmd("HGETALL").arg(&key).query_async(redis).await?;
        let moved = all
            .iter()
            .map(|(name, _)| name)
            .zip(all.iter().cycle().skip(1).map(|(_, value)| value));
        for (name, value) in moved {
            write(redis, &key, name, value).await?;
        }
    }
    Ok(())
}

/// Makes something else of every value.
async fn rewrite(redis: &mut MultiplexedConnection, work: impl Fn(&mut Value)) -> RedisResult<()> {
    for key in named(redis, "values").await? {
        let all: Vec<(String, String)> = redis::cmd("HGETALL").arg(&key).query_async(redis).await?;
        for (name, text) in all {
            let Ok(mut value) = serde_json::from_str::<Value>(&text) else {
                continue;
            };
            work(&mut value);
            write(redis, &key, &name, &value.to_string()).await?;
        }
    }
    Ok(())
}

/// Writes a value as a gateway would: under a version that all gateways have still to see.
async fn write(
    redis: &mut MultiplexedConnection,
    values: &str,
    name: &str,
    value: &str,
) -> RedisResult<()> {
    let (state, versions) = (
        values.replace(":values", ":state"),
        values.replace(":values", ":versions"),
    );
    let version: i64 = redis::cmd("HINCRBY")
        .arg(state)
        .arg("seq")
        .arg(1)
        .query_async(redis)
        .await?;

    let mut together = redis::pipe();
    together.atomic();
    together
        .cmd("ZADD")
        .arg(versions)
        .arg(version)
        .arg(name)
        .ignore();

    together.add_command(set(values, name, value)).ignore();
    together.query_async(redis).await
}

fn distort(lie: Lie, value: &mut Value) {
    if value["vital"].is_null() {
        return;
    }
    let own = value["vital"]["own"].as_i64().unwrap_or(0);
    let out = |value: &mut Value, next_probe: i64| {
        let breaker = &mut value["vital"]["breaker"];
        breaker["gate"] = "open".into();
        (breaker["since"], breaker["next_probe"]) = (own.into(), next_probe.into());
        (breaker["progress"], breaker["before"]) = (0.into(), "closed".into());
        breaker["of"] = Value::Null;
    };

    match lie {
        Lie::Far => out(value, own.saturating_add(1_000_000_000_000)),
        Lie::Foreign => out(value, own),
        Lie::Counters => {
            out(value, own);
            value["vital"]["breaker"]["trips"] = u32::MAX.into();
            value["vital"]["breaker"]["since_ms"] = (-1).into();
            value["vital"]["score"]["failed"] = json!(-1e300);
            value["vital"]["window"] = json!([{"at": i64::MAX, "good": 0, "failed": u32::MAX}]);
        }
        Lie::ToCome => {
            out(value, own);
            value["format"] = 99.into();
            value["vital"]["moods"] = json!({"monday": 1});
        }
        Lie::Lost(_)
        | Lie::KeysSwapped
        | Lie::ValuesSwapped
        | Lie::AnotherType(_)
        | Lie::Sequence
        | Lie::Remember
        | Lie::PutBack
        | Lie::Frozen(_) => {}
    }
}
