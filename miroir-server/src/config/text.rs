//! Values that are more than a word or a number.

use http::Uri;

/// Scheme, host and port of a node in one spelling.
pub(super) fn normal_address(address: &str) -> Result<String, &'static str> {
    let uri: Uri = address.parse().map_err(|_| "is not an address")?;
    let (scheme, port) = match uri.scheme_str() {
        Some("http") => ("http", 80),
        Some("https") => ("https", 443),
        _ => return Err("has neither `http://` nor `https://`"),
    };
    let authority = uri.authority().ok_or("has no host")?;
    if authority.as_str().contains('@') {
        return Err("holds credentials; keys of nodes belong in node_master_key");
    }
    if !uri.path().trim_end_matches('/').is_empty()
        || uri.query().is_some()
        || address.contains('#')
    {
        return Err("has a path or a query");
    }
    let host = authority.host();
    if host.is_empty() {
        return Err("has no host");
    }
    if authority.as_str().len() > host.len() && authority.port_u16().is_none() {
        return Err("has a port that is not a number up to 65535");
    }
    let port = authority.port_u16().unwrap_or(port);
    Ok(format!("{scheme}://{}:{port}", host.to_ascii_lowercase()))
}

/// Whether links can begin with `text`: an address without query, or a path from the root.
pub(super) fn is_docs_base(text: &str) -> bool {
    let address = |uri: &Uri| matches!(uri.scheme_str(), Some("http" | "https"));
    let path = text.starts_with('/') && !text.starts_with("//");
    !text.contains(['?', '#']) && text.parse().is_ok_and(|uri| path || address(&uri))
}

/// Whether `text` is `HH:MM-HH:MM`, optionally followed by ` UTC`. A window may pass midnight.
pub(super) fn is_window(text: &str) -> bool {
    fn is_time(text: &str) -> bool {
        let number = |part: &str, below: u8| {
            part.len() == 2
                && part.bytes().all(|byte| byte.is_ascii_digit())
                && part.parse::<u8>().is_ok_and(|number| number < below)
        };
        text.split_once(':').is_some_and(|(hour, minute)| number(hour, 24) && number(minute, 60))
    }
    let text = text.trim();
    let text = text.strip_suffix("UTC").map_or(text, str::trim_end);
    text.split_once('-').is_some_and(|(from, to)| is_time(from) && is_time(to) && from != to)
}
