//! What a crate's files do that the rules are about: imports, `unsafe` code, actors, lines outside tests.
//!
//! A path imports every module that it names, and the module that defines what it ends at. Names of the root count as
//! what they stand for. The reader sees no types: a method called on a value of another module is no import. It does not
//! expand macros: it reads the paths in their tokens, but not names that a macro puts together or that a glob of another
//! crate brings in.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::Span;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Attribute, Item, Lit, Stmt};

use super::attributes;
use super::crate_model::{Crate, Declarations, File, InlineModules};
use super::scopes::{PathForm, PathText, ROOT, ScopeId, Scopes, Target, plain, use_leaves};
use super::tokens::TokenScan;

/// An import of one top-level module by another.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Import {
    pub from: String,
    pub to: String,
    pub file: String,
    pub line: usize,
    /// The path as it is written.
    pub path: String,
}

/// A place in the code, with the path of its module.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Site {
    pub file: String,
    pub line: usize,
    pub module: String,
    pub text: String,
}

#[derive(Default)]
pub struct Findings {
    pub imports: BTreeSet<Import>,
    pub unsafe_code: BTreeSet<Site>,
    pub unsafe_attributes: BTreeSet<Site>,
    pub actors: BTreeSet<Site>,
    /// The number of lines outside tests, by file.
    pub lines: BTreeMap<String, usize>,
}

impl Findings {
    pub fn of(krate: &mut Crate) -> Self {
        let mut findings = Self::default();
        for file in &krate.files {
            let mut reader = Reader {
                file,
                scopes: &mut krate.scopes,
                inline_modules: &mut krate.inline_modules,
                scope: file.scope,
                line_of_text: None,
                test_lines: BTreeSet::new(),
                findings: &mut findings,
            };
            reader.visit_file(&file.syntax);
            let lines = file.lines.saturating_sub(reader.test_lines.len());
            findings.lines.insert(file.path.clone(), lines);
        }
        findings
    }
}

/// Reads one file.
struct Reader<'a> {
    file: &'a File,
    scopes: &'a mut Scopes,
    inline_modules: &'a mut InlineModules,
    /// The module or block that is being read.
    scope: ScopeId,
    /// The line of the attribute whose text is being read as code.
    line_of_text: Option<usize>,
    test_lines: BTreeSet<usize>,
    findings: &'a mut Findings,
}

