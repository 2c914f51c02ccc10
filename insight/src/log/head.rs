//! The head of a log: who wrote it, when and where.

use super::{FORMAT, LogError, nanos};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use xxhash_rust::xxh3::xxh3_64;

/// What every log from format 2 on begins with. The first byte is in no text.
pub(super) const MAGIC: [u8; 8] = *b"\xb5SWATHLG";
/// Magic, major and minor format, length.
pub(super) const FIXED: usize = 16;
/// No head is longer.
const MOST: usize = 1 << 20;
const MINOR: u16 = 0;

/// Who wrote a log, when and where. No arguments, no environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Head {
    /// The version of swath.
    #[serde(default)]
    pub version: String,
    /// Names the build of the program; empty where that is not known.
    #[serde(default)]
    pub build: String,
    /// The time from which all others count.
    #[serde(with = "since_1970")]
    pub started: SystemTime,
    /// The same time by the clock of the machine that is never set.
    #[serde(rename = "monotonic_ns", with = "nanos", default)]
    pub monotonic: Duration,
    /// Where it ran.
    #[serde(default)]
    pub machine: Machine,
}

/// What is known of the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Machine {
    /// Processors that the program may use.
    pub processors: u32,
    /// Memory in bytes.
    pub memory: u64,
    /// The system and its version.
    pub system: String,
    /// The kind of processor, as `x86_64`.
    pub architecture: String,
}

impl Machine {
    /// This machine. What cannot be found out is empty.
    #[must_use]
    pub fn here() -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let memory = read("/proc/meminfo");
        let kilobytes = memory.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok());
        let processors = std::thread::available_parallelism().map_or(0, |n| u32::try_from(n.get()).unwrap_or(u32::MAX));
        Self {
            processors,
            memory: kilobytes.unwrap_or(0).saturating_mul(1024),
            system: format!("{} {}", std::env::consts::OS, read("/proc/sys/kernel/osrelease").trim())
                .trim()
                .to_string(),
            architecture: std::env::consts::ARCH.to_string(),
        }
    }
}

impl Head {
    /// A log on this machine that this version of swath writes; times count from `started`.
    #[must_use]
    pub fn new(version: impl Into<String>, started: SystemTime) -> Self {
        Self {
            version: version.into(),
            build: String::new(),
            started,
            monotonic: Duration::ZERO,
            machine: Machine::here(),
        }
    }

    /// What is known of a log whose head is damaged, or has another format.
    pub(super) fn unknown() -> Self {
        Self {
            version: String::new(),
            build: String::new(),
            started: UNIX_EPOCH,
            monotonic: Duration::ZERO,
            machine: Machine::default(),
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut json = serde_json::to_vec(self).unwrap_or_else(|_| b"{}".to_vec());
        json.push(b'\n');
        let mut bytes = MAGIC.to_vec();
        bytes.extend((FORMAT as u16).to_le_bytes());
        bytes.extend(MINOR.to_le_bytes());
        bytes.extend((json.len() as u32).to_le_bytes());
        bytes.extend(json);
        let check = xxh3_64(&bytes);
        bytes.extend(check.to_le_bytes());
        bytes
    }

    /// How many bytes a head takes that begins so.
    pub(super) fn length(fixed: &[u8; FIXED]) -> Option<usize> {
        let length = u32::from_le_bytes([fixed[12], fixed[13], fixed[14], fixed[15]]) as usize;
        (length <= MOST).then_some(FIXED + length + 8)
    }

    /// Reads a whole head. `None` where it is not as it was written.
    pub(super) fn decode(bytes: &[u8], path: &Path) -> Option<Result<Self, LogError>> {
        let (body, check) = bytes.split_last_chunk::<8>()?;
        if u64::from_le_bytes(*check) != xxh3_64(body) {
            return None;
        }
        let format = u32::from(u16::from_le_bytes([body[8], body[9]]));
        let json = body.get(FIXED..)?;
        if format > FORMAT {
            // Of a newer head no more is asked than its version.
            let any: serde_json::Value = serde_json::from_slice(json).unwrap_or_default();
            let version = any["version"].as_str().unwrap_or("a newer version").to_string();
            return Some(Err(LogError::Newer { path: path.to_path_buf(), format, version }));
        }
        Some(Ok(serde_json::from_slice(json).ok()?))
    }
}

mod since_1970 {
    use super::{Duration, SystemTime, UNIX_EPOCH, nanos};
    use serde::{Deserialize, Deserializer, Serializer};

    /// Nanoseconds since 1970.
    pub(super) fn serialize<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(nanos::of(time.duration_since(UNIX_EPOCH).unwrap_or_default()))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SystemTime, D::Error> {
        u64::deserialize(deserializer).map(|ns| UNIX_EPOCH + Duration::from_nanos(ns))
    }
}
