//! A Redis whose keys are lost, swapped, rewritten, put back, or somebody else's: what does not fit
//! together is an emptied store, and begins anew.

use std::time::Duration;

use interlock::routing::health::redis::{
    Exchanged, Life, RestartReason, Seen, Shared, Write, keys,
};

use crate::helpers::redis::Redis;

/// A gateway at this Redis, as far as it exchanges anything.
struct Gateway {
    shared: Shared,
    seen: Seen,
    word: &'static str,
}

impl Gateway {
    fn new(redis: &Redis, installation: &str, word: &'static str) -> Self {
        let shared = Shared::new(
            redis.url().parse().unwrap(),
            installation,
            Duration::from_secs(5),
        );
        Self {
            shared,
            seen: Seen::default(),
            word,
        }
    }

    async fn exchange(&mut self, writes: &[(&str, u64, &str)]) -> Exchanged {
        self.ask(false, writes).await
    }

    async fn ask(&mut self, anew: bool, writes: &[(&str, u64, &str)]) -> Exchanged {
        let write = |(subject, expected, value): &(&str, u64, &str)| Write {
            subject: (*subject).to_owned(),
            expected: *expected,
            value: (*value).to_owned(),
        };
        let writes: Vec<Write> = writes.iter().map(write).collect();
        let exchanged = self
            .shared
            .exchange(self.word, &self.seen, anew, &writes)
            .await
            .unwrap();
        self.seen = exchanged.seen.clone();
        exchanged
    }

    /// Three values in a store that this gateway knows.
    async fn fill(&mut self) {
        self.exchange(&[]).await;
        let filled = self
            .exchange(&[("a", 0, "1"), ("b", 0, "2"), ("c", 0, "3")])
            .await;
        assert_eq!((filled.life, filled.changed.len()), (Life::Known, 3));
    }
}

fn told(exchanged: &Exchanged) -> Vec<(&str, u64, &str)> {
    exchanged
        .changed
        .iter()
        .map(|s| (s.subject.as_str(), s.version, s.value.as_str()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_do_not_fit_together_are_an_emptied_store() {
    let redis = Redis::start().await;
    let [state, versions, values] = keys("ours");
    let (s, v, x) = (state.as_str(), versions.as_str(), values.as_str());
    let lies: &[&[&[&str]]] = &[
        &[&["DEL", s]],
        &[&["DEL", v]],
        &[&["DEL", x]],
        &[&["DEL", v, x]],
        &[&["DEL", s, v]],
        &[
            &["RENAME", v, "aside"],
            &["RENAME", x, v],
            &["RENAME", "aside", x],
        ],
        &[&["SET", s, "text"]],
        &[&["SET", v, "text"]],
        &[&["SET", x, "text"]],
        &[&["HSET", s, "seq", "9223372036854775807"]],
        &[&["HSET", s, "seq", "9007199254740993"]],
        &[&["HSET", s, "seq", "-3"]],
        &[&["HSET", s, "seq", "3.5"]],
        &[&["HSET", s, "seq", "many"]],
        &[&["HDEL", s, "seq"]],
        &[&["HDEL", s, "count"]],
        &[&["HSET", s, "count", "2"]],
        &[&["HDEL", s, "epoch"]],
        &[&["HSET", s, "epoch", "whose"]],
        &[&["HSET", s, "epoch", "99999999999999-later"]],
        &[&["HDEL", x, "b"]],
        &[&["HSET", x, "d", "4"]],
        &[&["ZREM", v, "b"]],
        &[&["ZADD", v, "+inf", "b"]],
        &[&["ZADD", v, "7.5", "b"]],
        &[&["ZADD", v, "-1", "b"]],
        &[&["ZADD", v, "4", "b"]],
    ];

    for lie in lies {
        redis.ask(&["FLUSHALL"]).await.unwrap();
        let mut gateway = Gateway::new(&redis, "ours", "one");
        gateway.fill().await;
        for command in *lie {
            redis.ask(command).await.unwrap();
        }
        let after = gateway.exchange(&[("a", 1, "5")]).await;
        assert_eq!(
            (after.life, after.changed.len()),
            (Life::New(RestartReason::Torn), 0),
            "{lie:?}"
        );
        let again = gateway.exchange(&[("a", 0, "5")]).await;
        assert_eq!(
            (&again.life, told(&again)),
            (&Life::Known, vec![("a", 1, "5")]),
            "{lie:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_was_put_back_is_not_what_happened_since() {
    let redis = Redis::start().await;
    let all = keys("ours");
    let client = redis::Client::open(redis.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let mut gateway = Gateway::new(&redis, "ours", "one");
    gateway.fill().await;
    let mut copy: Vec<(String, Vec<u8>)> = Vec::new();

    for key in &all {
        copy.push((
            key.clone(),
            redis::cmd("DUMP")
                .arg(key)
                .query_async(&mut connection)
                .await
                .unwrap(),
        ));
    }

    let mut put_back = async || {
        for (key, dump) in &copy {
            let mut restore = redis::cmd("RESTORE");
            restore.arg(key).arg(0).arg(dump.as_slice()).arg("REPLACE");
            restore.query_async::<()>(&mut connection).await.unwrap();
        }
    };

    gateway.exchange(&[("a", 1, "later")]).await;
    put_back().await;
    assert_eq!(
        gateway.exchange(&[]).await.life,
        Life::New(RestartReason::Rewound)
    );

    // That one is over: it does not come back either.
    put_back().await;
    assert_eq!(
        gateway.exchange(&[]).await.life,
        Life::New(RestartReason::Older)
    );

    // Who has never been here has nothing to compare with, and is told all there is.
    put_back().await;
    let late = Gateway::new(&redis, "ours", "two").exchange(&[]).await;
    assert_eq!((late.life, late.changed.len()), (Life::Other, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_comes_too_late_hears_what_there_is() {
    let redis = Redis::start().await;
    let mut gateway = Gateway::new(&redis, "ours", "one");
    gateway.fill().await;
    let mut other = Gateway::new(&redis, "ours", "two");
    assert_eq!(other.exchange(&[]).await.life, Life::Other);
    other.exchange(&[("a", 1, "theirs"), ("c", 3, "")]).await;
    let heard = gateway
        .exchange(&[("a", 1, "ours"), ("c", 3, "ours"), ("b", 2, "9")])
        .await;
    let mut told = told(&heard);
    told.sort_unstable();
    assert_eq!(told, [("a", 4, "theirs"), ("b", 5, "9"), ("c", 0, "")]);
    // One that keeps nothing may be told to begin anew.
    assert_eq!(
        gateway.ask(true, &[]).await.life,
        Life::New(RestartReason::Deaf)
    );
    assert_eq!(other.exchange(&[]).await.life, Life::Other);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_installations_on_one_redis_do_not_hear_of_each_other() {
    let redis = Redis::start().await;
    let (mut one, mut other) = (
        Gateway::new(&redis, "one", "a"),
        Gateway::new(&redis, "other", "b"),
    );
    one.fill().await;
    assert_eq!(
        other.exchange(&[]).await.life,
        Life::New(RestartReason::Empty)
    );
    assert!(other.exchange(&[]).await.changed.is_empty());
    other.exchange(&[("a", 0, "theirs")]).await;
    let heard = one.exchange(&[("a", 1, "5")]).await;
    assert_eq!(told(&heard), [("a", 4, "5")]);
}
