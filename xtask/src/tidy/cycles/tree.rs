//! The modules of one target of a crate, as a tree.

use std::collections::{BTreeMap, BTreeSet};

use super::lexer::tokens;
use super::scan::{Body, Scanned, scan};

/// The text of a file, by its path from the repository's root.
pub(super) type Read<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Number of a module in its tree; the crate's root is 0.
pub(super) type Id = usize;
pub(super) const ROOT: Id = 0;

#[derive(Debug)]
pub(super) struct Module {
    /// `crate::a::b`.
    pub(super) path: String,
    pub(super) parent: Option<Id>,
    /// Modules from the root to this one, both included.
    pub(super) line: Vec<Id>,
    pub(super) children: BTreeMap<String, Id>,
    /// The file it stands in, from the repository's root.
    pub(super) file: String,
    /// Lines of its file or its braces.
    pub(super) lines: usize,
    /// In the braces of another module's file.
    pub(super) inline: bool,
    pub(super) scanned: Scanned,
}

#[derive(Debug, Default)]
pub(super) struct Tree {
    pub(super) modules: Vec<Module>,
    /// Declared modules whose file is not there.
    pub(super) missing: Vec<String>,
}

/// Where the files of a module's children are.
#[derive(Clone, Debug)]
struct Place {
    file: String,
    /// Folder that a `#[path]` counts from.
    beside: String,
    /// Folder of the children's own files.
    below: String,
}

impl Place {
    /// `whole_folder`: a crate's root, a `mod.rs`, or what a `#[path]` names; its children are
    /// beside it.
    fn of(file: &str, whole_folder: bool) -> Self {
        let (folder, name) = file.rsplit_once('/').unwrap_or(("", file));
        let stem = name.strip_suffix(".rs").unwrap_or(name);
        let below =
            if whole_folder || stem == "mod" { folder.to_owned() } else { join(folder, stem) };
        Self { file: file.to_owned(), beside: folder.to_owned(), below }
    }

    fn inline(&self, name: &str) -> Self {
        let below = join(&self.below, name);
        Self { file: self.file.clone(), beside: below.clone(), below }
    }
}

impl Tree {
    /// Reads the modules from a target's root file on. Modules for tests are left out.
    pub(super) fn load(file: &str, read: Read<'_>) -> Self {
        let mut tree = Self::default();
        match read(file) {
            Some(text) => {
                tree.add_file("crate", None, Place::of(file, true), &text, read);
            }
            None => tree.missing.push(format!("{file}: cannot be read")),
        }
        tree
    }

    fn add_file(
        &mut self,
        name: &str,
        parent: Option<Id>,
        place: Place,
        text: &str,
        read: Read<'_>,
    ) {
        if let Some(scanned) = scan(&tokens(text)) {
            self.add(name, parent, &place, (text.lines().count(), false), scanned, read);
        }
    }

    fn add(
        &mut self,
        name: &str,
        parent: Option<Id>,
        place: &Place,
        (lines, inline): (usize, bool),
        mut scanned: Scanned,
        read: Read<'_>,
    ) {
        let id = self.modules.len();
        let mut path = name.to_owned();
        let mut line = Vec::new();
        if let Some(parent) = parent.map(|parent| &mut self.modules[parent]) {
            path = format!("{}::{name}", parent.path);
            line.clone_from(&parent.line);
            parent.children.insert(name.to_owned(), id);
        }
        line.push(id);
        let children = std::mem::take(&mut scanned.children);
        let file = place.file.clone();
        self.modules.push(Module {
            path,
            parent,
            line,
            children: BTreeMap::new(),
            file,
            lines,
            inline,
            scanned,
        });
        for child in children {
            match child.body {
                Body::Inline(inside, lines) => {
                    let place = place.inline(&child.name);
                    self.add(&child.name, Some(id), &place, (lines, true), inside, read);
                }
                Body::File(at) => {
                    let candidates = match at {
                        Some(at) => vec![Place::of(&join(&place.beside, &at), true)],
                        None => ["{}.rs", "{}/mod.rs"]
                            .map(|form| {
                                let file = join(&place.below, &form.replace("{}", &child.name));
                                Place::of(&file, false)
                            })
                            .into(),
                    };
                    let found = candidates
                        .into_iter()
                        .find_map(|place| read(&place.file).map(|text| (place, text)));
                    match found {
                        Some((place, text)) => {
                            self.add_file(&child.name, Some(id), place, &text, read);
                        }
                        None => self.missing.push(format!(
                            "{}:{}: no file of module `{}`",
                            place.file, child.line, child.name
                        )),
                    }
                }
            }
        }
    }

    /// The module and all below it.
    pub(super) fn below(&self, id: Id) -> impl Iterator<Item = Id> {
        (0..self.modules.len()).filter(move |below| self.modules[*below].line.contains(&id))
    }

    /// Its files and their lines.
    pub(super) fn files(&self) -> BTreeMap<String, usize> {
        let files = self.modules.iter().filter(|module| !module.inline);
        files.map(|module| (module.file.clone(), module.lines)).collect()
    }

    /// Files, and lines, that these modules and all below them take.
    pub(super) fn size(&self, ids: &[Id]) -> (usize, usize) {
        let all: BTreeSet<Id> = ids.iter().flat_map(|id| self.below(*id)).collect();
        let files: BTreeSet<&str> = all.iter().map(|id| self.modules[*id].file.as_str()).collect();
        let lines = all.iter().map(|id| &self.modules[*id]).filter(|module| {
            // Lines in braces are lines of the file around them.
            !module.inline || module.parent.is_none_or(|parent| !all.contains(&parent))
        });
        (files.len(), lines.map(|module| module.lines).sum())
    }
}

/// Joins two paths, `..` resolved.
fn join(folder: &str, path: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}
