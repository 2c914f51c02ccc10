//! Runs of tasks as those know them that a run may leave something with: locks that it has and has not let go of.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// One run of a task, which has asked for something that ends with it.
#[derive(Debug)]
pub(crate) struct Run {
    /// No other run of this process has it.
    number: u64,
    held: AtomicUsize,
}

/// Something of a run that is to end with it.
#[derive(Debug)]
pub(crate) struct Held(Arc<Run>);

impl Held {
    pub(crate) fn run(&self) -> u64 {
        self.0.number
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.held.fetch_sub(1, Ordering::AcqRel);
    }
}

#[derive(Default)]
enum Running {
    #[default]
    Nothing,
    /// A run that has asked for nothing.
    Plain,
    Known(Arc<Run>),
}

thread_local! {
    static RUNNING: Cell<Running> = const { Cell::new(Running::Nothing) };
}

/// Runs a task. `ended` is told the number of the run, if something of it is left.
#[inline]
pub(crate) fn run<R>(task: impl FnOnce() -> R, ended: impl FnOnce(u64)) -> R {
    struct Before(Running);
    impl Drop for Before {
        fn drop(&mut self) {
            RUNNING.set(std::mem::take(&mut self.0));
        }
    }
    let before = Before(RUNNING.replace(Running::Plain));
    let result = task();
    let ran = RUNNING.take();
    drop(before);
    tell_end(ran, ended);
    result
}

/// Another call of a fused task begins: that is a run of its own. `ended` is told of the one before, as in [`run`].
#[inline]
pub(crate) fn next(ended: impl FnOnce(u64)) {
    tell_end(RUNNING.replace(Running::Plain), ended);
}

fn tell_end(ran: Running, ended: impl FnOnce(u64)) {
    if let Running::Known(run) = ran
        && run.held.load(Ordering::Acquire) > 0
    {
        ended(run.number);
    }
}

/// The run that the caller is in gets something more that is to end with it. None outside of one.
pub(crate) fn hold() -> Option<Held> {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let run = match RUNNING.try_with(Cell::take).unwrap_or_default() {
        Running::Nothing => return None,
        Running::Plain => Arc::new(Run { number: NEXT.fetch_add(1, Ordering::Relaxed), held: AtomicUsize::new(0) }),
        Running::Known(run) => run,
    };
    RUNNING.set(Running::Known(Arc::clone(&run)));
    run.held.fetch_add(1, Ordering::AcqRel);
    Some(Held(run))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[test]
    fn each_call_of_a_fused_task_is_a_run() {
        let told = RefCell::new(Vec::new());
        let tell = |n| told.borrow_mut().push(n);
        let calls = || {
            let first = hold();
            next(tell);
            let second = hold();
            assert_eq!(*told.borrow(), [first.as_ref().map(Held::run).unwrap_or_default()]);
            assert_ne!(first.as_ref().map(Held::run), second.as_ref().map(Held::run));
            next(tell);
            next(tell);
            (first, second)
        };
        let (_, second) = run(calls, tell);
        assert_eq!(told.borrow().len(), 2);
        assert_eq!(told.borrow().last().copied(), second.as_ref().map(Held::run));
    }

    #[test]
    fn a_run_tells_what_it_leaves() {
        let told = RefCell::new(Vec::new());
        let tell = |n| told.borrow_mut().push(n);
        run(|| (), tell);
        run(|| drop(hold()), tell);
        assert!(told.borrow().is_empty() && hold().is_none());
        let number = |held: &Option<Held>| held.as_ref().map(Held::run);
        let outer = run(
            || {
                let outer = hold();
                let inner = run(hold, tell);
                assert_eq!(number(&inner), told.borrow().last().copied());
                assert_ne!(number(&inner), number(&outer));
                assert_eq!(number(&hold()), number(&outer));
                outer
            },
            tell,
        );
        assert_eq!((told.borrow().len(), number(&outer)), (2, told.borrow().last().copied()));
    }
}
