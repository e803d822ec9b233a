//! Whose the file is: a lock of the system beside it, which ends with the process.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use miroir_store::{StoreError, clock};

/// Pause between two tries of what fails at once instead of waiting.
pub(crate) const AGAIN: Duration = Duration::from_millis(10);

/// The file is this process's while this lives.
#[derive(Debug)]
pub(crate) struct Owner(#[allow(dead_code, reason = "closing it is what ends the lock")] File);

impl Owner {
    /// Takes the lock of the database at `path`; waits `patience` for another process that has it.
    ///
    /// # Errors
    /// [`StoreError::InUse`] if that one does not end.
    pub(crate) fn become_one(path: &Path, patience: Duration) -> Result<Self, StoreError> {
        let backend = |error: std::io::Error| StoreError::Backend(error.into());
        let lock = beside(path).map_err(backend)?;
        let open =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(lock);
        let mut file = open.map_err(backend)?;
        let begun = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if begun.elapsed() < patience => {
                    std::thread::sleep(AGAIN);
                }
                Err(TryLockError::WouldBlock) => {
                    let mut holder = String::new();
                    let _ = file.read_to_string(&mut holder);
                    let holder = match holder.trim() {
                        "" => "another process".to_owned(),
                        holder => holder.to_owned(),
                    };
                    return Err(StoreError::InUse { holder });
                }
                Err(TryLockError::Error(error)) => return Err(backend(error)),
            }
        }
        // For whoever is refused. The lock counts, not what is written here.
        let noted = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", this_process()));
        if let Err(error) = noted {
            tracing::debug!(%error, "the lock does not say whose it is");
        }
        Ok(Self(file))
    }
}

/// The lock's file: one, whatever path leads to the database.
fn beside(path: &Path) -> std::io::Result<PathBuf> {
    let mut real = match std::fs::canonicalize(path) {
        Ok(real) => real,
        // It is made only now.
        Err(_) => {
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            let parent = std::fs::canonicalize(parent.unwrap_or(Path::new(".")))?;
            parent.join(path.file_name().unwrap_or_default())
        }
    }
    .into_os_string();
    real.push(".lock");
    Ok(real.into())
}

fn this_process() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = match host.trim() {
        "" => String::new(),
        host => format!(" on {host}"),
    };
    let since = clock::now().replace_nanosecond(0).unwrap_or_else(|_| clock::now());
    let since = since.format(&time::format_description::well_known::Rfc3339).unwrap_or_default();
    format!("process {}{host} since {since}", std::process::id())
}
