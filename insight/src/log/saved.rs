//! Reads a saved log.

use super::chunk::{ChunkKind, HEADER, Header, MOST_PAYLOAD, SYNC};
use super::event::Event;
use super::format1;
use super::head::{FIXED, Head, MAGIC};
use super::rows::{Folded, Input, read_folded, read_inputs, read_objects};
use super::run::Run;
use super::run_rows::read_runs;
use super::writer::{SavedCounts, Totals};
use super::{LogError, MemorySample, ThreadTime};
use crate::GroupProgress;
use memchr::memmem;
use serde::de::DeserializeOwned;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// What stands for the path of a log that has no file.
const IN_MEMORY: &str = "the log in memory";

/// How a saved log ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ending {
    /// In order: its writer has finished it.
    Finished,
    /// With a whole chunk, but its writer was ended, or still writes.
    Unfinished,
    /// Within a chunk, which begins at this byte.
    Cut {
        /// Where.
        offset: u64,
    },
}

/// A chunk of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChunkInfo {
    /// What is in it.
    pub kind: ChunkKind,
    /// Where it begins in the file.
    pub offset: u64,
    /// How many bytes it takes.
    pub bytes: u64,
    /// How many runs, events … are in it.
    pub count: u32,
    /// The earliest time in it.
    pub from: Duration,
    /// The latest time in it.
    pub to: Duration,
}

/// A log as it was saved. Opening it reads where its chunks are; what is in them is read when it is asked for, chunk by
/// chunk.
///
/// A chunk that is damaged is told as an error, once, wherever it is met; everything else is read.
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use swath_insight::log::{Ending, Event, EventKind, Head, SavedLog, Writer};
/// let path = std::env::temp_dir().join(format!("swath-saved-{}.swath", std::process::id()));
/// let mut writer = Writer::create(&path, &Head::new("0.1.0", SystemTime::now()))?;
/// writer.event(Event::new(Duration::from_secs(1), EventKind::GraphCancelled { graph: 3 }));
/// writer.finish()?;
///
/// let log = SavedLog::open(&path)?;
/// assert_eq!((log.format(), log.ending()), (2, Ending::Finished));
/// let text = log.events().next().expect("one event")?.to_string();
/// assert_eq!(text, "    1.000000 s: graph 3 was cancelled");
/// # std::fs::remove_file(path)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct SavedLog {
    pub(super) path: PathBuf,
    pub(super) format: u32,
    pub(super) head: Head,
    pub(super) body: Body,
    ending: Ending,
    problems: Vec<String>,
}

#[derive(Debug)]
pub(super) enum Body {
    Chunks { file: File, chunks: Vec<Chunk> },
    Memory { runs: Arc<[Run]>, events: Arc<[Event]>, groups: Vec<GroupProgress> },
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Chunk {
    offset: u64,
    header: Header,
}

impl SavedLog {
    /// Opens a log of format 2 or 1. One of format 1 is read at once.
    ///
    /// # Errors
    /// [`LogError::Io`] where the file cannot be read, [`LogError::NotAFile`] for a directory or a device,
    /// [`LogError::NotALog`] for another file, [`LogError::Newer`] for one of a later format, [`LogError::Line`] for one of
    /// format 1 with a line that is no event.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, LogError> {
        let path = path.as_ref();
        let failed = |source| LogError::Io { action: "open", path: path.into(), source };
        // Before it is opened: a pipe would have its opener wait.
        let metadata = std::fs::metadata(path).map_err(failed)?;
        if !metadata.is_file() {
            return Err(LogError::NotAFile { path: path.into() });
        }
        let file = File::open(path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        let mut first = [0; FIXED];
        let there = usize::try_from(length).unwrap_or(FIXED).min(FIXED);
        file.read_exact_at(&mut first[..there], 0).map_err(failed)?;
        if first[..there].starts_with(&MAGIC) {
            return Self::index(file, path, length);
        }
        if first[..there].iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{') {
            let (head, runs, events, is_cut) = format1::read(file, path)?;
            let problems = if is_cut { vec!["the last line is cut off".to_string()] } else { Vec::new() };
            let ending = if is_cut { Ending::Cut { offset: length } } else { Ending::Finished };
            let body = Body::Memory { runs: runs.into(), events: events.into(), groups: Vec::new() };
            return Ok(Self { path: path.into(), format: 1, head, body, ending, problems });
        }
        let reason = match there {
            0 => "it is empty".to_string(),
            _ if MAGIC.starts_with(&first[..there]) => "it ends within its first bytes".to_string(),
            _ => format!("it begins with {}", first[..there].escape_ascii()),
        };
        Err(LogError::NotALog { path: path.into(), reason })
    }

