//! The uses of each file of a crate: items of which other files, and paths into other crates.
//!
//! The graph follows `mod` lines from each crate root. A use counts for the file that defines the
//! item, also if the path leads through a re-export. These do not count:
//! - a `mod` line, and an import of a module alone (the paths through the module count);
//! - a `pub use`, unless the file that re-exports the name also uses it;
//! - test code: `#[cfg(test)]` items and the files below a `#[cfg(test)] mod` line.
//!
//! Method calls are invisible here, because they name no path.

use std::collections::{BTreeMap, BTreeSet};

use super::paths::{self, Import};
use super::tokens::{self, Token};
use super::tree::Tree;

/// The files that `mod` lines reach, and their uses of each other.
pub(super) struct Modules<'a> {
    files: BTreeMap<&'a str, File<'a>>,
}

struct File<'a> {
    root: &'a str,
    parent: Option<&'a str>,
    /// Child modules that are files.
    children: BTreeMap<String, &'a str>,
    imports: Vec<Import>,
    paths: Vec<paths::Path>,
    defined: BTreeSet<String>,
    /// Names in the code outside `use` items.
    mentioned: BTreeSet<String>,
}

/// A use of another file of the crate, or of another crate.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Use<T> {
    pub(super) line: usize,
    /// The path as it is written.
    pub(super) written: String,
    pub(super) of: T,
}

