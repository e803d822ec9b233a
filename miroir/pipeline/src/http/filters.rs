//! How large a filter may be. What a node needs for one grows with its conditions: 20,000 of them took
//! 15 GB, and whoever may search may send them. The literals of an `IN` cost little and do not count.

use miroir_core::filter::{compact, size};
use serde_json::Value;

use crate::cluster::FilterLimits;
use crate::error::Error;
use crate::query::{ClientRequest, query_pairs};
use crate::refused::Refused;

/// Bytes that a condition takes at least: `a=1 OR `.
const SHORTEST: usize = 4;

/// What is too much of a filter, and which option says so.
struct TooMuch {
    what: &'static str,
    found: usize,
    most: usize,
    option: &'static str,
}

impl FilterLimits {
    /// Judges the filters of a request. One that has too many conditions and only reads is written with
    /// fewer, where that can be: thousands of values of one attribute make one list.
    ///
    /// # Errors
    /// As [`FilterLimits::judge`].
    pub(super) fn fit(
        &self,
        path: &str,
        reads: bool,
        original: &mut ClientRequest,
    ) -> Result<(), Error> {
        let judged = self.judge(path, original.query.as_deref(), &original.body);
        let Err(error) = judged else { return Ok(()) };
        let Ok(mut body) = serde_json::from_slice::<Value>(&original.body) else {
            return Err(error);
        };
        self.rewrite(&mut body);
        let body = body.to_string();
        if !reads || self.judge(path, original.query.as_deref(), body.as_bytes()).is_err() {
            return Err(error);
        }
        original.body = body.into();
        Ok(())
    }

    fn rewrite(&self, body: &mut Value) {
        match body {
            Value::Object(members) => {
                for (name, value) in members {
                    if name != "filter" {
                        self.rewrite(value);
                    } else if size(value).0 > self.conditions
                        && let Some(other) = compact(value)
                    {
                        *value = other;
                    }
                }
            }
            Value::Array(list) => list.iter_mut().for_each(|value| self.rewrite(value)),
            _ => {}
        }
    }

    /// Judges the filters of a request with a JSON body, or none, wherever they are in it.
    ///
    /// # Errors
    /// When one is too large: `400`, with the limit and what to do.
    fn judge(&self, path: &str, query: Option<&str>, body: &[u8]) -> Result<(), Error> {
        let smallest = self.bytes.min(self.conditions.saturating_mul(SHORTEST));
        let mut found = Ok(());
        if body.len() > smallest
            && let Ok(body) = serde_json::from_slice::<Value>(body)
        {
            found = self.inside(&body);
        }
        if let Some(query) = query.filter(|query| query.len() > smallest) {
            let mut own = query_pairs(query).into_iter().filter(|(name, _)| name == "filter");
            found = found.and_then(|()| own.try_for_each(|(_, filter)| self.one(&filter.into())));
        }
        found.map_err(|TooMuch { what, found, most, option }| {
            let code = if path.contains("/documents") || path.ends_with("/export") {
                "invalid_document_filter"
            } else {
                "invalid_search_filter"
            };
            Error::api(
                code,
                format!(
                    "Invalid value for `filter`: it has {found} {what}, and at most {most} are taken. \
                     Write values of one attribute as `IN [...]`, or raise `server.{option}`."
                ),
            )
            .and(Refused::Limit)
        })
    }

    fn inside(&self, body: &Value) -> Result<(), TooMuch> {
        match body {
            Value::Object(members) => members.iter().try_for_each(|(name, value)| {
                if name == "filter" { self.one(value) } else { self.inside(value) }
            }),
            Value::Array(list) => list.iter().try_for_each(|value| self.inside(value)),
            _ => Ok(()),
        }
    }

    fn one(&self, filter: &Value) -> Result<(), TooMuch> {
        let (conditions, bytes) = size(filter);
        if conditions > self.conditions {
            let (most, option) = (self.conditions, "max_filter_conditions");
            return Err(TooMuch { what: "conditions", found: conditions, most, option });
        }
        if bytes > self.bytes {
            let (most, option) = (self.bytes, "max_filter_bytes");
            return Err(TooMuch { what: "bytes", found: bytes, most, option });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn filters_are_bounded_wherever_they_are() {
        let limits = FilterLimits { conditions: 3, bytes: 40 };
        let long = "a=1 OR b=2 OR c=3 OR d=4";
        let judge = |query: Option<&str>, body: Value| {
            let text = body.to_string();
            limits.judge("/indexes/a/search", query, text.as_bytes()).map_err(|error| {
                let (status, text) = error.render();
                (status.as_u16(), String::from_utf8(text.unwrap().to_vec()).unwrap())
            })
        };
        assert_eq!(
            judge(None, json!({"filter": "a=1 OR b=2 OR c=3", "q": "x AND y AND z OR w"})),
            Ok(())
        );
        let found = judge(None, json!({"queries": [{"filter": [long]}]})).unwrap_err();
        assert_eq!(found.0, 400);
        assert!(found.1.contains("4 conditions") && found.1.contains("max_filter_conditions"));
        let blanks = format!("a=1{}", " ".repeat(60));
        let found = judge(None, json!({"filter": blanks})).unwrap_err();
        assert!(
            found.1.contains("63 bytes") && found.1.contains("max_filter_bytes"),
            "{}",
            found.1
        );
        assert!(judge(Some("q=x&filter=a%3D1+OR+b%3D2+OR+c%3D3+OR+d%3D4"), json!({})).is_err());
        // Alternatives of one attribute are a list of values, in what reads.
        let mut request = ClientRequest::new(http::Method::POST, "/search");
        let many = json!({"filter": [["a = 1", "a = 2", "a = 3", "a = 4"]]}).to_string();
        request.body = many.clone().into();
        assert!(limits.fit("/x", false, &mut request).is_err() && request.body == many);
        assert!(limits.fit("/x", true, &mut request).is_ok());
        assert_eq!(request.body, r#"{"filter":"a IN [1, 2, 3, 4]"}"#);
        request.body = json!({"filter": long}).to_string().into();
        assert!(limits.fit("/x", true, &mut request).is_err());
        // A list of values is no list of conditions.
        let limits = FilterLimits { conditions: 3, ..FilterLimits::default() };
        let ids: Vec<String> = (0..900).map(|n| n.to_string()).collect();
        let body = json!({"filter": format!("id IN [{}]", ids.join(","))}).to_string();
        assert!(limits.judge("/x", None, body.as_bytes()).is_ok());
    }
}
