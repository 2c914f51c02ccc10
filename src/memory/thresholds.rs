//! The shares of a worker's memory limit at which something happens.

use super::policy::Levels;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// Four shares of a worker's limit, from 0 to 1; `None` switches one off.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Thresholds {
    pub(crate) target: Option<f64>,
    pub(crate) spill: Option<f64>,
    pub(crate) pause: Option<f64>,
    pub(crate) terminate: Option<f64>,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self { target: Some(0.6), spill: Some(0.7), pause: Some(0.8), terminate: Some(0.95) }
    }
}

impl Thresholds {
    /// Refuses shares that are none, or not in order.
    pub(crate) fn check(&self) -> Result<()> {
        let named = [
            ("memory_target", self.target),
            ("memory_spill", self.spill),
            ("memory_pause", self.pause),
            ("memory_terminate", self.terminate),
        ];
        let mut last: Option<(&str, f64)> = None;
        for (name, share) in named.into_iter().filter_map(|(name, share)| Some((name, share?))) {
            if !(share > 0.0 && share <= 1.0) {
                return Err(Error::invalid(name, format!("{share}; it is a share of the limit above 0 and at most 1")));
            }
            if let Some((below, least)) = last.filter(|(_, least)| share < *least) {
                return Err(Error::invalid(name, format!("{share} is less than `{below}`, which is {least}")));
            }
            last = Some((name, share));
        }
        Ok(())
    }

    /// The same in bytes.
    pub(crate) fn levels(&self, limit: u64) -> Levels {
        let bytes = |share: Option<f64>| share.map_or(u64::MAX, |share| (limit as f64 * share) as u64);
        let spill = bytes(self.spill);
        Levels {
            limit,
            // Where nothing has a target of its own, what is over the threshold is moved down to it.
            target: bytes(self.target.or(self.spill)),
            moves_at_target: self.target.is_some(),
            spill,
            pause: bytes(self.pause),
            terminate: bytes(self.terminate),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_the_known_ones() {
        let levels = Thresholds::default().levels(1000);
        assert_eq!((levels.target, levels.spill, levels.pause, levels.terminate), (600, 700, 800, 950));
        Thresholds::default().check().expect("they are in order");
    }

    #[test]
    fn shares_must_be_shares_and_in_order() {
        let with = |pause, terminate| Thresholds { pause, terminate, ..Thresholds::default() };
        with(None, None).check().expect("each may be switched off");
        with(Some(0.7), Some(0.7)).check().expect("equal is in order");
        for wrong in [with(Some(0.5), None), with(None, Some(1.01)), with(Some(f64::NAN), None), with(Some(0.0), None)]
        {
            assert!(matches!(wrong.check(), Err(Error::Invalid { .. })), "{wrong:?}");
        }
    }

    #[test]
    fn what_is_switched_off_is_never_reached() {
        let off = Thresholds { target: None, spill: None, pause: None, terminate: None }.levels(1000);
        assert_eq!((off.target, off.spill, off.pause, off.terminate), (u64::MAX, u64::MAX, u64::MAX, u64::MAX));
    }
}
