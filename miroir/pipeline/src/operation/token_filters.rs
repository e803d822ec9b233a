//! Search rules of a tenant token, as filters of what is searched.

use std::sync::Arc;

use miroir_api::IndexUid;
use miroir_api::meili::ApiError;
use serde_json::value::{RawValue, to_raw_value};

use super::{Operation, Request};
use crate::node::Call;
use crate::query::{ClientRequest, RawObject};

/// The same request in its `POST` form with another body. Nodes are asked to comment on the request
/// as the client sent it; what they comment on must not be wider than what is answered.
pub(super) fn rewritten(original: &ClientRequest, body: &RawObject) -> Arc<ClientRequest> {
    Arc::new(ClientRequest {
        method: http::Method::POST,
        query: None,
        body: body.to_bytes(),
        content_type: Some("application/json".to_owned()),
        ..original.clone()
    })
}

impl Request {
    /// The request as another endpoint of the same API takes it: with its whole path, and with what
    /// search rules demand. `None` if it names something that cannot be an index.
    pub fn repeat(&self) -> Option<Call> {
        let prefix = match self.op.index() {
            Some(index) => format!("/indexes/{}", IndexUid::new(index).ok()?),
            None => String::new(),
        };
        let mut call = self.original.to_node_call(&prefix);
        // Of one search the request itself was rewritten.
        if let Operation::MultiSearch(multi) = &self.op
            && !self.cx.scope.is_unlimited()
        {
            call.body = multi.body()?;
        }
        Some(call)
    }

    /// Adds to every query what the search rules of the context's scope demand.
    ///
    /// A request that could not be read stays as it is: it is answered by a node's complaint, never
    /// by documents.
    ///
    /// # Errors
    /// `invalid_api_key` if one query of several is about an index outside of the scope.
    pub fn apply_search_rules(&mut self) -> Result<(), ApiError> {
        let scope = self.cx.scope.clone();
        if scope.is_unlimited() {
            return Ok(());
        }
        let op = if let Operation::Explain(op) = &self.op { op } else { &self.op };
        let several = matches!(op, Operation::MultiSearch(_));
        let searched: Vec<String> = self.op.searched().into_iter().map(str::to_owned).collect();
        for (position, index) in searched.iter().enumerate() {
            if several && !scope.sees(index) {
                return Err(ApiError::new(
                    "invalid_api_key",
                    format!("Inside `.queries[{position}]`: The provided API key is invalid."),
                ));
            }
            let Some(filter) = scope.filter(index) else { continue };
            // A query must not run without its filter, whatever the reason.
            let filter = to_raw_value(filter)
                .map_err(|_| ApiError::new("internal", "A search rule cannot be written."))?;
            self.restrict(position, &filter);
        }
        Ok(())
    }

    /// Restricts a search, or the query at this place of several, to what matches a filter, and so
    /// what nodes are shown of it; see [`Operation::restrict`].
    pub fn restrict(&mut self, position: usize, filter: &RawValue) {
        self.op.restrict(position, filter);
        if let Operation::Search { search, .. } = &self.op
            && let Some(body) = &search.body
        {
            self.original = rewritten(&self.original, body);
        }
    }
}
