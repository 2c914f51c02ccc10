//! What has been sampled in a process, with addresses in place of names: bounded, and small enough for one message.

use super::threads::TaskKind;
use crate::task::image;
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use swath_insight::profile::{ProfileOff, StackTree};

/// Nodes of all trees together; encoded, they take less than 1 MiB. Where there would be more, slices of time become longer.
const MOST_NODES: usize = 1 << 15;
/// The most slices, of all names together.
const MOST_SLICES: usize = 1 << 12;
/// The most kinds of tasks; others are one.
const MOST_KINDS: usize = 512;
/// The longest slice, in seconds: a day and more.
const LONGEST: u64 = 1 << 17;

/// Where code is: a module and an offset in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Place(u64);

/// Where the module begins in it.
const MODULE: u32 = 48;
/// No module that is known.
const UNKNOWN: u64 = 0xffff;

impl Place {
    /// Further functions out that are not known.
    pub(super) const CUT: Self = Self(UNKNOWN << MODULE | 1);
    /// In no module.
    pub(super) const NOWHERE: Self = Self(UNKNOWN << MODULE);

    /// Counted from the start of the executable's image.
    pub(super) fn in_image(place: u64) -> Self {
        if place >> MODULE == 0 { Self(place) } else { Self::NOWHERE }
    }

    /// In the library of this number.
    pub(super) fn in_library(number: usize, offset: u64) -> Self {
        match u64::try_from(number + 1) {
            Ok(module) if module < UNKNOWN && offset >> MODULE == 0 => Self(module << MODULE | offset),
            _ => Self::NOWHERE,
        }
    }

    pub(super) fn image(self) -> Option<u64> {
        (self.0 >> MODULE == 0).then_some(self.0)
    }

    pub(super) fn library(self) -> Option<(usize, u64)> {
        let module = (self.0 >> MODULE).checked_sub(1).filter(|module| module + 1 != UNKNOWN)?;
        Some((usize::try_from(module).ok()?, self.0 & ((1 << MODULE) - 1)))
    }
}

/// What tasks of a kind did in a slice of time.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Slice {
    pub(super) on: StackTree<Place>,
    pub(super) samples: u64,
    /// By the number of the system call.
    pub(super) off: FxHashMap<i64, u64>,
}

impl Slice {
    fn merge(&mut self, other: &Self) {
        self.on.merge(&other.on);
        self.samples += other.samples;
        for (call, time) in &other.off {
            *self.off.entry(*call).or_default() += time;
        }
    }
}

/// What has been sampled in a process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RawProfile {
    /// The build that the addresses are of.
    pub(super) build: u64,
    pub(super) libraries: Vec<PathBuf>,
    width: u64,
    /// By function, own name, and the second in which the slice begins.
    slices: FxHashMap<(u64, Option<String>, u64), Slice>,
    pub(super) lost: u64,
    /// Why nothing is sampled any more.
    pub(crate) off: Option<ProfileOff>,
}

impl RawProfile {
    /// Nothing, in this build.
    pub(super) fn new() -> Self {
        Self {
            build: image::build_hash(),
            libraries: Vec::new(),
            width: 1,
            slices: FxHashMap::default(),
            lost: 0,
            off: None,
        }
    }

    /// Nothing, for this reason.
    pub(crate) fn off(why: ProfileOff) -> Self {
        Self { off: Some(why), ..Self::new() }
    }

    /// The number of a library.
    pub(super) fn library(&mut self, path: &std::path::Path) -> usize {
        match self.libraries.iter().position(|known| known == path) {
            Some(number) => number,
            None => {
                self.libraries.push(path.to_path_buf());
                self.libraries.len() - 1
            }
        }
    }

    /// What is known of these tasks at that time.
    pub(super) fn at(&mut self, task: &TaskKind, second: u64) -> &mut Slice {
        let key = |width: u64| (task.function, task.name.clone(), second - second % width);
        if !self.slices.contains_key(&key(self.width)) {
            let is_full = |slices: &FxHashMap<_, Slice>| {
                let nodes: usize = slices.values().map(|slice| slice.on.len()).sum();
                slices.len() >= MOST_SLICES || nodes >= MOST_NODES
            };
            while is_full(&self.slices) && self.width < LONGEST {
                self.widen();
            }
            if is_full(&self.slices) || (self.slices.len() >= MOST_KINDS && self.kinds() >= MOST_KINDS) {
                let other = (0, None, second - second % self.width);
                return self.slices.entry(other).or_default();
            }
        }
        self.slices.entry(key(self.width)).or_default()
    }

    fn kinds(&self) -> usize {
        let kinds: rustc_hash::FxHashSet<_> = self.slices.keys().map(|(function, name, _)| (function, name)).collect();
        kinds.len()
    }

    fn widen(&mut self) {
        self.width *= 2;
        for ((function, name, second), slice) in std::mem::take(&mut self.slices) {
            let wide = (function, name, second - second % self.width);
            self.slices.entry(wide).or_default().merge(&slice);
        }
    }

    /// The slices: function, own name, second, what it did.
    pub(super) fn slices(&self) -> impl Iterator<Item = (u64, Option<&str>, u64, &Slice)> {
        self.slices.iter().map(|((function, name, second), slice)| (*function, name.as_deref(), *second, slice))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(function: u64) -> TaskKind {
        TaskKind { function, name: None }
    }

    #[test]
    fn a_place_is_in_the_image_or_a_library_or_nowhere() {
        let place = Place::in_image(0x1234);
        assert_eq!((place.image(), place.library()), (Some(0x1234), None));
        let place = Place::in_library(0, 0x77);
        assert_eq!((place.image(), place.library()), (None, Some((0, 0x77))));
        for nowhere in [Place::NOWHERE, Place::CUT, Place::in_image(1 << 50), Place::in_library(70_000, 1)] {
            assert_eq!((nowhere.image(), nowhere.library()), (None, None));
        }
    }

    #[test]
    fn a_long_run_takes_no_more_room_than_a_message_has() {
        let mut profile = RawProfile::new();
        let (mut on, mut off) = (0, 0);
        for second in 0..3000 {
            for function in 1..4 {
                let slice = profile.at(&kind(function), 1_700_000_000 + second);
                for place in 0..20 {
                    slice.on.add([Place::in_image(function), Place::in_image((second * 20 + place) % 999)], 10_000_000);
                    on += 10_000_000;
                }
                *slice.off.entry(second as i64 % 300).or_default() += 1;
                off += 1;
            }
        }
        let total: u64 = profile.slices().map(|(.., slice)| slice.on.total()).sum();
        let waits: u64 = profile.slices().flat_map(|(.., slice)| slice.off.values()).sum();
        assert_eq!((total, waits), (on, off));
        let encoded = bincode::serde::encode_to_vec(&profile, bincode::config::standard()).expect("it is encoded");
        assert!(encoded.len() < 1 << 20, "{}", encoded.len());
    }

    #[test]
    fn kinds_are_bounded() {
        let mut profile = RawProfile::new();
        for function in 1..2000 {
            *profile.at(&kind(function), 5).off.entry(0).or_default() += 1;
        }
        assert!(profile.kinds() <= MOST_KINDS + 1);
        assert_eq!(profile.slices().flat_map(|(.., slice)| slice.off.values()).sum::<u64>(), 1999);
    }
}
