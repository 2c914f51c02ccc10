//! What workers print: passed on, and the last of it kept.

use super::{Core, WorkerProcess};
use crate::ids::WorkerId;
use crate::status::OutputStream;
use std::io::Write;

impl Core {
    /// The keys of the tasks that a worker runs.
    fn running(&self, process: &WorkerProcess) -> Vec<String> {
        process.page.running().into_iter().map(|id| self.key(process, id)).collect()
    }

    /// Words of a worker that it has not read itself.
    pub(in crate::supervisor) fn print_of_running(&mut self, worker: WorkerId, stderr: bool, bytes: &[u8]) {
        let tasks = self.workers.get(&worker).map(|process| self.running(process)).unwrap_or_default();
        self.print(worker, stderr, bytes, &tasks);
    }

    /// The words of a worker that has ended, which it had read and not told of.
    pub(in crate::supervisor) fn print_last_words(&mut self, worker: WorkerId) {
        let Some(process) = self.workers.get(&worker) else { return };
        if let Some(piece) = process.page.carried().left().filter(|piece| piece.number > process.told) {
            let tasks = self.running(process);
            self.print(worker, piece.stderr, &piece.bytes, &tasks);
        }
    }

    /// Passes on what a worker has written, and keeps the last of it.
    pub(super) fn print(&mut self, worker: WorkerId, stderr: bool, bytes: &[u8], tasks: &[String]) {
        if self.settings.forward_output {
            // What tasks print is theirs to print. A stream of ours that is closed is no reason to stop.
            let _ = if stderr {
                std::io::stderr().write_all(bytes)
            } else {
                let mut out = std::io::stdout();
                out.write_all(bytes).and_then(|()| out.flush())
            };
        }
        if let Some(process) = self.workers.get_mut(&worker) {
            process.said += bytes.iter().filter(|b| **b == b'\n').count();
            process.speaking = !bytes.ends_with(b"\n");
            let stream = if stderr { OutputStream::Stderr } else { OutputStream::Stdout };
            self.recent_lines[process.slot].push(stream, tasks, bytes);
        }
    }
}
