//! What is published, as programs see it.

use crate::units::HumanBytes;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A result that is published under a name, see [`Client::publish`](crate::Client::publish).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Published {
    /// What it is published as.
    pub name: String,
    /// The type that it has, as the compiler calls it.
    pub type_name: String,
    /// How many bytes it takes, encoded. None: it is being made again, since the worker that had it has ended.
    pub nbytes: Option<u64>,
}

impl Published {
    pub(crate) fn new(name: String, type_name: String, nbytes: Option<u64>) -> Self {
        Self { name, type_name, nbytes }
    }
}

impl fmt::Display for Published {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`: {}", self.name, self.type_name)?;
        match self.nbytes {
            Some(nbytes) => write!(f, ", {}", HumanBytes(nbytes)),
            None => f.write_str(", being made again"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_in_a_line() {
        let told = |nbytes| Published::new("prices".into(), "alloc::vec::Vec<f64>".into(), nbytes).to_string();
        assert_eq!(told(Some(8000)), "`prices`: alloc::vec::Vec<f64>, 8.0 kB");
        assert_eq!(told(None), "`prices`: alloc::vec::Vec<f64>, being made again");
    }
}
