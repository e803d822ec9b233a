//! Locks that cannot fail: what they guard stays usable when a holder panicked.
//!
//! The standard library's locks are poisoned by a panic, so that every caller has to say what it
//! does then. Sections under these locks are short, change one value and call nothing that may
//! panic
//! half way: there is nothing to be said. They are not held across an `await`.

use std::sync::{self, MutexGuard, PoisonError, RwLockReadGuard, RwLockWriteGuard};

/// A mutex without poisoning.
#[derive(Debug, Default)]
pub struct Lock<T: ?Sized>(sync::Mutex<T>);

impl<T> Lock<T> {
    /// A lock that nobody holds.
    pub const fn new(value: T) -> Self {
        Self(sync::Mutex::new(value))
    }
}

impl<T: ?Sized> Lock<T> {
    /// Waits until nobody else holds it. Blocks the thread; a holder that takes it again waits for
    /// ever.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A lock for many readers or one writer, without poisoning.
#[derive(Debug, Default)]
pub struct ReadWriteLock<T: ?Sized>(sync::RwLock<T>);

impl<T: ?Sized> ReadWriteLock<T> {
    /// Waits until nobody writes. Blocks the thread.
    pub fn read(&self) -> RwLockReadGuard<'_, T> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until nobody else reads or writes. Blocks the thread.
    pub fn write(&self) -> RwLockWriteGuard<'_, T> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_lock_can_be_taken_after_a_holder_panicked() {
        let (lock, shared) = (Arc::new(Lock::new(1)), Arc::new(ReadWriteLock::<u32>::default()));
        let (held, read) = (Arc::clone(&lock), Arc::clone(&shared));
        let panicked = std::thread::spawn(move || {
            let (mut one, mut other) = (held.lock(), read.write());
            (*one, *other) = (2, 3);
            panic!("while it holds both");
        });
        assert!(panicked.join().is_err());
        assert_eq!(*lock.lock(), 2);
        assert_eq!(*shared.read(), 3);
        assert_eq!(*shared.write(), 3);
    }
}
