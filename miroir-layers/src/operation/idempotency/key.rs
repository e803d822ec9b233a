//! What a key and a request are known by.

use miroir_api::hexadecimal;
use miroir_pipeline::context::Principal;
use miroir_pipeline::operation::Request;
use sha2::{Digest as _, Sha256};

/// The key of a caller, so that nobody learns what another one was answered. Holders of one API key
/// are one caller.
pub(super) fn scoped(request: &Request, key: &str) -> String {
    let caller = match &request.cx.principal {
        Principal::ApiKey(key) => format!("key:{}", key.uid),
        Principal::Tenant(tenant) => format!("tenant:{}:{:?}", tenant.key.uid, tenant.rules),
        Principal::MasterKey => "master".to_owned(),
        Principal::Admin => "admin".to_owned(),
        Principal::Internal => "internal".to_owned(),
        _ => "nobody".to_owned(),
    };
    // Sixteen bytes tell callers apart as well as thirty-two.
    format!("{}:{key}", hexadecimal(&Sha256::digest(caller)[..16]))
}

/// SHA-256, in hexadecimal, of all that makes a request this one.
pub(super) fn fingerprint(request: &Request) -> String {
    let original = &request.original;
    let mut hash = Sha256::new();
    let index = request.op.index().unwrap_or_default();
    let kind = original.content_type.as_deref().unwrap_or_default();
    let query = original.query.as_deref().unwrap_or_default();
    for part in [original.method.as_str(), index, &original.path, query, kind] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.update(&original.body);
    for part in request.cx.extensions().answer_parts().into_iter().flatten() {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hexadecimal(&hash.finalize())
}
