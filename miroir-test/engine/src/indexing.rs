//! Document writes, through the engine's indexer.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bumpalo::Bump;
use memmap2::{Mmap, MmapMut};
use milli_core::documents::PrimaryKey;
use milli_core::progress::Progress;
use milli_core::prompt::Prompt;
use milli_core::update::new::indexer::{self, DocumentDeletion, DocumentOperation};
use milli_core::update::{ClearDocuments, IndexerConfig};
use milli_core::vector::{Embedder, EmbeddingConfigs};
use milli_core::{
    Error, Filter, Index, InternalError, ThreadPoolNoAbort, ThreadPoolNoAbortBuilder, UserError,
};
use serde_json::Value;

/// Threads of one node's indexer.
const THREADS: usize = 2;

/// The documents of one task.
#[derive(Debug)]
pub(crate) struct Addition {
    /// JSON objects one after another.
    pub(crate) documents: Vec<u8>,
    /// Whether existing documents are replaced (or merged).
    pub(crate) replace: bool,
    /// Primary key asked for by the request.
    pub(crate) primary_key: Option<String>,
    /// Whether unknown documents are ignored.
    pub(crate) skip_creation: bool,
}

/// What one task of a batch came to: the number of distinct documents, or its own error.
pub(crate) type AdditionResult = Result<u64, Error>;

/// Runs document writes for one node.
pub(crate) struct Indexing {
    pool: ThreadPoolNoAbort,
    config: IndexerConfig,
}

impl std::fmt::Debug for Indexing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Indexing").field("threads", &self.pool.current_num_threads()).finish()
    }
}

impl Indexing {
    /// Builds the thread pools.
    pub(crate) fn new() -> std::io::Result<Self> {
        let pool = || {
            ThreadPoolNoAbortBuilder::new()
                .num_threads(THREADS)
                .build()
                .map_err(std::io::Error::other)
        };
        let config = IndexerConfig { thread_pool: Some(pool()?), ..IndexerConfig::default() };
        Ok(Self { pool: pool()?, config })
    }

    /// Configuration for settings changes.
    pub(crate) fn config(&self) -> &IndexerConfig {
        &self.config
    }

    /// Indexes several payloads in one transaction. An `Err` concerns all of them and nothing
    /// was changed.
    pub(crate) fn add(
        &self,
        index: &Index,
        additions: &[Addition],
        must_stop: &(dyn Fn() -> bool + Sync),
    ) -> Result<Vec<AdditionResult>, Error> {
        let mut wtxn = index.write_txn()?;
        let rtxn = index.read_txn()?;
        let allocator = Bump::new();
        let progress = Progress::default();
        let fields = index.fields_ids_map(&rtxn)?;
        let mut new_fields = fields.clone();
        let mut skipped_counts: Vec<Option<u64>> = Vec::new();
        let mut payloads = Vec::with_capacity(additions.len());
        for addition in additions {
            let kept = if addition.skip_creation {
                Some(keep_existing(index, &rtxn, addition)?)
            } else {
                None
            };
            payloads
                .push(memory_map(kept.as_ref().map_or(&addition.documents, |(bytes, _)| bytes))?);
            skipped_counts.push(kept.map(|(_, count)| count));
        }
        let mut operation = DocumentOperation::new();
        for (addition, payload) in additions.iter().zip(&payloads) {
            if addition.replace {
                operation.replace_documents(payload)?;
            } else {
                operation.update_documents(payload)?;
            }
        }
        let asked_key = additions.first().and_then(|addition| addition.primary_key.as_deref());
        let (changes, stats, primary_key) = operation.into_changes(
            &allocator,
            index,
            &rtxn,
            asked_key,
            &mut new_fields,
            &must_stop,
            progress.clone(),
        )?;
        let results: Vec<AdditionResult> = stats
            .into_iter()
            .zip(skipped_counts)
            .map(|(stat, count)| match stat.error {
                Some(error) => Err(Error::UserError(error)),
                None => Ok(count.unwrap_or(stat.document_count)),
            })
            .collect();
        if results.iter().any(Result::is_ok) {
            let embedders = embedders(index, &rtxn)?;
            indexer::index(
                &mut wtxn,
                index,
                &self.pool,
                self.config.grenad_parameters(),
                &fields,
                new_fields,
                primary_key,
                &changes,
                embedders,
                &must_stop,
                &progress,
            )?;
            wtxn.commit()?;
        }
        Ok(results)
    }

    /// Deletes documents by external id and returns how many existed.
    pub(crate) fn delete_ids(
        &self,
        index: &Index,
        ids: &[String],
        must_stop: &(dyn Fn() -> bool + Sync),
    ) -> Result<u64, Error> {
        let rtxn = index.read_txn()?;
        let mut documents = index.documents_ids(&rtxn)?;
        documents.clear();
        for id in ids {
            // An id that the store cannot even look up (empty, far too long) does not exist.
            if id.is_empty() || id.len() > 511 {
                continue;
            }
            if let Some(document) = index.external_documents_ids().get(&rtxn, id)? {
                documents.insert(document);
            }
        }
        drop(rtxn);
        self.delete(index, documents, must_stop)
    }