    /// A log of what a program has in memory: for what can be made of a saved one.
    #[must_use]
    pub fn of(
        head: Head,
        runs: impl Into<Arc<[Run]>>,
        events: impl Into<Arc<[Event]>>,
        groups: Vec<GroupProgress>,
    ) -> Self {
        let body = Body::Memory { runs: runs.into(), events: events.into(), groups };
        let path = PathBuf::from(IN_MEMORY);
        Self { path, format: super::FORMAT, head, body, ending: Ending::Finished, problems: Vec::new() }
    }

    /// Finds the chunks.
    fn index(file: File, path: &Path, length: u64) -> Result<Self, LogError> {
        let failed = |source| LogError::Io { action: "read", path: path.into(), source };
        let mut problems = Vec::new();
        let mut chunks = Vec::new();
        let mut offset = FIXED as u64;
        let head = match read_head(&file, path, length).map_err(failed)? {
            Some((head, end)) => {
                offset = end;
                head?
            }
            None => {
                problems.push(format!("the head at byte 0 is damaged: times count from an unknown moment{SEE}"));
                let next = find_chunk(&file, offset, length).map_err(failed)?;
                let reason = "its head is damaged, and nothing follows it".to_string();
                offset = next.ok_or_else(|| LogError::NotALog { path: path.into(), reason })?.offset;
                Head::unknown()
            }
        };
        let mut ending = Ending::Unfinished;
        while offset < length {
            match chunk_at(&file, offset, length).map_err(failed)? {
                Found::Whole(header) => {
                    ending = if header.kind == ChunkKind::End { Ending::Finished } else { Ending::Unfinished };
                    chunks.push(Chunk { offset, header });
                    offset += (HEADER + header.length as usize) as u64;
                }
                Found::CutOff => {
                    ending = Ending::Cut { offset };
                    break;
                }
                Found::Nothing => {
                    let Some(next) = find_chunk(&file, offset + 1, length).map_err(failed)? else {
                        ending = Ending::Cut { offset };
                        break;
                    };
                    let lost = next.offset - offset;
                    problems.push(format!("{lost} bytes at byte {offset} are damaged; what follows them can be read"));
                    offset = next.offset;
                }
            }
        }
        match ending {
            Ending::Finished => {}
            Ending::Unfinished => problems.push(format!("it was not ended in order; it ends at byte {length}")),
            Ending::Cut { offset } => problems
                .push(format!("it is cut off or damaged from byte {offset} on; everything before that can be read")),
        }
        let body = Body::Chunks { file, chunks };
        Ok(Self { path: path.into(), format: super::FORMAT, head, body, ending, problems })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it was made of what is in memory, and has no file.
    pub(crate) fn is_in_memory(&self) -> bool {
        self.path.as_os_str() == IN_MEMORY
    }

    /// Its format: 1 or 2.
    #[must_use]
    pub fn format(&self) -> u32 {
        self.format
    }

    /// Who wrote it, when and where.
    #[must_use]
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// How it ends.
    #[must_use]
    pub fn ending(&self) -> Ending {
        self.ending
    }

    /// What was found to be wrong with it when it was opened, in words. [`check`](Self::check) finds the rest.
    #[must_use]
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    /// Its chunks, in the order of the file. A log of format 1 has none.
    #[must_use]
    pub fn chunks(&self) -> Vec<ChunkInfo> {
        let info = |chunk: &Chunk| ChunkInfo {
            kind: chunk.header.kind,
            offset: chunk.offset,
            bytes: (HEADER + chunk.header.length as usize) as u64,
            count: chunk.header.count,
            from: Duration::from_nanos(chunk.header.from),
            to: Duration::from_nanos(chunk.header.to),
        };
        match &self.body {
            Body::Chunks { chunks, .. } => chunks.iter().map(info).collect(),
            Body::Memory { .. } => Vec::new(),
        }
    }

    /// Up to when it says something, since its start.
    #[must_use]
    pub fn until(&self) -> Duration {
        match &self.body {
            Body::Chunks { chunks, .. } => Duration::from_nanos(chunks.iter().map(|c| c.header.to).max().unwrap_or(0)),
            Body::Memory { runs, events, .. } => {
                let ends = runs.iter().map(|run| run.end.unwrap_or(run.start));
                ends.chain(events.iter().map(|event| event.at)).max().unwrap_or_default()
            }
        }
    }

    /// Reads all chunks, and says which of them are damaged.
    #[must_use]
    pub fn check(&self) -> Vec<LogError> {
        self.check_those(|_| true)
    }

    pub(super) fn check_those(&self, is_wanted: impl Fn(ChunkKind) -> bool) -> Vec<LogError> {
        let Body::Chunks { file, chunks } = &self.body else { return Vec::new() };
        let wanted = chunks.iter().filter(|chunk| is_wanted(chunk.header.kind));
        wanted.filter_map(|chunk| self.payload(file, chunk).err()).collect()
    }

    /// The runs, chunk by chunk in the order in which they were recorded.
    pub fn runs(&self) -> impl Iterator<Item = Result<Run, LogError>> + '_ {
        let of_memory = match &self.body {
            Body::Memory { runs, .. } => &**runs,
            Body::Chunks { .. } => &[],
        };
        of_memory.iter().cloned().map(Ok).chain(each(self.run_chunks()))
    }

