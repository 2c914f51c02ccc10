//! What a task has to say.

use super::context::current_backend;
use crate::error::{Error, Result};
use crate::events::checked_note;
use crate::task::context::{self, current_task};
use serde::Serialize;

/// Notes something in the log of events, from inside a task: for whoever [watches](crate::Client::watch_events) them, and for
/// saved logs. It is Dask's `log_event`.
///
/// ```
/// use swath::client::Happened;
/// use swath::events::{EventFilter, EventKind};
/// use swath::{Client, delayed};
/// let client = Client::threads(2);
/// let mut watch = client.watch_events(EventFilter::default().topic("loss"))?;
/// client.compute(&delayed(|x: f64| swath::client::note("loss", &(x / 2.0)).is_ok()).call(0.5))?;
/// let Some(Happened::Event(event)) = watch.next() else { panic!("an event was expected") };
/// assert!(matches!(event.kind, EventKind::Note { value, .. } if value == 0.25));
/// # Ok::<(), swath::Error>(())
/// ```
///
/// # Errors
/// As [`Client::note`](crate::Client::note), and [`Error::Invalid`] outside of any task.
pub fn note(topic: &str, value: &(impl Serialize + ?Sized)) -> Result<()> {
    let nobody = || Error::invalid("note", "this is no task: elsewhere it is `Client::note`");
    let (task, backend) = current_task().zip(current_backend()).ok_or_else(nobody)?;
    backend.note(context::id(), checked_note(Some(task.key), topic, value)?);
    Ok(())
}
