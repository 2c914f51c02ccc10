//! Everything that touches another process: frames, sockets, shared segments, control pages.
pub(crate) mod segment;
