//! Log records, on their way to the program's logger.

use super::queue::{Item, Queue};
use super::{footer, has_supervisor};
use log::{Level, Record};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Bytes that records which wait may take.
const ROOM: usize = 1 << 20;

pub(super) static RECORDS: Queue<LogRecord> =
    Queue::new("swath-logger", ROOM, |record| emit(record.level, record.origin, format_args!("{}", record.text)));

/// Where a record is from.
#[derive(Clone, Copy)]
pub(crate) struct Origin {
    pub(crate) module: &'static str,
    pub(crate) file: &'static str,
    pub(crate) line: u32,
}

/// What [`report!`](super::report) does.
pub(crate) fn log_record(level: Level, origin: Origin, text: fmt::Arguments<'_>) {
    if has_supervisor() {
        RECORDS.push(LogRecord { level, origin, text: text.to_string() });
    } else {
        // A logger that panics loses what it was to log; whoever logs goes on.
        let _ = catch_unwind(AssertUnwindSafe(|| emit(level, origin, text)));
    }
}

fn emit(level: Level, origin: Origin, text: fmt::Arguments<'_>) {
    let record = Record::builder()
        .level(level)
        .target(origin.module)
        .module_path_static(Some(origin.module))
        .file_static(Some(origin.file))
        .line(Some(origin.line))
        .args(text)
        .build();
    let logger = log::logger();
    if logger.enabled(record.metadata()) {
        footer::above(|| logger.log(&record));
    }
}

pub(super) struct LogRecord {
    level: Level,
    origin: Origin,
    text: String,
}

impl Item for LogRecord {
    type Dropped = u64;

    fn size(&self) -> usize {
        size_of::<Self>() + self.text.len()
    }

    fn append(&mut self, next: Self) -> Option<Self> {
        Some(next)
    }

    fn drop_into(self, dropped: &mut u64) {
        *dropped += 1;
    }

    fn instead(dropped: u64) -> Self {
        let text = format!("{dropped} log records were dropped here, because the logger did not take them in time");
        Self { level: Level::Warn, origin: Origin { module: module_path!(), file: file!(), line: line!() }, text }
    }
}
