//! What a path means: the module that a user of it depends on.

use super::scan::{Import, Named};
use super::tree::{Id, ROOT, Tree};

/// Imports that import imports: more than any file needs, and an end for those in a circle.
const DEPTH: usize = 8;

/// What a path leads to, within this crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Module(Id),
    /// An item of the module.
    Item(Id),
}

impl Found {
    fn module(self) -> Id {
        match self {
            Self::Module(id) | Self::Item(id) => id,
        }
    }
}

/// Resolves the paths of one module.
///
/// Where a path leads through a re-export, the module that re-exports is what the user depends on:
/// it has its own edge to what it re-exports. A re-export of a module around the user is followed
/// to its end instead, as an edge from a module to one around it is no edge between siblings.
#[derive(Debug)]
pub(super) struct Resolver<'a> {
    tree: &'a Tree,
    user: Id,
}

impl<'a> Resolver<'a> {
    pub(super) fn new(tree: &'a Tree, user: Id) -> Self {
        Self { tree, user }
    }

    /// The module that an import makes its module depend on; `None` if it is another crate's.
    pub(super) fn import(&self, import: &Import) -> Option<Id> {
        self.walk(self.user, &import.path, false, DEPTH).map(Found::module)
    }

    /// The module that a path outside of imports names.
    pub(super) fn path(&self, named: &Named) -> Option<Id> {
        let [head, ..] = named.path.as_slice() else { return None };
        let import = self.imported(self.user, head);
        // `Type::new`, where the import of `Type` is the edge.
        if let Some(import) = import
            && !self.tree.modules[self.user].children.contains_key(head)
            && !matches!(
                self.walk(self.user, &import.path, false, DEPTH - 1),
                Some(Found::Module(_))
            )
        {
            return None;
        }
        self.walk(self.user, &named.path, named.called, DEPTH).map(Found::module)
    }

    /// The module of a word that a glob import of a module around the user may have brought in.
    pub(super) fn word(&self, word: &str) -> Option<Id> {
        let own = &self.tree.modules[self.user];
        if own.scanned.items.contains(word)
            || own.children.contains_key(word)
            || self.imported(self.user, word).is_some()
        {
            return None;
        }
        own.scanned.imports.iter().filter(|import| import.glob).find_map(|import| {
            let around = self.walk(self.user, &import.path, false, DEPTH)?.module();
            let found = self.around(around).then(|| self.name(around, word, true, DEPTH))??;
            // A module alone is no use of it.
            matches!(found, Found::Item(_)).then(|| found.module())
        })
    }

    /// Whether a module is the user or has it inside.
    fn around(&self, module: Id) -> bool {
        self.tree.modules[self.user].line.contains(&module)
    }

    fn imported(&self, module: Id, name: &str) -> Option<&'a Import> {
        let mut imports = self.tree.modules[module].scanned.imports.iter();
        imports.find(|import| import.name.as_deref() == Some(name))
    }

    /// Follows a path written in `from`.
    fn walk(&self, from: Id, path: &[String], called: bool, depth: usize) -> Option<Found> {
        let mut rest = path;
        let mut at = from;
        let mut first = true;
        while let [name, tail @ ..] = rest {
            rest = tail;
            match name.as_str() {
                "crate" => at = ROOT,
                "self" => {}
                "super" => at = self.tree.modules[at].parent?,
                name => match self.name(at, name, called && tail.is_empty(), depth) {
                    Some(Found::Module(id)) => at = id,
                    Some(item) => return Some(item),
                    // A name that nothing declares: at the head another crate, a local name or one
                    // of the prelude, later one that a macro made.
                    None => return (!first).then_some(Found::Item(at)),
                },
            }
            first = false;
        }
        Some(Found::Module(at))
    }

    /// What a name means inside a module.
    fn name(&self, module: Id, name: &str, called: bool, depth: usize) -> Option<Found> {
        let depth = depth.checked_sub(1)?;
        let own = &self.tree.modules[module];
        let child = own.children.get(name).copied();
        let item = own.scanned.items.contains(name);
        if let Some(child) = child
            && !(called && (item || self.imported(module, name).is_some()))
        {
            return Some(Found::Module(child));
        }
        if item {
            return Some(Found::Item(module));
        }
        if let Some(import) = self.imported(module, name) {
            // An import of its own name would be looked up for ever.
            let itself =
                module == self.user && import.path.first().is_some_and(|head| head == name);
            if itself {
                return None;
            }
            if self.around(module) {
                return self.walk(module, &import.path, false, depth);
            }
            return Some(Found::Item(module));
        }
        if module == ROOT
            && let Some(macros) =
                self.tree.modules.iter().find(|m| m.scanned.exported.iter().any(|e| e == name))
        {
            return macros.line.last().map(|id| Found::Item(*id));
        }
        let globs = own.scanned.imports.iter().filter(|import| import.glob);
        globs
            .filter_map(|import| self.walk(module, &import.path, false, depth))
            .filter_map(|found| match found {
                Found::Module(id) if id != module => self.name(id, name, called, depth),
                _ => None,
            })
            .map(|found| if self.around(module) { found } else { Found::Item(module) })
            .next()
    }
}