    /// Deletes the documents that match a filter.
    pub(crate) fn delete_filter(
        &self,
        index: &Index,
        filter: &Value,
        must_stop: &(dyn Fn() -> bool + Sync),
    ) -> Result<u64, Error> {
        let Some(filter) = Filter::from_json(filter)? else { return Ok(0) };
        let rtxn = index.read_txn()?;
        let documents = filter.evaluate(&rtxn, index)?;
        drop(rtxn);
        self.delete(index, documents, must_stop)
    }

    fn delete(
        &self,
        index: &Index,
        documents: roaring::RoaringBitmap,
        must_stop: &(dyn Fn() -> bool + Sync),
    ) -> Result<u64, Error> {
        let count = documents.len();
        if count == 0 {
            return Ok(0);
        }
        let mut wtxn = index.write_txn()?;
        let rtxn = index.read_txn()?;
        let fields = index.fields_ids_map(&rtxn)?;
        let Some(name) = index.primary_key(&rtxn)? else { return Ok(0) };
        let primary_key = PrimaryKey::new(name, &fields).ok_or_else(|| {
            InternalError::DatabaseMissingEntry { db_name: "main", key: Some("primary-key") }
        })?;
        let allocator = Bump::new();
        let mut deletion = DocumentDeletion::new();
        deletion.delete_documents_by_docids(documents);
        let changes = deletion.into_changes(&allocator, primary_key);
        let embedders = embedders(index, &rtxn)?;
        indexer::index(
            &mut wtxn,
            index,
            &self.pool,
            self.config.grenad_parameters(),
            &fields,
            fields.clone(),
            None,
            &changes,
            embedders,
            &must_stop,
            &Progress::default(),
        )?;
        wtxn.commit()?;
        Ok(count)
    }

    /// Deletes every document.
    pub(crate) fn clear(index: &Index) -> Result<u64, Error> {
        let mut wtxn = index.write_txn()?;
        let count = ClearDocuments::new(&mut wtxn, index).execute()?;
        index
            .put_documents_stats(&mut wtxn, milli_core::database_stats::DatabaseStats::default())?;
        wtxn.commit()?;
        Ok(count)
    }
}

/// The embedders configured on an index.
pub(crate) fn embedders(
    index: &Index,
    rtxn: &milli_core::heed::RoTxn<'_>,
) -> Result<EmbeddingConfigs, Error> {
    let mut configs = HashMap::new();
    for config in index.embedding_configs(rtxn)? {
        let quantized = config.config.quantized();
        let prompt = Prompt::try_from(config.config.prompt).map_err(UserError::from)?;
        let embedder = Embedder::new(config.config.embedder_options, 0)
            .map_err(milli_core::vector::Error::from)
            .map_err(Error::from)?;
        configs.insert(config.name, (Arc::new(embedder), Arc::new(prompt), quantized));
    }
    Ok(EmbeddingConfigs::new(configs))
}

/// Whether an error only says that the node is stopping.
pub(crate) fn is_abort(error: &Error) -> bool {
    matches!(error, Error::InternalError(InternalError::AbortedIndexation))
}

/// The indexer reads payloads from memory maps; an anonymous one needs no file.
fn memory_map(bytes: &[u8]) -> std::io::Result<Mmap> {
    if bytes.is_empty() {
        return MmapMut::map_anon(0)?.make_read_only();
    }
    let mut map = MmapMut::map_anon(bytes.len())?;
    map.copy_from_slice(bytes);
    map.make_read_only()
}

/// Drops the documents whose id is unknown. Also returns the number of distinct ids before that.
/// A payload with a document that has no usable id is kept whole: the indexer refuses it.
fn keep_existing(
    index: &Index,
    rtxn: &milli_core::heed::RoTxn<'_>,
    addition: &Addition,
) -> Result<(Vec<u8>, u64), Error> {
    let stored_key = index.primary_key(rtxn)?;
    let whole = || Ok((addition.documents.clone(), 0));
    let Some(key) = stored_key.or(addition.primary_key.as_deref()) else { return whole() };
    let mut kept = Vec::new();
    let mut seen = HashSet::new();
    for document in serde_json::Deserializer::from_slice(&addition.documents).into_iter::<Value>() {
        let document = document.map_err(UserError::SerdeJson)?;
        let mut found = document.get(key);
        if found.is_none() {
            found = key.split('.').try_fold(&document, |value, part| value.get(part));
        }
        let id = found
            .cloned()
            .and_then(|id| milli_core::documents::validate_document_id_value(id).ok());
        let Some(id) = id else { return whole() };
        if index.external_documents_ids().get(rtxn, &id)?.is_some() {
            serde_json::to_writer(&mut kept, &document).map_err(UserError::SerdeJson)?;
            kept.push(b'\n');
        }
        seen.insert(id);
    }
    Ok((kept, seen.len() as u64))
}
