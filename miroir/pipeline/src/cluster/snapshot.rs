//! A value that many read and one at a time replaces.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use tokio::sync::{Mutex, MutexGuard};

/// The current version of a value, and a lock for whoever makes the next one.
///
/// Readers never wait: they get the version that is current when they ask. Writers that read, ask a
/// store and replace hold the lock from the reading to the replacing ([`Snapshot::write`]), so that
/// no change is lost; changes that need nothing but the value itself go by compare-and-swap
/// ([`Snapshot::try_update`]).
#[derive(Debug, Default)]
pub struct Snapshot<T> {
    current: ArcSwap<T>,
    writer: Mutex<()>,
}

impl<T> Snapshot<T> {
    /// A snapshot whose first version is `value`.
    pub fn new(value: T) -> Self {
        Self { current: ArcSwap::from_pointee(value), writer: Mutex::new(()) }
    }

    /// The current version, to keep.
    pub fn load(&self) -> Arc<T> {
        self.current.load_full()
    }

    /// The current version, to look at for a moment: cheaper than [`Snapshot::load`].
    pub fn peek(&self) -> Guard<Arc<T>> {
        self.current.load()
    }

    /// Waits for the other writers. Until the writer is dropped, nobody else replaces the value.
    pub async fn write(&self) -> Writer<'_, T> {
        Writer { snapshot: self, _turn: self.writer.lock().await }
    }

    /// Replaces the value with what `next` makes of it, which is asked again where another change
    /// came first. Not to be mixed with [`Snapshot::write`] on one snapshot: it does not wait for
    /// writers.
    ///
    /// # Errors
    /// What `next` returns; the value then stays.
    pub fn try_update<E>(&self, next: impl Fn(&T) -> Result<T, E>) -> Result<Arc<T>, E> {
        let mut current = self.current.load_full();
        loop {
            let made = Arc::new(next(&current)?);
            let before = self.current.compare_and_swap(&current, Arc::clone(&made));
            if Arc::ptr_eq(&before, &current) {
                return Ok(made);
            }
            current = Guard::into_inner(before);
        }
    }
}

/// The right to replace the value of a [`Snapshot`].
#[derive(Debug)]
pub struct Writer<'a, T> {
    snapshot: &'a Snapshot<T>,
    _turn: MutexGuard<'a, ()>,
}

impl<T> Writer<'_, T> {
    /// The current version; it stays current until this writer replaces it.
    pub fn current(&self) -> Arc<T> {
        self.snapshot.load()
    }

    /// Makes a value the current version.
    pub fn replace(&self, value: T) {
        self.snapshot.current.store(Arc::new(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn no_writer_loses_the_change_of_another() {
        let snapshot = Arc::new(Snapshot::new(0));
        let writers = (0..50).map(|_| {
            let snapshot = Arc::clone(&snapshot);
            tokio::spawn(async move {
                let writer = snapshot.write().await;
                let next = *writer.current() + 1;
                // A store is asked in between.
                tokio::task::yield_now().await;
                writer.replace(next);
            })
        });
        for writer in writers.collect::<Vec<_>>() {
            writer.await.unwrap();
        }
        assert_eq!(*snapshot.load(), 50);
    }

    #[test]
    fn a_refused_update_leaves_the_value() {
        let snapshot = Snapshot::new(1);
        assert_eq!(snapshot.try_update(|_| Err::<i32, _>("no")), Err("no"));
        assert_eq!(*snapshot.peek().as_ref(), 1);
        assert_eq!(snapshot.try_update(|n| Ok::<_, ()>(n + 1)).map(|n| *n), Ok(2));
        assert_eq!(*snapshot.load(), 2);
    }

    #[test]
    fn an_update_that_came_second_is_made_of_what_the_first_left() {
        let snapshot = Snapshot::new(1);
        let mut first = true;
        let first = std::cell::RefCell::new(&mut first);
        let made = snapshot.try_update(|n| {
            if std::mem::take(&mut **first.borrow_mut()) {
                snapshot.try_update(|n| Ok::<_, ()>(n * 10)).unwrap();
            }
            Ok::<_, ()>(n + 1)
        });
        assert_eq!(made.map(|n| *n), Ok(11));
    }
}
