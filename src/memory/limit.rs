//! Memory limits as people write them.

use crate::error::{Error, Result};
use crate::machine::total_memory;
use crate::units::HumanBytes;
use std::fmt;

/// How much memory each worker may use.
///
/// Made from a text (`"2GB"`, `"512MiB"`, `"25%"`), a number of bytes, a fraction of the machine's memory, or `None`.
///
/// ```
/// use swath::memory::MemoryLimit;
/// assert_eq!("512MiB".parse::<MemoryLimit>()?.bytes()?, Some(512 << 20));
/// assert_eq!(MemoryLimit::from(2_000_000_000_u64).bytes()?, Some(2_000_000_000));
/// assert_eq!(MemoryLimit::None.bytes()?, None);
/// assert!("2 apples".parse::<MemoryLimit>().is_err());
/// # Ok::<(), swath::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum MemoryLimit {
    /// No limit.
    #[default]
    None,
    /// So many bytes.
    Bytes(u64),
    /// This part of the memory of the machine, or of the control group that this process is in where that has less; above 0
    /// and at most 1. [`local::machine`](crate::local::machine) tells which.
    Fraction(f64),
    /// A text that is parsed when the client starts.
    Text(String),
}

impl MemoryLimit {
    /// So many MiB, of 1024 × 1024 bytes.
    ///
    /// ```
    /// use swath::memory::MemoryLimit;
    /// use swath::Client;
    /// assert_eq!(MemoryLimit::mib(512), MemoryLimit::Bytes(512 * 1024 * 1024));
    /// let client = Client::local(1, 1, MemoryLimit::mib(512))?;
    /// # Ok::<(), swath::Error>(())
    /// ```
    #[must_use]
    pub const fn mib(n: u64) -> Self {
        Self::Bytes(n.saturating_mul(1 << 20))
    }

    /// So many GiB, of 1024 × 1024 × 1024 bytes.
    ///
    /// ```
    /// use swath::memory::MemoryLimit;
    /// assert_eq!(MemoryLimit::gib(2), MemoryLimit::mib(2048));
    /// assert_eq!(MemoryLimit::gib(2), MemoryLimit::Bytes(2 << 30));
    /// ```
    #[must_use]
    pub const fn gib(n: u64) -> Self {
        Self::Bytes(n.saturating_mul(1 << 30))
    }

    /// The limit in bytes.
    ///
    /// # Errors
    /// [`Error::Invalid`] where the text is no size, or the fraction not between 0 and 1.
    pub fn bytes(&self) -> Result<Option<u64>> {
        match self {
            Self::None => Ok(None),
            Self::Bytes(0) => Err(Error::invalid("memory limit", "0 bytes; for no limit say `MemoryLimit::None`")),
            Self::Bytes(n) => Ok(Some(*n)),
            Self::Fraction(f) if *f > 0.0 && *f <= 1.0 => Ok(Some((total_memory().map_err(untold)? as f64 * f) as u64)),
            Self::Fraction(f) => {
                Err(Error::invalid("memory limit", format!("{f} is not a part of the machine between 0 and 1")))
            }
            Self::Text(text) => parse(text)?.bytes(),
        }
    }
}

/// The system does not tell what memory there is.
pub(crate) fn untold(e: std::io::Error) -> Error {
    Error::Resource { resource: "the size of the memory".to_string(), reason: e.to_string() }
}

/// The least that a worker can be limited to: it takes about 1 MiB itself, and a task needs something beside that.
const LEAST_OF_WORKER: u64 = 4_000_000;
/// The least that all workers together can be limited to elsewhere: below, no value of any size has room.
const LEAST_OF_ALL: u64 = 1_000_000;

impl MemoryLimit {
    /// The limit of a worker in bytes.
    ///
    /// # Errors
    /// Also where no worker can live with it.
    pub(crate) fn of_worker(&self) -> Result<Option<u64>> {
        self.at_least(LEAST_OF_WORKER, "a worker, which needs")
    }

    /// A limit of shared memory or of a disk, for all workers together, in bytes.
    ///
    /// # Errors
    /// Also where no value has room in it.
    pub(crate) fn of_all(&self) -> Result<Option<u64>> {
        self.at_least(LEAST_OF_ALL, "the values of all workers, which need")
    }

    fn at_least(&self, least: u64, whom: &str) -> Result<Option<u64>> {
        match self.bytes()? {
            Some(bytes) if bytes < least => Err(Error::invalid(
                "memory limit",
                format!(
                    "{bytes} bytes are too few for {whom} {} at least; a number without a unit is in bytes, write for \
                     example `512MB` or `2GiB`",
                    HumanBytes(least)
                ),
            )),
            limit => Ok(limit),
        }
    }
}

