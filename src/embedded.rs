//! Where the embedded database lies: its file's path in an address, and back.

use std::path::{Path, PathBuf};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// So many links are followed, one from the other.
const LINKS: usize = 16;
/// What stands for itself in an address.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// The file that an address names; `None`: it is a database of another kind, or none on a disk.
#[must_use]
pub fn file(url: &str) -> Option<PathBuf> {
    let path = url.strip_prefix("sqlite:")?;
    let path = path.strip_prefix("//").unwrap_or(path);
    let path = percent_decode_str(path.split('?').next()?).decode_utf8().ok()?;
    (!path.is_empty() && path != ":memory:").then(|| PathBuf::from(path.as_ref()))
}

/// The address of a file.
#[must_use]
pub fn url(file: &Path) -> String {
    format!("sqlite://{}", utf8_percent_encode(&file.to_string_lossy(), PLAIN))
}

/// The file itself, whatever links lead to it, also when it is still to be made.
#[must_use]
pub fn itself(file: &Path) -> PathBuf {
    if let Ok(found) = file.canonicalize() {
        return found;
    }
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match (folder.canonicalize(), file.file_name()) {
        (Ok(folder), Some(name)) => folder.join(name),
        _ => file.to_owned(),
    }
}

/// Whether a database is at its place. One that is gone while its log is there is not "none": opened, a new one would be
/// made, and the log thrown away with what was written last.
///
/// # Errors
/// [`LogAlone`].
pub fn is_there(file: &Path) -> Result<bool, LogAlone> {
    if file.metadata().is_ok() {
        return Ok(true);
    }
    // SQLite keeps the log beside the file itself.
    let mut target = file.to_owned();
    for _ in 0..LINKS {
        let Ok(next) = target.read_link() else { break };
        target = target.parent().map_or_else(|| next.clone(), |folder| folder.join(&next));
    }
    let log = with(&target, "-wal");
    if log.metadata().is_ok_and(|log| log.len() > 0) { Err(LogAlone(log)) } else { Ok(false) }
}

/// The log of a database is there, and the database is not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{}: the log of a database that is not there, with what was written last: put the database back beside it, or bring \
     back a backup with `interlock restore FILE`",
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
        for path in ["/srv/a b/100%/interlock.db", "/srv/what?/付款.db", "data/interlock.db", "/a#b/c%41.db"] {
            assert_eq!(file(&url(Path::new(path))).as_deref(), Some(Path::new(path)));
        }
        assert_eq!(file("sqlite:shop.db?mode=rwc").as_deref(), Some(Path::new("shop.db")));
        assert_eq!(file("sqlite:///srv/a%20b.db").as_deref(), Some(Path::new("/srv/a b.db")));
        assert_eq!((file("sqlite::memory:"), file("postgres://h/db")), (None, None));
    }
}
