//! What processes say to each other, and how it becomes frames.
//!
//! Messages are bincode. A [`Payload`] in one leaves its segments beside it: a thread-local list collects them while a
//! message is encoded, to be listed behind it ([`listing`]), and hands them out again while it is decoded.

mod packed;
pub(crate) mod question;

pub(crate) use crate::bytes::Bytes;
use crate::coordinator;
use crate::error::{KeyError, LogLine};
use crate::events::journal::Step;
use crate::fairness::{Queued, Rank};
use crate::ids::{SessionId, TaskId, WorkerId};
use crate::ipc::frame::Frame;
use crate::ipc::page::PageName;
use crate::ipc::payload::Payload;
use crate::ipc::segment::listing::{self, Listed, ListedFile, ListedSegment, Shown};
use crate::ipc::segment::{Arrival, FileId, Segment, SegmentId};
use crate::job::{Delivery, Failure, Input, JobSpec, SharedPayload, WantedPart};
use crate::memory::thresholds::Thresholds;
use crate::profile::ProfileCommand;
use crate::resources::Resources;
use crate::settings::{Settings, WorkerHooks};
use crate::status::Explanation;
use crate::task::image::BuildId;
use crate::task::wait::WaitKind;
use crate::version::{self, VERSION};
use bincode::enc::write::Writer;
pub(crate) use packed::{Completions, PART, Tasks};
pub(crate) use question::{Answer, Ask, Question, RanBeside};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The kind of all frames but these two: the message says what it is.
pub(crate) const KIND: u8 = 1;
/// The kind of the first frame of a program that attaches: eight bytes of version, and behind them a message.
pub(crate) const FIRST: u8 = 2;
/// The kind of the answer where that is refused: plain text. Peers of any other version must be able to read these two.
pub(crate) const REFUSED: u8 = 3;

/// Supervisor to worker.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToWorker {
    Welcome(Box<Welcome>),
    Run(Tasks),
    Cancel(Vec<TaskId>),
    Fetch(Vec<TaskId>),
    Drop(Vec<TaskId>),
    /// Keep these values until told to drop them.
    Share(Vec<SharedPayload>),
    Retract(Vec<TaskId>),
    /// Segments of the worker's that others no longer use, with how often they had been delivered.
    Return(Vec<(SegmentId, u32)>),
    /// These were with a program that has left, and may still read them.
    Abandon(Vec<SegmentId>),
    /// These memory files of others have ended.
    FilesEnded(Vec<FileId>),
    /// Do this beside the tasks.
    RunBeside {
        serial: u64,
        what: Beside,
    },
    /// A message to tasks of the worker that submitted tasks of their own.
    Session(ToSession),
    Shutdown,
}

/// What a worker does beside its tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Beside {
    /// Call the function at this offset.
    Function(u64),
    /// Begin or end to sample its threads, or say what has been sampled.
    Profile(ProfileCommand),
}

/// Worker to supervisor.
#[derive(Debug, Serialize, Deserialize)]
#[expect(
    clippy::large_enum_variant,
    reason = "one is there at a time, and a box for each request of a task would cost more"
)]
pub(crate) enum FromWorker {
    Hello {
        version: u64,
        build: BuildId,
    },
    Done(Completions),
    Retracted(Vec<TaskId>),
    /// Tasks that were to run after others which gave no result here.
    Bounced(Vec<TaskId>),
    Exported(TaskId, Result<Payload, Box<Failure>>),
    /// What was done with results in its store, for the log of events.
    Moved(Vec<MovedResult>),
    Released(Vec<(SegmentId, u32)>),
    /// These memory files of the worker's have ended.
    FilesEnded(Vec<FileId>),
    /// A function that it calls for the first time, for a supervisor that cannot look it up.
    Function {
        /// As in [`RecordedRun`](crate::ipc::ring::RecordedRun).
        log_id: u64,
        name: String,
    },
    /// What tasks of these keys have written to standard output or error.
    Printed {
        /// As in [`OutputChunk`](crate::ipc::captured::OutputChunk).
        number: u64,
        stderr: bool,
        bytes: Bytes,
        tasks: Vec<String>,
    },
    /// A task of the worker begins (1) or ends (-1) to wait for tasks of its own: which one.
    Blocked(i32, Option<(TaskId, WaitKind)>),
    /// It starts no tasks for want of memory, or does so again.
    Paused(bool),
    /// It found no room in shared memory.
    NoRoomNow,
    /// What a program has it do first is done.
    Ready,
    /// That has failed: what it said.
    NotSetUp(String),
    /// What became of what it was to do beside its tasks.
    RanBeside {
        serial: u64,
        result: RanBeside,
    },
    /// It was sent SIGTERM, and asks to be replaced.
    Retire,
    Session(Request),
}

