//! Where the embedded database lies: its file's path in an address, and back.

use std::path::{Path, PathBuf};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// So many links are followed, one from the other.
const LINKS: usize = 16;
/// So long is a log in which nothing is written.
pub const LOG_HEAD: u64 = 32;
/// What stands for itself in an address.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// The file that an address names; `None`: it is a database of another kind, or none on a disk.
#[must_use]
pub fn file(url: &str) -> Option<PathBuf> {
    let path = url.strip_prefix("sqlite:")?;
    let path = path.strip_prefix("//").unwrap_or(path);
    let path = percent_decode_str(path.split('?').next()?)
        .decode_utf8()
        .ok()?;
    (!path.is_empty() && path != ":memory:").then(|| PathBuf::from(path.as_ref()))
}

/// The address of a file.
#[must_use]
pub fn url(file: &Path) -> String {
    format!(
        "sqlite://{}",
        utf8_percent_encode(&file.to_string_lossy(), PLAIN)
    )
}

/// The file itself, whatever links lead to it, also when it is still to be made.
#[must_use]
pub fn itself(file: &Path) -> PathBuf {
    if let Ok(found) = file.canonicalize() {
        return found;
    }
    let file = target(file);
    let folder = file
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    match (folder.canonicalize(), file.file_name()) {
        (Ok(folder), Some(name)) => folder.join(name),
        _ => file,
    }
}

/// Where links lead to, one after the other, whether anything is there or not.
fn target(file: &Path) -> PathBuf {
    let mut target = file.to_owned();
    for _ in 0..LINKS {
        let Ok(next) = target.read_link() else { break };
        target = target
            .parent()
            .map_or_else(|| next.clone(), |folder| folder.join(&next));
    }
    target
}

/// What lies beside a database once its file was found damaged: no gateway starts on it.
#[must_use]
pub fn damage_marker(database: &Path) -> PathBuf {
    with(database, ".damaged")
}

/// Whether a database is at its place. One that is gone, or empty, while its log is there is not
/// "none": opened, a new one would be made, and the log thrown away with what was written last.
///
/// # Errors
/// [`LogAlone`].
pub fn is_there(file: &Path) -> Result<bool, LogAlone> {
    let found = file.metadata();
    if found.as_ref().is_ok_and(|found| found.len() > 0) {
        return Ok(true);
    }
    // SQLite keeps the log beside the file itself.
    let log = with(&target(file), "-wal");
    // The first bytes of a log are its head: a database that was just begun may have that alone.
    if log.metadata().is_ok_and(|log| log.len() > LOG_HEAD) {
        Err(LogAlone(log))
    } else {
        Ok(found.is_ok())
    }
}

/// The log of a database is there, and the database is not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{}: the log of a database that is not there, with what was written last: put the database \
    back beside it, or bring back a backup with `interlock restore FILE`",
    .0.display()
)]
pub struct LogAlone(PathBuf);

/// A path with something behind it: `interlock.db-wal`.
#[must_use]
pub fn with(file: &Path, ending: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_path_has_in_it_comes_back() {
        for path in [
            "/srv/a b/100%/interlock.db",
            "/srv/what?/付款.db",
            "data/interlock.db",
            "/a#b/c%41.db",
        ] {
            assert_eq!(
                file(&url(Path::new(path))).as_deref(),
                Some(Path::new(path))
            );
        }

        assert_eq!(
            file("sqlite:shop.db?mode=rwc").as_deref(),
            Some(Path::new("shop.db"))
        );
        assert_eq!(
            file("sqlite:///srv/a%20b.db").as_deref(),
            Some(Path::new("/srv/a b.db"))
        );

        assert_eq!(
            (file("sqlite::memory:"), file("postgres://h/db")),
            (None, None)
        );
    }

    #[test]
    fn links_that_lead_to_what_is_still_to_be_made_name_one_file() {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        for name in ["a", "b", "there"] {
            std::fs::create_dir(at(name)).unwrap();
        }
        for name in ["a", "b"] {
            std::os::unix::fs::symlink("../there/x.db", at(name).join("interlock.db")).unwrap();
        }
        assert_eq!(itself(&at("a/interlock.db")), itself(&at("b/interlock.db")));
        assert_eq!(
            itself(&at("a/interlock.db")),
            at("there").canonicalize().unwrap().join("x.db")
        );
    }

    #[test]
    fn an_empty_file_beside_a_log_is_no_database() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("interlock.db");
        assert_eq!(is_there(&file), Ok(false));
        std::fs::write(&file, "").unwrap();
        assert_eq!(is_there(&file), Ok(true), "just begun");
        std::fs::write(with(&file, "-wal"), [0; 4_152]).unwrap();
        assert_eq!(is_there(&file), Err(LogAlone(with(&file, "-wal"))));
        std::fs::write(&file, "SQLite format 3").unwrap();
        assert_eq!(is_there(&file), Ok(true));
    }
}
