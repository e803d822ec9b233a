//! Resolve, the boundary from operations to one index, or to the control plane.

use std::sync::Arc;

use bytes::Bytes;
use miroir_api::IndexUid;
use serde_json::value::RawValue;
use tower::ServiceExt;

use super::control_plane::{ControlPlane, MissingIndex};
use super::handle::{Entries, Handle};
use super::{
    BoxService, Operation, PayloadFormat, Request, Response, SystemOp, Write, explain, foreign,
    multi,
};
use crate::cluster::ClusterState;
use crate::context::Unread;
use crate::error::{Error, ErrorKind};
use crate::index::{self, Deletion};
use crate::query::{ClientRequest, RawObject};
use miroir_core::documents::{self, Format};
use miroir_store::IndexEntry;

/// Times that a write looks its index up again although the index has its name.
const LOOKS: u32 = 5;

/// The base service of the operation stage. Always ready; waiting happens in `call`.
#[derive(Clone, Debug)]
pub struct Resolve(Handle);

impl Resolve {
    /// Resolves names against the catalogue. `control` is what answers operations that are not about
    /// one index's documents, and `plane` what writes to documents ask of it; usually the same.
    pub fn new(
        indexes: index::BoxService,
        state: Arc<ClusterState>,
        control: BoxService,
        plane: Arc<dyn ControlPlane>,
    ) -> Self {
        let entries = Entries {
            whole: |handle, request| Box::pin(Self(handle).run(request)),
            joined: |handle, request| Box::pin(Self(handle).joined(request)),
            named: |handle, request| Box::pin(Self(handle).named(request)),
        };
        Self(Handle { indexes, state, control, plane, entries })
    }

    async fn run(self, request: Request) -> Result<Response, Error> {
        if request.cx.http().get::<Unread>().is_some() {
            return Err(Error::internal("somebody unknown got past `authorize`"));
        }
        let leadership = &self.0.state.leadership;
        if request.changes() {
            // Before it looks: a term that ends meanwhile waits for this one to notice.
            let guard = leadership.begin_change();
            leadership.ensure_leader()?;
            if !leadership.leads() {
                return Err(Error::no_leader());
            }
            let answer = self.joined(request).await;
            drop(guard);
            return answer;
        }
        // Whether the process is alive has nothing to do with what it knows.
        if request.op.is_public() || matches!(request.op, Operation::System(SystemOp::Version)) {
            return self.joined(request).await;
        }
        leadership.ensure_fresh()?;
        let state = Arc::clone(&self.0.state);
        let answer = self.joined(request).await?;
        // What it was read by may have been out of date by then.
        state.leadership.ensure_fresh()?;
        Ok(answer)
    }

    async fn joined(self, request: Request) -> Result<Response, Error> {
        match foreign::joins(&self.0, &request).await? {
            Some(joins) => Box::pin(foreign::run(self.0, request, joins)).await,
            None => self.named(request).await,
        }
    }

    /// Answers from the named indexes alone.
    async fn named(self, request: Request) -> Result<Response, Error> {
        let (name, op) = match &request.op {
            Operation::Search { index, search } => {
                (index, index::Operation::Search(Arc::clone(search)))
            }
            Operation::FetchOne { index, fetch } => {
                (index, index::Operation::FetchOne(Arc::clone(fetch)))
            }
            Operation::List { index, list } => (index, index::Operation::List(Arc::clone(list))),
            Operation::Write { index, write } => {
                return Box::pin(self.write(&request, index, write)).await;
            }
            Operation::MultiSearch(multi) => {
                return Box::pin(multi::run(&self.0, &request, multi)).await;
            }
            Operation::Explain(op) => return Box::pin(explain::run(&self.0, &request, op)).await,
            _ => return self.0.control.oneshot(request).await,
        };
        let Some(entry) = IndexUid::new(name).ok().and_then(|uid| self.0.state.catalog.get(&uid))
        else {
            // A node says it best, and in the right order of complaints.
            let error = self.0.refusal(&request, &crate::query::index_path(name)).await;
            return Err(match error.kind() {
                ErrorKind::Internal => Error::index_not_found(name),
                _ => error,
            });
        };
        self.0.index(&request, entry, op).await
    }

    /// What a node says of this write's parameters and content type. The empty body makes sure
    /// that no node takes it.
    async fn refused_parameters(&self, request: &Request) -> Error {
        let mut original = ClientRequest::clone(&request.original);
        original.body = Bytes::new();
        let request = request.clone().with_original(original);
        self.0.refusal(&request, crate::node_errors::nowhere()).await
    }

    /// Whether a name stands for this very index.
    fn is(&self, name: &IndexUid, entry: &IndexEntry) -> bool {
        self.0.state.catalog.get(name).is_some_and(|now| now.is_incarnation(entry.incarnation))
    }