/// What a worker is told about itself.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Welcome {
    pub(crate) id: WorkerId,
    pub(crate) name: String,
    /// The number under which it makes segments.
    pub(crate) owner: u32,
    pub(crate) threads: usize,
    pub(crate) memory_limit: Option<u64>,
    pub(crate) thresholds: Thresholds,
    /// Where results go that do not fit into memory.
    pub(crate) spill_directory: Option<PathBuf>,
    pub(crate) supervisor_page: PageName,
    pub(crate) own_page: PageName,
    /// The session of its tasks that submit tasks.
    pub(crate) session: SessionId,
    /// Whether time stamps are the processor's counter's.
    pub(crate) counter: bool,
    /// Whether the supervisor is another program, which does not know the functions of this one.
    pub(crate) other_program: bool,
    /// Where pieces of shuffles go, if that was said.
    pub(crate) shuffle_directory: Option<PathBuf>,
    /// What it does first and last.
    pub(crate) hooks: WorkerHooks,
    /// What each of the workers has of resources.
    pub(crate) resources: Vec<Resources>,
}

/// A result that a worker has moved between memory and disk.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct MovedResult {
    pub(crate) task: TaskId,
    /// Back to memory.
    pub(crate) loaded: bool,
    pub(crate) bytes: u64,
    pub(crate) took: Duration,
}

/// One task to run.
#[derive(Debug)]
pub(crate) struct Task<B = Bytes> {
    pub(crate) id: TaskId,
    pub(crate) name: Option<String>,
    pub(crate) attempt: u16,
    pub(crate) deliver: bool,
    /// It is to have the worker's memory for itself.
    pub(crate) alone: bool,
    /// It may have ended a worker before.
    pub(crate) suspect: bool,
    /// It starts before those in the queue that have a higher rank.
    pub(crate) rank: Rank,
    /// The worker-local state whose building it is a part of.
    pub(crate) building: Vec<u64>,
    /// Of a task whose result is taken apart, the parts that are wanted.
    pub(crate) parts: Vec<WantedPart>,
    pub(crate) body: B,
    pub(crate) inputs: Vec<Input>,
    /// When its worker had it, by [`ticks`](crate::ipc::clock::ticks) there; it is not sent.
    pub(crate) arrived: u64,
}

impl<B> Queued for Task<B> {
    fn rank(&self) -> Rank {
        self.rank
    }
}

/// Client to supervisor.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    Submit {
        number: u32,
        spec: JobSpec,
    },
    /// More tasks of a job that is open. They count on from those there are, and need only each other.
    Grow {
        number: u32,
        part: JobSpec,
    },
    Release {
        number: u32,
        outputs: Vec<u32>,
    },
    Cancel {
        number: u32,
        outputs: Vec<u32>,
    },
    /// Send the value of an output that was only to be kept.
    Deliver {
        number: u32,
        outputs: Vec<u32>,
    },
    Retry {
        number: u32,
        outputs: Vec<u32>,
    },
    /// How much of the workers' time its graphs get, beside those of sessions of weight 1.
    Weight(f64),
    /// Segments of others that the client no longer uses.
    Released(Vec<(SegmentId, u32)>),
    /// These memory files of the client's have ended.
    FilesEnded(Vec<FileId>),
    Ask {
        ticket: u64,
        question: Question,
    },
    /// About locks, queues and so on.
    Coordinate(coordinator::Request<Payload>),
    /// A task of this session, or of another one, has something to say.
    Note(Box<Step>),
}

/// Supervisor to client.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToSession {
    Deliveries(Vec<Delivery>),
    Answer(u64, Answer),
    /// To a call about locks, queues and so on.
    Called(u64, coordinator::Answer<Payload>),
    Return(Vec<(SegmentId, u32)>),
    /// These were with another program that has left, and may still read them.
    Abandon(Vec<SegmentId>),
    /// These memory files of others have ended.
    FilesEnded(Vec<FileId>),
    /// Nothing will come any more.
    Closed {
        reason: String,
        /// No worker could be set up.
        unstarted: bool,
    },
    /// A submission was refused as a whole.
    Refused {
        number: u32,
        reason: String,
    },
}

