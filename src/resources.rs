//! What a worker has so much of, besides threads and memory, and tasks take of while they run: by names that users choose.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// Amounts are counted in so many parts of one.
const PARTS: f64 = 1e6;

/// An amount as a user gave it: not checked. Options are compared and hashed, so it is kept by its bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct GivenAmount(u64);

impl GivenAmount {
    pub(crate) fn new(amount: f64) -> Self {
        Self(amount.to_bits())
    }

    fn amount(self) -> f64 {
        f64::from_bits(self.0)
    }

    /// The larger one; one that makes no sense, if there is any.
    pub(crate) fn max(self, other: Self) -> Self {
        if self.fault().is_some() || (other.fault().is_none() && self.amount() >= other.amount()) {
            self
        } else {
            other
        }
    }

    /// What is wrong with it.
    pub(crate) fn fault(self) -> Option<String> {
        let amount = self.amount();
        if amount.is_nan() || amount < 0.0 {
            return Some(format!("{amount}; it is 0 or more"));
        }
        (amount > u64::MAX as f64 / PARTS / 2.0).then(|| format!("{amount}; nothing has so much"))
    }
}

impl fmt::Debug for GivenAmount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.amount().fmt(f)
    }
}

/// Amounts of some resources, in millionths; those of 0 are left out. Most tasks and workers have none, which takes a word.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Resources(Option<Arc<[(String, u64)]>>);

impl Resources {
    /// Of amounts that have been checked. Of one name the last counts.
    pub(crate) fn of<'a>(given: impl IntoIterator<Item = (&'a str, GivenAmount)>) -> Self {
        let mut amounts: Vec<(String, u64)> = Vec::new();
        for (name, amount) in given {
            // What is asked for is there in full.
            let amount = (amount.amount() * PARTS).ceil() as u64;
            match amounts.iter_mut().find(|(known, _)| known == name) {
                Some((_, before)) => *before = amount,
                None => amounts.push((name.to_string(), amount)),
            }
        }
        Self::of_parts(amounts)
    }

    fn of_parts(mut amounts: Vec<(String, u64)>) -> Self {
        amounts.retain(|(_, amount)| *amount > 0);
        amounts.sort_unstable();
        Self((!amounts.is_empty()).then(|| amounts.into()))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().flat_map(|amounts| amounts.iter().map(|(name, amount)| (name.as_str(), *amount)))
    }

    /// How much there is of one.
    pub(crate) fn amount(&self, name: &str) -> u64 {
        self.iter().find(|(known, _)| *known == name).map_or(0, |(_, amount)| amount)
    }

    /// One of them alone.
    pub(crate) fn of_one(&self, name: &str) -> Self {
        Self::of_parts(vec![(name.to_string(), self.amount(name))])
    }

    /// How much there is of one, as users say it.
    pub(crate) fn number(&self, name: &str) -> f64 {
        self.amount(name) as f64 / PARTS
    }

    /// Whether there is as much of each.
    pub(crate) fn cover(&self, wanted: &Self) -> bool {
        wanted.iter().all(|(name, amount)| self.amount(name) >= amount)
    }

    /// Of each the larger amount.
    pub(crate) fn max(&self, other: &Self) -> Self {
        self.joined(other, u64::max)
    }

    /// Of each the smaller amount.
    pub(crate) fn min(&self, other: &Self) -> Self {
        Self::of_parts(self.iter().map(|(name, amount)| (name.to_string(), amount.min(other.amount(name)))).collect())
    }

    pub(crate) fn plus(&self, other: &Self) -> Self {
        self.joined(other, u64::saturating_add)
    }

    pub(crate) fn minus(&self, other: &Self) -> Self {
        self.joined(other, u64::saturating_sub)
    }

    fn joined(&self, other: &Self, join: fn(u64, u64) -> u64) -> Self {
        if other.is_empty() {
            return self.clone();
        }
        let mine = self.iter().map(|(name, amount)| (name.to_string(), join(amount, other.amount(name))));
        let theirs = other.iter().filter(|(name, _)| self.amount(name) == 0);
        let theirs = theirs.map(|(name, amount)| (name.to_string(), join(0, amount)));
        Self::of_parts(mine.chain(theirs).collect())
    }
}

impl fmt::Display for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (name, amount)) in self.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{} of `{name}`", amount as f64 / PARTS)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(amounts: &[(&str, f64)]) -> Resources {
        Resources::of(amounts.iter().map(|(name, amount)| (*name, GivenAmount::new(*amount))))
    }

    #[test]
    fn amounts_are_compared_and_counted_by_name() {
        let (some, more) = (of(&[("gpu", 0.5), ("disk", 2.0)]), of(&[("disk", 2.0), ("gpu", 1.0), ("none", 0.0)]));
        assert!(more.cover(&some) && !some.cover(&more) && some.cover(&Resources::default()));
        assert_eq!(some.plus(&of(&[("gpu", 0.5)])), more);
        assert_eq!(more.minus(&some), of(&[("gpu", 0.5)]));
        assert_eq!(some.max(&of(&[("gpu", 1.0), ("port", 1.0)])), of(&[("gpu", 1.0), ("disk", 2.0), ("port", 1.0)]));
        assert!(some.minus(&more).is_empty() && of(&[]).is_empty());
        assert_eq!(more.to_string(), "2 of `disk`, 1 of `gpu`");
        assert_eq!(of(&[("a", 0.1 + 0.2)]).to_string(), "0.300001 of `a`");
    }

    #[test]
    fn amounts_that_make_no_sense_are_told() {
        for bad in [-1.0, -0.1, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300] {
            assert!(GivenAmount::new(bad).fault().is_some(), "{bad}");
        }
        for good in [0.0, -0.0, 1e-9, 0.5, 1.0, 1e9] {
            assert!(GivenAmount::new(good).fault().is_none(), "{good}");
        }
    }
}
