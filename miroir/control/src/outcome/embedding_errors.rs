//! Failures of embedding: what several nodes say of their documents, as one node would say it.

use miroir_api::meili::ApiError;

/// Number of documents an engine checks at a time; its error names no more than these.
const CHUNK: u64 = 100;

const FIRST: &str = "no vectors provided for document `";
const OTHERS: &str = " and at least ";
const END: &str = " other document(s)";

/// A failure that names a document and counts others: what is before the document's id, the id, the
/// number of documents, and what follows.
fn read(message: &str) -> Option<(&str, &str, u64, &str)> {
    let start = message.find(FIRST)? + FIRST.len();
    let length = message[start..].find('`')?;
    let (id, rest) = (&message[start..start + length], &message[start + length + 1..]);
    let Some(others) = rest.strip_prefix(OTHERS) else {
        return Some((&message[..start], id, 1, rest));
    };
    let end = others.find(END)?;
    let count: u64 = others[..end].parse().ok()?;
    Some((&message[..start], id, count.saturating_add(1), &others[end + END.len()..]))
}

/// The error of a task that failed on several nodes: the first one, unless all count documents
/// without vectors. Every document is on `copies` nodes.
pub(crate) fn one<'a>(
    errors: impl Iterator<Item = &'a ApiError> + Clone,
    copies: u64,
) -> Option<ApiError> {
    let first = errors.clone().next()?.clone();
    let mut documents = 0;
    let mut ids: Vec<&str> = Vec::new();
    for error in errors {
        let Some((_, id, count, _)) = read(&error.message) else { return Some(first) };
        documents += count;
        ids.push(id);
    }
    let Some((before, own, _, after)) = read(&first.message) else { return Some(first) };
    // Documents come in the order in which they were added; numbers usually count that.
    let numbers = ids.iter().filter_map(|id| Some((id.parse::<u64>().ok()?, *id)));
    let id = if ids.iter().all(|id| id.parse::<u64>().is_ok()) {
        numbers.min().map_or(own, |(_, id)| id)
    } else {
        own
    };
    let message = match documents.div_ceil(copies.max(1)).min(CHUNK) {
        0 | 1 => format!("{before}{id}`{after}"),
        count => format!("{before}{id}`{OTHERS}{}{END}{after}", count - 1),
    };
    Some(ApiError { message, ..first })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(messages: &[&str], copies: u64) -> String {
        let errors: Vec<ApiError> =
            messages.iter().map(|text| ApiError::new("vector_embedding_error", *text)).collect();
        one(errors.iter(), copies).unwrap().message
    }

    #[test]
    fn documents_without_vectors_are_counted_over_nodes() {
        let a = "no vectors provided for document `12` and at least 3 other document(s)\n- Note";
        let b = "no vectors provided for document `7`\n- Note";
        assert_eq!(
            merged(&[a, b], 1),
            "no vectors provided for document `7` and at least 4 other document(s)\n- Note"
        );
        assert_eq!(merged(&[b, b], 2), b);
        let many = "no vectors provided for document `x` and at least 98 other document(s)";
        assert_eq!(
            merged(&[many, many], 1),
            "no vectors provided for document `x` and at least 99 other document(s)"
        );
        assert_eq!(merged(&["something else", a], 1), "something else");
        assert_eq!(one([].iter(), 1), None);
    }
}
