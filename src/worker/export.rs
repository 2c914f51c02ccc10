//! Sends results that are held here to whoever asks for them.

use super::encode::Unsent;
use super::watcher::TICK;
use super::{Worker, encode};
use crate::ids::TaskId;
use crate::job::FailureCause;
use crate::message::FromWorker;
use crate::task::Value;
use crate::task::call::discard;
use crate::task::function::{Record, short_name};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

/// How long to wait for room in shared memory before it is an error.
const PATIENCE: Duration = Duration::from_secs(5);

impl Worker {
    /// Sends a value that is held. One that must be read from disk is left to a thread of its own: whoever reads messages
    /// does not wait for the disk.
    pub(super) fn export(&'static self, id: TaskId, since: Instant) {
        let exporter = self.store.is_on_disk_only(id).then(|| self.exporter()).flatten();
        if exporter.is_none_or(|exporter| exporter.send((id, since)).is_err()) {
            self.export_now(id, since);
        }
    }

    fn exporter(&'static self) -> Option<&'static Sender<(TaskId, Instant)>> {
        let exporter = self.exporter.get_or_init(|| {
            let (ask, asked) = channel();
            let work = move || asked.into_iter().for_each(|(id, since)| self.export_now(id, since));
            std::thread::Builder::new().name("exporter".to_string()).spawn(work).ok().map(|_| ask)
        });
        exporter.as_ref()
    }

    /// Sends a value that is held; where there is no room for it, a little later.
    fn export_now(&self, id: TaskId, since: Instant) {
        let lost = |reason| Err(Box::new(self.failure(id, 0, None, None, FailureCause::Resource { reason })));
        let result = match self.store.get(id) {
            Ok(Some((value, record))) => {
                let encoded = encode::encode(&self.pool, &value, record);
                // It may have been forgotten meanwhile, and this be its end.
                discard(value);
                match encoded {
                    Err(Unsent::Crowded(_)) if since.elapsed() < PATIENCE => {
                        self.deferred.lock().push((id, since));
                        return self.wake_watcher();
                    }
                    encoded => encoded
                        .map_err(|e| Box::new(self.failure(id, 0, Some(short_name(record.path())), None, e.into()))),
                }
            }
            Ok(None) => lost("its worker does not hold it any more".to_string()),
            Err(reason) => lost(reason),
        };
        if let Ok(payload) = &result {
            self.lend(payload);
        }
        self.link.send(&FromWorker::Exported(id, result));
    }

    /// Tries again to send what there was no room for.
    pub(super) fn export_deferred(&'static self) {
        let deferred = std::mem::take(&mut *self.deferred.lock());
        if deferred.is_empty() {
            return;
        }
        deferred.into_iter().for_each(|(id, since)| self.export(id, since));
        // Once for all of them. The supervisor may have copies that nobody needs.
        if !self.deferred.lock().is_empty() && !self.store.ask_for_room() {
            self.link.send(&FromWorker::Crowded);
        }
    }

    /// Encodes a value for others. Where that finds no room, results are moved to disk until there is, the supervisor is
    /// told that copies which can be had again had better go, and room is waited for as long as that makes sense.
    pub(super) fn encode_patiently(
        &self,
        value: &Value,
        record: &'static Record,
    ) -> Result<crate::ipc::payload::Payload, Unsent> {
        let since = Instant::now();
        loop {
            match encode::encode(&self.pool, value, record) {
                Err(Unsent::Crowded(_)) if self.store.move_one() => {}
                Err(Unsent::Crowded(_)) if since.elapsed() < PATIENCE => {
                    self.link.send(&FromWorker::Crowded);
                    std::thread::sleep(TICK);
                }
                encoded => return encoded,
            }
        }
    }

    /// Counts one delivery of each segment of ours in the payload.
    pub(super) fn lend(&self, payload: &crate::ipc::payload::Payload) {
        for segment in payload.segments().iter().filter(|s| s.is_own()) {
            self.pool.lend(segment);
        }
    }
}
