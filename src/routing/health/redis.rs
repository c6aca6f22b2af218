//! The shared health in Redis: one server, a primary behind Sentinel, or a cluster. It stores
//! values by compare-and-set and understands none of them, so that the code that decides is in one
//! place and in one language.

use std::str::FromStr;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, RedisError,
    Script,
};

use super::record::FORMAT;

const EXCHANGE: &str = include_str!("exchange.lua");
/// A longer value or name was written by nobody.
const LONGEST_VALUE: usize = 65_536;
const LONGEST_NAME: usize = 512;

/// The keys of an installation. They carry its name, so that two installations on one Redis do not
/// read each other's, and one hash tag, so that a cluster keeps them on one node and one script may
/// touch them all.
#[must_use]
pub fn keys(installation: &str) -> [String; 3] {
    ["state", "versions", "values"]
        .map(|part| format!("{{interlock:{installation}}}:health:{FORMAT}:{part}"))
}

/// Where the shared health is. It is written as one address:
/// `redis://[user:password@]host[:port][/db]` (or `rediss` for TLS) for one server,
/// `redis+sentinel://[user:password@]host:port,host:port/primary` for the primary that these
/// sentinels name (the password is the server's and the sentinels'),
/// `redis+cluster://[user:password@]host:port,host:port` for a cluster.
#[derive(Clone)]
pub enum Place {
    /// One server.
    Single(ConnectionInfo),
    /// The primary that these sentinels name.
    Sentinel {
        /// The sentinels.
        sentinels: Vec<ConnectionInfo>,
        /// What they call it.
        primary: String,
    },
    /// A cluster, by some of its nodes.
    Cluster(Vec<ConnectionInfo>),
}

impl FromStr for Place {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (scheme, rest) = text.split_once("://").ok_or("begins with redis://")?;
        let one = |url: String| {
            url.into_connection_info()
                .map_err(|_| "is not the address of a Redis")
        };
        let (topology, tls) = match scheme {
            "redis" | "rediss" => return one(text.to_owned()).map(Self::Single),
            "redis+sentinel" => ("sentinel", "redis"),
            "rediss+sentinel" => ("sentinel", "rediss"),
            "redis+cluster" => ("cluster", "redis"),
            "rediss+cluster" => ("cluster", "rediss"),
            _ => {
                return Err(
                    "is one of redis://, rediss://, redis+sentinel:// and redis+cluster://",
                );
            }
        };

        let (who, places) = rest
            .rsplit_once('@')
            .map_or(("", rest), |(who, places)| (who, places));
        let who = if who.is_empty() {
            String::new()
        } else {
            format!("{who}@")
        };

        let (hosts, name) = places.split_once('/').unwrap_or((places, ""));
        let nodes = hosts
            .split(',')
            .map(|host| one(format!("{tls}://{who}{host}")))
            .collect::<Result<Vec<_>, _>>()?;

        match (topology, name) {
            ("sentinel", "") => Err("ends with the name of the primary: /mymaster"),
            ("sentinel", primary) => Ok(Self::Sentinel {
                sentinels: nodes,
                primary: primary.to_owned(),
            }),
            (_, "") => Ok(Self::Cluster(nodes)),
            (_, _) => Err("names nodes of a cluster, and no database"),
        }
    }
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Addresses carry passwords.
        f.write_str(match self {
            Self::Single(_) => "Single",
            Self::Sentinel { .. } => "Sentinel",
            Self::Cluster(_) => "Cluster",
        })
    }
}

/// An open connection.
enum Link {
    Server(MultiplexedConnection),
    Cluster(ClusterConnection),
}

/// One connection to the shared health, made when it is needed.
pub struct Shared {
    place: Place,
    keys: [String; 3],
    patience: Duration,
    script: Script,
    link: Option<Link>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

/// A value to store if nobody has stored another one since `expected`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Under which name.
    pub subject: String,
    /// The version that the value was made from; 0 for none.
    pub expected: u64,
    /// The value; empty: it is removed.
    pub value: String,
}

/// What an instance has seen of the shared health.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Seen {
    /// Which life of the store: a new one begins when it was emptied.
    pub epoch: String,
    /// Everything up to this version.
    pub version: u64,
}

/// A value as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Under which name.
    pub subject: String,
    /// Its version. 0: the store has nothing of it, although somebody wrote.
    pub version: u64,
    /// The value; empty if it is missing, or too long to be one.
    pub value: String,
}

