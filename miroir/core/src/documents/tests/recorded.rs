//! Every payload of `recorded.json` was sent to a Meilisearch 1.50.0, whose answer stands beside it:
//! the same code and text must come out here.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::*;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Case {
    format: String,
    payload: Option<String>,
    #[serde(rename = "payload_hex")]
    hex: Option<String>,
    primary_key: Option<String>,
    #[serde(default)]
    settings: Value,
    method: Option<String>,
    status: u16,
    task: Option<String>,
    details: Option<Details>,
    error: Option<Recorded>,
    documents: Option<Vec<Map<String, Value>>>,
}

#[derive(Deserialize, PartialEq, Debug)]
#[serde(rename_all = "camelCase")]
struct Details {
    received_documents: u64,
    indexed_documents: u64,
}

#[derive(Deserialize, PartialEq, Debug)]
struct Recorded {
    message: String,
    code: String,
}

fn cases() -> Vec<Case> {
    serde_json::from_str(include_str!("../recorded.json")).unwrap()
}

impl Case {
    fn format(&self) -> Format {
        match &*self.format {
            "json" => Format::Json,
            "ndjson" => Format::Ndjson,
            _ => Format::Csv { delimiter: b',' },
        }
    }

    fn bytes(&self) -> Bytes {
        match (&self.payload, &self.hex) {
            (Some(text), _) => Bytes::copy_from_slice(text.as_bytes()),
            (None, Some(hex)) => (0..hex.len() / 2)
                .map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap())
                .collect(),
            (None, None) => unreachable!(),
        }
    }

    fn prepare(
        &self,
        documents: Vec<RawDocument>,
    ) -> Result<Prepared, miroir_api::meili::ApiError> {
        let Some(first) = documents.first() else { return Ok(Prepared::default()) };
        let primary_key = match &self.primary_key {
            Some(name) => name.clone(),
            None => infer(first).into_result()?,
        };
        let embedders: Vec<Embedder> = self.settings["embedders"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, embedder)| Embedder {
                name: name.clone(),
                dimensions: embedder["dimensions"].as_u64().map(|n| n as usize),
            })
            .collect();
        let checks = Checks {
            index: "UID",
            method: if self.method.is_some() { Method::Update } else { Method::Replace },
            geo: self.settings["sortableAttributes"] == json!(["_geo"]),
            geojson: self.settings["filterableAttributes"] == json!(["_geojson"]),
            embedders: &embedders,
        };
        prepare(documents, &primary_key, &checks, shard_of(16))
    }
}

#[test]
fn answers_are_those_of_a_real_node() {
    let mut wrong = Vec::new();
    let mut refused = (0, 0);
    for case in cases() {
        let shown = case.payload.as_deref().or(case.hex.as_deref()).unwrap();
        let (status, task, error) = match split(case.format(), &case.bytes()) {
            Err(error) => (error.0.status(), None, Some(error.0)),
            Ok(documents) => match case.prepare(documents) {
                Ok(prepared) => {
                    if let Some(details) = &case.details {
                        let got = Details {
                            received_documents: prepared.received,
                            indexed_documents: prepared.unique_ids,
                        };
                        if got != *details {
                            wrong.push(format!("{shown}: {got:?} instead of {details:?}"));
                        }
                    }
                    (202, Some("succeeded"), None)
                }
                Err(error) => (202, Some("failed"), Some(error)),
            },
        };
        refused.0 += usize::from(status != 202);
        refused.1 += usize::from(task == Some("failed"));
        let error = error.map(|e| Recorded { message: e.message, code: e.code.into_owned() });
        if (status, task, &error) != (case.status, case.task.as_deref(), &case.error) {
            wrong.push(format!(
                "{shown:.200}\n   node {} {:?} {:?}\n   here {status} {task:?} {error:?}",
                case.status, case.task, case.error
            ));
        }
    }
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
    assert!(refused.0 > 50 && refused.1 > 100, "the recording is not what it was: {refused:?}");
}

/// What a node shows of documents that were sent: the last value of every key, at the place of the
/// first. `_vectors` is never shown.
fn shown(documents: &[RawDocument], primary_key: &str) -> Vec<Map<String, Value>> {
    let mut by_id: Vec<(DocumentId, Vec<(String, &[u8])>)> = Vec::new();
    for document in documents {
        let id = extract_id(document, primary_key).unwrap();
        let mut raw: Vec<(String, &[u8])> = Vec::new();
        for member in super::super::scan::members(&document.bytes) {
            let name = String::from_utf8(member.name().into_owned()).unwrap();
            match raw.iter_mut().find(|(known, _)| *known == name) {
                Some(known) => known.1 = member.value,
                None => raw.push((name, member.value)),
            }
        }
        match by_id.iter_mut().find(|(known, _)| *known == id) {
            Some(known) => known.1 = raw,
            None => by_id.push((id, raw)),
        }
    }
    let parse = |raw: Vec<(String, &[u8])>| {
        raw.into_iter()
            .filter(|(name, _)| name != "_vectors")
            .map(|(name, value)| (name, serde_json::from_slice(value).unwrap()))
            .collect()
    };
    by_id.into_iter().map(|(_, raw)| parse(raw)).collect()
}

#[test]
fn converted_documents_are_those_of_a_real_node() {
    let mut compared = 0;
    for case in cases() {
        let Some(expected) = &case.documents else { continue };
        if case.method.is_some() {
            continue;
        }
        let documents = split(case.format(), &case.bytes()).unwrap();
        let Some(first) = documents.first() else {
            assert!(expected.is_empty());
            continue;
        };
        let primary_key = case.primary_key.clone().or_else(|| match infer(first) {
            Inference::Found(name) => Some(name),
            _ => None,
        });
        let mut got = shown(&documents, &primary_key.unwrap());
        // Nodes list by their internal ids; compare as sets, but with the order of keys.
        let mut expected = expected.clone();
        let key = |map: &Map<String, Value>| serde_json::to_string(map).unwrap();
        got.sort_by_key(key);
        expected.sort_by_key(key);
        let text = |list: &[Map<String, Value>]| serde_json::to_string(list).unwrap();
        assert_eq!(text(&got), text(&expected), "{:?}", case.payload);
        compared += 1;
    }
    assert!(compared > 60, "only {compared} were compared");
}
