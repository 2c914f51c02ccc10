//! Keys as users type them: whole, or only their beginnings.

use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;
use thiserror::Error;

/// How many digits the number in a key has.
const DIGITS: usize = 16;

/// The beginning of a key, and which keys begin so.
///
/// ```
/// use swath_insight::explain::KeyPrefix;
/// let prefix = KeyPrefix::new("parse-3f2a…");
/// assert!(prefix.fits("parse", 0x3f2a_0000_0000_0001));
/// assert!(!prefix.fits("parse", 0x3f2b_0000_0000_0001) && !prefix.fits("parse_all", 0x3f2a_0000_0000_0001));
/// assert!(KeyPrefix::new("par").fits("parse", 1));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeyPrefix {
    text: String,
}

impl KeyPrefix {
    /// What was typed. Dots at its end, as of a key that was shortened, do not count.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let text = text.trim();
        let text = text.strip_suffix('…').or_else(|| text.strip_suffix("...")).unwrap_or(text);
        Self { text: text.to_string() }
    }

    /// The beginning.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The numbers of the keys that begin so and have that name.
    #[must_use]
    pub fn numbers(&self, name: &str) -> Option<RangeInclusive<u64>> {
        match self.text.strip_prefix(name) {
            None => name.starts_with(&self.text).then_some(0..=u64::MAX),
            Some("") => Some(0..=u64::MAX),
            Some(rest) => digits(rest.strip_prefix('-')?),
        }
    }

    /// The numbers that keys may have which begin so, whatever the name: all, where no digits were typed.
    #[must_use]
    pub fn any_numbers(&self) -> RangeInclusive<u64> {
        let typed = self.text.rsplit_once('-').and_then(|(_, rest)| digits(rest));
        typed.unwrap_or(0..=u64::MAX)
    }

    /// Whether a key begins so.
    #[must_use]
    pub fn fits(&self, name: &str, number: u64) -> bool {
        self.numbers(name).is_some_and(|numbers| numbers.contains(&number))
    }

    /// The name and the number, where it is a whole key.
    #[must_use]
    pub fn whole(&self) -> Option<(&str, u64)> {
        crate::log::parse_key(&self.text)
    }
}

/// The numbers that begin with some hexadecimal digits.
fn digits(text: &str) -> Option<RangeInclusive<u64>> {
    let are_digits = text.len() <= DIGITS && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if !are_digits {
        return None;
    }
    if text.is_empty() {
        return Some(0..=u64::MAX);
    }
    let rest = 4 * (DIGITS - text.len()) as u32;
    let first = u64::from_str_radix(text, 16).ok()? << rest;
    Some(first..=first | ((1_u64 << rest) - 1))
}

/// Why a key names no task.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum KeyError {
    /// No task is known whose key begins so.
    #[error(
        "no task is known whose key begins with {key:?}: a key is as `parse-3f2a91c2d4e5f607`, or the beginning of that; \
         `Future::key` gives it, errors name it, and `local-cluster status` shows those of what runs"
    )]
    Unknown {
        /// What was asked for.
        key: String,
    },
    /// The keys of several tasks begin so.
    #[error("the keys of several tasks begin with {key:?}; say more of it: {}{}", candidates.join(", "), if *more { ", …" } else { "" })]
    Ambiguous {
        /// What was asked for.
        key: String,
        /// Some of them.
        candidates: Vec<String>,
        /// Whether there are others.
        more: bool,
    },
}

impl KeyError {
    /// How many candidates are named.
    pub const NAMED: usize = 8;

    /// Nothing is known of it.
    #[must_use]
    pub fn unknown(key: &str) -> Self {
        Self::Unknown { key: shortened(key) }
    }

    /// These keys begin so.
    #[must_use]
    pub fn ambiguous(key: &str, mut candidates: Vec<String>) -> Self {
        candidates.sort_unstable();
        let more = candidates.len() > Self::NAMED;
        candidates.truncate(Self::NAMED);
        Self::Ambiguous { key: shortened(key), candidates: candidates.iter().map(|key| shortened(key)).collect(), more }
    }
}

/// What users type may be anything.
fn shortened(key: &str) -> String {
    crate::log::plain(key)
}
