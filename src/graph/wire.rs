//! From a graph to a job for other processes: chains of calls become one task, arguments become bytes.

use super::dag::Dag;
use super::literals::Literals;
use super::node::{Arg, Kind, Node};
use crate::error::{Error, Result};
use crate::ipc::out_of_band::Copies;
use crate::ipc::segment::SegmentPool;
use crate::job::WantedResult;
use crate::job::{EXTERNAL, JobSpec};
use crate::task::call::guarded_serde;
use crate::task::codec::{Codec, Refused};
use crate::task::encode::EncodeError;
use crate::task::encode::encode_sharing;
use crate::task::function::Record;
use crate::task::{Value, program};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use std::sync::Arc;

/// Longest encoded argument that rides inside a task's body. A longer one becomes a value of its own, so that it is
/// sent to a worker once and does not weigh on the scheduler.
pub(super) const INLINE: usize = 4 << 10;

/// Longest chain of calls that becomes one task.
const CHAIN: u32 = 256;
/// Up to so many dependencies are searched one by one.
const FEW: u32 = 32;

/// A graph as a job.
pub(crate) struct Wired {
    pub(crate) spec: JobSpec,
    /// For each of the job's outputs, its place among the graph's.
    pub(crate) indices: Vec<u32>,
}

/// The error of an argument that cannot be encoded.
pub(crate) fn argument_error(e: EncodeError, key: String, codec: &Codec) -> Error {
    match e {
        EncodeError::Refused(reason) => Error::Encode { key, type_name: codec.name().to_string(), reason },
        EncodeError::NoRoom(e) => Error::Resource { resource: "shared memory".to_string(), reason: e.to_string() },
    }
}

/// What is being written.
struct JobWriter<'a> {
    graph: &'a Dag,
    pool: Option<&'a SegmentPool>,
    spec: JobSpec,
    /// For each task of the graph, the task of the job with its result, or `EXTERNAL | i`. Not set for inner links.
    place: Vec<u32>,
    /// Whether a task's only use is as the only input of the next: then it is a step of that one.
    inner: Vec<bool>,
    /// Steps in the chain that ends with a task.
    length: Vec<u32>,
    /// Dependencies of the task being written.
    deps: Vec<u32>,
    /// Where in `deps` each one is, once there are many.
    many: FxHashMap<u32, u32>,
    indices: Vec<u32>,
    scratch: Vec<u8>,
    literals: Literals,
    /// Copies of buffers that arguments share.
    copies: Copies,
}

impl Dag {
    /// Makes a job of the graph. `deliver`: the results are wanted here.
    ///
    /// # Errors
    /// Where an argument cannot be encoded or a function is not part of the executable.
    pub(crate) fn wire(&self, pool: Option<&SegmentPool>, deliver: bool) -> Result<Wired> {
        let n = self.len();
        let mut writer = JobWriter {
            graph: self,
            pool,
            spec: JobSpec::default(),
            place: vec![u32::MAX; n],
            inner: vec![false; n],
            length: vec![1; n],
            deps: Vec::new(),
            many: FxHashMap::default(),
            indices: Vec::new(),
            scratch: Vec::new(),
            literals: Literals::default(),
            copies: Copies::default(),
        };
        writer.find_chains();
        let mut last: Option<(*const Record, u64)> = None;
        for id in 0..n as u32 {
            let node = &self.nodes[id as usize];
            match &node.kind {
                Kind::Held(held) => {
                    writer.place[id as usize] = EXTERNAL | writer.spec.externals.len() as u32;
                    writer.spec.externals.push(held.task_sent()?);
                }
                Kind::Part(part) => writer.part(id, part.place)?,
                Kind::Call { .. } if writer.inner[id as usize] => {}
                Kind::Call { .. } => writer.task(id, &mut last)?,
            }
        }
        writer.outputs(deliver);
        Ok(Wired { spec: writer.spec, indices: writer.indices })
    }
}

