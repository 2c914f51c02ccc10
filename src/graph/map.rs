//! Calls of one function with one value each, held as a rule: what `map` makes of many values.
//!
//! A call is written out when it runs, or when it is sent. Until then it costs no more than its value, and describing a
//! hundred thousand of them takes less time than running the first.

use super::node::{Arg, Kind, Node, halves, keyed_hash, serials};
use super::wire::{INLINE, end, literal};
use crate::error::{Error, Result};
use crate::ipc::batch::Batch;
use crate::ipc::segment::SegmentPool;
use crate::job::{JobSpec, WantedResult};
use crate::task::call::guarded_serde;
use crate::task::codec;
use crate::task::codec::{Codec, CodecOf, Refused};
use crate::task::encode::{EncodeError, encode};
use crate::task::function::{Record, short_name};
use crate::task::{Data, Owned, Value, program};
use smallvec::smallvec;
use std::sync::Arc;

/// Most values in one part that are too long for the bodies of calls.
const LONG: usize = 256;

/// The calls. They need nothing of each other, and the result of each is wanted.
#[derive(Debug)]
pub(crate) struct MapTasks {
    pub(crate) names: MapNames,
    /// The priority of each task.
    pub(crate) priority: i32,
    values: Box<dyn Values>,
}

/// What the calls of a map are called.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MapNames {
    pub(crate) function: &'static Record,
    /// The serial number of the first call.
    first: u64,
}

impl MapNames {
    /// The hash of call number `id`; as that of a node.
    pub(crate) fn hash(self, id: u32) -> u128 {
        keyed_hash(self.function, self.first + u64::from(id))
    }
}

/// A list of values of one type.
trait Values: Send + Sync + std::fmt::Debug {
    fn len(&self) -> usize;

    fn codec(&self) -> &'static Codec;

    fn value(&self, at: usize) -> Value;

    fn encode(&self, at: usize, out: &mut Vec<u8>, limit: usize) -> std::result::Result<(), Refused>;
}

struct Given<A>(Vec<Owned<A>>);

impl<A> std::fmt::Debug for Given<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} values", self.0.len())
    }
}

impl<A: Data> Values for Given<A> {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn codec(&self) -> &'static Codec {
        CodecOf::<A>::CODEC
    }

    fn value(&self, at: usize) -> Value {
        Value::new(A::clone(&self.0[at]))
    }

    fn encode(&self, at: usize, out: &mut Vec<u8>, limit: usize) -> std::result::Result<(), Refused> {
        codec::encode::<A>(&self.0[at], out, limit)
    }
}

/// Some calls of a map as a part of a job, see [`MapTasks::wire`].
#[derive(Default)]
pub(crate) struct WiredPart {
    pub(crate) spec: JobSpec,
    /// For each task of the part, its call; `u32::MAX` for an argument.
    pub(crate) ends: Vec<u32>,
    /// Calls whose value cannot be sent.
    pub(crate) refused: Vec<(u32, EncodeError)>,
    /// The first call that is not part of it.
    pub(crate) next: u32,
}

