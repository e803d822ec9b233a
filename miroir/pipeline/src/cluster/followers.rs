//! What capabilities keep in memory of the stores, read anew whenever the pipeline's own state is.

use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use miroir_core::lock::Lock;
use miroir_store::StoreError;

/// Something that is kept in memory of a store.
pub trait Follow: Send + Sync {
    /// Reads the store anew. Called before anything is served, whenever another pod changed
    /// something, and when this pod begins to lead.
    ///
    /// # Errors
    /// When the store fails; what is in memory stays as it was.
    fn follow(&self) -> BoxFuture<'_, Result<(), StoreError>>;
}

/// The followers of the stores that capabilities have registered.
#[derive(Default)]
pub struct Followers(Lock<Vec<Arc<dyn Follow>>>);

impl fmt::Debug for Followers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Followers").finish_non_exhaustive()
    }
}

impl Followers {
    /// Has `follower` read its store with all others. Before the first
    /// [`ClusterState::reload`](super::ClusterState::reload).
    pub fn register(&self, follower: Arc<dyn Follow>) {
        self.0.lock().push(follower);
    }

    /// Has all of them read their stores.
    ///
    /// # Errors
    /// The first failure.
    pub async fn follow(&self) -> Result<(), StoreError> {
        // Not under the lock, which is not held across an `await`.
        let all = self.0.lock().clone();
        for follower in all {
            follower.follow().await?;
        }
        Ok(())
    }
}
