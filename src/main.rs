//! The program: `interlock` starts everything; subcommands do one thing each. A mistake is one line on standard
//! error and an exit code that is not 0.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use interlock::bench::{fill, lists, routing};
use interlock::config::Config;
use interlock::installation::{database, folder, locks};
use interlock::server::{self, Running};
use interlock::store::Store;
use interlock::{cli, doctor, telemetry};

/// One payment API over Alipay, WeChat Pay and UnionPay that never keeps money twice.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Cli {
    /// A configuration file (TOML); see config/default.toml for every key.
    #[arg(long, global = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Serve,
}

#[derive(Debug, Subcommand)]
enum Command {
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
    /// Break everything on purpose, and see whether money was kept twice or lost (builds with the feature `testing`).
    Drill(Drill),
    /// Show incidents, or one with its timeline and what it meant for payments.
    Incident {
        /// Which one: `inc_…`. Without: all of them, newest first.
        id: Option<String>,
        #[command(flatten)]
        place: Place,
    },
    /// Copy the embedded database into a file, beside a running gateway; on PostgreSQL: say how that is done.
    Backup {
        /// The file; there must be none yet.
        file: PathBuf,
        #[command(flatten)]
        place: Place,
    },
    /// Bring a backup back. Live payments are held until the providers were asked, and a person has said go.
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
struct Key {
    #[command(subcommand)]
    command: Option<KeyCommand>,
    #[command(flatten)]
    make: MakeKey,
}

#[derive(Debug, Subcommand)]
enum KeyCommand {
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
struct MakeKey {
    /// Whose: the merchant's name.
    #[arg(required = true)]
    merchant: Option<String>,
    /// What people call it.
    #[arg(long)]
    name: Option<String>,
    /// What it may do: pay, refund, finance, admin.
    #[arg(long, value_delimiter = ',', default_value = "pay,refund")]
    scopes: Vec<String>,
    /// Real money.
    #[arg(long)]
    live: bool,
    #[command(flatten)]
    place: Place,
}

impl Key {
    /// What is asked, and of which installation.
    fn asked(self) -> Option<(cli::Command, Place)> {
        Some(match self.command.unwrap_or(KeyCommand::Make(self.make)) {
            KeyCommand::Make(MakeKey { merchant, name, scopes, live, place }) => {
                (cli::Command::KeyMake { merchant: merchant?, name, scopes, live }, place)
            }
            KeyCommand::List { merchant, place } => (cli::Command::KeyList { merchant }, place),
            KeyCommand::Revoke { id, place } => (cli::Command::KeyRevoke { id }, place),
        })
    }
}

#[derive(Debug, Args)]
struct Drill {
    /// What goes wrong; --list says what there is.
    #[arg(long, default_value = "swarm")]
    scenario: String,
    /// One seed: everything that is planned follows from it.
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Several seeds, a run for each: 1..200.
    #[arg(long)]
    seeds: Option<String>,
    /// Payments in each run.
    #[arg(long)]
    payments: Option<usize>,
    /// A PostgreSQL in which each run makes a database of its own: then there are two gateways.
    #[arg(long)]
    database: Option<String>,
    /// A Redis.
    #[arg(long)]
    redis: Option<String>,
    /// Payments stay with the first provider: to see what switching is good for.
    #[arg(long)]
    no_switchover: bool,
    /// Runs at the same time.
    #[arg(long, default_value_t = 10)]
    jobs: usize,
    /// Keep the folders of runs with violations here.
    #[arg(long)]
    keep: Option<PathBuf>,
    /// Stop at the first run with a violation.
    #[arg(long)]
    first: bool,
    /// End with one line of JSON.
    #[arg(long)]
    json: bool,
    /// Say what scenarios there are, and stop.
    #[arg(long)]
    list: bool,
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// Play simulated providers, their outages and brown-outs against each way to choose routes, in virtual time.
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
    /// Fill a database without payments with whole lives of payments, and verify its ledger. No gateway may run on it.
    Fill {
        /// How many payments.
        #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
        payments: u64,
        /// Everything follows from it.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        #[command(flatten)]
        place: Place,
    },
    /// Measure every filter of every list on a database that was filled so, and say which indexes are read.
    Lists {
        /// End with one line of JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: Place,
    },
}

#[derive(Debug, Default, Args)]
struct Serve {
    /// Where the gateway listens.
    #[arg(long)]
    listen: Option<String>,
    /// Where what needs the scope `admin`, and metrics, answer: there alone. Without it, one address serves all.
    #[arg(long)]
    admin: Option<String>,
    /// Where the sandbox's control listens, `off`, or the http address of one that runs already.
    #[arg(long)]
    sandbox: Option<String>,
    /// Where gateways share the health of routes: redis://…, redis+sentinel://… or redis+cluster://…
    #[arg(long)]
    redis: Option<String>,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Default, Args)]
struct Place {
    /// Where the embedded database and the demo's secrets lie.
    #[arg(long)]
    data: Option<String>,
    /// sqlite:… or postgres://…
    #[arg(long)]
    database: Option<String>,
}

impl Place {
    fn flags(&self) -> Vec<(&'static str, String)> {
        let flags = [("data.dir", &self.data), ("database.url", &self.database)];
        flags.into_iter().filter_map(|(key, value)| Some((key, value.clone()?))).collect()
    }
}

impl Serve {
    fn flags(&self) -> Vec<(&'static str, String)> {
        let own = [
            ("server.listen", &self.listen),
            ("server.admin", &self.admin),
            ("sandbox.listen", &self.sandbox),
            ("redis.url", &self.redis),
        ];
        let own = own.into_iter().filter_map(|(key, value)| Some((key, value.clone()?)));
        own.chain(self.place.flags()).collect()
    }
}

/// Of each thread that works on payments.
const STACK_BYTES: usize = 8 << 20;

fn main() -> ExitCode {
    let given = Cli::parse();
    #[cfg(feature = "testing")]
    interlock::kill::follow_parent();
    // sqlx and reqwest both use rustls; without one provider chosen it would have to guess, and panics.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    // Work on a payment is deep where nothing is optimised; memory is only taken where it is used.
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = match builder.thread_stack_size(STACK_BYTES).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("interlock: no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let ended = runtime.block_on(run(given));
    // A name that is being looked up, say, would be waited for.
    runtime.shutdown_timeout(Duration::from_millis(500));
    telemetry::end_log();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // One line, whatever a library has to say.
            let text: Vec<String> = error.to_string().split_whitespace().map(str::to_owned).collect();
            // Whether anybody reads it or not: a process that cannot say why it ends has to end all the same.
            let (said, heard) = std::sync::mpsc::channel();
            std::thread::spawn(move || {
                eprintln!("interlock: {}", text.join(" "));
                let _ = said.send(());
            });
            let _ = heard.recv_timeout(Duration::from_secs(1));
            ExitCode::FAILURE
        }
    }
}

