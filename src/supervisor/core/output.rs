//! What workers print: passed on, and the last of it kept.

use super::{Core, Life};
use crate::ids::WorkerId;
use crate::status::OutputStream;
use std::io::Write;

impl Core {
    /// The keys of the tasks that a worker runs.
    fn running(&self, life: &Life) -> Vec<String> {
        life.page.running().into_iter().map(|id| self.key(life, id)).collect()
    }

    /// Words of a worker that it has not read itself.
    pub(in crate::supervisor) fn print_of_running(&mut self, worker: WorkerId, stderr: bool, bytes: &[u8]) {
        let tasks = self.lives.get(&worker).map(|life| self.running(life)).unwrap_or_default();
        self.print(worker, stderr, bytes, &tasks);
    }

    /// The words of a worker that has ended, which it had read and not told of.
    pub(in crate::supervisor) fn print_last_words(&mut self, worker: WorkerId) {
        let Some(life) = self.lives.get(&worker) else { return };
        if let Some(piece) = life.page.carried().left().filter(|piece| piece.number > life.told) {
            let tasks = self.running(life);
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
        if let Some(life) = self.lives.get_mut(&worker) {
            life.said += bytes.iter().filter(|b| **b == b'\n').count();
            life.speaking = !bytes.ends_with(b"\n");
            let stream = if stderr { OutputStream::Stderr } else { OutputStream::Stdout };
            self.tails[life.place].push(stream, tasks, bytes);
        }
    }
}
