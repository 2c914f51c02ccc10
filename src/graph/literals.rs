//! Large arguments that occur several times in one graph: each becomes one value of the job.

use crate::ipc::payload::Payload;
use crate::task::Value;
use crate::task::codec::{Codec, Flat};
use rustc_hash::{FxHashMap, FxHasher};
use smallvec::SmallVec;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// So many places of a value are compared before all of it is.
const SAMPLES: usize = 64;
/// The most bytes that the length of a text or list takes.
const HEAD: usize = 10;

/// The values of a job that were made of arguments. The graph keeps the arguments alive, so no address comes to mean another.
#[derive(Default)]
pub(super) struct Literals {
    /// The tasks that stand for them, by the address of the value.
    by_address: FxHashMap<*const (), u32>,
    /// Places in the job's data by what samples of their bytes say.
    by_sample: FxHashMap<u64, SmallVec<[u32; 1]>>,
}

/// A hash of a value's length and some of its bytes, of which `tail` is all but perhaps the [`HEAD`].
fn sample(codec: &'static Codec, len: usize, tail: &[u8]) -> u64 {
    let mut hasher = FxHasher::default();
    (std::ptr::from_ref(codec), len).hash(&mut hasher);
    let chunks = (0..SAMPLES).filter_map(|i| {
        let end = i * len / SAMPLES;
        (end + 8 + HEAD <= len).then(|| tail.get(tail.len() - end - 8..tail.len() - end)).flatten()
    });
    chunks.for_each(|chunk| chunk.hash(&mut hasher));
    hasher.finish()
}

/// Whether two payloads are of equal values.
fn equal(a: &Payload, b: &Payload) -> bool {
    let beside = |p: &Payload| p.segments().len() - usize::from(p.in_segment().is_some());
    let same = |i: usize| {
        let (a, b) = (&a.segments()[i], &b.segments()[i]);
        Arc::ptr_eq(a, b) || a.bytes() == b.bytes()
    };
    beside(a) == beside(b) && a.content() == b.content() && (0..beside(a)).all(same)
}

impl Literals {
    /// The task that stands for this very value.
    pub(super) fn of(&self, value: &Value) -> Option<u32> {
        // Most graphs have no large arguments.
        if self.by_address.is_empty() { None } else { self.by_address.get(&value.address()).copied() }
    }

    /// The task that stands for an equal text or list of numbers.
    pub(super) fn of_flat(
        &mut self,
        value: &Value,
        codec: &'static Codec,
        flat: &Flat<'_>,
        data: &Data,
    ) -> Option<u32> {
        let known = self.by_sample.get(&sample(codec, flat.len(), flat.bytes()))?;
        let found = known.iter().map(|&at| &data[at as usize]);
        let index = found.into_iter().find(|(_, p)| p.segments().len() <= 1 && flat.is(p.content()))?.0;
        self.by_address.insert(value.address(), index);
        Some(index)
    }

    /// The task that stands for an equal value. If there is none, remembers that it will be the next one of the `data`, with
    /// this `index`.
    pub(super) fn enter(
        &mut self,
        value: &Value,
        codec: &'static Codec,
        payload: &Payload,
        data: &Data,
        index: u32,
    ) -> Option<u32> {
        let content = payload.content();
        let known = self.by_sample.entry(sample(codec, content.len(), content)).or_default();
        let found = known.iter().map(|&at| &data[at as usize]).find(|(_, other)| equal(payload, other));
        let found = found.map(|(index, _)| *index);
        if found.is_none() {
            known.push(data.len() as u32);
        }
        self.by_address.insert(value.address(), found.unwrap_or(index));
        found
    }
}

/// The values that a job comes with, each with its task.
type Data = [(u32, Payload)];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipc::buffer::Buffer;
    use crate::ipc::ledger::Ledger;
    use crate::ipc::out_of_band::Copies;
    use crate::ipc::segment::SegmentPool;
    use crate::task::codec::CodecOf;
    use crate::task::encode::{encode, encode_sharing};

    #[test]
    fn clones_of_a_buffer_are_copied_once() {
        let pool = SegmentPool::new(1, Ledger::in_memory(u64::MAX), 0);
        let (mut literals, mut data, mut copies) = (Literals::default(), Vec::new(), Copies::default());
        let buffer = Buffer::from(vec![7_u64; 1 << 20]);
        let plain = |_: usize| (Value::new(buffer.clone()), CodecOf::<Buffer<u64>>::CODEC);
        let beside = |n: usize| (Value::new((n, buffer.clone())), CodecOf::<(usize, Buffer<u64>)>::CODEC);
        let all = [plain(0), plain(0), beside(1), beside(1), beside(2), plain(0)];
        let mut found = Vec::new();
        for ((value, codec), next) in all.iter().zip(10..) {
            let payload = encode_sharing(Some(&pool), value, codec, &mut copies).expect("encodes");
            let known = literals.enter(value, codec, &payload, &data, next);
            if known.is_none() {
                data.push((next, payload));
            }
            found.push(known);
        }
        assert_eq!(found, [None, Some(10), None, Some(12), None, Some(10)]);
        assert_eq!(pool.stats().created, 1);
    }

    #[test]
    fn equal_values_are_found_and_others_are_not() {
        let pool = SegmentPool::new(1, Ledger::in_memory(u64::MAX), 0);
        let codec = CodecOf::<Vec<u32>>::CODEC;
        let make = |n: u32, last: u32| Value::new((0..n).chain([last]).collect::<Vec<u32>>());
        for n in [2000, 100_000] {
            let (mut literals, mut data) = (Literals::default(), Vec::new());
            let mut find = |value: &Value, next: u32| {
                let flat = codec.flat(value).expect("a list of numbers");
                let payload = encode(Some(&pool), value, codec).expect("encodes");
                let early = literals.of(value).or_else(|| literals.of_flat(value, codec, &flat, &data));
                let found = literals.enter(value, codec, &payload, &data, next);
                assert!(early.is_none() || early == found || early == Some(next), "{early:?} {found:?}");
                if found.is_none() {
                    data.push((next, payload));
                }
                found
            };
            // All of them live as long as the job is being made.
            let all = [make(n, 1), make(n, 1), make(n, 2), make(n + 1, 1), make(n, 2)];
            assert_eq!(find(&all[0], 10), None);
            assert_eq!(find(&all[0], 11), Some(10));
            assert_eq!(find(&all[1], 12), Some(10));
            assert_eq!(find(&all[2], 13), None);
            assert_eq!(find(&all[3], 14), None);
            assert_eq!(find(&all[4], 15), Some(13));
        }
    }
}