impl MapTasks {
    pub(crate) fn new<A: Data>(function: &'static Record, values: Vec<A>) -> Self {
        let first = serials(values.len() as u64);
        let values = values.into_iter().map(Owned::new).collect();
        Self { names: MapNames { function, first }, priority: 0, values: Box::new(Given(values)) }
    }

    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }

    /// The name of the calls.
    pub(crate) fn name(&self) -> String {
        short_name(self.function().path())
    }

    pub(crate) fn function(&self) -> &'static Record {
        self.names.function
    }

    pub(crate) fn codec(&self) -> &'static Codec {
        self.values.codec()
    }

    pub(crate) fn hash(&self, id: u32) -> u128 {
        self.names.hash(id)
    }

    /// A copy of the value, for the function to own.
    pub(crate) fn value(&self, id: u32) -> Value {
        self.values.value(id as usize)
    }

    /// The call as a node.
    pub(crate) fn node(&self, id: u32) -> Arc<Node> {
        let args = smallvec![Arg::Value(self.value(id), self.codec())];
        let kind = Kind::Call { function: self.function(), args, options: None };
        Arc::new(Node { kind, hash: halves(self.hash(id)), reproducible: false })
    }

    /// Writes out the calls of `ids`, or the first of them, as many as make one message; but not those to `skip`.
    ///
    /// # Errors
    /// Where the function is not part of the executable, or there are too many bytes.
    pub(crate) fn wire(
        &self,
        ids: std::ops::Range<u32>,
        pool: Option<&SegmentPool>,
        skip: impl Fn(u32) -> bool,
    ) -> Result<WiredPart> {
        let function = self.function();
        let offset = function
            .offset()
            .ok_or_else(|| Error::FunctionNotInExecutable { function: function.path().to_string() })?;
        let n = ids.len();
        let mut part = WiredPart { next: ids.end, ends: Vec::with_capacity(n), ..WiredPart::default() };
        let spec = &mut part.spec;
        spec.body_ends.reserve(n);
        spec.dep_ends.reserve(n);
        spec.outputs.reserve(n);
        let mut size = Batch::default();
        for id in ids {
            if spec.data.len() >= LONG || !size.fits(1, 1) {
                part.next = id;
                break;
            }
            if skip(id) {
                continue;
            }
            let (given, start) = (spec.data.len(), spec.bodies.len());
            if let Err(e) = self.operand(id, spec, &mut part.ends, pool) {
                part.refused.push((id, e));
                continue;
            }
            program::call_step(&mut spec.bodies, offset, 1, (self.hash(id) >> 64) as u64);
            let segments = spec.data[given..].iter().map(|(_, payload)| payload.segments().len());
            size.add(segments.sum(), spec.bodies.len() - start);
            spec.outputs.push(WantedResult { index: part.ends.len() as u32, deliver: false });
            part.ends.push(id);
            spec.body_ends.push(end(spec.bodies.len())?);
            spec.dep_ends.push(end(spec.deps.len())?);
        }
        Ok(part)
    }

    /// Writes the value of a call: into its body, or, a long one, as a task of its own before it.
    fn operand(
        &self,
        id: u32,
        spec: &mut JobSpec,
        ends: &mut Vec<u32>,
        pool: Option<&SegmentPool>,
    ) -> std::result::Result<(), EncodeError> {
        let start = spec.bodies.len();
        // The value's own code runs here, maybe in a thread that others depend on.
        if literal(&mut spec.bodies, |out| self.values.encode(id as usize, out, INLINE))? {
            return Ok(());
        }
        let value = guarded_serde("Clone", || self.value(id)).map_err(EncodeError::Refused)?;
        let payload = encode(pool, &value, self.codec())?;
        let index = ends.len() as u32;
        spec.body_ends.push(start as u32);
        spec.dep_ends.push(spec.deps.len() as u32);
        spec.data.push((index, payload));
        ends.push(u32::MAX);
        spec.deps.push(index);
        program::dependency(&mut spec.bodies, 0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::function::TaskFunction;

    fn record<A, R, F: TaskFunction<(A,), R>>(_: F) -> &'static Record {
        F::RECORD
    }

    #[test]
    fn calls_are_as_if_each_had_been_described() {
        let layer = MapTasks::new(record(|x: u64| x + 1), vec![5_u64, 6, 7]);
        let (a, b) = (layer.node(0), layer.node(2));
        assert_eq!((a.hash(), b.hash()), (layer.hash(0), layer.hash(2)));
        assert_ne!(a.hash(), b.hash());
        let nodes: Vec<_> = (0..3).map(|id| layer.node(id)).collect();
        let described = crate::graph::Dag::of(&nodes.iter().collect::<Vec<_>>()).wire(None, false).expect("encodes");
        let part = layer.wire(0..3, None, |_| false).expect("encodes");
        assert_eq!(part.spec.bodies, described.spec.bodies);
        assert_eq!(part.spec.body_ends, described.spec.body_ends);
        assert_eq!(part.spec.outputs, described.spec.outputs);
        assert_eq!(part.next, 3);
    }

    #[test]
    fn long_values_become_tasks_and_what_is_skipped_does_not() {
        let layer =
            MapTasks::new(record(|s: String| s.len()), vec!["a".to_string(), "b".repeat(INLINE + 1), "c".to_string()]);
        let part = layer.wire(0..3, None, |id| id == 0).expect("encodes");
        assert_eq!(part.ends, [u32::MAX, 1, 2]);
        assert_eq!(part.spec.deps(1), [0]);
        assert_eq!(part.spec.data[0].0, 0);
        assert_eq!(part.spec.outputs.iter().map(|o| o.index).collect::<Vec<_>>(), [1, 2]);
        assert!(part.refused.is_empty());
    }
}
