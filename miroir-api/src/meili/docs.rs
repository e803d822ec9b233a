//! Where error codes are explained: the `link` of an error, and the page of Miroir's own codes.

use std::fmt::Write as _;
use std::sync::OnceLock;

use super::codes::OWN;

/// Below which address Miroir's codes are explained if nobody says otherwise: the server's own.
pub const DEFAULT_DOCS_BASE: &str = "/_miroir";

/// Meilisearch's documentation, as its nodes link it.
const MEILISEARCH: &str = "https://docs.meilisearch.com";

static BASE: OnceLock<String> = OnceLock::new();

/// Sets the address below which Miroir's own codes are explained, for this whole process: the link of
/// `miroir_no_quorum` becomes `<base>/errors#miroir_no_quorum`. Without a call it is
/// [`DEFAULT_DOCS_BASE`], where `miroir-server` serves [`errors_page`]. A slash at the end is dropped.
///
/// Errors are made in every layer and stored with tasks, so this is set once, before the first
/// request, like the recorder of metrics.
///
/// # Errors
/// The base that is set already, if it is another one; it stays.
pub fn set_docs_base(base: &str) -> Result<(), &'static str> {
    let base = base.trim_end_matches('/');
    let kept = BASE.get_or_init(|| base.to_owned());
    if kept == base { Ok(()) } else { Err(kept) }
}

/// The `link` of an error: for Meilisearch's codes exactly what a node writes.
pub(super) fn link(code: &str) -> String {
    let base = if code.starts_with("miroir_") {
        BASE.get().map_or(DEFAULT_DOCS_BASE, String::as_str)
    } else {
        MEILISEARCH
    };
    format!("{base}/errors#{code}")
}

/// Miroir's own codes as a page of HTML, each with its code as the anchor: what stands at
/// `<base>/errors`. It is the content of `docs/errors.md`.
pub fn errors_page() -> String {
    let mut out = String::from(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <title>Error codes of Miroir</title>\n<h1>Error codes of Miroir</h1>\n",
    );
    for own in OWN {
        let (code, status) = (own.code, own.status);
        let class = serde_json::to_string(&own.error_type).unwrap_or_default();
        let class = class.trim_matches('"');
        let text = html(own.text);
        // Writing to a string does not fail.
        let _ = write!(
            out,
            "<h2 id=\"{code}\">{code}</h2>\n\
             <p><code>{status}</code>, type <code>{class}</code>. {text}</p>\n"
        );
    }
    out.push_str("</html>\n");
    out
}

/// Text with code in backticks, as HTML.
fn html(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    let mut out = String::with_capacity(text.len());
    for (at, part) in text.split('`').enumerate() {
        if at > 0 {
            out.push_str(if at % 2 == 1 { "<code>" } else { "</code>" });
        }
        out.push_str(part);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_link_of_an_own_code_leads_to_an_anchor_of_the_page() {
        let page = errors_page();
        for own in OWN {
            let link = link(own.code);
            let anchor = link.strip_prefix("/_miroir/errors#").unwrap();
            assert!(page.contains(&format!("<h2 id=\"{anchor}\">")), "{link}");
            assert_eq!(own.text.matches('`').count() % 2, 0, "{}: a backtick is open", own.code);
        }
    }

    #[test]
    fn text_is_escaped_and_code_is_marked() {
        assert_eq!(html("a `b<c>` & `d`"), "a <code>b&lt;c></code> &amp; <code>d</code>");
    }
}
