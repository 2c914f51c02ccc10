//! Bytes that cross process borders in one piece.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::ops::Deref;
use std::sync::Arc;

/// So many lie in place: the body of a call with a number or two, a small result.
const HERE: usize = 30;

/// Immutable bytes. A few lie in place, since there is one for each task and each result; more are shared.
#[derive(Clone)]
pub(crate) struct Bytes(Kind);

#[derive(Clone)]
enum Kind {
    Here(u8, [u8; HERE]),
    Shared(Arc<[u8]>),
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Kind::Here(len, bytes) => &bytes[..usize::from(*len)],
            Kind::Shared(bytes) => bytes,
        }
    }
}

impl From<&[u8]> for Bytes {
    fn from(bytes: &[u8]) -> Self {
        if bytes.len() > HERE {
            return Self(Kind::Shared(bytes.into()));
        }
        let mut here = [0; HERE];
        here[..bytes.len()].copy_from_slice(bytes);
        Self(Kind::Here(bytes.len() as u8, here))
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        bytes.as_slice().into()
    }
}

impl Default for Bytes {
    fn default() -> Self {
        Self(Kind::Here(0, [0; HERE]))
    }
}

impl std::fmt::Debug for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        (**self).fmt(f)
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <&'de [u8]>::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_and_many_bytes_are_the_same_afterwards() {
        const { assert!(size_of::<Bytes>() == 32) };
        for n in [0, 1, HERE, HERE + 1, 5000] {
            let bytes: Vec<u8> = (0..n).map(|i| i as u8).collect();
            assert_eq!(*Bytes::from(bytes.clone()), *bytes);
            assert_eq!(*Bytes::from(bytes.as_slice()).clone(), *bytes);
        }
    }
}