impl JobWriter<'_> {
    /// Marks the tasks that are steps of their only user.
    fn find_chains(&mut self) {
        if self.graph.refs.is_empty() || self.graph.unfused {
            return;
        }
        let uses = self.graph.uses();
        for id in 0..self.graph.len() as u32 {
            let &[input] = self.graph.refs(id) else { continue };
            // Inside a list the order of operands would be another.
            let direct = |node: &Node| matches!(&node.kind, Kind::Call { args, .. } if args.iter().any(Arg::is_task));
            let plain = |id: u32| !self.graph.nodes[id as usize].options().is_some_and(|o| o.matter());
            let runs = |id: u32| matches!(self.graph.nodes[id as usize].kind, Kind::Call { .. });
            let (i, input) = (id as usize, input as usize);
            if uses[input] == 1
                && runs(input as u32)
                && direct(&self.graph.nodes[i])
                && plain(id)
                // Taking apart what a task gives is done as that task is.
                && (plain(input as u32) || self.graph.nodes[i].has_parts())
                && !self.graph.nodes[input].has_parts()
                && self.length[input] < CHAIN
            {
                self.inner[input] = true;
                self.length[i] = self.length[input] + 1;
            }
        }
    }

    fn task(&mut self, id: u32, last: &mut Option<(*const Record, u64)>) -> Result<()> {
        // Literals that become tasks of their own must come before their user, so the body is made aside.
        let mut body = std::mem::take(&mut self.scratch);
        body.clear();
        self.deps.clear();
        self.many.clear();
        // The chain ends with `id`; each link is the only input of the one before it here.
        let mut chain: SmallVec<[u32; 8]> = SmallVec::from_buf_and_len([id; 8], 1);
        let mut first = id;
        for _ in 1..self.length[id as usize] {
            first = self.graph.refs(first)[0];
            chain.push(first);
        }
        let mut refs = self.graph.refs(first).iter();
        // Steps are written innermost first, but in postfix form a step's other operands stand around its input.
        self.step(&mut body, &chain, chain.len(), &mut refs, last)?;
        let index = self.spec.len() as u32;
        self.spec.bodies.extend_from_slice(&body);
        self.spec.body_ends.push(end(self.spec.bodies.len())?);
        self.spec.deps.extend_from_slice(&self.deps);
        self.spec.dep_ends.push(end(self.spec.deps.len())?);
        self.place[id as usize] = index;
        // At most one link of a chain has any that matter.
        let mut options = chain.iter().filter_map(|&link| self.graph.nodes[link as usize].options());
        if let Some(options) = options.find(|o| o.matter()) {
            self.spec.options.push((index, options.to_wire()));
        }
        self.scratch = body;
        Ok(())
    }

    /// Writes a part of the result of a task that has been written.
    fn part(&mut self, id: u32, place: u32) -> Result<()> {
        let maker = self.graph.refs(id).first().map_or(u32::MAX, |&maker| self.place[maker as usize]);
        let index = self.spec.len() as u32;
        self.spec.parts.push((index, place));
        self.spec.body_ends.push(end(self.spec.bodies.len())?);
        self.spec.deps.push(maker);
        self.spec.dep_ends.push(end(self.spec.deps.len())?);
        self.place[id as usize] = index;
        Ok(())
    }

    /// Writes the first `links` links of a chain (they stand last in `chain`) as one expression.
    fn step(
        &mut self,
        body: &mut Vec<u8>,
        chain: &[u32],
        links: usize,
        refs: &mut std::slice::Iter<'_, u32>,
        last: &mut Option<(*const Record, u64)>,
    ) -> Result<()> {
        let graph = self.graph;
        // Operands before the input of each outer step come first, those after it follow; a step whose input is not its
        // first argument is rare, so the common case writes nothing before.
        for &id in &chain[chain.len() - links..chain.len() - 1] {
            let node = &graph.nodes[id as usize];
            self.operands(body, node, Side::Before, refs)?;
        }
        for &id in chain[chain.len() - links..].iter().rev() {
            let node = &graph.nodes[id as usize];
            let Kind::Call { function, args, .. } = &node.kind else { continue };
            let innermost = id == chain[chain.len() - 1];
            let side = if innermost { Side::All } else { Side::After };
            self.operands(body, node, side, refs)?;
            let offset = match last {
                Some((record, offset)) if std::ptr::eq(*record, *function) => *offset,
                _ => {
                    let offset = function
                        .offset()
                        .ok_or_else(|| Error::FunctionNotInExecutable { function: function.path().to_string() })?;
                    *last = Some((*function, offset));
                    offset
                }
            };
            program::call_step(body, offset, args.len(), node.key_hash());
        }
        Ok(())
    }

    /// Writes arguments of a call: all of them, or those on one side of the chain's inner link.
    fn operands(
        &mut self,
        body: &mut Vec<u8>,
        node: &Arc<Node>,
        side: Side,
        refs: &mut std::slice::Iter<'_, u32>,
    ) -> Result<()> {
        let Kind::Call { args, .. } = &node.kind else { return Ok(()) };
        let inner = args.iter().position(Arg::is_task).unwrap_or(0);
        let args = match side {
            Side::All => &args[..],
            Side::Before => &args[..inner],
            Side::After => &args[inner + 1..],
        };
        args.iter().try_for_each(|arg| self.operand(body, node, arg, refs))
    }

    fn operand(
        &mut self,
        body: &mut Vec<u8>,
        node: &Arc<Node>,
        arg: &Arg,
        refs: &mut std::slice::Iter<'_, u32>,
    ) -> Result<()> {
        match arg {
            Arg::Value(value, codec) => self.literal(body, node, value, codec),
            Arg::Task(_) | Arg::Elements(_) => {
                let input = refs.next().copied().unwrap_or_default();
                self.dependency(body, self.place[input as usize]);
                Ok(())
            }
            Arg::Inline(record, items) => {
                for item in items {
                    self.operand(body, node, item, refs)?;
                }
                let offset = record
                    .offset()
                    .ok_or_else(|| Error::FunctionNotInExecutable { function: record.path().to_string() })?;
                program::inline_step(body, offset, items.len());
                Ok(())
            }
        }
    }

    fn dependency(&mut self, body: &mut Vec<u8>, place: u32) {
        let next = self.deps.len() as u32;
        let at = if next < FEW {
            self.deps.iter().position(|&d| d == place).map(|at| at as u32)
        } else {
            if next == FEW {
                self.many = self.deps.iter().copied().zip(0..).collect();
            }
            self.many.get(&place).copied()
        };
        let at = at.unwrap_or_else(|| {
            self.deps.push(place);
            if next >= FEW {
                self.many.insert(place, next);
            }
            next
        });
        program::dependency(body, at);
    }

    fn literal(&mut self, body: &mut Vec<u8>, node: &Arc<Node>, value: &Value, codec: &'static Codec) -> Result<()> {
        if let Some(index) = self.literals.of(value) {
            self.dependency(body, index);
            return Ok(());
        }
        let refused = |e| argument_error(e, node.key(), codec);
        if literal(body, |out| codec.encode(value, out, INLINE)).map_err(refused)? {
            return Ok(());
        }
        let flat = codec.flat(value);
        let known = flat.and_then(|flat| self.literals.of_flat(value, codec, &flat, &self.spec.data));
        if let Some(index) = known {
            self.dependency(body, index);
            return Ok(());
        }
        let payload = encode_sharing(self.pool, value, codec, &mut self.copies).map_err(refused)?;
        let index = self.spec.len() as u32;
        if let Some(known) = self.literals.enter(value, codec, &payload, &self.spec.data, index) {
            self.dependency(body, known);
            return Ok(());
        }
        self.spec.body_ends.push(end(self.spec.bodies.len())?);
        self.spec.dep_ends.push(end(self.spec.deps.len())?);
        self.spec.data.push((index, payload));
        self.dependency(body, index);
        Ok(())
    }

    /// Names the results asked for, apart from those that are there already.
    fn outputs(&mut self, deliver: bool) {
        for (number, id) in self.graph.outputs().into_iter().enumerate() {
            let index = self.place[id as usize];
            if index & EXTERNAL == 0 {
                self.spec.outputs.push(WantedResult { index, deliver });
                self.indices.push(number as u32);
            }
        }
    }
}

/// Writes a literal into a body; `false` where it is too long for that. Its own code runs here.
pub(super) fn literal(
    body: &mut Vec<u8>,
    encode: impl FnOnce(&mut Vec<u8>) -> std::result::Result<(), Refused>,
) -> std::result::Result<bool, EncodeError> {
    let start = body.len();
    match guarded_serde("Serialize", || program::literal(body, encode)) {
        Ok(Ok(())) => Ok(true),
        Ok(Err(Refused::TooLong)) => Ok(false),
        Ok(Err(Refused::Failed(reason))) => Err(EncodeError::Refused(reason)),
        Err(panicked) => {
            body.truncate(start);
            Err(EncodeError::Refused(panicked))
        }
    }
}

#[derive(Clone, Copy)]
enum Side {
    All,
    Before,
    After,
}

pub(super) fn end(n: usize) -> Result<u32> {
    u32::try_from(n).map_err(|_| {
        Error::invalid("graph", "its tasks take more than 4 GiB of encoded arguments; scatter the large ones")
    })
}
