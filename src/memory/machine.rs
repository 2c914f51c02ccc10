//! What the machine says about its memory.

use crate::error::{Error, Result};

/// The machine's memory in bytes.
pub(crate) fn total_memory() -> Result<u64> {
    meminfo("MemTotal:")
}

/// The memory in bytes that could be had now.
pub(crate) fn available_memory() -> Result<u64> {
    meminfo("MemAvailable:")
}

pub(crate) fn meminfo(field: &str) -> Result<u64> {
    std::fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| {
            let line = text.lines().find(|l| l.starts_with(field))?;
            line.split_whitespace().nth(1)?.parse::<u64>().ok()
        })
        .map(|kib| kib * 1024)
        .ok_or_else(|| Error::Resource {
            resource: "/proc/meminfo".to_string(),
            reason: format!("it cannot be read or has no {field}"),
        })
}
