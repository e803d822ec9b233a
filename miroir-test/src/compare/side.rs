//! The two servers, and what goes to and fro.

use bytes::Bytes;
use http::{HeaderMap, Method};
use serde_json::Value;

/// One of the two servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// The server that is right.
    Reference,
    /// The server that is compared with it.
    Candidate,
}

impl Side {
    /// The other one.
    pub fn other(self) -> Self {
        match self {
            Self::Reference => Self::Candidate,
            Self::Candidate => Self::Reference,
        }
    }
}

/// A request of the client.
#[derive(Clone, Debug)]
pub struct Request {
    /// Method.
    pub method: Method,
    /// Path and query.
    pub target: String,
    /// Headers as they came.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

/// What a server answered.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// Status; 0 if there was no answer.
    pub status: u16,
    /// Headers as they came.
    pub headers: HeaderMap,
    /// The whole body; what went wrong if there was no answer.
    pub body: Bytes,
}

impl Answer {
    /// The body as JSON, if it is.
    pub fn json(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok()
    }

    /// The first value of a header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}
