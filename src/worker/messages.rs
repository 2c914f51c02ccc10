//! Messages from the supervisor, and small ones to it.

use super::capture::OutputCapture;
use super::descriptors::Closed;
use super::{Worker, clean_up_after, encode, hook_at};
use crate::error::Cause;
use crate::ids::TaskId;
use crate::ipc::batch::MOST_BYTES;
use crate::ipc::captured::OutputChunk;
use crate::ipc::clock::monotonic_ms;
use crate::ipc::process_tree::kill_descendants;
use crate::ipc::start::exit_now;
use crate::job::{CallName, FailedCall, Failure};
use crate::memory::process::descendants;
use crate::message::{Beside, FromWorker, RanBeside, ToWorker};
use crate::profile::ProfileCommand;
use crate::task::call::{call, run_hook};
use crate::task::codec;
use crate::task::encode::{EncodeError, encode as encode_value};
use crate::task::function::{Record, short_name};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// No page is to be believed that asks for a longer pause of a worker's output, in milliseconds.
const MOST_PAUSE: u64 = 1000;

impl Worker {
    pub(super) fn handle(&'static self, messages: Result<Vec<ToWorker>, String>) {
        let messages = match messages {
            Ok(messages) => messages,
            Err(reason) => self.misunderstand(&reason),
        };
        for message in messages {
            match message {
                ToWorker::Run(tasks) => match tasks.unpack() {
                    Ok(tasks) => self.accept(tasks),
                    Err(e) => self.misunderstand(&e.to_string()),
                },
                ToWorker::Cancel(tasks) => self.cancel(&tasks),
                ToWorker::Retract(tasks) => self.retract(tasks),
                ToWorker::Fetch(tasks) => {
                    // The watcher sends heartbeats, however long this takes.
                    self.exporting.fetch_add(1, Ordering::Relaxed);
                    self.wake_watcher();
                    tasks.into_iter().for_each(|id| self.export(id, Instant::now()));
                    self.exporting.fetch_sub(1, Ordering::Relaxed);
                }
                ToWorker::Drop(tasks) => {
                    self.store.forget(&tasks);
                    // The watcher updates the memory figures of the control page, also when nothing runs.
                    self.wake_watcher();
                }
                ToWorker::Share(values) => self.store.share(values),
                ToWorker::Return(segments) => {
                    segments.into_iter().for_each(|(id, deliveries)| self.pool.returned(id, deliveries));
                    self.send_ended_files();
                    self.wake_watcher();
                }
                ToWorker::Abandon(segments) => self.pool.abandon(&segments),
                ToWorker::FilesEnded(files) => self.attachments().end_files(&files),
                ToWorker::RunBeside { serial, what } => self.run_beside(serial, what),
                ToWorker::Session(word) => {
                    if let Some(client) = self.client.get() {
                        client.receive(word);
                    }
                }
                ToWorker::Welcome(_) => log::error!("a second welcome"),
                ToWorker::Shutdown => self.leave(),
            }
        }
        if self.supervisor.is_closed() {
            self.end();
        }
    }

    /// Does something on a thread of its own, and tells what became of it.
    fn run_beside(&'static self, serial: u64, what: Beside) {
        let tell = move |result| self.supervisor.send(&FromWorker::RanBeside { serial, result });
        let run = move || {
            let result = match what {
                Beside::Function(function) => Self::result_beside(function),
                Beside::Profile(command) => self.profile(command),
            };
            OutputCapture::flush();
            tell(result);
        };
        if let Err(e) = std::thread::Builder::new().name("beside-tasks".to_string()).spawn(run) {
            tell(Err(Cause::Resource { reason: format!("no thread to be had: {e}") }));
        }
    }

    /// Samples this process's threads, or no more, and tells what has been sampled.
    fn profile(&self, command: ProfileCommand) -> RanBeside {
        // Several sessions may have said so, and the supervisor says so again to whoever has come to work meanwhile.
        let mut on = self.sampling.lock();
        let is_news = match command {
            ProfileCommand::Start => !std::mem::replace(&mut *on, true),
            ProfileCommand::Stop => std::mem::replace(&mut *on, false),
            ProfileCommand::Read => true,
        };
        let profile = self.sampled.answer(if is_news { command } else { ProfileCommand::Read });
        if command == ProfileCommand::Start && profile.off.is_some() {
            *on = false;
        }
        drop(on);
        let mut bytes = Vec::new();
        match codec::encode(&profile, &mut bytes, MOST_BYTES) {
            Ok(()) => Ok(bytes.into()),
            Err(_) => Err(Cause::Resource { reason: format!("a profile takes more than {MOST_BYTES} B") }),
        }
    }

