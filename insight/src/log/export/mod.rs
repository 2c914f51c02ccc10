//! A log as other programs read it.
