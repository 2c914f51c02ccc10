//! Progress bars: a thread that looks ten times a second while something runs, and draws.

use super::lines::{Baseline, Look, View};
use super::screen::{Screen, print};
use super::{OFTEN, ProgressOf, Seen, Source};
use crate::client::{Builder, Client};
use crate::error::{Error, Result};
use crate::host::footer;
use crate::host::report;
use crate::status::Progress;
use indicatif::ProgressBar;
use parking_lot::{Condvar, Mutex};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What is done sooner has no bar.
const PATIENCE: Duration = Duration::from_millis(300);
/// How often a line is written where no bars are.
const PLAIN: Duration = Duration::from_secs(10);
/// While nothing runs it is looked that seldom for what nobody has submitted: a result that is made again, since its worker
/// died.
const SELDOM: Duration = Duration::from_secs(1);
/// Whoever has waited for a result waits no longer for a terminal.
const SETTLED: Duration = Duration::from_millis(200);
/// So often it looks whether a graph is done that has given a result.
const TRIES: u32 = 3;
/// Whoever drops bars waits no longer for it.
const STUCK: Duration = Duration::from_secs(1);

/// The environment variable that has a say in bars.
const VARIABLE: &str = "SWATH_PROGRESS";

/// What `SWATH_PROGRESS` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::client) enum Wish {
    /// `0`: no bars, whoever asks for them.
    None,
    /// `1`: bars for every client that is built.
    Bars,
    /// `plain`: a line every ten seconds, wherever standard error goes.
    Plain,
}

impl Wish {
    /// That of the environment.
    ///
    /// # Errors
    /// [`Error::Invalid`] for another value.
    pub(in crate::client) fn from_env() -> Result<Option<Self>> {
        let value = std::env::var_os(VARIABLE).unwrap_or_default();
        match value.to_str().map(str::trim) {
            Some("") => Ok(None),
            Some("0") => Ok(Some(Self::None)),
            Some("1") => Ok(Some(Self::Bars)),
            Some("plain") => Ok(Some(Self::Plain)),
            _ => Err(Error::invalid(VARIABLE, format!("{value:?}; it is `1`, `plain` or `0`"))),
        }
    }
}

/// Whether the terminal's locale has more characters than ASCII.
fn is_utf8() -> bool {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let locale = set("LC_ALL").or_else(|| set("LC_CTYPE")).or_else(|| set("LANG")).unwrap_or_default();
    let locale = locale.to_string_lossy().to_ascii_lowercase();
    locale.contains("utf-8") || locale.contains("utf8")
}

/// Draws progress bars on standard error until it is dropped: one line for each name, and one for all. See
/// [`Client::progress_bars`].
#[must_use = "the bars go when it is dropped"]
pub struct ProgressBars(Option<Arc<Bars>>);

/// Bars, as their handle and their thread share them.
pub(super) struct Bars {
    source: Source,
    plain: bool,
    stops: AtomicBool,
    /// Something is on the terminal that goes when all is done.
    shown: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
}

/// What others have asked for.
#[derive(Default)]
struct State {
    asked: u64,
    /// Up to this it has been done.
    answered: u64,
    ended: bool,
}

impl ProgressBars {
    fn new(source: Source) -> Self {
        let wish = match Wish::from_env() {
            Ok(wish) => wish,
            Err(e) => {
                report!(Warn, "{e}");
                None
            }
        };
        let plain = wish == Some(Wish::Plain);
        let screen = Screen::here();
        if wish == Some(Wish::None) || !(plain || Screen::is_terminal()) {
            return Self(None);
        }
        let Some(Seen { progress, .. }) = source.look() else { return Self(None) };
        let (stops, shown) = (AtomicBool::new(false), AtomicBool::new(false));
        let (state, changed) = (Mutex::default(), Condvar::new());
        let bars = Arc::new(Bars { source, plain, stops, shown, state, changed });
        let drawer = Drawer::new(Arc::clone(&bars), Arc::clone(&screen), &progress);
        bars.source.looks.bell.listeners.fetch_add(1, Ordering::SeqCst);
        screen.enter(&bars);
        let spawned =
            std::thread::Builder::new().name("swath-progress".to_string()).spawn(move || drawer.run(progress));
        if let Err(e) = spawned {
            report!(Warn, "no progress bars: there can be no thread: {e}");
            bars.source.looks.bell.listeners.fetch_sub(1, Ordering::SeqCst);
            screen.leave(&bars);
            return Self(None);
        }
        Self(Some(bars))
    }

