//! A flag that many may wait for.
//!
//! They go on in the order in which they came: `tokio::sync::watch` wakes them in one of its own, which
//! no seed repeats.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// See the module's documentation. Off at first.
#[derive(Debug, Default)]
pub(crate) struct Switch {
    on: AtomicBool,
    changed: Notify,
}

impl Switch {
    /// Turns it on or off.
    pub(crate) fn turn(&self, on: bool) {
        self.on.store(on, Ordering::SeqCst);
        self.changed.notify_waiters();
    }

    /// Whether it is on.
    pub(crate) fn is_on(&self) -> bool {
        self.on.load(Ordering::SeqCst)
    }

    /// Waits until it is on, or off.
    pub(crate) async fn until(&self, on: bool) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.is_on() == on {
                return;
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use miroir_core::lock::Lock;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_came_first_goes_on_first() {
        let (switch, order) = (Arc::new(Switch::default()), Arc::new(Lock::new(Vec::new())));
        let waiters: Vec<_> = (0..100)
            .map(|number| {
                let (switch, order) = (Arc::clone(&switch), Arc::clone(&order));
                tokio::spawn(async move {
                    switch.until(true).await;
                    order.lock().push(number);
                })
            })
            .collect();
        // Until all of them wait.
        tokio::time::sleep(Duration::from_millis(1)).await;
        switch.turn(true);
        for waiter in waiters {
            waiter.await.unwrap();
        }
        assert_eq!(*order.lock(), (0..100).collect::<Vec<_>>());
        switch.until(true).await;
        switch.turn(false);
        switch.until(false).await;
    }
}
