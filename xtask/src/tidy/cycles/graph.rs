//! Which sibling modules use each other, and in which cycles.

use std::collections::{BTreeMap, BTreeSet};

use super::resolve::Resolver;
use super::tree::{Id, Tree};

/// Where a module is used.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Site {
    /// From the repository's root.
    pub(super) file: String,
    pub(super) line: usize,
    /// The path as it is written, a nested `use` unfolded.
    pub(super) path: String,
}

/// Uses between siblings: the module that uses, or has inside what uses; the one that is used.
#[derive(Debug, Default)]
pub(super) struct Graph {
    pub(super) edges: BTreeMap<(Id, Id), BTreeSet<Site>>,
}

/// Siblings that all reach each other.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Component {
    pub(super) modules: Vec<Id>,
    /// What the modules and all below them take.
    pub(super) files: usize,
    pub(super) lines: usize,
}

impl Graph {
    pub(super) fn of(tree: &Tree) -> Self {
        let mut graph = Self::default();
        for (user, module) in tree.modules.iter().enumerate() {
            let resolver = Resolver::new(tree, user);
            let scanned = &module.scanned;
            let mut add = |used: Option<Id>, line: usize, path: &dyn Fn() -> String| {
                let Some(edge) = used.and_then(|used| siblings(tree, user, used)) else { return };
                let site = Site { file: module.file.clone(), line, path: path() };
                graph.edges.entry(edge).or_default().insert(site);
            };
            for import in &scanned.imports {
                let end = if import.glob { "::*" } else { "" };
                add(resolver.import(import), import.line, &|| import.path.join("::") + end);
            }
            for named in &scanned.paths {
                add(resolver.path(named), named.line, &|| named.path.join("::"));
            }
            for (word, line) in &scanned.words {
                add(resolver.word(word), *line, &|| word.clone());
            }
        }
        graph
    }

    /// The cycles, that of the most lines first.
    pub(super) fn cycles(&self, tree: &Tree) -> Vec<Component> {
        let mut next: BTreeMap<Id, Vec<Id>> = BTreeMap::new();
        for (from, to) in self.edges.keys() {
            next.entry(*from).or_default().push(*to);
        }
        let reach: BTreeMap<Id, BTreeSet<Id>> =
            next.keys().map(|from| (*from, reached(*from, &next))).collect();
        let mut seen = BTreeSet::new();
        let mut out = Vec::new();
        for (from, to) in &reach {
            // All that it reaches and that reach it.
            let modules: Vec<Id> = to
                .iter()
                .copied()
                .filter(|id| reach.get(id).is_some_and(|back| back.contains(from)))
                .collect();
            if !modules.is_empty() && seen.insert(modules.clone()) {
                let (files, lines) = tree.size(&modules);
                out.push(Component { modules, files, lines });
            }
        }
        out.sort_by_key(|component| std::cmp::Reverse(component.lines));
        out
    }

    /// The edges inside a component, those of the fewest uses first.
    pub(super) fn inside(&self, component: &Component) -> Vec<(Id, Id, &BTreeSet<Site>)> {
        let within = |id: &Id| component.modules.contains(id);
        let mut edges: Vec<_> = self
            .edges
            .iter()
            .filter(|((from, to), _)| within(from) && within(to))
            .map(|((from, to), sites)| (*from, *to, sites))
            .collect();
        edges.sort_by_key(|(_, _, sites)| sites.len());
        edges
    }
}

/// The siblings that a use connects. `None` inside one module, or between a module and one around it.
fn siblings(tree: &Tree, user: Id, used: Id) -> Option<(Id, Id)> {
    let lines = (&tree.modules[user].line, &tree.modules[used].line);
    lines.0.iter().copied().zip(lines.1.iter().copied()).find(|(from, to)| from != to)
}

fn reached(from: Id, next: &BTreeMap<Id, Vec<Id>>) -> BTreeSet<Id> {
    let mut out = BTreeSet::new();
    let mut open = vec![from];
    while let Some(id) = open.pop() {
        for to in next.get(&id).into_iter().flatten() {
            if out.insert(*to) {
                open.push(*to);
            }
        }
    }
    out
}
