//! From a payload's documents to one body per node.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use miroir_api::ShardId;
use miroir_api::meili::ApiError;
use twox_hash::XxHash64;

use super::check::{self, MAX_FIELDS, TaskFault};
use super::id_case::IdCase;
use super::ids::{DocumentId, Flat, extract_id};
use super::payload::RawDocument;
use super::stamp::Stamp;
use super::vectors::{self, Embedder};
use super::{geojson, reserved, scan};

/// What becomes of a document that exists already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// `POST`: the new document replaces it.
    Replace,
    /// `PUT`: top-level fields of the new document are merged into it.
    Update,
}

/// What is needed to refuse what a node would refuse.
#[derive(Clone, Copy, Debug)]
pub struct Checks<'a> {
    /// The index as the client calls it: some texts name it.
    pub index: &'a str,
    /// How documents are added. An earlier document that a later one with the same id overwrites is
    /// never looked at by a node.
    pub method: Method,
    /// `_geo` is filterable or sortable; only then do nodes look at it.
    pub geo: bool,
    /// `_geojson` is filterable; only then do nodes look at it.
    pub geojson: bool,
    /// The embedders of the index, whose vectors are checked.
    pub embedders: &'a [Embedder],
}

/// One document and where it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreparedDocument {
    /// The shard its id belongs to.
    pub shard: ShardId,
    /// Id under its primary key.
    pub id: DocumentId,
    /// The document as the client wrote it.
    pub document: RawDocument,
}

/// A payload that no node will refuse.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prepared {
    /// All documents in the order of the payload. Documents with one id share a shard and stay in
    /// order; the nodes settle which wins.
    pub documents: Vec<PreparedDocument>,
    /// Number of distinct ids: the task's `indexedDocuments`.
    pub unique_ids: u64,
    /// Number of documents: the task's `receivedDocuments`.
    pub received: u64,
    /// Case of the letters in the documents' ids.
    pub id_case: IdCase,
}

/// What one walk over a document leaves to look at.
#[derive(Clone, Copy, Debug, Default)]
struct Findings<'a> {
    geo: Option<&'a [u8]>,
    geojson: Option<&'a [u8]>,
    vectors: Option<&'a [u8]>,
    doubtful: bool,
}

impl Findings<'_> {
    fn needs_a_look(&self) -> bool {
        self.doubtful || self.geo.is_some() || self.geojson.is_some() || self.vectors.is_some()
    }
}

/// Reads every document's id, finds its shard, and checks the payload as a whole.
///
/// `shard_of` gets the id's UTF-8 bytes.
///
/// # Errors
/// The error of the task that a single node would fail, in its words: it names the first bad document
/// of the payload and applies none.
pub fn prepare(
    documents: Vec<RawDocument>,
    primary_key: &str,
    checks: &Checks<'_>,
    shard_of: impl Fn(&[u8]) -> ShardId,
) -> Result<Prepared, ApiError> {
    let received = documents.len();
    let mut routed = Vec::with_capacity(received);
    let mut suspects = Vec::new();
    {
        let mut fields = Fields::default();
        for (index, document) in documents.iter().enumerate() {
            let (id, findings) = walk(document, primary_key, &mut fields, checks.index)?;
            if findings.needs_a_look() {
                suspects.push((index, findings));
            }
            routed.push((shard_of(id.as_str().as_bytes()), id));
        }
    }
    let unique_ids = unique(&routed);
    let id_case =
        routed.iter().fold(IdCase::NONE, |all, (_, id)| all.with(IdCase::of(id.as_str())));
    if !suspects.is_empty() {
        examine(&documents, &routed, &suspects, checks)
            .map_err(|fault| fault.into_error(checks.index))?;
    }
    let documents = documents
        .into_iter()
        .zip(routed)
        .map(|(document, (shard, id))| PreparedDocument { shard, id, document })
        .collect();
    Ok(Prepared { documents, unique_ids, received: received as u64, id_case })
}

fn walk<'a>(
    document: &'a RawDocument,
    primary_key: &str,
    fields: &mut Fields<'a>,
    index: &str,
) -> Result<(DocumentId, Findings<'a>), ApiError> {
    let nested = primary_key.contains('.');
    let mut search = Flat::new(document.repeated);
    let mut findings = Findings::default();
    for (position, member) in scan::members(&document.bytes).enumerate() {
        findings.doubtful |= member.doubtful;
        match fields.role(position, &member, primary_key) {
            Some(Role::Other) => {}
            // A nested key is searched for below.
            Some(Role::Id) => search.see(member.value),
            Some(Role::Geo) => findings.geo = Some(member.value),
            Some(Role::GeoJson) => findings.geojson = Some(member.value),
            Some(Role::Vectors) => findings.vectors = Some(member.value),
            None => return Err(TaskFault::too_many_fields().into_error(index)),
        }
    }
    let id = if nested {
        extract_id(document, primary_key)?
    } else {
        search.id(document, primary_key)?
    };
    Ok((id, findings))
}

