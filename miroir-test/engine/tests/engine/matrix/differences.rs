//! Where Miroir judges otherwise than one node, and why. What is met no more fails the test.

use super::verdicts::Verdict;

/// Nodes of Miroir with which a difference shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nodes {
    /// Any.
    Any,
    /// Only the in-process engine, which is no Meilisearch in this.
    Engine,
}

impl Nodes {
    pub(super) fn are(self, real: bool) -> bool {
        self == Self::Any || !real
    }
}

/// One verdict that differs.
#[derive(Debug)]
pub(super) struct Cell<'a> {
    /// `METHOD /route · sample · form`.
    pub(super) request: &'a str,
    pub(super) node: &'a Verdict,
    pub(super) miroir: &'a Verdict,
}

impl Cell<'_> {
    fn has_form(&self, forms: &[&str]) -> bool {
        self.request.rsplit(" · ").next().is_some_and(|form| forms.contains(&form))
    }

    /// Both let the caller in: what differs is what is said of the request.
    fn lets_in(&self) -> bool {
        !self.node.is_refusal() && !self.miroir.is_refusal()
    }
}

/// A difference that is meant.
#[derive(Clone, Copy)]
pub(super) struct Difference {
    pub(super) why: &'static str,
    pub(super) nodes: Nodes,
    pub(super) is: fn(&Cell<'_>) -> bool,
}

/// All that are meant; of two that fit, the first counts.
pub(super) fn differences() -> Vec<Difference> {
    vec![
        Difference {
            why: "explain is a route of Miroir's own: it takes `execute` and names what it does not know, \
                  while a node looks at no query string beside the body of a search",
            nodes: Nodes::Any,
            is: |cell| {
                cell.request.contains("/explain · ")
                    && cell.request.ends_with("· query beside")
                    && cell.miroir.code == "bad_request"
            },
        },
        Difference {
            why: "documents of an index are on several nodes, and none is asked to render one: that is \
                  refused whoever asks, before anything is looked up",
            nodes: Nodes::Any,
            is: |cell| {
                cell.request.starts_with("POST /render-template · a document")
                    && cell.miroir.code == "miroir_not_supported"
            },
        },
        Difference {
            why: "a search that is explained and not executed finds nothing",
            nodes: Nodes::Any,
            is: |cell| {
                cell.request.contains("/explain · ")
                    && !cell.request.contains(" executed · ")
                    && cell.node.status == 200
                    && (cell.miroir.status, cell.miroir.code.as_str()) == (200, "")
            },
        },
        Difference {
            why: "the engine has no such route, and says so without a code",
            nodes: Nodes::Engine,
            is: |cell| cell.lets_in() && cell.miroir.code == "no code",
        },
        Difference {
            why: "the engine takes any media type for JSON",
            nodes: Nodes::Engine,
            is: |cell| {
                cell.lets_in()
                    && cell.node.status == 415
                    && cell.has_form(&["text/plain", "no content type"])
            },
        },
        Difference {
            why: "the engine looks at no query string of a deletion",
            nodes: Nodes::Engine,
            is: |cell| {
                cell.lets_in()
                    && cell.request.starts_with("POST /indexes/{uid}/documents/delete")
                    && cell.has_form(&["query beside"])
            },
        },
        Difference {
            why: "the engine knows no federation, and is asked about one of several indexes",
            nodes: Nodes::Engine,
            is: |cell| {
                cell.request.starts_with("POST /multi-search")
                    && cell.node.status == 200
                    && cell.miroir.code == "bad_request"
            },
        },
    ]
}