    async fn write(&self, request: &Request, name: &str, write: &Write) -> Result<Response, Error> {
        let uid = match IndexUid::new(name) {
            Ok(uid) => uid,
            // A node looks at the body first.
            Err(_) if matches!(write, Write::Edit) => {
                return Err(self.0.refusal(request, &crate::query::index_path(name)).await);
            }
            Err(error) => return Err(Error::api("invalid_index_uid", error.to_string())),
        };
        let body = &request.original.body;
        let creates = matches!(write, Write::Add { .. });
        let Some(parameters) = Parameters::read(request.original.query.as_deref(), creates) else {
            return Err(if creates {
                self.refused_parameters(request).await
            } else {
                self.0.refusal(request, crate::node_errors::nowhere()).await
            });
        };
        let write = match write {
            Write::Add { method, format } => {
                let csv = *format == Some(PayloadFormat::Csv);
                let refused =
                    format.is_none() || body.is_empty() || (parameters.delimiter.is_some() && !csv);
                let (false, Some(format)) = (refused, *format) else {
                    return Err(self.refused_parameters(request).await);
                };
                let format = match format {
                    PayloadFormat::Json => Format::Json,
                    PayloadFormat::Ndjson => Format::Ndjson,
                    PayloadFormat::Csv => {
                        Format::Csv { delimiter: parameters.delimiter.unwrap_or(b',') }
                    }
                };
                let payload = body.clone();
                let work = move || documents::split(format, &payload);
                let split = if body.len() > 64 * 1024 {
                    tokio::task::spawn_blocking(work).await.map_err(Error::internal)?
                } else {
                    work()
                };
                index::Write::Add {
                    method: *method,
                    documents: Arc::new(split.map_err(|error| Error::client(error.0))?),
                    primary_key: parameters.primary_key,
                    skip_creation: parameters.skip_creation,
                }
            }
            Write::DeleteOne(id) => index::Write::Delete(Deletion::One(id.clone())),
            Write::Clear => index::Write::Delete(Deletion::All),
            Write::DeleteBatch => {
                let Ok(values) = serde_json::from_slice::<Vec<Box<RawValue>>>(body) else {
                    return Err(self.0.refusal(request, crate::node_errors::nowhere()).await);
                };
                if !request.original.is_json() {
                    return Err(self.0.refusal(request, crate::node_errors::nowhere()).await);
                }
                let ids = values
                    .iter()
                    .map(|value| {
                        documents::parse_id_value(value)
                            .map_or_else(|_| value.get().to_owned(), |id| id.as_str().to_owned())
                    })
                    .collect();
                index::Write::Delete(Deletion::Ids { ids })
            }
            Write::Edit => {
                // A node judges it where it has no effect: the index does not exist.
                let error = self.0.refusal(request, crate::node_errors::nowhere()).await;
                if !matches!(error.kind(), ErrorKind::Internal) {
                    return Err(error);
                }
                let object = RawObject::parse(body).unwrap_or_default();
                let unread = |()| Error::internal("a node takes what Miroir cannot read");
                let function = object.read("function").map_err(unread)?.unwrap_or_default();
                let context = object.read("context").map_err(unread)?.unwrap_or_default();
                let filter = object.read("filter").map_err(unread)?;
                index::Write::Edit(Arc::new(index::EditByFunction { function, context, filter }))
            }
            Write::DeleteFilter => {
                let object = RawObject::parse(body).filter(|_| request.original.is_json());
                let filter = object
                    .filter(|o| o.keys().all(|key| key == "filter"))
                    .and_then(|mut o| o.has("filter").then(|| o.remove("filter")).flatten());
                let Some(filter) = filter else {
                    return Err(self.0.refusal(request, crate::node_errors::nowhere()).await);
                };
                index::Write::Delete(Deletion::Filter(filter))
            }
        };
        // The index may be deleted while the write waits for its turn: then it is looked up again.
        let mut looks = 0;
        while !request.cx.deadline.remaining().is_zero() {
            self.0.plane.settle_names(&uid).await?;
            let (entry, gate) = match self.0.state.catalog.get(&uid) {
                Some(entry) => (entry, None),
                None if creates && request.cx.scope.may_create(name) => {
                    self.0.plane.ensure_index(&uid, &request.cx).await?
                }
                None => {
                    // Until the task is there nobody makes it.
                    let sequencer = &self.0.state.sequencer;
                    let gate = request.cx.deadline.run(sequencer.enter(name)).await?;
                    let deferred = self.0.state.open_tasks.deferred_on(name).is_some();
                    if deferred || self.0.state.catalog.get(&uid).is_some() {
                        continue;
                    }
                    let missing = MissingIndex::write(name, &write, parameters.custom_metadata);
                    let answer = self.0.plane.missing_index(missing).await;
                    drop(gate);
                    return answer;
                }
            };
            let (write, custom_metadata) = (write.clone(), parameters.custom_metadata.clone());
            let op = index::Operation::Write { write, custom_metadata };
            let makes = gate.is_some();
            match self.0.write(request, Arc::clone(&entry), op, gate).await {
                // It is gone, or has another name; or had one, and has its own again by now.
                Err(error)
                    if error.is_missing_index() && (looks < LOOKS || !self.is(&uid, &entry)) =>
                {
                    looks += 1;
                }
                Err(error) if makes => {
                    self.0.plane.take_back(&entry).await;
                    return Err(error);
                }
                answer => return answer,
            }
        }
        Err(Error::deadline())
    }
}

/// Parameters of document writes.
#[derive(Debug, Default)]
struct Parameters {
    primary_key: Option<String>,
    delimiter: Option<u8>,
    custom_metadata: Option<String>,
    skip_creation: bool,
}

impl Parameters {
    /// `None` for anything that a node has to comment on.
    fn read(query: Option<&str>, creates: bool) -> Option<Self> {
        let mut out = Self::default();
        for (key, value) in crate::query::query_pairs(query.unwrap_or_default()) {
            match key.as_str() {
                "customMetadata" => out.custom_metadata = Some(value),
                "primaryKey" if creates => out.primary_key = Some(value),
                "csvDelimiter" if creates => match value.as_bytes() {
                    [byte] if byte.is_ascii() => out.delimiter = Some(*byte),
                    _ => return None,
                },
                "skipCreation" if creates => {
                    out.skip_creation = match value.to_ascii_lowercase().as_str() {
                        "true" => true,
                        "false" => false,
                        _ => return None,
                    }
                }
                _ => return None,
            }
        }
        Some(out)
    }
}

crate::service!(Resolve: Request);