/// The first message of a program that attaches to a local cluster; the executable's descriptor comes with it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Attach {
    /// Run my tasks.
    Program { build: BuildId, name: String, hooks: WorkerHooks },
    /// Only read the state of the cluster, or control it.
    Control(Control),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Control {
    Status,
    Stop,
    /// Let nobody in, and stop when no graph is under way, or the time is over.
    Drain {
        millis: Option<u64>,
    },
    Restart,
    /// Replace a worker of the programs of a build: in order, or after that time by force.
    RestartWorker {
        build: String,
        worker: String,
        millis: u64,
    },
    Retire {
        build: String,
        workers: Vec<String>,
    },
    Scale(usize),
    /// Why the task is where it is whose key begins so.
    Explain {
        key: String,
    },
    /// Have what has happened in a log: in the recording, or, where there is none, in a new file there.
    SaveEvents {
        path: PathBuf,
    },
    /// What workers have printed since then, in nanoseconds since 1970.
    Logs {
        since: u64,
    },
}

/// The local cluster's answer.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Attached {
    Welcome {
        session: SessionId,
        owner: u32,
        supervisor_page: PageName,
        own_page: PageName,
        settings: Box<Settings>,
    },
    Status(Box<crate::status::ClusterStatus>),
    Explained(Box<Result<Explanation, KeyError>>),
    /// Each line with the build it is from.
    Logs(Vec<(String, LogLine)>),
    /// What has happened is in that file.
    Saved(PathBuf),
    Done,
    /// It has stopped, and so many tasks were still to be done.
    Drained {
        cut: u64,
    },
    Refused(String),
}

/// A payload as it is written.
#[derive(Serialize)]
struct PayloadOut<'a> {
    bytes: &'a Bytes,
    in_segment: Option<u64>,
    segments: Vec<SegmentId>,
}

/// A payload as it is read.
#[derive(Deserialize)]
struct PayloadIn {
    bytes: Bytes,
    in_segment: Option<u64>,
    segments: Vec<SegmentId>,
}

/// Takes in what comes with a message beside its bytes.
pub(crate) trait Receive {
    /// A memory file that is shown.
    fn file(&mut self, listed: ListedFile, fd: OwnedFd) -> Result<(), String>;
    /// A segment that belongs to the message.
    fn segment(&mut self, listed: ListedSegment) -> Result<Arc<Segment>, String>;
}

impl Receive for Arrival<'_> {
    fn file(&mut self, listed: ListedFile, fd: OwnedFd) -> Result<(), String> {
        Arrival::file(self, listed, fd).map_err(|e| e.to_string())
    }

    fn segment(&mut self, listed: ListedSegment) -> Result<Arc<Segment>, String> {
        Arrival::segment(self, listed).map_err(|e| e.to_string())
    }
}

thread_local! {
    static OUT: RefCell<Vec<Arc<Segment>>> = const { RefCell::new(Vec::new()) };
    /// Segments that came with the frame being decoded, in the order in which its payloads name them, last first.
    static IN: RefCell<Vec<Arc<Segment>>> = const { RefCell::new(Vec::new()) };
}

impl Serialize for Payload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let segments = self.segments();
        if !segments.is_empty() {
            OUT.with_borrow_mut(|out| out.extend(segments.iter().cloned()));
        }
        let segments = segments.iter().map(|s| s.id()).collect();
        PayloadOut { bytes: &self.bytes, in_segment: self.in_segment(), segments }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wire = PayloadIn::deserialize(deserializer)?;
        let next = |id: &SegmentId| IN.with_borrow_mut(|waiting| waiting.pop()).filter(|s| s.id() == *id);
        let segments: Option<Vec<_>> = wire.segments.iter().map(next).collect();
        let segments =
            segments.ok_or_else(|| D::Error::custom("a payload names segments that did not come with it"))?;
        let room = segments.last().map_or(0, |s| s.len() as u64);
        if wire.in_segment.is_some_and(|n| n > room) {
            return Err(D::Error::custom("a payload is longer than its segment"));
        }
        Ok(Payload::new(wire.bytes, segments, wire.in_segment))
    }
}

/// A frame that makes no sense.
#[derive(Debug, thiserror::Error)]
#[error("malformed message: {0}")]
pub(crate) struct Malformed(pub(crate) String);

fn config() -> bincode::config::Configuration {
    bincode::config::standard()
}