/// What the store is to somebody who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Life {
    /// The one that it has seen before.
    Known,
    /// One that others have begun meanwhile, or before it came: all that is in it is told.
    Other,
    /// One that has just begun, empty; nothing was written yet.
    New(RestartReason),
}

/// Why a new life begins.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, strum::Display, strum::EnumString, strum::IntoStaticStr,
)]
#[strum(serialize_all = "snake_case")]
pub enum RestartReason {
    /// There was nothing.
    Empty,
    /// Its keys do not fit together.
    Torn,
    /// It has gone back to an earlier state.
    Rewound,
    /// It is a life that was over already.
    Older,
    /// It did not keep what was written: this gateway wants it so.
    Deaf,
}

/// What one exchange brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchanged {
    /// What has been seen now.
    pub seen: Seen,
    /// The store's time, in milliseconds since 1970.
    pub now_ms: i64,
    /// What it is to this gateway; only in a life that is known anything was written.
    pub life: Life,
    /// All that is new since, own writes included, and what there is where a write came too late.
    pub changed: Vec<Stored>,
}

/// Why there was no exchange. Its writes may have been stored all the same, or may be later.
#[derive(Debug, thiserror::Error)]
pub enum NoExchange {
    /// No answer, or one that says why not.
    #[error("{0}")]
    Redis(#[from] RedisError),
    /// Something answered that speaks another language.
    #[error("an answer that cannot be read: {0}")]
    Garbage(&'static str),
    /// It took too long.
    #[error("no answer in time")]
    Slow,
    /// It says the same again and again, the time of day included.
    #[error("its clock stands still")]
    Frozen,
}

impl Shared {
    /// Connects to nothing yet. No exchange takes longer than `patience`.
    #[must_use]
    pub fn new(place: Place, installation: &str, patience: Duration) -> Self {
        Self {
            place,
            keys: keys(installation),
            patience,
            script: Script::new(EXCHANGE),
            link: None,
        }
    }

    /// Writes, and hears what has changed. After an error the next call connects anew. `word` makes
    /// the name of a new life unlike all others; `anew` asks for one.
    ///
    /// # Errors
    /// [`NoExchange`].
    pub async fn exchange(
        &mut self,
        word: &str,
        seen: &Seen,
        anew: bool,
        writes: &[Write],
    ) -> Result<Exchanged, NoExchange> {
        let patience = self.patience;
        let answer = tokio::time::timeout(patience, self.ask(word, seen, anew, writes)).await;
        let answer = answer.unwrap_or(Err(NoExchange::Slow));
        if answer.is_err() {
            self.link = None;
        }
        answer
    }

    /// Whether it answers at all. Reads and writes nothing.
    ///
    /// # Errors
    /// [`NoExchange`].
    pub async fn ping(&mut self) -> Result<(), NoExchange> {
        let asked = async {
            let ping = redis::cmd("PING");
            match connect(&self.place, self.patience).await? {
                Link::Server(mut connection) => ping.query_async::<()>(&mut connection).await,
                Link::Cluster(mut connection) => ping.query_async::<()>(&mut connection).await,
            }
        };
        Ok(tokio::time::timeout(self.patience, asked)
            .await
            .map_err(|_| NoExchange::Slow)??)
    }

    async fn ask(
        &mut self,
        word: &str,
        seen: &Seen,
        anew: bool,
        writes: &[Write],
    ) -> Result<Exchanged, NoExchange> {
        let mut call = self.script.prepare_invoke();
        for key in &self.keys {
            call.key(key);
        }
        call.arg(word)
            .arg(&seen.epoch)
            .arg(seen.version)
            .arg(u8::from(anew));

        for write in writes {
            call.arg(&write.subject)
                .arg(write.expected)
                .arg(&write.value);
        }

        let link = match &mut self.link {
            Some(link) => link,
            none => none.insert(connect(&self.place, self.patience).await?),
        };
        let answer: Answer = match link {
            Link::Server(connection) => call.invoke_async(connection).await?,
            Link::Cluster(connection) => call.invoke_async(connection).await?,
        };

        read(answer)
    }
}

/// Epoch, version, seconds, microseconds, what the store is to the caller and why, and the changes,
/// flat. Values are bytes: one that is no text must not take the others with it.
type Answer = (String, String, String, String, String, String, Vec<Vec<u8>>);

fn read(
    (epoch, version, seconds, micros, life, why, changed): Answer,
) -> Result<Exchanged, NoExchange> {
    let number = |text: &str, what| text.parse::<u64>().map_err(|_| NoExchange::Garbage(what));
    let now_ms = seconds.parse::<i64>().ok().zip(micros.parse::<i64>().ok());
    let now_ms = now_ms.and_then(|(s, us)| s.checked_mul(1000)?.checked_add(us / 1000));
    let mut stored = Vec::with_capacity(changed.len() / 3);
    let mut rest = changed.into_iter();
    while let (Some(subject), Some(version), Some(value)) = (rest.next(), rest.next(), rest.next())
    {
        let version = String::from_utf8(version).map_err(|_| NoExchange::Garbage("a version"))?;
        let value = String::from_utf8(value)
            .ok()
            .filter(|value| value.len() <= LONGEST_VALUE)
            .unwrap_or_default();
        // A name that is none can neither be removed nor written over by its name: a new life
        // begins without it.
        let subject = String::from_utf8(subject)
            .ok()
            .filter(|subject| subject.len() <= LONGEST_NAME);
        stored.push(Stored {
            subject: subject.unwrap_or_default(),
            version: number(&version, "a version")?,
            value,
        });
    }

    let life = match life.as_str() {
        "known" => Life::Known,
        "other" => Life::Other,
        "new" => Life::New(why.parse().map_err(|_| NoExchange::Garbage("a reason"))?),
        _ => return Err(NoExchange::Garbage("a life")),
    };

    Ok(Exchanged {
        seen: Seen {
            epoch,
            version: number(&version, "the version")?,
        },
        now_ms: now_ms.ok_or(NoExchange::Garbage("the time"))?,
        life,
        changed: stored,
    })
}

async fn connect(place: &Place, patience: Duration) -> Result<Link, RedisError> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(patience))
        .set_response_timeout(Some(patience));

