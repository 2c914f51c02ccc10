//! Names and what they stand for: modules and blocks as scopes, and paths resolved in them as the compiler does it.

use std::collections::HashMap;

use syn::{Item, ItemUse, UseTree};

use super::attributes;

/// The crate's root in the table of imports.
pub const ROOT: &str = "lib.rs";

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ScopeId(usize);

/// What a name of a scope was declared as.
enum Binding {
    Module(ScopeId),
    /// An item with the module that defines it.
    Item(ScopeId),
    /// Another crate.
    External(String),
    Use(UsePath),
}

/// The path of one name that `use` brings into a scope.
struct UsePath {
    /// Tells it from all others, so that a path that leads back to itself is noticed.
    number: usize,
    path: PathText,
}

/// A path as it is written.
#[derive(Clone, Debug)]
pub struct PathText {
    pub segments: Vec<String>,
    /// It begins with `::`.
    pub leading_colon: bool,
    pub line: usize,
    pub form: PathForm,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PathForm {
    /// In an expression, a type, a pattern, an attribute or a macro.
    Mention,
    /// A name that `use` imports.
    Import,
    /// `use path::*`.
    Glob,
    /// `use path::{self}`, which imports a module and nothing else of that name.
    ImportModule,
}

/// One name or glob of a `use` declaration, and the name it gets.
pub struct UseLeaf {
    pub path: PathText,
    name: Option<String>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target {
    Module(ScopeId),
    /// An item with the module that defines it.
    Item(ScopeId),
    /// Something of another crate.
    External(String),
}

/// A resolved path: the modules it goes through by name, and what it ends at.
#[derive(Default)]
pub struct Resolved {
    pub named: Vec<ScopeId>,
    pub targets: Vec<Target>,
}

struct Scope {
    /// The module above a module, the scope around a block; none at the root.
    parent: Option<ScopeId>,
    /// The nearest module, which is the scope itself if it is one.
    module: ScopeId,
    /// The module's path in the crate.
    path: Vec<String>,
    /// The module belongs to the root: it is the root or written out in `lib.rs`.
    in_root: bool,
    names: HashMap<String, Vec<Binding>>,
    globs: Vec<UsePath>,
}

/// All scopes of a crate.
pub struct Scopes {
    scopes: Vec<Scope>,
    macros: HashMap<String, Vec<ScopeId>>,
    use_paths: usize,
}

impl Scopes {
    pub fn new() -> Self {
        let root = Scope::new(None, ScopeId(0), Vec::new(), true);
        Self { scopes: vec![root], macros: HashMap::new(), use_paths: 0 }
    }

    pub fn root(&self) -> ScopeId {
        ScopeId(0)
    }

    /// A new module in `parent`, which no name leads to yet. `inline` says that it is written out in its parent's file.
    pub fn add_module(&mut self, parent: ScopeId, name: &str, inline: bool) -> ScopeId {
        let id = ScopeId(self.scopes.len());
        let above = self.module_of(parent);
        let mut path = self.get(above).path.clone();
        path.push(name.to_owned());
        let in_root = self.get(above).in_root && inline;
        self.scopes.push(Scope::new(Some(above), id, path, in_root));
        id
    }

    pub fn add_block(&mut self, parent: ScopeId) -> ScopeId {
        let id = ScopeId(self.scopes.len());
        let module = self.module_of(parent);
        self.scopes.push(Scope::new(Some(parent), module, Vec::new(), false));
        id
    }

    pub fn bind_module(&mut self, scope: ScopeId, name: &str, module: ScopeId) {
        self.bind(scope, name, Binding::Module(module));
    }

    /// Binds the names that an item other than a module declares.
    pub fn declare(&mut self, scope: ScopeId, item: &Item) {
        let module = self.module_of(scope);
        match item {
            Item::Use(item) => self.declare_use(scope, item),
            Item::Macro(item) => self.declare_macro(scope, item),
            Item::ExternCrate(item) => {
                let name = item.rename.as_ref().map_or(&item.ident, |(_, name)| name);
                let binding = match item.ident == "self" {
                    true => Binding::Module(self.root()),
                    false => Binding::External(plain(&item.ident)),
                };
                self.bind(scope, &plain(name), binding);
            }
            Item::ForeignMod(item) => {
                for name in item.items.iter().filter_map(foreign_name) {
                    self.bind(scope, &plain(name), Binding::Item(module));
                }
            }
            item => {
                if let Some(name) = item_name(item) {
                    self.bind(scope, &plain(name), Binding::Item(module));
                }
            }
        }
    }

    pub fn module_of(&self, scope: ScopeId) -> ScopeId {
        self.get(scope).module
    }

    /// The top-level module that a scope is in, or the root.
    pub fn top(&self, scope: ScopeId) -> &str {
        let module = self.get(self.module_of(scope));
        if module.in_root { ROOT } else { module.path.first().map_or(ROOT, String::as_str) }
    }

    /// The path of the module that a scope is in, such as `bag::shuffle`.
    pub fn module_path(&self, scope: ScopeId) -> String {
        self.get(self.module_of(scope)).path.join("::")
    }