    /// The runs as they are in the chunks: some ten thousand at once.
    pub fn run_chunks(&self) -> impl Iterator<Item = Result<Vec<Run>, LogError>> + '_ {
        self.rows(ChunkKind::Runs, read_runs)
    }

    /// The events, chunk by chunk in the order in which they were recorded. Those of kinds that this version does not know
    /// are left out.
    pub fn events(&self) -> impl Iterator<Item = Result<Event, LogError>> + '_ {
        let of_memory = match &self.body {
            Body::Memory { events, .. } => &**events,
            Body::Chunks { .. } => &[],
        };
        of_memory.iter().cloned().map(Ok).chain(each(self.objects(ChunkKind::Events)))
    }

    /// The runs of which there are sums only.
    pub fn folded(&self) -> impl Iterator<Item = Result<Folded, LogError>> + '_ {
        each(self.rows(ChunkKind::Folded, read_folded))
    }

    /// Which results tasks take, as far as that was recorded.
    pub fn inputs(&self) -> impl Iterator<Item = Result<Input, LogError>> + '_ {
        each(self.rows(ChunkKind::Inputs, read_inputs))
    }

    /// The memory of the workers over time.
    pub fn memory(&self) -> impl Iterator<Item = Result<MemorySample, LogError>> + '_ {
        each(self.objects(ChunkKind::Memory))
    }

    /// What threads did with their time, each from its start to the time that it says.
    pub fn thread_times(&self) -> impl Iterator<Item = Result<ThreadTime, LogError>> + '_ {
        each(self.objects(ChunkKind::Uses))
    }

    /// The newest counts of tasks by group and state that can be read; `None` where none were recorded.
    #[must_use]
    pub fn counts(&self) -> Option<Vec<GroupProgress>> {
        match &self.body {
            Body::Memory { groups, .. } => (!groups.is_empty()).then(|| groups.clone()),
            Body::Chunks { .. } => {
                let newest = self.objects_backwards::<SavedCounts>(ChunkKind::Counts)?;
                Some(newest.into_iter().map(|g| GroupProgress::new(g.name, g.graph, g.counts.into())).collect())
            }
        }
    }

    /// What it says at its end of itself.
    pub(super) fn totals(&self) -> Option<Totals> {
        self.objects_backwards(ChunkKind::End)?.pop()
    }

    fn rows<'a, T: 'a>(
        &'a self,
        kind: ChunkKind,
        read: fn(&[u8], u32) -> Option<Vec<T>>,
    ) -> impl Iterator<Item = Result<Vec<T>, LogError>> + 'a {
        let (file, chunks) = match &self.body {
            Body::Chunks { file, chunks } => (Some(file), chunks.as_slice()),
            Body::Memory { .. } => (None, &[][..]),
        };
        let of_kind = chunks.iter().filter(move |chunk| chunk.header.kind == kind);
        of_kind.filter_map(move |chunk| file.map(|file| self.read(file, chunk, read)))
    }

    fn objects<'a, T: DeserializeOwned + 'a>(
        &'a self,
        kind: ChunkKind,
    ) -> impl Iterator<Item = Result<Vec<T>, LogError>> + 'a {
        self.rows(kind, read_objects)
    }

    /// The objects of the last chunk of the kind that can be read.
    fn objects_backwards<T: DeserializeOwned>(&self, kind: ChunkKind) -> Option<Vec<T>> {
        let Body::Chunks { file, chunks } = &self.body else { return None };
        let of_kind = chunks.iter().rev().filter(|chunk| chunk.header.kind == kind);
        of_kind.filter_map(|chunk| self.read(file, chunk, read_objects).ok()).next()
    }

    fn read<T>(&self, file: &File, chunk: &Chunk, read: fn(&[u8], u32) -> Option<Vec<T>>) -> Result<Vec<T>, LogError> {
        let payload = self.payload(file, chunk)?;
        read(&payload, chunk.header.count).ok_or_else(|| self.damaged(chunk, "its rows make no sense"))
    }

    fn payload(&self, file: &File, chunk: &Chunk) -> Result<Vec<u8>, LogError> {
        let mut payload = vec![0; chunk.header.length as usize];
        match file.read_exact_at(&mut payload, chunk.offset + HEADER as u64) {
            Ok(()) if chunk.header.fits(&payload) => Ok(payload),
            Ok(()) => Err(self.damaged(chunk, "it is not what was written")),
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
                Err(self.damaged(chunk, "the file has become shorter"))
            }
            Err(source) => Err(LogError::Io { action: "read", path: self.path.clone(), source }),
        }
    }

    fn damaged(&self, chunk: &Chunk, reason: &str) -> LogError {
        let time = |ns| Duration::from_nanos(ns).as_secs_f64();
        let (from, to) = (time(chunk.header.from), time(chunk.header.to));
        let part = format!("{} from {from:.3} s to {to:.3} s", chunk.header.kind.name());
        LogError::Damaged { path: self.path.clone(), part, offset: chunk.offset, reason: reason.to_string() }
    }
}