/// Collects a message.
struct Body<'a>(&'a mut Vec<u8>);

impl Writer for Body<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), bincode::error::EncodeError> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

/// A message, and the segments that belong to it, which are to be listed behind it.
pub(crate) fn encode<M: Serialize>(message: &M) -> Result<(Vec<u8>, Vec<Arc<Segment>>), Malformed> {
    OUT.with_borrow_mut(Vec::clear);
    let mut body = Vec::with_capacity(64);
    let encoded = bincode::serde::encode_into_writer(message, Body(&mut body), config());
    let segments = OUT.with_borrow_mut(std::mem::take);
    encoded.map_err(|e| Malformed(e.to_string()))?;
    Ok((body, segments))
}

/// The body of a first message. It carries no segments.
pub(crate) fn encode_first(word: &Attach) -> Result<Vec<u8>, Malformed> {
    let mut body = [VERSION.to_le_bytes().as_slice(), &encode(word)?.0].concat();
    Shown::default().append(&mut body, &[]);
    Ok(body)
}

/// Reads a first message, if it is of our version.
pub(crate) fn decode_first(mut frame: Frame) -> Result<Attach, String> {
    let Some(version) = frame.body.first_chunk().copied().filter(|_| frame.kind == FIRST) else {
        return Err("malformed message: it does not begin with a version".to_string());
    };
    let version = u64::from_le_bytes(version);
    if version != VERSION {
        return Err(format!(
            "the program is built with another swath (protocol {version:016x}) than the cluster, which is of {}: stop the \
             cluster and start it with the `local-cluster` of the program's swath, or build the program with the cluster's",
            version::describe()
        ));
    }
    frame.body.drain(..size_of_val(&version));
    frame.kind = KIND;
    decode(frame, &mut NoSegments).map_err(|e| e.to_string())
}

/// Reads a message. The segments that come with it go through `receive`.
pub(crate) fn decode<M: DeserializeOwned>(frame: Frame, receive: &mut dyn Receive) -> Result<M, Malformed> {
    open(frame, receive)?.read()
}

/// A message whose segments have been taken in, and whose body has not been read.
#[derive(Debug)]
pub(crate) struct Opened {
    body: Vec<u8>,
    /// In the order in which payloads name them, last first.
    segments: Vec<Arc<Segment>>,
}

/// Takes in what comes with a message. That takes no time in proportion to its body, as reading it does.
pub(crate) fn open(mut frame: Frame, receive: &mut dyn Receive) -> Result<Opened, Malformed> {
    if frame.kind != KIND {
        return Err(Malformed(format!("a frame of kind {}", frame.kind)));
    }
    let Listed { body, files, segments: listed_segments } =
        listing::split(&frame.body, std::mem::take(&mut frame.fds)).map_err(Malformed)?;
    for (listed, fd) in files {
        receive.file(listed, fd).map_err(Malformed)?;
    }
    // Backwards: the list is emptied from its end. All of them are taken, also where one is refused, so that each counts.
    let segments: Vec<_> = listed_segments.into_iter().map(|listed| receive.segment(listed)).collect();
    let segments = segments.into_iter().rev().collect::<Result<Vec<_>, _>>().map_err(Malformed)?;
    let len = body.len();
    frame.body.truncate(len);
    Ok(Opened { body: frame.body, segments })
}

impl Opened {
    /// Bytes of the body.
    pub(crate) fn len(&self) -> usize {
        self.body.len()
    }

    pub(crate) fn read<M: DeserializeOwned>(self) -> Result<M, Malformed> {
        IN.replace(self.segments);
        let decoded = bincode::serde::borrow_decode_from_slice::<M, _>(&self.body, config());
        let left = IN.take();
        match decoded {
            Ok((message, used)) if used == self.body.len() && left.is_empty() => Ok(message),
            Ok(_) => Err(Malformed("something is left over".to_string())),
            Err(e) => Err(Malformed(e.to_string())),
        }
    }
}

/// For peers that have no segments to send: refuses them all.
pub(crate) struct NoSegments;

impl Receive for NoSegments {
    fn file(&mut self, listed: ListedFile, _: OwnedFd) -> Result<(), String> {
        Err(format!("memory file {} is not expected here", listed.id))
    }

    fn segment(&mut self, listed: ListedSegment) -> Result<Arc<Segment>, String> {
        Err(format!("segment {} is not expected here", listed.id))
    }
}