    /// Whether a scope, or one around it in the same module, declares or imports the name itself, not by a glob.
    pub fn declares(&self, scope: ScopeId, name: &str) -> bool {
        self.enclosing(scope).any(|scope| self.get(scope).names.contains_key(name))
    }

    /// The modules that define a macro of that name.
    pub fn macros_named(&self, name: &str) -> &[ScopeId] {
        self.macros.get(name).map_or(&[], Vec::as_slice)
    }

    pub fn resolve(&self, scope: ScopeId, path: &PathText) -> Resolved {
        self.resolve_guarded(scope, path, &mut Vec::new())
    }

    fn resolve_guarded(&self, scope: ScopeId, path: &PathText, active: &mut Vec<usize>) -> Resolved {
        let Some((first, rest)) = path.segments.split_first() else { return Resolved::default() };
        let targets = match path.leading_colon {
            true => vec![Target::External(first.clone())],
            false => self.first_segment(scope, first, active),
        };
        let mut resolved = Resolved { named: Vec::new(), targets };
        for segment in rest {
            let modules = modules(&resolved.targets);
            if modules.is_empty() {
                break; // What follows is a variant, an associated item, or something of another crate.
            }
            resolved.targets = modules.iter().flat_map(|&module| self.next_segment(module, segment, active)).collect();
            resolved.named.extend(modules);
        }
        if path.form == PathForm::ImportModule {
            resolved.targets.retain(|target| !matches!(target, Target::Item(_)));
        }
        resolved
    }

    fn first_segment(&self, scope: ScopeId, name: &str, active: &mut Vec<usize>) -> Vec<Target> {
        let module = self.module_of(scope);
        match name {
            "crate" => vec![Target::Module(self.root())],
            "self" => vec![Target::Module(module)],
            "super" => self.get(module).parent.map(Target::Module).into_iter().collect(),
            "Self" => Vec::new(),
            name => {
                let scopes: Vec<_> = self.enclosing(scope).collect();
                let found = scopes.into_iter().map(|scope| self.lookup(scope, name, active));
                let first = found.into_iter().find(|targets| !targets.is_empty());
                first.unwrap_or_else(|| vec![Target::External(name.to_owned())])
            }
        }
    }

    /// What a name stands for in a module; an unknown name is one that a macro has made there.
    fn next_segment(&self, module: ScopeId, name: &str, active: &mut Vec<usize>) -> Vec<Target> {
        match name {
            "self" => vec![Target::Module(module)],
            "super" => self.get(module).parent.map(Target::Module).into_iter().collect(),
            name => {
                let found = self.lookup(module, name, active);
                if found.is_empty() { vec![Target::Item(module)] } else { found }
            }
        }
    }

    /// What a name stands for in one scope, by its own names first and by globs then.
    fn lookup(&self, scope: ScopeId, name: &str, active: &mut Vec<usize>) -> Vec<Target> {
        let mut found = Vec::new();
        for binding in self.get(scope).names.get(name).into_iter().flatten() {
            match binding {
                Binding::Module(module) => found.push(Target::Module(*module)),
                Binding::Item(module) => found.push(Target::Item(*module)),
                Binding::External(krate) => found.push(Target::External(krate.clone())),
                Binding::Use(import) => found.extend(self.follow(scope, import, active)),
            }
        }
        if found.is_empty() {
            found = self.lookup_globs(scope, name, active);
        }
        found
    }

    fn lookup_globs(&self, scope: ScopeId, name: &str, active: &mut Vec<usize>) -> Vec<Target> {
        let mut found = Vec::new();
        for glob in &self.get(scope).globs {
            if active.contains(&glob.number) {
                continue;
            }
            let sources = modules(&self.follow(scope, glob, active));
            active.push(glob.number);
            for module in sources {
                found.extend(self.lookup(module, name, active));
            }
            active.pop();
        }
        found
    }

    fn follow(&self, scope: ScopeId, import: &UsePath, active: &mut Vec<usize>) -> Vec<Target> {
        if active.contains(&import.number) {
            return Vec::new();
        }
        active.push(import.number);
        let resolved = self.resolve_guarded(scope, &import.path, active);
        active.pop();
        resolved.targets
    }

    /// The scope, the blocks around it, and their module.
    fn enclosing(&self, scope: ScopeId) -> impl Iterator<Item = ScopeId> {
        let module = self.module_of(scope);
        std::iter::successors(Some(scope), move |&inner| match inner == module {
            true => None,
            false => self.get(inner).parent,
        })
    }

    fn declare_use(&mut self, scope: ScopeId, item: &ItemUse) {
        for leaf in use_leaves(item) {
            self.use_paths += 1;
            let import = UsePath { number: self.use_paths, path: leaf.path };
            match leaf.name {
                Some(name) => self.bind(scope, &name, Binding::Use(import)),
                None if import.path.form == PathForm::Glob => self.scopes[scope.0].globs.push(import),
                None => {}
            }
        }
    }

