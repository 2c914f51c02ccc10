//! In the place of the sampler on processors whose stacks it cannot read: nothing is ever sampled.

use super::threads::{Owner, TaskKind};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use swath_insight::profile::ProfileOff;

pub(super) const PERIOD: Duration = Duration::from_millis(10);

#[derive(Default)]
pub(super) struct Samples;

/// There is none.
pub(super) enum Sampling {}

/// There is none.
pub(super) struct Sample {
    pub(super) task: TaskKind,
    pub(super) owner: Owner,
    pub(super) weight: u64,
    pub(super) frames: Vec<usize>,
    pub(super) is_cut: bool,
}

#[derive(Clone, Copy)]
pub(super) struct Clock;

impl Clock {
    pub(super) fn of_thread() -> Option<Self> {
        None
    }

    pub(super) fn now(self) -> Option<u64> {
        None
    }
}

pub(super) fn stack_of_thread() -> Option<Range<usize>> {
    None
}

/// There is none.
pub(super) enum Installed {}

impl Installed {
    pub(super) fn new() -> Result<Self, ProfileOff> {
        Err(ProfileOff::Unsupported)
    }

    pub(super) fn is_lost(&self) -> Option<ProfileOff> {
        match *self {}
    }

    pub(super) fn put_back(self) {
        match self {}
    }
}

impl Samples {
    pub(super) fn start(&'static self, _: usize, _: i32, _: Clock, _: &Arc<Modules>) -> Result<Sampling, ProfileOff> {
        Err(ProfileOff::Unsupported)
    }
}

impl Sampling {
    pub(super) fn modules(&self) -> Option<&Arc<Modules>> {
        match *self {}
    }

    pub(super) fn take(&mut self, _: impl FnMut(Sample)) -> u64 {
        match *self {}
    }
}

#[derive(Debug)]
pub(super) struct LoadedModule {
    pub(super) path: PathBuf,
    pub(super) base: usize,
}

#[derive(Default)]
pub(super) struct Modules {
    pub(super) loaded: Vec<LoadedModule>,
}

impl Modules {
    pub(super) fn read() -> Self {
        Self::default()
    }

    pub(super) fn is_old(&self) -> bool {
        false
    }

    pub(super) fn of(&self, _: usize) -> Option<usize> {
        None
    }
}