    /// Runs something while no bars are on the terminal: what prints to it, by other means than a result, a record of
    /// `log` ([`AboveBars`]) or the output of tasks. Bars of other clients go, too.
    ///
    /// ```
    /// use swath::Client;
    /// let client = Client::threads(2);
    /// let bars = client.progress_bars();
    /// for square in client.as_completed(client.map(|x: u64| x * x, 0..3_u64)?) {
    ///     bars.suspend(|| println!("{square:?}"));
    /// }
    /// # Ok::<(), swath::Error>(())
    /// ```
    pub fn suspend<R>(&self, write: impl FnOnce() -> R) -> R {
        footer::above(write)
    }
}

impl Drop for ProgressBars {
    fn drop(&mut self) {
        let Some(bars) = self.0.as_ref().filter(|bars| !bars.source.looks.bell.origin.is_elsewhere()) else { return };
        bars.stops.store(true, Ordering::SeqCst);
        bars.source.looks.bell.ring();
        let until = Instant::now() + STUCK;
        let mut state = bars.state.lock();
        while !state.ended && !bars.changed.wait_until(&mut state, until).timed_out() {}
    }
}

impl fmt::Debug for ProgressBars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.0.is_some() { "shown" } else { "hidden" };
        write!(f, "ProgressBars({what})")
    }
}

impl Bars {
    /// Has what is on the terminal go, if all is done: whoever has waited for that may print next.
    pub(super) fn settle(&self) {
        // The last result may be there a moment before its graph counts as done.
        let quiet = || (0..TRIES).any(|_| self.source.is_quiet() || (std::thread::yield_now(), false).1);
        if !self.shown.load(Ordering::SeqCst) || !quiet() {
            return;
        }
        let until = Instant::now() + SETTLED;
        let mut state = self.state.lock();
        state.asked += 1;
        let mine = state.asked;
        parking_lot::MutexGuard::unlocked(&mut state, || self.source.looks.bell.ring());
        while state.answered < mine && !state.ended && !self.changed.wait_until(&mut state, until).timed_out() {}
    }
}

/// What the thread has.
struct Drawer {
    bars: Arc<Bars>,
    screen: Arc<Screen>,
    unicode: bool,
    /// What had ended when the present work began.
    before: Baseline,
    /// Since when there has been something to do.
    since: Option<Instant>,
    bar: Option<ProgressBar>,
    /// When a line was last written.
    written: Option<Instant>,
}

impl Drawer {
    fn new(bars: Arc<Bars>, screen: Arc<Screen>, progress: &Progress) -> Self {
        let before = match &bars.source.part {
            // What is asked for by name is shown from its beginning.
            Some(_) => Baseline::default(),
            None => Baseline::of(progress),
        };
        Self { bars, screen, unicode: is_utf8(), before, since: None, bar: None, written: None }
    }

    fn run(mut self, first: Progress) {
        let bars = Arc::clone(&self.bars);
        let (mut heard, mut last_heard) = (0, Instant::now());
        let mut last = first;
        self.show(&last);
        loop {
            let asked = bars.state.lock().asked;
            let stops = bars.stops.load(Ordering::SeqCst);
            let seen = bars.source.look();
            let closed = seen.as_ref().is_none_or(|seen| seen.closed);
            if let Some(seen) = seen {
                last = seen.progress;
            }
            if stops || closed {
                self.end(&last);
            } else {
                self.show(&last);
            }
            let mut state = bars.state.lock();
            state.answered = asked;
            state.ended = stops || closed;
            let (ended, again) = (state.ended, state.asked > asked);
            drop(state);
            bars.changed.notify_all();
            if ended {
                break;
            }
            if !again {
                // What is announced is not counted yet.
                let busy = self.since.is_some() || last_heard.elapsed() < SELDOM;
                let pause = if busy { OFTEN } else { SELDOM };
                let rung = bars.source.looks.bell.wait(heard, Instant::now() + pause);
                if std::mem::replace(&mut heard, rung) != rung {
                    last_heard = Instant::now();
                }
            }
        }
    }

    /// Shows how far it is, or what has ended it.
    fn show(&mut self, progress: &Progress) {
        if progress.counts.unfinished() == 0 {
            return self.end(progress);
        }
        let since = *self.since.get_or_insert_with(Instant::now);
        let elapsed = since.elapsed();
        if elapsed < PATIENCE {
            return;
        }
        self.bars.shown.store(true, Ordering::SeqCst);
        let view = View::of(progress, &self.before, elapsed);
        if self.bars.plain {
            if self.written.unwrap_or(since).elapsed() >= PLAIN {
                self.written = Some(Instant::now());
                footer::above(|| print(&view.plain()));
            }
        } else {
            let look = Look { columns: Screen::columns(), unicode: self.unicode };
            self.screen.draw(&mut self.bar, &view.lines(look));
        }
    }