fn parse(text: &str) -> Result<MemoryLimit> {
    let wrong =
        || Error::invalid("memory limit", format!("`{text}`; write for example `2GB`, `512MiB`, `25%` or `none`"));
    let trimmed = text.trim().to_ascii_lowercase();
    if matches!(trimmed.as_str(), "none" | "") {
        return Ok(MemoryLimit::None);
    }
    let split = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(split);
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let scale = match unit.trim() {
        "%" => return Ok(MemoryLimit::Fraction(number / 100.0)),
        "" if text.contains('.') => return Ok(MemoryLimit::Fraction(number)),
        "" | "b" => 1.0,
        "k" | "kb" => 1e3,
        "m" | "mb" => 1e6,
        "g" | "gb" => 1e9,
        "t" | "tb" => 1e12,
        "ki" | "kib" => 1024.0,
        "mi" | "mib" => 1024.0 * 1024.0,
        "gi" | "gib" => 1024.0 * 1024.0 * 1024.0,
        "ti" | "tib" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        _ => return Err(wrong()),
    };
    // A whole number of bytes is read exactly, however large.
    let whole = trimmed[..split].parse::<u64>().ok().and_then(|n| n.checked_mul(scale as u64));
    match (whole, number * scale) {
        (Some(bytes), _) => Ok(MemoryLimit::Bytes(bytes)),
        (None, bytes) if bytes < u64::MAX as f64 => Ok(MemoryLimit::Bytes(bytes as u64)),
        (None, _) => Err(Error::invalid("memory limit", format!("`{text}` is more than any machine has"))),
    }
}

/// The limit as a text that is read as the same limit: in the largest unit of which it is a whole number.
impl fmt::Display for MemoryLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, &str); 8] = [
            (1 << 40, "TiB"),
            (1_000_000_000_000, "TB"),
            (1 << 30, "GiB"),
            (1_000_000_000, "GB"),
            (1 << 20, "MiB"),
            (1_000_000, "MB"),
            (1 << 10, "KiB"),
            (1_000, "kB"),
        ];
        match self {
            Self::None => f.write_str("none"),
            Self::Text(text) => f.write_str(text),
            Self::Bytes(bytes) => match UNITS.iter().find(|(unit, _)| *bytes > 0 && bytes % unit == 0) {
                Some((unit, name)) => write!(f, "{} {name}", bytes / unit),
                None => write!(f, "{bytes} B"),
            },
            Self::Fraction(fraction) => {
                let percent = (fraction * 1e6).round() / 1e4;
                // As it is read back.
                if percent / 100.0 == *fraction { write!(f, "{percent}%") } else { write!(f, "{fraction}") }
            }
        }
    }
}

impl std::str::FromStr for MemoryLimit {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        parse(text)
    }
}

impl From<&str> for MemoryLimit {
    fn from(text: &str) -> Self {
        Self::Text(text.to_string())
    }
}

impl From<String> for MemoryLimit {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<u64> for MemoryLimit {
    fn from(bytes: u64) -> Self {
        Self::Bytes(bytes)
    }
}

impl From<f64> for MemoryLimit {
    fn from(fraction: f64) -> Self {
        Self::Fraction(fraction)
    }
}

impl<T: Into<MemoryLimit>> From<Option<T>> for MemoryLimit {
    fn from(limit: Option<T>) -> Self {
        limit.map_or(Self::None, Into::into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in
            [("2GB", 2_000_000_000), ("1.5 gib", 1_610_612_736), ("100", 100), ("64k", 64_000), ("7MiB", 7 << 20)]
        {
            assert_eq!(MemoryLimit::from(text).bytes().expect("a size"), Some(bytes), "{text}");
        }
        assert_eq!(MemoryLimit::from("none").bytes().expect("a size"), None);
        let half = MemoryLimit::from("50%").bytes().expect("a size").expect("a limit");
        assert_eq!(half, total_memory().expect("linux") / 2);
        assert_eq!(MemoryLimit::from("0.5").bytes().expect("a size"), Some(half));
    }

    #[test]
    fn a_limit_is_read_as_it_is_printed() {
        for (limit, text) in [
            (MemoryLimit::None, "none"),
            (MemoryLimit::Bytes(512_000_000), "512 MB"),
            (MemoryLimit::Bytes(512 << 20), "512 MiB"),
            (MemoryLimit::Bytes(1_000_000_000_000), "1 TB"),
            (MemoryLimit::Bytes(u64::MAX), "18446744073709551615 B"),
            (MemoryLimit::Bytes(1_234_567), "1234567 B"),
            (MemoryLimit::Fraction(0.1), "10%"),
            (MemoryLimit::Fraction(1.0), "100%"),
            (MemoryLimit::Fraction(1.0 / 3.0), "0.3333333333333333"),
        ] {
            assert_eq!(limit.to_string(), text);
            assert_eq!(text.parse::<MemoryLimit>().expect("a limit"), limit);
        }
        assert_eq!(MemoryLimit::from("2GB").to_string(), "2GB");
    }

    #[test]
    fn nonsense_is_refused() {
        for text in
            ["two", "2 apples", "-1", "1e", "0", "150%", "0.0", "99999999TB", "18446744073709551616", &"9".repeat(400)]
        {
            assert!(MemoryLimit::from(text).bytes().is_err(), "{text}");
        }
        assert!(MemoryLimit::from(f64::NAN).bytes().is_err());
    }
}
