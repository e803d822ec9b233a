//! What the fuzz targets assert: one module per target, each with a function `check` over bytes.
//!
//! | target | what it reads | against what |
//! | --- | --- | --- |
//! | `splitter` | payloads of JSON and NDJSON | serde_json; the payload itself, byte for byte |
//! | `csv` | payloads of CSV | a conversion of its own, cell by cell |
//! | `filter` | filters in a query string and in a body, and filters of tenant tokens | truth values |
//! | `routes` | method, path and query string, through the whole decoding | every row of the table |
//! | `merge` | answers of nodes | serde_json, and the answers that went in |
//! | `config` | a configuration file and the environment | what it prints, read again |

pub mod config;
pub mod filter;
pub mod http;
pub mod merge;
pub mod routes;
pub mod splitter;
pub mod table;