async fn run(given: Cli) -> Result<(), Box<dyn std::error::Error>> {
    let load = |flags: &[(&str, String)]| -> Result<Config, Box<dyn std::error::Error>> {
        let config = Config::load(given.config.as_deref(), flags)?;
        telemetry::log(&config.log.level)?;
        Ok(config)
    };
    match given.command {
        None => serve(load(&given.serve.flags())?).await,
        Some(Command::Serve(flags)) => serve(load(&flags.flags())?).await,
        Some(Command::Migrate(place)) => {
            database::open_alone(&load(&place.flags())?).await?.close().await?;
            println!("The tables are up to date.");
            Ok(())
        }
        #[cfg(feature = "sandbox")]
        Some(Command::Sandbox { listen, data }) => {
            load(&[])?;
            sandbox(&listen, &data).await
        }
        Some(Command::Doctor { ledger, anchor, restored, redis, sandbox, place }) => {
            let mut flags = place.flags();
            flags.extend(redis.map(|url| ("redis.url", url)));
            flags.extend(sandbox.map(|listen| ("sandbox.listen", listen)));
            let config = load(&flags)?;
            if restored { ask_about_open(&config).await } else { examine(&config, ledger, anchor.as_deref()).await }
        }
        Some(Command::Backup { file, place }) => {
            let Some(from) = load(&place.flags())?.database_file() else {
                std::io::stdout().write_all(cli::backup::POSTGRES.as_bytes())?;
                return Err("nothing was copied: this database is a PostgreSQL".into());
            };
            let text = cli::backup::backup(&from, &file).await?;
            Ok(std::io::stdout().write_all(text.as_bytes())?)
        }
        Some(Command::Restore { go: true, anyway, place, .. }) => {
            command(&load(&place.flags())?, &cli::Command::RestoreGo { anyway }).await
        }
        Some(Command::Restore { file, place, .. }) => {
            let text = cli::backup::restore(&load(&place.flags())?, file.as_deref()).await?;
            Ok(std::io::stdout().write_all(text.as_bytes())?)
        }
        Some(Command::Bench(asked)) => bench(asked, &load).await,
        Some(Command::Drill(wanted)) => drill(wanted).await,
        Some(Command::Incident { id, place }) => command(&load(&place.flags())?, &cli::Command::Incident { id }).await,
        Some(Command::Merchant { name, place }) => {
            command(&load(&place.flags())?, &cli::Command::Merchant { name }).await
        }
        Some(Command::Key(key)) => {
            let (asked, place) = key.asked().ok_or("key: say whose, or make, list or revoke")?;
            command(&load(&place.flags())?, &asked).await
        }
    }
}

