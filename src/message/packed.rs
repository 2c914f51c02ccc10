//! Tasks and completions as they cross the wire. There may be a million of each in a second, and decoding every part of
//! them as a field of its own would cost more than everything else that is done with them.
//!
//! So the parts that all of them have lie packed in one string of bytes, and the parts that few have stand beside it.

use super::{Malformed, Task};
use crate::fairness::{LAST, Rank};
use crate::ids::{JobId, SessionId, TaskId};
use crate::ipc::clock::ticks;
use crate::ipc::payload::Payload;
use crate::job::{Completion, Input, Outcome, WantedPart};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Entries about tasks, each of which begins with flags and the task's id.
#[derive(Debug, Default)]
struct Packed {
    bytes: Vec<u8>,
    /// The job of the last entry. Most entries are of the same job as the one before.
    job: Option<JobId>,
}

/// Bytes of an entry without what is packed in it, at most: for a guess of the room it takes.
const ENTRY: usize = 24;
/// No more room is made beforehand, in bytes.
const MOST_ROOM: usize = 64 << 10;
/// Bytes of a short entry, for a guess of how many there are.
const USUAL: usize = 16;
/// No more are guessed: the bytes may be one long entry.
const MOST_GUESSED: usize = 1024;

/// The entry leaves out its job, which is that of the one before.
const SAME_JOB: u8 = 1;
/// The rest of the entry is the next thing beside.
const BESIDE: u8 = 2;
const DELIVER: u8 = 4;
const ALONE: u8 = 8;
const SUSPECT: u8 = 16;
/// What the task helps to build follows.
const BUILDING: u8 = 32;
/// The parts of the result that are wanted follow.
const PARTS: u8 = 64;

/// The rank of the task in its worker's queue follows.
const RANK: u8 = 128;

/// Bytes of a wanted part.
pub(crate) const PART: usize = 9;

impl Packed {
    /// With room for so many entries with so many bytes of their own.
    fn with_room(entries: usize, bytes: usize) -> Self {
        let room = entries.saturating_mul(ENTRY + bytes).min(MOST_ROOM);
        Self { bytes: Vec::with_capacity(room), job: None }
    }

    fn begin(&mut self, flags: u8, id: TaskId) {
        if self.job == Some(id.job) {
            self.bytes.push(flags | SAME_JOB);
        } else {
            self.job = Some(id.job);
            self.bytes.push(flags);
            self.bytes.extend_from_slice(&id.job.session.0.to_le_bytes());
            self.bytes.extend_from_slice(&id.job.number.to_le_bytes());
        }
        self.bytes.extend_from_slice(&id.index.to_le_bytes());
    }

    fn put<const N: usize>(&mut self, bytes: [u8; N]) {
        self.bytes.extend_from_slice(&bytes);
    }

    fn put_slice(&mut self, bytes: &[u8]) {
        self.put((bytes.len() as u32).to_le_bytes());
        self.bytes.extend_from_slice(bytes);
    }

    fn read(&self) -> Reader<'_> {
        Reader { bytes: &self.bytes, job: None }
    }
}

impl Serialize for Packed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.bytes)
    }
}

impl<'de> Deserialize<'de> for Packed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <&'de [u8]>::deserialize(deserializer).map(|bytes| Self { bytes: bytes.to_vec(), job: None })
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    job: Option<JobId>,
}

impl<'a> Reader<'a> {
    fn begin(&mut self) -> Option<(u8, TaskId)> {
        let [flags] = self.get()?;
        if flags & SAME_JOB == 0 {
            let session = SessionId(u32::from_le_bytes(self.get()?));
            self.job = Some(JobId { session, number: u32::from_le_bytes(self.get()?) });
        }
        Some((flags, TaskId { job: self.job?, index: u32::from_le_bytes(self.get()?) }))
    }

    fn get<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.bytes.split_first_chunk()?;
        self.bytes = rest;
        Some(*bytes)
    }

    fn states(&mut self) -> Option<Vec<u64>> {
        let count = u32::from_le_bytes(self.get()?);
        (0..count).map(|_| self.get().map(u64::from_le_bytes)).collect()
    }

    fn parts(&mut self) -> Option<Vec<WantedPart>> {
        let count = u32::from_le_bytes(self.get()?) as usize;
        // No more than can be there.
        let mut parts = Vec::with_capacity(count.min(self.bytes.len() / PART));
        for _ in 0..count {
            let (index, place) = (u32::from_le_bytes(self.get()?), u32::from_le_bytes(self.get()?));
            let [deliver] = self.get()?;
            parts.push(WantedPart { index, place, deliver: deliver != 0 });
        }
        Some(parts)
    }

    fn slice(&mut self) -> Option<&'a [u8]> {
        let len = u32::from_le_bytes(self.get()?) as usize;
        let (bytes, rest) = self.bytes.split_at_checked(len)?;
        self.bytes = rest;
        Some(bytes)
    }
}