/// The number of distinct ids. Sorting their hashes is several times faster than a hash set.
fn unique(routed: &[(ShardId, DocumentId)]) -> u64 {
    // Ids that only grow, as counters and padded strings do, need not even be sorted.
    let grows = |pair: &[(ShardId, DocumentId)]| {
        let (a, b) = (pair[0].1.as_str(), pair[1].1.as_str());
        (a.len(), a) < (b.len(), b)
    };
    if routed.windows(2).all(grows) {
        return routed.len() as u64;
    }
    let mut ids: Vec<(u64, &str)> = routed
        .iter()
        .map(|(_, id)| (XxHash64::oneshot(0, id.as_str().as_bytes()), id.as_str()))
        .collect();
    // Equal hashes are ordered by the ids themselves, so that collisions cannot slow this down.
    ids.sort_unstable();
    ids.dedup();
    ids.len() as u64
}

/// The checks in the order in which a node comes to them; of one kind the first document is named.
fn examine(
    documents: &[RawDocument],
    routed: &[(ShardId, DocumentId)],
    suspects: &[(usize, Findings<'_>)],
    checks: &Checks<'_>,
) -> Result<(), TaskFault> {
    let id = |index: usize| &routed[index].1;
    let mut latest: HashMap<&str, usize> = HashMap::with_capacity(routed.len());
    for (index, (_, id)) in routed.iter().enumerate() {
        latest.insert(id.as_str(), index);
    }
    // Of an id's documents a node looks at the last one that has the field, and when documents
    // replace each other at the last one only.
    let counts = |has: fn(&Findings<'_>) -> bool| {
        let mut last_with: HashMap<&str, usize> = HashMap::new();
        for (index, findings) in suspects {
            let name = id(*index).as_str();
            if has(findings) && (checks.method == Method::Update || latest.get(name) == Some(index))
            {
                last_with.insert(name, *index);
            }
        }
        let chosen: HashSet<usize> = last_with.into_values().collect();
        suspects.iter().filter(move |(index, _)| chosen.contains(index))
    };
    let embedders = checks.embedders;
    for (index, findings) in counts(|f| f.vectors.is_some()) {
        let Some(value) = findings.vectors else { continue };
        vectors::shape(value, id(*index))?;
        if findings.doubtful {
            let unknown = |name: &str| !vectors::is_one_of(name, embedders);
            vectors::readable(value, id(*index), unknown)?;
        }
    }
    if checks.geo {
        for (index, findings) in counts(|f| f.geo.is_some()) {
            findings.geo.map_or(Ok(()), |value| check::geo(value, id(*index)))?;
        }
    }
    for (index, _) in counts(|f| f.doubtful) {
        check::check_values(&documents[*index])?;
    }
    for (index, findings) in counts(|f| f.vectors.is_some()) {
        let Some(value) = findings.vectors else { continue };
        if findings.doubtful {
            vectors::readable(value, id(*index), |name| vectors::is_one_of(name, embedders))?;
        }
        vectors::embeddings(value, id(*index), embedders)?;
    }
    if checks.geojson {
        for (_, findings) in counts(|f| f.geojson.is_some()) {
            findings.geojson.map_or(Ok(()), geojson::geojson)?;
        }
    }
    Ok(())
}

/// What a field is to the checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Id,
    Geo,
    GeoJson,
    Vectors,
    Other,
}

/// Knows the fields of a payload, and counts their distinct names. Most documents of a payload have
/// the same keys in the same places, so a key is first compared with its predecessor's.
#[derive(Default)]
struct Fields<'a> {
    previous: Vec<(&'a [u8], Role)>,
    names: HashSet<Vec<u8>>,
}

impl<'a> Fields<'a> {
    /// The role of a member; `None` when its name is one too many.
    #[inline]
    fn role(
        &mut self,
        position: usize,
        member: &scan::Member<'a>,
        primary_key: &str,
    ) -> Option<Role> {
        match self.previous.get(position) {
            Some((key, role)) if *key == member.key => Some(*role),
            _ => self.new_role(position, member, primary_key),
        }
    }

    fn new_role(
        &mut self,
        position: usize,
        member: &scan::Member<'a>,
        primary_key: &str,
    ) -> Option<Role> {
        let name = member.name();
        let role = match &*name {
            name if name == primary_key.as_bytes() => Role::Id,
            b"_geo" => Role::Geo,
            b"_geojson" => Role::GeoJson,
            b"_vectors" => Role::Vectors,
            _ => Role::Other,
        };
        if !self.names.contains(&*name) {
            if self.names.len() == MAX_FIELDS {
                return None;
            }
            self.names.insert(name.into_owned());
        }
        match self.previous.get_mut(position) {
            Some(known) => *known = (member.key, role),
            None => self.previous.push((member.key, role)),
        }
        Some(role)
    }
}

/// Where the stamp of a document is in a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The first of its [`Stamp::BYTES`] bytes.
    pub at: usize,
    /// Which of the payload's documents it is, from 0.
    pub document: usize,
}

