//! `interlock backup` and `interlock restore`: the embedded database into a file, beside a running
//! gateway, and back. Both reach for files; no gateway is asked, so that they work while one hangs.
//!
//! A restore goes back in time, and the world does not: see [`crate::restored`].

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::failure::{Failure, NO_DATABASE};
use crate::clock::Clock;
use crate::config::Config;
use crate::domain::id;
use crate::domain::{AllOwners, Timestamp};
use crate::embedded::{itself, url, with};
use crate::installation::StartError;
use crate::installation::folder::make_folder;
use crate::installation::locks::{lock_for_restore, restore_marker};
use crate::restored::{Asked, FACT, Restored};
use crate::store::Store;
use crate::store::copy::{self, Whole};

/// Its owner's alone.
const PRIVATE: u32 = 0o600;
/// What SQLite keeps beside a database, and that it was found damaged.
const BESIDE: [&str; 4] = ["-journal", "-wal", "-shm", ".damaged"];

/// How a PostgreSQL is copied.
pub const POSTGRES: &str = "\
This database is a PostgreSQL: its own tools copy it while gateways run.
  one copy             pg_dump --format=custom --file=interlock.dump DATABASE
  every moment         pg_basebackup and an archive of the log (continuous archiving in PostgreSQL's manual)
The key for stored credentials (credentials.key) is in neither: keep it elsewhere.
To bring one back: stop every gateway, pg_restore --clean --if-exists --dbname=DATABASE interlock.dump, then
`interlock restore --database …` before the first gateway starts: it holds live payments until the providers were asked.
";

/// What an operator does next.
const NEXT: &str = "\
Live payments are held: they are answered 503 until a person says go. Now:
  1. interlock serve                 start every gateway; notifications are taken, and what was open is asked about
  2. interlock doctor --restored     ask the providers about everything that is open
  3. compare what the providers' consoles show of the time since then with what merchants were told
  4. interlock restore --go          live payments go on
";

fn refuse(path: &Path, problem: impl std::fmt::Display) -> Failure {
    Failure::said(format!("{}: {problem}", path.display()))
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// A database and what lies beside it.
fn remove_all(database: &Path) -> io::Result<()> {
    [""].into_iter()
        .chain(BESIDE)
        .try_for_each(|ending| remove(&with(database, ending)))
}

/// What was done with names in a folder outlives a power cut.
fn sync_folder(of: &Path) -> io::Result<()> {
    let folder = of
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

/// Copies the embedded database into a new file.
///
/// # Errors
/// [`Failure`]; there is no file then.
pub async fn backup(from: &Path, to: &Path) -> Result<String, Failure> {
    if !from.is_file() {
        return Err(refuse(from, NO_DATABASE));
    }
    // SQLite takes names as text, and reads some of them as addresses.
    let to = std::path::absolute(to).map_err(|e| refuse(to, e))?;
    if to.to_str().is_none() {
        return Err(refuse(&to, "the name is no UTF-8: give it another one"));
    }
    // Never over another one: that may be the last good one.
    if to.symlink_metadata().is_ok() {
        return Err(refuse(
            &to,
            "there is such a file: a backup is never written over another",
        ));
    }

    let part = with(
        &to,
        &format!(".{}.part", id::token().map_err(StartError::from)?),
    );
    let copied = copy_to(from, &part).await;
    let kept = match copied {
        Ok(whole) => publish(&part, &to)
            .map(|()| whole)
            .map_err(|e| refuse(&to, e)),
        Err(failure) => Err(failure),
    };
    let _ = remove_all(&part);
    let whole = kept?;
    Ok(format!(
        "{}: {}. Every page was read again.\nThe key for stored credentials (credentials.key) is \
        not in it: keep that elsewhere. Bring it back with `interlock restore {}`.\n",
        to.display(),
        told(&whole),
        to.display()
    ))
}

async fn copy_to(from: &Path, part: &Path) -> Result<Whole, Failure> {
    let fail = |e: io::Error| refuse(part, e);
    let file = File::options()
        .write(true)
        .create_new(true)
        .mode(PRIVATE)
        .open(part)
        .map_err(fail)?;

    copy::copy(from, part)
        .await
        .map_err(|e| refuse(part, format!("not copied: {e}")))?;
    let now = Clock::new().now().rfc3339();
    copy::mark(part, &now)
        .await
        .map_err(|e| refuse(part, format!("not copied: {e}")))?;
    file.sync_all().map_err(fail)?;

    copy::examine(part, FACT).await.map_err(|e| refuse(part, e))
}

/// Gives the copy its name, which nobody has taken meanwhile.
fn publish(part: &Path, to: &Path) -> io::Result<()> {
    match std::fs::hard_link(part, to) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
        // Some filesystems know no second names.
        Err(_) if to.symlink_metadata().is_err() => std::fs::rename(part, to),
        done => done,
    }?;
    sync_folder(to)
}

fn told(whole: &Whole) -> String {
    let last = whole
        .last_event
        .map_or_else(|| "none".to_owned(), Timestamp::rfc3339);
    format!("{} payments, the last event {last}", whole.payments)
}

/// Puts a backup in the place of the embedded database; the one that was there stays beside it
/// under another name. Without a file: a PostgreSQL that was brought back by its own tools.
///
/// # Errors
/// [`Failure`]. What was begun is done again by the next call, and until then no gateway starts.
pub async fn restore(config: &Config, file: Option<&Path>) -> Result<String, Failure> {
    match (config.database_file(), file) {
        (Some(database), Some(file)) => restore_file(config, &itself(&database), file).await,
        (Some(_), None) => Err(Failure::said(
            "restore: say which file to bring back, or --go",
        )),
        (None, Some(_)) => Err(Failure::said(
            "restore: this database is a PostgreSQL, and no file is read here: bring it back with \
            pg_restore, then `interlock restore` without a file",
        )),
        (None, None) => {
            let marked = open_and_mark(&config.database_url(), config).await?;
            let prefix = &config.payments.order_prefix;
            Ok(format!(
                "This database counts as brought back, with numbers that begin with \
                {prefix}{}.\n{NEXT}",
                marked.turn
            ))
        }
    }
}

/// Opens a database, with the tables of this version, and writes down that it was brought back.
async fn open_and_mark(url: &str, config: &Config) -> Result<Restored, Failure> {
    let store = Store::open(url, 2, config.database.timeout)
        .await
        .map_err(StartError::from)?;
    let marked = mark(&store).await;
    store.close().await?;
    marked
}

async fn mark(store: &Store) -> Result<Restored, Failure> {
    let earlier = Restored::read(store).await?;
    let now = Clock::new().now();
    let restored = Restored::now(earlier.as_ref(), now).map_err(StartError::from)?;
    store.ask_about_all(AllOwners, now).await?;
    restored.write(store).await?;
    Ok(restored)
}

async fn restore_file(config: &Config, database: &Path, file: &Path) -> Result<String, Failure> {
    make_folder(&config.data.dir)?;
    let _locks = lock_for_restore(config).map_err(|error| {
        if let StartError::Locked(at) = &error {
            return refuse(at, "a gateway runs on this folder: stop it first");
        }
        error.into()
    })?;
    if !file.is_file() {
        return Err(refuse(file, "there is no such file"));
    }
    if same_file(file, database) {
        return Err(refuse(file, "this is the database itself"));
    }
    if with(file, "-wal").metadata().is_ok_and(|wal| wal.len() > 0) {
        return Err(refuse(
            file,
            "it is a database in use, not a backup: what it has last written is in its -wal",
        ));
    }
    let whole = copy::examine(file, FACT)
        .await
        .map_err(|e| refuse(file, e))?;

    let next = with(database, ".next");
    let prepared = prepare(config, file, &next).await;
    let exchanged = match prepared {
        Ok(restored) => exchange(database, &next)
            .await
            .map(|aside| (restored, aside))
            .map_err(|e| refuse(database, e)),
        Err(failure) => Err(failure),
    };
    if exchanged.is_err() {
        // It would take the room of the database that stays.
        let _ = remove_all(&next);
    }
    let (restored, aside) = exchanged?;

    let kept = aside.map_or_else(String::new, |aside| {
        format!("What was there is kept as {}.\n", aside.display())
    });
    Ok(format!(
        "{} is back: {}.\n{kept}Numbers at providers begin with {}{} from now on.\n{NEXT}",
        file.display(),
        told(&whole),
        config.payments.order_prefix,
        restored.turn
    ))
}

/// Whatever names lead to it.
fn same_file(a: &Path, b: &Path) -> bool {
    let identity = |path: &Path| path.metadata().map(|found| (found.dev(), found.ino()));
    matches!((identity(a), identity(b)), (Ok(a), Ok(b)) if a == b)
}

/// A copy beside the database, with the tables of this version, that knows what it is; every page
/// of it was read.
async fn prepare(config: &Config, file: &Path, next: &Path) -> Result<Restored, Failure> {
    let fail = |e: io::Error| refuse(next, e);
    // Left by one that was interrupted: SQLite would read it into the new copy.
    remove_all(next).map_err(fail)?;
    let mut to = File::options()
        .write(true)
        .create_new(true)
        .mode(PRIVATE)
        .open(next)
        .map_err(fail)?;
    File::open(file)
        .and_then(|mut from| io::copy(&mut from, &mut to))
        .map_err(fail)?;
    to.sync_all().map_err(fail)?;

    copy::unmark(next).await.map_err(|e| refuse(next, e))?;
    let restored = open_and_mark(&url(next), config).await?;
    copy::fold(next).await.map_err(|e| refuse(next, e))?;
    to.sync_all().map_err(fail)?;
    // Whether it is really there: a disk may have refused what nobody has waited for.
    let whole = copy::examine(next, FACT)
        .await
        .map_err(|e| refuse(next, e))?;
    let found = whole
        .fact
        .and_then(|text| serde_json::from_str::<Restored>(&text).ok());
    if found.as_ref() != Some(&restored) {
        return Err(refuse(
            next,
            "what was written into it is not there: look at the disk",
        ));
    }
    Ok(restored)
}

/// The old database goes aside, the new one takes its place. Interrupted, no gateway starts until
/// this was done again.
async fn exchange(database: &Path, next: &Path) -> io::Result<Option<PathBuf>> {
    let marker = restore_marker(database);
    // The name that one before this has begun to use; what lies beside a database belongs to it.
    let begun = std::fs::read_to_string(&marker)
        .ok()
        .filter(|name| !name.is_empty())
        .map(PathBuf::from);
    let aside = begun.unwrap_or_else(|| free_name(database));
    if database.is_file() {
        // So that it is one file; if it is damaged, it goes aside as it is.
        let _ = copy::fold(database).await;
    }
    let mut file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(PRIVATE)
        .open(&marker)?;
    file.write_all(aside.as_os_str().as_bytes())?;
    file.sync_all()?;
    sync_folder(&marker)?;

    for ending in BESIDE.into_iter().chain([""]) {
        let (old, kept) = (with(database, ending), with(&aside, ending));
        if old.symlink_metadata().is_ok() && kept.symlink_metadata().is_err() {
            std::fs::rename(&old, kept)?;
        }
    }
    sync_folder(database)?;
    std::fs::rename(next, database)?;
    sync_folder(database)?;

    std::fs::remove_file(&marker)?;
    sync_folder(&marker)?;
    let is_kept = [""]
        .into_iter()
        .chain(BESIDE)
        .any(|ending| with(&aside, ending).symlink_metadata().is_ok());
    Ok(is_kept.then_some(aside))
}

/// A name for the database that was there, which nothing has.
fn free_name(database: &Path) -> PathBuf {
    let stamp = Clock::new().now().utc().format("%Y%m%dT%H%M%SZ");
    let names = (0_u32..).map(|number| match number {
        0 => with(database, &format!(".before-{stamp}")),
        number => with(database, &format!(".before-{stamp}-{number}")),
    });
    let is_free = |name: &PathBuf| {
        [""].into_iter()
            .chain(BESIDE)
            .all(|ending| with(name, ending).symlink_metadata().is_err())
    };
    names
        .into_iter()
        .find(is_free)
        .unwrap_or_else(|| with(database, ".before"))
}

/// Notes that the providers were asked.
pub(super) async fn asked(
    store: &Store,
    clock: &Clock,
    open: usize,
    unknown: usize,
) -> Result<String, Failure> {
    let Some(mut restored) = Restored::read(store)
        .await?
        .filter(|restored| restored.is_held)
    else {
        return Ok("Nothing is held.\n".to_owned());
    };
    restored.asked = Some(Asked {
        at: clock.now().0,
        open,
        unknown,
    });
    restored.write(store).await?;
    Ok("Live payments are held until a person says go: interlock restore --go\n".to_owned())
}

/// A person's word that live payments go on.
pub(super) async fn go(store: &Store, anyway: bool) -> Result<String, Failure> {
    let Some(mut restored) = Restored::read(store)
        .await?
        .filter(|restored| restored.is_held)
    else {
        return Err(Failure::said(
            "nothing is held: this installation was not restored, or a person has said go",
        ));
    };

    match restored.asked {
        _ if anyway => {}
        None => {
            let text = "the providers were not asked about what is open: `interlock doctor \
                        --restored` does that";
            return Err(Failure::said(text));
        }
        Some(asked) if asked.unknown > 0 => {
            let text = format!(
                "of {} that are open, nobody knows about {}: ask again with `interlock doctor \
                --restored`, or go on all the same with --anyway",
                asked.open, asked.unknown
            );
            return Err(Failure::said(text));
        }
        Some(_) => {}
    }

    restored.is_held = false;
    restored.write(store).await?;
    Ok("Live payments go on within a second.\n".to_owned())
}
