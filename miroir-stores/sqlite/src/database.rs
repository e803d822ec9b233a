//! One writer thread that commits in groups, and a few connections for reading.

use std::error::Error;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use miroir_core::lock::Lock;
use miroir_store::StoreError;
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::owner::{AGAIN, Owner};
use crate::{Durability, Options, migrations};

/// Why a call failed.
pub(crate) type Fault = Box<dyn Error + Send + Sync>;

/// An instant as a column: nanoseconds since 1970.
pub(crate) fn nanoseconds(at: time::OffsetDateTime) -> Result<i64, Fault> {
    Ok(i64::try_from(at.unix_timestamp_nanos())?)
}

/// How long a connection waits for another process that writes.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The write-ahead log is cut to this size, in bytes, when it has grown beyond it.
const LOG_LIMIT: i64 = 64 << 20;

/// An open database.
pub(crate) struct Database {
    writer: mpsc::Sender<Box<dyn Job>>,
    readers: Arc<Readers>,
    /// The features whose tables are there.
    features: Vec<&'static str>,
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").finish_non_exhaustive()
    }
}

impl Database {
    /// Opens, migrates and starts the writer.
    pub(crate) fn open(path: &Path, options: &Options) -> Result<Self, StoreError> {
        let owner =
            options.patience.map(|patience| Owner::become_one(path, patience)).transpose()?;
        make_private(path).map_err(|error| StoreError::Backend(error.into()))?;
        let mut connection = connect(path, OpenFlags::SQLITE_OPEN_CREATE, options.durability)?;
        migrations::migrate(&mut connection, migrations::ALL, &options.features)?;
        let readers = (0..options.readers.max(1))
            .map(|_| connect(path, OpenFlags::empty(), options.durability))
            .collect::<Result<Vec<_>, _>>()?;
        let readers = Arc::new(Readers {
            permits: Arc::new(Semaphore::new(readers.len())),
            idle: Lock::new(readers),
        });

        let (writer, queue) = mpsc::channel(options.queue.max(1));
        let batch = options.batch.max(1);
        std::thread::Builder::new()
            .name("miroir-sqlite".to_owned())
            .spawn(move || {
                write(connection, queue, batch);
                // The file is this process's until everything that was queued is written.
                drop(owner);
            })
            .map_err(|error| StoreError::Backend(error.into()))?;
        Ok(Self { writer, readers, features: options.features.clone() })
    }

    /// Refuses what needs tables that are not there.
    pub(crate) fn expect(&self, feature: Option<&'static str>) -> Result<(), StoreError> {
        miroir_store::records::expect_feature(&self.features, feature)
    }

    /// Runs `work` on the writer, all or nothing, and answers once it is committed.
    pub(crate) async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, Fault> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let stopped = || StoreError::Backend("the writer of the database has stopped".into());
        let call = Call { work: Some(work), outcome: None, reply };
        self.writer.send(Box::new(call)).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?.map_err(StoreError::Backend)
    }

    /// Runs `work` on one snapshot of the database.
    pub(crate) async fn read<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, Fault> + Send + 'static,
    {
        let permit = Arc::clone(&self.readers.permits).acquire_owned().await;
        let permit = permit.map_err(|error| StoreError::Backend(error.into()))?;
        let readers = Arc::clone(&self.readers);
        let read = tokio::task::spawn_blocking(move || {
            let lease = readers.lease(permit).ok_or("no connection for reading is left")?;
            let snapshot = lease.connection().unchecked_transaction()?;
            let answer = work(&snapshot)?;
            snapshot.finish()?;
            Ok(answer)
        });
        read.await.map_err(|error| StoreError::Backend(error.into()))?.map_err(StoreError::Backend)
    }
}

