//! Patterns of paths, as in a shell: `*` crosses no `/`, `**` is any number of directories, and hidden files have to be
//! asked for.

use crate::error::file::FileProblem;
use glob::MatchOptions;

const OPTIONS: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };

/// Whether some of the characters stand for others.
pub(super) fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

/// A pattern that only a text matches.
pub(super) fn escape(text: &str) -> String {
    glob::Pattern::escape(text)
}

pub(super) struct Pattern {
    whole: glob::Pattern,
    parts: Vec<PatternPart>,
}

/// What stands between two `/`.
pub(super) struct PatternPart {
    text: String,
    pattern: glob::Pattern,
}

impl Pattern {
    /// Takes names with `/` between them, but none in front.
    pub(super) fn new(text: &str) -> Result<Self, FileProblem> {
        let parse = |text: &str| {
            glob::Pattern::new(text).map_err(|e| FileProblem::unsupported(format!("the pattern is wrong: {e}")))
        };
        let part = |text: &str| parse(text).map(|pattern| PatternPart { text: text.to_string(), pattern });
        Ok(Self { whole: parse(text)?, parts: text.split('/').map(part).collect::<Result<_, _>>()? })
    }

    #[cfg_attr(not(feature = "object-store"), expect(dead_code, reason = "local files are matched name by name"))]
    pub(super) fn matches(&self, path: &str) -> bool {
        self.whole.matches_with(path, OPTIONS)
    }

    pub(super) fn parts(&self) -> &[PatternPart] {
        &self.parts
    }
}

impl PatternPart {
    pub(super) fn matches(&self, name: &str) -> bool {
        self.pattern.matches_with(name, OPTIONS)
    }

    /// Whether it stands for any number of directories.
    pub(super) fn is_any_depth(&self) -> bool {
        self.text == "**"
    }

    /// The only name that matches.
    pub(super) fn literal(&self) -> Option<&str> {
        (!is_pattern(&self.text)).then_some(&self.text)
    }
}
