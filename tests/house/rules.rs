//! The rules, applied to what the reader found in a crate.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::crate_model::Crate;
use super::reader::{Findings, Import, Site};
use super::report::{ExceptionList, Report, Violation};
use super::scopes::ROOT;
use super::source::SourceTree;

/// Modules that stand side by side and do not import each other.
pub struct Floor {
    number: u32,
    modules: &'static [&'static str],
}

pub const fn floor(number: u32, modules: &'static [&'static str]) -> Floor {
    Floor { number, modules }
}

/// The tables that a crate is checked against. Paths of files are under `src/`.
pub struct House {
    pub floors: &'static [Floor],
    /// Modules of the table that do not exist yet.
    pub later: &'static [&'static str],
    /// An import that exists, (importing module, imported module): a check that misses it has seen nothing.
    pub known_import: Option<(&'static str, &'static str)>,
    pub max_lines: usize,
    pub unsafe_modules: &'static [&'static str],
    /// Files outside `unsafe_modules` that may have one unsafe attribute.
    pub unsafe_attribute_files: &'static [&'static str],
    pub actor_modules: &'static [&'static str],
    /// Modules without actors inside `actor_modules` or elsewhere.
    pub plain_modules: &'static [&'static str],
    /// Exceptions: imports that run upwards, (importing module, imported module).
    pub upward: &'static [(&'static str, &'static str)],
    /// Exceptions: files with more than `max_lines`.
    pub long_files: &'static [&'static str],
    /// Exceptions: files with `unsafe` code.
    pub unsafe_files: &'static [&'static str],
    /// Exceptions: files with actors.
    pub actor_files: &'static [&'static str],
}

impl House {
    /// Whether an import runs upwards or along a floor. Modules without a floor are reported as such.
    fn is_forbidden(&self, import: &Import) -> bool {
        match (self.floor_of(&import.from), self.floor_of(&import.to)) {
            (Some(from), Some(to)) => to >= from,
            _ => false,
        }
    }

    fn is_exception(&self, import: &Import) -> bool {
        self.upward.contains(&(import.from.as_str(), import.to.as_str()))
    }

    fn is_in_circles(&self, import: &Import) -> bool {
        import.from != ROOT && import.to != ROOT && !self.is_exception(import)
    }

    fn floor_of(&self, module: &str) -> Option<u32> {
        if module == ROOT {
            return Some(u32::MAX);
        }
        self.floors.iter().find(|floor| floor.modules.contains(&module)).map(|floor| floor.number)
    }

    fn with_floor(&self, module: &str) -> String {
        match self.floor_of(module) {
            Some(u32::MAX) => format!("`{module}` (the root, above all floors)"),
            Some(number) => format!("`{module}` (floor {number})"),
            None => format!("`{module}` (no floor)"),
        }
    }
}

/// Checks all rules; a violation of one does not hide those of others.
pub fn check(tree: &SourceTree, house: &House) -> Report {
    let mut krate = Crate::load(tree);
    let findings = Findings::of(&mut krate);
    let mut check = Check { house, report: Report { violations: BTreeSet::new(), exceptions: Vec::new() } };
    check.report.violations.extend(std::mem::take(&mut krate.problems));
    check.table(&krate.modules);
    check.known_import(&findings.imports);
    check.imports(&findings.imports);
    check.circles(&findings.imports);
    check.long_files(&findings.lines);
    check.unsafe_code(&findings.unsafe_code);
    check.unsafe_attributes(&findings.unsafe_attributes);
    check.actors(&findings.actors);
    let outdated: Vec<_> = check.report.exceptions.iter().flat_map(ExceptionList::outdated).collect();
    check.report.violations.extend(outdated);
    check.report
}

struct Check<'a> {
    house: &'a House,
    report: Report,
}