impl Reader<'_> {
    fn record_path(&mut self, path: &PathText) {
        if self.is_told_by_its_import(path) {
            return;
        }
        let resolved = self.scopes.resolve(self.scope, path);
        for module in resolved.named {
            self.record_module(module, path);
        }
        for target in resolved.targets {
            match target {
                Target::Item(module) if self.scopes.top(module) == ROOT => self.record_import(ROOT, path),
                Target::Item(module) => self.record_module(module, path),
                Target::Module(module) if path.form == PathForm::Glob => {
                    let top = self.scopes.top(module).to_owned();
                    self.record_import(&top, path);
                }
                Target::Module(module) if path.is_import() || path.segments.len() > 1 => {
                    self.record_module(module, path);
                }
                Target::Module(_) => {}
                Target::External(name) if path.is_import() || path.segments.len() > 1 => {
                    self.record_external(&name, path);
                }
                Target::External(_) => {}
            }
        }
    }

    /// Whether a path begins with an item that its scope declares or imports: then the import is what counts.
    fn is_told_by_its_import(&self, path: &PathText) -> bool {
        let first = path.segments.first().map_or("", String::as_str);
        if path.is_import() || path.leading_colon || !self.scopes.declares(self.scope, first) {
            return false;
        }
        let first = PathText { segments: vec![first.to_owned()], form: PathForm::Mention, ..path.clone() };
        let targets = self.scopes.resolve(self.scope, &first).targets;
        path.segments.len() == 1 || !targets.iter().any(|target| matches!(target, Target::Module(_)))
    }

    /// Records a module that a path names. The root has nothing of its own to import.
    fn record_module(&mut self, module: ScopeId, path: &PathText) {
        let top = self.scopes.top(module).to_owned();
        if top != ROOT {
            self.record_import(&top, path);
        }
    }

    fn record_import(&mut self, to: &str, path: &PathText) {
        let from = self.scopes.top(self.scope).to_owned();
        if from != to {
            let line = self.line_of_text.unwrap_or(path.line);
            let file = self.file.path.clone();
            self.findings.imports.insert(Import { from, to: to.to_owned(), file, line, path: path.to_string() });
        }
    }

    fn record_external(&mut self, krate: &str, path: &PathText) {
        if krate == "actix" || krate.starts_with("actix_") {
            let site = self.site(path.line, path.to_string());
            self.findings.actors.insert(site);
        }
    }

    fn record_unsafe(&mut self, line: usize, text: &str) {
        let site = self.site(line, text.to_owned());
        self.findings.unsafe_code.insert(site);
    }

    fn site(&self, line: usize, text: String) -> Site {
        let line = self.line_of_text.unwrap_or(line);
        Site { file: self.file.path.clone(), line, module: self.scopes.module_path(self.scope), text }
    }

    /// Whether attributes restrict something to tests; its lines do not count then.
    fn skips(&mut self, attributes: &[Attribute], span: Span) -> bool {
        let skips = attributes::is_test_only(attributes);
        if skips {
            self.test_lines.extend(span.start().line..=span.end().line);
        }
        skips
    }

    fn within(&mut self, scope: ScopeId, read: impl FnOnce(&mut Self)) {
        let outer = std::mem::replace(&mut self.scope, scope);
        read(self);
        self.scope = outer;
    }

    fn read_tokens(&mut self, tokens: proc_macro2::TokenStream) -> Vec<proc_macro2::Literal> {
        let scan = TokenScan::of(tokens);
        for path in &scan.paths {
            self.record_path(path);
        }
        for line in scan.unsafe_lines {
            self.record_unsafe(line, "`unsafe` in a macro");
        }
        scan.literals
    }

    /// Reads a text in an attribute as a type if it has a path in it, as in `#[serde(with = "crate::codec")]`.
    fn read_text(&mut self, literal: &proc_macro2::Literal) {
        let Lit::Str(text) = Lit::new(literal.clone()) else { return };
        if !text.value().contains("::") {
            return;
        }
        if let Ok(parsed) = syn::parse_str::<syn::Type>(&text.value()) {
            self.line_of_text = Some(literal.span().start().line);
            self.visit_type(&parsed);
            self.line_of_text = None;
        }
    }

    /// Records a macro that no path leads to, since its module shares it by `#[macro_use]`.
    fn record_shared_macro(&mut self, path: &PathText) {
        let [name] = path.segments.as_slice() else { return };
        if self.scopes.declares(self.scope, name) {
            return;
        }
        let here = self.scopes.top(self.scope);
        let modules = self.scopes.macros_named(name).to_vec();
        if !modules.iter().any(|&module| self.scopes.top(module) == here) {
            for module in modules {
                self.record_module(module, path);
            }
        }
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        if self.skips(attributes::of_item(item), item.span()) {
            return;
        }
        visit::visit_item(self, item);
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        for attribute in &item.attrs {
            self.visit_attribute(attribute);
        }
        self.visit_visibility(&item.vis);
        let scope = self.inline_modules.get(&self.file.path, &item.ident);
        if let (Some((_, items)), Some(scope)) = (&item.content, scope) {
            self.within(scope, |reader| items.iter().for_each(|item| reader.visit_item(item)));
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        for attribute in &item.attrs {
            self.visit_attribute(attribute);
        }
        self.visit_visibility(&item.vis);
        for leaf in use_leaves(item) {
            self.record_path(&leaf.path);
        }
    }

    fn visit_item_extern_crate(&mut self, item: &'ast syn::ItemExternCrate) {
        let line = item.ident.span().start().line;
        let segments = vec![plain(&item.ident)];
        let path = PathText { segments, leading_colon: true, line, form: PathForm::Import };
        self.record_path(&path);
    }

    fn visit_block(&mut self, block: &'ast syn::Block) {
        let items = || {
            block.stmts.iter().filter_map(|statement| match statement {
                Stmt::Item(item) => Some(item),
                _ => None,
            })
        };
        if items().next().is_none() {
            return visit::visit_block(self, block);
        }
        let scope = self.scopes.add_block(self.scope);
        Declarations::new(self.scopes, self.inline_modules, &self.file.path).read_block(scope, items());
        self.within(scope, |reader| visit::visit_block(reader, block));
    }

    fn visit_stmt(&mut self, statement: &'ast Stmt) {
        if !self.skips(attributes::of_statement(statement), statement.span()) {
            visit::visit_stmt(self, statement);
        }
    }

    fn visit_impl_item(&mut self, item: &'ast syn::ImplItem) {
        if !self.skips(attributes::of_impl_item(item), item.span()) {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_trait_item(&mut self, item: &'ast syn::TraitItem) {
        if !self.skips(attributes::of_trait_item(item), item.span()) {
            visit::visit_trait_item(self, item);
        }
    }

    fn visit_field(&mut self, field: &'ast syn::Field) {
        if !self.skips(&field.attrs, field.span()) {
            visit::visit_field(self, field);
        }
    }

    fn visit_field_value(&mut self, field: &'ast syn::FieldValue) {
        if !self.skips(&field.attrs, field.span()) {
            visit::visit_field_value(self, field);
        }
    }

    fn visit_variant(&mut self, variant: &'ast syn::Variant) {
        if !self.skips(&variant.attrs, variant.span()) {
            visit::visit_variant(self, variant);
        }
    }

    fn visit_arm(&mut self, arm: &'ast syn::Arm) {
        if !self.skips(&arm.attrs, arm.span()) {
            visit::visit_arm(self, arm);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.record_path(&PathText::of(path));
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, mac: &'ast syn::Macro) {
        self.record_shared_macro(&PathText::of(&mac.path));
        self.visit_path(&mac.path);
        self.read_tokens(mac.tokens.clone());
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        let path = attribute.path();
        if path.is_ident("unsafe") {
            let site = self.site(path.span().start().line, "unsafe attribute".into());
            self.findings.unsafe_attributes.insert(site);
        }
        if attributes::names_nothing(attribute) {
            return;
        }
        self.visit_path(path);
        let tokens = match &attribute.meta {
            syn::Meta::Path(_) => return,
            syn::Meta::List(list) => list.tokens.clone(),
            syn::Meta::NameValue(pair) => literal_tokens(&pair.value),
        };
        for literal in self.read_tokens(tokens) {
            self.read_text(&literal);
        }
    }

    fn visit_expr_unsafe(&mut self, expression: &'ast syn::ExprUnsafe) {
        self.record_unsafe(expression.unsafe_token.span.start().line, "unsafe block");
        visit::visit_expr_unsafe(self, expression);
    }

    fn visit_signature(&mut self, signature: &'ast syn::Signature) {
        if let Some(token) = &signature.unsafety {
            self.record_unsafe(token.span.start().line, "unsafe function");
        }
        visit::visit_signature(self, signature);
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        if let Some(token) = &item.unsafety {
            self.record_unsafe(token.span.start().line, "unsafe impl");
        }
        visit::visit_item_impl(self, item);
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        if let Some(token) = &item.unsafety {
            self.record_unsafe(token.span.start().line, "unsafe trait");
        }
        visit::visit_item_trait(self, item);
    }

    fn visit_item_foreign_mod(&mut self, item: &'ast syn::ItemForeignMod) {
        if let Some(token) = &item.unsafety {
            self.record_unsafe(token.span.start().line, "unsafe extern block");
        }
        visit::visit_item_foreign_mod(self, item);
    }
}

/// The tokens of an attribute's value, which is a literal in all attributes that mention paths.
fn literal_tokens(expression: &syn::Expr) -> proc_macro2::TokenStream {
    match expression {
        syn::Expr::Lit(syn::ExprLit { lit: Lit::Str(text), .. }) => {
            proc_macro2::TokenTree::Literal(text.token()).into()
        }
        _ => proc_macro2::TokenStream::new(),
    }
}
