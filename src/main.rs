//! The program: `interlock` starts everything; subcommands do one thing each. A mistake is one line
//! on standard error and an exit code that is not 0.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;
use interlock::bench::{fill, lists, routing};
use interlock::cli::arguments::{Bench, Cli, Command, Drill};
use interlock::config::Config;
use interlock::installation::{database, folder, locks};
use interlock::server::{self, greeting};
use interlock::store::Store;
use interlock::{cli, doctor, telemetry};

/// Of each thread that works on payments.
const STACK_BYTES: usize = 8 << 20;

fn main() -> ExitCode {
    let given = Cli::parse();
    #[cfg(feature = "testing")]
    interlock::testing::kill::follow_parent();

    // sqlx and reqwest both use rustls; without one provider chosen it would have to guess, and
    // panics.
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
            let text: Vec<String> = error
                .to_string()
                .split_whitespace()
                .map(str::to_owned)
                .collect();
            // Whether anybody reads it or not: a process that cannot say why it ends has to end all
            // the same.
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
            database::open_alone(&load(&place.flags())?)
                .await?
                .close()
                .await?;
            println!("The tables are up to date.");
            Ok(())
        }
        #[cfg(feature = "sandbox")]
        Some(Command::Sandbox { listen, data }) => {
            load(&[])?;
            sandbox(&listen, &data).await
        }
        Some(Command::Doctor {
            ledger,
            anchor,
            restored,
            redis,
            sandbox,
            place,
        }) => {
            let mut flags = place.flags();
            flags.extend(redis.map(|url| ("redis.url", url)));
            flags.extend(sandbox.map(|listen| ("sandbox.listen", listen)));
            let config = load(&flags)?;
            if restored {
                ask_about_open(&config).await
            } else {
                examine(&config, ledger, anchor.as_deref()).await
            }
        }
        Some(Command::Backup { file, place }) => {
            let Some(from) = load(&place.flags())?.database_file() else {
                std::io::stdout().write_all(cli::backup::POSTGRES.as_bytes())?;
                return Err("nothing was copied: this database is a PostgreSQL".into());
            };
            let text = cli::backup::backup(&from, &file).await?;
            Ok(std::io::stdout().write_all(text.as_bytes())?)
        }
        Some(Command::Restore {
            go: true,
            anyway,
            place,
            ..
        }) => command(&load(&place.flags())?, &cli::Command::RestoreGo { anyway }).await,
        Some(Command::Restore { file, place, .. }) => {
            let text = cli::backup::restore(&load(&place.flags())?, file.as_deref()).await?;
            Ok(std::io::stdout().write_all(text.as_bytes())?)
        }
        Some(Command::Bench(asked)) => bench(asked, &load).await,
        Some(Command::Drill(wanted)) => drill(wanted).await,
        Some(Command::Incident { id, place }) => {
            command(&load(&place.flags())?, &cli::Command::Incident { id }).await
        }
        Some(Command::Merchant { name, place }) => {
            command(&load(&place.flags())?, &cli::Command::Merchant { name }).await
        }
        Some(Command::Key(key)) => {
            let (asked, place) = key
                .asked()
                .ok_or("key: say whose, or make, list or revoke")?;
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
        Bench::Routing {
            seed,
            worlds,
            minutes,
            json,
        } => Ok(routing::run(
            routing::Plan {
                seed,
                worlds,
                minutes,
                json,
            },
            &mut out.lock(),
        )?),
        Bench::Fill {
            payments,
            seed,
            place,
        } => {
            let config = load(&place.flags())?;
            folder::make_folder(&config.data.dir)?;
            // Nobody else writes meanwhile.
            let _locks = locks::lock(&config)?;
            fill::run(
                &config.database_url(),
                fill::Wanted {
                    payments,
                    seed,
                    until: None,
                },
                &mut out,
            )
            .await?;
            examine(&config, true, None).await
        }
        Bench::Lists { json, place } => {
            Ok(lists::run(&load(&place.flags())?.database_url(), json, &mut out).await?)
        }
    }
}

/// Asks the installation, and prints what it says.
async fn command(
    config: &Config,
    command: &cli::Command,
) -> Result<(), Box<dyn std::error::Error>> {
    let text = cli::ask(config, command).await?;
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(())
}

#[cfg(not(feature = "testing"))]
async fn drill(_: Drill) -> Result<(), Box<dyn std::error::Error>> {
    Err(
        "this build has no drills; build one with `cargo build --release --features testing`"
            .into(),
    )
}

#[cfg(feature = "testing")]
async fn drill(asked: Drill) -> Result<(), Box<dyn std::error::Error>> {
    use interlock::drill::{self, Options, scenario};

    if asked.list {
        for scenario in scenario::SCENARIOS {
            drill::explain(*scenario, &mut std::io::stdout())?;
        }
        return Ok(());
    }
    let scenario = scenario::named(&asked.scenario).ok_or_else(|| {
        format!(
            "--scenario: there is no {:?}; --list says what there is",
            asked.scenario
        )
    })?;
    let wrong = || "--seeds: give them as 1..200";
    let seeds = match (asked.seed, asked.seeds.as_deref()) {
        (Some(seed), _) => seed..=seed,
        (None, Some(text)) => {
            let (first, last) = text.split_once("..").ok_or_else(wrong)?;
            first.trim().parse().map_err(|_| wrong())?
                ..=last
                    .trim()
                    .trim_start_matches('=')
                    .parse()
                    .map_err(|_| wrong())?
        }
        (None, None) => 1..=1,
    };
    if scenario.needs_redis && asked.redis.is_none() {
        return Err(format!(
            "--redis: {} is about a Redis; say where there is one",
            scenario.name
        )
        .into());
    }
    let wanted = Options {
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

async fn examine(
    config: &Config,
    ledger: bool,
    anchor: Option<&str>,
) -> Result<(), Box<dyn std::error::Error>> {
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
    command(
        config,
        &cli::Command::RestoreAsked {
            open: answers.open,
            unknown: answers.unknown,
        },
    )
    .await?;
    match answers.unknown {
        0 => Ok(()),
        unknown => Err(format!("nobody knows about {unknown} that are open").into()),
    }
}

async fn serve(config: Config) -> Result<(), Box<dyn std::error::Error>> {
    #[cfg(feature = "testing")]
    interlock::testing::kill::arm();
    // From now on, so that none is missed. While it starts, nothing has been taken that would have
    // to be finished.
    let mut stop = std::pin::pin!(stop_signal()?);
    stay_when_hung_up()?;
    let mut running = tokio::select! {
        started = server::start(config) => started?,
        () = &mut stop => return Ok(()),
    };
    #[cfg(feature = "testing")]
    interlock::drill::control_socket::open(&running.app)?;

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

/// A terminal that was closed, or who has moved the log away: by itself this signal would end the
/// process in the middle of payments.
fn stay_when_hung_up() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut hung_up = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        while hung_up.recv().await.is_some() {
            tracing::warn!("SIGHUP: it goes on, and nothing is read anew: a restart does that");
        }
    });
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
