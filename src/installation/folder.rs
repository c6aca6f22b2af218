//! The data folder, and secrets that lie in it.

use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;

use super::error::StartError;

/// The data folder's mode, and the bits that it must not have.
const PRIVATE: u32 = 0o700;
const OTHERS: u32 = 0o077;
/// Of a folder that is everybody's.
const STICKY: u32 = 0o1000;

/// Makes the folder for data, unless it is there, for nobody but its owner: what lies in it opens
/// everything.
///
/// # Errors
/// [`StartError::File`].
pub fn make_folder(folder: &Path) -> Result<(), StartError> {
    let made = std::fs::DirBuilder::new()
        .recursive(true)
        .mode(PRIVATE)
        .create(folder);
    made.map_err(|e| match folder.is_file() {
        true => StartError::file(folder, "the folder for data is a file"),
        false => StartError::file(folder, format!("the folder for data cannot be made: {e}")),
    })?;
    narrow(folder);
    Ok(())
}

/// A folder that was there may be open to others. One that is everybody's, as `/tmp` is, stays so.
fn narrow(folder: &Path) {
    let Ok(mode) = std::fs::metadata(folder).map(|found| found.permissions().mode()) else {
        return;
    };
    if mode & OTHERS == 0 {
        return;
    }
    let (shown, before) = (folder.display(), format!("{:o}", mode & 0o7777));

    if mode & STICKY != 0 {
        tracing::warn!(folder = %shown, mode = before, "the folder for data is everybody's: give \
                                                        it one of its own");
        return;
    }

    match std::fs::set_permissions(folder, std::fs::Permissions::from_mode(PRIVATE)) {
        Ok(()) => {
            tracing::warn!(folder = %shown, before, "the folder for data was open to others: it is \
                                                     700 now")
        }
        Err(error) => {
            tracing::warn!(folder = %shown, mode = before, %error,
                "the folder for data is open to others, and stays so");
        }
    }
}

/// Writes a file that only its owner can read, whole or not at all.
///
/// # Errors
/// [`StartError::File`].
pub fn write_secret(path: &Path, text: &[u8]) -> Result<(), StartError> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let next = path.with_extension("next");
    let write = || -> std::io::Result<()> {
        let _ = std::fs::remove_file(&next);
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&next)?;
        file.write_all(text)?;
        file.sync_all()?;
        std::fs::rename(&next, path)
    };
    write().map_err(|e| StartError::file(path, e))
}
