//! Search rules of a tenant token, as filters of what is searched.

use std::sync::Arc;

use miroir_api::meili::ApiError;

use super::{Operation, Original, RawObject, Request, Search};
use crate::keys::{Scope, rules};

/// The body with what the scope demands of searches of this index; `None` if it demands nothing.
fn narrowed(scope: &Scope, index: &str, body: &RawObject) -> Option<RawObject> {
    let filter = scope.filter(index)?;
    let mut body = body.clone();
    rules::restrict(&mut body, filter);
    Some(body)
}

/// The same request in its `POST` form with another body. Nodes are asked to comment on the request
/// as the client sent it; what they comment on must not be wider than what is answered.
fn rewritten(original: &Original, body: &RawObject) -> Arc<Original> {
    Arc::new(Original {
        method: http::Method::POST,
        query: None,
        body: body.to_bytes(),
        content_type: Some("application/json".to_owned()),
        ..original.clone()
    })
}

impl Request {
    /// Adds to every query what the search rules of the context's scope demand.
    ///
    /// A request that could not be read stays as it is: it is answered by a node's complaint, never
    /// by documents.
    ///
    /// # Errors
    /// `invalid_api_key` if one query of several is about an index outside of the scope.
    pub fn apply_search_rules(&mut self) -> Result<(), ApiError> {
        let scope = &self.cx.scope;
        match &mut self.op {
            Operation::Search { index, search } => {
                if let Some(body) = search.body.as_ref().and_then(|b| narrowed(scope, index, b)) {
                    self.original = rewritten(&self.original, &body);
                    *search = Arc::new(Search { body: Some(body) });
                }
            }
            // Nothing else is open to tenant tokens.
            _ => {}
        }
        Ok(())
    }
}