/// Makes the file, if it is not there, so that only its owner reads it: there are headers of webhooks
/// and answers to changes inside. The files that SQLite makes beside it get the same rights.
fn make_private(path: &Path) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// A connection with everything set but the schema.
fn connect(
    path: &Path,
    extra: OpenFlags,
    durability: Durability,
) -> Result<Connection, StoreError> {
    let backend = |error: rusqlite::Error| StoreError::Backend(error.into());
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | extra;
    let connection = Connection::open_with_flags(path, flags).map_err(backend)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(backend)?;
    connection.set_prepared_statement_cache_capacity(64);
    let mode = write_ahead(&connection).map_err(backend)?;
    if mode != "wal" {
        let text = format!("the file system cannot hold a database in WAL mode, only `{mode}`");
        return Err(StoreError::Backend(text.into()));
    }
    let synchronous = match durability {
        Durability::Synced => "full",
        Durability::Flushed => "normal",
    };
    connection.pragma_update(None, "synchronous", synchronous).map_err(backend)?;
    connection
        .pragma_update_and_check(None, "journal_size_limit", LOG_LIMIT, |_| Ok(()))
        .map_err(backend)?;
    if !extra.contains(OpenFlags::SQLITE_OPEN_CREATE) {
        connection.pragma_update(None, "query_only", true).map_err(backend)?;
    }
    Ok(connection)
}

/// Puts the database into WAL mode and answers the mode that it is in then.
///
/// While another handle does the same, this fails at once: both hold a lock that the other one waits
/// for, and in that case SQLite asks no busy handler. It is tried again for as long as one would wait.
fn write_ahead(connection: &Connection) -> rusqlite::Result<String> {
    let begun = Instant::now();
    loop {
        let mode =
            connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0));
        match mode {
            Err(error) if is_busy(&error) && begun.elapsed() < BUSY_TIMEOUT => {
                std::thread::sleep(AGAIN);
            }
            mode => return mode,
        }
    }
}

fn is_busy(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy)
}

/// The connections for reading.
struct Readers {
    /// As many as there are connections.
    permits: Arc<Semaphore>,
    idle: Lock<Vec<Connection>>,
}

impl Readers {
    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.idle.lock()
    }

    fn lease(self: Arc<Self>, permit: OwnedSemaphorePermit) -> Option<Lease> {
        let connection = self.idle().pop()?;
        Some(Lease { connection: Some(connection), readers: self, _permit: permit })
    }
}

/// A connection that goes back when it is dropped, before its permit does.
struct Lease {
    connection: Option<Connection>,
    readers: Arc<Readers>,
    _permit: OwnedSemaphorePermit,
}

impl Lease {
    fn connection(&self) -> &Connection {
        self.connection.as_ref().expect("taken only when dropped")
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.readers.idle().extend(self.connection.take());
    }
}

/// A write that waits.
trait Job: Send {
    /// Does the work inside the open transaction; whether it went well.
    fn run(&mut self, connection: &Connection) -> bool;
    /// Tells the caller, after the commit.
    fn answer(self: Box<Self>, committed: Result<(), &str>);
}

struct Call<T, F> {
    work: Option<F>,
    outcome: Option<Result<T, Fault>>,
    reply: oneshot::Sender<Result<T, Fault>>,
}

impl<T, F> Job for Call<T, F>
where
    T: Send,
    F: FnOnce(&Connection) -> Result<T, Fault> + Send,
{
    fn run(&mut self, connection: &Connection) -> bool {
        self.outcome = self.work.take().map(|work| work(connection));
        matches!(self.outcome, Some(Ok(_)))
    }

    fn answer(self: Box<Self>, committed: Result<(), &str>) {
        let answer = match (committed, self.outcome) {
            (_, Some(Err(fault))) => Err(fault),
            (Ok(()), Some(outcome)) => outcome,
            (Ok(()), None) => Err("the call was not run".into()),
            (Err(reason), _) => Err(reason.into()),
        };
        // The caller may be gone; what it asked for is done all the same.
        let _ = self.reply.send(answer);
    }
}

/// The writer thread: takes what waits, commits it as one, answers. Ends when no handle is left.
fn write(connection: Connection, mut queue: mpsc::Receiver<Box<dyn Job>>, batch: usize) {
    let mut jobs = Vec::with_capacity(batch);
    while queue.blocking_recv_many(&mut jobs, batch) > 0 {
        let committed = commit(&connection, &mut jobs).map_err(|fault| fault.to_string());
        if let Err(reason) = &committed {
            tracing::error!(calls = jobs.len(), reason, "the store could not commit");
        }
        for job in jobs.drain(..) {
            job.answer(committed.as_ref().map(|_| ()).map_err(String::as_str));
        }
    }
    if let Err(error) = connection.execute_batch("PRAGMA optimize") {
        tracing::debug!(%error, "the database was closed without being optimised");
    }
}