    fn result_beside(function: u64) -> RanBeside {
        let record = hook_at(function).map_err(|reason| Cause::Infeasible { reason })?;
        let value = call(record, &mut []).map_err(encode::cause)?;
        let codec = record.result();
        let refused = |reason| Cause::Encode { type_name: codec.name().to_string(), reason };
        let payload = encode_value(None, &value, codec).map_err(|e| match e {
            EncodeError::Refused(reason) => refused(reason),
            EncodeError::NoRoom(e) => Cause::Resource { reason: e.to_string() },
        })?;
        match payload.content() {
            large if large.len() > MOST_BYTES => {
                Err(refused(format!("it takes {} B; {MOST_BYTES} B are the most", large.len())))
            }
            bytes => Ok(bytes.into()),
        }
    }

    fn misunderstand(&self, reason: &str) -> ! {
        self.supervisor.give_up(&format!("the supervisor cannot be understood: {reason}"))
    }

    /// The supervisor has ended.
    pub(super) fn end(&self) -> ! {
        kill_descendants(|| descendants(std::process::id()));
        clean_up_after(&self.welcome.supervisor_page);
        exit_now(0)
    }

    /// Ends this process in order: with what the program has it do last, and with what its tasks have started.
    fn leave(&self) -> ! {
        if let Some(exit) = self.welcome.hooks.exit {
            let run = || {
                if let Err(why) = hook_at(exit).and_then(run_hook) {
                    log::error!("`worker_exit` {why}");
                }
            };
            // This thread is one that runs tasks; what is done last is none.
            let apart = std::thread::scope(|scope| {
                std::thread::Builder::new().spawn_scoped(scope, run).map(|thread| thread.join().is_ok())
            });
            if let Err(e) = apart {
                log::error!("`worker_exit` has no thread to run on: {e}");
            }
            OutputCapture::flush();
        }
        kill_descendants(|| descendants(std::process::id()));
        exit_now(0)
    }

    pub(super) fn send_finished(&self) {
        self.send_moves();
        // Sent under the lock, so that the order of messages is the order of ends.
        let mut finished = self.finished.lock();
        if finished.is_empty() {
            return;
        }
        for done in encode::batches(finished.drain(..)) {
            self.supervisor.send(&FromWorker::Done(done));
        }
    }

    /// Tells what has been moved between memory and disk.
    pub(super) fn send_moves(&self) {
        let moves = self.store.take_moves();
        if !moves.is_empty() {
            self.supervisor.send(&FromWorker::Moved(moves));
        }
    }

    /// If no task runs, leaves it to the supervisor to read what is still printed.
    pub(super) fn stop_listening(&self) {
        let queue = self.queue.lock();
        if queue.running.is_empty() && queue.tasks.is_empty() {
            self.page.set_listening(false);
        }
    }

    /// Sends what the task that ran on this thread has printed. Waits for a moment where that comes faster than it is taken.
    pub(super) fn send_own_output(&self) {
        let pause = self.page.output_pause(monotonic_ms).min(MOST_PAUSE);
        if pause > 0 {
            std::thread::sleep(Duration::from_millis(pause));
        }
        OutputCapture::flush();
        self.send_printed();
    }

    pub(super) fn send_printed(&self) {
        let closed = self.capture.read(
            self.page.ring(),
            self.page.captured(),
            |OutputChunk { number, stderr, bytes }, tasks| {
                self.supervisor.send(&FromWorker::Printed { number, stderr, bytes: bytes.into(), tasks });
            },
        );
        // Told without the lock on the pipes: whoever logs may have to wait until somebody empties them.
        match closed {
            Closed::Nothing => {}
            Closed::OpenAgain => {
                log::warn!(
                    "a task that ran here has closed standard input, output or error; they have been opened again"
                );
            }
            Closed::ForGood => self.supervisor.end_robbed(),
        }
    }

    /// Tells a supervisor of another program the name of a function, before the function runs for the first time.
    pub(super) fn introduce(&self, record: &'static Record) {
        let log_id = record.log_id();
        if self.welcome.other_program && self.introduced.lock().insert(log_id) {
            self.supervisor.send(&FromWorker::Function { log_id, name: short_name(record.path()) });
        }
    }

    pub(super) fn send_released(&self) {
        let released = self.attachments().take_released();
        if !released.is_empty() {
            self.supervisor.send(&FromWorker::Released(released));
        }
    }

    /// Tells which memory files of this worker others need not keep mapped.
    pub(super) fn send_ended_files(&self) {
        let files = self.pool.take_ended();
        if !files.is_empty() {
            self.supervisor.send(&FromWorker::FilesEnded(files));
        }
    }

    pub(super) fn failure(
        &self,
        task: TaskId,
        step: u32,
        name: Option<String>,
        key: Option<u64>,
        cause: Cause,
    ) -> Failure {
        let call = name.zip(key).map(|(name, key)| FailedCall { name: CallName::Given(name), key });
        Failure { task, step, call, worker: Some(self.welcome.name.clone()), cause }
    }
}
