//! Documents on their way in, over raw bytes.
//!
//! A document is never re-serialised: [`split`] cuts the payload into slices, [`prepare`] reads what
//! routing needs from them (the id, and what a node would refuse), and [`payload_for`] copies the
//! slices of the wanted shards into one body with the reserved fields spliced in before the last
//! brace. Numbers, key order, escapes and repeated keys reach the node as the client wrote them.
//!
//! Everything one node would refuse in a payload is found here, before any node is called, with the
//! words and the code the node would have used: a payload that one node refuses as a whole must not
//! be half applied on several. The texts were recorded from Meilisearch 1.50.0 (`recorded.json`).
//!
//! Pure: no I/O, no clock, no randomness.

mod arrivals;
mod batch;
mod check;
mod csv;
pub mod edit_function;
mod formats;
mod geojson;
mod id_case;
mod ids;
mod payload;
mod primary_key;
mod reserved;
mod scan;
mod seen;
mod stamp;
mod vectors;

#[cfg(test)]
mod tests;

pub use arrivals::Arrivals;
pub use batch::{
    Checks, Method, NodeBody, Prepared, PreparedDocument, Slot, payload_for, payloads_for, prepare,
};
pub use check::{TaskFault, check_fields, check_geo, check_values};
pub use formats::{CONTENT_TYPE, split};
pub use geojson::check_geojson;
pub use id_case::IdCase;
pub use ids::{DocumentError, DocumentId, extract_id, parse_id_value};
pub use payload::{Format, FormatError, RawDocument, Repeated};
pub use primary_key::{Inference, infer};
pub(crate) use reserved::is_reserved_name;
pub use reserved::{
    EXPIRES_AT, ORDER, PREFIX, RESERVED, SHARD, UPDATED_AT, find_reserved, is_reserved, named,
    names_reserved, parse_shard_value, parse_timestamp_value, reserved_field, shard_value, splice,
    strip, take, timestamp_value,
};
pub use seen::Seen;
pub use stamp::{Stamp, stamp_of};
pub use vectors::{Embedder, check_vectors};
