//! What is counted. A further case is a row in [`CASES`], and what its nodes answer.

use serde_json::json;

use super::pages::{self, HITS, Size};
use crate::bench::stub::Recorded;

/// Pages that are made; questions beyond take them in turn.
const PAGES: usize = 100;

/// One kind of request.
#[derive(Debug)]
pub(super) struct Case {
    /// Its name on the command line and in the table.
    pub(super) name: &'static str,
    /// What it is, for the table.
    pub(super) what: &'static str,
    /// Nodes, one group of one copy: a search asks them all.
    pub(super) nodes: usize,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Search {
        limit: usize,
        details: bool,
        size: Size,
    },
    /// A page of so many hits behind so many others, all of which every node answers.
    Deep {
        offset: usize,
        limit: usize,
    },
    /// A search that counts the values of a facet.
    Facets,
    Document,
    /// An addition of so many documents.
    Write {
        documents: usize,
    },
}

/// All cases. The first is the one that is talked about.
pub(super) const CASES: &[Case] = &[
    Case {
        name: "search",
        what: "a search over 3 nodes that answer 20 hits each",
        nodes: 3,
        kind: Kind::Search { limit: HITS, details: false, size: Size::Small },
    },
    Case {
        name: "details",
        what: "the same, its client sees scores and ranking details",
        nodes: 3,
        kind: Kind::Search { limit: HITS, details: true, size: Size::Small },
    },
    Case {
        name: "large",
        what: "a search over 3 nodes, of documents with 21 fields instead of 6",
        nodes: 3,
        kind: Kind::Search { limit: HITS, details: false, size: Size::Large },
    },
    Case {
        name: "eight",
        what: "a search over 8 nodes that answer 20 hits each",
        nodes: 8,
        kind: Kind::Search { limit: HITS, details: false, size: Size::Small },
    },
    Case {
        name: "none",
        what: "a search over 3 nodes for no hits (`limit: 0`)",
        nodes: 3,
        kind: Kind::Search { limit: 0, details: false, size: Size::Small },
    },
    Case {
        name: "facets",
        what: "a search over 3 nodes that count 50 values of a facet each",
        nodes: 3,
        kind: Kind::Facets,
    },
    Case {
        name: "deep",
        what: "a search over 3 nodes for 20 hits at offset 900, of documents of 5 kB",
        nodes: 3,
        kind: Kind::Deep { offset: 900, limit: HITS },
    },
    Case { name: "document", what: "a read of one document", nodes: 3, kind: Kind::Document },
    Case {
        name: "write",
        what: "an addition of 1,000 documents over 3 nodes, its end included",
        nodes: 3,
        kind: Kind::Write { documents: 1_000 },
    },
];

