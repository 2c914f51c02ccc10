//! What programs and their tasks share by name, as a local cluster sees it.

use crate::units::{HumanBytes, counted};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A lock, semaphore, event, queue or variable that a program or its tasks use, see
/// [`coordination`](crate::coordination), or a [published](crate::Client::publish) result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SharedObject {
    /// `lock`, `semaphore`, `event`, `queue`, `variable` or `published`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// The number of the connection whose it is: each program that is connected has names of its own. 0 for what is published,
    /// which all programs of the build share.
    pub connection: u32,
    /// Who has it: tasks, by their keys and workers, or `program`. Of what is published the worker that keeps it, or
    /// `supervisor`; nobody, while it is made again.
    pub holders: Vec<String>,
    /// How many hold it, or lie in it; 1 for an event that is set and a variable that has a value; bytes, encoded, of what is
    /// published.
    pub size: u64,
    /// The permits of a semaphore, or how many items there may be in a queue. None: as many as come.
    pub limit: Option<u64>,
    /// How many wait for it.
    pub waiting: u64,
}

impl fmt::Display for SharedObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.kind == "published" {
            write!(f, "published `{}`: ", self.name)?;
            return match &self.holders[..] {
                [] => f.write_str("being made again"),
                holders => write!(f, "{} on {}", HumanBytes(self.size), holders.join(", ")),
            };
        }
        write!(f, "{} `{}` of connection {}: ", self.kind, self.name, self.connection)?;
        let of = |limit: Option<u64>| limit.map_or(String::new(), |limit| format!(" of {limit}"));
        match self.kind.as_str() {
            "lock" if self.size == 0 => f.write_str("free")?,
            "lock" => f.write_str("held")?,
            "semaphore" => write!(f, "{}{} held", self.size, of(self.limit))?,
            "queue" => write!(
                f,
                "{}{}",
                counted(self.size, "item"),
                self.limit.map_or(", unbounded".to_string(), |most| format!(", {most} at most"))
            )?,
            "event" => f.write_str(if self.size > 0 { "set" } else { "not set" })?,
            _ => f.write_str(if self.size > 0 { "has a value" } else { "has no value" })?,
        }
        if !self.holders.is_empty() {
            write!(f, " by {}", self.holders.join(", "))?;
        }
        if self.waiting > 0 { write!(f, ", {} waiting", self.waiting) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_told_in_a_line() {
        let told = |kind: &str, size, limit, holders: &[&str], waiting| {
            let holders = holders.iter().map(|holder| (*holder).to_string()).collect();
            SharedObject { kind: kind.into(), name: "n".into(), connection: 2, holders, size, limit, waiting }
                .to_string()
        };
        assert_eq!(
            told("lock", 1, None, &["work-1 on worker-0"], 2),
            "lock `n` of connection 2: held by work-1 on worker-0, 2 waiting"
        );
        assert_eq!(
            told("semaphore", 1, Some(3), &["program"], 0),
            "semaphore `n` of connection 2: 1 of 3 held by program"
        );
        assert_eq!(told("queue", 1, Some(10), &[], 1), "queue `n` of connection 2: 1 item, 10 at most, 1 waiting");
        assert_eq!(told("queue", 0, None, &[], 0), "queue `n` of connection 2: 0 items, unbounded");
        assert_eq!(told("event", 0, None, &[], 1), "event `n` of connection 2: not set, 1 waiting");
        assert_eq!(told("variable", 1, None, &[], 0), "variable `n` of connection 2: has a value");
        assert_eq!(told("published", 8000, None, &["worker-1"], 0), "published `n`: 8.0 kB on worker-1");
        assert_eq!(told("published", 0, None, &[], 0), "published `n`: being made again");
    }
}
