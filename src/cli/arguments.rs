//! What the program can be asked to do, as it is written on the command line. What documents
//! something here is what `--help` says of it.
#![expect(
    missing_docs,
    reason = "what has no words here needs none in the help of the program"
)]

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::command;

/// One payment API over Alipay, WeChat Pay and UnionPay that never keeps money twice.
#[derive(Debug, Parser)]
#[command(version, about)]
pub struct Cli {
    /// A configuration file (TOML); see config/default.toml for every key.
    #[arg(long, global = true)]
    pub config: Option<PathBuf>,
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub serve: Serve,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the gateway (the default).
    Serve(Serve),
    /// Bring the database's tables up to date, and stop.
    Migrate(Place),
    /// Run a sandbox of the providers by itself.
    #[cfg(feature = "sandbox")]
    Sandbox {
        /// Where its control listens; its faces take the following ports.
        #[arg(long, default_value = "127.0.0.1:8090")]
        listen: String,
        /// Where its keys and its book lie.
        #[arg(long, default_value = "./data")]
        data: PathBuf,
    },
    /// Look whether everything that a gateway needs is there, and say how to mend what is not.
    Doctor {
        /// Verify the ledger instead: every entry, every chain, and that it agrees with the books.
        #[arg(long)]
        ledger: bool,
        /// A block as an earlier run printed it, HEIGHT:HASH: it must still be there.
        #[arg(long, requires = "ledger")]
        anchor: Option<String>,
        /// After a restore: ask the providers about everything that is open instead.
        #[arg(long, conflicts_with = "ledger")]
        restored: bool,
        /// Where gateways share the health of routes.
        #[arg(long)]
        redis: Option<String>,
        /// Where the gateway has its sandbox, as it was told to it.
        #[arg(long)]
        sandbox: Option<String>,
        #[command(flatten)]
        place: Place,
    },
    /// Measure something, without a gateway.
    #[command(subcommand)]
    Bench(Bench),
    /// Break everything on purpose, and see whether money was kept twice or lost (builds with the
    /// feature `testing`).
    Drill(Drill),
    /// Show incidents, or one with its timeline and what it meant for payments.
    Incident {
        /// Which one: `inc_…`. Without: all of them, newest first.
        id: Option<String>,
        #[command(flatten)]
        place: Place,
    },
    /// Copy the embedded database into a file, beside a running gateway; on PostgreSQL: say how
    /// that is done.
    Backup {
        /// The file; there must be none yet.
        file: PathBuf,
        #[command(flatten)]
        place: Place,
    },
    /// Bring a backup back. Live payments are held until the providers were asked, and a person has
    /// said go.
    Restore {
        /// The backup. On PostgreSQL, whose own tools bring it back: none.
        #[arg(conflicts_with = "go")]
        file: Option<PathBuf>,
        /// Let live payments go on, after `interlock doctor --restored`.
        #[arg(long)]
        go: bool,
        /// Although nobody knows about some that are open.
        #[arg(long, requires = "go")]
        anyway: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Make a merchant, or find it again, and print its id.
    Merchant {
        /// Its name; unique.
        name: String,
        #[command(flatten)]
        place: Place,
    },
    /// Make, list and revoke API keys. `interlock key MERCHANT` makes one.
    Key(Key),
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Key {
    #[command(subcommand)]
    pub command: Option<KeyCommand>,
    #[command(flatten)]
    pub make: MakeKey,
}

#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Make an API key and print it: nobody can read it later.
    Make(MakeKey),
    /// List a merchant's keys, revoked ones too, newest first.
    List {
        /// Whose: the merchant's name.
        merchant: String,
        #[command(flatten)]
        place: Place,
    },
    /// Revoke a key for good: it works nowhere within a second.
    Revoke {
        /// Which: `key_…`, as `interlock key list` shows it.
        id: String,
        #[command(flatten)]
        place: Place,
    },
}

#[derive(Debug, Args)]
pub struct MakeKey {
    /// Whose: the merchant's name.
    #[arg(required = true)]
    pub merchant: Option<String>,
    /// What people call it.
    #[arg(long)]
    pub name: Option<String>,
    /// What it may do: pay, refund, finance, admin.
    #[arg(long, value_delimiter = ',', default_value = "pay,refund")]
    pub scopes: Vec<String>,
    /// Real money.
    #[arg(long)]
    pub live: bool,
    #[command(flatten)]
    pub place: Place,
}

impl Key {
    /// What is asked, and of which installation.
    pub fn asked(self) -> Option<(command::Command, Place)> {
        Some(match self.command.unwrap_or(KeyCommand::Make(self.make)) {
            KeyCommand::Make(MakeKey {
                merchant,
                name,
                scopes,
                live,
                place,
            }) => (
                command::Command::KeyMake {
                    merchant: merchant?,
                    name,
                    scopes,
                    live,
                },
                place,
            ),
            KeyCommand::List { merchant, place } => (command::Command::KeyList { merchant }, place),
            KeyCommand::Revoke { id, place } => (command::Command::KeyRevoke { id }, place),
        })
    }
}

#[derive(Debug, Args)]
pub struct Drill {
    /// What goes wrong; --list says what there is.
    #[arg(long, default_value = "swarm")]
    pub scenario: String,
    /// One seed: everything that is planned follows from it.
    #[arg(long, conflicts_with = "seeds")]
    pub seed: Option<u64>,
    /// Several seeds, a run for each: 1..200.
    #[arg(long)]
    pub seeds: Option<String>,
    /// Payments in each run.
    #[arg(long)]
    pub payments: Option<usize>,
    /// A PostgreSQL in which each run makes a database of its own: then there are two gateways.
    #[arg(long)]
    pub database: Option<String>,
    /// A Redis.
    #[arg(long)]
    pub redis: Option<String>,
    /// Payments stay with the first provider: to see what switching is good for.
    #[arg(long)]
    pub no_switchover: bool,
    /// Runs at the same time.
    #[arg(long, default_value_t = 10)]
    pub jobs: usize,
    /// Keep the folders of runs with violations here.
    #[arg(long)]
    pub keep: Option<PathBuf>,
    /// Stop at the first run with a violation.
    #[arg(long)]
    pub first: bool,
    /// End with one line of JSON.
    #[arg(long)]
    pub json: bool,
    /// Say what scenarios there are, and stop.
    #[arg(long)]
    pub list: bool,
}

#[derive(Debug, Subcommand)]
pub enum Bench {
    /// Play simulated providers, their outages and brown-outs against each way to choose routes, in
    /// virtual time.
    Routing {
        /// Everything follows from it.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// How many worlds to play.
        #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1_000))]
        worlds: u32,
        /// How long each of them lasts.
        #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=1_440))]
        minutes: u32,
        /// End with one line of JSON.
        #[arg(long)]
        json: bool,
    },
    /// Fill a database without payments with whole lives of payments, and verify its ledger. No
    /// gateway may run on it.
    Fill {
        /// How many payments.
        #[arg(long, default_value_t = 20_000,
            value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
        payments: u64,
        /// Everything follows from it.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        #[command(flatten)]
        place: Place,
    },
    /// Measure every filter of every list on a database that was filled so, and say which indexes
    /// are read.
    Lists {
        /// End with one line of JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: Place,
    },
}

#[derive(Debug, Default, Args)]
pub struct Serve {
    /// Where the gateway listens.
    #[arg(long)]
    pub listen: Option<String>,
    /// Where what needs the scope `admin`, and metrics, answer: there alone. Without it, one
    /// address serves all.
    #[arg(long)]
    pub admin: Option<String>,
    /// Where the sandbox's control listens, `off`, or the http address of one that runs already.
    #[arg(long)]
    pub sandbox: Option<String>,
    /// Where gateways share the health of routes: redis://…, redis+sentinel://… or
    /// redis+cluster://…
    #[arg(long)]
    pub redis: Option<String>,
    #[command(flatten)]
    pub place: Place,
}

#[derive(Debug, Default, Args)]
pub struct Place {
    /// Where the embedded database and the demo's secrets lie.
    #[arg(long)]
    pub data: Option<String>,
    /// sqlite:… or postgres://…
    #[arg(long)]
    pub database: Option<String>,
}

impl Place {
    pub fn flags(&self) -> Vec<(&'static str, String)> {
        let flags = [("data.dir", &self.data), ("database.url", &self.database)];
        flags
            .into_iter()
            .filter_map(|(key, value)| Some((key, value.clone()?)))
            .collect()
    }
}

impl Serve {
    pub fn flags(&self) -> Vec<(&'static str, String)> {
        let own = [
            ("server.listen", &self.listen),
            ("server.admin", &self.admin),
            ("sandbox.listen", &self.sandbox),
            ("redis.url", &self.redis),
        ];
        let own = own
            .into_iter()
            .filter_map(|(key, value)| Some((key, value.clone()?)));
        own.chain(self.place.flags()).collect()
    }
}
