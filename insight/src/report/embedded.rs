//! The answers of a source, as they are in a report: JSON, compressed, in base64.

use crate::source::{
    Answer, Death, DiagnosisAnswer, EventRow, GroupRow, LogRow, MemoryOverTime, NameRow, Page, ProfileAnswer, Rows,
    Source, SourceError, Status, Stream, SystemFacts, TaskRow, VERSION, Window, WorkerRow,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Serialize;
use std::time::Duration;

/// So many cells of the stream are in a report, in all rows together, and so many in a row.
const MOST_CELLS: usize = 40_000;
const MOST_CELLS_OF_ROW: usize = 4000;
const LEAST_CELLS_OF_ROW: usize = 150;
/// So many points of memory over time, of all workers together.
const MOST_POINTS: usize = 20_000;
/// So many rows of lists.
const MOST_ROWS: usize = 2000;
const MOST_TASKS: usize = 2500;
const MOST_LINES: usize = 5000;
/// So many bytes of lines and of events.
const MOST_TEXT: usize = 1 << 20;

#[derive(Serialize)]
struct Embedded {
    version: u32,
    status: Status,
    diagnosis: DiagnosisAnswer,
    groups: Rows<GroupRow>,
    names: Rows<NameRow>,
    workers: Rows<WorkerRow>,
    tasks: Rows<TaskRow>,
    stream: Stream,
    memory: MemoryOverTime,
    profile: ProfileAnswer,
    logs: Rows<LogRow>,
    events: Rows<EventRow>,
    deaths: Rows<Death>,
    system: SystemFacts,
}

pub(super) fn encoded(source: &dyn Source, status: &Status) -> Answer<String> {
    let json = serde_json::to_vec(&answers(source, status)?);
    let packed = json.map_err(std::io::Error::from).and_then(|json| {
        let mut packer = GzEncoder::new(Vec::new(), Compression::default());
        std::io::Write::write_all(&mut packer, &json)?;
        packer.finish()
    });
    let packed = packed.map_err(|e| SourceError::new("the report", e.to_string()))?;
    Ok(STANDARD.encode(packed))
}

fn answers(source: &dyn Source, status: &Status) -> Answer<Embedded> {
    let (from, until) = (Duration::from_nanos(status.from_ns), Duration::from_nanos(status.until_ns));
    let threads = status.threads.max(1);
    let width = (MOST_CELLS / threads).clamp(LEAST_CELLS_OF_ROW, MOST_CELLS_OF_ROW);
    let stream = source.stream(&Window::new(from, until, width))?;
    let points = (MOST_POINTS / status.workers.clamp(1, 64)).clamp(100, 1000);
    let mut logs = rows(MOST_LINES, |page| source.logs(page))?;
    keep_newest(&mut logs, |line| line.text.len() + line.worker.len() + line.key.as_ref().map_or(0, String::len));
    let mut events = rows(MOST_ROWS, |page| source.events(page))?;
    keep_newest(&mut events, |event| event.text.len());
    Ok(Embedded {
        version: VERSION,
        status: status.clone(),
        diagnosis: source.diagnosis()?,
        groups: rows(MOST_ROWS, |page| source.groups(page))?,
        names: rows(MOST_ROWS, |page| source.names(page))?,
        workers: rows(MOST_ROWS, |page| source.workers(page))?,
        tasks: rows(MOST_TASKS, |page| source.tasks(page))?,
        stream,
        memory: source.memory(&Window::new(from, until, points))?,
        profile: source.profile()?,
        logs,
        events,
        deaths: rows(MOST_ROWS, |page| source.deaths(page))?,
        system: source.system()?,
    })
}

/// The first rows of a list, page by page, with the number of all.
fn rows<T>(most: usize, ask: impl Fn(&Page) -> Answer<Rows<T>>) -> Answer<Rows<T>> {
    let mut all = ask(&Page::at(0))?;
    while all.rows.len() < all.total.min(most) {
        let next = ask(&Page::at(all.rows.len()).limit(most - all.rows.len()))?;
        if next.rows.is_empty() {
            break;
        }
        all.rows.extend(next.rows);
    }
    Ok(all)
}

/// Leaves the newest rows, as far as there is room for their text.
fn keep_newest<T>(rows: &mut Rows<T>, size: impl Fn(&T) -> usize) {
    let mut left = MOST_TEXT;
    let fit = rows.rows.iter().rev().take_while(|row| {
        let has_room = size(row) <= left;
        left = left.saturating_sub(size(row));
        has_room
    });
    let gone = rows.rows.len() - fit.count();
    rows.rows.drain(..gone);
    rows.dropped = rows.dropped.saturating_add(gone as u64);
    rows.total -= gone;
}
