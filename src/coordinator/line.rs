//! Calls that wait, in the order in which they came.

use super::{Caller, Patience};
use std::collections::BTreeMap;

pub(super) struct Waiter<T> {
    pub(super) caller: Caller,
    pub(super) ticket: u64,
    pub(super) patience: Patience,
    /// What it waits to hand over.
    pub(super) what: T,
}

impl<T> Waiter<T> {
    pub(super) fn who(&self) -> (&Caller, Patience) {
        (&self.caller, self.patience)
    }

    /// The same with something to hand over.
    pub(super) fn with<U>(self, what: U) -> Waiter<U> {
        Waiter { caller: self.caller, ticket: self.ticket, patience: self.patience, what }
    }
}

/// By their numbers: who leaves a long line costs no more than who leaves a short one.
pub(super) type Line<T> = BTreeMap<u64, Waiter<T>>;
