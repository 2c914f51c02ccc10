//! Log records of tasks that run in this process.

use crate::host::footer;
use crate::task::context;
use log::{Log, Metadata, Record};

/// A logger that keeps what tasks log in the modes sync and threads, with the task: for [`Client::logs`](crate::Client::logs),
/// [`logs_of`](crate::Client::logs_of), and the file where a client is [recorded](crate::client::Builder::record). It logs as the one
/// that it wraps, above progress bars where there are some.
///
/// A program has one logger, which is its own to choose; so swath installs none in it, and has to be given the records. The
/// records of tasks in worker processes are kept without it: there swath installs `env_logger`, as `RUST_LOG` says. What tasks
/// *print* in these modes goes to the program's own standard output and error, and is not kept.
///
/// ```
/// use swath::client::TaskLog;
/// use swath::{Client, delayed};
/// # struct MyLogger;
/// # impl log::Log for MyLogger {
/// #     fn enabled(&self, _: &log::Metadata) -> bool { true }
/// #     fn log(&self, _: &log::Record) {}
/// #     fn flush(&self) {}
/// # }
/// # let logger = MyLogger;
/// log::set_boxed_logger(Box::new(TaskLog(logger)))?;
/// log::set_max_level(log::LevelFilter::Info);
///
/// let client = Client::threads(2);
/// let parsed = client.submit(&delayed(|line: i64| log::warn!("skipped line {line}")).name("parse").call(17))?;
/// parsed.result()?;
/// let line = &client.logs_of(&parsed)?[0];
/// assert_eq!((line.level, &*line.text, line.name()), (Some(log::Level::Warn), "skipped line 17", Some("parse")));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct TaskLog<L>(pub L);

impl<L: Log> Log for TaskLog<L> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.0.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if self.0.enabled(record.metadata()) {
            context::log(record);
            footer::above(|| self.0.log(record));
        }
    }

    fn flush(&self) {
        self.0.flush();
    }
}
