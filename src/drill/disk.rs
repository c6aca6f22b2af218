//! A small disk for the database of a drill, which can be filled and emptied: a filesystem in
//! memory of its own, mounted in the run's folder. Where that is refused, the embedded database's
//! files are kept from growing instead; a drill says which of the two it was.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use super::error::Error;

/// What fills it is named like this.
const BALLAST: &str = "ballast";
/// Written at once, and again in smaller pieces until nothing more fits.
const PIECE: usize = 1 << 16;

/// A small disk. It is unmounted when it is dropped.
#[derive(Debug)]
pub struct SmallDisk {
    /// Where it is mounted.
    pub folder: PathBuf,
    /// It is no filesystem of its own: what writes there has its files limited.
    pub is_limit: bool,
}

impl SmallDisk {
    /// Mounts one of so many mebibytes at `folder`, for the user who owns `like`.
    ///
    /// # Errors
    /// [`Error`]: only root may.
    pub fn mount(folder: &Path, mebibytes: u32, like: Option<&Path>) -> Result<Self, Error> {
        std::fs::create_dir_all(folder)?;
        let size = format!("size={mebibytes}m");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "none"])
            .arg(folder)
            .output()?;

        if !mounted.status.success() {
            let said = String::from_utf8_lossy(&mounted.stderr).trim().to_owned();
            return Err(Error(format!(
                "a small disk cannot be mounted (that takes root): {said}"
            )));
        }

        let disk = Self {
            folder: folder.to_owned(),
            is_limit: false,
        };
        if let Some(like) = like {
            let owner = std::fs::metadata(like)?;
            std::os::unix::fs::chown(folder, Some(owner.uid()), Some(owner.gid()))?;
        }

        Ok(disk)
    }

    /// Mounts one of so many mebibytes, or limits files where that is refused, and says so.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn mount_or_limit(folder: &Path, mebibytes: u32) -> Result<Self, Error> {
        Self::mount(folder, mebibytes, None).or_else(|refused| {
            // Standard output is the report's alone.
            eprintln!("{refused}: files are kept from growing instead");
            Self::limit(folder)
        })
    }

    /// A folder on the disk that is there, for processes whose files are limited in its place: see
    /// [`limit`].
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn limit(folder: &Path) -> Result<Self, Error> {
        std::fs::create_dir_all(folder)?;
        Ok(Self {
            folder: folder.to_owned(),
            is_limit: true,
        })
    }

    /// Fills it, but for so many bytes.
    ///
    /// # Errors
    /// It cannot be written to at all.
    pub fn fill(&self, left: u64) -> std::io::Result<()> {
        if self.is_limit {
            return Ok(());
        }
        let path = self.folder.join(BALLAST);
        let mut file = File::create(&path)?;
        let mut piece = PIECE;
        while piece > 0 {
            if file.write_all(&vec![0xA5; piece]).is_err() {
                piece /= 4;
            }
        }
        let length = file.metadata()?.len();
        file.set_len(length.saturating_sub(left))
    }

    /// Gives the room back.
    pub fn free(&self) {
        let _ = std::fs::remove_file(self.folder.join(BALLAST));
    }
}

/// No file of a process grows beyond so many bytes, or all may again.
pub fn limit(process: Option<u32>, bytes: Option<u64>) {
    let Some(process) = process.and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)) else {
        return;
    };
    let limit = Rlimit {
        current: bytes,
        maximum: None,
    };
    if let Err(error) = prlimit(Some(process), Resource::Fsize, limit) {
        tracing::warn!(%error, "the disk was spared");
    }
}

/// A program whose files may be limited: it is told of the limit by an error, and not by a signal
/// that ends it.
pub fn program(program: &Path, disk: Option<&SmallDisk>) -> tokio::process::Command {
    if disk.is_none_or(|disk| !disk.is_limit) {
        return tokio::process::Command::new(program);
    }
    let mut shell = tokio::process::Command::new("sh");
    shell
        .args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""])
        .arg(program);
    shell
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if self.is_limit {
            return;
        }
        self.free();
        // Somebody may still be in it for a moment.
        let _ = Command::new("umount").arg("-l").arg(&self.folder).status();
    }
}