/// Reads all entries, each by `next`, which takes what lies beside from the iterator.
fn unpack<B, T>(
    packed: &Packed,
    beside: Vec<B>,
    mut next: impl FnMut(&mut Reader<'_>, &mut std::vec::IntoIter<B>) -> Option<T>,
) -> Result<Vec<T>, Malformed> {
    let (mut reader, mut beside) = (packed.read(), beside.into_iter());
    let mut all = Vec::with_capacity((packed.bytes.len() / USUAL).min(MOST_GUESSED));
    while !reader.bytes.is_empty() {
        let one = next(&mut reader, &mut beside);
        all.push(one.ok_or_else(|| Malformed("what is packed does not fit together".to_string()))?);
    }
    match beside.next() {
        None => Ok(all),
        Some(_) => Err(Malformed("something is left over".to_string())),
    }
}

/// Tasks to run.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Tasks {
    packed: Packed,
    /// Names and inputs of those that have any.
    beside: Vec<(Option<String>, Vec<Input>)>,
}

impl Tasks {
    /// With room for so many, whose bodies take about so many bytes each.
    pub(crate) fn with_room(tasks: usize, body: usize) -> Self {
        Self { packed: Packed::with_room(tasks, body), beside: Vec::new() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.packed.bytes.is_empty()
    }

    pub(crate) fn push(&mut self, task: Task<&[u8]>) {
        let Task { id, name, attempt, deliver, alone, suspect, rank, building, parts, body, inputs, arrived: _ } = task;
        let beside = name.is_some() || !inputs.is_empty();
        let flag = |on: bool, flag: u8| if on { flag } else { 0 };
        let care = flag(alone, ALONE) | flag(suspect, SUSPECT) | flag(!building.is_empty(), BUILDING);
        let care = care | flag(rank != LAST, RANK);
        let wanted = flag(deliver, DELIVER) | flag(!parts.is_empty(), PARTS);
        self.packed.begin(flag(beside, BESIDE) | wanted | care, id);
        self.packed.put(attempt.to_le_bytes());
        if rank != LAST {
            self.packed.put(rank.to_le_bytes());
        }
        if !building.is_empty() {
            self.packed.put((building.len() as u32).to_le_bytes());
            building.iter().for_each(|state| self.packed.put(state.to_le_bytes()));
        }
        if !parts.is_empty() {
            self.packed.put((parts.len() as u32).to_le_bytes());
            for WantedPart { index, place, deliver } in parts {
                self.packed.put(index.to_le_bytes());
                self.packed.put(place.to_le_bytes());
                self.packed.put([deliver.into()]);
            }
        }
        self.packed.put_slice(body);
        if beside {
            self.beside.push((name, inputs));
        }
    }

    pub(crate) fn unpack(self) -> Result<Vec<Task>, Malformed> {
        let arrived = ticks();
        unpack(&self.packed, self.beside, |reader, beside| {
            let (flags, id) = reader.begin()?;
            let attempt = u16::from_le_bytes(reader.get()?);
            let rank = if flags & RANK == 0 { LAST } else { Rank::from_le_bytes(reader.get()?) };
            let building = if flags & BUILDING == 0 { Vec::new() } else { reader.states()? };
            let parts = if flags & PARTS == 0 { Vec::new() } else { reader.parts()? };
            let body = reader.slice()?.into();
            let (name, inputs) = if flags & BESIDE == 0 { Default::default() } else { beside.next()? };
            let [deliver, alone, suspect] = [DELIVER, ALONE, SUSPECT].map(|flag| flags & flag != 0);
            Some(Task { id, name, attempt, deliver, alone, suspect, rank, building, parts, body, inputs, arrived })
        })
    }
}

/// How runs of tasks ended.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Completions {
    packed: Packed,
    /// Outcomes that are no value, or one with segments.
    beside: Vec<Outcome>,
}

impl Completions {
    /// With room for so many small ones.
    pub(crate) fn with_room(completions: usize) -> Self {
        Self { packed: Packed::with_room(completions, 8), beside: Vec::new() }
    }

    pub(crate) fn push(&mut self, completion: Completion) {
        let Completion { id, attempt, run_us, outcome } = completion;
        let in_place = matches!(&outcome, Outcome::Value(payload) if payload.is_plain());
        self.packed.begin(if in_place { 0 } else { BESIDE }, id);
        self.packed.put(attempt.to_le_bytes());
        self.packed.put(run_us.to_le_bytes());
        match outcome {
            Outcome::Value(payload) if in_place => self.packed.put_slice(&payload.bytes),
            outcome => self.beside.push(outcome),
        }
    }