    /// All is done, or nobody looks any more.
    fn end(&mut self, progress: &Progress) {
        let since = self.since.take();
        if let Some(since) = since.filter(|_| self.bars.shown.load(Ordering::SeqCst)) {
            // It was seen to begin a moment after it did.
            let first = || self.bars.source.first_failed(since.elapsed() + PATIENCE, progress);
            let line = View::of(progress, &self.before, since.elapsed()).last_line(first);
            match self.bars.plain {
                true => footer::above(|| print(&line)),
                false => self.screen.end(self.bar.take(), &line),
            }
        }
        self.bars.shown.store(false, Ordering::SeqCst);
        self.written = None;
        if self.bars.source.part.is_none() {
            self.before = Baseline::of(progress);
        }
    }
}

impl Drop for Drawer {
    fn drop(&mut self) {
        self.bars.source.looks.bell.listeners.fetch_sub(1, Ordering::SeqCst);
        self.screen.leave(&self.bars);
        // Also where it has panicked.
        self.bars.state.lock().ended = true;
        self.bars.changed.notify_all();
    }
}

impl Client {
    /// Progress bars for all that runs, on standard error, until what this gives is dropped. They do not keep the client.
    ///
    /// There is a line for each name, the eight that took the most time by themselves, and one for all, from 300 ms after
    /// something begins until all is done; then one line says what came of it. Where standard error is no terminal, or a
    /// `dumb` one, there is nothing at all. What tasks print, and what swath logs, goes above the bars; so does what this program logs, if its
    /// logger is wrapped in [`AboveBars`]. When a call that waits for results returns, and nothing else is under way, the
    /// bars have gone.
    ///
    /// `SWATH_PROGRESS` in the environment has the last word: `0` for none; `plain` for a line every ten seconds, also where
    /// there is no terminal; `1` for bars of every client that is built.
    ///
    /// ```
    /// use swath::{Client, delayed};
    /// let client = Client::threads(2);
    /// let _bars = client.progress_bars();
    /// let squares = delayed(|x: u64| x * x).map(0..100_u64);
    /// assert_eq!(client.compute(&squares)?.len(), 100);
    /// # Ok::<(), swath::Error>(())
    /// ```
    pub fn progress_bars(&self) -> ProgressBars {
        ProgressBars::new(Source::of(self, None))
    }
}

impl Client {
    /// Has bars for as long as the client is open.
    pub(in crate::client) fn keep_bars(&self, wanted: bool) {
        if wanted {
            *self.0.bars.lock() = Some(self.progress_bars());
        }
    }
}

impl Builder {
    /// Whether the client has [progress bars](Client::progress_bars) for as long as it is open. Default: no, but where
    /// `SWATH_PROGRESS` in the environment is `1` or `plain`; where that is `0`, there are none in any case.
    ///
    /// ```
    /// use swath::status::Mode;
    /// use swath::{Client, delayed};
    /// let client = Client::builder().mode(Mode::Threads).progress(true).build()?;
    /// assert_eq!(client.compute(&delayed(|x: u64| x + 1).call(1))?, 2);
    /// # Ok::<(), swath::Error>(())
    /// ```
    pub fn progress(mut self, bars: bool) -> Self {
        self.progress = bars;
        self
    }

    pub(in crate::client) fn wants_bars(&self) -> Result<bool> {
        Ok(match Wish::from_env()? {
            Some(Wish::None) => false,
            Some(Wish::Bars | Wish::Plain) => true,
            None => self.progress,
        })
    }
}

impl ProgressOf {
    /// Progress bars for these results alone, until what this gives is dropped: see [`Client::progress_bars`].
    ///
    /// ```
    /// use swath::{Client, delayed};
    /// let client = Client::threads(2);
    /// let squares = client.persist(&delayed(|x: u64| x * x).map(0..100_u64))?;
    /// let _bars = client.progress_of(&squares).bar();
    /// assert_eq!(client.compute(&squares)?.len(), 100);
    /// # Ok::<(), swath::Error>(())
    /// ```
    pub fn bar(&self) -> ProgressBars {
        ProgressBars::new(self.source.clone())
    }
}

/// A logger whose records go above progress bars, and not through them. It logs as the one it wraps.
///
/// ```
/// use swath::client::AboveBars;
/// let logger = env_logger::Builder::from_default_env().build();
/// let level = logger.filter();
/// log::set_boxed_logger(Box::new(AboveBars(logger)))?;
/// log::set_max_level(level);
/// # Ok::<(), log::SetLoggerError>(())
/// ```
#[derive(Debug)]
pub struct AboveBars<L>(pub L);

impl<L: log::Log> log::Log for AboveBars<L> {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        self.0.enabled(metadata)
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.0.enabled(record.metadata()) {
            footer::above(|| self.0.log(record));
        }
    }

    fn flush(&self) {
        self.0.flush();
    }
}