async fn bench(
    asked: Bench,
    load: &impl Fn(&[(&str, String)]) -> Result<Config, Box<dyn std::error::Error>>,
) -> Result<(), Box<dyn std::error::Error>> {
    let mut out = std::io::stdout();
    match asked {
        Bench::Routing { seed, worlds, minutes, json } => {
            Ok(routing::run(routing::Plan { seed, worlds, minutes, json }, &mut out.lock())?)
        }
        Bench::Fill { payments, seed, place } => {
            let config = load(&place.flags())?;
            folder::make_folder(&config.data.dir)?;
            // Nobody else writes meanwhile.
            let _locks = locks::lock(&config)?;
            fill::run(&config.database_url(), fill::Wanted { payments, seed, until: None }, &mut out).await?;
            examine(&config, true, None).await
        }
        Bench::Lists { json, place } => Ok(lists::run(&load(&place.flags())?.database_url(), json, &mut out).await?),
    }
}

/// Asks the installation, and prints what it says.
async fn command(config: &Config, command: &cli::Command) -> Result<(), Box<dyn std::error::Error>> {
    let text = cli::ask(config, command).await?;
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(())
}

#[cfg(not(feature = "testing"))]
async fn drill(_: Drill) -> Result<(), Box<dyn std::error::Error>> {
    Err("this build has no drills; build one with `cargo build --release --features testing`".into())
}

#[cfg(feature = "testing")]
async fn drill(asked: Drill) -> Result<(), Box<dyn std::error::Error>> {
    use interlock::drill::{self, Wanted, scenario};

    if asked.list {
        for scenario in scenario::SCENARIOS {
            drill::explain(*scenario, &mut std::io::stdout())?;
        }
        return Ok(());
    }
    let scenario = scenario::named(&asked.scenario)
        .ok_or_else(|| format!("--scenario: there is no {:?}; --list says what there is", asked.scenario))?;
    let wrong = || "--seeds: give them as 1..200";
    let seeds = match (asked.seed, asked.seeds.as_deref()) {
        (Some(seed), _) => seed..=seed,
        (None, Some(text)) => {
            let (first, last) = text.split_once("..").ok_or_else(wrong)?;
            first.trim().parse().map_err(|_| wrong())?
                ..=last.trim().trim_start_matches('=').parse().map_err(|_| wrong())?
        }
        (None, None) => 1..=1,
    };
    if scenario.needs_redis && asked.redis.is_none() {
        return Err(format!("--redis: {} is about a Redis; say where there is one", scenario.name).into());
    }
    let wanted = Wanted {
        payments: asked.payments.unwrap_or(scenario.payments),
        scenario,
        seeds,
        postgres: asked.database,
        redis: asked.redis,
        switchover: !asked.no_switchover,
        jobs: asked.jobs,
        first: asked.first,
        json: asked.json,
        env: Vec::new(),
        keep: asked.keep,
    };
    if drill::drill(wanted, &mut std::io::stdout()).await? {
        Ok(())
    } else {
        Err("rules were broken, see above".into())
    }
}