/// Commits all jobs in one transaction. A job that fails is undone alone.
fn commit(connection: &Connection, jobs: &mut [Box<dyn Job>]) -> Result<(), Fault> {
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
    for job in jobs {
        transaction.prepare_cached("SAVEPOINT call")?.execute([])?;
        if !job.run(&transaction) {
            if transaction.is_autocommit() {
                // A full disk, for one, ends the whole transaction.
                return Err("SQLite gave up the transaction this call was part of".into());
            }
            transaction.prepare_cached("ROLLBACK TO call")?.execute([])?;
        }
        transaction.prepare_cached("RELEASE call")?.execute([])?;
    }
    transaction.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(path: &Path) -> Database {
        Database::open(path, &Options::default()).unwrap()
    }

    fn counter(connection: &Connection) -> Result<i64, Fault> {
        let sql = "SELECT next FROM counters WHERE name = 'task_uid'";
        Ok(connection.query_row(sql, [], |row| row.get(0))?)
    }

    #[tokio::test]
    async fn a_failed_call_is_undone_alone() {
        let directory = tempfile::tempdir().unwrap();
        let database = open(&directory.path().join("db"));
        let raise = |fail: bool| {
            database.write(move |connection| {
                connection.execute("UPDATE counters SET next = next + 1", [])?;
                if fail { Err("no".into()) } else { counter(connection) }
            })
        };
        // The first call occupies the writer long enough for the others to share a batch or not;
        // either way each must be judged by itself.
        let calls = (0..50).map(|i| raise(i % 3 == 0));
        let answers = futures_util::future::join_all(calls).await;
        let failed = answers.iter().filter(|answer| answer.is_err()).count();
        assert_eq!(failed, 17);
        let seen: Vec<_> = answers.into_iter().flatten().collect();
        assert_eq!(seen, (1..=33).collect::<Vec<_>>());
        assert_eq!(database.read(counter).await.unwrap(), 33);
    }

    #[tokio::test]
    async fn a_lost_transaction_fails_every_call_of_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("db");
        let mut connection = connect(&path, OpenFlags::SQLITE_OPEN_CREATE, Durability::Synced);
        let connection = connection.as_mut().unwrap();
        migrations::migrate(connection, migrations::ALL, &[]).unwrap();
        let mut answers = Vec::new();
        let mut call = |work: fn(&Connection) -> Result<(), Fault>| {
            let (reply, answer) = oneshot::channel();
            answers.push(answer);
            Box::new(Call { work: Some(work), outcome: None, reply }) as Box<dyn Job>
        };
        let mut jobs = vec![
            call(|connection| {
                connection.execute("UPDATE counters SET next = next + 1", [])?;
                Ok(())
            }),
            call(|connection| {
                connection.execute_batch("ROLLBACK")?;
                Err("disk full".into())
            }),
        ];
        let committed = commit(connection, &mut jobs).map_err(|fault| fault.to_string());
        assert!(committed.is_err());
        for job in jobs {
            job.answer(committed.as_ref().map(|_| ()).map_err(String::as_str));
        }
        for answer in answers {
            assert!(answer.await.unwrap().is_err());
        }
        assert_eq!(counter(connection).unwrap(), 0);
    }

    #[tokio::test]
    async fn a_read_that_panics_gives_its_connection_back() {
        let directory = tempfile::tempdir().unwrap();
        let options = Options { readers: 1, ..Options::default() };
        let database = Database::open(&directory.path().join("db"), &options).unwrap();
        let failed = database.read(|_| -> Result<(), Fault> { panic!("on purpose") }).await;
        assert!(failed.is_err());
        assert_eq!(database.read(counter).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn readers_cannot_write() {
        let directory = tempfile::tempdir().unwrap();
        let database = open(&directory.path().join("db"));
        let written = database.read(|connection| {
            connection.execute("UPDATE counters SET next = 9", [])?;
            Ok(())
        });
        assert!(written.await.is_err());
    }
}
