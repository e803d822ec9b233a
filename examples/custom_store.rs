//! A store of one's own: search rules in a file, everything else in memory. The suite says whether
//! it does what the trait promises.

#[path = "common/mod.rs"]
mod common;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use common::Result;
use miroir::store::{Rules, StoreError, StoreFuture, Stores, memory};
use serde_json::Value;

/// Search rules as one JSON object in a file. One process at a time.
#[derive(Debug)]
struct FileRules {
    path: PathBuf,
    lock: Mutex<()>,
}

type All = BTreeMap<String, Value>;

impl FileRules {
    /// Reads all rules, changes them, and replaces the file as a whole.
    fn change<T>(&self, change: impl FnOnce(&mut All) -> T) -> std::result::Result<T, StoreError> {
        let failed = |error: std::io::Error| StoreError::Backend(error.into());
        let _guard = self.lock.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let text = match std::fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => "{}".to_owned(),
            Err(error) => return Err(failed(error)),
        };
        let before: All =
            serde_json::from_str(&text).map_err(|error| StoreError::Backend(error.into()))?;
        let mut after = before.clone();
        let out = change(&mut after);
        if after != before {
            let new = self.path.with_extension("new");
            let text = serde_json::to_string(&after);
            let text = text.map_err(|error| StoreError::Backend(error.into()))?;
            std::fs::write(&new, text).map_err(failed)?;
            std::fs::rename(new, &self.path).map_err(failed)?;
        }
        Ok(out)
    }
}

impl Rules for FileRules {
    fn list(&self) -> StoreFuture<'_, Vec<(String, Value)>> {
        Box::pin(async { self.change(|all| all.clone().into_iter().collect()) })
    }

    fn put(&self, uid: String, rule: Value) -> StoreFuture<'_, ()> {
        Box::pin(async {
            self.change(|all| {
                all.insert(uid, rule);
            })
        })
    }

    fn delete(&self, uid: String) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            self.change(|all| {
                all.remove(&uid);
            })
        })
    }

    fn clear(&self) -> StoreFuture<'_, ()> {
        Box::pin(async { self.change(All::clear) })
    }
}

/// Runs the example and answers what it prints.
pub(crate) async fn run(path: PathBuf) -> Result<String> {
    let rules = Arc::new(FileRules { path, lock: Mutex::default() });
    // Give these to `Miroir::builder().stores(…)`.
    let stores = Stores { rules, ..memory::open() };
    miroir_test::stores::rules::round_trip(&stores).await;
    Ok(format!("{} rules are left, and the store keeps its promises", {
        stores.rules.list().await?.len()
    }))
}

#[tokio::main]
async fn main() -> Result<()> {
    let path = std::env::args().nth(1).map_or_else(
        || std::env::temp_dir().join(format!("miroir-rules-{}.json", std::process::id())),
        PathBuf::from,
    );
    println!("{}", run(path).await?);
    Ok(())
}
