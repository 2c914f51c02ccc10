//! A crate as its module tree: every file that `lib.rs` leads to, parsed, with the scopes of its modules.

use std::collections::{BTreeSet, HashMap};

use proc_macro2::Ident;
use syn::{Item, ItemMod};

use super::attributes::{is_test_only, of_item, path_attribute};
use super::report::Violation;
use super::scopes::{ScopeId, Scopes, plain};
use super::source::{SourceTree, join, parent};

pub struct Crate {
    /// The files that are not for tests only.
    pub files: Vec<File>,
    pub scopes: Scopes,
    pub inline_modules: InlineModules,
    /// The top-level modules that have a file.
    pub modules: BTreeSet<String>,
    /// Sources that could not be read, parsed, found or reached.
    pub problems: Vec<Violation>,
}

pub struct File {
    pub path: String,
    pub syntax: syn::File,
    pub scope: ScopeId,
    pub lines: usize,
}

/// The scopes of modules that are written out in a file, by where they are named.
#[derive(Default)]
pub struct InlineModules(HashMap<(String, usize, usize), ScopeId>);

impl InlineModules {
    pub fn get(&self, file: &str, name: &Ident) -> Option<ScopeId> {
        self.0.get(&Self::key(file, name)).copied()
    }

    fn insert(&mut self, file: &str, name: &Ident, scope: ScopeId) {
        self.0.insert(Self::key(file, name), scope);
    }

    fn key(file: &str, name: &Ident) -> (String, usize, usize) {
        let start = name.span().start();
        (file.to_owned(), start.line, start.column)
    }
}

/// Where the files of a module's children are.
#[derive(Clone)]
struct ChildPaths {
    /// The directory for `mod child;`.
    directory: String,
    /// The directory that `#[path]` starts from.
    base: String,
}

/// A file that a `mod` declaration asks for.
struct Wanted {
    declared_in: String,
    line: usize,
    name: String,
    candidates: Vec<String>,
    /// The directory for the children's files; none if `#[path]` decides, which makes the file's own directory count.
    children: Option<String>,
    scope: ScopeId,
    test_only: bool,
}

/// The file and the state in which `mod` declarations are read.
pub struct Declarations<'a> {
    scopes: &'a mut Scopes,
    inline_modules: &'a mut InlineModules,
    file: &'a str,
    wanted: Vec<Wanted>,
}

impl Crate {
    pub fn load(tree: &SourceTree) -> Self {
        let mut krate = Self {
            files: Vec::new(),
            scopes: Scopes::new(),
            inline_modules: InlineModules::default(),
            modules: BTreeSet::new(),
            problems: Vec::new(),
        };
        let mut wanted = vec![Wanted {
            declared_in: String::new(),
            line: 0,
            name: "lib".into(),
            candidates: vec!["lib.rs".into()],
            children: Some(String::new()),
            scope: krate.scopes.root(),
            test_only: false,
        }];
        let mut reached = BTreeSet::new();
        while let Some(next) = wanted.pop() {
            let Some(path) = next.candidates.iter().find(|path| tree.get(path).is_some()) else {
                krate.problems.push(missing(&next));
                continue;
            };
            reached.insert(path.clone());
            wanted.extend(krate.load_file(tree, path, &next));
        }
        for path in tree.paths().filter(|path| !reached.contains(*path)) {
            krate.problems.push(unreached(tree, path));
        }
        krate
    }

    /// Parses a file and binds its names; gives the files that it asks for.
    fn load_file(&mut self, tree: &SourceTree, path: &str, wanted: &Wanted) -> Vec<Wanted> {
        let text = match tree.get(path) {
            Some(Ok(text)) => text,
            Some(Err(reason)) => {
                self.problems.push(Violation::of_file(path, 0, format!("cannot be read: {reason}")));
                return Vec::new();
            }
            None => return Vec::new(),
        };
        let syntax = match syn::parse_file(text) {
            Ok(syntax) => syntax,
            Err(error) => {
                let line = error.span().start().line;
                self.problems.push(Violation::of_file(path, line, format!("cannot be parsed: {error}")));
                return Vec::new();
            }
        };
        let test_only = wanted.test_only || is_test_only(&syntax.attrs);
        let base = parent(path).to_owned();
        let children = ChildPaths { directory: wanted.children.clone().unwrap_or_else(|| base.clone()), base };
        let mut declarations = Declarations::new(&mut self.scopes, &mut self.inline_modules, path);
        declarations.read(wanted.scope, &syntax.items, &children, test_only);
        let asked_for = declarations.wanted;
        if !test_only {
            self.modules.insert(self.scopes.top(wanted.scope).to_owned());
            self.files.push(File { path: path.to_owned(), syntax, scope: wanted.scope, lines: text.lines().count() });
        }
        asked_for
    }
}

impl<'a> Declarations<'a> {
    pub fn new(scopes: &'a mut Scopes, inline_modules: &'a mut InlineModules, file: &'a str) -> Self {
        Self { scopes, inline_modules, file, wanted: Vec::new() }
    }

    /// Binds the names that items in a block declare.
    pub fn read_block<'i>(&mut self, scope: ScopeId, items: impl IntoIterator<Item = &'i Item>) {
        let nowhere = ChildPaths { directory: String::new(), base: String::new() };
        self.read(scope, items, &nowhere, false);
    }

    fn read<'i>(
        &mut self,
        scope: ScopeId,
        items: impl IntoIterator<Item = &'i Item>,
        paths: &ChildPaths,
        test_only: bool,
    ) {
        for item in items {
            let test_only = test_only || is_test_only(of_item(item));
            match item {
                Item::Mod(module) => self.read_module(scope, module, paths, test_only),
                item if !test_only => self.scopes.declare(scope, item),
                _ => {}
            }
        }
    }

    fn read_module(&mut self, parent: ScopeId, module: &ItemMod, paths: &ChildPaths, test_only: bool) {
        let name = plain(&module.ident);
        let scope = self.scopes.add_module(parent, &name, module.content.is_some());
        if !test_only {
            self.scopes.bind_module(parent, &name, scope);
        }
        let path = path_attribute(&module.attrs);
        if let Some((_, items)) = &module.content {
            self.inline_modules.insert(self.file, &module.ident, scope);
            let directory = path.map_or_else(|| join(&paths.directory, &name), |path| join(&paths.base, &path));
            let children = ChildPaths { base: directory.clone(), directory };
            self.read(scope, items, &children, test_only);
            return;
        }
        let directory = join(&paths.directory, &name);
        let (candidates, children) = match path {
            Some(path) => (vec![join(&paths.base, &path)], None),
            None => (vec![format!("{directory}.rs"), format!("{directory}/mod.rs")], Some(directory)),
        };
        let line = module.ident.span().start().line;
        let declared_in = self.file.to_owned();
        self.wanted.push(Wanted { declared_in, line, name, candidates, children, scope, test_only });
    }
}

fn missing(wanted: &Wanted) -> Violation {
    let files = wanted.candidates.join(" or ");
    match wanted.declared_in.is_empty() {
        true => Violation::of_file(&files, 0, "is missing: no source was read".into()),
        false => {
            let message = format!("`mod {};` has no file: {files} is missing", wanted.name);
            Violation::of_file(&wanted.declared_in, wanted.line, message)
        }
    }
}

fn unreached(tree: &SourceTree, path: &str) -> Violation {
    match tree.get(path) {
        Some(Err(reason)) => Violation::of_file(path, 0, format!("cannot be read: {reason}")),
        _ => Violation::of_file(path, 0, "no `mod` declaration leads to this file".into()),
    }
}
