//! Inside a crate, too, dependencies point one way: no modules beside each other, at any depth, may
//! use each other in a circle.
//!
//! A module counts with all below it. `use` declarations and paths in code both count, tests do not.
//! What a module takes from the file of one around it is no edge, unless that file only passes on
//! what another child declares: then it is an edge to this child.

mod graph;
mod lexer;
mod resolve;
mod scan;
mod tree;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::Findings;
use super::workspace::Package;
use graph::{Component, Graph};
use tree::{Read, Tree};

/// Uses named for each edge.
const SITES: usize = 3;

/// What `tidy` prints about a crate.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Row {
    name: String,
    modules: usize,
    edges: usize,
    cycles: usize,
    /// Modules, files and lines of the largest component.
    largest: Option<(usize, usize, usize)>,
    /// Lines of the modules, and of all Rust files of the package.
    lines: (usize, usize),
}

/// Checks a crate; `files` are the lines of all its Rust files.
pub(super) fn check(package: &Package, all: usize, read: Read<'_>, found: &mut Findings) -> Row {
    let mut row = Row { name: package.name.clone(), lines: (0, all), ..Row::default() };
    // Examples share files.
    let mut files = BTreeMap::new();
    for root in &package.roots {
        let tree = Tree::load(root, read);
        found.errors.extend(tree.missing.iter().cloned());
        let graph = Graph::of(&tree);
        let cycles = graph.cycles(&tree);
        row.modules += tree.modules.len();
        row.edges += graph.edges.len();
        row.cycles += cycles.len();
        files.extend(tree.files());
        if let Some(first) = cycles.first() {
            let size = (first.modules.len(), first.files, first.lines);
            row.largest = row.largest.filter(|other| other.2 >= size.2).or(Some(size));
        }
        let described = cycles.iter().map(|cycle| describe(&package.name, &tree, &graph, cycle));
        found.errors.extend(described);
    }
    row.lines.0 = files.values().sum();
    row
}

/// A cycle and its edges, a line each.
fn describe(package: &str, tree: &Tree, graph: &Graph, cycle: &Component) -> String {
    let path = |id: usize| tree.modules[id].path.as_str();
    let name = |id: usize| path(id).rsplit("::").next().unwrap_or_default();
    let around = path(cycle.modules[0]).rsplit_once("::").map_or("", |(around, _)| around);
    let names: Vec<&str> = cycle.modules.iter().map(|id| name(*id)).collect();
    let mut out = format!(
        "{package}: modules of `{around}` use each other in a circle: {} ({} file(s), {} lines)",
        names.join(", "),
        cycle.files,
        cycle.lines
    );
    for (from, to, sites) in graph.inside(cycle) {
        let _ = write!(out, "\n    {} -> {}", name(from), name(to));
        for site in sites.iter().take(SITES) {
            let _ = write!(out, "\n        {}:{}: {}", site.file, site.line, site.path);
        }
        if sites.len() > SITES {
            let _ = write!(out, "\n        and {} more", sites.len() - SITES);
        }
    }
    out
}

/// The table of all crates.
pub(super) fn table(rows: &[Row]) -> String {
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or_default();
    let mut out = format!(
        "{:width$}  {:>7}  {:>5}  {:>6}  {:>32}  {:>7}  {:>10}\n",
        "crate", "modules", "edges", "cycles", "largest", "lines", "with tests"
    );
    for row in rows {
        let largest = row.largest.map_or("-".to_owned(), |(modules, files, lines)| {
            format!("{modules} modules, {files} files, {lines} lines")
        });
        let _ = writeln!(
            out,
            "{:width$}  {:>7}  {:>5}  {:>6}  {largest:>32}  {:>7}  {:>10}",
            row.name, row.modules, row.edges, row.cycles, row.lines.0, row.lines.1
        );
    }
    out
}
