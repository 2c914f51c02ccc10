//! What the graphs of a part of a program are called.

use std::cell::RefCell;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

thread_local! {
    /// Those of this thread, the innermost last.
    static LABELS: RefCell<Vec<(u64, Arc<str>)>> = const { RefCell::new(Vec::new()) };
}

/// Longer ones are cut off, in bytes.
const LONGEST: usize = 256;

/// Labels what this thread submits, as long as it lives: see [`label`].
#[must_use = "the label ends with it"]
pub struct Label {
    number: u64,
    /// It belongs to the thread that has made it.
    _thread: PhantomData<*const ()>,
}

/// Labels the graphs that this thread submits until the answer is dropped. Of labels within each other the innermost counts.
///
/// The label is in the event of the graph ([`EventKind::GraphSubmitted`](super::EventKind)), in its groups, and in saved logs;
/// [`diagnose`](super::EventLog::diagnose) can be about one label ([`Extent`](super::diagnosis::Extent)). It is Dask's span.
/// Of a label of more than 256 bytes the beginning counts.
///
/// ```
/// use swath::events::EventKind;
/// use swath::{Client, delayed};
/// let client = Client::sync();
/// {
///     let _load = swath::events::label("load");
///     client.compute(&delayed(|x: i64| x + 1).call(1))?;
/// }
/// client.compute(&delayed(|x: i64| x + 1).call(2))?;
/// let log = client.events()?;
/// let labels = log.events().iter().filter_map(|event| match &event.kind {
///     EventKind::GraphSubmitted { label, .. } => Some(label.as_deref()),
///     _ => None,
/// });
/// assert_eq!(labels.collect::<Vec<_>>(), [Some("load"), None]);
/// # Ok::<(), swath::Error>(())
/// ```
pub fn label(label: impl AsRef<str>) -> Label {
    let label = label.as_ref();
    let label: Arc<str> = label[..label.floor_char_boundary(LONGEST)].into();
    LABELS.with_borrow_mut(|labels| {
        let number = labels.last().map_or(0, |(last, _)| last + 1);
        labels.push((number, label));
        Label { number, _thread: PhantomData }
    })
}

/// The label of what this thread submits now.
pub(crate) fn current() -> Option<Arc<str>> {
    LABELS.with_borrow(|labels| labels.last().map(|(_, label)| Arc::clone(label)))
}

impl Drop for Label {
    fn drop(&mut self) {
        // They may be dropped in another order; at the end of the thread there are none.
        let _ = LABELS.try_with(|labels| labels.borrow_mut().retain(|(number, _)| *number != self.number));
    }
}

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Label(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_counts_in_whatever_order_they_end() {
        assert_eq!(current(), None);
        let outer = label("outer");
        let inner = label(format!("{}ö", "x".repeat(LONGEST - 1)));
        assert_eq!(current().map(|label| label.len()), Some(LONGEST - 1));
        drop(outer);
        let last = label("last");
        assert_eq!(current().as_deref(), Some("last"));
        drop(inner);
        assert_eq!(current().as_deref(), Some("last"));
        std::thread::spawn(|| assert_eq!(current(), None)).join().expect("ends");
        drop(last);
        assert_eq!(current(), None);
    }
}