impl Check<'_> {
    /// Every module is on one floor, and the table names no other.
    fn table(&mut self, modules: &BTreeSet<String>) {
        let mut named = BTreeSet::new();
        for module in self.house.floors.iter().flat_map(|floor| floor.modules) {
            if !named.insert(*module) {
                self.fail_table(format!("`{module}` is on two floors"));
            }
            if !modules.contains(*module) && !self.house.later.contains(module) {
                self.fail_table(format!("the table of floors names `{module}`, which is not a module of src/"));
            }
        }
        for module in self.house.later {
            if modules.contains(*module) {
                self.fail_table(format!("LATER lists `{module}`, which exists now: delete the entry"));
            } else if !named.contains(module) {
                self.fail_table(format!("LATER lists `{module}`, which is on no floor: delete the entry"));
            }
        }
        for module in modules.iter().filter(|module| *module != ROOT && !named.contains(module.as_str())) {
            self.fail_table(format!("module `{module}` of src/ is on no floor: give it one"));
        }
    }

    fn known_import(&mut self, imports: &BTreeSet<Import>) {
        let Some((from, to)) = self.house.known_import else { return };
        if !imports.iter().any(|import| import.from == from && import.to == to) {
            self.fail_table(format!(
                "no import of `{to}` by `{from}` was found: it was removed, or the reader is blind"
            ));
        }
    }

    fn imports(&mut self, imports: &BTreeSet<Import>) {
        let house = self.house;
        let mut found = BTreeSet::new();
        for import in imports.iter().filter(|import| house.is_forbidden(import)) {
            found.insert(pair(&import.from, &import.to));
            if !house.is_exception(import) {
                let message = format!(
                    "forbidden import: {} must not import {}, which is not below it: {}",
                    house.with_floor(&import.from),
                    house.with_floor(&import.to),
                    import.path
                );
                self.fail(&import.file, import.line, message);
            }
        }
        let listed = self.house.upward.iter().map(|(from, to)| pair(from, to)).collect();
        self.report.exceptions.push(ExceptionList { name: "UPWARD", listed, found });
    }

    /// No module below the root imports itself through others. Imports that are exceptions do not count.
    fn circles(&mut self, imports: &BTreeSet<Import>) {
        let mut graph = Graph::new();
        for import in imports.iter().filter(|import| self.house.is_in_circles(import)) {
            graph.entry(&import.from).or_default().entry(&import.to).or_insert(import);
        }
        let mut reported = BTreeSet::new();
        for &module in graph.keys() {
            if reported.contains(module) {
                continue;
            }
            if let Some(circle) = shortest_circle(&graph, module) {
                let names: Vec<_> = circle.iter().map(|import| format!("`{}`", import.from)).collect();
                let places: Vec<_> =
                    circle.iter().map(|import| format!("src/{}:{}", import.file, import.line)).collect();
                let message = format!("import circle: {} -> `{module}` ({})", names.join(" -> "), places.join(", "));
                self.fail(&circle[0].file, circle[0].line, message);
                reported.extend(circle.iter().map(|import| import.from.as_str()));
            }
        }
    }

    fn long_files(&mut self, lines: &BTreeMap<String, usize>) {
        let mut found = BTreeSet::new();
        for (file, &count) in lines.iter().filter(|(_, count)| **count > self.house.max_lines) {
            found.insert(quoted(file));
            if !self.house.long_files.contains(&file.as_str()) {
                let message = format!("{count} lines outside tests, more than {}", self.house.max_lines);
                self.fail(file, 0, message);
            }
        }
        self.report.exceptions.push(exceptions("LONG_FILES", self.house.long_files, found));
    }

    fn unsafe_code(&mut self, sites: &BTreeSet<Site>) {
        let mut found = BTreeSet::new();
        for site in sites.iter().filter(|site| !is_within(&site.module, self.house.unsafe_modules)) {
            found.insert(quoted(&site.file));
            if !self.house.unsafe_files.contains(&site.file.as_str()) {
                let message = format!("{} outside {}", site.text, list(self.house.unsafe_modules));
                self.fail(&site.file, site.line, message);
            }
        }
        self.report.exceptions.push(exceptions("UNSAFE_FILES", self.house.unsafe_files, found));
    }

    fn unsafe_attributes(&mut self, sites: &BTreeSet<Site>) {
        let mut seen = BTreeSet::new();
        for site in sites.iter().filter(|site| !is_within(&site.module, self.house.unsafe_modules)) {
            let is_allowed = self.house.unsafe_attribute_files.contains(&site.file.as_str());
            if !is_allowed {
                self.fail(&site.file, site.line, format!("unsafe attribute outside {}", self.attribute_places()));
            } else if !seen.insert(&site.file) {
                self.fail(&site.file, site.line, "a second unsafe attribute in this file".into());
            }
        }
    }

    fn attribute_places(&self) -> String {
        format!("{} and {}", list(self.house.unsafe_modules), list(self.house.unsafe_attribute_files))
    }

    fn actors(&mut self, sites: &BTreeSet<Site>) {
        let house = self.house;
        let mut found = BTreeSet::new();
        for site in sites {
            let is_plain = is_within(&site.module, house.plain_modules);
            if !is_plain && is_within(&site.module, house.actor_modules) {
                continue;
            }
            found.insert(quoted(&site.file));
            if !house.actor_files.contains(&site.file.as_str()) {
                let message = match is_plain {
                    true => format!("actor in a module of plain state ({}): {}", list(house.plain_modules), site.text),
                    false => format!("actor outside {}: {}", list(house.actor_modules), site.text),
                };
                self.fail(&site.file, site.line, message);
            }
        }
        self.report.exceptions.push(exceptions("ACTOR_FILES", house.actor_files, found));
    }

    fn fail(&mut self, file: &str, line: usize, message: String) {
        self.report.violations.insert(Violation::of_file(file, line, message));
    }

    fn fail_table(&mut self, message: String) {
        self.report.violations.insert(Violation::of_tables(message));
    }
}

/// The imports between modules, by importing and imported module; one import stands for all of a pair.
type Graph<'a> = BTreeMap<&'a str, BTreeMap<&'a str, &'a Import>>;

/// The shortest way from a module back to itself, if there is one.
fn shortest_circle<'a>(graph: &Graph<'a>, start: &'a str) -> Option<Vec<&'a Import>> {
    let mut reached_by: BTreeMap<&str, &'a Import> = BTreeMap::new();
    let mut queue = VecDeque::from([start]);
    while let Some(module) = queue.pop_front() {
        for (&next, &import) in graph.get(module).into_iter().flatten() {
            if reached_by.contains_key(next) {
                continue;
            }
            reached_by.insert(next, import);
            if next == start {
                return Some(way_back(&reached_by, start));
            }
            queue.push_back(next);
        }
    }
    None
}

fn way_back<'a>(reached_by: &BTreeMap<&str, &'a Import>, start: &str) -> Vec<&'a Import> {
    let mut circle = vec![reached_by[start]];
    while circle[circle.len() - 1].from != start {
        circle.push(reached_by[circle[circle.len() - 1].from.as_str()]);
    }
    circle.reverse();
    circle
}

/// Whether a module is one of `modules` or inside one.
fn is_within(module: &str, modules: &[&str]) -> bool {
    modules.iter().any(|outer| module.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with("::")))
}

fn exceptions(name: &'static str, listed: &[&str], found: BTreeSet<String>) -> ExceptionList {
    ExceptionList { name, listed: listed.iter().map(|file| quoted(file)).collect(), found }
}

fn pair(from: &str, to: &str) -> String {
    format!("({from:?}, {to:?})")
}

fn quoted(file: &str) -> String {
    format!("{file:?}")
}

fn list(names: &[&str]) -> String {
    let quoted: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}