    pub(crate) fn unpack(self) -> Result<Vec<Completion>, Malformed> {
        unpack(&self.packed, self.beside, |reader, beside| {
            let (flags, id) = reader.begin()?;
            let attempt = u16::from_le_bytes(reader.get()?);
            let run_us = u32::from_le_bytes(reader.get()?);
            let outcome =
                if flags & BESIDE == 0 { Outcome::Value(Payload::inline(reader.slice()?)) } else { beside.next()? };
            Some(Completion { id, attempt, run_us, outcome })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipc::frame::Frame;
    use crate::ipc::segment::listing::Shown;
    use crate::message::{self, KIND};

    fn id(number: u32, index: u32) -> TaskId {
        TaskId { job: JobId { session: SessionId(3), number }, index }
    }

    /// As the other side of a wire has it.
    fn sent<M: Serialize + serde::de::DeserializeOwned>(message: &M) -> M {
        let (mut body, _) = message::encode(message).expect("encodes");
        Shown::default().append(&mut body, &[]);
        message::decode(Frame { kind: KIND, body, fds: Vec::new() }, &mut message::NoSegments).expect("decodes")
    }

    #[test]
    fn tasks_come_back() {
        let plain = |id| Task {
            id,
            name: None,
            attempt: 7,
            deliver: true,
            alone: false,
            suspect: false,
            rank: LAST,
            building: Vec::new(),
            parts: Vec::new(),
            body: &b"body"[..],
            inputs: Vec::new(),
            arrived: 0,
        };
        let all = || {
            [
                plain(id(1, 0)),
                Task { inputs: vec![Input::Pending { id: id(1, 0) }], deliver: false, ..plain(id(1, u32::MAX)) },
                Task {
                    name: Some("n".to_string()),
                    alone: true,
                    suspect: true,
                    rank: -7,
                    building: vec![1, u64::MAX],
                    ..plain(id(2, 0))
                },
                Task { body: &[1; 5000], ..plain(id(2, 1)) },
                Task {
                    parts: vec![
                        WantedPart { index: 3, place: 0, deliver: true },
                        WantedPart { index: 1 << 30, place: u32::MAX, deliver: false },
                    ],
                    ..plain(id(2, 2))
                },
            ]
        };
        let told = format!("{:?}", all());
        let mut tasks = Tasks::default();
        assert!(tasks.is_empty());
        all().into_iter().for_each(|task| tasks.push(task));
        let mut unpacked = sent(&tasks).unpack().expect("unpacks");
        assert!(unpacked.iter_mut().all(|task| std::mem::take(&mut task.arrived) > 0));
        assert_eq!(format!("{unpacked:?}"), told);
    }

    #[test]
    fn ends_come_back() {
        let end = |index, outcome| Completion { id: id(1, index), attempt: 1, run_us: index, outcome };
        let all = [
            end(0, Outcome::Value(Payload::inline(&[1, 2]))),
            end(9, Outcome::Held { nbytes: 5, encoded: 4, bound: true }),
            end(1 << 30, Outcome::Cancelled),
            end(3, Outcome::Value(Payload::inline(&[]))),
            end(
                4,
                Outcome::Parts(vec![
                    (5, Outcome::Value(Payload::inline(&[7]))),
                    (6, Outcome::Held { nbytes: 5, encoded: 4, bound: false }),
                ]),
            ),
        ];
        let told = format!("{all:?}");
        let mut ends = Completions::default();
        all.into_iter().for_each(|one| ends.push(one));
        assert_eq!(format!("{:?}", sent(&ends).unpack().expect("unpacks")), told);
    }

    #[test]
    fn what_is_cut_off_or_left_over_is_refused() {
        let mut whole = Completions::default();
        whole.push(Completion { id: id(1, 2), attempt: 1, run_us: 1, outcome: Outcome::Cancelled });
        let of =
            |bytes: &[u8], beside| Completions { packed: Packed { bytes: bytes.to_vec(), job: None }, beside }.unpack();
        let bytes = whole.packed.bytes;
        assert!(of(&bytes, vec![Outcome::Cancelled]).is_ok());
        assert!(of(&bytes, vec![]).is_err());
        assert!(of(&bytes, vec![Outcome::Cancelled; 2]).is_err());
        for n in 1..bytes.len() {
            assert!(of(&bytes[..n], vec![Outcome::Cancelled]).is_err(), "{n}");
        }
        assert!(of(&[SAME_JOB, 0, 0, 0, 0], vec![]).is_err(), "there is no entry before");
    }
}
