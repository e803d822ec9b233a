//! Filling an index: the same steps against the cluster and against one plain node.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{Corpus, INDEX};
use crate::cluster::{apply, enqueue, wait_task};
use crate::http::Client;
use crate::progress::Progress;
use crate::{Outcome, guard};

/// Documents in one request.
const BATCH: usize = 1_000;

/// Documents as NDJSON.
pub(crate) fn ndjson(documents: &[Value]) -> String {
    documents.iter().fold(String::new(), |mut text, document| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{document}");
        text
    })
}

/// Creates the index, sets it up and adds the documents; returns when all of it can be searched.
pub(crate) fn load(client: &mut Client, corpus: &Corpus, label: &str) -> Outcome<()> {
    let mut index = json!({ "uid": INDEX });
    if let Some(key) = corpus.primary_key {
        index["primaryKey"] = json!(key);
    }
    apply(client, "POST", "/indexes", &index)?;
    if let Some(settings) = &corpus.settings {
        apply(client, "PATCH", &format!("/indexes/{INDEX}/settings"), settings)?;
    }
    let total = corpus.documents.len();
    let mut bar = Progress::new(label, total);
    let mut tasks = Vec::new();
    for batch in corpus.documents.chunks(BATCH) {
        guard::check_stop()?;
        let body = ndjson(batch);
        let path = format!("/indexes/{INDEX}/documents");
        tasks.push((
            batch.len(),
            enqueue(client, "POST", &path, "application/x-ndjson", body.as_bytes())?,
        ));
    }
    let mut done = 0;
    for (documents, task) in tasks {
        wait_task(client, task)?;
        done += documents;
        bar.set(done);
    }
    Ok(())
}