/// Where what is in a log can be read all the same.
const SEE: &str = "; its chunks can be read";

/// Each row of the chunks that can be read, and one error for each that cannot.
fn each<T>(chunks: impl Iterator<Item = Result<Vec<T>, LogError>>) -> impl Iterator<Item = Result<T, LogError>> {
    chunks.flat_map(|chunk| {
        let (rows, error) = match chunk {
            Ok(rows) => (rows, None),
            Err(error) => (Vec::new(), Some(Err(error))),
        };
        rows.into_iter().map(Ok).chain(error)
    })
}

type HeadAndEnd = (Result<Head, LogError>, u64);

/// The head, if it is as it was written, and where it ends.
fn read_head(file: &File, path: &Path, length: u64) -> std::io::Result<Option<HeadAndEnd>> {
    if length < FIXED as u64 {
        return Ok(None);
    }
    let mut fixed = [0; FIXED];
    file.read_exact_at(&mut fixed, 0)?;
    let Some(bytes) = Head::length(&fixed).filter(|bytes| *bytes as u64 <= length) else { return Ok(None) };
    let mut head = vec![0; bytes];
    file.read_exact_at(&mut head, 0)?;
    Ok(Head::decode(&head, path).map(|head| (head, bytes as u64)))
}

enum Found {
    Whole(Header),
    CutOff,
    Nothing,
}

fn chunk_at(file: &File, offset: u64, length: u64) -> std::io::Result<Found> {
    let there = length - offset;
    if there < HEADER as u64 {
        return Ok(Found::CutOff);
    }
    let mut bytes = [0; HEADER];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(match Header::decode(&bytes, offset) {
        Some(header) if header.length as usize > MOST_PAYLOAD => Found::Nothing,
        Some(header) if u64::from(header.length) > there - HEADER as u64 => Found::CutOff,
        Some(header) => Found::Whole(header),
        None => Found::Nothing,
    })
}

/// How much is searched at once.
const WINDOW: usize = 1 << 20;

/// The next whole chunk from there on.
fn find_chunk(file: &File, from: u64, length: u64) -> std::io::Result<Option<Chunk>> {
    let finder = memmem::Finder::new(&SYNC);
    let mut window = vec![0; WINDOW];
    let mut at = from;
    while at + HEADER as u64 <= length {
        let there = usize::try_from(length - at).unwrap_or(WINDOW).min(WINDOW);
        file.read_exact_at(&mut window[..there], at)?;
        for place in finder.find_iter(&window[..there]) {
            let offset = at + place as u64;
            if let Found::Whole(header) = chunk_at(file, offset, length)? {
                return Ok(Some(Chunk { offset, header }));
            }
        }
        if there < WINDOW {
            break;
        }
        // A mark can lie across the end of the window.
        at += (WINDOW - SYNC.len() + 1) as u64;
    }
    Ok(None)
}
