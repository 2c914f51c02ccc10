//! The kit that collections are made of.

pub(crate) mod elements;
pub(crate) mod layer;
pub(crate) mod pass;
pub(crate) mod shuffle;