/// The place to which a path leads.
enum Place<'a> {
    /// An item that this file defines.
    Item(&'a str),
    Module(&'a str),
    /// A path into another crate, or the name of a local item.
    Outside(Vec<String>),
}

/// Re-exports of re-exports are followed this far. A longer chain is an import of itself.
const HOPS_MAX: usize = 16;

impl<'a> Modules<'a> {
    pub(super) fn of(tree: &'a Tree) -> Self {
        let mut modules = Self { files: BTreeMap::new() };
        for (path, _) in tree.rust().filter(|(path, _)| is_root(path)) {
            modules.add(tree, path, path, None);
        }
        modules
    }

    pub(super) fn paths(&self) -> impl Iterator<Item = &'a str> {
        self.files.keys().copied()
    }

    /// Returns true if `mod` lines outside tests reach the file.
    pub(super) fn has(&self, path: &str) -> bool {
        self.files.contains_key(path)
    }

    /// The first use of each other file, ordered by the used file.
    pub(super) fn uses(&self, path: &str) -> Vec<Use<&'a str>> {
        let mut first = BTreeMap::new();
        for used in self.places(path) {
            if let Place::Item(file) = used.of
                && file != path
            {
                first.entry(file).or_insert(Use {
                    line: used.line,
                    written: used.written,
                    of: file,
                });
            }
        }
        first.into_values().collect()
    }

    /// Every path of the file into another crate, in its full form.
    pub(super) fn outside(&self, path: &str) -> Vec<Use<String>> {
        let uses = self.places(path).into_iter();
        uses.filter_map(|used| match used.of {
            Place::Outside(segments) => {
                Some(Use { line: used.line, written: used.written, of: segments.join("::") })
            }
            Place::Item(_) | Place::Module(_) => None,
        })
        .collect()
    }

    fn add(&mut self, tree: &'a Tree, path: &'a str, root: &'a str, parent: Option<&'a str>) {
        let Some((path, text)) = tree.entry(path) else {
            return;
        };
        let tokens = tokens::without_tests(text);
        let folder = folder_of_children(path);
        let child = |name: &String| {
            let (path, _) = tree.entry(&format!("{folder}{name}.rs"))?;
            Some((name.clone(), path))
        };
        let children: BTreeMap<_, _> =
            paths::child_modules(&tokens).iter().filter_map(child).collect();
        let below: Vec<&'a str> = children.values().copied().collect();
        let file = File::new(&tokens, root, parent, children);
        self.files.insert(path, file);
        for child in below {
            self.add(tree, child, root, Some(path));
        }
    }

    fn places(&self, path: &str) -> Vec<Use<Place<'a>>> {
        let Some((&path, file)) = self.files.get_key_value(path) else {
            return Vec::new();
        };
        let imported = file
            .imports
            .iter()
            .filter(|import| !import.public || file.mentioned.contains(&import.name))
            .map(|import| Use {
                line: import.line,
                written: import.segments.join("::"),
                of: self.imported(path, import),
            });
        let written = file.paths.iter().map(|written| Use {
            line: written.line,
            written: written.segments.join("::"),
            of: self.resolve(path, &written.segments, HOPS_MAX),
        });
        let mut uses: Vec<_> = imported.chain(written).collect();
        uses.sort_by_key(|used| used.line);
        uses
    }

    /// A glob import counts as a use of the module's file, because its names are not listed.
    fn imported(&self, path: &'a str, import: &Import) -> Place<'a> {
        match self.resolve(path, &import.segments, HOPS_MAX) {
            Place::Module(file) if import.glob => Place::Item(file),
            place => place,
        }
    }

    fn resolve(&self, path: &'a str, segments: &[String], hops: usize) -> Place<'a> {
        let file = &self.files[path];
        let outside = || Place::Outside(segments.to_vec());
        let Some((head, rest)) = segments.split_first() else {
            return Place::Module(path);
        };
        if hops == 0 {
            return outside();
        }
        match head.as_str() {
            "crate" => self.walk(file.root, rest, hops),
            "self" => self.walk(path, rest, hops),
            "super" => match file.parent {
                Some(parent) if rest.first().is_some_and(|next| next == "super") => {
                    self.resolve(parent, rest, hops)
                }
                Some(parent) => self.walk(parent, rest, hops),
                None => outside(),
            },
            _ => match self.named(path, segments, hops) {
                Some(place) => place,
                None => outside(),
            },
        }
    }

    /// Follows `segments` down from the module that is the file `path`.
    fn walk(&self, path: &'a str, segments: &[String], hops: usize) -> Place<'a> {
        if segments.is_empty() {
            return Place::Module(path);
        }
        let named = self.named(path, segments, hops);
        named.unwrap_or(Place::Item(path))
    }

    /// Resolves the first segment in the module `path`: a child, an import, or an item of the file.
    fn named(&self, path: &'a str, segments: &[String], hops: usize) -> Option<Place<'a>> {
        let file = &self.files[path];
        let (head, rest) = segments.split_first()?;
        let import = file
            .imports
            .iter()
            .find(|import| import.name == *head && import.segments != [head.clone()]);
        // A module and a function may share a name: `mod list; pub use list::list;`.
        let child = file.children.get(head);
        let child = child.filter(|_| !rest.is_empty() || import.is_none());
        if let Some(child) = child {
            return Some(self.walk(child, rest, hops));
        }
        if let Some(import) = import {
            let full = [&import.segments[..], rest].concat();
            return Some(self.resolve(path, &full, hops.saturating_sub(1)));
        }
        if file.defined.contains(head) {
            return Some(Place::Item(path));
        }
        let globs = file.imports.iter().filter(|import| import.glob);
        globs
            .filter_map(|glob| match self.resolve(path, &glob.segments, hops.saturating_sub(1)) {
                Place::Module(module) if module != path => Some(module),
                _ => None,
            })
            .find_map(|module| self.named(module, segments, hops.saturating_sub(1)))
    }
}

impl<'a> File<'a> {
    fn new(
        tokens: &[Token],
        root: &'a str,
        parent: Option<&'a str>,
        children: BTreeMap<String, &'a str>,
    ) -> Self {
        let code = paths::read(tokens);
        Self {
            root,
            parent,
            children,
            imports: code.imports,
            paths: code.paths,
            defined: code.defined,
            mentioned: code.mentioned,
        }
    }
}

/// `src/lib.rs` and `src/main.rs` of a crate, the roots of integration tests, and benchmarks.
fn is_root(path: &str) -> bool {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    let parts: Vec<&str> = folder.split('/').collect();
    match (parts.as_slice(), name) {
        ([_, "src"] | ["tests" | "benches"], "lib.rs" | "main.rs") => true,
        ([_, "tests"], _) | ([_, "tests", _], "main.rs") => parts[0] != "tests",
        _ => false,
    }
}

fn folder_of_children(path: &str) -> String {
    if is_root(path) {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        return format!("{folder}/");
    }
    format!("{}/", path.trim_end_matches(".rs"))
}