    match place {
        Place::Single(server) => {
            let client = redis::Client::open(server.clone())?;
            Ok(Link::Server(
                client
                    .get_multiplexed_async_connection_with_config(&config)
                    .await?,
            ))
        }
        Place::Sentinel { sentinels, primary } => {
            let addresses: Vec<ConnectionAddr> =
                sentinels.iter().map(|s| s.addr().clone()).collect();
            let mut builder =
                SentinelClientBuilder::new(addresses, primary.clone(), SentinelServerType::Master)?;
            if let Some(settings) = sentinels.first().map(ConnectionInfo::redis_settings) {
                if let Some(user) = settings.username() {
                    builder = builder
                        .set_client_to_redis_username(user)
                        .set_client_to_sentinel_username(user);
                }
                if let Some(password) = settings.password() {
                    builder = builder
                        .set_client_to_redis_password(password)
                        .set_client_to_sentinel_password(password);
                }
            }
            Ok(Link::Server(
                builder
                    .build()?
                    .get_async_connection_with_config(&config)
                    .await?,
            ))
        }
        Place::Cluster(nodes) => {
            let client = ClusterClientBuilder::new(nodes.clone())
                .connection_timeout(patience)
                .response_timeout(patience)
                .retries(1)
                .build()?;
            Ok(Link::Cluster(client.get_async_connection().await?))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_names_a_server_a_primary_or_a_cluster() {
        let place = |text: &str| text.parse::<Place>().map(|place| format!("{place:?}"));
        assert_eq!(place("redis://127.0.0.1:6379/2").unwrap(), "Single");
        assert_eq!(place("rediss://u:p@redis.example").unwrap(), "Single");
        assert_eq!(place("redis+cluster://a:1,b:2").unwrap(), "Cluster");
        assert_eq!(
            place("redis+sentinel://:secret@a:26379,b:26379/mymaster").unwrap(),
            "Sentinel"
        );

        let Place::Sentinel { sentinels, primary } =
            "redis+sentinel://:s@a:1,b:2/mine".parse().unwrap()
        else {
            panic!()
        };

        assert_eq!((sentinels.len(), primary.as_str()), (2, "mine"));
        assert_eq!(sentinels[1].redis_settings().password(), Some("s"));
        for wrong in [
            "localhost",
            "http://a",
            "redis+sentinel://a:1",
            "redis+cluster://a:1/0",
            "redis://a:port",
            "",
        ] {
            place(wrong).unwrap_err();
        }
    }
}
