//! What the check found, as text for whoever broke a rule.

use std::collections::BTreeSet;
use std::fmt;

/// The width that rustfmt allows.
const LINE_WIDTH: usize = 120;

/// A broken rule, with where it is broken.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Violation {
    /// The path of the file as it is shown.
    file: String,
    /// The line, or 0 for the whole file.
    line: usize,
    message: String,
}

impl Violation {
    /// A violation in a source, whose path is under `src/`.
    pub fn of_file(file: &str, line: usize, message: String) -> Self {
        Self { file: format!("src/{file}"), line, message }
    }

    /// A violation in the tables of the test.
    pub fn of_tables(message: String) -> Self {
        Self { file: "tests/house/floors.rs".into(), line: 0, message }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.message),
            line => write!(f, "{}:{line}: {}", self.file, self.message),
        }
    }
}

/// A list of exceptions as it is and as it has to be; the entries are Rust expressions.
pub struct ExceptionList {
    pub name: &'static str,
    pub listed: BTreeSet<String>,
    pub found: BTreeSet<String>,
}

impl ExceptionList {
    /// One violation for each entry that nothing needs any more.
    pub fn outdated(&self) -> impl Iterator<Item = Violation> {
        let message = |entry: &String| format!("{} lists {entry}, which is gone: delete the entry", self.name);
        self.listed.difference(&self.found).map(move |entry| Violation::of_tables(message(entry)))
    }

    fn is_exact(&self) -> bool {
        self.listed == self.found
    }
}

impl fmt::Display for ExceptionList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let element = if self.name == "UPWARD" { "(&str, &str)" } else { "&str" };
        let entries: Vec<&str> = self.found.iter().map(String::as_str).collect();
        let one_line = format!("const {}: &[{element}] = &[{}];", self.name, entries.join(", "));
        if one_line.len() <= LINE_WIDTH {
            return writeln!(f, "{one_line}");
        }
        writeln!(f, "const {}: &[{element}] = &[", self.name)?;
        entries.iter().try_for_each(|entry| writeln!(f, "    {entry},"))?;
        writeln!(f, "];")
    }
}

/// All that a check found.
pub struct Report {
    pub violations: BTreeSet<Violation>,
    pub exceptions: Vec<ExceptionList>,
}

impl Report {
    pub fn is_clean(&self) -> bool {
        self.violations.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} violations of the rules of the house:", self.violations.len())?;
        self.violations.iter().try_for_each(|violation| writeln!(f, "  {violation}"))?;
        for list in self.exceptions.iter().filter(|list| !list.is_exact()) {
            writeln!(f, "\nFor the sources as they are, {} in tests/house/floors.rs would be:", list.name)?;
            write!(f, "{list}")?;
        }
        Ok(())
    }
}
