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
    Search { limit: usize, details: bool, size: Size },
    Document,
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
    Case { name: "document", what: "a read of one document", nodes: 3, kind: Kind::Document },
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
            Kind::Document => ("GET", format!("documents/{}", id(question)), None),
        }
    }

    /// What its nodes answer to the first `questions`.
    pub(super) fn recorded(&self, questions: usize) -> Vec<Recorded> {
        let mut nodes: Vec<Recorded> = (0..self.nodes).map(|_| Recorded::default()).collect();
        match self.kind {
            Kind::Search { limit, size, .. } => {
                let made: Vec<Vec<String>> = (0..questions.min(PAGES))
                    .map(|question| pages::pages(question, self.nodes, limit, size))
                    .collect();
                for question in 0..questions {
                    for (node, page) in nodes.iter_mut().zip(&made[question % PAGES]) {
                        node.searches.insert(pages::words(question), page.clone());
                    }
                }
            }
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
            Kind::Search { .. } => self.nodes,
            Kind::Document => 1,
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
            Kind::Document => answer.get("title").is_some() && answer.get("id").is_some(),
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
        for case in CASES {
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