/// Method, path below the index, and body of a request.
pub(super) type Asked = (&'static str, String, Option<serde_json::Value>);

impl Case {
    /// The request that asks `question`; no two are equal.
    pub(super) fn request(&self, question: usize) -> Asked {
        match self.kind {
            Kind::Search { limit, details, .. } => {
                let mut body = json!({ "q": pages::words(question), "limit": limit });
                if details {
                    body["showRankingScore"] = json!(true);
                    body["showRankingScoreDetails"] = json!(true);
                }
                ("POST", "search".to_owned(), Some(body))
            }
            Kind::Deep { offset, limit } => {
                let body = json!({ "q": pages::words(question), "offset": offset, "limit": limit });
                ("POST", "search".to_owned(), Some(body))
            }
            Kind::Facets => {
                let body = json!({ "q": pages::words(question), "facets": [pages::FACET] });
                ("POST", "search".to_owned(), Some(body))
            }
            Kind::Document => ("GET", format!("documents/{}", id(question)), None),
            Kind::Write { documents } => {
                let numbers = question * documents..(question + 1) * documents;
                let batch = numbers.map(|number| pages::document(number, 0, Size::Small));
                let batch = batch.map(|mut document| {
                    document.as_object_mut().map(|fields| fields.remove("_miroir_shard"));
                    document
                });
                ("POST", "documents".to_owned(), Some(batch.collect()))
            }
        }
    }

    /// What its nodes answer to the first `questions`.
    pub(super) fn recorded(&self, questions: usize) -> Vec<Recorded> {
        let mut nodes: Vec<Recorded> = (0..self.nodes).map(|_| Recorded::default()).collect();
        match self.kind {
            Kind::Search { limit, size, .. } => {
                let page = |question| pages::pages(question, self.nodes, limit, size);
                record(&mut nodes, questions, PAGES, page);
            }
            Kind::Deep { offset, limit } => {
                // A few: each is megabytes.
                let page =
                    |question| pages::pages(question, self.nodes, offset + limit, Size::Long);
                record(&mut nodes, questions, 2, page);
            }
            Kind::Facets => {
                let page = |question| {
                    let pages = pages::pages(question, self.nodes, HITS, Size::Small);
                    pages.iter().map(|page| pages::counted(page, question)).collect()
                };
                record(&mut nodes, questions, PAGES, page);
            }
            Kind::Write { .. } => {}
            Kind::Document => {
                for question in 0..questions {
                    let document = pages::document(question, 0, Size::Small).to_string();
                    for node in &mut nodes {
                        node.documents.insert(id(question), document.clone());
                    }
                }
            }
        }
        nodes
    }

    /// Calls to nodes that one request makes.
    pub(super) fn calls(&self) -> usize {
        match self.kind {
            Kind::Search { .. } | Kind::Facets => self.nodes,
            // Which hits there are, then those of the page.
            Kind::Deep { .. } => 2 * self.nodes,
            Kind::Document => 1,
            Kind::Write { .. } => 0,
        }
    }

    /// The status of its answers.
    pub(super) fn status(&self) -> u16 {
        if matches!(self.kind, Kind::Write { .. }) { 202 } else { 200 }
    }

    /// How often it is asked at most, where it takes long.
    pub(super) fn requests(&self, wanted: usize) -> usize {
        match self.kind {
            Kind::Deep { .. } | Kind::Write { .. } => wanted.min(10),
            _ => wanted,
        }
    }

    /// Whether a client would get this answer: all of it, from all nodes.
    pub(super) fn answered(&self, answer: &serde_json::Value) -> bool {
        match self.kind {
            Kind::Search { limit, details, .. } => {
                let Some(hits) = answer["hits"].as_array() else { return false };
                answer["estimatedTotalHits"] == pages::FOUND * self.nodes as u64
                    && hits.len() == limit
                    && hits.iter().all(|hit| {
                        hit.get("_rankingScoreDetails").is_some() == details
                            && hit.get("_miroir_shard").is_none()
                    })
            }
            Kind::Deep { limit, .. } => {
                answer["hits"].as_array().is_some_and(|hits| hits.len() == limit)
            }
            Kind::Facets => {
                let facets = &answer["facetDistribution"][pages::FACET];
                facets.as_object().is_some_and(|values| values.len() == pages::VALUES)
            }
            Kind::Document => answer.get("title").is_some() && answer.get("id").is_some(),
            Kind::Write { .. } => answer.get("taskUid").is_some(),
        }
    }
}

/// Records pages of which so many are made, and taken in turn.
fn record(
    nodes: &mut [Recorded],
    questions: usize,
    made: usize,
    pages: impl Fn(usize) -> Vec<String>,
) {
    let made: Vec<Vec<String>> = (0..questions.min(made)).map(pages).collect();
    for question in 0..questions {
        for (node, page) in nodes.iter_mut().zip(&made[question % made.len()]) {
            node.searches.insert(pages::words(question), page.clone());
        }
    }
}

/// The id of a document of the sample catalogue.
fn id(question: usize) -> String {
    pages::document(question, 0, Size::Small)["id"].as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_have_an_answer_to_every_question() {
        for case in CASES.iter().filter(|case| case.calls() > 0) {
            let questions = 3;
            let nodes = case.recorded(questions);
            assert_eq!(nodes.len(), case.nodes, "{}", case.name);
            for question in 0..questions {
                let (_, path, body) = case.request(question);
                for node in &nodes {
                    let found = match &body {
                        Some(body) => node.searches.contains_key(body["q"].as_str().unwrap()),
                        None => node.documents.contains_key(path.rsplit('/').next().unwrap()),
                    };
                    assert!(found, "{} {question}", case.name);
                }
            }
        }
    }
}