    fn declare_macro(&mut self, scope: ScopeId, item: &syn::ItemMacro) {
        let Some(name) = &item.ident else { return };
        let module = self.module_of(scope);
        self.bind(scope, &plain(name), Binding::Item(module));
        self.macros.entry(plain(name)).or_default().push(module);
        if attributes::has(&item.attrs, "macro_export") && module != self.root() {
            self.bind(self.root(), &plain(name), Binding::Item(module));
        }
    }

    fn bind(&mut self, scope: ScopeId, name: &str, binding: Binding) {
        self.scopes[scope.0].names.entry(name.to_owned()).or_default().push(binding);
    }

    fn get(&self, scope: ScopeId) -> &Scope {
        &self.scopes[scope.0]
    }
}

impl Scope {
    fn new(parent: Option<ScopeId>, module: ScopeId, path: Vec<String>, in_root: bool) -> Self {
        Self { parent, module, path, in_root, names: HashMap::new(), globs: Vec::new() }
    }
}

impl PathText {
    pub fn of(path: &syn::Path) -> Self {
        let line = path.segments.first().map_or(0, |segment| segment.ident.span().start().line);
        let segments = path.segments.iter().map(|segment| plain(&segment.ident)).collect();
        Self { segments, leading_colon: path.leading_colon.is_some(), line, form: PathForm::Mention }
    }

    pub fn is_import(&self) -> bool {
        self.form != PathForm::Mention
    }
}

impl std::fmt::Display for PathText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let start = if self.leading_colon { "::" } else { "" };
        let end = if self.form == PathForm::Glob { "::*" } else { "" };
        write!(f, "{start}{}{end}", self.segments.join("::"))
    }
}

/// An identifier without the `r#` of raw ones.
pub fn plain(ident: &proc_macro2::Ident) -> String {
    let text = ident.to_string();
    text.strip_prefix("r#").map_or(text.clone(), str::to_owned)
}

/// All names and globs of a `use` declaration, with the groups written out.
pub fn use_leaves(item: &ItemUse) -> Vec<UseLeaf> {
    let mut leaves = Vec::new();
    collect_leaves(&item.tree, &[], item.leading_colon.is_some(), &mut leaves);
    leaves
}

fn collect_leaves(tree: &UseTree, prefix: &[String], leading_colon: bool, leaves: &mut Vec<UseLeaf>) {
    let mut add = |segments: Vec<String>, line, form, name| {
        leaves.push(UseLeaf { path: PathText { segments, leading_colon, line, form }, name });
    };
    match tree {
        UseTree::Path(path) => collect_leaves(&path.tree, &extended(prefix, &path.ident), leading_colon, leaves),
        UseTree::Group(group) => {
            group.items.iter().for_each(|tree| collect_leaves(tree, prefix, leading_colon, leaves));
        }
        UseTree::Glob(glob) => add(prefix.to_vec(), glob.star_token.spans[0].start().line, PathForm::Glob, None),
        UseTree::Name(name) => {
            let (segments, form) = imported(prefix, &name.ident);
            let bound = segments.last().cloned();
            add(segments, name.ident.span().start().line, form, bound);
        }
        UseTree::Rename(rename) => {
            let (segments, form) = imported(prefix, &rename.ident);
            let bound = Some(plain(&rename.rename)).filter(|name| name != "_");
            add(segments, rename.ident.span().start().line, form, bound);
        }
    }
}

/// The path of an imported name; `self` in a group is the module before it.
fn imported(prefix: &[String], name: &proc_macro2::Ident) -> (Vec<String>, PathForm) {
    match name == "self" && !prefix.is_empty() {
        true => (prefix.to_vec(), PathForm::ImportModule),
        false => (extended(prefix, name), PathForm::Import),
    }
}

fn extended(prefix: &[String], name: &proc_macro2::Ident) -> Vec<String> {
    prefix.iter().cloned().chain([plain(name)]).collect()
}

fn modules(targets: &[Target]) -> Vec<ScopeId> {
    let module = |target: &Target| match target {
        Target::Module(module) => Some(*module),
        _ => None,
    };
    targets.iter().filter_map(module).collect()
}

fn item_name(item: &Item) -> Option<&proc_macro2::Ident> {
    match item {
        Item::Const(item) => Some(&item.ident),
        Item::Enum(item) => Some(&item.ident),
        Item::Fn(item) => Some(&item.sig.ident),
        Item::Static(item) => Some(&item.ident),
        Item::Struct(item) => Some(&item.ident),
        Item::Trait(item) => Some(&item.ident),
        Item::TraitAlias(item) => Some(&item.ident),
        Item::Type(item) => Some(&item.ident),
        Item::Union(item) => Some(&item.ident),
        _ => None,
    }
}

fn foreign_name(item: &syn::ForeignItem) -> Option<&proc_macro2::Ident> {
    match item {
        syn::ForeignItem::Fn(item) => Some(&item.sig.ident),
        syn::ForeignItem::Static(item) => Some(&item.ident),
        syn::ForeignItem::Type(item) => Some(&item.ident),
        _ => None,
    }
}
