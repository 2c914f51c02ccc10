//! The bottom of the terminal, which all bars of the process share.

use super::bars::Bars;
use crate::host::footer::{self, Footer};
use console::Term;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use parking_lot::Mutex;
use std::io::{self, Write};
use std::sync::{Arc, OnceLock, Weak};

/// Where bars are drawn, on standard error.
pub(super) struct Screen {
    bars: MultiProgress,
    /// Whoever draws, or writes above what is drawn, has it.
    drawing: Mutex<()>,
    /// Those that may have something on the terminal.
    there: Mutex<Vec<Weak<Bars>>>,
}

impl Screen {
    /// That of this process.
    pub(super) fn here() -> Arc<Self> {
        static HERE: OnceLock<Arc<Screen>> = OnceLock::new();
        Arc::clone(HERE.get_or_init(|| {
            // Not `ProgressDrawTarget::stderr`: whether anything is drawn is decided anew for all bars.
            let terminal = Box::new(Term::buffered_stderr());
            let bars = MultiProgress::with_draw_target(ProgressDrawTarget::term_like(terminal));
            Arc::new(Self { bars, drawing: Mutex::new(()), there: Mutex::default() })
        }))
    }

    /// Whether there is a terminal that can be drawn on.
    pub(super) fn is_terminal() -> bool {
        Term::stderr().is_term() && std::env::var_os("TERM").is_none_or(|name| name != "dumb")
    }

    /// How many columns it has now.
    pub(super) fn columns() -> usize {
        Term::stderr().size_checked().map_or(80, |(_, columns)| usize::from(columns).max(1))
    }

    /// Bars are there until this is left.
    pub(super) fn enter(self: &Arc<Self>, bars: &Arc<Bars>) {
        let mut there = self.there.lock();
        there.retain(|bars| bars.strong_count() > 0);
        there.push(Arc::downgrade(bars));
        drop(there);
        let footer: Arc<dyn Footer> = Arc::clone(self) as _;
        footer::begin(&footer);
    }

    pub(super) fn leave(&self, bars: &Bars) {
        self.there.lock().retain(|other| other.as_ptr() != std::ptr::from_ref(bars));
        footer::end();
    }

    /// Draws lines in the place of those that `bar` had.
    pub(super) fn draw(&self, bar: &mut Option<ProgressBar>, lines: &[String]) {
        let _drawing = self.drawing.lock();
        let bar = bar.get_or_insert_with(|| {
            let bar = self.bars.add(ProgressBar::new_spinner());
            // The template is right: a test draws it.
            bar.set_style(ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_spinner()));
            bar
        });
        bar.set_message(lines.join("\n"));
    }

    /// Removes the lines of `bar`, and leaves one in their place.
    pub(super) fn end(&self, bar: Option<ProgressBar>, line: &str) {
        let _drawing = self.drawing.lock();
        if let Some(bar) = bar {
            bar.finish_and_clear();
            self.bars.remove(&bar);
        }
        self.bars.suspend(|| print(line));
    }
}

/// A stream that is closed is no reason to stop.
pub(super) fn print(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

impl Footer for Screen {
    fn above(&self, write: &mut dyn FnMut()) {
        let _drawing = self.drawing.lock();
        self.bars.suspend(write);
    }

    fn settle(&self) {
        let there: Vec<Arc<Bars>> = self.there.lock().iter().filter_map(Weak::upgrade).collect();
        there.iter().for_each(|bars| bars.settle());
    }
}