/// A body that adds documents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeBody {
    /// A JSON array: send it as [`super::CONTENT_TYPE`].
    pub bytes: Bytes,
    /// The shards that it is about, some more than once.
    pub shards: Vec<ShardId>,
    /// The stamps to fill in, in the order of their places; empty unless they were asked for.
    pub slots: Vec<Slot>,
}

/// The body that adds all documents of the wanted shards, in payload order, with the shard and the
/// given fields spliced into each. A JSON array: send it as [`super::CONTENT_TYPE`].
///
/// `fields` are names and values that need no escaping in JSON, such as
/// [`super::UPDATED_AT`] with its [`super::timestamp_value`].
pub fn payload_for(
    prepared: &Prepared,
    shards: u32,
    fields: &[(&str, &str)],
    want: impl Fn(ShardId) -> bool,
) -> Bytes {
    payloads_for(prepared, shards, fields, false, usize::MAX, want).swap_remove(0).bytes
}

/// As [`payload_for`], in as many bodies as keep each at `most` bytes; a document that is larger has a
/// body of its own. At least one body. With `stamped`, each document has a [`super::ORDER`] that is
/// [`Stamp::NONE`] until its slot is filled.
pub fn payloads_for(
    prepared: &Prepared,
    shards: u32,
    fields: &[(&str, &str)],
    stamped: bool,
    most: usize,
    want: impl Fn(ShardId) -> bool,
) -> Vec<NodeBody> {
    let mut members = Vec::new();
    for (name, value) in fields {
        reserved::member(name, value, &mut members);
    }
    let shared = members.len();
    let mut order = Vec::new();
    if stamped {
        let none = Stamp::NONE.text();
        reserved::member(reserved::ORDER, &String::from_utf8_lossy(&none), &mut order);
    }
    // Comma, name, quotes and colon, up to three characters.
    let per_document = shared + reserved::SHARD.len() + 16 + order.len();
    let wanted = || prepared.documents.iter().enumerate().filter(|(_, doc)| want(doc.shard));
    let mut left: usize = wanted().map(|(_, d)| d.document.bytes.len() + per_document).sum();
    let mut bodies = Vec::new();
    let begin = |left: usize| {
        let mut out = Vec::with_capacity(left.min(most).saturating_add(2));
        out.push(b'[');
        (out, Vec::new(), Vec::new())
    };
    let finish = |mut out: Vec<u8>, shards, slots| {
        out.push(b']');
        NodeBody { bytes: Bytes::from(out), shards, slots }
    };
    let (mut out, mut about, mut slots) = begin(left);
    let mut current = None;
    for (at, PreparedDocument { shard, document, .. }) in wanted() {
        let size = document.bytes.len() + per_document;
        if out.len() > 1 && out.len() + size > most {
            bodies.push(finish(out, about, slots));
            (out, about, slots) = begin(left);
            current = None;
        }
        left -= size;
        if out.len() > 1 {
            out.push(b',');
        }
        if current != Some(*shard) {
            current = Some(*shard);
            about.push(*shard);
            members.truncate(shared);
            reserved::shard_member(*shard, shards, &mut members);
            members.extend_from_slice(&order);
        }
        reserved::splice_members(document, &members, &mut out);
        if stamped {
            // Before the quote and the brace at the end.
            slots.push(Slot { at: out.len() - 2 - Stamp::BYTES, document: at });
        }
    }
    bodies.push(finish(out, about, slots));
    bodies
}