async fn examine(config: &Config, ledger: bool, anchor: Option<&str>) -> Result<(), Box<dyn std::error::Error>> {
    let mut out = std::io::stdout();
    if !ledger {
        return match doctor::run(config, &mut out).await? {
            0 => Ok(()),
            bad => Err(format!("{bad} things have to be mended").into()),
        };
    }
    let store = Store::look(&config.database_url(), config.database.connections).await?;
    match doctor::ledger::run(&store, anchor, &mut out).await? {
        0 => Ok(()),
        deviations => Err(format!("the ledger deviates in {deviations} places").into()),
    }
}

async fn ask_about_open(config: &Config) -> Result<(), Box<dyn std::error::Error>> {
    let answers = doctor::restored::run(config, &mut std::io::stdout()).await?;
    command(config, &cli::Command::RestoreAsked { open: answers.open, unknown: answers.unknown }).await?;
    match answers.unknown {
        0 => Ok(()),
        unknown => Err(format!("nobody knows about {unknown} that are open").into()),
    }
}

async fn serve(config: Config) -> Result<(), Box<dyn std::error::Error>> {
    #[cfg(feature = "testing")]
    interlock::kill::arm();
    // From now on, so that none is missed. While it starts, nothing has been taken that would have to be finished.
    let mut stop = std::pin::pin!(stop_signal()?);
    let mut running = tokio::select! {
        started = server::start(config) => started?,
        () = &mut stop => return Ok(()),
    };
    #[cfg(feature = "testing")]
    interlock::drill::door::open(&running.app)?;
    // Whether anybody reads it or not: a closed terminal is no reason to stop.
    let _ = std::io::stdout().write_all(greeting(&running).as_bytes());
    tokio::select! {
        () = &mut stop => {
            running.stop().await;
            Ok(())
        }
        () = running.failed() => Err("the HTTP server has stopped by itself".into()),
    }
}

#[cfg(feature = "sandbox")]
async fn sandbox(listen: &str, data: &std::path::Path) -> Result<(), Box<dyn std::error::Error>> {
    folder::make_folder(data)?;
    let stop = stop_signal()?;
    let sandbox = server::start_sandbox(listen, data).await?;
    server::stand_alone(&sandbox);
    println!("Sandbox control at http://{}", sandbox.control());
    for (name, address) in sandbox.faces() {
        println!("  {name:10} http://{address}");
    }
    stop.await;
    server::keep_book(data, &sandbox.book_json()?);
    sandbox.stop().await;
    Ok(())
}

/// Listens for signals to stop; what is returned ends with the first one.
fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// What a newcomer needs to see first.
fn greeting(running: &Running) -> String {
    let url = &running.app.public_url;
    let mut lines = vec![
        format!("Interlock {} serves at {url}", env!("CARGO_PKG_VERSION")),
        format!("  listens on         {}", running.address),
        format!("  API documentation  {url}/docs/"),
    ];
    lines.extend(running.admin.map(|address| format!("  administration     {address}")));
    match &running.demo {
        Some(demo) => {
            lines.push(format!("  sandbox control    {}", demo.sandbox_url));
            for (name, address) in &demo.faces {
                lines.push(format!("  {name:18} {}", address.as_str().unwrap_or_default()));
            }
            lines.push(format!("  API key            {}", demo.api_key));
            lines.push(format!("\nMake a payment:\n{}", curl(url, &demo.api_key)));
            lines.push("\nPay it as the payer would, with the text of its QR code:".to_owned());
            lines.push(format!("curl -sS {}/pay -d '{{\"code\": \"<qr>\", \"result\": \"paid\"}}'", demo.sandbox_url));
        }
        None => lines.push(
            "\nWithout a sandbox there is no demo merchant: `interlock merchant NAME` makes one and \
             `interlock key NAME` a key for it, also while the gateway runs."
                .to_owned(),
        ),
    }
    lines.join("\n") + "\n"
}

fn curl(url: &str, key: &str) -> String {
    let id = "'$(date +%s%N)'";
    let body = format!(
        r#"{{"amount": 8888, "currency": "CNY", "order_id": "demo-{id}", "description": "Two cups of tea", "flow": "qr"}}"#
    );
    format!(
        "curl -sS {url}/v1/payments -H 'Authorization: Bearer {key}' -H \"Idempotency-Key: demo-$(date +%s%N)\" \
         -H 'Content-Type: application/json' -d '{body}'"
    )
}
