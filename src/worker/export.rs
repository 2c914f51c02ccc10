//! Sends results that this worker holds to clients and other workers.

use super::encode::NotSent;
use super::{Worker, encode};
use crate::error::Cause;
use crate::ids::TaskId;
use crate::ipc::payload::Payload;
use crate::message::FromWorker;
use crate::task::function::short_name;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

/// Bytes that take long to encode.
const LONG: u64 = 1 << 20;
/// How long to wait for room in shared memory before it is an error.
const PATIENCE: Duration = Duration::from_secs(5);

impl Worker {
    /// Sends a held value. One that must be read from disk, or takes long to encode, is left to the exporter thread, so that
    /// a thread that reads messages does not wait for that: the next ones may bring tasks.
    pub(super) fn export(&'static self, id: TaskId, since: Instant) {
        self.export_by(id, since, self.store.is_on_disk_only(id) || self.takes_long(id));
    }

    fn export_by(&'static self, id: TaskId, since: Instant, exporter: bool) {
        if let Some(exporter) = exporter.then(|| self.exporter()).flatten() {
            self.exporting.fetch_add(1, Ordering::Relaxed);
            if exporter.send((id, since)).is_ok() {
                return;
            }
            self.exporting.fetch_sub(1, Ordering::Relaxed);
        }
        self.export_now(id, since);
    }

    /// Whether many bytes of a value are encoded: not those of shared buffers.
    fn takes_long(&self, id: TaskId) -> bool {
        if self.store.bytes_in_memory(id) < LONG {
            return false;
        }
        let _shown = self.page.begin_result(id);
        let Ok(Some((value, made))) = self.store.get(id) else { return false };
        let codec = made.codec;
        let size = encode::own_code(codec, || codec.measure(&value));
        drop(value);
        size.is_ok_and(|size| size.encoded >= LONG)
    }

    fn exporter(&'static self) -> Option<&'static Sender<(TaskId, Instant)>> {
        let exporter = self.exporter.get_or_init(|| {
            let (ask, asked) = channel();
            let work = move || {
                asked.into_iter().for_each(|(id, since)| {
                    self.export_now(id, since);
                    self.exporting.fetch_sub(1, Ordering::Relaxed);
                });
            };
            std::thread::Builder::new().name("exporter".to_string()).spawn(work).ok().map(|_| ask)
        });
        exporter.as_ref()
    }

    /// Sends a held value; if shared memory has no room for it, defers that.
    fn export_now(&self, id: TaskId, since: Instant) {
        let lost = |reason| Err(Box::new(self.failure(id, 0, None, None, Cause::Resource { reason })));
        // The value's own code runs: if it ends this process, it is to blame.
        let _shown = self.page.begin_result(id);
        let result = match self.store.get(id) {
            Ok(Some((value, made))) => {
                let encoded = encode::encode(&self.pool, &value, made.codec);
                // The store may have dropped it meanwhile, so this may be the last reference.
                drop(value);
                match encoded {
                    Err(NotSent::NoRoomNow(_)) if since.elapsed() < PATIENCE => {
                        self.deferred.lock().push((id, since));
                        return self.wake_watcher();
                    }
                    encoded => encoded
                        .map_err(|e| Box::new(self.failure(id, 0, Some(short_name(made.by.path())), None, e.into()))),
                }
            }
            Ok(None) => lost("its worker does not hold it any more".to_string()),
            Err(reason) => lost(reason),
        };
        if let Ok(payload) = &result {
            self.lend(payload);
        }
        self.supervisor.send(&FromWorker::Exported(id, result));
    }

    /// Tries again to send the deferred values.
    pub(super) fn export_deferred(&'static self) {
        let deferred = std::mem::take(&mut *self.deferred.lock());
        if deferred.is_empty() {
            return;
        }
        // Not by the exporter, where that can be: who has found no room by now is to be known below.
        deferred.into_iter().for_each(|(id, since)| self.export_by(id, since, self.store.is_on_disk_only(id)));
        // One message for all of them: the supervisor may have copies elsewhere dropped.
        if !self.deferred.lock().is_empty() && !self.store.ask_for_room() {
            self.supervisor.send(&FromWorker::NoRoomNow);
        }
    }

    /// Counts one delivery of each of this worker's segments in the payload.
    pub(super) fn lend(&self, payload: &Payload) {
        for segment in payload.segments().iter().filter(|s| s.is_own()) {
            self.pool.lend(segment);
        }
    }
}
